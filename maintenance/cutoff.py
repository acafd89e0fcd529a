"""The cutoff of a run: fixed at its start (SPEC 2.1)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from maintenance.errors import ParameterError


@dataclass(frozen=True)
class Cutoff:
    """`as_of` decides what is selected; `started_at` is the run's start. Both by the database."""

    as_of: datetime
    started_at: datetime


def choose_cutoff(as_of: datetime | None, now: datetime, *, dry_run: bool) -> Cutoff:
    """Return the cutoff of a run that starts at the database's time `now`.

    A time without a zone is taken as UTC.

    Raises:
        ParameterError: `as_of` is in the future and this is not a dry run.
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
