"""Rows and files of a Validibot, made one by one for the tests that need them just so."""

import random
import uuid
from copy import copy, deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    Row,
    Select,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.dml import ReturningInsert

from maintenance import schema
from maintenance.schema.base import NEWEST, Version
from maintenance.schema.versions import exists_in, live_version
from maintenance.storage.marker import MARKER

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
"""The moment that most tests work up to."""

BEFORE = NOW - timedelta(days=400)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)


def blank(column: Column[Any]) -> Any:  # noqa: PLR0911 - one line a type
    """A value for a column that a test does not care about."""
    kind = column.type
    if isinstance(kind, (String, Text)):
        return ""
    if isinstance(kind, (BigInteger, Integer, SmallInteger)):
        return 0
    if isinstance(kind, Boolean):
        return False
    if isinstance(kind, JSONB):
        return {}
    if isinstance(kind, DateTime):
        return BEFORE
    if isinstance(kind, Uuid):
        return uuid.uuid4()
    if isinstance(kind, ARRAY):
        return []
    raise TypeError(column)


@dataclass(frozen=True)
class Contents:
    """All rows, as a script that inserts them, and all files."""

    script: str
    files: dict[str, bytes]


ALL_AS_JSON = "SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM {0} t"
PUT = (
    "INSERT INTO {0} OVERRIDING SYSTEM VALUE"
    " SELECT * FROM jsonb_populate_recordset(NULL::{0}, '{1}')"
)
GO_ON = (
    "SELECT setval(pg_get_serial_sequence('{0}', '{1}'), greatest(max({1}), 1), max({1}) > 0)"
    " FROM {0}"
)


def columns_of(table: Table, version: Version) -> list[Column[Any]]:
    """Return the columns that a version has; none when it has no such table."""
    return [column for column in table.columns if exists_in(version, table.name, column.name)]


@cache
def insert_into(table: Table, version: Version = NEWEST) -> ReturningInsert[Any]:
    """Return the statement that inserts a row and returns it, made once: tests insert thousands."""
    return table.insert().returning(*columns_of(table, version))


@cache
def all_of(table: Table, version: Version = NEWEST) -> Select[Any]:
    """Return the statement that reads a table."""
    return select(*columns_of(table, version))


def rows_of(
    table: Table, connection: Connection, version: Version = NEWEST
) -> dict[Any, dict[str, Any]]:
    """Return all rows of a table by primary key."""
    if not exists_in(version, table.name):
        return {}
    key = next(iter(table.primary_key.columns)).name
    found = connection.execute(all_of(table, version)).mappings().all()
    return {row[key]: dict(row) for row in found}


