"""The limit of a purge: the same statements over the whole set in one transaction, plus unlink.

What no engine with bounded batches can beat: no claims in portions, no second look, one commit,
and a plain loop over the files without any of the checks that make a deletion safe. It leaves the
empty directories of bundles behind, unless it is told to remove them too (`--directories`).
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, text

from benchmarks.memory import peak_kib
from maintenance.database import engine_for, transaction
from maintenance.settings import Settings, settings
from maintenance.storage.layout import BUNDLE, OLDER_BUNDLE, Bundle, keep_outputs
from maintenance.storage.store import Keep, keep_nothing
from tasks.batching.row_changes import RowDeletion, RowUpdate, apply_changes
from tasks.purge.output_rows import OutputItem, output_changes, read_outputs
from tasks.purge.submission_rows import SubmissionItem, purge_changes, read_related

SUBMISSION_COLUMNS = "s.id, s.expires_at, s.created, s.retention_policy, s.input_file"
DUE = {
    "purge-expired-submissions": (
        f"SELECT {SUBMISSION_COLUMNS} FROM submissions_submission s"  # noqa: S608 - a constant
        " WHERE s.expires_at <= now() AND s.content_purged_at IS NULL FOR UPDATE"
    ),
    "process-purge-retries": (
        f"SELECT {SUBMISSION_COLUMNS} FROM submissions_submission s"  # noqa: S608 - a constant
        " JOIN submissions_purgeretry r ON r.submission_id = s.id"
        " WHERE r.next_retry_at <= now() FOR UPDATE"
    ),
    "purge-expired-outputs": (
        "SELECT id, org_id, output_expires_at FROM validations_validationrun"
        " WHERE output_expires_at <= now() AND output_purged_at IS NULL FOR UPDATE"
    ),
}


def main() -> None:
    """Purge everything in one transaction and print the counts."""
    job = sys.argv[1]
    current = settings()
    started = time.monotonic()
    with transaction(engine_for(current, "limit")) as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        rows = connection.execute(text(DUE[job])).all()
        if job == "purge-expired-outputs":
            changes = _outputs(current, connection, [OutputItem(*row) for row in rows])
        else:
            changes = _submissions(current, connection, [SubmissionItem(*row) for row in rows])
        apply_changes(connection, changes)
    seconds = time.monotonic() - started
    print(json.dumps({"done": len(rows), "duration_seconds": seconds}))
    print(f"peak_kib={peak_kib()}", file=sys.stderr)


def _submissions(
    current: Settings, connection: Connection, items: Sequence[SubmissionItem]
) -> list[RowUpdate | RowDeletion]:
    read_related(connection, items, with_uris=False)
    for item in items:
        _unlink(current.private_root / key for key in item.file_keys)
        for bundle in item.bundles:
            _empty(current, bundle, keep_outputs(bundle.attempt_ids))
    return purge_changes(items, redact_traces=True)


def _outputs(
    current: Settings, connection: Connection, items: Sequence[OutputItem]
) -> list[RowUpdate | RowDeletion]:
    read_outputs(connection, items)
    for item in items:
        _unlink(current.private_root / key for key in item.file_keys)
        _empty(current, item.bundles[0], keep_nothing)
    return output_changes(items, redact_traces=True)


def _empty(current: Settings, bundle: Bundle, keep: Keep) -> None:
    for root, template in ((current.bundle_root, BUNDLE), (current.public_root, OLDER_BUNDLE)):
        directory = root / template.format(org_id=bundle.org_id, run_id=bundle.run_id)
        for here, names, files in os.walk(directory):
            parts = Path(here).relative_to(directory).parts
            names[:] = [name for name in names if not keep((*parts, name), True)]  # noqa: FBT003
            _unlink(
                Path(here) / name
                for name in files
                if not keep((*parts, name), False)  # noqa: FBT003
            )
        if "--directories" in sys.argv:
            for here, _, _ in os.walk(directory, topdown=False):
                with suppress(OSError):  # what is kept in it keeps it
                    os.rmdir(here)  # noqa: PTH106 - the plain call is what is measured


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            os.unlink(path)  # noqa: PTH108 - the plain call is what is measured
        except FileNotFoundError:
            continue


if __name__ == "__main__":
    main()
