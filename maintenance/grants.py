"""The privileges of the jobs' database role, as SQL: `python -m maintenance.grants` prints them.

A role with these privileges and no others cannot read the content of submissions, cannot delete a
submission or a run, and cannot change the schema.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import count

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from maintenance.access import ACCESS, Access, Columns
from maintenance.beat.tables import grant_reading
from maintenance.command_line import run_command, say
from maintenance.privileges import guarded
from maintenance.schema.base import OLDEST, Version
from maintenance.schema.versions import exists_in

ROLE = "validibot_maintenance"

HEADER = f"""\
-- The database role of the maintenance jobs: what they read and write, column by column.
--
-- Made from maintenance/access.py by `python -m maintenance.grants`: do not edit.
--
-- Once, as a superuser or as the owner of Validibot's tables, in Validibot's database:
--
--     CREATE ROLE {ROLE} LOGIN;
--     \\password {ROLE}
--     \\i docs/database-role.sql
--
-- \\password asks for the password and sends it encrypted, so that it is in no file, no history
-- and no log. Then put the role into the DATABASE_URL of the worker.
--
-- The role also needs CONNECT on the database. PUBLIC has it unless it was revoked; then:
--
--     GRANT CONNECT ON DATABASE validibot TO {ROLE};
--
-- If Validibot's tables are in another schema than public, it needs USAGE on that one.
--
-- What only newer versions of Validibot have is granted where it exists. Read this file again after
-- an update of either application, and after each restore of the database, which drops all
-- privileges: granting a right twice does no harm.
"""

USAGE = (
    "-- PUBLIC has it, unless the schema was made anew, as a restore does.",
    *guarded("to_regnamespace('public') IS NOT NULL", [f"GRANT USAGE ON SCHEMA public TO {ROLE};"]),
    "",
)


def grants(role: str, jobs: Iterable[str]) -> str:
    """Return the GRANT statements that a role needs to run these jobs.

    Reading and writing are granted by column, including `ctid`; DELETE exists for tables only.
    """
    accesses = [ACCESS[job] for job in jobs]
    name = _identifier(role)
    lines: list[str] = []
    for version in Version:
        for table in sorted({table for access in accesses for table in access.columns()}):
            lines += _grant(table, name, accesses, version)
    return "\n".join(lines) + "\n"


def _grant(table: str, role: str, accesses: Sequence[Access], version: Version) -> list[str]:
    """Return the lines that grant what is new in a version; empty when nothing is."""
    new = {
        right: [column for column in _columns(table, parts) if _since(table, column) == version]
        for right, parts in (
            ("SELECT", [access.select for access in accesses]),
            ("INSERT", [access.insert for access in accesses]),
            ("UPDATE", [access.update for access in accesses]),
        )
    }
    rights = [
        f"{right} ({', '.join(map(_identifier, columns))})"
        for right, columns in new.items()
        if columns
    ]
    if _deleted(table, accesses) and _since(table) == version:
        rights.append("DELETE")
    if not rights:
        return []
    lines = [
        "GRANT",
        *(f"    {right}," for right in rights[:-1]),
        f"    {rights[-1]}",
        f"    ON {_identifier(table)} TO {role};",
    ]
    if version == OLDEST:
        return lines
    column = next(one for columns in new.values() for one in columns if one != "ctid")
    present = (
        "EXISTS (SELECT FROM pg_attribute\n"
        f"    WHERE attrelid = to_regclass('{table}') AND attname = '{column}')"
    )
    return [f"-- Since Validibot {version}:", *guarded(present, lines, _quote(role))]


def document() -> str:
    """Return the text of docs/database-role.sql."""
    parts = (HEADER, "\n".join(USAGE), grant_reading(ROLE), grants(ROLE, ACCESS))
    return "\n".join(parts)


def main() -> int:
    """Print the document; return the exit status."""
    say(document().removesuffix("\n"))
    return 0


def _columns(table: str, parts: Iterable[Columns]) -> list[str]:
    return sorted({column for part in parts for column in part.get(table, ())}, key=_identifier)


def _since(table: str, column: str | None = None) -> Version:
    return next(version for version in Version if exists_in(version, table, column))


def _quote(role: str) -> str:
    """Return a quotation mark that does not occur in the role's name."""
    marks = (f"$grant{number}$" for number in count())
    return "$$" if "$" not in role else next(mark for mark in marks if mark not in role)


def _deleted(table: str, accesses: Iterable[Access]) -> bool:
    return any(table in access.delete for access in accesses)


def _identifier(name: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in RESERVED_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    run_command(main)
