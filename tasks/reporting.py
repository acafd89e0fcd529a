"""Publishing a run's report: one Markdown artifact per job, with its history (SPEC 2.7)."""

from prefect import task
from prefect.artifacts import create_markdown_artifact

from maintenance.report import Report
from maintenance.report_markdown import to_markdown
from tasks.retrying import PUBLISHING_OPTIONS


@task(name="publish report", **PUBLISHING_OPTIONS)
def publish_report(report: Report) -> None:
    """Store the report as the artifact of its job; the key is the job's name."""
    create_markdown_artifact(
        markdown=to_markdown(report), key=report.job, description=report.summary()
    )
