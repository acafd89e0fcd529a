"""What a run tells the Prefect server's automations: one event for its end, and one for trouble.

`run-finished` comes from every run, the others when there is a reason. All are about the resource
`validibot-maintenance.job.JOB`, whose labels an automation can match; Prefect adds the flow run,
its deployment and its work pool as related resources. Events are sent in the background: a server
that is away does not hold up a run, and what was not sent yet is sent before the process ends.
"""

from typing import Any

from prefect.events import emit_event

from maintenance.report import Report, StopReason

PREFIX = "validibot-maintenance"
RUN_FINISHED = f"{PREFIX}.run-finished"
ITEMS_FAILED = f"{PREFIX}.items-failed"
RETRY_ALERT = f"{PREFIX}.retry-alert"
THROTTLED = f"{PREFIX}.throttled"

MAX_LISTED = 5
MAX_TEXT = 500
"""An event is for a message or a decision; all failures are in the run's report."""

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
    """Emit the events of a run that has ended; needs a Prefect run."""
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
    """Return in one word how a run ended."""
    ended = OUTCOMES.get(report.stopped_because)
    return ended or ("items-failed" if report.items_failed else "completed")


def names_of(report: Report) -> list[str]:
    """Return the names of a run's events."""
    troubles = {
        ITEMS_FAILED: report.items_failed,
        RETRY_ALERT: report.alerts > 0,
        THROTTLED: bool(report.throttled_because),
    }
    return [RUN_FINISHED, *(name for name, there_is in troubles.items() if there_is)]


def payload_of(report: Report) -> dict[str, Any]:
    """Return a report's counts and the first of what it lists; of bounded size."""
    payload = report.model_dump(mode="json", include={"job", "dry_run", "as_of", *COUNTS})
    return payload | {
        "stopped_because": report.stopped_because.value,
        "summary": report.summary()[:MAX_TEXT],
        "failures": [
            {"item": one.item[:MAX_TEXT], "cause": one.cause[:MAX_TEXT]}
            for one in report.failures[:MAX_LISTED]
        ],
        "throttled_because": [text[:MAX_TEXT] for text in report.throttled_because[:MAX_LISTED]],
    }
