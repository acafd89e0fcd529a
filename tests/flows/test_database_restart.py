"""The application's database restarts in the middle of a run, and the run goes on (SPEC 10.9)."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from sqlalchemy import URL, Engine, create_engine, event, text

from demo.embedded import EmbeddedServer
from demo.servers import PrefectServer
from flows.clear_sessions import clear_sessions
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.database import engine_for
from maintenance.errors import GuardLost
from maintenance.guard import guard
from maintenance.report import Report, StopReason
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER, Settings, settings
from tasks.retrying import BACKOFF, SHORT_BACKOFF
from tests.support.application_server import ApplicationServer, Stop, application_server
from tests.support.crash_points import ALL, VARIABLE, choice
from tests.support.hooks import CLAIM, STAMP, at_statement
from tests.support.markers import identify, mark_storage
from tests.support.prefect_server import settings_of
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FLOWS = {
    one.name: one for one in (purge_expired_submissions, process_purge_retries, clear_sessions)
}
JOB = purge_expired_submissions.name
ITEMS = 5
AWAY_SECONDS = 0.1
FEWER = 3
DELAYS = (list(BACKOFF), list(SHORT_BACKOFF))
SHORT_DELAYS = [0.5, 2.0, 10.0]
TRUNCATE = "TRUNCATE {} CASCADE".format(
    ", ".join(f'"{table.name}"' for table in schema.metadata.sorted_tables)
)


@pytest.fixture(scope="module")
def application() -> Iterator[ApplicationServer]:
    with application_server({"fsync": "off", "track_commit_timestamp": "on"}) as running:
        yield running


@pytest.fixture(scope="module")
def server(application: ApplicationServer) -> EmbeddedServer:
    return application.server


@pytest.fixture(scope="module")
def template_database(server: EmbeddedServer) -> str:
    engine = create_engine(server.create_database("template_restarts").set(drivername=DRIVER))
    create_tables(engine)
    identify(engine)
    engine.dispose()
    return "template_restarts"


@pytest.fixture
def database(database_url: URL) -> Iterator[Engine]:
    """The test's own connections are made anew after a restart."""
    engine = create_engine(database_url.set(drivername=DRIVER), pool_pre_ping=True)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _short_waits(environment: Settings) -> Iterator[None]:
    """Every test here has its own database, and waits for seconds instead of minutes."""
    BACKOFF[:] = SHORT_BACKOFF[:] = SHORT_DELAYS
    yield
    BACKOFF[:], SHORT_BACKOFF[:] = DELAYS


class Work:
    """Items that a job has to work on, and one that it must not touch."""

    def __init__(self, validibot: Validibot, job: str) -> None:
        self.job = job
        with validibot.engine.begin() as connection:
            connection.execute(text(TRUNCATE))
        identify(validibot.engine)
        mark_storage(validibot.root)  # the marker remembers what earlier runs have stamped
        self.validibot = Validibot(validibot.engine, validibot.root)
        self.due = {self._submission(number) for number in range(ITEMS)}
        self.validibot.submission(expires_at=NOW + DAY)
        self.validibot.session(NOW + DAY)

    def _submission(self, number: int) -> Any:
        key = f"submissions/{number}.json"
        self.validibot.file(key)
        self.validibot.session(NOW - DAY)
        made = self.validibot.submission(input_file=key)
        if self.job == process_purge_retries.name:
            self.validibot.queued(made)
        return made

    def run(self, **parameters: Any) -> Report:
        return run(FLOWS[self.job], **{"as_of": NOW, "batch_size": 2, **parameters})

    def is_done(self) -> bool:
        if self.job == clear_sessions.name:
            return len(self.validibot.rows(schema.sessions)) == 1
        return self.validibot.purged() == self.due and not self.validibot.files()


@contextmanager
def at_each_statement(act: Callable[[int], None]) -> Iterator[list[str]]:
    """Call `act` with the number of each statement of the jobs, before it is executed."""
    statements: list[str] = []

    def hook(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)
        act(len(statements) - 1)

    with ExitStack() as stack:
        for job in FLOWS:
            engine = engine_for(settings(), job)
            event.listen(engine, "before_cursor_execute", hook)
            stack.callback(event.remove, engine, "before_cursor_execute", hook)
        yield statements


