"""Takeover: a run that holds the guard marks the zombie runs of its job as Crashed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Pending, Running

from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments.setup.automations.rescue import DEAD_INFRASTRUCTURE
from flows.cleanup_orphaned_containers import cleanup_orphaned_containers
from flows.clear_sessions import clear_sessions
from flows.run import zombie_runs
from flows.run.takeover import is_of_same_job, limit_for, mark_zombies
from flows.run.zombie_runs import DEFAULT_HEARTBEAT, silence_limit
from maintenance.settings import Settings
from tests.support.prefect_server import ask, settings_of
from tests.support.validibot import DAY, NOW, Validibot

HEARTBEAT = timedelta(seconds=30)
SOON = silence_limit(HEARTBEAT)
LATE = silence_limit(DEFAULT_HEARTBEAT)
TICK = timedelta(seconds=1)
WAIT_SECONDS = 30.0


@flow
def some_job() -> None:
    """A job of which runs are made."""


@flow
def another_job() -> None:
    """A job that has nothing to do with it."""


def begun(deployment: UUID | None) -> FlowRun:
    return FlowRun(id=uuid4(), flow_id=uuid4(), deployment_id=deployment)


def test_a_run_started_by_hand_may_be_silent_for_longer_than_one_of_a_deployment() -> None:
    assert limit_for(begun(uuid4()), HEARTBEAT) == timedelta(seconds=75)
    assert limit_for(begun(None), HEARTBEAT) == timedelta(seconds=450)
    assert limit_for(begun(None), timedelta(minutes=4)) == timedelta(minutes=10)


def test_2_8_another_deployment_of_a_flow_is_another_job() -> None:
    one, two = uuid4(), uuid4()
    deployed, by_hand = begun(one), begun(None)
    assert not is_of_same_job(deployed, deployed)
    assert is_of_same_job(begun(one), deployed)
    assert is_of_same_job(begun(None), deployed)
    assert not is_of_same_job(begun(two), deployed)
    assert not is_of_same_job(by_hand, by_hand)
    assert is_of_same_job(begun(one), by_hand)
    assert is_of_same_job(begun(None), by_hand)


@pytest.fixture
def client(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    settings = {
        **settings_of(prefect_server),
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def deployment(prefect_server: PrefectServer, client: SyncPrefectClient) -> str:
    flow_id = client.create_flow(some_job)
    made = {"name": "one", "flow_id": str(flow_id), "entrypoint": "nowhere.some_job"}
    return str(ask(prefect_server, "POST", "/deployments/", made)["id"])


def heard(server: PrefectServer, run: FlowRun) -> datetime:
    """Wait until the server knows of the run's state; return when it was heard of last."""
    body = {"filter": {"resource": {"id": [f"prefect.flow-run.{run.id}"]}}, "limit": 1}
    wait_until(
        lambda: ask(server, "POST", "/events/filter", body)["total"] > 0,
        WAIT_SECONDS,
        "an event",
        [],
    )
    (latest,) = ask(server, "POST", "/events/filter", body)["events"]
    return datetime.fromisoformat(latest["occurred"])


def deployed(client: SyncPrefectClient, deployment: str) -> FlowRun:
    made = client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
    client.set_flow_run_state(made.id, Running(), force=True)
    return client.read_flow_run(made.id)


def by_hand(client: SyncPrefectClient, job: object = some_job) -> FlowRun:
    return client.create_flow_run(job, state=Running())  # type: ignore[arg-type]


def state_of(client: SyncPrefectClient, run: FlowRun) -> State[object]:
    state = client.read_flow_run(run.id).state
    assert state is not None
    return state


