"""The events that a run sends to the Prefect server, where automations can match them.

Every run sends `run-finished`; the other events are sent when their condition holds. The resource
of each is `validibot-maintenance.job.JOB`, with labels for the outcome; Prefect adds the flow run,
its deployment and its work pool as related resources. Events are sent in the background: an
unreachable server does not delay the run, and the rest is sent before the process exits.
"""

from typing import Any

from prefect.events import emit_event

from maintenance.outside_text import one_line
from maintenance.report import Report, StopReason

PREFIX = "validibot-maintenance"
RUN_FINISHED = f"{PREFIX}.run-finished"
ITEMS_FAILED = f"{PREFIX}.items-failed"
RETRY_ALERT = f"{PREFIX}.retry-alert"
THROTTLED = f"{PREFIX}.throttled"

MAX_LISTED = 5
MAX_TEXT = 500
"""Number of failures in an event, which must stay small; the report lists more."""

COUNTS = (
    *("selected", "done", "failed", "deferred", "skipped", "rows_by_table", "repaired"),
    *("files", "bytes", "batches", "duration_seconds", "overdue", "alerts"),
)

OUTCOMES = {
    StopReason.SKIPPED: "skipped",
    StopReason.CANCELLED: "cancelled",
    StopReason.ERROR: "failed",
}


def emit_events(report: Report) -> None:
    """Emit the events of a run that has ended. Call it inside a Prefect flow run."""
    outcome = outcome_of(report)
    resource = {
        "prefect.resource.id": f"{PREFIX}.job.{report.job}",
        "prefect.resource.name": report.job,
        f"{PREFIX}.outcome": outcome,
        f"{PREFIX}.dry-run": str(report.dry_run).lower(),
    }
    payload = payload_of(report) | {"outcome": outcome}
    for name in names_of(report):
        emit_event(event=name, resource=resource, payload=payload)


def outcome_of(report: Report) -> str:
    """Return how a run ended: `completed`, `items-failed`, `skipped`, `cancelled` or `failed`."""
    ended = OUTCOMES.get(report.stopped_because)
    return ended or ("items-failed" if report.items_failed else "completed")


def names_of(report: Report) -> list[str]:
    """Return the names of the events that a run sends."""
    conditions = {
        ITEMS_FAILED: report.items_failed,
        RETRY_ALERT: report.alerts > 0,
        THROTTLED: bool(report.throttled_because),
    }
    return [RUN_FINISHED, *(name for name, holds in conditions.items() if holds)]


def payload_of(report: Report) -> dict[str, Any]:
    """Return a report's counts and its first failures; the size is bounded."""
    payload = report.model_dump(mode="json", include={"job", "dry_run", "as_of", *COUNTS})
    return payload | {
        "stopped_because": report.stopped_because.value,
        "summary": one_line(report.summary(), MAX_TEXT),
        "failures": [
            {"item": one_line(one.item, MAX_TEXT), "cause": one_line(one.cause, MAX_TEXT)}
            for one in report.failures[:MAX_LISTED]
        ],
        "throttled_because": [
            one_line(text, MAX_TEXT) for text in report.throttled_because[:MAX_LISTED]
        ],
    }
