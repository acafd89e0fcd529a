"""reclaim-residue beside an application that starts and ends runs meanwhile (SPEC 2.4, 10.12)."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from flows.reclaim_residue import reclaim_residue
from maintenance import schema
from maintenance.settings import Settings
from tests.support.residue import Residue
from tests.support.runs import run
from tests.support.validibot import NOW, Validibot
from tests.support.writer import COPY_RUN

SUBMISSIONS = 60
ROUNDS = 4


@dataclass
class Application:
    """Starts runs of purged submissions, even of those that are being looked at, and ends them."""

    engine: Engine
    validibot: Validibot
    submissions: list[UUID]
    active: dict[UUID, Path] = field(default_factory=dict)
    ended: int = 0
    errors: list[BaseException] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    def work(self) -> None:
        """Start and end runs until it is told to stop."""
        rng = random.Random(7)
        try:
            while not self.stop.is_set():
                if len(self.active) < 10:
                    self._start(rng.choice(self.submissions))
                else:
                    self._end(rng.choice(list(self.active)))
        except BaseException as error:  # noqa: BLE001 - every error of the application counts
            self.errors.append(error)

    def _start(self, submission: UUID) -> None:
        """Write the workspace, and commit the row afterwards."""
        new = uuid4()
        path = self.validibot.file(f"runs/{self.validibot.org_id}/{new}/input.json")
        with self.engine.begin() as connection:
            assert connection.execute(COPY_RUN, {"new": new, "id": submission}).rowcount == 1
        self.active[new] = path

    def _end(self, run_id: UUID) -> None:
        """A run that was active until now still has its input."""
        assert self.active.pop(run_id).read_text() == "secret"
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE validations_validationrun SET status = 'SUCCEEDED', ended_at = :end"
                    " WHERE id = :id"
                ),
                {"end": NOW, "id": run_id},
            )
        self.ended += 1


def test_10_12_an_application_at_work_loses_nothing(
    environment: Settings, validibot: Validibot, database: Engine
) -> None:
    residue = Residue(validibot)
    submissions = []
    for _ in range(SUBMISSIONS):
        submission = residue.submission()
        run_id = validibot.run(submission, short_description="")
        residue.step(run_id)
        residue.files(run_id, "input.json")
        residue.files(uuid4(), "input.json")
        submissions.append(submission)
    application = Application(database, validibot, submissions)
    thread = Thread(target=application.work)
    thread.start()
    done = 0
    try:
        for _ in range(ROUNDS):
            report = run(reclaim_residue, as_of=NOW, batch_size=7)
            assert report.failures == []
            done += report.done
    finally:
        application.stop.set()
        thread.join(30)
    assert application.errors == []
    assert done > 0
    assert application.ended > 0
    for path in application.active.values():
        assert path.exists()

    # Once the application rests, the rest goes.
    with database.begin() as connection:
        end = "UPDATE validations_validationrun SET status = 'SUCCEEDED', ended_at = :end"
        connection.execute(text(f"{end} WHERE status = 'RUNNING'"), {"end": NOW})
    assert run(reclaim_residue, as_of=NOW).failed == 0
    assert validibot.files() == set()
    traces = validibot.rows(schema.input_traces).values()
    assert {row["value_snapshot"] is None for row in traces} == {True}
