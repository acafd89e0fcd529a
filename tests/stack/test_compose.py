"""compose.yaml is built and run: up, a job through the worker, the worker killed, and down again.

No image registry is needed: see stand_ins.py and packages.py. One test, because bringing the stack
up is what takes the time.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from deployments.names import DEPLOYMENT
from flows.jobs import JOBS
from maintenance.containers.labels import (
    MANAGED,
    MANAGED_FILTER,
    MANAGED_VALUE,
    STARTED_AT,
    TIMEOUT_SECONDS,
)
from tests.stack import packages, stand_ins
from tests.stack.stack import CALL_SECONDS, LOGIN, Stack, compose_command, stack_on, wait_for
from tests.support.docker_engine import not_tested

pytestmark = [pytest.mark.docker, pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(590)]

HEALTHY = {"database", "demo-database", "server", "worker"}
RUNNING = HEALTHY | {"watch"}
ENDED = {"upgrade", "deploy", "demo-data"}
HEALTHY_SECONDS = 120
RUN_SECONDS = 90
ATTEMPTS = 3
RESCUE_SECONDS = 100

ACTIVE = """EXISTS (SELECT FROM validations_validationrun AS run
    WHERE run.submission_id = submission.id
    AND run.status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELED', 'TIMED_OUT'))"""
SUBMISSIONS = "FROM submissions_submission AS submission WHERE content_purged_at IS NULL AND"
IN_USE = f"{SUBMISSIONS} expires_at <= now() AND {ACTIVE}"
DUE = f"""{SUBMISSIONS} (expires_at <= now() OR expires_at IS NULL) AND NOT {ACTIVE}
    AND CASE retention_policy WHEN 'STORE_1_DAY' THEN 1 WHEN 'STORE_7_DAYS' THEN 7
        WHEN 'STORE_30_DAYS' THEN 30 END * interval '1 day' + coalesce((
            SELECT max(ended_at) FROM validations_validationrun AS run
            WHERE run.submission_id = submission.id), submission.created) <= now()"""
"""By the rules of retention, whatever deadline is recorded."""
PURGED = "SELECT id FROM submissions_submission WHERE content_purged_at IS NOT NULL"
LATE = "SELECT session_key FROM django_session WHERE expire_date < now()"
LIVE = "SELECT session_key FROM django_session WHERE expire_date >= now()"

FILES = """
import json, pathlib, sys
root = pathlib.Path("/app/storage/private")
print(json.dumps([name for name in json.loads(sys.argv[1]) if (root / name).is_file()]))
"""
STATUS = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=10)
connection.request("{method}", "{path}")
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """The stack of compose.yaml, up, from images that were built for it."""
    compose = compose_command()
    if compose is None:
        not_tested("there is no docker-compose")
    assert compose
    try:
        found = APIClient(timeout=CALL_SECONDS, **kwargs_from_env())
    except DockerException as error:
        not_tested(f"no container engine answers: {error}")
        raise
    with closing(found) as client:
        reason = stand_ins.why_not(client)
        if client.containers(all=True, filters={"label": MANAGED_FILTER}):
            reason = "the container engine holds containers of a Validibot, which jobs may remove"
        if reason:
            not_tested(reason)
        with (
            stand_ins.base_images(client, tmp_path) as images,
            stack_on(client, compose, tmp_path) as stack,
        ):
            python = stand_ins.python_image()
            images.wait_for(python)
            wheels = packages.download(client, python, tmp_path)
            with packages.serve(client, python, wheels) as address:
                stack.compose("build", packages=address)
            for name in stand_ins.STAND_INS:
                images.wait_for(name)
            stack.compose("up", "--detach", "--no-build")
            yield stack


def test_the_stack_works_and_survives_a_crash_of_its_worker(stack: Stack) -> None:
    becomes_healthy(stack)
    image_tells_nothing_and_runs_as_nobody_special(stack)
    server_is_published_on_the_loopback_with_a_login(stack)
    deployments_are_there(stack)
    schedules_are_paused(stack)
    submissions_are_purged_through_the_worker(stack)
    containers_are_removed_through_the_worker(stack)
    killed_worker_comes_back_and_so_does_its_run(stack)
    nothing_is_left_but_what_is_validibots(stack)


def becomes_healthy(stack: Stack) -> None:
    def healthy() -> bool:
        states = {name: one["State"] for name, one in stack.containers().items()}
        assert states.keys() == RUNNING | ENDED
        ended = {(states[name]["Status"], states[name]["ExitCode"]) for name in ENDED}
        return (
            {states[name]["Health"]["Status"] for name in HEALTHY} == {"healthy"}
            and {states[name]["Status"] for name in RUNNING} == {"running"}
            and ended == {("exited", 0)}
        )

    wait_for(lambda: healthy() or None, HEALTHY_SECONDS, "health", stack)
    watched = f"ok: {len(JOBS)} jobs watched"
    wait_for(lambda: watched in stack.logs() or None, HEALTHY_SECONDS, "the watch", stack)


def image_tells_nothing_and_runs_as_nobody_special(stack: Stack) -> None:
    layers = json.dumps(stack.history())
    assert "prefect" in layers
    assert "PIP_" not in layers
    assert "http" not in layers.replace("http.client", "")
    compiled = "import os, prefect, flows.jobs as f; print(prefect.__cached__, f.__cached__)"
    for path in stack.python("server", compiled).split():
        assert path.endswith(".pyc")
        stack.python("server", "import os, sys; os.stat(sys.argv[1])", path)
    who = "import os; print(os.getuid(), os.getgid(), os.access(os.getcwd(), os.W_OK))"
    assert {stack.python(name, who) for name in ("server", "worker")} == {"1000 1000 False"}
    secrets = "import os; print(sorted(name for name in os.environ if 'PASSWORD' in name))"
    assert stack.python("worker", secrets) == "[]"


