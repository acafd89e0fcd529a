"""Variables that begin as this project's own do, but that nothing reads: misspelt ones (SPEC 8)."""

import logging
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

logger = logging.getLogger(__name__)

PREFIX = "MAINTENANCE_"
ELSEWHERE = (
    *("MAINTENANCE_DATABASE_URL", "MAINTENANCE_IMAGE", "MAINTENANCE_SOCKET_PROXY"),
    *("MAINTENANCE_TIME_ZONE", "MAINTENANCE_WORK_POOL_TYPE"),
    *("MAINTENANCE_ENGINE_NETWORK", "MAINTENANCE_SECRETS"),
    *("MAINTENANCE_ENV_FILE", "MAINTENANCE_WATCH_CANCELLATION"),
)
"""Read by compose.yaml, by the deployments' settings, or before the settings are made."""


def variables_of(fields: Mapping[str, FieldInfo]) -> list[str]:
    """Return the names of the variables that a class of settings reads."""
    names: list[str] = []
    for field in fields.values():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        names += [str(one) for one in choices]
    return names


def unknown_variables(
    known: Iterable[str], environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return a text for each unknown variable, with the known one that is nearest to it.

    Args:
        known: the variables that are read, besides `ELSEWHERE`.
        environment: what is set. Values do not occur in the texts.
    """
    names = sorted({one for one in (*known, *ELSEWHERE) if one.startswith(PREFIX)})
    found = []
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name.upper() in names:
            continue
        near = get_close_matches(name.upper(), names, 1, cutoff=0.8)
        meant = f"; do you mean {near[0]}?" if near else ""
        found.append(f"{name} is not known and has no effect{meant}")
    return found


def warn_of_unknown_variables(known: Iterable[str]) -> None:
    """Log a warning for each unknown variable of this process's environment."""
    for text in unknown_variables(known):
        logger.warning("%s", text)
