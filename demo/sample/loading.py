"""Loading a sample: chunk after chunk, so that memory does not grow with its size."""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from psycopg import Connection
from sqlalchemy import Connection as PooledConnection
from sqlalchemy import Engine, func, select, text

from demo.sample.cases import Case, case_counts
from demo.sample.chunk import Chunk
from demo.sample.documents import Documents
from demo.sample.drawing import Draw, Moments, Quota
from demo.sample.expiring import (
    add_idempotency_key,
    add_session,
    key_expiries,
    session_expiries,
)
from demo.sample.organization import add_application
from demo.sample.spec import SampleSpec
from demo.sample.submissions import add_submission
from demo.sample.summary import SampleSummary
from demo.sample.writing import continue_numbering, copy_rows, write_files
from maintenance.schema import metadata, migrations, organizations
from maintenance.schema.versions import exists_in, live_version
from maintenance.storage.adoption import mark_roots
from maintenance.storage.identity import application_id
from maintenance.storage.local import LocalStore
from maintenance.storage.roots import PRIVATE, PUBLIC, Root

ROWS_A_CHUNK = 20_000
TURN = 0.0005
"""Seconds."""


def load_sample(
    engine: Engine, storage_root: Path, spec: SampleSpec, as_of: datetime
) -> SampleSummary:
    """Fill a database that has all tables of a version and no rows, and the storage beside it.

    The same spec and moment give the same rows and files. Each chunk is a transaction of its own;
    a load that fails leaves what was written before.
    """
    with engine.connect() as asking:
        version = live_version(asking)
    chunk = Chunk(spec, Draw(spec.seed), Moments(as_of), version)
    tables = [table for table in metadata.sorted_tables if exists_in(version, table.name)]
    row_counts = Counter({table.name: 0 for table in tables})
    row_counts[migrations.name] = 1
    files = file_bytes = 0
    with _quick_turns(), engine.connect() as pooled, ThreadPoolExecutor(1) as background:
        connection = _prepare(pooled, spec, as_of)
        copying: Future[None] = background.submit(lambda: None)
        for _ in _chunks(chunk):
            rows, chunk_files = chunk.take()
            # One chunk is copied while the next one is made: both take about as long, and the
            # database works on a processor of its own.
            copying.result()
            copying = background.submit(copy_rows, connection, rows, version)
            added = {table.name: len(some) for table, some in rows.items() if table in tables}
            row_counts.update(added)
            file_bytes += write_files(storage_root, chunk_files)
            files += len(chunk_files)
        copying.result()
        continue_numbering(connection, tables)
        connection.execute("ANALYZE")
        connection.commit()
        if spec.with_files:
            _mark(storage_root, application_id(pooled))
    counts = {field.name: chunk.tally[field.name] for field in fields(SampleSummary)}
    counts |= {"files": files, "file_bytes": file_bytes}
    del counts["rows"]
    return SampleSummary(rows=dict(row_counts), **counts)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let the two threads take turns often.

    At Python's usual interval of 5 ms the copying thread waits that long after every block it
    sent, and the database with it: the load takes a quarter longer.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def identify(connection: PooledConnection, as_of: datetime) -> None:
    """Give an application its identity, its first migration, unless it has one."""
    if connection.scalar(select(migrations.c.id).limit(1)) is None:
        first = {"app": "contenttypes", "name": "0001_initial", "applied": as_of}
        connection.execute(migrations.insert().values(first))


def _mark(storage_root: Path, application: str) -> None:
    """Mark the roots of the storage as the application's, as the jobs demand it."""
    with ExitStack() as opened:
        roots = []
        for name in (PRIVATE, PUBLIC):
            (storage_root / name).mkdir(parents=True, exist_ok=True)
            store = LocalStore(storage_root / name)
            opened.callback(store.close)
            roots.append(Root(name, store))
        mark_roots(roots, application)


def _prepare(pooled: PooledConnection, spec: SampleSpec, as_of: datetime) -> Connection:
    """Set up the connection that copies, and the identity of the application."""
    connection = pooled.connection.driver_connection
    if not isinstance(connection, Connection):
        raise TypeError("a sample is loaded through psycopg")
    # What is set here must not reach the next user of the pool.
    pooled.detach()
    if pooled.scalar(select(func.count()).select_from(organizations)):
        raise ValueError("a sample is loaded into empty tables, and there are organizations")
    identify(pooled, as_of)
    if not spec.check_references:
        pooled.execute(text("SET session_replication_role = replica"))
    pooled.commit()
    return connection


def _chunks(chunk: Chunk) -> Iterator[None]:
    """Fill the chunk again and again, until the whole sample has been in it."""
    spec = chunk.spec
    workflows = add_application(chunk)
    yield
    documents = Documents(spec.content_bytes)
    quota = Quota({case.value: count for case, count in case_counts(spec).items()}, chunk.draw)
    for place in range(spec.submissions):
        workflow = chunk.draw.choose(workflows)
        add_submission(chunk, documents, workflow, Case(quota.take()), place)
        if place % spec.chunk == spec.chunk - 1:
            yield
    yield
    for place, expires in enumerate(key_expiries(spec)):
        add_idempotency_key(chunk, chunk.draw.choose(workflows), expires)
        if place % ROWS_A_CHUNK == ROWS_A_CHUNK - 1:
            yield
    yield
    for place, expires in enumerate(session_expiries(spec)):
        add_session(chunk, expires)
        if place % ROWS_A_CHUNK == ROWS_A_CHUNK - 1:
            yield
    yield
