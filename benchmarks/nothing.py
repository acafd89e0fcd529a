"""A flow that does nothing: what is left is what a run of Prefect costs."""

from prefect import flow


@flow(name="nothing")
def nothing() -> None:
    """Do nothing."""
