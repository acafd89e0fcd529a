"""Text from outside in the log of a run: escaped, whichever code logs it.

Prefect logs every exception of a task. Our own errors are escaped already; the message of any other
one, of the operating system or a library, may hold a name that a validator chose.
"""

import logging

from flows.run.final_state import UnfinishedRun
from maintenance.outside_text import visible

ENGINE = "prefect.engine"
LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "maintenance")

_formatter = logging.Formatter()


class VisibleText(logging.Filter):
    """Escapes what is not shown as itself in the message and the traceback of each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the record's texts; every record passes."""
        record.msg, record.args = visible(record.getMessage()), ()
        if record.exc_info:
            # The handlers' formatters take this text instead of making it.
            record.exc_text = visible(_formatter.formatException(record.exc_info))
        return True


class WithoutOurEnds(logging.Filter):
    """Drops the engine's traceback of a run that ended as Failed or Cancelled by its own decision.

    The log of the run has said what failed, and its state has the summary. The traceback would
    show the lines of ours and of Prefect's that hand the state over.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record but that one."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, UnfinishedRun)


def install() -> None:
    """Filter the records of runs, tasks and the engine; a second call changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, VisibleText) for one in logger.filters):
            logger.addFilter(VisibleText())
    engine = logging.getLogger(ENGINE)
    if not any(isinstance(one, WithoutOurEnds) for one in engine.filters):
        engine.addFilter(WithoutOurEnds())
