"""`python -m deployments` against a real server."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, redirect_stdout
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.environment import PROJECT, clean_environment
from demo.processes import wait_until
from demo.servers import PrefectServer
from deployments import watch
from deployments.__main__ import main
from deployments.monitoring.problems import Reported
from deployments.names import DEPLOYMENT, PREFECT_FILE, WORK_POOL
from deployments.setup.changes import Changes
from deployments.setup.conflicts import APPROVAL_NEEDED
from deployments.setup.declared import read_declared
from deployments.setup.deployment import deploy
from deployments.setup.last_applied import LastApplied
from flows.jobs import JOBS
from maintenance.settings import Settings
from tests.support.memory import temporary_folder
from tests.support.prefect_server import (
    ask,
    automations,
    coming_runs,
    deployments,
    edit_schedule,
    everything,
    schedules,
    settings_of,
)
from tests.support.refusing import refusing

APPLY_SECONDS = 90
NOTHING = "Changed: nothing"
SCHEDULER = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5"}
"""After an edit in the UI Prefect makes new runs within a minute; the tests do not wait so long."""
RERUN = "Maintenance: start crashed runs again"
LOST = "Maintenance: mark silent runs as crashed"
EVENTS = {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "0.5"}
"""Seconds until an event can be read; five by default."""
EVENT_SECONDS = 60.0
NEEDED = "needs your approval: "

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("servers that are set up"),
]


@pytest.fixture(scope="module")
def prefect() -> Iterator[PrefectServer]:
    with temporary_folder() as name:
        home = Path(name)
        environment = clean_environment(os.environ, home) | SCHEDULER | EVENTS
        with PrefectServer(home, home, environment) as running:
            running.wait_until_ready()
            yield running


def apply(prefect: PrefectServer, *options: str, **variables: str) -> str:
    """Do what the command does; return what it says."""
    return apply_at(prefect, prefect.client_settings["PREFECT_API_URL"], *options, **variables)


def apply_at(prefect: PrefectServer, address: str, *options: str, **variables: str) -> str:
    """Do it at another address of the server."""
    with pytest.MonkeyPatch.context() as patch, io.StringIO() as said:
        for name, value in variables.items():
            patch.setenv(name, value)
        with (
            temporary_settings({**settings_of(prefect), PREFECT_API_URL: address}),
            redirect_stdout(said),
        ):
            assert main(options) == 0
        return said.getvalue()


def run(prefect: PrefectServer, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=clean_environment(os.environ, cwd) | prefect.client_settings,
        capture_output=True,
        text=True,
        timeout=APPLY_SECONDS,
        check=False,
    )


def prefect_deploy(prefect: PrefectServer) -> None:
    done = run(prefect, PROJECT, "prefect", "--no-prompt", "deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr


def line_of(said: str, start: str) -> str:
    (line,) = (line for line in said.splitlines() if line.strip().startswith(start))
    return line


def with_defaults(tmp_path: Path, changed: dict[str, str]) -> str:
    """Return the path of a prefect.yaml in which jobs have another default cron line."""
    text = PREFECT_FILE.read_text()
    for slug, cron in changed.items():
        was = f'slug: {slug}, cron: "{JOBS[slug].schedule}"'
        assert was in text
        text = text.replace(was, f'slug: {slug}, cron: "{cron}"')
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    return str(path)


def test_the_first_apply_sets_everything_up_and_the_second_changes_nothing(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    empty = everything(prefect)
    forecast = apply(prefect, "--dry-run")
    assert everything(prefect) == empty
    done = run(prefect, tmp_path, "deployments")  # from any folder
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout
    assert said.replace("Changed:", "Would change:").startswith(forecast.strip())
    for name, job in JOBS.items():
        line = line_of(said, f"{name}/{DEPLOYMENT}  ")
        next_run = "yes none" if job.off_at_first else "no 20"
        assert f"{job.schedule} UTC prefect.yaml {next_run}" in " ".join(line.split())
        assert job.off_at_first or line.endswith(" UTC")
    assert prefect.api.has_work_pool(WORK_POOL)
    assert {
        name: [one["enabled"] for one in found] for name, found in automations(prefect).items()
    } == {
        LOST: [True],
        RERUN: [True],
        "Maintenance: e-mail (example)": [False],
        "Maintenance: Slack (example)": [False],
        "Maintenance: webhook (example)": [False],
    }
    before, coming = everything(prefect), coming_runs(prefect)
    assert coming
    assert apply(prefect).startswith(NOTHING)
    assert everything(prefect) == before
    assert coming <= coming_runs(prefect)  # not even they were made anew


def test_prefect_deploy_alone_makes_the_same_deployments(prefect: PrefectServer) -> None:
    apply(prefect)
    prefect_deploy(prefect)
    assert {name: len(found) for name, found in schedules(prefect).items()} == dict.fromkeys(
        JOBS, 1
    )
    assert apply(prefect).startswith(NOTHING)


def test_what_operators_changed_survives_and_a_changed_default_reaches_the_others(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    apply(prefect)
    cron = {"cron": "30 * * * *", "timezone": "UTC", "day_or": True}
    edit_schedule(prefect, "purge-expired-submissions", {"schedule": cron})
    zone = {"cron": "0 * * * *", "timezone": "Europe/Vienna", "day_or": True}
    edit_schedule(prefect, "purge-expired-outputs", {"schedule": zone})
    edit_schedule(prefect, "process-purge-retries", {"active": False})
    found = deployments(prefect)
    keys, receipts = found["cleanup-idempotency-keys"], found["cleanup-callback-receipts"]
    added = {"cron": "0 15 * * *", "timezone": "UTC", "day_or": True}
    ask(
        prefect,
        "POST",
        f"/deployments/{keys['id']}/schedules",
        [{"schedule": added, "active": True}],
    )
    ask(
        prefect,
        "DELETE",
        f"/deployments/{receipts['id']}/schedules/{receipts['schedules'][0]['id']}",
    )
    ask(prefect, "PATCH", f"/deployments/{keys['id']}", {"parameters": {"batch_size": 7}})
    (rerun,), (lost,) = automations(prefect)[RERUN], automations(prefect)[LOST]
    ask(prefect, "PATCH", f"/automations/{rerun['id']}", {"enabled": False})
    copied = {name: lost[name] for name in ("name", "trigger", "actions")}
    ask(prefect, "POST", "/automations/", copied)
    edited = schedules(prefect)

    defaults = with_defaults(
        tmp_path,
        {
            "clear-sessions": "15 2 * * *",
            "purge-expired-submissions": "20 * * * *",
            "process-purge-retries": "*/6 * * * *",
        },
    )
    before = everything(prefect)
    forecast = apply(prefect, "--dry-run", "--prefect-file", defaults)
    assert everything(prefect) == before

    said = apply(prefect, "--prefect-file", defaults)
    expected = edited | {
        "clear-sessions": [("15 2 * * *", "UTC", True)],
        "process-purge-retries": [("*/6 * * * *", "UTC", False)],
    }
    assert schedules(prefect) == expected
    assert expected["cleanup-callback-receipts"] == []
    assert len(expected["cleanup-idempotency-keys"]) == 2
    for told in (forecast, said):
        assert "an operator edited it" in line_of(told, "purge-expired-submissions/default: ")
        assert "an operator edited it" in line_of(told, "purge-expired-outputs/default: ")
        assert "an operator added it" in line_of(told, "cleanup-idempotency-keys/default: ")
        assert "an operator deleted it" in line_of(told, "cleanup-callback-receipts/default: ")
        assert "changed from 0 2 * * * UTC" in line_of(told, "clear-sessions/default: ")
    assert "  yes  " in line_of(said, "process-purge-retries/default  ")
    assert deployments(prefect)["cleanup-idempotency-keys"]["parameters"] == {"batch_size": 7}

    # The automations: one each by name, and off stays off.
    after = automations(prefect)
    assert [one["enabled"] for one in after[RERUN]] == [False]
    assert [one["enabled"] for one in after[LOST]] == [True]
    assert "an operator switched it off" in line_of(said, f"automation '{RERUN}'")
    assert apply(prefect, "--prefect-file", defaults).startswith(NOTHING)


def set_by_an_operator(prefect: PrefectServer) -> None:
    """Set parameters, pause two schedules, and give one parameters of its own."""
    keys = deployments(prefect)["cleanup-idempotency-keys"]
    ask(prefect, "PATCH", f"/deployments/{keys['id']}", {"parameters": {"batch_size": 7}})
    edit_schedule(prefect, "process-purge-retries", {"active": False})
    edit_schedule(prefect, "clear-sessions", {"active": False, "parameters": {"max_batches": 3}})


def what_an_operator_set(prefect: PrefectServer) -> dict[str, Any]:
    found = deployments(prefect)
    (sessions,) = found["clear-sessions"]["schedules"]
    (retries,) = found["process-purge-retries"]["schedules"]
    keys = found["cleanup-idempotency-keys"]
    return {
        "keys": keys["parameters"],
        "sessions": (sessions["active"], sessions["parameters"]),
        "retries": retries["active"],
    }


SET = {"keys": {"batch_size": 7}, "sessions": (False, {"max_batches": 3}), "retries": False}
UNDONE = [
    "cleanup-idempotency-keys/default: parameters batch_size=7 became (none)",
    "clear-sessions/default: parameters max_batches=3 of schedule clear-sessions became (none)",
]


def undone(said: str) -> list[str]:
    _, _, told = said.partition("Emptied, as `prefect deploy` does:\n")
    return sorted(line.strip() for line in told.partition("\n\n")[0].splitlines())[:-2]


def test_what_prefect_deploy_undoes_is_told_and_can_be_brought_back(
    prefect: PrefectServer,
) -> None:
    apply(prefect)
    set_by_an_operator(prefect)
    assert undone(apply(prefect)) == []
    assert what_an_operator_set(prefect) == SET
    prefect_deploy(prefect)
    without = what_an_operator_set(prefect)
    assert without == {"keys": {}, "sessions": (False, {}), "retries": False}
    for options in ((), ("--dry-run",), ("--dry-run", "--bring-back"), ()):
        said = apply(prefect, *options)
        if "--bring-back" not in options:
            assert undone(said) == UNDONE
            assert "to bring it back: python -m deployments --bring-back\n" in said
        assert what_an_operator_set(prefect) == without
    said = apply(prefect, "--bring-back")
    for text in UNDONE:
        assert f"{text}: brought back\n" in said
    assert what_an_operator_set(prefect) == SET
    assert apply(prefect).startswith(NOTHING)


def test_what_the_watch_saw_is_remembered_and_can_be_forgotten(
    environment: Settings, prefect: PrefectServer
) -> None:
    apply(prefect, "--forget")
    set_by_an_operator(prefect)
    with temporary_settings(settings_of(prefect)):
        watch.check(Reported(), datetime.now(UTC))
    prefect_deploy(prefect)
    with temporary_settings(settings_of(prefect)):
        watch.check(Reported(), datetime.now(UTC))  # does not take the new state for wanted
    assert undone(apply(prefect)) == UNDONE
    assert "Emptied" not in apply(prefect, "--forget")
    assert "Emptied" not in apply(prefect)


def test_reset_schedules_takes_the_files_and_leaves_what_is_paused(prefect: PrefectServer) -> None:
    apply(prefect)
    edit_schedule(prefect, "clear-sessions", {"active": False})
    cron = {"cron": "30 * * * *", "timezone": "UTC", "day_or": True}
    edit_schedule(prefect, "purge-expired-submissions", {"schedule": cron})
    outputs = deployments(prefect)["purge-expired-outputs"]
    path = f"/deployments/{outputs['id']}/schedules"
    ask(prefect, "DELETE", f"{path}/{outputs['schedules'][0]['id']}")
    ask(prefect, "POST", path, [{"schedule": cron, "active": True, "slug": "mine"}])
    paused = {name for name, found in schedules(prefect).items() if any(not x[2] for x in found)}
    assert "clear-sessions" in paused
    apply(prefect, "--reset-schedules")
    assert schedules(prefect) == {
        name: [(job.schedule, "UTC", name not in paused)] for name, job in JOBS.items()
    }
    assert apply(prefect).startswith(NOTHING)


def test_the_time_zone_of_daily_and_weekly_schedules_is_one_variable(
    prefect: PrefectServer,
) -> None:
    zone = "Europe/Vienna"
    apply(prefect, "--reset-schedules", MAINTENANCE_TIME_ZONE=zone)
    found = {one[:2] for each in schedules(prefect).values() for one in each}
    assert found == {
        # In UTC what starts at each hour: clocks that are set back would make a gap.
        (job.schedule, "UTC" if job.schedule.endswith(" * * * *") else zone)
        for job in JOBS.values()
    }
    apply(prefect)  # and back
    assert {one[1] for each in schedules(prefect).values() for one in each} == {"UTC"}


class Killed(BaseException):
    """What ends an apply in its middle."""


class KillAtFirstChange(Changes):
    """Ends the apply right after its first change, before anything is remembered of it."""

    def make(self, what: str, do: Callable[[], object]) -> None:
        super().make(what, do)
        raise Killed(what)


def test_an_apply_that_is_killed_after_any_change_loses_no_edit_and_is_completed_by_the_next(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    apply(prefect, "--reset-schedules")
    cron = {"cron": "30 * * * *", "timezone": "UTC", "day_or": True}
    edit_schedule(prefect, "purge-expired-submissions", {"schedule": cron})
    edit_schedule(prefect, "clear-sessions", {"active": True})
    defaults = {
        "purge-expired-submissions": "20 * * * *",
        "purge-expired-outputs": "10 * * * *",
        "clear-sessions": "15 2 * * *",
    }
    path = with_defaults(tmp_path, defaults)
    others = schedules(prefect)
    killed = []
    with temporary_settings(settings_of(prefect)), get_client(sync_client=True) as client:
        for _ in range(5):
            try:
                for one in read_declared(Path(path)):
                    deploy(client, one, LastApplied(client), KillAtFirstChange(), reset=False)
                break
            except Killed as error:
                killed.append(str(error))
            assert schedules(prefect)["purge-expired-submissions"] == [("30 * * * *", "UTC", True)]
    assert [one.partition("/")[0] for one in killed] == ["purge-expired-outputs", "clear-sessions"]
    assert apply(prefect, "--prefect-file", path).startswith(NOTHING)
    assert schedules(prefect) == others | {
        "purge-expired-outputs": [("10 * * * *", "UTC", True)],
        "clear-sessions": [("15 2 * * *", "UTC", True)],
    }


def reported(prefect: PrefectServer, since: datetime) -> list[dict[str, Any]]:
    """Return the events about conflicts, sorted by resource."""
    marker = f"test.{uuid4()}"
    now = datetime.now(UTC).isoformat()
    resource = {"prefect.resource.id": "test"}
    body = {"occurred": now, "event": marker, "resource": resource, "id": str(uuid4())}
    ask(prefect, "POST", "/events", [body])
    # What came before it has been stored when it has.
    wait_until(lambda: bool(stored(prefect, marker, since)), EVENT_SECONDS, "events", [])
    found = stored(prefect, APPROVAL_NEEDED, since)
    return sorted(found, key=lambda one: str(one["resource"]["prefect.resource.id"]))


def stored(prefect: PrefectServer, event: str, since: datetime) -> list[dict[str, Any]]:
    query = {"event": {"name": [event]}, "occurred": {"since": since.isoformat()}}
    found: list[dict[str, Any]]
    found = ask(prefect, "POST", "/events/filter", {"filter": query})["events"]
    return found


def edit_and_delete(prefect: PrefectServer) -> None:
    """Apply, then edit one schedule, delete another and pause a third."""
    apply(prefect, "--reset-schedules")
    cron = {"cron": "30 * * * *", "timezone": "UTC", "day_or": True}
    edit_schedule(prefect, "purge-expired-submissions", {"schedule": cron})
    edit_schedule(prefect, "clear-sessions", {"active": False})
    receipts = deployments(prefect)["cleanup-callback-receipts"]
    path = f"/deployments/{receipts['id']}/schedules/{receipts['schedules'][0]['id']}"
    ask(prefect, "DELETE", path)


def test_neither_an_edit_of_an_unchanged_default_nor_a_pause_nor_a_dry_run_reports_a_conflict(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    edit_and_delete(prefect)
    since = datetime.now(UTC)
    assert NEEDED not in apply(prefect)
    defaults = with_defaults(tmp_path, {"clear-sessions": "15 2 * * *"})
    assert NEEDED not in apply(prefect, "--prefect-file", defaults)
    changed = {"purge-expired-submissions": "20 * * * *"}
    defaults = with_defaults(tmp_path, changed)
    assert NEEDED in apply(prefect, "--dry-run", "--prefect-file", defaults)
    said = apply(prefect, "--dry-run", MAINTENANCE_TIME_ZONE="Europe/Vienna")
    assert f"{NEEDED}python -m deployments --reset-schedules\n" in said
    assert reported(prefect, since) == []


def test_a_conflict_is_reported_by_every_apply_until_the_new_default_is_taken(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    edit_and_delete(prefect)
    edited = schedules(prefect)
    since = datetime.now(UTC)
    changed = {"purge-expired-submissions": "20 * * * *", "cleanup-callback-receipts": "5 4 * * 0"}
    defaults = with_defaults(tmp_path, changed)
    command = f"python -m deployments --prefect-file {defaults} --reset-schedules"
    said = apply(prefect, "--prefect-file", defaults)
    receipts, submissions = events = reported(prefect, since)
    assert submissions["resource"] == {
        "prefect.resource.id": "validibot-maintenance.deployment.purge-expired-submissions",
        "prefect.resource.name": "purge-expired-submissions/default",
    }
    assert submissions["payload"] == {
        "what": "schedule purge-expired-submissions",
        "kept": "30 * * * * UTC",
        "offered": "20 * * * * UTC",
        "command": command,
    }
    assert receipts["payload"] == {
        "what": "schedule cleanup-callback-receipts",
        "kept": "deleted",
        "offered": "5 4 * * 0 UTC",
        "command": command,
    }
    lines = [line for line in said.splitlines() if NEEDED in line]
    first, second = (line.partition(" stays ")[2] for line in lines)
    edit, deletion = "an operator edited it", "an operator deleted it"
    assert first == f"30 * * * * UTC (here 20 * * * * UTC): {edit}; {NEEDED}{command}"
    assert second == f"deleted (here 5 4 * * 0 UTC): {deletion}; {NEEDED}{command}"

    # It is still a conflict, so it is reported again; the one that is settled by hand is not.
    cron = {"cron": "20 * * * *", "timezone": "UTC", "day_or": True}
    edit_schedule(prefect, "purge-expired-submissions", {"schedule": cron})
    again = apply(prefect, "--prefect-file", defaults)
    assert [line for line in again.splitlines() if NEEDED in line] == lines[1:]
    expected = sorted([*names(events), receipts["resource"]["prefect.resource.id"]])
    assert names(reported(prefect, since)) == expected

    # What the event says to do ends it.
    program, *options = shlex.split(receipts["payload"]["command"])[2:]
    assert program == "deployments"
    assert NEEDED not in apply(prefect, *options)
    assert NEEDED not in apply(prefect, "--prefect-file", defaults)
    assert names(reported(prefect, since)) == expected
    assert schedules(prefect) == edited | {
        job: [(cron, "UTC", True)] for job, cron in changed.items()
    }


def names(events: list[dict[str, Any]]) -> list[str]:
    return [one["resource"]["prefect.resource.id"] for one in events]


def deaf(prefect: PrefectServer) -> AbstractContextManager[str]:
    """Give an address of the server that takes everything but events."""
    return refusing(prefect.api.address, "/api/events", HTTPStatus.FORBIDDEN)


def test_an_event_that_cannot_be_sent_is_a_line_and_the_next_apply_sends_it(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    edit_and_delete(prefect)
    since = datetime.now(UTC)
    changed = {"purge-expired-submissions": "20 * * * *", "purge-expired-outputs": "10 * * * *"}
    defaults = with_defaults(tmp_path, changed)
    with deaf(prefect) as address:
        said = apply_at(prefect, f"{address}/api", "--prefect-file", defaults)
    line_of(said, "Could not send the events about conflicts: the server answered 403")
    assert NEEDED in said
    assert schedules(prefect)["purge-expired-outputs"] == [("10 * * * *", "UTC", True)]
    assert reported(prefect, since) == []
    assert "Could not send" not in apply(prefect, "--prefect-file", defaults)
    assert names(reported(prefect, since)) == [
        "validibot-maintenance.deployment.purge-expired-submissions"
    ]


def test_another_type_of_work_pool_is_one_variable_and_schedules_stay(
    prefect: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(prefect, "--reset-schedules")
    edit_schedule(prefect, "clear-sessions", {"active": False})
    before = schedules(prefect)
    own = {"MAINTENANCE_IMAGE": "own:1", "MAINTENANCE_SECRETS": "/srv/secrets"}
    for kind in ("docker", "kubernetes"):
        with pytest.raises(AssertionError):
            apply(prefect, MAINTENANCE_WORK_POOL_TYPE=kind)
        assert "delete it with `prefect work-pool delete maintenance`" in capsys.readouterr().err
        assert schedules(prefect) == before

        ask(prefect, "DELETE", f"/work_pools/{WORK_POOL}")
        said = apply(prefect, MAINTENANCE_WORK_POOL_TYPE=kind, **own)
        assert f"work pool maintenance of type {kind}: made" in said
        pool = ask(prefect, "GET", f"/work_pools/{WORK_POOL}")
        assert pool["type"] == kind
        template = pool["base_job_template"]
        assert '"own:1"' in json.dumps(template["job_configuration"])
        found = deployments(prefect).values()
        assert {one["work_pool_name"] for one in found} == {WORK_POOL}
        assert schedules(prefect) == before
        assert apply(prefect, **own).startswith(NOTHING)

        # What an operator writes into the template stays.
        template["variables"]["properties"]["env"]["default"]["MINE"] = "2"
        template = {"base_job_template": template}
        ask(prefect, "PATCH", f"/work_pools/{WORK_POOL}", template)
        assert "an operator edited its job template" in apply(prefect, **own)
        pool = ask(prefect, "GET", f"/work_pools/{WORK_POOL}")
        assert pool["base_job_template"] == template["base_job_template"]
