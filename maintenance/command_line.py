"""What all commands have in common: how they read options, print, use proxies and end (SPEC 9)."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from maintenance.outside_text import escape_what_cannot_be_printed
from maintenance.proxies import pass_by_proxies

READER_GONE = 141
"""Exit status when the reader of the output is gone: 128 and the number of SIGPIPE, as a shell
gives to a command that the signal has ended. The signal itself stays ignored: it would also end a
run whose database closes the connection."""


class Parser(argparse.ArgumentParser):
    """A parser, also of its subcommands, that takes options by their whole names only.

    An abbreviation changes its meaning when an option is added, and `--rem` must not remove
    anything.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of argparse
        """Make it without abbreviations."""
        super().__init__(*args, **{"allow_abbrev": False, **options})


def run_command(main: Callable[[], int]) -> NoReturn:
    """Run a command in this process and end the process with its exit status.

    Texts that the output's encoding cannot express are escaped. A server on this machine is asked
    without a proxy. When the reader of the output has ended (`... | head`), the process ends with
    `READER_GONE` and without a traceback.
    """
    escape_what_cannot_be_printed()
    pass_by_proxies()
    status: str | int | None
    try:
        status = main()
    except SystemExit as ended:
        status = ended.code
    except BrokenPipeError:
        status = READER_GONE
    for stream in (sys.stdout, sys.stderr):
        if not _flushed(stream):
            status = READER_GONE
    sys.exit(status)


def say(text: str) -> None:
    """Print text to standard output.

    Raises:
        SystemExit: the reader is gone. What was done before stays done.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _flushed(sys.stdout)
        raise SystemExit(READER_GONE) from None


def _flushed(stream: TextIO | None) -> bool:
    """Flush a stream; when its reader is gone, discard its text, also at the interpreter's exit."""
    if stream is None or stream.closed:
        return True
    try:
        stream.flush()
    except BrokenPipeError:
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        return False
    return True
