"""Dead man's switch: a request to a monitoring service after each successful run.

The service raises an alert when the requests stop, whatever failed: the schedule, the worker, the
Prefect server or the machine. The address is a secret, so no text contains more than its host.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from maintenance.report import Report, StopReason
from maintenance.settings_rules import JOB_PLACEHOLDER

TIMEOUT_SECONDS = 5.0
NO_SUCCESS = (StopReason.SKIPPED, StopReason.CANCELLED, StopReason.ERROR)


def is_success(report: Report) -> bool:
    """Return whether a run did its job: no dry run, no failed item, not cut short by an error."""
    failed_or_dry = report.dry_run or report.items_failed
    return not failed_or_dry and report.stopped_because not in NO_SUCCESS


def ping(address: str, job: str) -> str | None:
    """Send the request; return None, or a message that says why it failed."""
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
    return f"the success ping to {urlsplit(url).hostname} failed: {cause}"


@contextmanager
def _unlogged(url: str) -> Iterator[None]:
    """Keep the HTTP client from logging the address."""
    logger = logging.getLogger("httpx")

    def without_address(record: logging.LogRecord) -> bool:
        return url not in record.getMessage()

    logger.addFilter(without_address)
    try:
        yield
    finally:
        logger.removeFilter(without_address)
