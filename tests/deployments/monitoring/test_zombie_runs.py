"""Zombie runs that the automations have missed: found, and started again where that is right.

The rules are tested without a server in test_zombie_rules.py.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.environment import clean_environment
from demo.processes import wait_until
from demo.servers import PrefectServer, start_worker
from deployments.monitoring import zombie_runs
from deployments.monitoring.zombie_runs import (
    LIMIT,
    LIMIT_ELSEWHERE,
    mark_zombies,
)
from deployments.names import DEPLOYMENT
from deployments.setup.automations.rescue import DEAD_INFRASTRUCTURE, LOST
from deployments.watch import ALWAYS, end_zombies, main
from flows.clear_sessions import clear_sessions
from flows.jobs import JOBS
from flows.run import zombie_runs as of_any_kind
from maintenance import schema
from maintenance.settings import Settings
from tests.support import jobs_on_server
from tests.support.jobs_on_server import make_run
from tests.support.prefect_server import (
    ask,
    automations,
    deployed_prefect,
    deployments,
    edit_schedule,
    settings_of,
)
from tests.support.refusing import refusing
from tests.support.validibot import NOW, Validibot

JOB = "clear-sessions"
ANOTHER = "cleanup-idempotency-keys"
TICK = timedelta(seconds=1)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WAIT_SECONDS = 30.0
SESSIONS = 100
GOING = ["RUNNING", "PENDING", "CANCELLING"]
DEAF = {
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
}

pytestmark = [pytest.mark.server, pytest.mark.slow]


@flow
def no_job() -> None:
    """A flow that is none of the jobs."""


@pytest.fixture(scope="module")
def deaf_server() -> Iterator[PrefectServer]:
    """A server whose automations hear of nothing, as if every event for them were lost."""
    with deployed_prefect(DEAF) as running:
        yield running


@pytest.fixture
def prefect(deaf_server: PrefectServer) -> Iterator[PrefectServer]:
    """The same, with everything as it was deployed and no run that has begun."""
    restore(deaf_server)
    with temporary_settings(settings_of(deaf_server)):
        yield deaf_server


@pytest.fixture
def client(prefect: PrefectServer) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def restore(server: PrefectServer) -> None:
    begun = {"flow_runs": {"state": {"type": {"any_": [*GOING, "COMPLETED"]}}}}
    for one in ask(server, "POST", "/flow_runs/filter", begun):
        ask(server, "DELETE", f"/flow_runs/{one['id']}")
    ask(server, "PATCH", f"/deployments/{deployments(server)[JOB]['id']}", {"paused": False})
    edit_schedule(server, JOB, {"active": True})
    ask(server, "PATCH", f"/automations/{automations(server)[LOST][0]['id']}", {"enabled": True})


def begin(
    server: PrefectServer, job: str = JOB, state: str = "RUNNING", deployment: str = ""
) -> str:
    """Make a run as a worker does, with its deployment's slot; return its identifier."""
    deployment = deployment or deployments(server)[job]["id"]
    path = f"/deployments/{deployment}/create_flow_run"
    run = str(ask(server, "POST", path, {"state": {"type": "SCHEDULED"}})["id"])
    for kind in ("PENDING", "RUNNING"):
        body = {"state": {"type": kind}, "force": kind == "RUNNING"}
        ask(server, "POST", f"/flow_runs/{run}/set_state", body)
        if kind == state:
            break
    return run


def beside(server: PrefectServer, job: str = JOB) -> str:
    """Make another run that is going, although the deployment has a single slot."""
    path = f"/deployments/{deployments(server)[job]['id']}/create_flow_run"
    return str(ask(server, "POST", path, {"state": {"type": "RUNNING"}})["id"])


def read(client: SyncPrefectClient, run: str) -> FlowRun:
    return client.read_flow_run(run)  # type: ignore[arg-type]


def began(client: SyncPrefectClient, run: str) -> datetime:
    state = read(client, run).state
    assert state is not None
    return state.timestamp


def heartbeat(server: PrefectServer, run: str, moment: datetime) -> None:
    """Let a run tell that it lives, and wait until the server has kept that."""
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    event = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": moment.isoformat(),
        "resource": resource,
    }
    ask(server, "POST", "/events", [event])
    kept = {"filter": {"id": {"id": [event["id"]]}}}
    wait_until(
        lambda: ask(server, "POST", "/events/filter", kept)["total"] == 1,
        WAIT_SECONDS,
        "a heartbeat",
        [],
    )


