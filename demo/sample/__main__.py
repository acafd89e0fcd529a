"""`python -m demo.sample`: make Validibot's tables in an empty database, and sample data.

For trying the jobs out. The database and the storage root are those of the settings. A database
that holds organizations already is left as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import create_engine, select
from sqlalchemy.exc import OperationalError

from demo.sample.loading import load_sample
from demo.sample.spec import SampleSpec
from maintenance.command_line import Parser, run_command, say
from maintenance.errors import MaintenanceError
from maintenance.outside_text import one_line
from maintenance.schema import organizations
from maintenance.schema.base import NEWEST, Version
from maintenance.schema.versions import create_tables
from maintenance.settings import Settings, load_settings

OK, FAILED = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the sample and say what it holds; return the exit status."""
    options = _parse(arguments)
    try:
        spec = SampleSpec(submissions=options.submissions)
        say(_load(load_settings(), spec, Version(options.validibot)))
    except (MaintenanceError, ValueError, OSError) as error:
        return _fail(str(error))
    except OperationalError as error:
        # Not its text, which may quote the address.
        return _fail(f"the database cannot be used: {type(error.orig).__name__}")
    return OK


def _load(settings: Settings, spec: SampleSpec, version: Version) -> str:
    engine = create_engine(settings.url)
    try:
        create_tables(engine, version)
        with engine.connect() as connection:
            used = connection.scalar(select(organizations.c.id).limit(1)) is not None
        if used:
            return "The database holds data already: nothing was loaded"
        loaded = load_sample(engine, settings.storage_root, spec, datetime.now(UTC))
    finally:
        engine.dispose()
    return f"Loaded {spec.submissions} submissions and {loaded.files} files"


def _fail(cause: str) -> int:
    sys.stderr.write(f"python -m demo.sample: {one_line(cause)}\n")
    return FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m demo.sample",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--submissions", type=int, default=1_000, help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--validibot",
        choices=list(Version),
        default=NEWEST,
        help="the version whose tables are made (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
