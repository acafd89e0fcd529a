"""At which points of a run the tests kill it: at all of them in CI, at a sample elsewhere.

The environment variable CRASHES says it: `all`, or the number that a sample is drawn with. Without
it a number is drawn, and pytest names it at its start, so that the same sample can be taken again.
"""

import os
import random
from collections.abc import Callable, Iterator
from itertools import chain, count

VARIABLE = "CRASHES"
ALL = "all"
SAMPLE = 4
"""Points of one run."""


def choose() -> None:
    """Choose for this process and those that it starts, unless the environment does."""
    chosen = ALL if os.environ.get("CI") == "true" else str(random.randrange(10_000))
    os.environ.setdefault(VARIABLE, chosen)


def choice() -> str:
    """Return what was chosen, as a setting that repeats it."""
    return f"{VARIABLE}={os.environ[VARIABLE]}"


def crash_points(name: str, total: Callable[[], int]) -> Iterator[int]:
    """Yield numbers of points in order, then without end those after the last one.

    Args:
        name: the run's; each draws a sample of its own.
        total: counts the points of a run that is not killed.
    """
    if os.environ[VARIABLE] == ALL:
        return count()
    points = total()
    draw = random.Random(f"{os.environ[VARIABLE]} {name}")
    return chain(sorted(draw.sample(range(points), min(SAMPLE, points))), count(points))
