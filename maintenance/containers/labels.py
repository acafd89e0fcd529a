"""The labels that Validibot writes on the containers of its validators."""

from uuid import UUID

MANAGED = "org.validibot.managed"
MANAGED_VALUE = "true"
STARTED_AT = "org.validibot.started_at"
TIMEOUT_SECONDS = "org.validibot.timeout_seconds"
RUN_ID = "org.validibot.run_id"
VALIDATOR = "org.validibot.validator"

MANAGED_FILTER = f"{MANAGED}={MANAGED_VALUE}"
"""The engine's filter for containers that are Validibot's."""


def as_uuid(text: str) -> UUID | None:
    """Return a run's identifier, None for what is none."""
    try:
        return UUID(text)
    except ValueError:
        return None
