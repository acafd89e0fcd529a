"""Text from outside in the log of a run: escaped, whichever code logs it.

Prefect logs every exception of a task. Our own errors are escaped already; the message of any other
one, of the operating system or a library, may hold a name that a validator chose.
"""

import logging

from maintenance.outside_text import visible

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


def install() -> None:
    """Let the loggers of runs and tasks escape; a second call changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, VisibleText) for one in logger.filters):
            logger.addFilter(VisibleText())
