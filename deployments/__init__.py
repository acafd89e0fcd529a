"""Set-up, worker and monitoring of the jobs on a Prefect server."""
