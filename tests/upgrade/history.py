"""What a Prefect server has seen before it is upgraded: history, and what an operator changed."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from demo.processes import wait_until
from demo.servers import PrefectServer, start_worker
from deployments.names import DEPLOYMENT
from tests.support.prefect_server import ask, deployments, edit_schedule

EDITED, CRON, TIME_ZONE = "clear-sessions", "7 4 * * *", "Europe/Berlin"
"""The job whose schedule an operator edits, and how."""
SCHEDULE_PAUSED = "purge-expired-outputs"
"""The job whose schedule an operator pauses."""
DEPLOYMENT_PAUSED = "cleanup-stuck-runs"
"""The job whose deployment an operator pauses."""

BY_HAND = (
    (EDITED,),
    ("purge-expired-submissions", "--dry-run"),
    ("purge-expired-submissions", "--max-batches", "1"),
)
BY_THE_WORKER = ("cleanup-idempotency-keys", "purge-expired-submissions")
COMMAND_SECONDS = 120
RUN_SECONDS = 120
STOP_SECONDS = 30


def python(
    server: PrefectServer, environment: Mapping[str, str], folder: Path, *arguments: str
) -> str:
    """Run a command with the server's address in its environment; it must end well."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, **server.client_settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    return ran.stdout


def make_history(server: PrefectServer, environment: Mapping[str, str], folder: Path) -> None:
    """Apply the deployments, run jobs by hand and by a worker, and change what an operator may.

    Args:
        server: a server without records.
        environment: names a database with sample data, and a storage root.
        folder: for logs.
    """
    python(server, environment, folder, "-m", "deployments")
    for command in BY_HAND:
        python(server, environment, folder, "-m", "flows", *command)
    worker = start_worker(folder, {**environment, **server.client_settings})
    try:
        for job in BY_THE_WORKER:
            run = server.api.start_run(f"{job}/{DEPLOYMENT}", {})

            def ended(run: str = run) -> bool:
                state = server.api.state(run)
                return state is not None and state.final

            wait_until(ended, RUN_SECONDS, f"a run of {job}", [worker])
    finally:
        worker.stop(STOP_SECONDS)
    schedule = {"cron": CRON, "timezone": TIME_ZONE, "day_or": True}
    edit_schedule(server, EDITED, {"schedule": schedule})
    edit_schedule(server, SCHEDULE_PAUSED, {"active": False})
    paused = deployments(server)[DEPLOYMENT_PAUSED]["id"]
    ask(server, "POST", f"/deployments/{paused}/pause_deployment")
