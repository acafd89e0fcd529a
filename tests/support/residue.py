"""What Validibot's own purges leave: workspaces and readable traces of rows that are stamped.

Its purge of a submission deletes the uploaded files and the older bundle layout, and clears rows;
the workspaces of the container workers stay, and so do the resolved input traces.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from maintenance import schema
from tests.support.validibot import DAY, NOW, Validibot

WEEK = 7 * DAY
PURGED = NOW - DAY
CLEARED = {"name": "", "content": "", "input_file": "", "original_filename": "", "metadata": {}}


class Residue:
    """Makes rows and files as Validibot leaves them.

    Attributes:
        gone: paths that reclaim-residue deletes, below the storage root.
        kept: paths that it must not touch.
    """

    def __init__(self, validibot: Validibot) -> None:
        self.validibot = validibot
        self.gone: set[str] = set()
        self.kept: set[str] = set()

    def submission(self, **values: Any) -> UUID:
        """A submission that Validibot has purged."""
        row = {**CLEARED, "content_purged_at": PURGED, "expires_at": None}
        return self.validibot.submission(**{**row, **values})

    def run(self, submission: UUID | None = None, **values: Any) -> UUID:
        """A run whose outputs Validibot has purged."""
        row = {
            "short_description": "",
            "output_retention_policy": "STORE_7_DAYS",
            "output_purged_at": PURGED,
        }
        return self.validibot.run(submission, **{**row, **values})

    def step(self, run_id: UUID, *, trace: bool = True) -> int:
        """Its step without values, whose attempt is cleared, and a trace that is still readable."""
        empty: dict[str, Any] = {"input_values": {}, "output_values": {}}
        step = self.validibot.step_run(run_id, **empty)
        if trace:
            self.validibot.trace(step)
        return step

    def attempt(self, step: int) -> UUID:
        """An attempt as both purges leave it."""
        blank = ("execution_bundle_uri", "input_envelope_uri", "input_envelope_sha256")
        others = ("output_envelope_uri", "output_envelope_sha256")
        return self.validibot.attempt(
            step, **dict.fromkeys((*blank, *others), ""), input_evidence_snapshot={}
        )

    def files(self, run_id: UUID, *names: str, older: bool = False, org_id: object = None) -> Path:
        """The files of a bundle that go; they were written two weeks ago."""
        self.gone |= self._write(run_id, names, older=older, org_id=org_id)
        return self.validibot.bundle(run_id, older=older)

    def keep(self, run_id: UUID, *names: str, older: bool = False, org_id: object = None) -> None:
        """The files of a bundle that stay."""
        self.kept |= self._write(run_id, names, older=older, org_id=org_id)

    def single(self, key: str, *, kept: bool = False) -> str:
        """A single file below `private/`."""
        self.validibot.file(key)
        (self.kept if kept else self.gone).add(f"private/{key}")
        return key

    def check_stamps(self, validibot: Validibot) -> None:
        """What must not be touched is there, at any moment."""
        present = validibot.files()
        assert self.kept <= present
        assert present <= self.kept | self.gone

    def _write(
        self, run_id: UUID, names: tuple[str, ...], *, older: bool, org_id: object
    ) -> set[str]:
        root, runs = ("public", "files/runs") if older else ("private", "runs")
        org = self.validibot.org_id if org_id is None else org_id
        paths = set()
        for name in names:
            path = self.validibot.file(f"{runs}/{org}/{run_id}/{name}", root=root)
            touch(path, NOW - 2 * WEEK)
            paths.add(str(path.relative_to(self.validibot.root)))
        return paths


def touch(path: Path, moment: datetime) -> None:
    """Let a file or directory be of this moment, to the microsecond."""
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)) // timedelta(
        microseconds=1
    )
    os.utime(path, ns=(microseconds * 1000, microseconds * 1000), follow_symlinks=False)


def leave_residue(validibot: Validibot) -> Residue:
    """Leave residue of every kind, beside what must stay."""
    residue = Residue(validibot)
    _purged_runs(residue)
    _purged_submissions(residue)
    _without_rows(residue)
    _untouchable(residue)
    return residue


def _purged_runs(residue: Residue) -> None:
    validibot = residue.validibot
    for older in (False, True):
        run_id = residue.run()
        residue.step(run_id)
        residue.files(run_id, "input.json", "output.json", "attempts/x/input/a", older=older)
    read = residue.run(error="wrong area 12.5", output_hash="a" * 64)
    step = validibot.step_run(read, output={"html": "x"}, error="x")
    validibot.attempt(step)
    validibot.insert(schema.findings, validation_run_id=read, validation_step_run_id=step)
    validibot.insert(schema.run_summaries, run_id=read, extras={"a": 1})
    key = residue.single(f"artifacts/{read}/a.csv")
    validibot.insert(schema.artifacts, validation_run_id=read, org_id=validibot.org_id, file=key)
    clean = residue.run()
    residue.attempt(residue.step(clean, trace=False))


def _purged_submissions(residue: Residue) -> None:
    validibot = residue.validibot
    submission = residue.submission()
    run_id = validibot.run(submission, short_description="")
    step = residue.step(run_id)
    attempt = residue.attempt(step)
    names = ("input.json", "output.json.bak", "attempts/y/output/a")
    residue.files(run_id, *names, f"attempts/{attempt}/input/a")
    residue.keep(run_id, "output.json", f"attempts/{attempt}/output/a.html")
    both = residue.submission()
    twice = residue.run(both, short_description="about alice")
    validibot.attempt(validibot.step_run(twice))
    validibot.trace(
        residue.validibot.step_run(twice, workflow_step_id=validibot.step_ids[1], step_order=20)
    )
    residue.files(twice, "input.json", "output.json")
    ports = residue.submission()
    validibot.port_file(ports, input_file=residue.single("ports/unstamped"))
    stamped = residue.single("ports/stamped")
    validibot.port_file(ports, input_file=stamped, file_purged_at=PURGED)
    clean = residue.submission()
    quiet = validibot.run(clean, short_description="")
    residue.attempt(residue.step(quiet, trace=False))
    residue.keep(quiet, "output.json")


def _without_rows(residue: Residue) -> None:
    residue.files(uuid4(), "input.json", "attempts/x/output/a")
    residue.files(uuid4(), "input.json", older=True)
    fresh = uuid4()
    residue.keep(fresh, "input.json", "output.json")
    touch(residue.validibot.bundle(fresh) / "output.json", NOW - WEEK)
    residue.keep(uuid4(), "input.json", org_id="backup")
    for name in ("latest", str(uuid4()).upper(), uuid4().hex):
        path = residue.validibot.file(f"runs/{residue.validibot.org_id}/{name}/input.json")
        touch(path, NOW - 2 * WEEK)
        residue.kept.add(str(path.relative_to(residue.validibot.root)))


def _untouchable(residue: Residue) -> None:
    """Rows that are not stamped, that are at work, or that were stamped after the cutoff."""
    validibot = residue.validibot
    lasting = validibot.submission(retention_policy="STORE_PERMANENTLY", expires_at=None)
    stored = validibot.run(lasting)
    validibot.trace(validibot.step_run(stored))
    residue.keep(stored, "input.json", "output.json")
    busy = residue.submission()
    for status, ended in (("SUCCEEDED", NOW - 8 * DAY), ("RUNNING", None)):
        run_id = validibot.run(busy, status=status, ended_at=ended)
        validibot.trace(validibot.step_run(run_id))
        residue.keep(run_id, "input.json", "output.json")
    running = residue.run(status="RUNNING", ended_at=None)
    residue.keep(running, "input.json")
    later = residue.run(output_purged_at=NOW + DAY)
    residue.keep(later, "input.json")
    elsewhere = validibot.run(lasting)
    residue.keep(elsewhere, "input.json", org_id=validibot.org_id + 1)
    residue.single(f"evidence/{validibot.org_id}/{stored}/manifest.json", kept=True)
