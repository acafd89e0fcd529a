"""The jobs at a glance: what the server knows, and what the database holds."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.servers import PrefectServer
from flows.jobs import JOBS
from maintenance import settings as settings_module
from maintenance.cli import main
from maintenance.settings import Settings
from tests.support.jobs_on_server import make_run
from tests.support.prefect_server import edit_schedule
from tests.support.validibot import Validibot

DAY = timedelta(days=1)

pytestmark = pytest.mark.slow


def test_every_job_is_shown_with_its_schedule_its_runs_and_its_backlog(
    restored: PrefectServer,
    environment: Settings,
    validibot: Validibot,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = datetime.now(UTC)
    validibot.session(now - 3 * DAY)
    validibot.session(now - DAY)
    validibot.session(now + DAY)
    validibot.submission(expires_at=now - DAY)
    edit_schedule(restored, "purge-expired-outputs", {"active": False})
    started = make_run(restored, "clear-sessions", "COMPLETED", message="1 of 1 done")
    failed = make_run(restored, "clear-sessions", "FAILED", message="no luck")
    before = validibot.snapshot()
    assert main(["status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(["status"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert validibot.snapshot() == before

    assert said["problems"] == []
    jobs = {one["job"]: one for one in said["jobs"]}
    assert list(jobs) == list(JOBS)
    assert {name: one["schedule"] for name, one in jobs.items()} == {
        name: f"{job.schedule} UTC" for name, job in JOBS.items()
    }
    off = {"purge-expired-outputs", "reclaim-residue"}
    assert {name for name, one in jobs.items() if one["paused"]} == off
    assert {name for name, one in jobs.items() if one["next_run"] is None} == off
    clear = jobs["clear-sessions"]
    last = clear["last_run"]
    assert (last["state"], last["message"]) == ("Failed", "no luck")
    assert last["started"] == failed.isoformat()
    assert clear["last_success"] == started.isoformat()
    overdue = {name: one["overdue"] and one["overdue"]["rows"] for name, one in jobs.items()}
    assert overdue == dict.fromkeys(JOBS, 0) | {
        "clear-sessions": 2,
        "purge-expired-submissions": 1,
        "cleanup-orphaned-containers": None,
        "reclaim-residue": None,
    }
    assert 3 * 86_400 <= clear["overdue"]["oldest_age_seconds"] < 3 * 86_400 + 600

    assert table[0].split() == [
        *("job", "schedule", "paused", "last", "run", "result", "next", "run", "overdue", "oldest")
    ]
    assert len(table) == 1 + len(JOBS)
    (row,) = (line for line in table if line.startswith("clear-sessions "))
    cells = re.split(" {2,}", row)
    assert cells[:5] == [
        *("clear-sessions", "0 2 * * * UTC", "no", f"{failed:%Y-%m-%d %H:%M}", "Failed")
    ]
    assert cells[6] == "2"
    assert cells[7] == "3 days"


def test_what_cannot_be_asked_is_told_beside_what_can(
    environment: Settings,
    validibot: Validibot,
    monkeypatch: pytest.MonkeyPatch,
    deployed: PrefectServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    validibot.session(datetime.now(UTC) - DAY)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert main(["status", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert {one["deployed"] for one in said["jobs"]} == {None}
    assert {one["overdue"]["rows"] for one in said["jobs"] if one["overdue"]} == {0, 1}
    assert len(said["problems"]) == 1

    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hidden-password@127.0.0.1:1/x")
    settings_module.settings.cache_clear()
    assert main(["status"]) == 1
    out, err = capsys.readouterr()
    assert "0 2 * * * UTC" in out
    assert "what is overdue of any job cannot be counted: " in err
    assert "hidden-password" not in out + err
