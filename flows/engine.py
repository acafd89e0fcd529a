"""`python -m flows.engine`: the process of one run of a deployment.

It does what `python -m prefect.engine` does, with the same arguments, variables, signals and exit
status, and adds three things:

It waits for the Prefect server. Prefect retries a lost connection, but not the first one, so a run
that starts while the server restarts would end as Crashed. That looks like code that cannot be
loaded, which no automation restarts. Without a server for two minutes the process exits with status
75. When Prefect gives up while the server is unreachable, the process starts again, with the wait.

In a container of its own it finds out by itself that the run is to be cancelled.

It collects garbage less often, and not at exit. This saves a fifth of the processor time of a run
that finds nothing to do (docs/performance.md).

At the top only the standard library and a module that needs no more are imported, because the
garbage collector must be set before Prefect is imported.
"""

import atexit
import gc
import importlib
import os
import runpy
import ssl
import sys
import time
import urllib.error
import urllib.request
import uuid
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

from maintenance.proxies import pass_by_proxies

WAIT_SECONDS = 120.0
POLL_SECONDS = 1.0
ANSWER_SECONDS = 10.0

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
WATCH_CANCELLATION = "MAINTENANCE_WATCH_CANCELLATION"
"""Set where no worker sends a signal to a run that is cancelled: see flows/cancellation.py."""

LOST = 1
"""Exit status of Prefect's engine after a failure of its own, for example a lost server."""
NO_SERVER = 75
"""Exit status without a server: EX_TEMPFAIL of sysexits.h, a temporary failure."""

YOUNG_OBJECTS = 10_000
"""Number of new objects that starts a garbage collection; Python's default is 700 to 2,000.

Importing Prefect makes 190,000 objects, most of which stay. In a long run at most this many objects
await a collection. Most objects need none, because they are not part of a reference cycle.
"""


def main(wait_seconds: float = WAIT_SECONDS) -> None:
    """Execute a flow run, then exit as Prefect's engine does."""
    pass_by_proxies()
    environment = dict(os.environ)  # a copy, because Prefect removes some variables
    reduce_garbage_collection()
    importlib.import_module("prefect")  # the slow part, so before the server is checked
    health = health_address(environment.get("PREFECT_API_URL", ""))
    if environment.get(WATCH_CANCELLATION):
        flow_run = uuid.UUID(environment[FLOW_RUN] if len(sys.argv) < 2 else sys.argv[1])  # noqa: PLR2004
        importlib.import_module("flows.cancellation").watch(flow_run)
    if not wait_for_server(health, wait_seconds):
        sys.exit(NO_SERVER)
    try:
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code == LOST and health is not None and why_unreachable(health) is not None:
            _log("lost the Prefect server, starting again")
            # If the run has ended nevertheless, the server refuses to start it again.
            os.execve(sys.executable, [*sys.orig_argv], environment)  # noqa: S606 - this command
        raise


def reduce_garbage_collection() -> None:
    """Collect garbage less often while the process runs, and not at exit.

    At exit Python searches all objects for cycles, in memory that is returned to the system right
    afterwards. Frozen objects are not searched. Call this before anything else is imported: exit
    handlers run in reverse order, so the handlers of other modules run before the freeze.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    atexit.register(gc.freeze)


def wait_for_server(health: str | None, seconds: float) -> bool:
    """Wait until the Prefect server answers.

    Args:
        health: the address to request; None returns at once.
        seconds: the longest wait.

    Returns:
        Whether the server answered. Other problems, such as an invalid address or an untrusted
        certificate, count as an answer: Prefect reports them.
    """
    problem = None if health is None else why_unreachable(health)
    if health is None or problem is None:
        return True
    deadline = time.monotonic() + seconds
    _log(f"waiting up to {seconds:.0f} s for the Prefect server: {health}: {problem}")
    while problem is not None:
        if time.monotonic() >= deadline:
            _log(f"gave up after {seconds:.0f} s without the Prefect server: {problem}")
            return False
        time.sleep(POLL_SECONDS)
        problem = why_unreachable(health)
    _log("the Prefect server answers")
    return True


def why_unreachable(address: str, seconds: float = ANSWER_SECONDS) -> str | None:
    """Return why no server answers at an address; None when one does.

    A server is unreachable when the host name is unknown (as for a stopped container), the
    connection is refused or closed, there is no answer within `seconds`, or the answer is a status
    of 500 or above (a proxy without its server, a server that is starting). Any other problem
    returns None, because waiting does not help and Prefect reports it.
    """
    try:
        with urllib.request.urlopen(address, timeout=seconds):  # noqa: S310 - see health_address
            return None
    except urllib.error.HTTPError as error:
        with error:
            return str(error) if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    except OSError as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        return None if isinstance(cause, (ssl.SSLError, str)) else str(cause)
    except (HTTPException, ValueError):
        return None


def health_address(api_address: str) -> str | None:
    """Return the address of the server's health check; None when the API's address is not HTTP.

    The health check needs no login, so a name and password in the address are left out.
    """
    try:
        parts = urlsplit(api_address)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"}:
        return None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))


def _log(text: str) -> None:
    """Write a line; a server's reason and the address in the environment are text from outside."""
    safe = importlib.import_module("maintenance.outside_text")  # it imports a library, see above
    safe.escape_what_cannot_be_printed()
    sys.stderr.write(f"python -m flows.engine: {safe.one_line(text)}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
