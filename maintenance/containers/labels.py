"""The labels that Validibot sets on validator containers."""

from uuid import UUID

MANAGED = "org.validibot.managed"
MANAGED_VALUE = "true"
STARTED_AT = "org.validibot.started_at"
TIMEOUT_SECONDS = "org.validibot.timeout_seconds"
RUN_ID = "org.validibot.run_id"
VALIDATOR = "org.validibot.validator"

MANAGED_FILTER = f"{MANAGED}={MANAGED_VALUE}"
"""The engine's filter for Validibot's containers."""


def as_uuid(text: str) -> UUID | None:
    """Return a run's identifier; None when the text is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        return None
