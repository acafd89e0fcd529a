"""`python -m deployments.worker`: ask for one clean-up of containers, then be a Prefect worker.

A worker that was killed may have left containers of validators behind. So the server is asked for
one run of cleanup-orphaned-containers, which removes what outlived its time and nothing else: it
is safe beside other workers. A server that cannot be asked is a warning, and the worker starts.

Then this process becomes the one that keeps `prefect worker start`, and lets it end with its runs
(`deployments/serving.py`). What follows `--` is passed on to the worker.

It has no `--limit`: no job runs twice at a time, so there are never more runs than jobs. And a
worker of Prefect 3.8 that has one ends, and takes its runs along, when it is given a run again that
it still counts, as happens when a run that crashed, or was taken for dead, is started again.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from deployments.names import DEPLOYMENT, WORK_POOL
from deployments.worker_settings import WORKER_SETTINGS
from flows.cleanup_orphaned_containers import JOB

ASK_SECONDS = 10.0
ASK_RETRIES = 3
"""A server on SQLite says that it is busy while another request writes."""
TAG = "worker-start"
DEFAULTS = WORKER_SETTINGS | {
    # Health is nobody else's business.
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
}
"""Used where the environment does not say otherwise."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask for the clean-up, and become the worker; does not return."""
    options = _parse(arguments)
    problem = ask_for_clean_up(datetime.now(UTC))
    if problem:
        sys.stderr.write(f"python -m deployments.worker: no clean-up at start: {problem}\n")
        sys.stderr.flush()
    serving = [sys.executable, "-m", "deployments.serving"]
    command = [*serving, *worker_command(options.pool, options.options)]
    os.execve(command[0], command, worker_environment(os.environ))  # noqa: S606 - our own Python


def ask_for_clean_up(now: datetime) -> str | None:
    """Ask the Prefect server for one run; return why that was not possible.

    Workers that start in the same minute, and one that starts again and again, get one run
    together. A job whose schedule an operator has paused is left alone.
    """
    if not PREFECT_API_URL.value():
        return "PREFECT_API_URL is not set"
    name = f"{JOB.name}/{DEPLOYMENT}"
    impatient = {PREFECT_API_REQUEST_TIMEOUT: ASK_SECONDS, PREFECT_CLIENT_MAX_RETRIES: ASK_RETRIES}
    try:
        with temporary_settings(impatient), get_client(sync_client=True) as client:
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
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker must start
        return f"the Prefect server cannot be asked: {type(error).__name__}"
    return None


def worker_command(pool: str, extra: Sequence[str]) -> list[str]:
    """Return the command line of Prefect's worker in this Python."""
    return [
        *(sys.executable, "-m", "prefect", "worker", "start"),
        *("--pool", pool, "--with-healthcheck"),
        *("--install-policy", "never"),
        *extra,
    ]


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which runs find this Python, with what is not said otherwise.

    Deployments start their runs with `python`, so its folder comes first on the PATH.
    """
    path = environment.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    ours = str(Path(sys.executable).parent)
    if path.partition(os.pathsep)[0] != ours:
        path = f"{ours}{os.pathsep}{path}"
    chosen = {name: environment.get(name) or default for name, default in DEFAULTS.items()}
    return {**environment, **chosen, "PATH": path}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
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
    main()
