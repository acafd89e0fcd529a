"""The limit of a purge: the same statements over the whole set in one transaction, plus unlink.

What no engine with bounded batches can beat: no claims in portions, no second look, one commit,
and a plain loop over the files without any of the checks that make a deletion safe.
"""

import json
import os
import sys
import time
from pathlib import Path

from sqlalchemy import text

from benchmarks.memory import peak_kib
from maintenance.database import engine_for, transaction
from maintenance.settings import settings
from maintenance.storage.layout import BUNDLE, OLDER_BUNDLE, Bundle, keep_outputs
from tasks.changes import apply
from tasks.submission_rows import SubmissionItem, purge_changes, read_related

DUE = text(
    "SELECT id, expires_at, created, retention_policy, input_file FROM submissions_submission"
    " WHERE expires_at <= now() AND content_purged_at IS NULL FOR UPDATE"
)


def main() -> None:
    """Purge everything at once and print what was done."""
    current = settings()
    started = time.monotonic()
    with transaction(engine_for(current, "limit")) as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        items = [
            SubmissionItem(
                row.id, row.expires_at, row.created, row.retention_policy, row.input_file
            )
            for row in connection.execute(DUE)
        ]
        read_related(connection, items)
        for item in items:
            for key in item.file_keys:
                _unlink(current.private_root / key)
            for bundle in item.bundles:
                for root, template in (
                    (current.bundle_root, BUNDLE),
                    (current.public_root, OLDER_BUNDLE),
                ):
                    _empty(
                        root / template.format(org_id=bundle.org_id, run_id=bundle.run_id), bundle
                    )
        apply(connection, purge_changes(items, redact_traces=True))
    seconds = time.monotonic() - started
    print(json.dumps({"done": len(items), "duration_seconds": seconds}))
    print(f"peak_kib={peak_kib()}", file=sys.stderr)


def _empty(directory: Path, bundle: Bundle) -> None:
    keep = keep_outputs(bundle.attempt_ids)
    for here, names, files in os.walk(directory):
        parts = Path(here).relative_to(directory).parts
        names[:] = [name for name in names if not keep((*parts, name), True)]  # noqa: FBT003
        for name in files:
            if not keep((*parts, name), False):  # noqa: FBT003
                _unlink(Path(here) / name)


def _unlink(path: Path) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - the plain call is what is measured
    except FileNotFoundError:
        return


if __name__ == "__main__":
    main()
