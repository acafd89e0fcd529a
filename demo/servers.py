"""The demo's Prefect server and worker, as child processes."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.api import PrefectApi
from demo.login import new_login
from demo.ports import LOCALHOST, free_port
from demo.processes import Child, ChildFailed, start_child, wait_until
from deployments.names import WORK_POOL
from deployments.worker_settings import WORKER_SETTINGS

START_SECONDS = 90.0
PORT_ATTEMPTS = 3
PORT_TAKEN = "already in use"
STOP_SECONDS = 4.0

SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "2",
    # With leases in memory, a restart of the server would kill healthy runs.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Without it, automations receive no events of active runs for up to 15 minutes after a restart.
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "deployments.ordering",
}


def prefect_command(*arguments: str) -> list[str]:
    """Return the command line of a Prefect command in this Python."""
    return [sys.executable, "-m", "prefect", *arguments]


class PrefectServer:
    """A Prefect server on a free port of this machine, for as long as the block lasts.

    It is started at once and needs seconds until it answers, time for other things. It has a login
    of its own, because web pages reach the loopback, too: without a login each of them could start
    commands on this machine.

    Attributes:
        login: user name and password, as Prefect's client and its UI take them.
    """

    def __init__(self, home: Path, logs: Path, environment: Mapping[str, str]) -> None:
        """Say where it keeps its data, and where its log."""
        self.login = new_login()
        self._home = home
        self._log = logs / "prefect-server.log"
        self._environment = {
            **environment,
            **SERVER_SETTINGS,
            "PREFECT_SERVER_API_AUTH_STRING": self.login,
            "PREFECT_HOME": str(home),
            # Otherwise it would write the UI's files into its own package.
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
        }

    def __enter__(self) -> Self:
        """Start it."""
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.api.close()
        self.child.stop(STOP_SECONDS)

    @property
    def client_settings(self) -> dict[str, str]:
        """What a client of this server needs in its environment."""
        return {
            "PREFECT_HOME": str(self._home),
            "PREFECT_API_URL": f"{self.api.address}/api",
            "PREFECT_API_AUTH_STRING": self.login,
        }

    def wait_until_ready(self) -> None:
        """Wait until it answers; on another port when its port was taken meanwhile.

        Raises:
            ChildFailed: it ended, or took too long.
        """
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                wait_until(
                    self.api.answers, START_SECONDS, "the start of the Prefect server", [self.child]
                )
            except ChildFailed:
                if attempt == PORT_ATTEMPTS or PORT_TAKEN not in self.child.said():
                    raise
                self.api.close()
                self._start()
            else:
                return

    def restart(self) -> None:
        """Kill it as a power cut would, and start it again at the same address.

        Raises:
            ChildFailed: it ended, or took too long.
        """
        self.api.close()
        self.child.kill()
        self._start(self._port)
        self.wait_until_ready()

    def _start(self, port: int | None = None) -> None:
        self._port = port or free_port()
        address = f"http://{LOCALHOST}:{self._port}"
        self.api = PrefectApi(address, self.login)
        self.child: Child = start_child(
            "the Prefect server",
            [
                *(sys.executable, "-m", "deployments.collecting", "server", "start"),
                *("--host", LOCALHOST, "--port", str(self._port)),
            ],
            self._log,
            # The pages of the UI ask the address that the server tells them, not the one they
            # came from; unsaid, that is the default port.
            {
                **self._environment,
                "PREFECT_SERVER_UI_API_URL": f"{address}/api",
                # Pages of other origins may not read what the server answers. Empty means all.
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
            },
        )


def start_worker(logs: Path, environment: Mapping[str, str]) -> Child:
    """Start a worker of the work pool, with the jobs' settings in its environment."""
    command = prefect_command(
        *("worker", "start", "--pool", WORK_POOL, "--type", "process"),
        *("--name", "demo", "--install-policy", "never"),
    )
    return start_child(
        "the worker", command, logs / "worker.log", {**environment, **WORKER_SETTINGS}
    )
