"""What an apply changes and keeps, as lines; in a dry run nothing is done."""

from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.setup.conflicts import DeploymentConflict

COMMAND = "python -m deployments"


@dataclass
class Changes:
    """The changes of one apply, in order."""

    dry_run: bool = False
    command: str = COMMAND
    """The command that applies the same file again."""
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    """What `prefect deploy` has undone of what operators had set."""
    conflicts: list[DeploymentConflict] = field(default_factory=list)
    """What was kept although its default has changed."""

    def make(self, what: str, do: Callable[[], object]) -> None:
        """Do something and list it; in a dry run only list it."""
        if not self.dry_run:
            do()
        self.made.append(what)

    def keep(self, what: str) -> None:
        """List what was left as an operator made it."""
        self.kept.append(what)

    def add_conflict(self, conflict: DeploymentConflict) -> None:
        """List what was left as an operator made it, although its default has changed."""
        self.conflicts.append(conflict)
        self.keep(str(conflict))
