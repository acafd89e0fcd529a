"""Events of runs: sent before the process ends, with counts, and without delaying the run."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from demo.ports import free_port
from demo.processes import wait_until
from demo.servers import PrefectServer
from flows.clear_sessions import clear_sessions
from flows.purge_expired_submissions import purge_expired_submissions
from flows.run.events import (
    ITEMS_FAILED,
    MAX_LISTED,
    RETRY_ALERT,
    RUN_FINISHED,
    THROTTLED,
    names_of,
    outcome_of,
    payload_of,
)
from maintenance import schema
from maintenance.guard import guard
from maintenance.report import MAX_FAILURES, Failure, Overdue, Report, StopReason
from maintenance.settings import Settings
from tests.support.commands import CODE, Command, run_command, without_prefect
from tests.support.prefect_server import ask
from tests.support.validibot import DAY, NOW, Validibot

WAIT_SECONDS = 60.0
CALL_SECONDS = 5.0
MAX_BYTES = 20_000


def begin(server: PrefectServer, *arguments: str) -> Command:
    variables = without_prefect(**server.client_settings)
    return Command("flows", *arguments, "--json", env=variables)


def run(server: PrefectServer, *arguments: str) -> int:
    process = begin(server, *arguments)
    process.communicate(timeout=WAIT_SECONDS)
    return process.wait()


def events(server: PrefectServer, job: str, since: datetime) -> list[dict[str, Any]]:
    query = {
        "filter": {
            "resource": {"id": [f"validibot-maintenance.job.{job}"]},
            "occurred": {"since": since.isoformat()},
        }
    }
    found: list[dict[str, Any]] = ask(server, "POST", "/events/filter", query)["events"]
    return found


def wait_for_events(
    server: PrefectServer, job: str, since: datetime, number: int
) -> dict[str, dict[str, Any]]:
    """Wait until the job has `number` events; return them by name."""
    wait_until(lambda: len(events(server, job, since)) >= number, WAIT_SECONDS, "events", [])
    found = events(server, job, since)
    assert len(found) == number
    return {event["event"]: event for event in found}


def resources(event: dict[str, Any]) -> dict[str, str]:
    """Return the related resources by their role."""
    return {
        one["prefect.resource.role"]: one["prefect.resource.id"]
        for one in event["related"]
        if "prefect.resource.role" in one
    }


def test_the_event_at_the_end_has_the_counts_and_names_the_flow_run(
    validibot: Validibot, environment: Settings, prefect_server: PrefectServer
) -> None:
    since = datetime.now(UTC)
    for _ in range(3):
        validibot.session(NOW - DAY)
    assert run(prefect_server, clear_sessions.name) == 0
    told = wait_for_events(prefect_server, clear_sessions.name, since, 1)
    event = told[RUN_FINISHED]
    assert event["resource"]["prefect.resource.name"] == clear_sessions.name
    assert event["resource"]["validibot-maintenance.outcome"] == "completed"
    assert event["resource"]["validibot-maintenance.dry-run"] == "false"
    payload = event["payload"]
    assert (payload["selected"], payload["done"], payload["failed"]) == (3, 3, 0)
    assert payload["summary"] == "3 of 3 done"
    latest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    (flow_run,) = ask(prefect_server, "POST", "/flow_runs/filter", latest)
    assert resources(event)["flow-run"] == f"prefect.flow-run.{flow_run['id']}"


def test_a_run_with_failed_items_sends_a_second_event(
    validibot: Validibot, environment: Settings, prefect_server: PrefectServer
) -> None:
    since = datetime.now(UTC)
    (validibot.root / "private/submissions/x").mkdir(parents=True)
    failing = validibot.submission(input_file="submissions/x")
    assert run(prefect_server, purge_expired_submissions.name) == 1
    told = wait_for_events(prefect_server, purge_expired_submissions.name, since, 2)
    assert set(told) == {RUN_FINISHED, ITEMS_FAILED}
    event = told[ITEMS_FAILED]
    assert event["resource"]["validibot-maintenance.outcome"] == "items-failed"
    assert event["payload"]["failed"] == 1
    assert event["payload"]["failures"][0]["item"] == f"submission {failing}"


def test_skipped_runs_and_dry_runs_are_marked_in_the_event(
    validibot: Validibot, environment: Settings, prefect_server: PrefectServer
) -> None:
    since = datetime.now(UTC)
    with guard(environment, clear_sessions.name, uuid4()):
        assert run(prefect_server, clear_sessions.name) == 0
    told = wait_for_events(prefect_server, clear_sessions.name, since, 1)
    assert told[RUN_FINISHED]["resource"]["validibot-maintenance.outcome"] == "skipped"
    since = datetime.now(UTC)
    assert run(prefect_server, clear_sessions.name, "--dry-run") == 0
    told = wait_for_events(prefect_server, clear_sessions.name, since, 1)
    assert told[RUN_FINISHED]["resource"]["validibot-maintenance.dry-run"] == "true"


def test_a_run_by_hand_that_is_stopped_is_cancelled_and_sends_its_event(
    validibot: Validibot, environment: Settings, prefect_server: PrefectServer
) -> None:
    since = datetime.now(UTC)
    for _ in range(500):
        validibot.session(NOW - DAY)
    process = begin(prefect_server, clear_sessions.name, "--batch-size", "1")
    wait_until(lambda: len(validibot.rows(schema.sessions)) < 498, WAIT_SECONDS, "work", [])
    process.terminate()
    output, errors = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 143, errors
    done = 500 - len(validibot.rows(schema.sessions))
    assert json.loads(output)["done"] == done
    told = wait_for_events(prefect_server, clear_sessions.name, since, 1)
    assert told[RUN_FINISHED]["resource"]["validibot-maintenance.outcome"] == "cancelled"
    assert told[RUN_FINISHED]["payload"]["summary"] == f"{done} of {done} done, stopped on request"
    latest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    (flow_run,) = ask(prefect_server, "POST", "/flow_runs/filter", latest)
    assert flow_run["state"]["type"] == "CANCELLED"
    assert flow_run["state"]["message"] == f"{done} of {done} done, stopped on request"


def report(**values: Any) -> Report:
    return Report(**{"job": "a-job", "dry_run": False, "as_of": NOW, **values})


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, {RUN_FINISHED}),
        ({"failed": 1}, {RUN_FINISHED, ITEMS_FAILED}),
        ({"alerts": 1}, {RUN_FINISHED, RETRY_ALERT}),
        ({"throttled_because": ["lag"]}, {RUN_FINISHED, THROTTLED}),
        (
            {"failed": 2, "alerts": 1, "throttled_because": ["lag"]},
            {RUN_FINISHED, ITEMS_FAILED, RETRY_ALERT, THROTTLED},
        ),
    ],
)
def test_there_is_an_event_for_each_kind_of_trouble(
    values: dict[str, Any], names: set[str]
) -> None:
    told = names_of(report(**values))
    assert set(told) == names
    assert len(told) == len(names)


def test_the_names_are_those_that_automations_wait_for() -> None:
    assert {RUN_FINISHED, ITEMS_FAILED, RETRY_ALERT, THROTTLED} == {
        f"validibot-maintenance.{name}"
        for name in ("run-finished", "items-failed", "retry-alert", "throttled")
    }


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({}, "completed"),
        ({"stopped_because": StopReason.TIME_BUDGET}, "completed"),
        ({"failed": 1}, "items-failed"),
        ({"stopped_because": StopReason.SKIPPED}, "skipped"),
        ({"stopped_because": StopReason.CANCELLED, "failed": 1}, "cancelled"),
        ({"stopped_because": StopReason.ERROR}, "failed"),
    ],
)
def test_an_outcome_is_one_word(values: dict[str, Any], outcome: str) -> None:
    assert outcome_of(report(**values)) == outcome


def test_an_event_is_of_bounded_size_however_much_has_failed() -> None:
    long = "x" * 100_000
    payload = payload_of(
        report(
            failed=10**6,
            failures=[Failure(item=long, cause=long)] * MAX_FAILURES,
            throttled_because=[long] * 20,
            stopped_because=StopReason.ERROR,
            message=long,
            failed_items={f"submission {number}": long for number in range(1_000)},
            unknown_policies={long: 1},
            warnings=[long],
            overdue=Overdue(rows=7, oldest_age_seconds=1.5),
        )
    )
    assert len(json.dumps(payload)) < MAX_BYTES
    assert len(payload["failures"]) == MAX_LISTED
    assert payload["overdue"]["rows"] == 7


EMIT = """
import time
from datetime import UTC, datetime
from flows.run.events import emit_events
from maintenance.report import Report

report = Report(job="a-job", dry_run=False, as_of=datetime.now(UTC), failed=1)
started = time.monotonic()
emit_events(report)
print(time.monotonic() - started)
"""


@pytest.mark.slow
def test_an_unreachable_server_does_not_delay_a_run_and_its_process_only_for_seconds() -> None:
    variables = without_prefect(PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    done = run_command(CODE, EMIT, env=variables, timeout=WAIT_SECONDS)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < CALL_SECONDS
