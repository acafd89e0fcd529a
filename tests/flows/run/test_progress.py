"""A long run shows how far it has come (SPEC 9)."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from demo.servers import PrefectServer
from flows.jobs import JOBS
from flows.run.progress import CLEAR, Progress
from maintenance.cutoff import Cutoff
from maintenance.errors import StatementTimeout
from maintenance.report import Overdue, Report
from maintenance.settings import Settings
from tests.support.commands import without_prefect
from tests.support.prefect_server import ask, settings_of
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

CUTOFF = Cutoff(NOW, NOW)


def report(**values: Any) -> Report:
    return Report(**{"job": "a-job", "dry_run": False, "as_of": NOW, **values})


@pytest.mark.parametrize(
    ("values", "overdue", "line"),
    [
        (
            {"selected": 120_000},
            Overdue(rows=880_000, estimated=True),
            "a-job: 120,000 items, 12,000/s, about 880,000 remaining, ETA 73 seconds",
        ),
        (
            {"selected": 120_000, "dry_run": True},
            Overdue(rows=1_000_000),
            "a-job: 120,000 items, 12,000/s, 880,000 remaining, ETA 73 seconds",
        ),
        ({"selected": 1}, None, "a-job: 1 item, 6.0 a minute"),
        ({"selected": 0}, Overdue(rows=5), "a-job: 0 items, 0.0 a minute, 5 remaining"),
    ],
)
def test_9_the_line_has_done_rate_remaining_and_the_time_left(
    values: dict[str, Any], overdue: Overdue | None, line: str
) -> None:
    progress = Progress("a-job", CUTOFF, lambda *_: overdue, long_seconds=0)
    progress.update(report(**values))
    assert progress.text(report(**values), 10.0) == line


def test_9_what_is_left_is_counted_once_and_only_by_a_long_run() -> None:
    counted: list[Cutoff] = []

    def count(cutoff: Cutoff, _job: str) -> Overdue:
        counted.append(cutoff)
        return Overdue(rows=1)

    Progress("a-job", CUTOFF, count).update(report(selected=1))
    assert counted == []
    long = Progress("a-job", CUTOFF, count, long_seconds=0)
    for number in range(3):
        long.update(report(selected=number))
    assert counted == [CUTOFF]


def test_9_a_count_that_fails_does_not_fail_the_run() -> None:
    def count(_cutoff: Cutoff, _job: str) -> Overdue:
        raise StatementTimeout("too slow")

    progress = Progress("a-job", CUTOFF, count, long_seconds=0)
    progress.update(report(selected=1))
    progress.end(report(selected=1))
    assert progress.text(report(selected=60), 1.0) == "a-job: 60 items, 60/s"


def test_9_every_job_counts_what_is_left(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def update(progress: Progress, _report: Report) -> None:
        seen[progress.job] = progress.count

    monkeypatch.setattr(Progress, "update", update)
    for name in ("clear-sessions", "purge-expired-submissions", "cleanup-stuck-runs"):
        run(JOBS[name].flow, as_of=NOW)
        assert seen[name] is JOBS[name].count_overdue


def test_9_on_a_terminal_one_line_is_rewritten_and_cleared_at_the_end(
    environment: Settings, validibot: Validibot
) -> None:
    validibot.session(NOW - DAY)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "clear-sessions"],
        env=without_prefect(),
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other side is closed
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    assert process.wait(60) == 0
    said = shown.decode()
    assert re.search(r"\r\x1b\[Kclear-sessions: 1 item, [0-9.,]+(/s| a minute)\r\x1b\[K", said)
    assert "so far" not in said
    assert "1 of 1 done" in said.rpartition(CLEAR)[2]


@flow
def progressing() -> None:
    progress = Progress("a-job", CUTOFF, lambda *_: Overdue(rows=3), long_seconds=0)
    progress.update(report(selected=1, done=1))
    progress.update(report(selected=2, done=2))
    progress.end(report(selected=4, done=4))


def test_9_on_a_server_a_long_run_has_a_progress_artifact(prefect_server: PrefectServer) -> None:
    since = datetime.now(UTC)
    with temporary_settings({**settings_of(prefect_server), PREFECT_LOGGING_TO_API_ENABLED: False}):
        progressing()
    query = {"artifacts": {"key": {"any_": ["a-job-progress"]}}}
    (artifact,) = ask(prefect_server, "POST", "/artifacts/filter", query)
    assert artifact["type"] == "progress"
    assert json.loads(json.dumps(artifact["data"])) == 100.0
    assert artifact["description"] == "4 of 4 done"
    assert datetime.fromisoformat(artifact["created"]) >= since
