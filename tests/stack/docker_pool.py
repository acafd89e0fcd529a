"""The stack with a work pool of type docker: each run in a container of its own."""

import json
import time
from contextlib import suppress
from typing import Any

from docker import APIClient
from docker.errors import NotFound

from deployments.names import DEPLOYMENT, RUN_LABEL, WORK_POOL
from tests.stack.engine import execute
from tests.stack.inspecting import readable_in
from tests.stack.project import Project
from tests.stack.socket_proxy import proxy_of_a_docker_pool_refuses_the_rest
from tests.stack.stack import Stack, wait_for
from tests.stack.validibot import StandIn

JOB = f"clear-sessions/{DEPLOYMENT}"
VARIABLES = {
    "MAINTENANCE_WORK_POOL_TYPE": "docker",
    "MAINTENANCE_SOCKET_PROXY": "socket-proxy-docker-pool.cfg",
}
DELETE_POOL = ("prefect", "--no-prompt", "work-pool", "delete", WORK_POOL)
STEP_SECONDS = 60
CANCEL_SECONDS = 10
KILLED = 137
MEGABYTE = 1 << 20

LATE = "SELECT session_key FROM django_session WHERE expire_date < now()"
MANY = """INSERT INTO django_session (session_key, session_data, expire_date)
    SELECT 'pool-' || n, '', now() - interval '1 day' FROM generate_series(1, 20000) AS n"""

USE_ALL_MEMORY = """
import pathlib
pathlib.Path("/proc/1/oom_score_adj").write_text("1000")  # the run is killed, and not this
taken = []
while True:
    taken.append(bytearray(16 << 20))
"""


def docker_pool_runs_cancels_and_brings_back(stack: Stack, application: StandIn) -> None:
    """Change the pool's type, as the guide says; then a run, a cancel, a kill and no memory."""
    stack.compose("stop", "worker")
    stack.compose("run", "--rm", "--no-deps", "-T", "worker", *DELETE_POOL)
    stack.compose("up", "--detach", "--no-build", "worker", **VARIABLES)
    assert stack.ask("GET", f"/work_pools/{WORK_POOL}")["type"] == "docker"
    try:
        engine_is_reached_from_a_run(stack)
        proxy_of_a_docker_pool_refuses_the_rest(stack)
        application.sql(MANY)
        cancelled_run_ends_soon(stack, application)
        killed_runs_are_brought_back(stack, application)
        wait_for(lambda: not runs(stack) or None, STEP_SECONDS, "the removal", stack)
    finally:
        for one in runs(stack):  # Compose does not know them
            with suppress(NotFound):
                stack.client.remove_container(one["Id"], force=True)


def engine_is_reached_from_a_run(stack: Stack) -> None:
    run = stack.run(f"cleanup-orphaned-containers/{DEPLOYMENT}", {})
    ended = stack.wait_for_run(run, STEP_SECONDS)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert "Skipped" not in ended["state"]["name"]


def cancelled_run_ends_soon(stack: Stack, application: StandIn) -> None:
    run = begun(stack, application)
    no_secret_is_shown_and_no_right_is_left(stack, application, only_run(stack))
    started = time.monotonic()
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    stack.ask("POST", f"/flow_runs/{run}/set_state", state)
    ended = stack.wait_for_run(run, STEP_SECONDS)
    took = time.monotonic() - started
    assert ended["state_type"] == "CANCELLED", ended["state"]
    assert "did not stop in time" not in str(ended["state"]["message"])
    assert took < CANCEL_SECONDS, took
    assert application.sql(LATE)


def killed_runs_are_brought_back(stack: Stack, application: StandIn) -> None:
    run = begun(stack, application)
    stack.client.kill(only_run(stack)["Id"])
    comes_back(stack, application, run, 2)
    victim = only_run(stack)["Id"]
    uses_all_memory(stack.client, victim)
    comes_back(stack, application, run, 3)
    application.sql("DELETE FROM django_session WHERE session_key LIKE 'pool-%'")
    ended = stack.wait_for_run(run, STEP_SECONDS)
    assert (ended["state_type"], ended["run_count"]) == ("COMPLETED", 3), ended["state"]
    states = stack.ask("GET", f"/flow_run_states/?flow_run_id={run}")
    crashes = [one["message"] for one in states if one["type"] == "CRASHED"]
    assert len(crashes) == 2
    assert all(f"status code {KILLED}" in message for message in crashes)


def comes_back(stack: Stack, application: StandIn, run: str, count: int) -> None:
    """Wait until the run was started again, and works."""

    def again() -> bool:
        found = stack.ask("GET", f"/flow_runs/{run}")
        return bool(found["run_count"] == count and found["state_type"] == "RUNNING")

    wait_for(lambda: again() or None, STEP_SECONDS, f"start {count} of the run", stack)
    works(stack, application)


def begun(stack: Stack, application: StandIn) -> str:
    """Start a run that takes long, and wait until it has deleted something."""
    run = stack.run(JOB, {"batch_size": 1})
    works(stack, application)
    return run


def works(stack: Stack, application: StandIn) -> None:
    before = set(application.sql(LATE))
    wait_for(lambda: set(application.sql(LATE)) < before or None, STEP_SECONDS, "a deletion", stack)


def no_secret_is_shown_and_no_right_is_left(
    stack: Stack, application: StandIn, container: dict[str, Any]
) -> None:
    secrets = [*stack.secrets.values(), application.secret]
    assert not readable_in(json.dumps(container), secrets)
    host, config = container["HostConfig"], container["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["ReadonlyRootfs"], host["Privileged"]) == (True, False)
    assert host["Memory"] == host["MemorySwap"] == 1024 * MEGABYTE
    assert host["PidsLimit"] == 256
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert config["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in container["State"]
    environment = dict(one.split("=", maxsplit=1) for one in config["Env"])
    for name in ("DATABASE_URL", "PREFECT_API_AUTH_STRING", "POSTGRES_PASSWORD"):
        assert not environment.get(name), name
    execute(stack.client, container["Id"], ["test", "-s", environment["DATABASE_URL_FILE"]])


def uses_all_memory(client: APIClient, container: str) -> None:
    """Let a container run out of memory; nothing else kills it.

    The engine's own event is not waited for: it is lost when the container ends at once.
    """
    hog = client.exec_create(container, ["python", "-c", USE_ALL_MEMORY])["Id"]
    client.exec_start(hog, detach=True)


def only_run(stack: Project) -> dict[str, Any]:
    """Return the container of the only run."""
    (found,) = runs(stack)
    inspected: dict[str, Any] = stack.client.inspect_container(found["Id"])
    return inspected


def runs(stack: Project) -> list[dict[str, Any]]:
    filters = {"label": RUN_LABEL, "network": stack.project}
    found: list[dict[str, Any]] = stack.client.containers(all=True, filters=filters)
    return found
