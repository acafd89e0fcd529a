"""`kill -9` at every point of a run loses nothing (SPEC 2.5)."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from demo.embedded import EmbeddedServer
from flows.jobs import JOBS
from maintenance import schema
from maintenance.database import dispose_engines
from maintenance.settings import DRIVER, settings
from maintenance.storage.local_root import PART
from tests.support.crash_points import choice, crash_points
from tests.support.crash_run import NEVER, crash
from tests.support.markers import mark_storage
from tests.support.residue import Residue, leave_residue
from tests.support.runs import run
from tests.support.stuck import Hanging
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = pytest.mark.timeout(600)

RESIDUE = "reclaim-residue"

PURGES = {
    "purge-expired-submissions",
    "purge-expired-outputs",
    "process-purge-retries",
    RESIDUE,
}

ON_CONTAINERS = {"cleanup-orphaned-containers"}
"""Changes nothing in the database or in files; a test of its own kills it on a container engine."""

STARTED = datetime.now(UTC)

SESSIONS_LEFT = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Scene:
    """A small Validibot with every kind of work for every job."""

    def __init__(self, validibot: Validibot) -> None:
        inline = validibot.submission()
        step_id = validibot.step_run(validibot.run(inline))
        validibot.attempt(step_id)
        validibot.trace(step_id)
        validibot.file("ports/1/weather.epw")
        validibot.port_file(inline, input_file="ports/1/weather.epw")
        validibot.file("submissions/1.json")
        filed = validibot.submission(input_file="submissions/1.json")
        run_id = validibot.run(filed)
        self._bundles(validibot, run_id)
        validibot.submission(expires_at=None)
        validibot.submission(retention_policy="DO_NOT_STORE")
        (validibot.root / "private/submissions/blocked").mkdir()
        blocked = validibot.submission(input_file="submissions/blocked")
        running = validibot.submission()
        validibot.run(running, status="RUNNING", ended_at=None)
        validibot.submission(created=NOW - DAY, expires_at=NOW + 6 * DAY)
        validibot.submission(retention_policy="STORE_PERMANENTLY", expires_at=None)
        unqueued = validibot.submission(retention_policy="DO_NOT_STORE", expires_at=None)
        self._outputs(validibot, unqueued)
        for queued in (filed, running, blocked):
            validibot.queued(queued)
        lasting = validibot.run(None)
        for number in range(4):
            validibot.session(NOW - number * DAY)
            validibot.idempotency_key(NOW - number * DAY)
            receipt = validibot.receipt(NOW - (number + 29) * DAY, lasting)
            validibot.continuation(lasting, receipt)
        self._hanging(validibot)
        self.before = validibot.snapshot()

    def _outputs(self, validibot: Validibot, submission: UUID) -> None:
        for deadline in (NOW - DAY, None):
            run_id = validibot.run(
                submission,
                output_retention_policy="STORE_7_DAYS",
                output_expires_at=deadline,
                error="x",
            )
            step_id = validibot.step_run(run_id)
            validibot.insert(
                schema.findings, validation_run_id=run_id, validation_step_run_id=step_id
            )
            key = f"artifacts/{run_id}/a.csv"
            validibot.file(key)
            validibot.insert(
                schema.artifacts, validation_run_id=run_id, org_id=validibot.org_id, file=key
            )
            self._bundles(validibot, run_id)

    def _hanging(self, validibot: Validibot) -> None:
        """Runs that hang, and one that was ended and not finished."""
        hanging = Hanging(validibot)
        for policy, state in (("DO_NOT_STORE", "RUNNING"), ("STORE_PERMANENTLY", "PENDING")):
            submission = validibot.submission(retention_policy=policy, expires_at=None)
            hanging.tried(hanging.run(submission), state=state)
        hanging.left()
        validibot.continuation(hanging.run(), state="PENDING")

    def _bundles(self, validibot: Validibot, run_id: UUID) -> None:
        for root, prefix in (("private", "runs"), ("public", "files/runs")):
            for name in ("input.json", "output.json", "attempts/x/input/a.txt"):
                validibot.file(f"{prefix}/{validibot.org_id}/{run_id}/{name}", root=root)

    def check_stamps(self, validibot: Validibot) -> None:
        """What is stamped has no bytes left, and receipts tell the truth, at any moment."""
        present = validibot.files()
        submissions = self.before["submissions_submission"]
        runs = self.before["validations_validationrun"]
        purged = validibot.purged()
        for identifier in purged:
            assert f"private/{submissions[identifier]['input_file']}" not in present
        for run_id, row in validibot.rows(schema.runs).items():
            mine = {path for path in present if str(run_id) in path}
            if row["output_purged_at"] is not None:
                assert mine == set()
            elif runs[run_id]["submission_id"] in purged:
                assert {path for path in mine if "/runs/" in path} == {
                    path for path in mine if path.endswith("/output.json")
                }
        for receipt in validibot.rows(schema.evidence).values():
            manifest = validibot.root / "private" / receipt["manifest_path"]
            assert sha256(manifest.read_bytes()).hexdigest() == receipt["manifest_hash"]


def settled(validibot: Validibot) -> dict[str, Any]:
    """The database and files, with the moments and the folder of the test itself made equal."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(str(validibot.root), "the root")
        return "written now" if isinstance(value, datetime) and value > STARTED else value

    def rows(name: str, found: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
        # The queue's own numbers differ when a crash has used one up; receipts draw theirs.
        own = KEYS.get(name)
        return {
            row[own] if own else key: {
                column: plain(value)
                for column, value in row.items()
                if not (own and column == "id") and not depends_on_its_end(name, column, row)
            }
            for key, row in found.items()
        }

    snapshot = validibot.snapshot()
    # An unfinished marker goes when the next one is written.
    files = {path for path in snapshot.pop("files") if PART not in path}
    return {**{name: rows(name, found) for name, found in snapshot.items()}, "files": files}


KEYS = {"submissions_purgeretry": "submission_id", "validations_runevidenceartifact": "run_id"}


def depends_on_its_end(name: str, column: str, row: dict[str, Any]) -> bool:
    """Whether a value is computed from the moment at which the test's run has ended a run."""
    if name == "validations_runevidenceartifact":
        return column == "manifest_hash"
    ended = row.get("ended_at")
    return column in ("duration_ms", "output_hash") and ended is not None and ended > STARTED


_stages = count()


class Stage:
    """Fresh copies of a scene: database and files."""

    def __init__(
        self,
        server: EmbeddedServer,
        base: Path,
        make: Callable[[Validibot], Scene | Residue] = Scene,
    ) -> None:
        self.server = server
        self.base = base
        self._numbers = count()
        # A worker process may come to this module several times.
        self.name = f"crash_{make.__name__.lower()}_{next(_stages)}"
        for name in ("private", "public"):
            (base / "scene" / name).mkdir(parents=True)
        mark_storage(base / "scene")
        url = server.create_database(self.name, template="template_validibot")
        engine = create_engine(url.set(drivername=DRIVER))
        self.scene = make(Validibot(engine, base / "scene"))
        engine.dispose()

    def fresh(self) -> tuple[str, Validibot]:
        """Return the address of a copy, and the copy."""
        name = f"{self.name}_{next(self._numbers)}"
        url = self.server.create_database(name, template=self.name)
        root = self.base / name
        shutil.copytree(self.base / "scene", root)
        copy = Validibot.__new__(Validibot)
        copy.engine = create_engine(url.set(drivername=DRIVER))
        copy.root = root
        return url.render_as_string(hide_password=False), copy

    def use(self, address: str, copy: Validibot, patch: pytest.MonkeyPatch) -> None:
        """Let the settings be those of a copy."""
        patch.setenv("DATABASE_URL", address)
        patch.setenv("STORAGE_ROOT", str(copy.root))
        settings.cache_clear()

    def drop(self, copy: Validibot) -> None:
        """Remove a copy."""
        dispose_engines()
        settings.cache_clear()
        copy.engine.dispose()
        self.server.drop_database(copy.name)
        shutil.rmtree(copy.root)


@pytest.fixture(scope="module")
def stage(
    server: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Stage:
    return Stage(server, tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def stage_of_residue(
    server: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Stage:
    return Stage(server, tmp_path_factory.mktemp("crash"), leave_residue)


@pytest.mark.parametrize(
    "job",
    [
        # Each in a group of its own: together they would take longer than all other files.
        pytest.param(job, marks=pytest.mark.xdist_group(f"crashes of {job}"))
        for job in sorted(JOBS.keys() - ON_CONTAINERS)
    ],
)
def test_2_5_a_crash_at_any_point_is_completed_by_the_next_run(
    job: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: Stage = request.getfixturevalue("stage_of_residue" if job == RESIDUE else "stage")
    undisturbed = expected_end(job, stage, monkeypatch)

    def crashed(point: int) -> tuple[str, Validibot, list[str]]:
        address, copy = stage.fresh()
        reached = crash(job=job, url=address, root=copy.root, as_of=NOW, point=point)
        return address, copy, reached

    def total() -> int:
        _, copy, reached = crashed(NEVER)
        stage.drop(copy)
        return len(reached)

    names: list[str] = []
    points = crash_points(job, total)
    point = next(points)
    with ThreadPoolExecutor(1) as ahead:  # the next crash happens while this one is examined
        coming = ahead.submit(crashed, point)
        for following in points:
            address, copy, names = coming.result()
            coming = ahead.submit(crashed, following)
            wait_for_sessions_to_end(copy.engine)
            stage.use(address, copy, monkeypatch)
            stage.scene.check_stamps(copy)
            run(JOBS[job].flow, as_of=NOW)
            stage.scene.check_stamps(copy)
            if job == "process-purge-retries":
                # What the killed run had queued is due from then on, which is after NOW.
                run(JOBS[job].flow)
            assert settled(copy) == undisturbed, f"after a crash before: {names[-1]} ({choice()})"
            stage.drop(copy)
            if len(names) <= point:
                break
            point = following
        stage.drop(coming.result()[1])
    # The points were real ones: statements, commits, and for a purge, files and directories.
    assert "COMMIT" in names
    if job == "cleanup-stuck-runs":
        assert {"open to create", "os.link", "os.mkdir"} <= set(names)
    else:
        assert any("DELETE FROM" in name for name in names)
    if job in PURGES:
        assert {"os.remove", "os.rmdir"} <= set(names)


def expected_end(job: str, stage: Stage, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what a run that nothing disturbs leaves; make sure that it did something, once."""
    address, copy = stage.fresh()
    stage.use(address, copy, patch)
    before = settled(copy)
    first = run(JOBS[job].flow, as_of=NOW)
    end = settled(copy)
    assert first.done > 0
    assert end != before
    if job != "purge-expired-outputs":  # which meets a failing run again, by design
        again = run(JOBS[job].flow, as_of=NOW)
        assert (again.selected - again.deferred, again.repaired) == (0, {})
        assert settled(copy) == end
    stage.drop(copy)
    return end


def wait_for_sessions_to_end(engine: Engine) -> None:
    """Wait until the server has noticed that the child is gone, and rolled back."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.execute(SESSIONS_LEFT).scalar_one() == 0:
                return
        time.sleep(0.01)
    pytest.fail("sessions of the killed process are still there")
