"""Short names for the columns of the tables that most statements read."""

from maintenance.schema import purge_retries, runs, submissions

RUNS = runs.c
SUBMISSIONS = submissions.c
QUEUE = purge_retries.c
