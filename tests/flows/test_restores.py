"""A database that was restored from a backup is noticed before anything is purged (SPEC 10.16)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, create_engine

from flows.jobs import JOBS
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.cli import main
from maintenance.database import dispose_engines
from maintenance.errors import RestoredDatabase
from maintenance.grants import grants
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER, Settings
from maintenance.storage.marker import MARKER
from tests.support.markers import identify
from tests.support.memory import temporary_folder
from tests.support.restoring import (
    DATABASE,
    at_work,
    copy,
    dump,
    identity,
    load,
    plain,
    promote,
)
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

PURGES = ("purge-expired-submissions", "process-purge-retries", "purge-expired-outputs")
GUARDED = (*PURGES, "reclaim-residue")


def work(validibot: Validibot) -> None:
    """One item for each purge job."""
    validibot.submission()
    queued = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
    validibot.queued(queued)
    validibot.run(None, output_retention_policy="STORE_7_DAYS", output_expires_at=NOW - DAY)


def purge(job: str, **parameters: Any) -> Any:
    return run(JOBS[job].flow, **{"as_of": NOW, **parameters})


def seen(validibot: Validibot) -> Any:
    """What the marker remembers of the database."""
    return json.loads((validibot.root / "private" / MARKER).read_bytes()).get("database")


def restored(validibot: Validibot, url: URL, script: str) -> None:
    """Restore a dump into the same database, while nothing works on it."""
    dispose_engines()
    validibot.engine.dispose()
    load(url, script)


@pytest.fixture
def dumped(environment: Settings, validibot: Validibot, database_url: URL) -> str:
    """A dump that was made before each job has purged something."""
    work(validibot)
    script = dump(database_url)
    for job in PURGES:
        assert purge(job).done == 1
    return script


@pytest.mark.parametrize("job", GUARDED)
def test_10_16_after_a_restore_each_purge_fails_until_it_is_accepted(
    job: str,
    dumped: str,
    validibot: Validibot,
    database_url: URL,
    capsys: pytest.CaptureFixture[str],
) -> None:
    restored(validibot, database_url, dumped)
    before = validibot.snapshot()
    marker = (validibot.root / "private" / MARKER).read_bytes()
    for _ in range(2):
        with pytest.raises(RestoredDatabase) as refused:
            purge(job)
        for part in ("is not now", "docs/restore.md", "python -m maintenance accept-restore"):
            assert part in str(refused.value)
    preview = purge(job, dry_run=True)
    assert len([one for one in preview.warnings if "restored from a backup" in one]) == 1
    assert main(["accept-restore", "--dry-run"]) == 0
    assert "is not now" in capsys.readouterr().out
    assert validibot.snapshot() == before
    assert (validibot.root / "private" / MARKER).read_bytes() == marker
    assert main(["accept-restore"]) == 0
    assert purge(job).failed == 0
    for other in PURGES:
        purge(other)
    assert purge("purge-expired-outputs").selected == 0
    assert len(validibot.purged()) == 2


def test_10_16_nothing_is_said_of_a_restore_of_what_was_seen_last(
    dumped: str, validibot: Validibot, database_url: URL
) -> None:
    restored(validibot, database_url, dump(database_url))
    for job in GUARDED:
        assert purge(job).warnings == []


def test_10_16_nothing_is_said_when_storage_and_database_go_back_together(
    dumped: str, validibot: Validibot, database_url: URL
) -> None:
    marker = validibot.root / "private" / MARKER
    script, content = dump(database_url), marker.read_bytes()
    work(validibot)
    for job in PURGES:
        purge(job)
    assert marker.read_bytes() != content
    restored(validibot, database_url, script)
    marker.write_bytes(content)
    for job in GUARDED:
        assert purge(job).warnings == []


def test_10_16_a_backup_from_before_all_that_was_seen_is_noticed(
    environment: Settings, validibot: Validibot, database_url: URL
) -> None:
    validibot.submission(content="", input_file="", content_purged_at=NOW - 90 * DAY)
    script = dump(database_url)
    work(validibot)
    purge("purge-expired-submissions")
    restored(validibot, database_url, script)
    with pytest.raises(RestoredDatabase, match="no submission has a stamp as new"):
        purge("process-purge-retries")


def test_10_16_rows_that_the_application_deletes_are_no_restore(
    environment: Settings, validibot: Validibot
) -> None:
    work(validibot)
    purge("purge-expired-submissions")
    (gone,) = validibot.purged()
    later = NOW + 400 * DAY
    validibot.submission(content="", input_file="", content_purged_at=later)
    with validibot.engine.begin() as connection:
        connection.execute(schema.submissions.delete().where(schema.submissions.c.id == gone))
    assert str(gone) in seen(validibot)["submission"]
    assert purge("purge-expired-outputs", max_batches=1).done == 1
    assert seen(validibot)["submission"] == {}
    assert purge("process-purge-retries").done == 1


def test_10_16_a_run_that_purges_nothing_does_not_write_the_marker(
    dumped: str, validibot: Validibot
) -> None:
    marker = validibot.root / "private" / MARKER
    before = marker.stat()
    for job in GUARDED:
        assert purge(job).done == 0
    assert (marker.stat().st_ino, marker.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_10_16_the_newest_stamps_are_remembered_and_no_others(
    environment: Settings, validibot: Validibot
) -> None:
    for number in range(25):
        validibot.submission(expires_at=NOW - (30 - number) * DAY, created=NOW - 60 * DAY)
    purge("purge-expired-submissions", batch_size=4)
    stamps = {
        str(key): row["content_purged_at"]
        for key, row in validibot.rows(schema.submissions).items()
    }
    newest = sorted(stamps.values(), reverse=True)[9]
    remembered = seen(validibot)
    assert len(remembered["submission"]) == 10
    assert all(stamps[key] >= newest for key in remembered["submission"])
    work(validibot)
    purge("purge-expired-outputs")
    assert len(seen(validibot)["submission"]) == 10
    assert len(seen(validibot)["run"]) == 1
    assert main(["storage", "adopt", "--force"]) == 0
    assert len(seen(validibot)["run"]) == 1


def test_10_16_a_marker_that_cannot_be_written_is_a_warning(
    environment: Settings, validibot: Validibot, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(validibot)
    # A directory in the place of the temporary name, which does not depend on rights.
    monkeypatch.setattr("maintenance.storage.local_root.token_hex", lambda _size: "x")
    (validibot.root / "private" / f"{MARKER}.part-x").mkdir()
    report = purge("purge-expired-submissions")
    assert (report.done, len(report.warnings)) == (1, 1)
    assert "were not remembered" in report.warnings[0]


@pytest.mark.parametrize("may_ask", [True, False])
def test_10_16_without_the_right_to_ask_for_the_server_the_stamps_decide(
    may_ask: bool,
    environment: Settings,
    validibot: Validibot,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    role = "restore_role"
    name = sql.Identifier(role)
    functions = "pg_control_system(), pg_control_checkpoint()"
    with psycopg.connect(plain(database_url), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        admin.execute(grants(role, PURGES).encode())
        if not may_ask:
            admin.execute(f"REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC")
    monkeypatch.setenv("DATABASE_URL", plain(database_url.set(username=role)))
    settings_module.settings.cache_clear()
    try:
        work(validibot)
        script = dump(database_url)
        assert purge("purge-expired-submissions").done == 1
        assert (seen(validibot)["system"] is not None) == may_ask
        restored(validibot, database_url, script)
        with psycopg.connect(plain(database_url), autocommit=True) as admin:
            admin.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
            admin.execute(grants(role, PURGES).encode())
        with pytest.raises(RestoredDatabase, match="is not now"):
            purge("purge-expired-submissions")
    finally:
        dispose_engines()
        with psycopg.connect(plain(database_url), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {}").format(name))
            admin.execute(sql.SQL("DROP ROLE {}").format(name))
            admin.execute(f"GRANT EXECUTE ON FUNCTION {functions} TO PUBLIC")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where servers keep their data."""
    with temporary_folder() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def connect(storage_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[URL], None]]:
    """Let the jobs use a database."""
    monkeypatch.setenv("STORAGE_ROOT", str(storage_root))
    monkeypatch.delenv("DEPLOYMENT_TARGET", raising=False)

    def use(url: URL) -> None:
        dispose_engines()
        monkeypatch.setenv("DATABASE_URL", plain(url))
        settings_module.settings.cache_clear()

    yield use
    dispose_engines()
    settings_module.settings.cache_clear()


