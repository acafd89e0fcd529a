"""What an apply changes and keeps, told line by line; in a dry run nothing is done."""

from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.setup.conflicts import Approval

COMMAND = "python -m deployments"


@dataclass
class Changes:
    """The changes of one apply, in order."""

    dry_run: bool = False
    command: str = COMMAND
    """What applies the same file again."""
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    """What of that was kept although its default has changed."""

    def make(self, what: str, do: Callable[[], object]) -> None:
        """Do something and tell it; in a dry run only tell it."""
        if not self.dry_run:
            do()
        self.made.append(what)

    def keep(self, what: str) -> None:
        """Tell what was left as an operator made it."""
        self.kept.append(what)

    def ask(self, approval: Approval) -> None:
        """Tell what was left as an operator made it, and that a person has to decide about it."""
        self.approvals.append(approval)
        self.keep(str(approval))
