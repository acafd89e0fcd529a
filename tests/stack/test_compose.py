"""An operator follows docs/migration.md, block by block, beside a stand-in for Validibot.

In between, jobs run through the worker, and the worker is killed. At the end the stack is removed,
and the demo started.

No image registry is needed: see stand_ins.py and packages.py. What stands for Validibot has its
real names, users and modes: see validibot.py. One test, because bringing the stack up is what takes
the time.
"""

import json
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError, DockerException
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
from maintenance.storage.capabilities import NUMBERS
from maintenance.storage.probe import PREFIX
from tests.stack import packages, stand_ins, validibot
from tests.stack.demo_stack import demo_of_the_guide_works
from tests.stack.docker_pool import docker_pool_runs_cancels_and_brings_back
from tests.stack.engine import execute, run_once
from tests.stack.guide import MIGRATION, blocks
from tests.stack.handover import EIGHT, OTHERS, Handover
from tests.stack.inspecting import shown
from tests.stack.manage import DJANGO
from tests.stack.project import compose_command
from tests.stack.shell import Reader, Shell, shell
from tests.stack.socket_proxy import proxy_lets_the_jobs_requests_through_and_no_other
from tests.stack.stack import (
    CALL_SECONDS,
    LOGIN,
    Stack,
    checkout,
    engine_socket,
    stack_on,
    wait_for,
)
from tests.stack.validibot import STORAGE, VALIDATOR, StandIn, validibot_on
from tests.support.docker_engine import not_tested

pytestmark = [pytest.mark.docker, pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_200)]

TMP = "/tmp"  # noqa: S108 - of a container
HEALTHY = {"database", "server", "worker"}
RUNNING = HEALTHY | {"socket-proxy", "watch"}
ENDED = {"upgrade", "deploy"}
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
STAMPED = "SELECT id FROM validations_validationrun WHERE output_purged_at IS NOT NULL"
LATE = "SELECT session_key FROM django_session WHERE expire_date < now()"
LIVE = "SELECT session_key FROM django_session WHERE expire_date >= now()"

OF_WORKER = [1 << number for number in NUMBERS.values()]
READING = 1 << 2
"""CAP_DAC_READ_SEARCH."""

ROOTS, WHAT = ("private", "public"), (" rights", " marker")

