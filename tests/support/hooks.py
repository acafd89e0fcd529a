"""Acting at a named point of a job: before or after the statement that holds a piece of text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from maintenance.database import engine_for
from maintenance.settings import settings

CLAIM = "SELECT submissions_submission.id, submissions_submission.expires_at AS moment, "
STAMP = "UPDATE submissions_submission SET modified="


@contextmanager
def at_statement(
    job: str, part: str, act: Callable[[Any], None], *, before: bool = False, times: int = 1
) -> Iterator[list[str]]:
    """Call `act(connection)` around the first statements of a job that contain `part`.

    Yields the statements that were met, so that a test can make sure that there were any.
    """
    engine: Engine = engine_for(settings(), job)
    met: list[str] = []

    def hook(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if part in statement and len(met) < times:
            met.append(statement)
            act(connection)

    name = "before_cursor_execute" if before else "after_cursor_execute"
    event.listen(engine, name, hook)
    try:
        yield met
    finally:
        event.remove(engine, name, hook)
