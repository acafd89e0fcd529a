"""When not one of many named files is found, the run stops (SPEC 10.1)."""

import shutil
from typing import Any

import pytest

from flows.jobs import JOBS
from maintenance import budget, schema
from maintenance.errors import StorageError
from maintenance.settings import Settings
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

JOB = "purge-expired-submissions"
SAID = r"not one of the \d+ files that rows of this run name was found"


@pytest.fixture(autouse=True)
def _environment(environment: Settings) -> None:
    """Every test here runs against its own database and storage."""


def purge(**parameters: Any) -> Any:
    return run(JOBS[JOB].flow, **{"as_of": NOW, **parameters})


def name_files(app: Validibot, lost: int, found: int = 0, **values: Any) -> None:
    for number in range(lost + found):
        key = f"submissions/{len(values)}/{number}.json"
        app.submission(input_file=key, **values)
        if number >= lost:
            app.file(key)


def test_10_1_a_run_that_finds_none_of_many_files_stops(validibot: Validibot) -> None:
    name_files(validibot, lost=20)
    for dry_run in (False, True):
        with pytest.raises(StorageError, match=SAID) as caught:
            purge(batch_size=50, dry_run=dry_run)
        assert "accept_missing_files" in str(caught.value)
    assert validibot.purged() == set()
    report = purge(batch_size=50, accept_missing_files=True)
    assert (report.done, report.files) == (20, 0)


@pytest.mark.parametrize(("lost", "found"), [(19, 0), (40, 1)])
def test_10_1_few_files_or_one_that_is_found_let_it_go_on(
    validibot: Validibot, lost: int, found: int
) -> None:
    name_files(validibot, lost, found)
    assert purge(batch_size=50).done == lost + found


def test_10_1_files_of_other_rows_beside_them_let_it_go_on(validibot: Validibot) -> None:
    """So it is after a crash between the deletion of files and the commit."""
    name_files(validibot, lost=30)
    name_files(validibot, lost=0, found=3, expires_at=NOW + DAY)
    assert purge(batch_size=50).done == 30


def test_10_1_a_folder_that_is_not_mounted_is_noticed_by_its_own_files(
    validibot: Validibot,
) -> None:
    """The folder may be a volume of its own below a root with its marker."""
    name_files(validibot, lost=0, found=30)
    for number in range(5):
        key = f"artifacts/{number}"
        validibot.file(key)
        kept = validibot.run(None)
        validibot.insert(
            schema.artifacts, validation_run_id=kept, org_id=validibot.org_id, file=key
        )
    shutil.rmtree(validibot.root / "private" / "submissions")
    with pytest.raises(StorageError, match=SAID):
        purge(batch_size=50)
    assert validibot.purged() == set()


def test_10_1_files_in_one_of_two_folders_prove_nothing_for_the_other(
    validibot: Validibot,
) -> None:
    name_files(validibot, lost=30)
    validibot.port_file(validibot.submission(), input_file="ports/lost")
    kept = validibot.submission(expires_at=NOW + DAY)
    validibot.port_file(kept, input_file="ports/kept")
    validibot.file("ports/kept")
    with pytest.raises(StorageError, match=SAID) as caught:
        purge(batch_size=50)
    assert " in submissions/;" in str(caught.value)
    assert validibot.purged() == set()


def test_10_1_the_files_of_all_slices_of_a_run_are_counted(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice without time has one batch."""
    monkeypatch.setattr(budget, "SLICE_SECONDS", 0.0)
    name_files(validibot, lost=40)
    with pytest.raises(StorageError, match=SAID):
        purge(batch_size=8)
    assert len(validibot.purged()) == 16
