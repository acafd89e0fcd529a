"""A file name that attacks is harmless wherever a run shows or stores it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from maintenance import schema
from maintenance.report import Report
from maintenance.report_markdown import to_markdown
from maintenance.settings import Settings
from tests.support.commands import run_command, without_prefect
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

NAME = "a\x1b[31m\n[x](javascript:alert(1))<img src=x>\u202egnp.漢|"


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


@pytest.fixture
def blocked(validibot: Validibot) -> str:
    """The identifier of an expired submission with a directory where its file should be."""
    key = f"submissions/{NAME}"
    (validibot.root / "private" / key).mkdir(parents=True)
    return str(validibot.submission(input_file=key))


@pytest.fixture
def immutable(validibot: Validibot) -> Iterator[None]:
    """An expired run with a file in its bundle, of a name that is no UTF-8, that cannot go."""
    run_id = validibot.run(
        validibot.submission(expires_at=None),
        output_retention_policy="STORE_1_DAY",
        ended_at=NOW - 3 * DAY,
        output_expires_at=NOW - 2 * DAY,
    )
    bundle = validibot.bundle(run_id)
    bundle.mkdir(parents=True, exist_ok=True)
    path = os.fsencode(bundle) + b"/" + NAME.encode() + b"\xff"
    Path(os.fsdecode(path)).write_text("x")
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", path], check=False).returncode:
        pytest.skip("needs root and a file system with immutable files")
    yield
    subprocess.run([chattr, "-i", path], check=True)


def is_safe(text: str) -> bool:
    return text.isprintable() and "\n" not in text


def test_the_cause_is_safe_in_the_report_and_in_the_queue(
    validibot: Validibot, blocked: str
) -> None:
    report = run(purge_expired_submissions, as_of=NOW)
    (failure,) = report.failures
    assert failure.item == f"submission {blocked}"
    assert "is a directory where a file was expected" in failure.cause
    assert "\\x1b[31m" in failure.cause
    (queued,) = validibot.rows(schema.purge_retries).values()
    assert queued["last_error"] == failure.cause
    assert is_safe(failure.cause)


def test_a_name_in_a_bundle_is_safe_in_the_report_its_json_and_its_markdown(
    immutable: None,
) -> None:
    report = run(purge_expired_outputs, as_of=NOW)
    (failure,) = report.failures
    assert is_safe(failure.cause)
    assert "\\xff" in failure.cause
    assert Report.model_validate_json(report.model_dump_json()).failures == [failure]
    assert "\\[x\\](javascript:alert(1))&lt;img src=x>" in to_markdown(report)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.usefixtures("blocked")
def test_a_report_is_printed_in_every_encoding_of_the_terminal(
    encoding: str, options: list[str]
) -> None:
    done = run_command(
        "flows",
        *("purge-expired-submissions", *options),
        env=without_prefect(PYTHONIOENCODING=encoding),
        encoding=encoding,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    if options:
        assert "\\x1b" in json.loads(done.stdout)["failures"][0]["cause"]
    else:
        assert "is a directory where a file was expected" in done.stdout
