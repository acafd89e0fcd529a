"""What docs/installation.md and docs/migration.md give to be copied."""

import re
import textwrap
from dataclasses import dataclass

from tests.stack.stand_ins import ROOT

INSTALLATION = (ROOT / "docs" / "installation.md").read_text()
MIGRATION = (ROOT / "docs" / "migration.md").read_text()

FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r"^(?:#+ (?P<heading>.+)|(?:\d+\. +)?\*\*(?P<bold>.+?)\*\*.*)$", re.MULTILINE)
"""A heading, or the bold words that a step or a paragraph begins with."""


@dataclass(frozen=True)
class Block:
    """Lines to be copied, and the title that they stand under."""

    title: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in its order."""
    fences = list(FENCE.finditer(page))
    # Not what looks like a heading in a block: a comment.
    prose = FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), page)
    titles = list(TITLE.finditer(prose))
    found = []
    for fence in fences:
        above = [title for title in titles if title.start() < fence.start()]
        name = (above[-1]["heading"] or above[-1]["bold"]) if above else ""
        text = textwrap.dedent(fence[3])
        found.append(Block(re.sub(r"[`.,]+$|`", "", name), fence[2], text))
    return found
