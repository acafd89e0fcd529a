"""Validibot's tables that the jobs use: SQLAlchemy Core, no ORM.

`create_tables` (`versions.py`) builds a database that behaves like a migrated Validibot: the same
columns, nullability, checks, unique rules, deferred foreign keys and indexes, under their names.
Foreign keys to tables that no job uses are left out. Tables and columns that only some versions of
Validibot have are marked with it.
"""

from maintenance.schema.application import (
    migrations,
    organizations,
    projects,
    users,
    validators,
    workflow_steps,
    workflows,
)
from maintenance.schema.base import metadata
from maintenance.schema.continuations import continuations
from maintenance.schema.expiring import callback_receipts, idempotency_keys, sessions
from maintenance.schema.outputs import artifacts, evidence, findings, input_traces
from maintenance.schema.runs import attempts, run_summaries, runs, step_run_summaries, step_runs
from maintenance.schema.submissions import input_files, purge_retries, submissions

__all__ = [
    "artifacts",
    "attempts",
    "callback_receipts",
    "continuations",
    "evidence",
    "findings",
    "idempotency_keys",
    "input_files",
    "input_traces",
    "metadata",
    "migrations",
    "organizations",
    "projects",
    "purge_retries",
    "run_summaries",
    "runs",
    "sessions",
    "step_run_summaries",
    "step_runs",
    "submissions",
    "users",
    "validators",
    "workflow_steps",
    "workflows",
]
