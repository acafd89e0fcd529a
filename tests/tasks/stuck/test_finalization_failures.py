"""A run that cannot be finalized does not stop the others; its evidence row has the cause."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from maintenance import schema
from maintenance.errors import TransientStorageError
from maintenance.settings import Settings
from maintenance.storage.layout import Stores, open_stores
from tasks.stuck.evidence_rows import write_failures
from tasks.stuck.finalization import finalize
from tests.support.timed_out import evidence_of, manifest_key, manifests, outcome, timed_out_run
from tests.support.validibot import Validibot


@pytest.fixture
def stores(environment: Settings, database: Engine) -> Iterator[Stores]:
    with open_stores(environment, database) as opened:
        yield opened


POISON = {
    "a number that Python refuses": {"input_values": {"n": "NUMBER"}},
    "values nested too deeply": {"output_values": {"n": "NESTED"}},
}
REPLACED = {"NUMBER": "9" * 5_000, "NESTED": "[" * 3_000 + "]" * 3_000}


@pytest.mark.parametrize("values", POISON.values(), ids=POISON)
def test_values_that_cannot_be_read_fail_one_run_with_the_cause_on_its_row(
    validibot: Validibot, stores: Stores, values: dict[str, dict[str, str]]
) -> None:
    good = [timed_out_run(validibot, None, steps=(0,)) for _ in range(3)]
    bad = timed_out_run(validibot, None, steps=())
    step = validibot.step_run(bad, **values)
    with validibot.engine.begin() as connection:
        for column, value in values.items():
            connection.execute(
                text(
                    f"UPDATE validations_validationsteprun SET {column} = CAST(:value AS jsonb)"
                    " WHERE id = :id"
                ),
                {"value": f'{{"n": {REPLACED[value["n"]]}}}', "id": step},
            )
    result = finalize(validibot.engine, stores, [good[0], bad, *good[1:]])
    assert outcome(result) == (4, 3, 1, 0, 0)
    assert [failure.item for failure in result.failures] == [f"run {bad}"]
    row = evidence_of(validibot, bad)
    assert row["availability"] == "FAILED"
    assert row["generation_error"] == result.failures[0].cause
    assert "cannot be read" in row["generation_error"]
    assert manifests(validibot) == {f"private/{manifest_key(validibot, run_id)}" for run_id in good}
    assert validibot.row(schema.runs, bad)["definition_released_at"] is not None


def test_a_time_without_end_fails_its_run_only(validibot: Validibot, stores: Stores) -> None:
    bad, good = timed_out_run(validibot, None), timed_out_run(validibot, None)
    with validibot.engine.begin() as connection:
        statement = "UPDATE validations_validationrun SET started_at = '-infinity' WHERE id = :id"
        connection.execute(text(statement), {"id": bad})
    assert outcome(finalize(validibot.engine, stores, [bad, good])) == (2, 1, 1, 0, 0)
    with validibot.engine.begin() as connection:
        connection.execute(text("UPDATE validations_validationrun SET started_at = NULL"))
    assert evidence_of(validibot, bad)["availability"] == "FAILED"
    assert outcome(finalize(validibot.engine, stores, [bad])) == (1, 1, 0, 0, 0)
    assert evidence_of(validibot, bad)["availability"] == "GENERATED"


def test_a_directory_that_cannot_be_written_fails_its_run_and_is_not_written_down_twice(
    validibot: Validibot, stores: Stores, tmp_path: Path
) -> None:
    linked, blocked, good = (timed_out_run(validibot, None) for _ in range(3))
    folder = validibot.root / "private" / "evidence" / str(validibot.org_id)
    folder.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / str(linked)).symlink_to(outside)
    (folder / str(blocked)).write_text("a file where a directory should be")
    result = finalize(validibot.engine, stores, [linked, blocked, good])
    assert outcome(result) == (3, 1, 2, 0, 0)
    causes = {
        run_id: evidence_of(validibot, run_id)["generation_error"] for run_id in (linked, blocked)
    }
    assert "symbolic link" in causes[linked]
    assert "Not a directory" in causes[blocked]
    assert list(outside.iterdir()) == []
    snapshot = validibot.snapshot()
    assert outcome(finalize(validibot.engine, stores, [linked, blocked])) == (2, 0, 2, 0, 0)
    assert validibot.snapshot() == snapshot
    (folder / str(linked)).unlink()
    assert outcome(finalize(validibot.engine, stores, [linked])) == (1, 1, 0, 0, 0)


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no such run, says the trigger'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW
WHEN (NEW.{column} = '{value}') EXECUTE FUNCTION refuse()
"""


def test_a_row_that_the_database_refuses_fails_its_run_and_the_others_are_done(
    validibot: Validibot, stores: Stores
) -> None:
    runs = [timed_out_run(validibot, None) for _ in range(7)]
    bad = runs[4]
    with validibot.engine.begin() as connection:
        refusing = REFUSING.format(table="validations_validationrun", column="id", value=bad)
        connection.exec_driver_sql(refusing)
    result = finalize(validibot.engine, stores, runs)
    assert outcome(result) == (7, 6, 1, 0, 0)
    assert "says the trigger" in evidence_of(validibot, bad)["generation_error"]
    with validibot.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER refuse ON validations_validationrun")
    files = manifests(validibot)
    assert outcome(finalize(validibot.engine, stores, [bad])) == (1, 1, 0, 0, 0)
    assert manifests(validibot) == files
    assert evidence_of(validibot, bad)["generation_error"] == ""


def test_a_deadline_beyond_all_times_fails_its_run_and_the_others_are_done(
    validibot: Validibot, stores: Stores
) -> None:
    bad, good = (
        timed_out_run(validibot, None, output_retention_policy="STORE_1_YEAR") for _ in range(2)
    )
    with validibot.engine.begin() as connection:
        statement = "UPDATE validations_validationrun SET ended_at = '294276-12-31' WHERE id = :id"
        connection.execute(text(statement), {"id": bad})
    assert outcome(finalize(validibot.engine, stores, [bad, good])) == (2, 1, 1, 0, 0)
    assert evidence_of(validibot, bad)["availability"] == "FAILED"


def test_an_unavailable_storage_fails_no_run_and_nothing_is_written(
    validibot: Validibot,
) -> None:
    class Away:
        def save_files(self, files: Any) -> Any:
            del files
            raise TransientStorageError("s3://bucket/: no answer")

    away: Any = Away()
    run_id = timed_out_run(validibot, validibot.submission())
    snapshot = validibot.snapshot()
    with pytest.raises(TransientStorageError):
        finalize(validibot.engine, Stores(away, ()), [run_id])
    assert validibot.snapshot() == snapshot
    assert validibot.rows(schema.evidence) == {}


def test_a_cause_is_not_written_on_a_run_that_is_no_longer_timed_out(validibot: Validibot) -> None:
    over, other = timed_out_run(validibot, None), validibot.run(None, status="SUCCEEDED")
    with validibot.engine.begin() as connection:
        assert write_failures(connection, {over: "a\0b" + "x" * 9_000, other: "y"}) == 1
    (row,) = validibot.rows(schema.evidence).values()
    assert row["run_id"] == over
    expected = "a\\x00b" + "x" * (5_000 - 7) + "\N{HORIZONTAL ELLIPSIS}"
    assert row["generation_error"] == expected, "no NUL, and not too long"
    assert (row["manifest_path"], row["manifest_hash"]) == ("", "")
