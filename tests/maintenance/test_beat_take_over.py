"""Taking Beat's tasks over with the rights, and giving them back with the SQL, of the page."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import URL, Engine

from demo.embedded import EmbeddedServer
from maintenance import settings as settings_module
from maintenance.beat.keeper import find_keeper
from maintenance.beat.take_over import disable, to_take_over
from maintenance.beat.tasks import BeatUnreadable
from maintenance.database import engine_for, transaction
from maintenance.grants import document
from maintenance.settings import Settings
from tests.stack.guide import MIGRATION, blocks
from tests.support.beat import NAMES, Beat, documented_role, run_as_written

PAGE = [block for block in blocks(MIGRATION) if block.language == "sh"]
FUNCTIONS = "".join(block.text for block in PAGE if block.title == "Names")
PAST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def beat(environment: Settings, database: Engine) -> Beat:
    return Beat(database)


@pytest.fixture
def limited(
    beat: Beat, server: EmbeddedServer, database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The settings of the documented role, with its documented privileges."""
    with documented_role(server.url("postgres"), database_url) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        settings_module.settings.cache_clear()
        run_as_written(beat.engine, document())
        yield settings_module.settings()


def rights(verb: str) -> list[str]:
    """The SQL with which the page grants or revokes what taking over needs, at each place."""
    lines = [line for block in PAGE for line in block.text.splitlines()]
    return [typed(line) for line in lines if line.startswith(f"beat_rights {verb}")]


def typed(text: str) -> str:
    """The SQL that lines of the page hand over to the database."""
    script = f"{FUNCTIONS}\nvalidibot_sql() {{ cat; }}\n{text}"
    ran = subprocess.run(
        ["/bin/sh", "-eu"], input=script, text=True, capture_output=True, check=True
    )
    return ran.stdout


def take_over(settings: Settings) -> None:
    with transaction(engine_for(settings, "test")) as connection:
        disable(connection, to_take_over(connection))


def test_10_13_the_rights_of_the_page_are_enough_and_go_again(
    beat: Beat, limited: Settings
) -> None:
    beat.own_tasks(last_run_at=datetime.now(UTC), expire_seconds=60)
    with pytest.raises(BeatUnreadable, match=r"may not change .* GRANT UPDATE \(date_changed, "):
        take_over(limited)
    grants, revocations = rights("GRANT"), rights("REVOKE")
    assert len(grants) == len(revocations) == 2
    for one, other in zip(grants, revocations, strict=True):
        run_as_written(beat.engine, one)
        take_over(limited)
        run_as_written(beat.engine, other)
        with pytest.raises(BeatUnreadable):
            take_over(limited)
        assert {enabled for (enabled,) in beat.rows("enabled").values()} == {False}
        beat.run("UPDATE django_celery_beat_periodictask SET enabled = true, expires = NULL")


def test_10_13_going_back_leaves_beats_tasks_as_they_were(
    beat: Beat, environment: Settings
) -> None:
    beat.own_tasks(last_run_at=datetime.now(UTC))
    for change in ("enabled = false", "expires = '2026-01-01'"):
        name = "Clear Sessions" if "enabled" in change else "Cleanup Stuck Runs"
        beat.run(
            f"UPDATE django_celery_beat_periodictask SET {change}, description = 'Mine.'"
            " WHERE name = :name",
            name=name,
        )
    audit = beat.crontab("30 2 * * *")
    beat.task("Audit", audit, "validibot.enforce_audit_retention", expires=PAST)
    before = beat.rows("enabled AND coalesce(expires > now(), true), description")
    take_over(environment)
    assert find_keeper(environment, "test").enabled == ()
    beat.sync_schedules()
    assert find_keeper(environment, "test").enabled == ()
    (back,) = (block.text for block in PAGE if block.title == "Going back")
    run_as_written(
        beat.engine, typed(back[back.index("validibot_sql") : back.index("validibot start")])
    )
    after = beat.rows("enabled AND coalesce(expires > now(), true), description")
    assert after == before
    assert {one.name for one in find_keeper(environment, "test").enabled} == {
        name for name in NAMES if name not in {"Clear Sessions", "Cleanup Stuck Runs"}
    }


def test_taking_over_twice_changes_nothing_more(beat: Beat, environment: Settings) -> None:
    beat.own_tasks()
    take_over(environment)
    columns = "enabled, expires, description, date_changed"
    once = beat.rows(columns)
    last_change = "SELECT last_update FROM django_celery_beat_periodictasks"
    moved = beat.run(last_change)
    take_over(environment)
    assert beat.rows(columns) == once
    assert beat.run(last_change) == moved


def test_the_page_has_a_command_for_each_step() -> None:
    commands = "\n".join(block.text for block in PAGE)
    for wanted in (
        "validibot stop scheduler",
        "python -m maintenance storage adopt",
        "import-beat-schedules --take-over",
        "import-beat-schedules --take-over --keep-schedules",
        "python -m maintenance check",
        "just self-hosted restore",
        "just self-hosted upgrade",
        "just self-hosted backup",
    ):
        assert wanted in commands