def marked(
    client: SyncPrefectClient, moment: datetime, observed_since: datetime = ALWAYS
) -> dict[str, bool]:
    """Return the runs that are marked, and whether they are to be started again."""
    return {str(one.run.id): one.rerun for one in mark_zombies(client, moment, observed_since)}


def crash_messages(server: PrefectServer, run: str) -> list[str]:
    """Return the messages with which a run has crashed."""
    found = ask(server, "GET", f"/flow_run_states/?flow_run_id={run}")
    return [one["message"] for one in found if one["type"] == "CRASHED"]


def crashed_to_be_started_again(server: PrefectServer, run: str) -> bool:
    """Return whether the automation that starts crashed runs again would take this one."""
    (message,) = crash_messages(server, run)
    return any(fnmatch(message, pattern) for pattern in DEAD_INFRASTRUCTURE)


def only_crashed(server: PrefectServer, client: SyncPrefectClient, run: str) -> str:
    """Return the words of a run that ended as Crashed, and is not started again by them."""
    assert not crashed_to_be_started_again(server, run)
    assert read(client, run).state_name == "Crashed"
    return crash_messages(server, run)[0]


def test_2_8_a_run_that_was_not_heard_of_is_started_again_and_one_that_was_is_left_alone(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    dead, alive = begin(prefect), begin(prefect, ANOTHER)
    heard = began(client, dead) + TICK
    heartbeat(prefect, dead, heard)
    heartbeat(prefect, alive, heard + TICK)
    assert marked(client, heard + LIMIT) == {}
    assert marked(client, heard + LIMIT + TICK) == {dead: True}
    assert crash_messages(prefect, dead) == ["No sign of life for 150 s"]
    assert crashed_to_be_started_again(prefect, dead)
    assert read(client, alive).state_name == "Running"
    assert marked(client, heard + LIMIT + TICK) == {}


def test_2_8_a_run_that_had_not_begun_gives_its_slot_back_and_is_started_again(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    dead = begin(prefect, state="PENDING")
    since = began(client, dead)

    def slots() -> int:
        found = ask(prefect, "GET", f"/deployments/{deployments(prefect)[JOB]['id']}")
        return int(found["global_concurrency_limit"]["active_slots"])

    assert slots() == 1
    assert marked(client, since + LIMIT) == {}
    assert marked(client, since + LIMIT + TICK) == {dead: True}
    assert crashed_to_be_started_again(prefect, dead)
    assert slots() == 0


def test_a_run_whose_job_another_run_is_at_only_ends(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    dead, working = begin(prefect), beside(prefect)
    moment = began(client, dead) + LIMIT + TICK
    heartbeat(prefect, working, moment - LIMIT)
    assert marked(client, moment) == {dead: False}
    message = only_crashed(prefect, client, dead)
    assert message == f"Its process is gone: flow run {working} has taken over the job"
    assert read(client, working).state_name == "Running"


def test_of_several_dead_runs_of_a_job_the_youngest_is_started_again(
    prefect: PrefectServer, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_any_kind, "PAGE", 2)  # all are found, however many there are
    dead = [begin(prefect, state="PENDING"), *(beside(prefect) for _ in range(3))]
    other = begin(prefect, ANOTHER)
    moment = began(client, other) + LIMIT + TICK
    youngest = dead.pop()
    assert marked(client, moment) == dict.fromkeys(dead, False) | {youngest: True, other: True}
    for one in dead:
        assert youngest in only_crashed(prefect, client, one)


@pytest.mark.parametrize(
    ("state", "name", "parameters", "counts"),
    [
        ("FAILED", "ItemsFailed", {}, True),
        ("COMPLETED", "Completed", {"dry_run": True}, False),
        ("CANCELLED", "Cancelled", {}, False),
    ],
)
def test_only_a_later_run_that_did_the_jobs_work_leaves_nothing_to_start_again(
    prefect: PrefectServer,
    client: SyncPrefectClient,
    state: str,
    name: str,
    parameters: dict[str, Any],
    counts: bool,
) -> None:
    make_run(prefect, JOB, "COMPLETED")  # before, which never counts
    dead = begin(prefect)
    make_run(prefect, ANOTHER, "COMPLETED")
    make_run(prefect, JOB, state, name, "", **parameters)
    assert marked(client, datetime.now(UTC) + LIMIT + TICK) == {dead: not counts}
    if counts:
        assert "has taken over the job" in only_crashed(prefect, client, dead)


@pytest.mark.parametrize("how", ["schedule", "deployment"])
def test_a_run_of_a_job_that_is_paused_only_ends(
    prefect: PrefectServer, client: SyncPrefectClient, how: str
) -> None:
    dead = begin(prefect)
    if how == "schedule":
        edit_schedule(prefect, JOB, {"active": False})
    else:
        path = f"/deployments/{deployments(prefect)[JOB]['id']}"
        ask(prefect, "PATCH", path, {"paused": True})
    assert marked(client, began(client, dead) + LIMIT + TICK) == {dead: False}
    assert only_crashed(prefect, client, dead) == (
        "Its process is gone, and clear-sessions is paused or deleted"
    )


def copy_of(server: PrefectServer, changes: dict[str, Any]) -> str:
    """Make another deployment of a job; return its identifier."""
    found = deployments(server)[JOB]
    kept = ("flow_id", "entrypoint", "work_pool_name", "job_variables", "pull_steps")
    made = {name: found[name] for name in kept} | {"name": f"copy {uuid4()}"} | changes
    return str(ask(server, "POST", "/deployments/", made)["id"])


def test_a_run_whose_deployment_was_deleted_only_ends(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    copy = copy_of(prefect, {})
    dead = begin(prefect, deployment=copy)
    ask(prefect, "DELETE", f"/deployments/{copy}")
    assert marked(client, began(client, dead) + LIMIT + TICK) == {dead: False}
    assert only_crashed(prefect, client, dead) == (
        "Its process is gone, and clear-sessions is paused or deleted"
    )


def test_a_run_by_hand_or_in_another_work_pool_may_be_silent_for_longer_and_only_ends(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    pool = f"pool-{uuid4()}"
    ask(prefect, "POST", "/work_pools/", {"name": pool, "type": "process"})
    elsewhere = copy_of(prefect, {"work_pool_name": pool})
    hand = str(client.create_flow_run(clear_sessions).id)
    ask(prefect, "POST", f"/flow_runs/{hand}/set_state", {"state": {"type": "RUNNING"}})
    dead = [hand, begin(prefect, deployment=elsewhere)]
    first, last = began(client, dead[0]), began(client, dead[1])
    assert marked(client, first + LIMIT_ELSEWHERE) == {}
    assert marked(client, last + LIMIT_ELSEWHERE + TICK) == dict.fromkeys(dead, False)
    for one in dead:
        assert only_crashed(prefect, client, one) == ("Its process is gone: no event for 450 s")
    ask(prefect, "DELETE", f"/deployments/{elsewhere}")
    ask(prefect, "DELETE", f"/work_pools/{pool}")


def test_what_waits_or_is_being_cancelled_and_other_flows_are_left_alone(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    cancelling = begin(prefect)
    ask(
        prefect,
        "POST",
        f"/flow_runs/{cancelling}/set_state",
        {"state": {"type": "CANCELLING", "name": "Cancelling"}},
    )
    foreign = str(client.create_flow_run(no_job).id)
    ask(prefect, "POST", f"/flow_runs/{foreign}/set_state", {"state": {"type": "RUNNING"}})
    path = f"/deployments/{deployments(prefect)[JOB]['id']}/create_flow_run"
    waiting = str(ask(prefect, "POST", path, {"state": {"type": "SCHEDULED"}})["id"])
    before = {one: read(client, one).state for one in (cancelling, foreign, waiting)}
    assert marked(client, datetime.now(UTC) + DAY) == {}
    assert {one: read(client, one).state for one in before} == before
    ask(prefect, "DELETE", f"/flow_runs/{waiting}")


def test_no_run_is_marked_while_the_automation_is_switched_off(
    prefect: PrefectServer, client: SyncPrefectClient
) -> None:
    dead = begin(prefect)
    moment = began(client, dead) + LIMIT + TICK
    path = f"/automations/{automations(prefect)[LOST][0]['id']}"
    ask(prefect, "PATCH", path, {"enabled": False})
    assert marked(client, moment) == {}
    ask(prefect, "PATCH", path, {"enabled": True})
    assert marked(client, moment) == {dead: True}


def going(client: SyncPrefectClient, *runs: str) -> list[str]:
    """Return those of the runs that still say Running."""
    return [one for one in runs if read(client, one).state_name == "Running"]


def test_the_watch_prints_a_marked_run_and_does_not_count_it_as_a_problem(
    prefect: PrefectServer,
    client: SyncPrefectClient,
    environment: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs_on_server.heartbeat(prefect, "one")
    for job in JOBS:
        make_run(prefect, job, "COMPLETED")
    dead = begin(prefect)
    monkeypatch.setattr(zombie_runs, "LIMIT", timedelta(0))
    assert main(["--once"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"UTC CRASHED (\S+): flow run (\S+) said Running: ", said) == [(JOB, dead)]
    assert said.count("; to be started again\n") == 1
    assert said.endswith(f"ok: {len(JOBS)} jobs watched\n")


def test_a_watch_that_begins_or_was_not_answered_marks_nothing_for_a_while(
    prefect: PrefectServer, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = begin(prefect)
    later = began(client, dead) + HOUR
    assert end_zombies(None, later) == later
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert end_zombies(later, later + MINUTE) is None
    assert end_zombies(None, later + 2 * MINUTE) == later + 2 * MINUTE
    assert going(client, dead) == [dead]
    assert "CRASHED" not in capsys.readouterr().out
    assert end_zombies(later, later + LIMIT) == later
    assert going(client, dead) == []


def test_a_server_that_answers_in_part_has_no_run_marked(
    prefect: PrefectServer, client: SyncPrefectClient, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = begin(prefect)
    late = began(client, dead) + HOUR
    with (
        refusing(prefect.api.address, "/api/events/filter") as address,
        temporary_settings({**settings_of(prefect), PREFECT_API_URL: f"{address}/api"}),
    ):
        assert end_zombies(ALWAYS, late) is None
    assert "cannot check for zombie runs: the Prefect server at " in capsys.readouterr().out
    assert going(client, dead) == [dead]
    assert end_zombies(ALWAYS, late) == ALWAYS
    assert going(client, dead) == []


@pytest.mark.timeout(180)
def test_2_8_a_killed_run_that_no_automation_heard_of_does_its_work_in_the_end(
    restored: PrefectServer, environment: Settings, validibot: Validibot, tmp_path: Path
) -> None:
    for _ in range(SESSIONS):
        validibot.session(NOW - DAY)
    variables = clean_environment(os.environ, tmp_path) | restored.client_settings
    variables |= {name: os.environ[name] for name in ("DATABASE_URL", "STORAGE_ROOT")}
    slowly = {"MAINTENANCE_DELETE_PAUSE_SECONDS": "0.2"}
    automation = f"/automations/{automations(restored)[LOST][0]['id']}"

    def left() -> int:
        return len(validibot.rows(schema.sessions))

    def read_run() -> dict[str, Any]:
        found: dict[str, Any] = ask(restored, "GET", f"/flow_runs/{run}")
        return found

    ask(restored, "PATCH", automation, {"enabled": False})
    worker = start_worker(tmp_path, variables | slowly)
    try:
        run = restored.api.start_run(f"{JOB}/{DEPLOYMENT}", {"batch_size": 1})
        wait_until(lambda: left() < SESSIONS, WAIT_SECONDS * 2, "some work", [worker])
        worker.kill()
        ask(restored, "PATCH", automation, {"enabled": True})
        assert read_run()["state_name"] == "Running"
        assert left() > 0
        assert end_zombies(ALWAYS, datetime.now(UTC) + LIMIT + TICK) == ALWAYS
        worker = start_worker(tmp_path, variables)
        wait_until(
            lambda: read_run()["state_name"] == "Completed", WAIT_SECONDS * 2, "its end", [worker]
        )
    finally:
        worker.kill()
    assert (read_run()["run_count"], left()) == (2, 0)
