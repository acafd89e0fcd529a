"""`python -m flows.engine`: the process of one run of a deployment, which is Prefect's own.

It does what `python -m prefect.engine` does, with the same arguments, variables, signals and exit
status, and two things before:

It waits for the Prefect server. Prefect tries a lost connection again, but not a first one, so a
run that starts while the server restarts would be lost: it ends as Crashed and looks like code that
cannot be loaded, which no automation starts again. With no server for two minutes it ends with
status 75. When Prefect gives up and the server is away just then, the process
begins anew, with the wait.

It looks for garbage less often, and not at its end. That saves a fifth of the processor time of a
run that finds nothing to do (docs/performance.md).

Only the standard library is imported at the top, and of it what Prefect imports anyway: the
collector's limits have to be there before the rest is.
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
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlsplit, urlunsplit

WAIT_SECONDS = 120.0
POLL_SECONDS = 1.0
ANSWER_SECONDS = 10.0

LOST = 1
"""Exit status of Prefect's engine when something was in its way, a lost server or anything else."""
NO_SERVER = 75
"""Exit status without a server: EX_TEMPFAIL of sysexits.h, a failure that passes."""

YOUNG_OBJECTS = 10_000
"""So many new objects before a search for garbage among them; Python's default is 700 to 2,000.

Prefect's import makes 190,000, and most of them stay. In a long run no more than this waits for a
search, and most garbage waits for none, because there is no cycle in it.
"""


def main(wait_seconds: float = WAIT_SECONDS) -> None:
    """Be a run's process; does not return but by Prefect's own exit."""
    environment = dict(os.environ)  # Prefect takes some of it away
    spare_searches_for_garbage()
    importlib.import_module("prefect")  # takes most of the time until the first connection
    health = health_address(environment.get("PREFECT_API_URL", ""))
    if not wait_for_server(health, wait_seconds):
        sys.exit(NO_SERVER)
    try:
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code == LOST and health is not None and absence(health) is not None:
            _say("lost the Prefect server, begins anew")
            # Should the run have ended all the same, the server will say so.
            os.execve(sys.executable, [*sys.orig_argv], environment)  # noqa: S606 - this very command
        raise


def spare_searches_for_garbage() -> None:
    """Let the collector search seldom while the process works, and not when it ends.

    At its end Python searches all that there is for cycles to take apart, in memory that goes back
    to the system at once. What is frozen is left out. To be called before anything is imported:
    what is registered first is called last, so what others do at exit comes before it.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    atexit.register(gc.freeze)


def wait_for_server(health: str | None, seconds: float) -> bool:
    """Wait until the Prefect server answers; return whether it does.

    One request where the server is there. Whatever else is wrong, such as an address that is none
    or a certificate that is not trusted, is left to Prefect to say.
    """
    problem = None if health is None else absence(health)
    if health is None or problem is None:
        return True
    deadline = time.monotonic() + seconds
    _say(f"waits for the Prefect server, at most {seconds:.0f} s: {health}: {problem}")
    while problem is not None:
        if time.monotonic() >= deadline:
            _say(f"no Prefect server for {seconds:.0f} s, gives up: {problem}")
            return False
        time.sleep(POLL_SECONDS)
        problem = absence(health)
    _say("the Prefect server is there")
    return True


def absence(address: str, seconds: float = ANSWER_SECONDS) -> str | None:
    """Return why nobody is there, None when somebody is, or when this is for Prefect to judge.

    Nobody: no connection (a container that is down has no name either), one that is closed without
    a word, no answer in time, or the answer of a proxy, or of a server that is starting, that it
    cannot serve.
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
    """Return where to ask, None when the address is none of HTTP.

    It needs no login, so a name and password in the address are left out.
    """
    try:
        parts = urlsplit(api_address)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"}:
        return None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))


def _say(text: str) -> None:
    sys.stderr.write(f"python -m flows.engine: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
