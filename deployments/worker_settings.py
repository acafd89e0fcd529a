"""What Prefect's worker and its runs are told, in the demo as well, where nobody says otherwise."""

PREFETCH_SECONDS = "3"
"""So long before its time a worker takes up a run, which then starts its process, and waits."""

PATIENCE = {
    # What the server answers while it cannot reach its database: ask again, for a minute.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}
"""For runs that do not inherit their worker's environment, too."""

WORKER_SETTINGS = {
    # Half a run's start-up time is waiting to be noticed.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A run that is due while another one of its job goes on is cancelled, when the worker looks
    # ahead. The less it does, the fewer are cancelled whose time has not come.
    "PREFECT_WORKER_PREFETCH_SECONDS": PREFETCH_SECONDS,
    **PATIENCE,
}
