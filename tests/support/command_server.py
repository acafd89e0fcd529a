"""Forks processes that run `python -m MODULE` without importing Prefect anew (its server's side).

`tests/support/commands.py` is the client's side, and says what such a process has in common with a
fresh one. An order comes through the socket as a byte with four open files: the order as JSON, the
process's standard output and standard error, and a pipe. The pipe gets a line with the identifier
of the process, and one with its exit status as `subprocess.Popen` gives it.

Each order is carried out by a process of its own, which waits for the one of the command. So this
one, which is forked, has no thread and no state.
"""

import array
import gc
import io
import json
import os
import runpy
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILES = 4
PRELOADED = (
    "flows.jobs",
    "maintenance.cli",
    "deployments.setup.apply",
    "deployments.monitoring.preflight",
    "tests.support.runs",
)
PYTHON_PATH, UNBUFFERED, ENCODING = "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONIOENCODING"


def receive(control: socket.socket) -> list[int]:
    """Return the files of the next order; none when the client is gone."""
    numbers = array.array("i")
    room = socket.CMSG_LEN(FILES * numbers.itemsize)
    byte, ancillary, _, _ = control.recvmsg(1, room)
    if not byte:
        return []
    ((_, _, data),) = ancillary
    numbers.frombytes(data)
    return list(numbers)


def next_order(control: socket.socket) -> dict[str, Any]:
    """Return an order in the process that shall carry it out; end when the client is gone."""
    while files := receive(control):
        watcher = os.fork()
        if watcher == 0:
            order, output, errors, pipe = files
            pid = os.fork()
            if pid == 0:
                return started(order, output, errors, {pipe, control.detach()})
            os.write(pipe, f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            os.write(pipe, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)
        for number in files:
            os.close(number)
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    raise SystemExit


def started(order: int, output: int, errors: int, foreign: set[int]) -> dict[str, Any]:
    """Give this process the open files of a fresh one; return its order."""
    with os.fdopen(order) as file:
        found: dict[str, Any] = json.load(file)
    for number, place in ((output, sys.stdout.fileno()), (errors, sys.stderr.fileno())):
        os.dup2(number, place)
    for number in {output, errors} | foreign:
        os.close(number)
    return found


def prepare(order: dict[str, Any], own: dict[str, str]) -> None:
    """Make the state of this process that of a fresh one with the order's environment."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["-m", *order["arguments"]]
    sys.orig_argv = [sys.executable, "-m", order["module"], *order["arguments"]]
    named = [part for part in os.environ.get(PYTHON_PATH, "").split(os.pathsep) if part]
    sys.path[:] = [order["cwd"], *dict.fromkeys([*named, *sys.path[1:]])]
    set_up_streams()
    if relevant(own, str(ROOT)) != relevant(dict(os.environ), order["cwd"]):
        configure_prefect()


def set_up_streams() -> None:
    """Set up the standard streams as the environment says."""
    encoding, _, handling = os.environ.get(ENCODING, "").partition(":")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        if encoding:
            stream.reconfigure(encoding=encoding, errors=handling or "strict")
        if os.environ.get(UNBUFFERED) and stream is not sys.stdin:
            stream.reconfigure(line_buffering=True)
    if encoding:
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def relevant(environment: dict[str, str], directory: str) -> dict[str, str]:
    """Return what Prefect's settings are made from at its import."""
    names = (name for name in environment if name.startswith("PREFECT_") or name == "HOME")
    return {name: environment[name] for name in names} | {"directory": directory}


def configure_prefect() -> None:
    """Do what the import of Prefect does: read its settings, and set up its loggers."""
    from prefect import context  # noqa: PLC0415
    from prefect.logging import configuration  # noqa: PLC0415

    del context.GLOBAL_SETTINGS_CONTEXT  # otherwise it names the profiles to read
    context.refresh_global_settings_context()
    configuration.PROCESS_LOGGING_CONFIG.clear()
    configuration.setup_logging()


def main() -> None:
    """Wait for orders, and run the module of one in the process that was forked for it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in PRELOADED:
        import_module(module)
    # Tests that run a flow in their process need them; to make them takes longer than most runs.
    import_module("tests.support.runs").settings_offline()
    gc.freeze()  # so that collections do not copy the pages that the processes share
    own = dict(os.environ)
    order = next_order(control)
    prepare(order, own)
    # Nothing catches its exceptions: the interpreter ends this process as it ends a fresh one.
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
