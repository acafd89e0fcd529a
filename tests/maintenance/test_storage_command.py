"""`python -m maintenance storage adopt`, and what `check` says of the markers (SPEC 10.1)."""

import shutil
from pathlib import Path

import pytest

from maintenance import settings as settings_module
from maintenance.checks.finding import Severity, carry_out
from maintenance.checks.storage import storage_checks
from maintenance.cli import main
from maintenance.settings import Settings
from maintenance.storage.marker import MARKER
from tests.support.markers import marker
from tests.support.validibot import Validibot

PRIVATE, PUBLIC = "storage private marker", "storage public marker"


@pytest.fixture
def unmarked(validibot: Validibot, environment: Settings) -> Validibot:
    for name in ("private", "public"):
        (validibot.root / name / MARKER).unlink()
    return validibot


def name_files(app: Validibot, found: int, lost: int = 0) -> None:
    for number in range(found + lost):
        app.submission(input_file=f"submissions/{number}")
        if number < found:
            app.file(f"submissions/{number}")


def marked(app: Validibot) -> set[str]:
    return {path.parent.name for path in app.root.rglob(MARKER)}


def adopt(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str], str]:
    status = main(["storage", "adopt", *options])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def checked() -> dict[str, tuple[Severity, str, str]]:
    found = carry_out(storage_checks(settings_module.settings()))
    return {one.name: (one.level, one.text, one.action) for one in found}


def test_10_1_an_operator_adopts_a_storage_with_few_files(
    unmarked: Validibot, capsys: pytest.CaptureFixture[str]
) -> None:
    name_files(unmarked, 3)
    private = f"storage root {unmarked.root}/private has no marker ({MARKER})"
    public = f"storage root {unmarked.root}/public has no marker ({MARKER})"
    counted = "3 of 3 submission files found"
    status, lines, errors = adopt(capsys, "--dry-run")
    assert (status, errors) == (0, "")
    assert lines == [
        f"{private}; {counted}: would be adopted",
        f"{public}; no row names a file in it: would be adopted",
    ]
    assert marked(unmarked) == set()
    status, lines, _ = adopt(capsys)
    assert (status, lines[0]) == (0, f"{private}; {counted}: adopted")
    assert marked(unmarked) == {"private", "public"}
    _, lines, _ = adopt(capsys)
    assert lines[0] == f"storage root {unmarked.root}/private: adopted before"


def test_10_1_a_storage_without_the_named_files_takes_force(
    unmarked: Validibot, capsys: pytest.CaptureFixture[str]
) -> None:
    name_files(unmarked, 2, 1)
    status, lines, errors = adopt(capsys)
    assert status == 1
    assert lines[0].endswith("2 of 3 submission files found: refused")
    assert lines[1].endswith(": not adopted")
    assert "nothing was adopted" in errors
    assert marked(unmarked) == set()
    assert adopt(capsys, "--force")[0] == 0
    assert marked(unmarked) == {"private", "public"}


def test_10_1_another_applications_storage_takes_force(
    validibot: Validibot, environment: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    other = marker("private", "private", "public", application="0" * 64)
    path = validibot.root / "private" / MARKER
    path.write_bytes(other)
    assert adopt(capsys)[0] == 1
    assert path.read_bytes() == other
    assert adopt(capsys, "--force")[0] == 0
    assert path.read_bytes() == marker("private", "private", "public")


def test_10_1_a_public_root_that_was_given_up_takes_force(
    validibot: Validibot, environment: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(validibot.root / "public")
    assert adopt(capsys)[0] == 1
    status, lines, _ = adopt(capsys, "--force")
    assert status == 0
    assert lines[1].endswith(
        "is missing, and was there before; no row names a file in it: accepted as absent"
    )
    assert checked()[PUBLIC][:2] == (
        Severity.OK,
        f"storage root {validibot.root}/public is absent, and was never used",
    )


def test_10_1_a_missing_root_is_one_clear_line(
    validibot: Validibot, environment: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(validibot.root / "private")
    status, lines, errors = adopt(capsys)
    assert (status, lines) == (1, [])
    assert errors.startswith("python -m maintenance: storage root ")
    assert len(errors.splitlines()) == 1


def test_10_1_the_preflight_says_of_each_root_whether_it_is_known(
    validibot: Validibot, environment: Settings
) -> None:
    assert {name: checked()[name][:2] for name in (PRIVATE, PUBLIC)} == {
        f"storage {name} marker": (
            Severity.OK,
            f"storage root {validibot.root}/{name} is adopted by this application",
        )
        for name in ("private", "public")
    }


@pytest.mark.parametrize(("found", "level"), [(0, "warning"), (20, "warning"), (3, "error")])
def test_10_1_the_preflight_says_what_becomes_of_a_root_without_a_marker(
    unmarked: Validibot, found: int, level: str
) -> None:
    name_files(unmarked, found)
    private = checked()[PRIVATE]
    assert str(private[0]) == level
    assert "has no marker" in private[1]
    assert "python -m maintenance storage adopt" in private[2]
    assert marked(unmarked) == set()


def test_10_1_the_preflight_says_when_a_root_is_anothers_or_missing(
    validibot: Validibot, environment: Settings
) -> None:
    path = validibot.root / "private" / MARKER
    path.write_bytes(marker("private", application="0" * 64))
    private = checked()[PRIVATE]
    assert private[0] is Severity.ERROR
    assert "belongs to another application" in private[1]
    path.write_bytes(marker("private", "private", "public"))
    shutil.rmtree(validibot.root / "public")
    public = checked()[PUBLIC]
    assert public[0] is Severity.ERROR
    assert "is missing, and was there before" in public[1]
    Path(validibot.root / "public").symlink_to("nowhere")
    found = checked()
    assert found["storage public"][0] is Severity.ERROR
    assert "leads nowhere" in found["storage public"][1]