def made(url: URL, root: Path) -> Validibot:
    """A new application with work."""
    engine = create_engine(url.set(drivername=DRIVER))
    create_tables(engine)
    identify(engine)
    validibot = Validibot(engine, root)
    work(validibot)
    return validibot


def test_10_16_servers_come_and_go(  # noqa: PLR0915 - one story
    folder: Path, storage_root: Path, connect: Callable[[URL], None]
) -> None:
    """One story, because each server takes seconds.

    A copy of the data directory, a recovery, a restore into a new server, a promoted standby: with
    what was seen last, and with less.
    """
    job = "purge-expired-submissions"
    first, second = folder / "first", folder / "second"
    with at_work(first) as server:
        validibot = made(server.create_database(DATABASE), storage_root)
        old = dump(server.url(DATABASE))
        validibot.engine.dispose()
    copy(first, folder / "backup")
    with at_work(first) as server:
        connect(server.url(DATABASE))
        assert purge(job).done == 1
        new = dump(server.url(DATABASE))
        before = identity(server.url(DATABASE))
        dispose_engines()

    # A copy of the data directory is the same server, on the same timeline.
    copy(folder / "backup", second)
    with at_work(second) as server:
        assert identity(server.url(DATABASE)) == before
        connect(server.url(DATABASE))
        with pytest.raises(RestoredDatabase, match="is not now"):
            purge(job)
        dispose_engines()

    # Recovery to a point in time is the same server, on a later timeline.
    promote(second)
    with at_work(second) as server:
        assert identity(server.url(DATABASE)) == (before[0], before[1] + 1)
        connect(server.url(DATABASE))
        with pytest.raises(RestoredDatabase, match="is not now"):
            purge(job)
        dispose_engines()

    # A new server: what is restored decides, not who the server is.
    copy(first, folder / "later")
    with at_work(folder / "other") as server:
        url = server.create_database(DATABASE)
        assert identity(url)[0] != before[0]
        connect(url)
        load(url, old)
        with pytest.raises(RestoredDatabase, match="its server may be another one"):
            purge(job)
        dispose_engines()
        load(url, new)
        assert purge(job).warnings == []
        dispose_engines()

    # A promoted standby is on another timeline; the one before it must not come back.
    with at_work(folder / "later") as server:
        connect(server.url(DATABASE))
        assert purge(job).warnings == []
        dispose_engines()
    promote(folder / "later")
    with at_work(folder / "later") as server:
        url = server.url(DATABASE)
        assert identity(url) == (before[0], before[1] + 1)
        connect(url)
        assert purge(job).warnings == []
        with psycopg.connect(plain(url)) as connection:
            stamped = connection.execute(
                "SELECT count(*) FROM submissions_submission WHERE content_purged_at IS NOT NULL"
            ).fetchone()
        assert stamped == (1,)
        dispose_engines()
    with at_work(first) as server:
        connect(server.url(DATABASE))
        with pytest.raises(RestoredDatabase, match="its timeline was 2 and is 1 now"):
            purge(job)
        assert main(["accept-restore"]) == 0
        assert purge(job).warnings == []
        dispose_engines()
