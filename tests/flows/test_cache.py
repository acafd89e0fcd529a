"""Looking for work leaves the application's cache alone (SPEC 10.11)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from sqlalchemy import Engine, Table, create_engine, event, text

from flows.cleanup_stuck_runs import cleanup_stuck_runs
from flows.process_purge_retries import process_purge_retries
from flows.purge_expired_outputs import purge_expired_outputs
from flows.purge_expired_submissions import purge_expired_submissions
from flows.reclaim_residue import reclaim_residue
from maintenance import schema
from maintenance import settings as settings_module
from maintenance.cutoff import Cutoff
from maintenance.database import dispose_engines
from maintenance.report import BatchResult
from maintenance.schema import migrations
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER
from tasks.batching.table_scan import by_table
from tasks.purge import output_selection, queued_submissions, submission_selection
from tests.support.markers import FIRST_MIGRATION
from tests.support.prefect_database import NAME, OWNER, PrefectDatabase, prefect_database
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = [pytest.mark.system_postgres, pytest.mark.slow]

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
CACHE = "24MB"
OTHER_PAGES = 1_000
ROWS = 40_000
"""Of each large table: larger than a quarter of the cache, so that a scan of it uses a ring."""


@pytest.fixture(scope="module")
def small_cache() -> Iterator[PrefectDatabase]:
    with prefect_database() as running:
        running.rows(f"ALTER SYSTEM SET shared_buffers = '{CACHE}'")
        running.rows("ALTER SYSTEM SET autovacuum = off")
        running.stop()
        running.start()
        yield running


@pytest.fixture
def engine(
    small_cache: PrefectDatabase, storage_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """A database of which nothing is due, with large tables, and another one in the cache."""
    small_cache.rows("DROP SCHEMA public CASCADE; CREATE SCHEMA public", NAME)
    folder = small_cache.rows("SHOW unix_socket_directories")[0][0]
    url = f"postgresql://{OWNER}@/{NAME}?host={folder}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("STORAGE_ROOT", str(storage_root))
    settings_module.settings.cache_clear()
    engine = create_engine(url.replace("postgresql", DRIVER, 1))
    create_tables(engine)
    validibot = Validibot(engine, storage_root)
    later = NOW + 300 * DAY
    submission = validibot.submission(retention_policy="STORE_30_DAYS", expires_at=later)
    validibot.run(submission, output_retention_policy="STORE_30_DAYS", output_expires_at=later)
    with engine.begin() as connection:
        connection.execute(migrations.insert().values(FIRST_MIGRATION))
        for table in (schema.submissions, schema.runs):
            multiply(connection, table)
        connection.execute(text("CREATE EXTENSION pg_buffercache"))
        connection.execute(
            text("CREATE TABLE other (id serial PRIMARY KEY, filler char(7000) NOT NULL)")
        )
        connection.execute(text("ALTER TABLE other ALTER filler SET STORAGE PLAIN"))
        connection.execute(
            text("INSERT INTO other (filler) SELECT 'x' FROM generate_series(1, :n)"),
            {"n": OTHER_PAGES},
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE, FREEZE)"))
    yield engine
    engine.dispose()
    dispose_engines()
    settings_module.settings.cache_clear()


def multiply(connection: Any, table: Table) -> None:
    """Copy the only row of a table under new identifiers."""
    names = [f'"{column.name}"' for column in table.columns if column.name != "id"]
    connection.execute(
        text(
            f"INSERT INTO {table.name} (id, {', '.join(names)})"
            f" SELECT gen_random_uuid(), {', '.join(names)}"
            f" FROM {table.name}, generate_series(2, :rows)"
        ),
        {"rows": ROWS},
    )


def warm(engine: Engine) -> None:
    """Read the other table into the cache, as an application does that uses it all the time."""
    with engine.begin() as connection:
        for setting in ("enable_seqscan", "enable_bitmapscan"):
            connection.execute(text(f"SET LOCAL {setting} = off"))
        for _ in range(3):
            connection.execute(text("SELECT sum(length(filler)) FROM other WHERE id > 0"))


def cached(engine: Engine) -> int:
    query = text(
        "SELECT count(*) FROM pg_buffercache b JOIN pg_class c"
        " ON b.relfilenode = pg_relation_filenode(c.oid) AND c.relname = 'other'"
        " WHERE b.reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND b.relforknumber = 0"
    )
    with engine.connect() as connection:
        pages: int = connection.execute(query).scalar_one()
        return pages


@pytest.mark.parametrize(
    "job",
    [
        purge_expired_submissions,
        purge_expired_outputs,
        process_purge_retries,
        cleanup_stuck_runs,
        reclaim_residue,
    ],
    ids=lambda job: str(job.name),
)
def test_10_11_an_empty_run_leaves_another_tables_pages_in_the_cache(
    engine: Engine, job: Flow[..., Any]
) -> None:
    warm(engine)
    before = cached(engine)
    assert before >= 0.95 * OTHER_PAGES
    report = run(job, as_of=NOW)
    assert (report.selected, report.failed, report.warnings) == (0, 0, [])
    assert cached(engine) >= 0.9 * before


INDEXES = {
    "undated_submissions": (
        schema.submissions.c.id,
        submission_selection.undated(),
    ),
    "unqueued_submissions": (schema.submissions.c.id, queued_submissions.must_go()),
    "undated_outputs": (
        schema.runs.c.id,
        output_selection.without_deadline() | output_selection.undated(Cutoff(NOW, NOW)),
    ),
}


def suggested() -> list[str]:
    """The statements of docs/performance.md."""
    found = re.findall(
        r"^CREATE INDEX CONCURRENTLY .*?;", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    return [statement.replace(" CONCURRENTLY", "") for statement in found]


def test_10_11_the_suggested_indexes_are_used_when_they_exist(engine: Engine) -> None:
    statements = suggested()
    assert len(statements) == 4
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    plans = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT") and "LIMIT" in statement:
            plans.append((statement, values))

    event.listen(engine, "before_cursor_execute", note)
    for key, condition in INDEXES.values():
        by_table(engine, key, condition, lambda _ids: BatchResult())(None, 1)
    event.remove(engine, "before_cursor_execute", note)
    assert len(plans) == len(INDEXES)
    with engine.connect() as connection:
        for (statement, values), name in zip(plans, INDEXES, strict=True):
            explained = connection.exec_driver_sql(f"EXPLAIN {statement}", values)
            plan = "\n".join(row[0] for row in explained)
            assert name in plan, plan
            assert "Seq Scan" not in plan, plan
