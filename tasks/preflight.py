"""What every job does first: check the schema, and choose the cutoff."""

from datetime import datetime

from prefect import task

from maintenance.access import ACCESS
from maintenance.catalogue import check_schema
from maintenance.cutoff import Cutoff, choose_cutoff
from maintenance.database import database_clock, engine_for, transaction
from maintenance.settings import settings
from tasks.retrying import TASK_OPTIONS


@task(name="check schema and choose cutoff", **TASK_OPTIONS)
def choose_run_cutoff(job: str, as_of: datetime | None, *, dry_run: bool) -> Cutoff:
    """Check that the database has every column that the job uses, and read its clock once.

    Raises:
        SchemaMismatch: a table or column is missing (SPEC 2.11).
        ParameterError: `as_of` lies in the future and the run would act (SPEC 2.1).
        SettingsError: a setting is wrong.
        DatabaseError: the database did not answer.
    """
    with transaction(engine_for(settings(), job), read_only=True) as connection:
        check_schema(connection, ACCESS[job], writes=not dry_run)
        return choose_cutoff(as_of, database_clock(connection), dry_run=dry_run)