class Validibot:
    """One Validibot: its database, its storage root, and a builder of rows."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine = engine
        self.root = root
        self._made = 0
        self._random = random.Random(1)
        self._insert_parents()

    def at(self, engine: Engine, root: Path) -> Self:
        """Return the builder of a copy of this Validibot, which goes on where this one is.

        It is connected: what a test sets in the environment then is not meant for it.
        """
        engine.connect().close()
        other = copy(self)
        other.engine, other.root = engine, root
        other._random = deepcopy(self._random)
        return other

    def _next_number(self) -> int:
        """Return a number that no other row of this Validibot has."""
        self._made += 1
        return self._made

    def _insert_parents(self) -> None:
        """Insert what all other rows refer to."""
        self.org_id: int = self.insert(schema.organizations, name="Org").id
        user = self.insert(schema.users, username="alice", current_org_id=self.org_id)
        self.user_id: int = user.id
        self.workflow_id: int = self.insert(
            schema.workflows, org_id=self.org_id, user_id=self.user_id, slug="wf", version=1
        ).id
        validator = self.insert(schema.validators, slug="json", version=1, org_id=self.org_id)
        self.step_ids: list[int] = [
            self.insert(
                schema.workflow_steps,
                workflow_id=self.workflow_id,
                order=10 * number,
                step_key=f"step_{number}",
                validator_id=validator.id,
            ).id
            for number in (1, 2, 3)
        ]

    @property
    def name(self) -> str:
        """The name of its database."""
        name = self.engine.url.database
        assert name is not None
        return name

    @cached_property
    def version(self) -> Version:
        """The version of its tables."""
        with self.engine.connect() as connection:
            return live_version(connection)

    def insert(self, table: Table, **values: Any) -> Row[Any]:
        """Insert one row, with blanks for the columns that are not given."""
        full = {
            column.name: blank(column)
            for column in columns_of(table, self.version)
            if not column.nullable and column.identity is None
        } | values
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return connection.execute(insert_into(table, self.version), full).one()

    def submission(self, **values: Any) -> uuid.UUID:
        """A submission, inline and expired a day before NOW unless the values say otherwise."""
        number = self._next_number()
        created = values.pop("created", NOW - 8 * DAY)
        row: dict[str, Any] = {
            "id": uuid.UUID(int=self._random.getrandbits(128), version=4),
            "created": created,
            "modified": created,
            "name": f"name {number}",
            "content": f"content {number}",
            "file_type": "json",
            "original_filename": f"file-{number}.json",
            "checksum_sha256": f"{number:064x}",
            "size_bytes": 100 + number,
            "metadata": {"who": "alice"},
            "retention_policy": "STORE_7_DAYS",
            "expires_at": NOW - DAY,
            "org_id": self.org_id,
            "workflow_id": self.workflow_id,
            "user_id": self.user_id,
        }
        if values.get("input_file"):
            row["content"] = ""
        identifier: uuid.UUID = self.insert(schema.submissions, **{**row, **values}).id
        return identifier

    def run(self, submission_id: uuid.UUID | None, **values: Any) -> uuid.UUID:
        """A run, succeeded at its submission's creation unless the values say otherwise."""
        created = NOW - 8 * DAY
        row = {
            "created": created,
            "modified": created,
            "status": "SUCCEEDED",
            "short_description": "about alice",
            "ended_at": created,
            "output_retention_policy": "STORE_PERMANENTLY",
            "org_id": self.org_id,
            "submission_id": submission_id,
            "workflow_id": self.workflow_id,
        }
        identifier: uuid.UUID = self.insert(schema.runs, **{**row, **values}).id
        return identifier

    def step_run(self, run_id: uuid.UUID, **values: Any) -> int:
        """The first step's run, with input values."""
        row = {
            "validation_run_id": run_id,
            "workflow_step_id": self.step_ids[0],
            "step_order": 10,
            "status": "PASSED",
            "input_values": {"area": 12.5},
            "output_values": {"eui": 99.5},
        }
        identifier: int = self.insert(schema.step_runs, **{**row, **values}).id
        return identifier

    def attempt(self, step_run_id: int, **values: Any) -> uuid.UUID:
        """A completed attempt with the traces of its inputs."""
        row = {
            "step_run_id": step_run_id,
            "attempt_number": 1,
            "state": "COMPLETED",
            "execution_bundle_uri": "file:///bundle",
            "input_envelope_uri": "file:///input.json",
            "input_envelope_sha256": "a" * 64,
            "output_envelope_uri": "file:///output.json",
            "output_envelope_sha256": "b" * 64,
            "input_evidence_snapshot": {"files": ["x"]},
        }
        identifier: uuid.UUID = self.insert(schema.attempts, **{**row, **values}).id
        return identifier

    def trace(self, step_run_id: int, **values: Any) -> int:
        """A resolved input trace that remembers a value of the payload."""
        row = {"step_run_id": step_run_id, "value_snapshot": {"area": 12.5}}
        identifier: int = self.insert(schema.input_traces, **{**row, **values}).id
        return identifier

    def port_file(self, submission_id: uuid.UUID, **values: Any) -> int:
        """A port file's row."""
        row = {
            "submission_id": submission_id,
            "port_key": f"port_{self._next_number()}",
            "original_filename": "weather.epw",
            "content_type": "text/plain",
            "metadata": {"a": 1},
        }
        identifier: int = self.insert(schema.input_files, **{**row, **values}).id
        return identifier

    def queued(self, submission_id: uuid.UUID, **values: Any) -> int:
        """A row of the purge queue, due at NOW."""
        row = {
            "submission_id": submission_id,
            "created_at": NOW - DAY,
            "next_retry_at": NOW,
            "attempt_count": 0,
            "last_error": "",
        }
        identifier: int = self.insert(schema.purge_retries, **{**row, **values}).id
        return identifier

    def session(self, expires: datetime) -> str:
        """A session."""
        key = f"session{self._next_number():033d}"
        self.insert(schema.sessions, session_key=key, session_data="x", expire_date=expires)
        return key

    def idempotency_key(self, expires: datetime, **values: Any) -> uuid.UUID:
        """An idempotency key of a request that was answered."""
        row = {
            "key": f"key{self._next_number()}",
            "status": "COMPLETED",
            "expires_at": expires,
            "org_id": self.org_id,
        }
        identifier: uuid.UUID = self.insert(schema.idempotency_keys, **{**row, **values}).id
        return identifier

    def receipt(self, received: datetime, run_id: uuid.UUID, **values: Any) -> uuid.UUID:
        """A callback receipt of a run; its attempt is one of another run, which no job minds."""
        attempt = self.attempt(self.step_run(self.run(None)))
        row = {
            "callback_id": f"callback{self._next_number()}",
            "received_at": received,
            "status": "COMPLETED",
            "validation_run_id": run_id,
            "execution_attempt_id": attempt,
        }
        identifier: uuid.UUID = self.insert(schema.callback_receipts, **{**row, **values}).id
        return identifier

    def continuation(
        self, run_id: uuid.UUID, receipt_id: uuid.UUID | None = None, **values: Any
    ) -> uuid.UUID:
        """A continuation of a run; its step is one of another run unless the values say so."""
        step = values.pop("completed_step_run_id", None) or self.step_run(self.run(None))
        row = {
            "created": NOW - DAY,
            "state": "COMPLETED",
            "validation_run_id": run_id,
            "completed_step_run_id": step,
            "callback_receipt_id": receipt_id,
            "last_error": "about alice",
        }
        identifier: uuid.UUID = self.insert(schema.continuations, **{**row, **values}).id
        return identifier

    def file(self, key: str, content: str = "secret", *, root: str = "private") -> Path:
        """A file in the storage."""
        path = self.root / root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def bundle(self, run_id: uuid.UUID, *, older: bool = False) -> Path:
        """The directory of a run's bundle, in the one or the other layout."""
        if older:
            return self.root / "public" / "files" / "runs" / str(self.org_id) / str(run_id)
        return self.root / "private" / "runs" / str(self.org_id) / str(run_id)

    def rows(self, table: Table) -> dict[Any, dict[str, Any]]:
        """All rows of a table by primary key."""
        with self.engine.connect() as connection:
            return rows_of(table, connection, self.version)

    def row(self, table: Table, key: Any) -> dict[str, Any]:
        """One row by its primary key."""
        return self.rows(table)[key]

    def purged(self) -> set[uuid.UUID]:
        """The submissions that are stamped as purged."""
        stamped = self.rows(schema.submissions).items()
        return {key for key, row in stamped if row["content_purged_at"] is not None}

    def files(self) -> set[str]:
        """Every file below the storage root but the markers, by its path."""
        return {
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.name != MARKER and (path.is_symlink() or not path.is_dir())
        }

    def contents(self) -> Contents:
        """The whole database and storage, to be put into another, new Validibot."""
        script = ["SET LOCAL session_replication_role = replica"]  # foreign keys wait for all
        with self.engine.connect() as connection:
            for name, table in schema.metadata.tables.items():
                rows = connection.exec_driver_sql(ALL_AS_JSON.format(name)).scalar_one()
                script += [f"DELETE FROM {name}", PUT.format(name, rows.replace("'", "''"))]
                script += [
                    GO_ON.format(name, column.name)
                    for column in table.columns
                    if column.identity is not None
                ]
        files = {path: (self.root / path).read_bytes() for path in self.files()}
        return Contents("; ".join(script), files)

    def put(self, contents: Contents) -> None:
        """Have these rows instead of one's own, and these files."""
        with self.engine.begin() as connection:
            sender = connection.connection.driver_connection
            assert isinstance(sender, psycopg.Connection)
            sender.execute(contents.script.encode())
        for path, content in contents.files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(content)

    def snapshot(self) -> dict[str, Any]:
        """The whole database and storage, to compare before and after."""
        with self.engine.connect() as connection:
            tables = {
                table.name: rows_of(table, connection, self.version)
                for table in schema.metadata.sorted_tables
            }
        return {**tables, "files": self.files()}
