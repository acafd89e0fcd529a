"""`python -m maintenance`: checks and reports on this project's set-up (SPEC 9).

check: is everything there that the jobs need? status: when did each job run, and what is overdue?
run, pause, resume: a job on the Prefect server, by its name. import-beat-schedules: apply the
schedules of Celery Beat to the deployments, and with --take-over disable its tasks. accept-restore:
let the purge jobs work on a database that was restored from a backup.

This is the one module of the package that imports from the layers above; no module imports it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from deployments.commands import add_commands
from deployments.monitoring.preflight import deployment_checks
from deployments.monitoring.status import as_json, as_table, read_status
from deployments.setup.beat_import import import_schedules
from maintenance.checks.beat import BEAT, beat_check
from maintenance.checks.database import NAMES, database_check
from maintenance.checks.engine import ENGINE, engine_check
from maintenance.checks.finding import (
    Check,
    Finding,
    Severity,
    carry_out,
    error,
    not_checked,
    ok,
    warning,
)
from maintenance.checks.restore import RESTORE, restore_check
from maintenance.checks.storage import storage_checks
from maintenance.command_line import Parser, say
from maintenance.database import engine_for
from maintenance.errors import MaintenanceError, SettingsError
from maintenance.outside_text import one_line
from maintenance.restore import accept, look_back
from maintenance.settings import Settings, settings
from maintenance.storage.adoption import Adoption, adopt_roots, application_of, check_roots
from maintenance.storage.roots import open_roots, private_root
from maintenance.unknown_variables import unknown_variables, variables_of

OK, WRONG = 0, 1
SETTINGS, STORAGE = "settings", "storage"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options = _parse(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except MaintenanceError as problem:
        print(f"python -m maintenance: {one_line(str(problem))}", file=sys.stderr)
        return WRONG


def find() -> list[Finding]:
    """Run the whole preflight."""
    own, checks = _own_checks()
    return [*own, *carry_out([*checks, *deployment_checks()])]


def _own_checks() -> tuple[list[Finding], list[Check]]:
    try:
        current = settings()
    except SettingsError as problem:
        action = "docs/settings.md has all variables"
        names = (*NAMES, BEAT, STORAGE, RESTORE, ENGINE)
        found = error(SETTINGS, one_line(str(problem)), action)
        return [found, *not_checked(names, "the settings are wrong")], []
    checks = [
        database_check(current),
        beat_check(current),
        *storage_checks(current),
        restore_check(current),
        engine_check(current),
    ]
    target = current.deployment_target or "not set"
    text = f"storage is {current.data_storage_backend}, DEPLOYMENT_TARGET is {target}"
    unknown = unknown_variables(variables_of(Settings.model_fields))
    found = warning(SETTINGS, text, "; ".join(unknown)) if unknown else ok(SETTINGS, text)
    return [found], checks


def _check(options: argparse.Namespace) -> int:
    findings = find()
    failed = any(one.level is Severity.ERROR for one in findings)
    if options.json:
        checks = [one.as_json() for one in findings]
        say(json.dumps({"ok": not failed, "checks": checks}))
    else:
        say("\n".join(str(one) for one in findings))
    return WRONG if failed else OK


def _status(options: argparse.Namespace) -> int:
    status = read_status()
    if options.json:
        say(json.dumps(as_json(status)))
    else:
        say(as_table(status))
        for problem in status.problems:
            print(f"python -m maintenance: {problem}", file=sys.stderr)
    return WRONG if status.problems else OK


def _import(options: argparse.Namespace) -> int:
    if options.keep_schedules and not options.take_over:
        raise MaintenanceError("--keep-schedules belongs to --take-over: nothing was to be done")
    done = import_schedules(
        dry_run=options.dry_run,
        take_over=options.take_over,
        keep_schedules=options.keep_schedules,
    )
    made, disabled = "Changed", "Disabled in Beat"
    if options.dry_run:
        made, disabled = "Would change", "Would disable in Beat"
    parts = [
        *((made, done.changes.made), ("As in Beat already", done.changes.kept)),
        *(("Left", done.left), ("Not deployed", done.missing)),
        *([] if done.disabled is None else [(disabled, done.disabled)]),
    ]
    for title, lines in parts:
        if lines or title in {made, disabled}:
            say("\n".join((f"{title}:", *(f"  {line}" for line in lines or ["nothing"]))))
    if done.missing:
        print("python -m maintenance: run `python -m deployments` first", file=sys.stderr)
    return WRONG if done.missing else OK


def _adopt(options: argparse.Namespace) -> int:
    current = settings()
    with ExitStack() as opened:
        roots = open_roots(current, opened)
        engine = engine_for(current, "storage adopt")
        found = adopt_roots(engine, roots, dry_run=options.dry_run, force=options.force)
        refused = not options.force and any(one.refused for one in found)
        for one in found:
            say(_described(one, refused=refused, options=options))
    if refused:
        print(
            "python -m maintenance: nothing was adopted; mount the right storage, or use --force"
            " if you are certain that this is it",
            file=sys.stderr,
        )
    return WRONG if refused else OK


def _accept(options: argparse.Namespace) -> int:
    current = settings()
    with ExitStack() as opened:
        roots = open_roots(current, opened)
        engine = engine_for(current, "accept-restore")
        check_roots(roots, application_of(engine))
        private = private_root(roots)
        found = look_back(engine, private).problem
        if not options.dry_run:
            accept(engine, private)
    say(found or "the database is as new as what the last run saw")
    say("would be accepted" if options.dry_run else "accepted: the purge jobs work again")
    return OK


def _described(one: Adoption, *, refused: bool, options: argparse.Namespace) -> str:
    place, problem = one.state.root.store.place, one.state.problem
    if problem is None:
        return f"{place}: adopted before"
    if one.state.root.store.absent:
        done = "not accepted" if refused else "accepted as absent"
    elif refused:
        done = "refused" if one.refused else "not adopted"
    else:
        done = "would be adopted" if options.dry_run else "adopted"
    return f"{place} {problem}; {one.findings}: {done}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m maintenance",
        description=__doc__,
        epilog="Exit status: 0 no error, 1 errors were found, 2 bad options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="check everything that the jobs need")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(command=_check)
    status = commands.add_parser("status", help="list the jobs with their runs and backlog")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(command=_status)
    add_commands(commands)
    beat = commands.add_parser(
        "import-beat-schedules", help="apply the schedules that were edited in Celery Beat"
    )
    beat.add_argument("--dry-run", action="store_true", help="only report what would be done")
    beat.add_argument(
        "--take-over",
        action="store_true",
        help="then disable in Beat's table the tasks that the jobs replace",
    )
    beat.add_argument(
        "--keep-schedules",
        action="store_true",
        help="with --take-over: import nothing, as after a restore of Validibot's database",
    )
    beat.set_defaults(command=_import)
    restored = commands.add_parser(
        "accept-restore", help="let the purge jobs work on a database that was restored"
    )
    restored.add_argument("--dry-run", action="store_true", help="only say what was found")
    restored.set_defaults(command=_accept)
    storage = commands.add_parser("storage", help="say which storage is the application's")
    actions = storage.add_subparsers(required=True, metavar="ACTION")
    adopt = actions.add_parser("adopt", help="mark the storage roots as the application's")
    adopt.add_argument("--dry-run", action="store_true", help="only say what would be done")
    adopt.add_argument(
        "--force", action="store_true", help="adopt even if files that rows name are missing"
    )
    adopt.set_defaults(command=_adopt)
    return parser.parse_args(arguments)