def server_is_published_on_the_loopback_with_a_login(stack: Stack) -> None:
    bindings = [
        binding
        for one in stack.containers().values()
        for published in one["NetworkSettings"]["Ports"].values()
        for binding in published or []
    ]
    assert bindings == [{"HostIp": "127.0.0.1", "HostPort": str(stack.port)}]

    def status(method: str, path: str) -> str:
        return stack.from_host(STATUS.format(port=stack.port, method=method, path=path)).strip()

    assert status("GET", "/api/health") == "200 true"
    assert status("POST", "/api/deployments/filter").startswith("401 ")
    public = f'"api_url":"http://127.0.0.1:{stack.port}/api"'
    assert public in status("GET", "/ui-settings").replace(" ", "")
    assert LOGIN not in stack.logs()


def deployments_are_there(stack: Stack) -> None:
    flows = {one["id"]: one["name"] for one in stack.ask("POST", "/flows/filter", {})}
    found = stack.ask("POST", "/deployments/filter", {})
    assert len(found) == len(JOBS) == 9
    names = {f"{flows[one['flow_id']]}/{one['name']}" for one in found}
    assert names == {f"{job}/{DEPLOYMENT}" for job in JOBS}
    off = {flows[one["flow_id"]] for one in found if not one["schedules"][0]["active"]}
    assert off == {name for name, job in JOBS.items() if job.off_at_first}


def schedules_are_paused(stack: Stack) -> None:
    """Not for what is tested: so that no scheduled run comes in between."""
    for one in stack.ask("POST", "/deployments/filter", {}):
        for schedule in one["schedules"]:
            path = f"/deployments/{one['id']}/schedules/{schedule['id']}"
            stack.ask("PATCH", path, {"active": False})


def submissions_are_purged_through_the_worker(stack: Stack) -> None:
    purged = stack.select(PURGED)
    due, in_use = (stack.select(f"SELECT id {which}") for which in (DUE, IN_USE))
    gone, kept = (
        stack.select(f"SELECT input_file {which} AND input_file <> ''") for which in (DUE, IN_USE)
    )
    assert due
    assert in_use
    assert gone
    assert files(stack, gone | kept) == gone | kept

    run = finished(stack, "purge-expired-submissions", {})

    assert stack.select(PURGED) == purged | due
    assert stack.select(f"SELECT id {IN_USE}") == in_use
    assert files(stack, gone | kept) == kept
    assert run["state"]["message"].startswith(f"{len(due):,} of {len(due):,} done")


def containers_are_removed_through_the_worker(stack: Stack) -> None:
    old = {MANAGED: MANAGED_VALUE, STARTED_AT: "2020-01-01T00:00:00+00:00", TIMEOUT_SECONDS: "60"}
    made = stack.client.create_container(stack.image, ["true"], labels=old)["Id"]
    other = stack.client.create_container(stack.image, ["true"], labels={"other": "1"})["Id"]
    try:
        finished(stack, "cleanup-orphaned-containers", {})
        left = {one["Id"] for one in stack.client.containers(all=True)}
        assert made not in left
        assert other in left
    finally:
        stack.client.remove_container(other, force=True)


def killed_worker_comes_back_and_so_does_its_run(stack: Stack) -> None:
    late, live = stack.select(LATE), stack.select(LIVE)
    run = stack.run(f"clear-sessions/{DEPLOYMENT}", {"batch_size": 2})
    wait_for(lambda: stack.select(LATE) < late or None, RUN_SECONDS, "a deletion", stack)
    worker = stack.containers()["worker"]
    # From outside, as a power cut does: an order to Docker would count as the operator's wish.
    stack.from_host(f"import os; os.kill({worker['State']['Pid']}, 9)", pid_mode="host")
    left = stack.select(LATE)
    assert left

    wait_for(
        lambda: stack.ask("GET", f"/flow_runs/{run}")["run_count"] == 2 or None,
        RESCUE_SECONDS,
        "the rescue",
        stack,
    )
    ended = stack.wait_for_run(run, RUN_SECONDS)
    assert (ended["state_type"], ended["run_count"]) == ("COMPLETED", 2)
    states = stack.ask("GET", f"/flow_run_states/?flow_run_id={run}")
    assert [one["type"] for one in states].count("CRASHED") == 1
    assert ended["state"]["message"].startswith(f"{len(left):,} of {len(left):,} done")
    assert stack.select(LATE) == set()
    assert stack.select(LIVE) == live
    again = stack.containers()["worker"]
    assert (again["Id"], again["RestartCount"]) == (worker["Id"], 1)


def nothing_is_left_but_what_is_validibots(stack: Stack) -> None:
    assert stack.left() > RUNNING
    stack.compose("down", "--volumes")
    assert stack.left() == set()
    assert stack.client.inspect_volume(stack.storage)
    assert stack.client.networks(names=[stack.network])


def finished(stack: Stack, job: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a job, again when another run of it is in the way; return the run."""
    for _ in range(ATTEMPTS):
        run = stack.wait_for_run(stack.run(f"{job}/{DEPLOYMENT}", parameters), RUN_SECONDS)
        if run["state_type"] != "CANCELLED":
            assert run["state_type"] == "COMPLETED", run["state"]
            return run
    raise AssertionError(f"another run of {job} was always in the way")


def files(stack: Stack, names: set[str]) -> set[str]:
    """Those of the names that are files in the storage."""
    return set(json.loads(stack.python("worker", FILES, json.dumps(sorted(names)))))
