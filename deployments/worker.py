"""`python -m deployments.worker`: request one clean-up of containers, then run a Prefect worker.

A worker that was killed may have left validator containers behind. So the worker first requests one
run of cleanup-orphaned-containers, which removes only containers that outlived their time and is
safe beside other workers. If the server does not answer, a warning is printed and the worker
starts. So it is if a worker of the same name seems to be at work. A work pool that does not exist
is an error: no run would ever come.

Then this process is replaced by `deployments/serving.py`, which runs `prefect worker start` and
stops its runs before it ends. Arguments after `--` are passed on to the worker.

The worker has no `--limit`. No job runs twice at a time, so there are never more runs than jobs.
And a worker with a limit does not start a run again that it still counts, as when a crashed run is
started again at once: the run waits for the next look (docs/decisions/0010).
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from deployments.client import server
from deployments.monitoring.worker_names import same_name
from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.worker_settings import WORKER_SETTINGS
from flows.cleanup_orphaned_containers import JOB
from maintenance.command_line import Parser, run_command
from maintenance.outside_text import one_line

FAILED = 1
REQUEST_SECONDS = 10.0
RETRIES = 3
"""A server on SQLite answers that it is busy during another write."""
TAG = "worker-start"
DEFAULTS = WORKER_SETTINGS | {
    # The health check is for this machine only.
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
}
"""Defaults; the environment overrides them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Request the clean-up and become the worker; return only if that is refused."""
    options = _parse(arguments)
    missing = find_missing_pool(options.pool)
    if missing is None:
        now = datetime.now(UTC)
        problem = request_clean_up(now)
        if problem:
            _warn(f"no clean-up at start: {problem}")
        name = worker_name(options.options)
        taken = find_same_name(options.pool, name, now) if name else None
        if taken:
            _warn(taken)
        become_worker(options.pool, options.options)
    _warn(missing)
    return FAILED


def become_worker(pool: str, extra: Sequence[str]) -> NoReturn:
    """Replace this process by the worker."""
    serving = [sys.executable, "-m", "deployments.serving"]
    command = [*serving, *worker_command(pool, extra)]
    os.execve(command[0], command, worker_environment(os.environ))  # noqa: S606 - our own Python


def request_clean_up(now: datetime) -> str | None:
    """Request one run from the Prefect server; return why that failed, None if it did not.

    At most one run per minute is created, however many workers start. A paused job gets none.
    """
    if not PREFECT_API_URL.value():
        return "PREFECT_API_URL is not set"
    name = f"{JOB.name}/{DEPLOYMENT}"
    short = {PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS, PREFECT_CLIENT_MAX_RETRIES: RETRIES}
    try:
        with temporary_settings(short), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(name)
            if deployment.paused or not any(one.active for one in deployment.schedules):
                return f"{name} is paused"
            client.create_flow_run_from_deployment(
                deployment.id, tags=[TAG], idempotency_key=f"{TAG} {now:%Y-%m-%dT%H:%M}"
            )
    except ObjectNotFound:
        return f"there is no deployment {name}; `python -m deployments` makes it"
    except PrefectHTTPStatusError as error:
        return f"the Prefect server answered {error.response.status_code}"
    except Exception as error:  # noqa: BLE001 - the worker must start in any case
        return f"the Prefect server does not answer: {type(error).__name__}"
    return None


def find_missing_pool(name: str) -> str | None:
    """Return that the server has no work pool of this name, and which name may be meant.

    Prefect's worker would make the pool and wait in it for ever. None when the pool is there, or
    when the server cannot be asked: then the worker waits for it, and makes no pool either.
    """
    if not PREFECT_API_URL.value():
        return None
    short = {PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS, PREFECT_CLIENT_MAX_RETRIES: RETRIES}
    try:
        with temporary_settings(short), get_client(sync_client=True) as client:
            names = [one.name for one in client.read_work_pools()]
    except Exception:  # noqa: BLE001 - the request for the clean-up says what is wrong
        return None
    if name in names:
        return None
    if name == WORK_POOL:
        return f"there is no work pool {name}; `python -m deployments` makes it"
    near = get_close_matches(name, names, 1)
    meant = f"; do you mean {near[0]}?" if near else f"; there are: {', '.join(names) or 'none'}"
    return f"there is no work pool {name}{meant}"


def find_same_name(pool: str, name: str, now: datetime) -> str | None:
    """Return a warning if a worker of this name seems to be at work; None if that is unknown."""
    try:
        with server(retries=0) as client:
            return same_name(client, pool, name, now)
    except Exception:  # noqa: BLE001 - the worker must start in any case
        return None


def worker_name(options: Sequence[str]) -> str | None:
    """Return the name among options of `prefect worker start`, None if Prefect makes one up."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--name", "-n")
    try:
        found, _ = parser.parse_known_args(list(options))
    except argparse.ArgumentError:
        return None
    return found.name or None


def worker_command(pool: str, extra: Sequence[str]) -> list[str]:
    """Return the command line of Prefect's worker in this Python.

    With prefect-docker it is the one that sees how containers end: the server says of which type
    the pool is, and it may not answer yet.
    """
    module = "deployments.docker_worker" if find_spec("prefect_docker") else "prefect"
    return [
        *(sys.executable, "-m", module, "worker", "start"),
        *("--pool", pool, "--with-healthcheck"),
        *("--install-policy", "never", "--no-create-pool-if-not-found"),
        *extra,
    ]


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment: defaults filled in, this Python first on the PATH.

    Deployments start their runs with `python`.
    """
    path = environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    ours = str(Path(sys.executable).parent)
    if path.partition(os.pathsep)[0] != ours:
        path = f"{ours}{os.pathsep}{path}"
    chosen = {name: environment.get(name) or default for name, default in DEFAULTS.items()}
    return {**environment, **chosen, "PATH": path}


def _warn(text: str) -> None:
    sys.stderr.write(f"python -m deployments.worker: {one_line(text)}\n")
    sys.stderr.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m deployments.worker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pool", default=WORK_POOL, help="work pool (default: %(default)s)")
    parser.add_argument(
        "options",
        nargs="*",
        metavar="-- OPTION",
        help="options of `prefect worker start`, such as --name",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
