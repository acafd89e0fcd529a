"""Changes to the text of a page, so that MkDocs shows it as GitHub does."""

import re
from collections.abc import Iterator

FENCE = re.compile(r"^ *```")
ITEM = re.compile(r"^(\d+\. |[*-] )")
NESTED = re.compile(r"^ +(\d+\. |[*-] |```)")
WIDTH = 4
"""Python-Markdown takes this indentation for what belongs to an item; CommonMark its marker's."""


def with_deep_lists(text: str) -> str:
    """Return a text in which the blocks within items of lists are indented by four columns."""
    return "\n".join(_deep(text.split("\n")))


def _deep(lines: list[str]) -> Iterator[str]:
    shallow = 0
    """The indentation of the blocks of the current item; 0 outside of a list."""
    below, fenced = False, False
    """Whether a block after the item's first one was reached; whether this is a block of code."""
    for line in lines:
        item = ITEM.match(line) if not fenced else None
        if item:
            shallow, below = len(item[1]), False
        elif line and shallow and not line.startswith(" " * shallow):
            if below and not fenced:
                shallow = 0
        elif shallow and (not line or NESTED.match(line)):
            below = True
        if FENCE.match(line):
            fenced = not fenced
        deeper = shallow and below and line and not item
        yield " " * (WIDTH - shallow) + line if deeper else line
