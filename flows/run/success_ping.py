"""A sign of life to somewhere else: a request after each successful run, as healthchecks has it.

A service that misses it tells somebody, whatever has failed here: the schedule, the worker, the
server, the whole machine. The address is as good as a password, so no text names more than its
host.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from maintenance.report import Report, StopReason
from maintenance.settings import JOB_PLACEHOLDER

TIMEOUT_SECONDS = 5.0
NO_SUCCESS = (StopReason.SKIPPED, StopReason.CANCELLED, StopReason.ERROR)


def is_success(report: Report) -> bool:
    """Return whether a run has done its job, so that somebody waits to hear of it."""
    there_is_trouble = report.dry_run or report.items_failed
    return not there_is_trouble and report.stopped_because not in NO_SUCCESS


def ping(address: str, job: str) -> str | None:
    """Make the request; return why it failed, None when it did not."""
    url = address.replace(JOB_PLACEHOLDER, job)
    try:
        with _unlogged(url):
            status = httpx.get(url, timeout=TIMEOUT_SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        cause = type(error).__name__
    else:
        if httpx.codes.is_success(status):
            return None
        cause = f"status {status}"
    return f"the ping of success to {urlsplit(url).hostname} failed: {cause}"


@contextmanager
def _unlogged(url: str) -> Iterator[None]:
    """Keep the client from writing the address into a log."""
    logger = logging.getLogger("httpx")

    def without_address(record: logging.LogRecord) -> bool:
        return url not in record.getMessage()

    logger.addFilter(without_address)
    try:
        yield
    finally:
        logger.removeFilter(without_address)
