"""The situations a submission can be in, and the story of each."""

from dataclasses import dataclass
from enum import StrEnum

from demo.sample.drawing import DAY, HOUR, Draw
from demo.sample.spec import SampleSpec
from maintenance.schema.vocabulary import InputRetention

FINITE_DAYS = {
    InputRetention.STORE_1_DAY: 1,
    InputRetention.STORE_7_DAYS: 7,
    InputRetention.STORE_30_DAYS: 30,
}
FINITE_POLICIES = tuple(FINITE_DAYS)
UNKNOWN_POLICY = "STORE_14_DAYS"


class Case(StrEnum):
    """A submission's situation; the value is the summary's field that counts it."""

    EXPIRED = "expired"
    LIVE = "live"
    PERMANENT = "permanent"
    QUEUED = "do_not_store_queued"
    UNQUEUED = "do_not_store_unqueued"
    ACTIVE_OVERDUE = "active_overdue"
    ACTIVE_IN_TIME = "active_in_time"
    PURGED = "purged"
    MISSING_DUE = "missing_deadline_due"
    MISSING_LATER = "missing_deadline_later"
    WRONG = "wrong_deadline"
    UNKNOWN = "unknown_policy"


DO_NOT_STORE = (Case.QUEUED, Case.UNQUEUED)
ACTIVE = (Case.ACTIVE_OVERDUE, Case.ACTIVE_IN_TIME)
ODD = (Case.MISSING_DUE, Case.MISSING_LATER, Case.WRONG, Case.UNKNOWN)
ORDINARY = (Case.EXPIRED, Case.LIVE)


@dataclass(frozen=True, slots=True)
class Story:
    """When a submission's last run ended, and what that makes of its deadline."""

    policy: str
    ended: int | None
    """The end of the last finished run, in seconds relative to the moment of the sample. For
    a submission that never ran, the moment it was created; None if only an active run exists."""
    expires: int | None = None
    purged: int | None = None
    runless: bool = False


def case_counts(spec: SampleSpec) -> dict[Case, int]:
    """How many submissions are in each situation; together, all of them."""
    total = spec.submissions
    counts = {Case.PERMANENT: round(total * spec.permanent_share)}
    counts |= _evenly(round(total * spec.do_not_store_share), DO_NOT_STORE)
    counts |= _evenly(round(total * spec.active_share), ACTIVE)
    counts |= _evenly(round(total * spec.odd_share), ODD)
    counts[Case.PURGED] = round(total * spec.purged_share)
    # Five roundings can add up to more than there are; the last kinds then give way.
    room = total
    for case in counts:
        counts[case] = min(counts[case], room)
        room -= counts[case]
    counts[Case.EXPIRED] = round(room * spec.expired_share)
    counts[Case.LIVE] = room - counts[Case.EXPIRED]
    return counts


def _evenly(total: int, cases: tuple[Case, ...]) -> dict[Case, int]:
    """Split a number into parts that differ by one at most, the first ones larger."""
    part, rest = divmod(total, len(cases))
    return {case: part + (place < rest) for place, case in enumerate(cases)}


def tell(case: Case, spec: SampleSpec, draw: Draw) -> Story:
    """Draw the story of one submission, by its situation."""
    if case is Case.PERMANENT:
        return Story(InputRetention.STORE_PERMANENTLY, -draw.between(2 * HOUR, 180 * DAY))
    if case in DO_NOT_STORE:
        return Story(InputRetention.DO_NOT_STORE, -draw.between(2 * HOUR, 3 * DAY))
    if case is Case.UNKNOWN:
        expires = -draw.between(1, 30 * DAY)
        return Story(UNKNOWN_POLICY, expires - 14 * DAY, expires)
    policy = draw.choose(FINITE_POLICIES)
    return _tell_finite(case, spec, draw, policy)


def _tell_finite(case: Case, spec: SampleSpec, draw: Draw, policy: InputRetention) -> Story:
    kept = FINITE_DAYS[policy] * DAY
    past = -draw.between(0, 60 * DAY)
    # The last run ended two hours ago at the latest.
    future = draw.between(1, kept - 2 * HOUR)
    runless = draw.happens(spec.runless_share)
    purged = past - HOUR
    stories = {
        Case.EXPIRED: Story(policy, past - kept, past, runless=runless),
        Case.LIVE: Story(policy, future - kept, future, runless=runless),
        Case.ACTIVE_OVERDUE: Story(policy, past - kept, past),
        Case.ACTIVE_IN_TIME: Story(policy, None),
        Case.PURGED: Story(policy, purged - kept, purged=purged),
        Case.MISSING_DUE: Story(policy, past - kept),
        Case.MISSING_LATER: Story(policy, future - kept),
        # As if the deadline that an earlier run set had stayed after a later one.
        Case.WRONG: Story(policy, future - kept, -draw.between(0, 10 * DAY)),
    }
    return stories[case]
