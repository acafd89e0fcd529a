"""Prints what a process has of its own, for the comparison of a forked one with a fresh one."""

import json
import logging
import os
import signal
import sys
import threading
from codecs import lookup
from pathlib import Path
from typing import Any

from prefect.context import get_settings_context

from flows.jobs import JOBS


def state() -> dict[str, Any]:
    """Return it, fit for JSON."""
    context = get_settings_context()
    return {
        "arguments": sys.argv,
        "command": sys.orig_argv,
        "path": sys.path,
        "main": sys.modules["__main__"].__name__,
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
        "streams": [
            [lookup(stream.encoding).name, stream.errors, stream.isatty()]
            for stream in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "signals": {number.name: str(signal.getsignal(number)) for number in signal.Signals},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": [thread.name for thread in threading.enumerate()],
        "files": sorted(path.name for path in Path("/dev/fd").iterdir()),
        "profile": context.profile.name,
        "settings": context.settings.to_environment_variables(),
        "loggers": loggers(),
        "flows": {name: plain(job.flow) for name, job in JOBS.items()},
    }


def plain(flow: Any) -> dict[str, Any]:
    """Return a flow's options."""
    simple = (bool, int, float, str, type(None))
    return {name: value for name, value in vars(flow).items() if isinstance(value, simple)}


def loggers() -> dict[str, Any]:
    """Return the levels and handlers of all loggers that have any."""
    known = {"root": logging.getLogger()} | {
        name: logging.getLogger(name) for name in logging.root.manager.loggerDict
    }
    return {
        name: [
            logger.level,
            logger.propagate,
            [handler.__class__.__name__ for handler in logger.handlers],
        ]
        for name, logger in known.items()
        if logger.level or logger.handlers
    }


if __name__ == "__main__":
    print(json.dumps(state()))  # noqa: T201
