"""An empty flow, which measures the cost of a Prefect run by itself."""

from prefect import flow


@flow(name="nothing")
def nothing() -> None:
    """Do nothing."""