def test_a_zombie_run_is_marked_as_crashed_with_a_message_that_does_not_start_it_again(
    prefect_server: PrefectServer, client: SyncPrefectClient, deployment: str
) -> None:
    gone, ours = deployed(client, deployment), deployed(client, deployment)
    latest = heard(prefect_server, gone)

    assert mark_zombies(client, ours, latest + SOON, HEARTBEAT) == []
    assert state_of(client, gone).is_running()

    (marked,) = mark_zombies(client, ours, latest + SOON + TICK, HEARTBEAT)
    state = state_of(client, gone)
    assert (marked.id, state.is_crashed()) == (gone.id, True)
    assert state.message == f"Its process is gone: flow run {ours.id} has taken over the job"
    assert not any(fnmatch(state.message, pattern) for pattern in DEAD_INFRASTRUCTURE)
    assert state_of(client, ours).is_running()
    client.delete_flow_run(ours.id)


def test_a_run_that_died_before_it_was_running_is_marked_too(
    client: SyncPrefectClient, deployment: str
) -> None:
    made = client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
    client.set_flow_run_state(made.id, Pending(), force=True)
    ours = deployed(client, deployment)
    since = state_of(client, made).timestamp
    assert mark_zombies(client, ours, since + SOON, HEARTBEAT) == []
    (marked,) = mark_zombies(client, ours, since + LATE, HEARTBEAT)
    assert marked.id == made.id
    assert state_of(client, made).is_crashed()
    client.delete_flow_run(ours.id)


def test_a_run_by_hand_may_be_silent_for_longer(
    prefect_server: PrefectServer, client: SyncPrefectClient, deployment: str
) -> None:
    hand, ours = by_hand(client), deployed(client, deployment)
    latest = heard(prefect_server, hand)
    assert mark_zombies(client, ours, latest + LATE, HEARTBEAT) == []
    assert [one.id for one in mark_zombies(client, ours, latest + LATE + TICK, HEARTBEAT)] == [
        hand.id
    ]
    client.delete_flow_run(ours.id)


def test_another_job_and_another_deployment_are_left_alone(
    prefect_server: PrefectServer, client: SyncPrefectClient, deployment: str
) -> None:
    flow_id = str(client.create_flow(some_job))
    made = {"name": "two", "flow_id": flow_id, "entrypoint": "nowhere.some_job"}
    elsewhere = str(ask(prefect_server, "POST", "/deployments/", made)["id"])
    others = [by_hand(client, another_job), deployed(client, elsewhere)]
    waiting = client.create_flow_run_from_deployment(deployment)  # type: ignore[arg-type]
    ours = deployed(client, deployment)
    for other in others:
        heard(prefect_server, other)
    assert mark_zombies(client, ours, datetime.now(UTC) + DAY, HEARTBEAT) == []
    assert all(state_of(client, other).is_running() for other in others)
    assert not state_of(client, waiting).is_crashed()
    for one in (*others, ours, waiting):
        client.delete_flow_run(one.id)


def test_a_run_leaves_one_that_was_just_heard_of_alone_and_does_its_work(
    prefect_server: PrefectServer,
    client: SyncPrefectClient,
    validibot: Validibot,
    environment: Settings,
) -> None:
    validibot.session(NOW - DAY)
    other = by_hand(client, clear_sessions)
    heard(prefect_server, other)
    state = run_flow(clear_sessions, parameters={"as_of": NOW}, return_type="state")
    assert isinstance(state, State)
    assert state.message == "1 of 1 done"
    assert state_of(client, other).is_running()
    client.delete_flow_run(other.id)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_that_has_nothing_to_do_takes_over_too_unless_it_is_a_dry_run(
    client: SyncPrefectClient,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,
) -> None:
    assert environment.deployment_target is None  # so there is no container engine
    monkeypatch.setattr(zombie_runs, "MISSED_HEARTBEATS", 0)
    gone = by_hand(client, cleanup_orphaned_containers)
    state = run_flow(
        cleanup_orphaned_containers, parameters={"dry_run": dry_run}, return_type="state"
    )
    assert isinstance(state, State)
    assert state.name == "Skipped"
    assert "has no container engine" in (state.message or "")
    assert state_of(client, gone).is_crashed() is not dry_run
    client.delete_flow_run(gone.id)