@contextmanager
def after_preflight(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once, when the job has ended its first transaction and not taken its guard."""
    acted: list[None] = []

    def hook(*_rest: Any) -> None:
        if not acted:
            acted.append(None)
            act()

    engine = engine_for(settings(), JOB)
    event.listen(engine, "checkin", hook)
    try:
        yield
    finally:
        event.remove(engine, "checkin", hook)
    assert acted


def restart_points(job: str, total: int) -> Sequence[int]:
    """Return numbers of statements: all, or one for every way in which a server goes down."""
    if os.environ[VARIABLE] == ALL:
        return range(total)
    draw = random.Random(f"{choice()} restart of {job}")
    return sorted(draw.choice(range(way, total, len(Stop))) for way in range(len(Stop)))


@pytest.mark.parametrize(
    "job",
    # Each in a group of its own: together they would take longer than all other files.
    [pytest.param(job, marks=pytest.mark.xdist_group(f"restarts of {job}")) for job in FLOWS],
)
def test_10_9_a_restart_at_any_statement_is_survived(
    application: ApplicationServer, validibot: Validibot, job: str
) -> None:
    work = Work(validibot, job)
    with at_each_statement(lambda _: None) as statements:
        assert work.run().done == ITEMS
    assert work.is_done()
    for point in restart_points(job, len(statements)):
        how = list(Stop)[point % len(Stop)]
        where = f"{how.name} before statement {point}: {statements[point]} ({choice()})"
        work = Work(validibot, job)

        def restart(number: int, point: int = point, how: Stop = how) -> None:
            if number == point:
                application.restart(how, AWAY_SECONDS)

        with at_each_statement(restart) as met:
            report = work.run()
        application.wait_until_back()
        # A run may need a few statements fewer than the first one: batches adapt to time.
        assert len(met) > point or point >= len(statements) - FEWER, where
        assert (report.stopped_because, report.failed) == (StopReason.DRAINED, 0), where
        assert work.is_done(), where
        assert report.as_of == NOW
        assert report.overdue is not None
        assert report.overdue.rows == 0, where


def test_10_9_what_was_done_before_is_counted_and_the_interruption_is_reported(
    application: ApplicationServer, validibot: Validibot
) -> None:
    work = Work(validibot, JOB)
    stamps: list[str] = []

    def second_batch(connection: Any) -> None:
        if connection.in_transaction() and len(validibot.purged()) == 2 and not stamps:
            stamps.append("met")
            application.restart(Stop.FAST, AWAY_SECONDS)

    with at_statement(JOB, CLAIM, second_batch, before=True, times=99):
        report = work.run()
    assert stamps
    assert (report.done, report.selected, report.stopped_because) == (ITEMS, ITEMS, "drained")
    assert report.summary() == f"{ITEMS} of {ITEMS} done, {ITEMS} files (30 B)"
    assert any(
        one.startswith(f"interrupted and resumed: the connection that guards {JOB}")
        for one in report.warnings
    )


def test_10_9_a_run_that_is_by_then_done_by_another_one_ends_as_skipped(
    application: ApplicationServer, validibot: Validibot, environment: Settings
) -> None:
    work, holder = Work(validibot, JOB), uuid4()
    with ExitStack() as stack:

        def restart(_connection: Any) -> None:
            application.restart(Stop.FAST, 0.0)
            application.wait_until_back()
            stack.enter_context(guard(environment, JOB, holder))

        with at_statement(JOB, "UPDATE submissions_submission SET modified=", restart, before=True):
            report = work.run()
    assert report.stopped_because is StopReason.SKIPPED
    assert f"flow run {holder} holds the job" in report.summary()
    assert work.run().stopped_because is StopReason.DRAINED
    assert work.is_done()


@pytest.mark.parametrize("how", list(Stop))
def test_10_9_a_database_that_goes_away_before_the_guard_is_waited_for(
    application: ApplicationServer, validibot: Validibot, how: Stop
) -> None:
    work = Work(validibot, JOB)
    with after_preflight(lambda: application.restart(how, AWAY_SECONDS)):
        report = work.run()
    assert report.stopped_because is StopReason.DRAINED
    assert work.is_done()


def test_10_9_a_database_that_stays_away_fails_the_run_with_its_report(
    application: ApplicationServer, validibot: Validibot
) -> None:
    work = Work(validibot, JOB)
    BACKOFF[:] = [0.0, 0.0, 0.0]
    message = f"the guard of {JOB} cannot be taken: .*connection"
    with (
        after_preflight(lambda: application.stop(Stop.FAST)),
        pytest.raises(GuardLost, match=message),
    ):
        work.run()
    application.start()
    assert work.run().stopped_because is StopReason.DRAINED


def test_10_9_a_wait_ends_with_the_time_budget(
    application: ApplicationServer, validibot: Validibot
) -> None:
    work = Work(validibot, JOB)
    BACKOFF[:] = [3_600.0, 3_600.0, 3_600.0]
    with after_preflight(lambda: application.stop(Stop.FAST)), pytest.raises(GuardLost):
        work.run(time_budget=1.0)
    application.start()
    assert work.run().stopped_because is StopReason.DRAINED


def test_10_9_at_least_four_attempts_are_made_in_at_least_three_minutes() -> None:
    for delays in DELAYS:
        assert 1 + len(delays) >= 4
        assert sum(delays) >= 180


def test_10_9_a_run_on_a_server_is_completed(
    application: ApplicationServer, validibot: Validibot, prefect_server: PrefectServer
) -> None:
    work = Work(validibot, JOB)
    with (
        temporary_settings({**settings_of(prefect_server), PREFECT_LOGGING_TO_API_ENABLED: False}),
        at_statement(JOB, STAMP, lambda _: application.restart(Stop.KILL, AWAY_SECONDS)) as met,
    ):
        state = run_flow(purge_expired_submissions, parameters={"as_of": NOW}, return_type="state")
    assert met
    assert isinstance(state, State)
    assert (state.is_completed(), state.name) == (True, "Completed"), state
    assert work.is_done()
