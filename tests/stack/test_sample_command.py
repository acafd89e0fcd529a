"""`python -m demo.sample`, with which the stack's demo gets its data."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from demo.sample.__main__ import FAILED, OK, main
from maintenance.schema import submissions
from maintenance.settings import Settings
from maintenance.storage.marker import MARKER


def count(database: Engine) -> int:
    with database.connect() as connection:
        return connection.execute(select(func.count()).select_from(submissions)).scalar_one()


def files_of(environment: Settings) -> list[Path]:
    found = environment.storage_root.rglob("*")
    return sorted(path for path in found if path.is_file() and path.name != MARKER)


def test_it_fills_an_empty_database_and_leaves_one_with_data_alone(
    environment: Settings, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--submissions", "20"]) == OK
    files = files_of(environment)
    assert count(database) == 20
    assert files
    assert capsys.readouterr().out == f"Loaded 20 submissions and {len(files)} files\n"

    assert main(["--submissions", "30"]) == OK
    assert count(database) == 20
    assert files_of(environment) == files
    assert capsys.readouterr().out == "The database holds data already: nothing was loaded\n"


def test_a_wrong_number_is_refused_before_anything_is_touched(
    environment: Settings, database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--submissions", "-1"]) == FAILED
    assert count(database) == 0
    assert "submissions must be at least 0" in capsys.readouterr().err


def test_a_database_that_is_away_is_one_line_without_its_address(
    environment: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/nowhere")
    assert main([]) == FAILED
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "secret" not in said
    assert "someone" not in said
