"""A live application beside a purge: it creates, finishes and deletes, as Validibot does."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from tests.support.validibot import NOW

COPY_RUN = text(
    "INSERT INTO validations_validationrun (id, created, modified, status, short_description,"
    " started_at, ended_at, duration_ms, error, error_category, source, output_retention_policy,"
    " output_expires_at, output_purged_at, org_id, project_id, submission_id, user_id,"
    " workflow_id, output_hash, definition_released_at)"
    " SELECT :new, created, modified, 'RUNNING', short_description, NULL, NULL, 0, '', '', '',"
    " output_retention_policy, NULL, NULL, org_id, project_id, submission_id, user_id,"
    " workflow_id, '', NULL FROM validations_validationrun WHERE submission_id = :id LIMIT 1"
)


@dataclass
class Writer:
    """What the application did, and what went wrong for it."""

    engine: Engine
    ids: list[UUID]
    done: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    _stop: Event = field(default_factory=Event)

    def work(self) -> None:
        """Do one thing after the other until it is told to stop."""
        rng = random.Random(7)
        steps: list[Callable[[Connection, UUID], int]] = [self._create, self._finish, self._delete]
        while not self._stop.is_set():
            step = rng.choices(steps, weights=[6, 6, 1])[0]
            try:
                with self.engine.begin() as connection:
                    self.done[step.__name__] += step(connection, rng.choice(self.ids))
            except Exception as error:  # noqa: BLE001 - every error of the application counts
                self.errors.append(error)
                return

    def stop(self) -> None:
        """Let it come to its end."""
        self._stop.set()

    def _create(self, connection: Connection, identifier: UUID) -> int:
        """Start a run of a submission that still has its content; the application locks it."""
        lock = text(
            "SELECT 1 FROM submissions_submission"
            " WHERE id = :id AND content_purged_at IS NULL FOR UPDATE"
        )
        if connection.execute(lock, {"id": identifier}).first() is None:
            return 0
        return connection.execute(COPY_RUN, {"new": uuid4(), "id": identifier}).rowcount

    def _finish(self, connection: Connection, identifier: UUID) -> int:
        """End a submission's active runs, then write its deadline, in Validibot's order."""
        finished = connection.execute(
            text(
                "UPDATE validations_validationrun SET status = 'SUCCEEDED', ended_at = :end"
                " WHERE submission_id = :id AND status = 'RUNNING'"
            ),
            {"id": identifier, "end": NOW},
        ).rowcount
        if finished:
            connection.execute(
                text(
                    "UPDATE submissions_submission SET expires_at = :later"
                    " WHERE id = :id AND content_purged_at IS NULL"
                ),
                {"id": identifier, "later": NOW},
            )
        return finished

    def _delete(self, connection: Connection, identifier: UUID) -> int:
        """Delete a submission with what belongs to it, as Django cascades."""
        lock = text("SELECT 1 FROM submissions_submission WHERE id = :id FOR UPDATE")
        if connection.execute(lock, {"id": identifier}).first() is None:
            return 0
        for statement in (
            "DELETE FROM submissions_purgeretry WHERE submission_id = :id",
            "DELETE FROM submissions_submissioninputfile WHERE submission_id = :id",
            "UPDATE validations_validationrun SET submission_id = NULL WHERE submission_id = :id",
            "DELETE FROM submissions_submission WHERE id = :id",
        ):
            connection.execute(text(statement), {"id": identifier})
        return 1


@contextmanager
def live_writer(engine: Engine, ids: list[UUID]) -> Iterator[Writer]:
    """Let the application work for as long as the block lasts."""
    writer = Writer(engine, ids)
    thread = Thread(target=writer.work)
    thread.start()
    try:
        yield writer
    finally:
        writer.stop()
        thread.join(30)
        assert not thread.is_alive()
