"""What an apply changes and keeps, told line by line; in a dry run nothing is done."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Changes:
    """The changes of one apply, in order."""

    dry_run: bool = False
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def make(self, what: str, do: Callable[[], object]) -> None:
        """Do something and tell it; in a dry run only tell it."""
        if not self.dry_run:
            do()
        self.made.append(what)

    def keep(self, what: str) -> None:
        """Tell what was left as an operator made it."""
        self.kept.append(what)
