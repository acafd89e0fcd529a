"""Default Prefect settings of the worker and its runs, in the demo too."""

PREFETCH_SECONDS = "3"
"""How long before its scheduled time a worker takes up a run and starts its process."""

PATIENCE = {
    # The server answers 500 while its database is away: retry, for up to a minute.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}
"""Also for runs that do not inherit their worker's environment."""

WORKER_SETTINGS = {
    # With the default, half of a run's start-up time is spent waiting for the next query.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A run that the worker takes up while another one of its job is at work is cancelled. A short
    # prefetch avoids that for runs that are due only after the other has ended.
    "PREFECT_WORKER_PREFETCH_SECONDS": PREFETCH_SECONDS,
    **PATIENCE,
}
