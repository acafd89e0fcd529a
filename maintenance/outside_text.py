"""Text from outside (file names, stored values, messages of servers) made safe to show and store.

A validator chooses its file names, and users choose what the application stores. Such text must
not control a terminal, forge a log line, reorder what is shown, or become a link or an image.
"""

import io
import re
import sys
from typing import Annotated

from pydantic import AfterValidator

MAX_TEXT = 2_000
"""Characters that are kept of one text."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters that show nothing although Unicode does not class them as control or format."""

# Everything that GitHub's Markdown gives a meaning to within a line. An underscore inside a word
# has none, and names of tables stay readable.
MEANINGFUL = re.compile(
    r"[\\`*\[\]<|~&@]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=www)\.", re.IGNORECASE
)
# What begins a heading, a quotation, a list or a rule.
BEGINNING = re.compile(r"^(?:(\d{1,9})(?=[.)](?: |$))|(?=[-+#=>]))")


def visible(text: str) -> str:
    """Escape every character that is not shown as itself: control, format, surrogate, invisible.

    Line breaks are kept. Applying it again changes nothing.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_shown(character) else _escaped(character) for character in text)


def one_line(text: str, most: int = MAX_TEXT) -> str:
    """Return text as one line of at most `most` visible characters, with no escape cut in half.

    Runs of white space become one space. A text that is too long ends with an ellipsis. Applying
    it again changes nothing.
    """
    folded = " ".join(text.split())
    if len(folded) <= most and folded.isascii() and folded.isprintable():
        return folded
    pieces = [visible(character) for character in folded]
    length = sum(map(len, pieces))
    if length > most:
        while length > most - len(ELLIPSIS):
            length -= len(pieces.pop())
        pieces.append(ELLIPSIS)
    return "".join(pieces)


def as_markdown(text: str, most: int = MAX_TEXT) -> str:
    """Return text as one line of Markdown that shows it, as plain text, wherever it stands.

    It holds no code, HTML, links, images, emphasis, further columns of a table or new block.
    """
    line = MEANINGFUL.sub(_as_text, one_line(text, most))
    return BEGINNING.sub(r"\1\\", line)


def escape_what_cannot_be_printed() -> None:
    """Make standard output and error escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


OneLine = Annotated[str, AfterValidator(one_line)]
"""The type of a field that holds text from outside."""


def _is_shown(character: str) -> bool:
    return character == "\n" or (character.isprintable() and character not in INVISIBLE)


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004 - two hexadecimal digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four


def _as_text(found: re.Match[str]) -> str:
    entities = {"<": "&lt;", "&": "&amp;", "`": "'"}
    return entities.get(found[0], f"\\{found[0]}")
