"""A run in a container of its own finds out by itself that it is to be cancelled.

A worker of type process sends its runs a signal when they are cancelled; one of type docker does
not reach into its containers. So a thread of the run asks the Prefect server every two seconds, and
then sends this process the stop request that ends the run after its batch (docs/decisions, 7). What
has not ended after the grace period is set to Cancelled and exits: every batch is a transaction.
"""

import os
import signal
import threading
import time
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from maintenance.stop_request import REPEATABLE

ASK_SECONDS = 2.0
AGAIN_SECONDS = 0.5
GRACE_SECONDS = 25.0
"""As for a worker that is stopped (deployments/serving.py)."""


def watch(flow_run: UUID) -> None:
    """Watch for the cancellation of a run, in a thread that ends with the process."""
    signal.signal(REPEATABLE, signal.SIG_IGN)  # until the run is ready to stop
    threading.Thread(target=_watch, args=(flow_run,), name="cancellation", daemon=True).start()


def _watch(flow_run: UUID) -> None:
    while True:
        time.sleep(ASK_SECONDS)
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(flow_run).state
                if state is not None and state.is_cancelling():
                    _stop(client, flow_run)
        except Exception:  # noqa: BLE001, S112 - a server that is away, or answers oddly
            continue


def _stop(client: SyncPrefectClient, flow_run: UUID) -> None:
    """Repeat the stop request, because it is ignored until the run is ready; then end the run."""
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        os.kill(os.getpid(), REPEATABLE)
        time.sleep(AGAIN_SECONDS)
    late: State[None] = Cancelled(message="It did not stop in time, and was ended")
    client.set_flow_run_state(flow_run, late, force=True)
    os._exit(0)
