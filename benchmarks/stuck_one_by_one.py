"""Ending runs that hang one by one: `python -m benchmarks.stuck_one_by_one MOST`.

One transaction a run: lock it, look again, end it and its attempt, write its evidence file, the
row of that, and the deadlines. The same statements, the same files and the same durability as the
job has, for one run at a time and without a second thread. Prints one JSON object.
"""

import json
import sys
import time
from datetime import timedelta

from sqlalchemy import Connection

from benchmarks.memory import peak_kib
from flows.cleanup_stuck_runs import DEFAULT_MINUTES, JOB
from maintenance.cutoff import Cutoff
from maintenance.database import database_clock, engine_for, transaction
from maintenance.evidence import manifest
from maintenance.settings import settings
from maintenance.storage.layout import Stores, open_stores
from tasks.batching.keyset import KeysetCursor
from tasks.stuck.evidence_facts import read_lacking
from tasks.stuck.evidence_rows import Receipt
from tasks.stuck.finalization_rows import finalize_rows, lock_timed_out
from tasks.stuck.rows import lock_attempts, read_stuck, write_time_outs
from tasks.stuck.selection import STUCK_BY_START, claimable

TIMEOUT = timedelta(minutes=DEFAULT_MINUTES)


def main(most: int) -> None:
    """End up to a number of runs, and print the counts."""
    current = settings()
    engine = engine_for(current, JOB.name)
    with transaction(engine, read_only=True) as connection:
        now = database_clock(connection)
    cutoff = Cutoff(now, now)
    done = 0
    place: KeysetCursor | None = None
    started = time.monotonic()
    with open_stores(current, engine) as stores:
        while done < most:
            with transaction(engine) as connection:
                claim = claimable(cutoff, TIMEOUT).where(STUCK_BY_START.after(place)).limit(1)
                row = connection.execute(claim).first()
                if row is None:
                    break
                place = KeysetCursor(row.moment, row.id)
                done += _end(connection, stores, cutoff, place)
    seconds = time.monotonic() - started
    print(json.dumps({"done": done, "duration_seconds": seconds}))
    print(f"peak_kib={peak_kib()}", file=sys.stderr)


def _end(connection: Connection, stores: Stores, cutoff: Cutoff, place: KeysetCursor) -> int:
    lock_attempts(connection, [place.id])
    stuck = read_stuck(connection, [place.id], cutoff, TIMEOUT)
    write_time_outs(connection, stuck)
    (made,) = [manifest(run) for run in read_lacking(connection, [place.id])]
    (saved,) = stores.private.save_files([(made.key, made.content)])
    receipt = Receipt(place.id, made.output_hash, saved.key, made.sha256, saved.error or "")
    finalize_rows(connection, lock_timed_out(connection, [place.id]), [receipt])
    return len(stuck)


if __name__ == "__main__":
    main(int(sys.argv[1]))
