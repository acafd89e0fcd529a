"""A run stops at its time limit, and a process that hangs after it is killed (SPEC 10.14)."""

import signal
import time
from dataclasses import replace
from datetime import timedelta
from importlib import import_module

import pytest

from flows.jobs import JOBS
from flows.run.time_limit import KILL_AFTER
from maintenance.budget import Budget
from maintenance.report import StopReason
from maintenance.settings import Settings
from tests.support.commands import CODE, Command, without_prefect
from tests.support.hooks import STAMP, at_statement
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot

FLOW = JOBS["purge-expired-submissions"].flow
MODULE = import_module("flows.purge_expired_submissions")
HANGS = """
import os
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module

from flows.run import time_limit
from tests.support.hooks import STAMP, at_statement
from tests.support.runs import run

time_limit.KILL_AFTER = timedelta(seconds=0.5)
module = import_module("flows.purge_expired_submissions")
module.JOB = replace(module.JOB, time_limit=timedelta(seconds=3))
reading, _writing = os.pipe()


def hang(_):
    print("hangs", flush=True)
    os.read(reading, 1)


with at_statement(module.JOB.name, STAMP, hang):
    run(module.JOB.flow, as_of=datetime.fromisoformat(os.environ["AS_OF"]))
"""
END_SECONDS = 30.0


def test_10_14_the_limits_are_25_minutes_8_for_the_five_minute_job_and_5_more_until_the_kill() -> (
    None
):
    five_minutes = {name for name, job in JOBS.items() if job.schedule.startswith("*/5 ")}
    assert five_minutes == {"process-purge-retries"}
    for name, job in JOBS.items():
        minutes = 8 if name in five_minutes else 25
        assert job.time_limit == timedelta(minutes=minutes)
        assert job.time_budget < job.time_limit
    assert timedelta(minutes=5) == KILL_AFTER


def test_10_14_a_longer_time_budget_does_not_extend_the_limit() -> None:
    assert Budget(3_600.0, None, limit_seconds=0.0).exhausted_by == StopReason.TIME_LIMIT
    assert Budget(0.0, None, limit_seconds=3_600.0).exhausted_by == StopReason.TIME_BUDGET
    assert Budget(3_600.0, None, limit_seconds=3_600.0).exhausted_by is None


def test_10_14_a_run_at_its_limit_stops_after_its_batch(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = {validibot.submission() for _ in range(5)}
    limit = timedelta(seconds=2)
    monkeypatch.setattr(MODULE, "JOB", replace(MODULE.JOB, time_limit=limit))
    with at_statement(MODULE.JOB.name, STAMP, lambda _: time.sleep(limit.total_seconds())) as met:
        report = run(FLOW, as_of=NOW, batch_size=2, time_budget=3_600)
    assert len(met) == 1
    assert report.stopped_because is StopReason.TIME_LIMIT
    assert report.summary() == "2 of 2 done, stopped by time limit, 3 still overdue"
    monkeypatch.setattr(MODULE, "JOB", replace(MODULE.JOB, time_limit=timedelta(minutes=25)))
    assert run(FLOW, as_of=NOW).done == 3
    assert validibot.purged() == due


def test_10_14_a_process_that_hangs_after_its_limit_is_killed_and_the_next_run_does_the_work(
    environment: Settings, validibot: Validibot
) -> None:
    validibot.file("submissions/1.json")
    due = {validibot.submission(input_file="submissions/1.json"), validibot.submission()}
    process = Command(CODE, HANGS, env=without_prefect(AS_OF=NOW.isoformat()))
    said, errors = process.communicate(END_SECONDS)
    assert process.returncode == -signal.SIGKILL, said + errors
    assert said == "hangs\n"
    assert validibot.purged() == set()
    assert run(FLOW, as_of=NOW).done == len(due)
    assert validibot.purged() == due
