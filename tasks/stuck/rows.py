"""The rows of runs that hang: what is read after the claim, what is changed (SPEC 6.2)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, Connection, Subquery, case, cast, func, select, true

from maintenance.cutoff import Cutoff
from maintenance.report import NextAttempt
from maintenance.schema import attempts, runs, step_runs
from maintenance.schema.base import NEWEST, Version
from maintenance.schema.vocabulary import AttemptState, ErrorCategory, RunStatus
from maintenance.timed_out import ATTEMPT_ERROR_CODE, timed_out_error
from tasks.batching.arrays import any_uuid, text_array, uuid_array
from tasks.columns import RUNS
from tasks.stuck.selection import (
    active_attempt,
    current_attempt,
    current_step,
    deadlines,
    finite_seconds,
    is_stuck,
    waits_for_nothing,
)

MILLISECONDS = 1_000


@dataclass(frozen=True)
class StuckRun:
    """A run that hangs, with what timing it out needs to know.

    Attributes:
        id: the run.
        minutes: the time-out that the error text names.
        attempt_id: the attempt that times out with it, None without one.
        execution_id: what that attempt's provider calls its execution; blank when not known.
    """

    id: UUID
    minutes: int
    attempt_id: UUID | None
    execution_id: str

    @property
    def error(self) -> str:
        """The error text that is written on the run."""
        return timed_out_error(self.minutes)


@dataclass
class ClaimedRun:
    """A run of the selection.

    Attributes:
        id: the run.
        moment: with `id`, its place in the order of the selection.
        error: why it was not timed out.
        retry: its next attempt, if that is recorded.
        stuck: what the re-check found; None when the run does not hang, or is in use.
    """

    id: UUID
    moment: datetime
    error: str | None = None
    retry: NextAttempt | None = None
    stuck: StuckRun | None = None


def lock_attempts(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Lock the active attempts of claimed runs; return those that were not locked already.

    A callback may be writing the attempt. Waiting for it would delay all runs of the batch; a later
    run of the job selects its run again.
    """
    mine = (
        select(attempts.c.id)
        .join(step_runs, attempts.c.step_run_id == step_runs.c.id)
        .where(step_runs.c.validation_run_id == any_uuid(ids), active_attempt())
        .with_for_update(of=attempts, skip_locked=True)
    )
    return {row.id for row in connection.execute(mine)}


def read_stuck(
    connection: Connection,
    ids: Sequence[UUID],
    cutoff: Cutoff,
    timeout: timedelta,
    version: Version = NEWEST,
) -> list[StuckRun]:
    """Return which of the claimed runs hang: the re-check, a statement after the claim."""
    own, step = deadlines(cutoff.as_of), current_step()
    attempt = current_attempt(step)
    found = connection.execute(
        select(
            RUNS.id,
            own.c.minutes,
            attempt.c.id.label("attempt_id"),
            attempt.c.execution_id,
        )
        .select_from(runs.join(own, true()).outerjoin(step, true()).outerjoin(attempt, true()))
        .where(RUNS.id == any_uuid(ids), is_stuck(cutoff, timeout, own), waits_for_nothing(version))
    )
    option = timeout // timedelta(minutes=1)
    return [
        StuckRun(
            row.id,
            option if row.minutes is None else max(0, row.minutes),
            row.attempt_id,
            row.execution_id or "",
        )
        for row in found
    ]


def write_time_outs(connection: Connection, items: Sequence[StuckRun]) -> Counter[str]:
    """Write that these runs and their attempts have timed out; return the rows by table.

    The caller has locked both. An attempt that was never dispatched fails instead: Validibot's
    state machine allows no TIMED_OUT after PENDING.
    """
    now = func.statement_timestamp()
    ended_at = func.greatest(now, RUNS.started_at)
    duration = func.floor(finite_seconds(RUNS.started_at, ended_at) * MILLISECONDS)
    texts = _texts(items)
    ended = connection.execute(
        runs.update()
        .where(RUNS.id == texts.c.id, RUNS.status == RunStatus.RUNNING)
        .values(
            status=RunStatus.TIMED_OUT,
            error_category=ErrorCategory.TIMEOUT,
            error=texts.c.error,
            ended_at=ended_at,
            duration_ms=func.coalesce(cast(duration, BigInteger), RUNS.duration_ms),
            modified=now,
        )
    ).rowcount
    rows = Counter({runs.name: ended})
    rows[attempts.name] += connection.execute(
        attempts.update()
        .where(attempts.c.id == texts.c.attempt_id, active_attempt())
        .values(
            state=case(
                (attempts.c.state == AttemptState.PENDING, AttemptState.FAILED),
                else_=AttemptState.TIMED_OUT,
            ),
            terminal_at=func.coalesce(attempts.c.terminal_at, now),
            last_error_code=ATTEMPT_ERROR_CODE,
            last_error=texts.c.error,
            modified=now,
        )
    ).rowcount
    return rows


def _texts(items: Sequence[StuckRun]) -> Subquery:
    """Return the runs with their attempts and error texts, as rows."""
    return select(
        func.unnest(uuid_array([item.id for item in items])).label("id"),
        func.unnest(uuid_array([item.attempt_id for item in items])).label("attempt_id"),
        func.unnest(text_array([item.error for item in items])).label("error"),
    ).subquery("texts")
