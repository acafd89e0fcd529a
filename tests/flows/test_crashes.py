"""`kill -9` at every point of a run loses nothing (SPEC 2.5)."""

import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from flows.jobs import JOBS
from maintenance import schema
from maintenance.database import dispose_engines
from maintenance.embedded import EmbeddedServer
from maintenance.settings import DRIVER, settings
from tests.support.crash_server import CrashServer, crash_server
from tests.support.runs import run
from tests.support.validibot import DAY, NOW, Validibot

pytestmark = pytest.mark.timeout(600)

SESSIONS_LEFT = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Scene:
    """A small Validibot with every kind of work, and what must become of it."""

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
        for root, prefix in (("private", "runs"), ("public", "files/runs")):
            for name in ("input.json", "output.json", "attempts/x/input/a.txt"):
                validibot.file(f"{prefix}/{validibot.org_id}/{run_id}/{name}", root=root)
        self.kept_files = {
            f"private/runs/{validibot.org_id}/{run_id}/output.json",
            f"public/files/runs/{validibot.org_id}/{run_id}/output.json",
        }
        undated = validibot.submission(expires_at=None)
        self.purged: set[UUID] = {inline, filed, undated}
        self.queued = validibot.submission(retention_policy="DO_NOT_STORE")
        (validibot.root / "private/submissions/blocked").mkdir()
        self.failing = validibot.submission(input_file="submissions/blocked")
        running = validibot.submission()
        validibot.run(running, status="RUNNING", ended_at=None)
        future = validibot.submission(created=NOW - DAY, expires_at=NOW + 6 * DAY)
        forever = validibot.submission(retention_policy="STORE_PERMANENTLY", expires_at=None)
        self.untouched: set[UUID] = {running, future, forever}
        for number in range(4):
            validibot.session(NOW - number * DAY)
        self.before = validibot.snapshot()

    def check_stamps(self, validibot: Validibot) -> None:
        """What is stamped has no bytes left, at any moment."""
        present = validibot.files() - self.kept_files
        old = self.before["submissions_submission"]
        for identifier in validibot.purged():
            key = old[identifier]["input_file"]
            assert f"private/{key}" not in present
            for run_id, row in self.before["validations_validationrun"].items():
                if row["submission_id"] == identifier:
                    assert not [path for path in present if str(run_id) in path]

    def check_end(self, validibot: Validibot) -> None:
        """All that is due is gone, and nothing else has changed."""
        assert validibot.purged() == self.purged
        assert validibot.files() == self.kept_files
        rows = validibot.rows(schema.submissions)
        old = self.before["submissions_submission"]
        assert {key: rows[key] for key in self.untouched} == {
            key: old[key] for key in self.untouched
        }
        assert rows[self.failing] == old[self.failing]
        queue = validibot.rows(schema.purge_retries).values()
        assert {row["submission_id"]: row["attempt_count"] for row in queue} == {
            self.queued: 0,
            self.failing: 1,
        }

    def check_sessions(self, validibot: Validibot) -> None:
        """Only the session that expires at the cutoff is left, and nothing else has changed."""
        left = [row["expire_date"] for row in validibot.rows(schema.sessions).values()]
        assert left == [NOW]
        after = validibot.snapshot()
        assert {**after, "django_session": None} == {**self.before, "django_session": None}


class Stage:
    """Fresh copies of the scene: database and files."""

    def __init__(self, server: EmbeddedServer, base: Path) -> None:
        self.server = server
        self.base = base
        self._numbers = count()
        for name in ("private", "public"):
            (base / "scene" / name).mkdir(parents=True)
        url = server.create_database("crash_scene", template="template_validibot")
        engine = create_engine(url.set(drivername=DRIVER))
        self.scene = Scene(Validibot(engine, base / "scene"))
        engine.dispose()

    def fresh(self, patch: pytest.MonkeyPatch) -> tuple[str, Validibot]:
        """Return the address of a copy, and the copy, which is now the settings' one too."""
        name = f"crash_{next(self._numbers)}"
        url = self.server.create_database(name, template="crash_scene")
        root = self.base / name
        shutil.copytree(self.base / "scene", root)
        address = url.render_as_string(hide_password=False)
        patch.setenv("DATABASE_URL", address)
        patch.setenv("STORAGE_ROOT", str(root))
        settings.cache_clear()
        copy = Validibot.__new__(Validibot)
        copy.engine = create_engine(url.set(drivername=DRIVER))
        copy.root = root
        return address, copy

    def drop(self, copy: Validibot) -> None:
        """Remove a copy."""
        dispose_engines()
        settings.cache_clear()
        name = copy.engine.url.database
        copy.engine.dispose()
        assert name is not None
        self.server.drop_database(name)
        shutil.rmtree(copy.root)


@pytest.fixture(scope="module")
def stage(
    server: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Stage:
    return Stage(server, tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def crasher() -> Iterator[CrashServer]:
    with crash_server() as started:
        yield started


@pytest.mark.parametrize("job", sorted(JOBS))
def test_2_5_a_crash_at_any_point_is_completed_by_the_next_run(
    job: str, stage: Stage, crasher: CrashServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    for point in count():
        address, copy = stage.fresh(monkeypatch)
        names = crasher.crash(job=job, url=address, root=copy.root, as_of=NOW, point=point)
        wait_for_sessions_to_end(copy.engine)
        stage.scene.check_stamps(copy)
        run(JOBS[job].flow, as_of=NOW)
        check: Any = (
            stage.scene.check_sessions if job == "clear-sessions" else stage.scene.check_end
        )
        check(copy)
        settled = copy.snapshot()
        third = run(JOBS[job].flow, as_of=NOW)
        assert (third.selected, third.repaired) == (0, {})
        assert copy.snapshot() == settled
        stage.drop(copy)
        if len(names) <= point:
            break
    # The points were real ones: statements, commits, and for the purge, files and directories.
    assert "COMMIT" in names
    assert any("DELETE FROM" in name for name in names)
    if job == "purge-expired-submissions":
        assert {"os.remove", "os.rmdir"} <= set(names)


def wait_for_sessions_to_end(engine: Engine) -> None:
    """Wait until the server has noticed that the child is gone, and rolled back."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with engine.connect() as connection:
            if connection.execute(SESSIONS_LEFT).scalar_one() == 0:
                return
        time.sleep(0.01)
    pytest.fail("sessions of the killed process are still there")
