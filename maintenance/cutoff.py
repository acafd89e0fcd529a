"""The fixed moment that a run works up to (SPEC 2.1)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from maintenance.errors import ParameterError


@dataclass(frozen=True)
class Cutoff:
    """The moment that decides what is selected, and when the run began; both by the database."""

    as_of: datetime
    started_at: datetime


def choose_cutoff(as_of: datetime | None, now: datetime, *, dry_run: bool) -> Cutoff:
    """Return the cutoff of a run that starts at the database's time `now`.

    A time without a zone is UTC, as all times here.

    Raises:
        ParameterError: `as_of` lies in the future and the run would act.
    """
    if as_of is None:
        return Cutoff(now, now)
    if as_of.tzinfo is None:
        as_of = as_of.replace(tzinfo=UTC)
    if as_of > now and not dry_run:
        message = (
            f"as_of={as_of.isoformat()} lies in the future (the database's clock says"
            f" {now.isoformat()}): allowed with dry_run only, as a forecast"
        )
        raise ParameterError(message)
    return Cutoff(as_of.astimezone(UTC), now)
