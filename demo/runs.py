"""Running a deployment through the worker, and waiting for its end."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.api import PrefectApi, RunState
from demo.processes import Child, wait_until

RUN_SECONDS = 600.0
ATTEMPTS = 5
AGAIN_SECONDS = 3.0


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended."""

    state: RunState
    page: str
    report: str | None
    """The address of the report that it published."""


def run_deployment(
    api: PrefectApi,
    deployment: str,
    parameters: Mapping[str, Any],
    children: Sequence[Child],
    on_state: Callable[[str], None],
) -> FinishedRun:
    """Run a deployment, telling each state as it comes.

    A run that is cancelled because a scheduled one of the same deployment is going is asked for
    again.

    Raises:
        ChildFailed: a child ended, or the run took too long.
    """
    for attempt in range(1, ATTEMPTS + 1):
        run = api.start_run(deployment, parameters)
        state = _wait_for_end(api, run, children, on_state)
        if state.in_the_way and attempt < ATTEMPTS:
            time.sleep(AGAIN_SECONDS)
            continue
        return FinishedRun(state, api.page(run), api.report(run))
    raise AssertionError("the last attempt returns")


def _wait_for_end(
    api: PrefectApi, run: str, children: Sequence[Child], on_state: Callable[[str], None]
) -> RunState:
    seen: list[RunState] = []

    def ended() -> bool:
        state = api.state(run)
        if state is not None:
            if not seen or state.name != seen[-1].name:
                on_state(state.name)
            seen.append(state)
        return state is not None and state.final

    wait_until(ended, RUN_SECONDS, "a run", children)
    return seen[-1]
