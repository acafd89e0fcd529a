"""Crashes at random: of runs, of the worker with and without its runs, of the Prefect server.

What happens follows from a seed; at which line of the code it strikes does not, as in life.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import httpx
import psutil

from demo.environment import MARKER
from demo.ports import free_port
from demo.processes import Child, start_child
from demo.servers import PrefectServer
from tests.support.prefect_server import ask

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
ENGINE = "flows.engine"
EVERY_SECONDS = 8.0
"""Between two crashes, on average."""
TARGET_SECONDS = 15.0
"""So long a crash waits for a run that it can strike."""
QUIET_SECONDS = 4.0
"""At least so long after a crash nothing else crashes: the next one finds what this one left."""
DOWN_SECONDS = (1.0, 6.0)
LOOK_SECONDS = 2.0
ANSWER_SECONDS = 3.0
"""A server on SQLite that is busy may not answer for longer. The test has not crashed it, but it
is an outage."""
STOP_SECONDS = 5.0


class Crash(StrEnum):
    """What is killed."""

    ANY_RUN = "a run"
    WORKING_RUN = "a run at work"
    WORKER = "the worker, whose runs go on"
    WORKER_AND_RUNS = "the worker with its runs"
    SERVER = "the Prefect server"
    STANDSTILL = "the Prefect server stood still by itself"


ROUND = (
    Crash.ANY_RUN,
    Crash.WORKING_RUN,
    Crash.WORKING_RUN,
    Crash.WORKER,
    Crash.WORKER_AND_RUNS,
    Crash.SERVER,
    Crash.SERVER,
)
"""What happens in any order, then again in another one."""


@dataclass(frozen=True)
class Struck:
    """A crash that happened, and until when it lasted; with the runs that there were."""

    crash: Crash
    began: datetime
    ended: datetime
    runs: frozenset[str]

    def __str__(self) -> str:
        """Say it for a failing test."""
        span = f"{self.began:%H:%M:%S.%f} to {self.ended:%H:%M:%S.%f}"
        return f"{span} {self.crash} {' '.join(sorted(self.runs))}"


def plan(draw: random.Random, seconds: float) -> list[tuple[float, Crash]]:
    """Draw crashes, with their moments in seconds from the start."""
    drawn: list[Crash] = []
    while len(drawn) < int(seconds // EVERY_SECONDS):
        drawn += draw.sample(ROUND, len(ROUND))
    slots = range(int(seconds // EVERY_SECONDS))
    return [((slot + draw.random()) * EVERY_SECONDS, drawn[slot]) for slot in slots]


class Supervised:
    """A worker that something (systemd, Docker) starts again when it has ended."""

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        """Start it."""
        self._log = directory / "worker.log"
        self._directory = directory
        self._variables = {**variables, MARKER: str(directory)}
        self._again: datetime | None = None
        self._start()

    def _start(self) -> None:
        port = {"PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}
        command = [sys.executable, "-m", "deployments.worker", "--", "--name", "chaos"]
        self.child: Child = start_child("the worker", command, self._log, self._variables | port)

    def tend(self) -> None:
        """Start it again if it has ended, and its time has come."""
        if self.child.process.poll() is not None and (
            self._again is None or datetime.now(UTC) >= self._again
        ):
            self._again = None
            self._start()

    def runs(self) -> dict[str, psutil.Process]:
        """The processes of runs by flow run, those of earlier workers included."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if ENGINE in process.cmdline():
                    variables = process.environ()
                    if variables.get(MARKER) == str(self._directory):
                        found[variables[FLOW_RUN].replace("-", "")] = process
        return found

    def kill(self, going: dict[str, psutil.Process], *, runs: bool, down: timedelta) -> None:
        """Kill it, with its runs or without; it is started again after some time."""
        spared = set() if runs else {process.pid for process in going.values()}
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.child.process.pid).children(recursive=True)
            for process in (psutil.Process(self.child.process.pid), *started, *going.values()):
                if process.pid not in spared:
                    _kill(process)
        self.child.process.wait()
        self._again = datetime.now(UTC) + down

    def end(self) -> None:
        """Stop it, and what is left of its runs."""
        self.child.stop(STOP_SECONDS)
        for process in self.runs().values():
            _kill(process)


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


class Chaos:
    """What strikes a server, a worker and its runs."""

    def __init__(
        self,
        draw: random.Random,
        prefect: PrefectServer,
        worker: Supervised,
        at_work: Callable[[], set[str]],
    ) -> None:
        """Name the victims."""
        self._draw = draw
        self._prefect = prefect
        self._worker = worker
        self._at_work = at_work
        self._looked = self._answered = datetime.now(UTC)
        self.struck: list[Struck] = []

    @property
    def is_quiet(self) -> bool:
        """Whether the latest crash is over for long enough."""
        quiet = timedelta(seconds=QUIET_SECONDS)
        return not self.struck or datetime.now(UTC) > self.struck[-1].ended + quiet

    def look(self) -> None:
        """Note when the server stands still."""
        now = datetime.now(UTC)
        if now < self._looked + timedelta(seconds=LOOK_SECONDS):
            return
        with suppress(httpx.HTTPError):
            self._prefect.api.count_runs(ANSWER_SECONDS)
            if self._answered < self._looked:
                self.struck.append(Struck(Crash.STANDSTILL, self._answered, now, frozenset()))
            self._answered = now
        self._looked = now

    def strike(self, crash: Crash) -> bool:
        """Let something crash; return whether there was something to crash."""
        if crash is Crash.WORKING_RUN and not self._at_work():
            return False
        going = self._worker.runs()
        began = datetime.now(UTC)
        ended = None
        if crash is Crash.SERVER:
            self._prefect.restart()
            self._looked = self._answered = datetime.now(UTC)
        elif crash in (Crash.WORKER, Crash.WORKER_AND_RUNS):
            down = timedelta(seconds=self._draw.uniform(*DOWN_SECONDS))
            self._worker.kill(going, runs=crash is Crash.WORKER_AND_RUNS, down=down)
            ended = datetime.now(UTC) + down
        else:
            if crash is Crash.WORKING_RUN:
                at_work = self._at_work()
                going = {run: process for run, process in going.items() if run in at_work}
            if not going:
                return False
            run = self._draw.choice(sorted(going))
            _kill(going[run])
            self.struck.append(Struck(crash, began, datetime.now(UTC), frozenset({run})))
            return True
        hit = going.keys() | self._begun()
        self.struck.append(Struck(crash, began, ended or datetime.now(UTC), frozenset(hit)))
        return True

    def _begun(self) -> set[str]:
        """Return the runs that a worker has taken up, with a process or not yet."""
        begun = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
        while True:
            with suppress(httpx.HTTPError):  # too busy to say
                found = ask(self._prefect, "POST", "/flow_runs/filter", {"flow_runs": begun})
                return {UUID(one["id"]).hex for one in found}
            time.sleep(LOOK_SECONDS)
