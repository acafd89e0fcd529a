"""A shell into which the blocks of a page are typed, one after the other."""

import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Protocol

from tests.stack.guide import Block
from tests.stack.project import KEPT

BLOCK_SECONDS = 300
STOP_SECONDS = 30
JUST = Path(__file__).with_name("just")
DOCKER = """#!/bin/sh
# Here Compose is no plug-in of Docker's client.
if [ "$1" = compose ]; then shift; exec {compose} "$@"; fi
exec {docker} "$@"
"""
CRON_FIELDS = 5


class Runner(Protocol):
    """What runs commands."""

    def run(self, text: str, answer: str = "") -> str:
        """Run a text, and answer what a command of it asks; return what was printed."""


class Shell:
    """bash, which ends at the first command that fails.

    What is typed comes on its standard input, as in a terminal: a command that reads from it takes
    the lines that follow.
    """

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self.run("set -eu -o pipefail")

    def run(self, text: str, answer: str = "") -> str:
        """Type a text, and an answer to what a command of it asks; return what was printed."""
        assert self._child.stdin
        assert self._child.stdout
        token = uuid.uuid4().hex
        timer = Timer(BLOCK_SECONDS, self._child.kill)
        timer.start()
        said: list[str] = []
        try:
            self._child.stdin.write(f"{text.rstrip()}\n{answer}echo; echo {token}\n")
            self._child.stdin.flush()
            for line in self._child.stdout:
                if line.rstrip() == token:
                    return "".join(said)
                said.append(line)
        finally:
            timer.cancel()
        raise AssertionError(f"{text}\nfailed:\n{''.join(said)[-6000:]}")


@contextmanager
def shell(compose: Sequence[str], directory: Path, **variables: str) -> Iterator[Shell]:
    """Start a shell that has `docker compose` and a stand-in for `just` on its PATH."""
    programs = directory / "bin"
    programs.mkdir()
    shutil.copy(JUST, programs)
    docker = shutil.which("docker")
    if docker and len(compose) == 1:
        client = programs / "docker"
        client.write_text(DOCKER.format(compose=compose[0], docker=docker))
        client.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith("DOCKER_")
    }
    child = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        env=kept | {"PATH": f"{programs}{os.pathsep}{kept['PATH']}"} | variables,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Shell(child)
    finally:
        child.kill()
        child.communicate(timeout=STOP_SECONDS)


class Reader:
    """Follows a page from its first block to its last, and leaves none out."""

    def __init__(
        self, page: Sequence[Block], runner: Runner, folder: str, answers: Mapping[str, str]
    ) -> None:
        """Take the page, the folder of Validibot's, and answers by the words that ask for them."""
        self._left = list(page)
        self._runner = runner
        self._folder = folder
        self._answers = answers

    def follow(self, *titles: str) -> str:
        """Run what stands under these titles, which must be the next ones; return what it said.

        Of a crontab the commands are run.
        """
        said: list[str] = []
        for title in titles:
            assert self._left, f"the page ends before '{title}'"
            assert self._left[0].title == title, f"left out before '{title}': {self._left[0]}"
            while self._left and self._left[0].title == title:
                said += self._run(self._left.pop(0))
        return "".join(said)

    def end(self) -> None:
        """Check that nothing of the page is left."""
        assert self._left == []

    def _run(self, block: Block) -> Iterator[str]:
        if block.language == "crontab":
            for line in block.text.splitlines():
                command = line.split(maxsplit=CRON_FIELDS)[CRON_FIELDS]
                assert "%" not in command, "cron takes it for the end of the line"
                command = command.replace("/srv/validibot ", f"{shlex.quote(self._folder)} ")
                yield self._runner.run(f"sh -c {shlex.quote(command)} < /dev/null")
            return
        assert block.language == "sh", f"no language that is run: {block}"
        answers = [answer for words, answer in self._answers.items() if words in block.text]
        yield self._runner.run(block.text, "".join(answers))
