"""A run that hangs in a real container, ended by the worker of a real Prefect server."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from demo.environment import clean_environment
from demo.ports import free_port
from demo.processes import Child, start_child
from demo.runs import run_deployment
from demo.servers import PrefectServer
from deployments.worker import worker_command
from maintenance import schema
from maintenance.settings import Settings
from tests.support.docker_engine import Containers
from tests.support.validibot import Validibot

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(400)]

HOUR = timedelta(hours=1)
DEPLOYMENT = "cleanup-stuck-runs/default"


@pytest.fixture
def worker(
    quiet_server: PrefectServer, environment: Settings, containers: Containers, tmp_path: Path
) -> Iterator[Child]:
    """A worker with the settings of an operator: database, storage and container engine."""
    ours = {
        "DATABASE_URL": os.environ["DATABASE_URL"],
        "STORAGE_ROOT": os.environ["STORAGE_ROOT"],
        "DEPLOYMENT_TARGET": "self_hosted",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_WEBSERVER_PORT": str(free_port()),
    }
    child = start_child(
        "the worker",
        worker_command("maintenance", ["--name", "end-to-end"]),
        tmp_path / "worker.log",
        clean_environment(os.environ, tmp_path) | quiet_server.client_settings | ours,
    )
    yield child
    child.stop(5)


def test_a_run_that_hangs_in_a_container_is_ended_within_one_run_of_the_job(
    validibot: Validibot, containers: Containers, quiet_server: PrefectServer, worker: Child
) -> None:
    now = datetime.now(UTC)
    begun = now - HOUR
    submission = validibot.submission(
        retention_policy="DO_NOT_STORE", expires_at=None, created=begun
    )
    run_id = validibot.run(
        submission, status="RUNNING", created=begun, started_at=begun, ended_at=None, user_id=None
    )
    step = validibot.step_run(run_id, status="RUNNING")
    # It ignores the request to end, as what hangs does, and is young enough to be no orphan.
    hanging = containers.make("running", started=begun, run_id=run_id, stop_signal="SIGTERM")
    other = containers.make("running", started=begun)
    attempt = validibot.attempt(
        step,
        state="RUNNING",
        created=begun,
        timeout_at=now - timedelta(minutes=1),
        provider_execution_id=hanging,
    )

    finished = run_deployment(
        quiet_server.api, DEPLOYMENT, {}, (worker, quiet_server.child), lambda _: None
    )
    assert finished.state.completed, (finished.state, worker.said())
    assert "1 of 1 done" in finished.state.message

    ended = validibot.row(schema.runs, run_id)
    assert (ended["status"], ended["error_category"]) == ("TIMED_OUT", "TIMEOUT")
    assert ended["ended_at"] > now
    tried = validibot.row(schema.attempts, attempt)
    assert (tried["state"], tried["last_error_code"]) == ("TIMED_OUT", "run_timed_out")
    assert containers.ids() == {other}
    assert containers.state(other) == "running"

    key = f"evidence/{validibot.org_id}/{run_id}/manifest.json"
    manifest = (validibot.root / "private" / key).read_bytes()
    (evidence,) = validibot.rows(schema.evidence).values()
    assert (evidence["run_id"], evidence["availability"]) == (run_id, "GENERATED")
    assert evidence["manifest_path"] == key
    assert evidence["manifest_hash"] == hashlib.sha256(manifest).hexdigest()

    (queued,) = validibot.rows(schema.purge_retries).values()
    assert (queued["submission_id"], queued["attempt_count"]) == (submission, 0)
    assert queued["next_retry_at"] < datetime.now(UTC)
