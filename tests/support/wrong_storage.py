"""A Validibot with work for every job that touches files, on a volume that can be mounted."""

import os
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine

from maintenance import schema
from maintenance import settings as settings_module
from tests.support.markers import mark_storage
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, NOW, Validibot

ITEMS = 25
"""Of each kind: more than tell something about a storage."""

PURGE_JOBS = ("purge-expired-submissions", "purge-expired-outputs", "process-purge-retries")


@dataclass
class Scene:
    """The application, its volume, and the path at which the jobs expect it.

    Attributes:
        app: rows, and files on the volume.
        volume: the volume, with `private/` and `public/`.
        mount_point: STORAGE_ROOT of the jobs.
    """

    app: Validibot
    volume: Path
    mount_point: Path

    def false_stamps(self) -> set[UUID]:
        """The submissions and runs that are stamped as purged and have bytes on the volume."""
        names = self.app.files()
        found: set[UUID] = set()
        for table, stamp in ((schema.submissions, "content_purged_at"), RUN_STAMP):
            for key, row in self.app.rows(table).items():
                if row[stamp] is not None and any(str(key) in name for name in names):
                    found.add(key)
        return found

    def stamped(self) -> int:
        """How many submissions and runs are stamped."""
        return sum(
            row[stamp] is not None
            for table, stamp in ((schema.submissions, "content_purged_at"), RUN_STAMP)
            for row in self.app.rows(table).values()
        )


RUN_STAMP = (schema.runs, "output_purged_at")


def make_scene(
    database: Engine, folder: Path, patch: pytest.MonkeyPatch, *, older: bool = False
) -> Scene:
    """Make a scene; the volume is marked, and nothing is mounted.

    Every file has the id of its submission or run in its key.

    Args:
        database: an empty database.
        folder: where the volume and the mount point are made.
        patch: sets STORAGE_ROOT.
        older: whether the run bundles are in the older layout, below `public/`.
    """
    volume, mount_point = folder / "volume", folder / "mounted"
    for name in ("private", "public"):
        (volume / name).mkdir(parents=True)
    mount_point.mkdir()
    mark_storage(volume)
    app = Validibot(database, volume)
    for number in range(ITEMS):
        _add_items(app, queued=number % 5 == 0, older=older)
    patch.setenv("STORAGE_ROOT", str(mount_point))
    settings_module.settings.cache_clear()
    return Scene(app, volume, mount_point)


def _add_items(app: Validibot, *, queued: bool, older: bool) -> None:
    """Add a submission with its file, a run of it, and two runs whose outputs are due."""
    submission = uuid4()
    key = f"submissions/{submission}.json"
    app.submission(id=submission, input_file=key)
    app.file(key)
    if queued:
        app.queued(submission)
    _bundle(app, app.run(submission), older=older)
    for policy, deadline in (("STORE_7_DAYS", NOW - DAY), ("DO_NOT_STORE", None)):
        run_id = app.run(
            None,
            output_retention_policy=policy,
            output_expires_at=deadline,
            ended_at=NOW - 8 * DAY,
        )
        _bundle(app, run_id, older=older)
        file = f"artifacts/{run_id}.html"
        app.file(file)
        app.insert(schema.artifacts, validation_run_id=run_id, org_id=app.org_id, file=file)


def _bundle(app: Validibot, run_id: UUID, *, older: bool) -> None:
    folder = app.bundle(run_id, older=older)
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "model.idf").write_text("secret")
    app.attempt(app.step_run(run_id))


def add_stuck_runs(app: Validibot) -> set[UUID]:
    """Add runs that cleanup-stuck-runs times out, and writes evidence of."""
    hanging = Hanging(app)
    found = set()
    for _ in range(ITEMS):
        run_id = hanging.run()
        hanging.tried(run_id)
        found.add(run_id)
    return found


def bare(mount_point: Path, *names: str) -> None:
    """Make folders in the bare mount point, as an application does that runs without its volume."""
    for name in names:
        (mount_point / name).mkdir(parents=True)
    assert not os.path.ismount(mount_point)
