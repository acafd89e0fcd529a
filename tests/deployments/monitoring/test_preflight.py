"""The whole preflight as an operator runs it, with a server that is set up and one that is not."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.environment import clean_environment
from demo.servers import PrefectServer
from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.setup.automations.rescue import RERUN
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.cli import main
from maintenance.settings import Settings
from tests.support.commands import run_fresh, without_prefect
from tests.support.jobs_on_server import heartbeat
from tests.support.prefect_server import ask, automations, edit_schedule, settings_of

OF_SERVER = ["Prefect server", "server's login", "work pool", "worker", "crash rescue"]
NAMES = [
    *("settings", "database", "Validibot's version", "tables and columns", "grants", "indexes"),
    *("continuations", "Celery Beat"),
    *("storage private", "storage private rights", "storage public", "storage public rights"),
    *("storage private marker", "storage public marker"),
    *("restore", "container engine", "schedules' settings"),
    *OF_SERVER,
    *(f"{job}/{DEPLOYMENT}" for job in JOBS),
]

pytestmark = pytest.mark.slow


def check(capsys: pytest.CaptureFixture[str], status: int) -> dict[str, tuple[str, str, str]]:
    """Run the preflight; return level, text and action by name."""
    assert main(["check", "--json"]) == status
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is (status == 0)
    return {one["name"]: (one["level"], one["text"], one["action"]) for one in said["checks"]}


def bad(found: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    return {name: level for name, (level, _, _) in found.items() if level != "ok"}


def test_all_is_well_and_every_line_says_so(
    environment: Settings, deployed: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    heartbeat(deployed, "one")
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(" {2,}", line, maxsplit=2)[:2] for line in lines] == [
        ["ok", name] for name in NAMES
    ]
    assert re.search(r"ok +clear-sessions/default +0 2 \* \* \* UTC, next run 20", lines[-2])
    assert re.search(r"ok +reclaim-residue/default +0 5 \* \* 0 UTC, off: runs by hand", lines[-1])
    found = check(capsys, 0)
    assert list(found) == NAMES
    assert not bad(found)


def test_what_operators_paused_is_a_warning_and_what_is_missing_an_error(
    environment: Settings, restored: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    heartbeat(restored, "one")
    job = "clear-sessions"
    (rerun,) = automations(restored)[RERUN]
    edit_schedule(restored, job, {"active": False})
    ask(restored, "PATCH", f"/automations/{rerun['id']}", {"enabled": False})
    found = check(capsys, 0)
    assert bad(found) == {"clear-sessions/default": "warning", "crash rescue": "warning"}
    resume = "python -m maintenance resume clear-sessions"
    assert found["clear-sessions/default"][2] == f"when the pause is over: {resume}"
    assert found["crash rescue"][1] == f"switched off: {RERUN}"


QUEUE = "work_pools/maintenance/queues/default"
POOL = "work_pools/maintenance"


@pytest.mark.parametrize(
    ("path", "change", "back", "said", "command"),
    [
        (POOL, {"is_paused": True}, {"is_paused": False}, "it is paused", "work-pool resume"),
        (
            *(POOL, {"concurrency_limit": 0}, {"concurrency_limit": None}),
            *("its concurrency limit is 0", "work-pool clear-concurrency-limit"),
        ),
        (
            *(QUEUE, {"is_paused": True}, {"is_paused": False}),
            *("work queue default is paused", "work-queue resume"),
        ),
        (
            *(QUEUE, {"concurrency_limit": 0}, {"concurrency_limit": None}),
            *("the concurrency limit of work queue default is 0", "work-queue clear-concurrency-"),
        ),
    ],
)
def test_a_pool_or_queue_in_which_no_run_starts_is_an_error_until_the_command_is_given(
    environment: Settings,
    deployed: PrefectServer,
    capsys: pytest.CaptureFixture[str],
    path: str,
    change: dict[str, object],
    back: dict[str, object],
    said: str,
    command: str,
) -> None:
    heartbeat(deployed, "one")
    ask(deployed, "PATCH", f"/{path}", change)
    try:
        found = check(capsys, 1)
        assert bad(found) == {"work pool": "error"}
        _, text, action = found["work pool"]
        assert text == f"maintenance, type process; no run starts: {said}"
        assert action.startswith(f"prefect {command}")
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(action)],
            env=without_prefect(**deployed.client_settings),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not bad(check(capsys, 0))
    finally:
        ask(deployed, "PATCH", f"/{path}", back)


def test_a_server_that_nothing_was_set_up_on(
    environment: Settings, prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings(settings_of(prefect_server)):
        found = check(capsys, 1)
    levels = {name: found[name][0] for name in NAMES[NAMES.index("Prefect server") :]}
    assert levels == {
        "Prefect server": "ok",
        "server's login": "ok",
        "work pool": "error",
        "worker": "warning",
        "crash rescue": "warning",
        **{f"{job}/{DEPLOYMENT}": "error" for job in JOBS},
    }
    assert found["clear-sessions/default"][2] == "set it up with: python -m deployments"


def test_a_work_pool_that_no_worker_serves_is_an_error(
    deployed: PrefectServer,
    environment: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heartbeat(deployed, "one")
    path = f"/work_pools/{WORK_POOL}/workers"
    for worker in ask(deployed, "POST", f"{path}/filter", {}):
        ask(deployed, "DELETE", f"{path}/{worker['name']}")
    found = check(capsys, 1)
    assert bad(found) == {"worker": "error"}
    assert found["worker"][1] == "none was ever seen, so no run starts"
    assert found["worker"][2] == "start one with: python -m deployments.worker"


def test_each_thing_that_is_away_is_an_error_of_its_own_and_tells_no_secret(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden-password@127.0.0.1:1/x")
    monkeypatch.setenv("STORAGE_ROOT", "/nonexistent")
    monkeypatch.setenv("DEPLOYMENT_TARGET", "self_hosted")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    settings_module.settings.cache_clear()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://u:hidden-password@127.0.0.1:{closed.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            found = check(capsys, 1)
    assert list(found) == NAMES
    errors = {name for name, level in bad(found).items() if level == "error"}
    assert errors == {"database", "storage private", "container engine", "Prefect server"}
    assert all(found[name][2] for name in errors), "what to do is said of each"
    assert "hidden-password" not in str(found)


def test_wrong_settings_are_named_and_do_not_hide_the_server(
    deployed: PrefectServer,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heartbeat(deployed, "one")
    monkeypatch.setenv("MAINTENANCE_BATCH_SIZE", "hidden-password")
    monkeypatch.setenv("MAINTENANCE_TIME_ZONE", "Nowhere/Land")
    settings_module.settings.cache_clear()
    found = check(capsys, 1)
    assert {name for name, level in bad(found).items() if level == "error"} == {
        "settings",
        "schedules' settings",
    }
    assert "MAINTENANCE_BATCH_SIZE" in found["settings"][1]
    assert "MAINTENANCE_TIME_ZONE" in found["schedules' settings"][1]
    assert "hidden-password" not in str(found)
    assert [found[name][0] for name in OF_SERVER] == ["ok"] * len(OF_SERVER)


def test_without_a_server_named_nothing_is_scheduled(environment: Settings, tmp_path: Path) -> None:
    """The command itself, as a process of its own."""
    address = environment.url.set(drivername="postgresql").render_as_string(hide_password=False)
    variables = {"DATABASE_URL": address, "STORAGE_ROOT": str(environment.storage_root)}
    given = clean_environment(os.environ, tmp_path) | variables | {"PREFECT_HOME": str(tmp_path)}
    done = run_fresh("maintenance", "check", cwd=tmp_path, env=given)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(NAMES)
    (error,) = (line for line in lines if line.startswith("error "))
    assert re.fullmatch("error +Prefect server +PREFECT_API_URL is not set, .*", error)


@pytest.mark.parametrize("options", [[], ["explode"], ["check", "--yaml"], ["status", "x"]])
def test_bad_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "usage: python -m maintenance" in capsys.readouterr().err