READ_AND_DELETE = """
import pathlib, sys
path = pathlib.Path("/app/storage", sys.argv[1])
path.read_bytes()
path.unlink()
"""
TREE = """
import json, pathlib, stat
found = {}
for path in pathlib.Path("/app/storage").rglob("*"):
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    found[str(path.relative_to("/app/storage"))] = status.st_uid, status.st_gid, mode
print(json.dumps(found))
"""
RIGHTS = """
from maintenance.storage.capabilities import STATUS
print(int(next(line for line in STATUS.open() if line.startswith("CapEff")).split()[1], 16))
"""
WRITING = """
import pathlib, sys
try:
    pathlib.Path(sys.argv[1], "file").write_text("x")
    print("written")
except OSError as error:
    print(error.strerror)
"""
STATUS = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=10)
connection.request("{method}", "{path}")
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@dataclass(frozen=True)
class Scene:
    """The stand-in for Validibot, up, and the stack of compose.yaml, which is only built.

    Attributes:
        shell: the operator's.
        page: docs/migration.md, to be followed in that shell.
    """

    stack: Stack
    application: StandIn
    shell: Shell
    page: Reader


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Both, from images that were built for them."""
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
        reason = stand_ins.why_not(client) or validibot.why_not(client)
        if client.containers(all=True, filters={"label": MANAGED_FILTER}):
            reason = "the container engine holds containers of a Validibot, which jobs may remove"
        if reason:
            not_tested(reason)
        image = f"validibot-maintenance:{uuid.uuid4().hex[:8]}"
        folder, copy = tmp_path / "validibot", checkout(tmp_path)
        python = stand_ins.python_image()
        with (
            stand_ins.base_images(client, tmp_path) as images,
            removed_at_the_end(client, image),
            validibot_on(client, compose, folder, image) as application,
            stack_on(client, compose, copy, image) as stack,
        ):
            images.wait_for(python)
            wheels = packages.download(client, python, tmp_path)
            with (
                packages.serve(client, python, wheels) as address,
                shell(compose, tmp_path, VALIDIBOT=str(folder), MAINTENANCE=str(copy)) as operator,
            ):
                stack.own["PACKAGES_ADDRESS"] = address
                shutil.copy(copy / ".env.example", stack.settings)
                stack.configure()
                stack.compose("build")
                stack.settings.unlink()
                for name in stand_ins.STAND_INS:
                    images.wait_for(name)
                application.start()
                confirmed = {"self-hosted restore": f"{socket.gethostname().split('.')[0]}\n"}
                page = Reader(blocks(MIGRATION), operator, str(folder), confirmed)
                yield Scene(stack, application, operator, page)


@contextmanager
def removed_at_the_end(client: APIClient, image: str) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(APIError):
            client.remove_image(image, force=True)


def test_an_operator_follows_the_page_and_the_stack_survives_a_crash_of_its_worker(
    scene: Scene,
) -> None:
    stack, page, operator = scene.stack, scene.page, scene.shell
    handover = Handover(scene.application)
    assert handover.started() == EIGHT | OTHERS
    page.follow("Names")
    backup, at_backup = what_is_backed_up(operator), handover.counts()

    page.follow("Create the database role", "Write the settings")
    settings_are_written(scene)
    page.follow("Adopt the storage", "Look at what the first runs would do")
    page.follow("Start the Prefect server with the deployments", "Stop Beat")
    page.follow("Import the schedules and take the tasks over")
    handover.is_complete()
    deployments_are_there(stack)
    edited_schedule_is_imported(stack)
    schedules_are_paused(stack)
    is_green(page.follow("Start the worker and the watch"))
    becomes_healthy(stack)
    page.follow("Start Beat again", "After the first week")
    page.follow("Tasks of others that Beat starts", "Keep Validibot's redelivery running")

    image_tells_nothing_and_services_have_no_more_rights_than_they_need(stack)
    server_is_published_on_the_loopback_with_a_login(stack)
    roots_are_adopted_and_the_check_is_green(stack)
    check_names_each_capability_that_is_missing(stack)
    submissions_are_purged_through_the_worker(scene)
    outputs_of_both_users_are_purged_through_the_worker(scene)
    evidence_belongs_to_the_application(scene)
    containers_are_removed_through_the_worker(stack)
    proxy_lets_the_jobs_requests_through_and_no_other(stack)
    killed_worker_comes_back_and_so_does_its_run(scene)

    operator.run(f'(cd "$VALIDIBOT" && just self-hosted up); VERSION=v0.16.4 BACKUP={backup}')
    assert handover.started() == OTHERS
    is_green(page.follow("just self-hosted upgrade"))
    watch_has_no_complaint(stack)
    page.follow("just self-hosted backup")
    assert handover.started() == OTHERS
    handover.is_complete()
    is_green(page.follow("just self-hosted restore"))
    assert handover.started() == OTHERS
    assert all(count <= at_backup[name] for name, count in handover.counts().items())
    handover.is_complete()
    page.follow("Going back")
    assert handover.started() == EIGHT | OTHERS
    handover.is_undone()
    page.end()

    docker_pool_runs_cancels_and_brings_back(stack, scene.application)
    assert shown(stack, [*stack.secrets.values(), scene.application.secret]) == []
    nothing_is_left_but_what_is_validibots(scene)
    demo_of_the_guide_works(stack.client, compose_command() or [], stack.image)


def what_is_backed_up(operator: Shell) -> str:
    said = operator.run('(cd "$VALIDIBOT" && just self-hosted backup)')
    (backup,) = re.findall("^Backup root: (.+)$", said, re.MULTILINE)
    return str(backup)


def is_green(said: str) -> None:
    """The check, in what a block has printed."""
    assert not re.search(r"^error ", said, re.MULTILINE)
    assert re.search(r"^ok +Celery Beat ", said, re.MULTILINE)


def settings_are_written(scene: Scene) -> None:
    """By the page: all of them. Then the tests put theirs over some of them."""
    written = scene.stack.configure()
    assert {name for name, value in written.items() if not value} == set()
    assert written["DOCKER_SOCKET"] == engine_socket()
    assert scene.stack.secrets["validibot-database-url"].endswith("@postgres:5432/validibot")
    assert Path(written["VALIDIBOT_ENV_FILE"]).is_file()


def edited_schedule_is_imported(stack: Stack) -> None:
    found = stack.ask("GET", f"/deployments/name/clear-sessions/{DEPLOYMENT}")
    (schedule,) = (one["schedule"] for one in found["schedules"])
    assert (schedule["cron"], schedule["timezone"]) == ("15 2 * * *", "Europe/Berlin")


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


def watch_has_no_complaint(stack: Stack) -> None:
    watched = f"ok: {len(JOBS)} jobs watched"
    wait_for(lambda: watched in stack.logs() or None, HEALTHY_SECONDS, "the watch", stack)


def image_tells_nothing_and_services_have_no_more_rights_than_they_need(stack: Stack) -> None:
    layers = json.dumps(stack.history())
    assert "prefect" in layers
    assert "PIP_" not in layers
    assert "http" not in layers.replace("http.client", "")
    compiled = "import os, prefect, flows.jobs as f; print(prefect.__cached__, f.__cached__)"
    for path in stack.python("server", compiled).split():
        assert path.endswith(".pyc")
        stack.python("server", "import os, sys; os.stat(sys.argv[1])", path)
    who = "import os; print(os.getuid(), os.getgid(), os.access(os.getcwd(), os.W_OK))"
    assert stack.python("server", who) == "1000 1000 False"
    assert stack.python("worker", who) == "0 0 False"
    for service, rights in (("server", 0), ("watch", READING), ("worker", sum(OF_WORKER))):
        assert int(stack.python(service, RIGHTS)) == rights
        for place in ("/", "/opt/validibot-maintenance", "/etc"):
            assert stack.python(service, WRITING, place) == "Read-only file system"
        assert stack.python(service, WRITING, TMP) == "written"
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
    assert status("GET", "/api/admin/version").startswith("401 ")
    assert status("POST", "/api/deployments/filter").startswith("403 ")  # It lacks a token, too.
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


def roots_are_adopted_and_the_check_is_green(stack: Stack) -> None:
    before = tree(stack)
    findings = json.loads(maintenance(stack, "check", "--json"))
    errors = [one for one in findings["checks"] if one["level"] == "error"]
    assert (findings["ok"], errors) == (True, [])
    levels = {one["name"]: one["level"] for one in findings["checks"]}
    names = [name for name in levels if name.startswith("storage ")]
    assert {f"storage {root}{what}" for root in ROOTS for what in ("", *WHAT)} == set(names)
    assert {levels[name] for name in names} == {"ok"}
    assert levels["container engine"] == levels["grants"] == levels["worker"] == "ok"
    assert tree(stack) == before


def check_names_each_capability_that_is_missing(stack: Stack) -> None:
    """In a container that is like the worker's, but for one capability."""
    for missing in NUMBERS:
        said = run_once(
            stack.client,
            stack.image,
            ["python", "-m", "maintenance", "check", "--json"],
            expected=1,
            environment={"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "HOME": TMP},
            binds=[f"{STORAGE}:/app/storage"],
            cap_drop=["ALL"],
            cap_add=[one for one in NUMBERS if one != missing],
            security_opt=["no-new-privileges:true"],
        )
        (line,) = (line for line in said.splitlines() if line.startswith('{"ok"'))
        levels = {one["name"]: one for one in json.loads(line)["checks"]}
        found = levels["storage private rights"]
        assert found["level"] == "error", found
        assert f"user 0 lacks {missing}: " in found["text"]
        assert f"files of user {DJANGO}" in found["text"]
    assert not [name for name in tree(stack) if PREFIX in name]


def submissions_are_purged_through_the_worker(scene: Scene) -> None:
    stack, select = scene.stack, scene.application.sql
    purged = set(select(PURGED))
    due, in_use = (set(select(f"SELECT id {which}")) for which in (DUE, IN_USE))
    gone, kept = (
        {f"private/{key}" for key in select(f"SELECT input_file {which} AND input_file <> ''")}
        for which in (DUE, IN_USE)
    )
    assert due
    assert in_use
    assert gone
    before = tree(stack)
    assert before.keys() >= gone | kept
    assert {before[name] for name in gone} == {(DJANGO, DJANGO, 0o644)}

    run = finished(stack, "purge-expired-submissions", {})

    assert set(select(PURGED)) == purged | due
    assert set(select(f"SELECT id {IN_USE}")) == in_use
    assert tree(stack).keys() & (gone | kept) == kept
    assert run["state"]["message"].startswith(f"{len(due):,} of {len(due):,} done")


def outputs_of_both_users_are_purged_through_the_worker(scene: Scene) -> None:
    stack, select = scene.stack, scene.application.sql
    purged, before = set(select(STAMPED)), tree(stack)
    run = finished(stack, "purge-expired-outputs", {})
    now, after = set(select(STAMPED)) - purged, tree(stack)
    made = {name: owner for name, owner in before.items() if bundle(name) in now}
    # Nobody but root, or the two users together, can delete these.
    outputs = [name for name in made if re.search("/attempts/[^/]+/output$", name)]
    assert len(outputs) > 1
    for name in outputs:
        assert made[name] == (DJANGO, DJANGO, 0o1777)
        assert made[f"{name}/outputs"] == (VALIDATOR, VALIDATOR, 0o755)
        assert made[f"{name}/outputs/result.json"] == (VALIDATOR, VALIDATOR, 0o644)
    assert [name for name in made if name in after] == []
    others = [name for name in before if bundle(name) and name not in made]
    assert [name for name in others if after.get(name) != before[name]] == []
    assert others
    assert run["state"]["message"].startswith(f"{len(now):,} of {len(now):,} done")


def evidence_belongs_to_the_application(scene: Scene) -> None:
    stack, before = scene.stack, tree(scene.stack)
    finished(stack, "cleanup-stuck-runs", {})
    after = tree(stack)
    made = {name: owner for name, owner in after.items() if name not in before}
    files = {name for name in made if name.endswith(".json")}
    assert files
    assert all(name.startswith("private/evidence/") for name in made)
    for name, (user, group, mode) in made.items():
        above = after[name.rpartition("/")[0]]
        assert above == (DJANGO, DJANGO, 0o755)
        assert (user, group, mode) == (DJANGO, DJANGO, 0o644 if name in files else 0o755), name
    # The application reads its own evidence, and can delete it.
    web = scene.application
    web.python("web", READ_AND_DELETE, min(files), user=str(DJANGO))


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


def killed_worker_comes_back_and_so_does_its_run(scene: Scene) -> None:
    stack, select = scene.stack, scene.application.sql
    late, live = set(select(LATE)), set(select(LIVE))
    run = stack.run(f"clear-sessions/{DEPLOYMENT}", {"batch_size": 2})
    wait_for(lambda: set(select(LATE)) < late or None, RUN_SECONDS, "a deletion", stack)
    worker = stack.containers()["worker"]
    # From outside, as a power cut does: an order to Docker would count as the operator's wish.
    stack.from_host(f"import os; os.kill({worker['State']['Pid']}, 9)", pid_mode="host")
    left = set(select(LATE))
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
    assert set(select(LATE)) == set()
    assert set(select(LIVE)) == live
    again = stack.containers()["worker"]
    assert (again["Id"], again["RestartCount"]) == (worker["Id"], 1)


def nothing_is_left_but_what_is_validibots(scene: Scene) -> None:
    stack, application = scene.stack, scene.application
    assert stack.left() > RUNNING
    left = application.left()
    stack.compose("down", "--volumes")
    assert stack.left() == set()
    assert application.left() == left
    assert {one["State"]["Status"] for one in application.containers().values()} == {"running"}


def maintenance(stack: Stack, *arguments: str) -> str:
    """Run a command of this project in the worker, as an operator does."""
    command = ["python", "-m", "maintenance", *arguments]
    return execute(stack.client, stack.container("worker"), command)


def tree(stack: Stack) -> dict[str, tuple[int, int, int]]:
    """All that is in the storage: owner, group and mode."""
    found = json.loads(stack.python("worker", TREE))
    return {name: tuple(status) for name, status in found.items()}


def bundle(name: str) -> str:
    """The run to whose bundle a name belongs; empty for other names."""
    match = re.match("(?:private|public/files)/runs/[^/]+/([^/]+)", name)
    return match[1] if match else ""


def finished(stack: Stack, job: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a job, again when another run of it is in the way; return the run."""
    for _ in range(ATTEMPTS):
        run = stack.wait_for_run(stack.run(f"{job}/{DEPLOYMENT}", parameters), RUN_SECONDS)
        if run["state_type"] != "CANCELLED":
            assert run["state_type"] == "COMPLETED", run["state"]
            return run
    raise AssertionError(f"another run of {job} was always in the way")
