"""What is known of a run besides its counts, each with its name."""

from maintenance.report import Report
from maintenance.wording import human_age, number_of


def facts_of(report: Report) -> dict[str, str]:
    """Return the facts in the order in which they are shown."""
    facts = {
        "Up to": f"{report.as_of:%Y-%m-%d %H:%M:%S} UTC",
        "Stopped because": report.stopped_because.value.replace("_", " "),
        "Took": f"{report.duration_seconds:,.1f} s, {number_of(report.batches, 'batches')}",
    }
    if report.cutoff is not None:
        facts["Cutoff"] = f"{report.cutoff:%Y-%m-%d %H:%M:%S} UTC"
    if report.oldest is not None and report.newest is not None:
        facts["Oldest and newest row"] = (
            f"{report.oldest:%Y-%m-%d %H:%M:%S} and {report.newest:%Y-%m-%d %H:%M:%S} UTC"
        )
    if report.overdue is not None:
        age = report.overdue.oldest_age_seconds
        oldest = f", the oldest for {human_age(age)}" if age is not None else ""
        about = "about " if report.overdue.estimated else ""
        facts["Still overdue"] = f"{about}{report.overdue.rows:,}{oldest}"
    if report.fingerprint:
        facts["Selection"] = report.fingerprint
    return facts
