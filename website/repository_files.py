"""Files of the repository outside of docs/ to which pages lead: they become part of the site."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = "docs"
FOLDER = "repository"
"""Where they are in the site."""
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents outside of docs/ that are pages of the site."""
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def place(target: str) -> str | None:
    """Return where a file of the repository is in the site, from the root of docs/.

    Args:
        target: its path in the repository.

    Returns:
        None if it is no file.
    """
    if target.startswith(f"{DOCS}/"):
        return target.removeprefix(f"{DOCS}/")
    if target in PAGES:
        return PAGES[target]
    return f"{FOLDER}/{target}" if (ROOT / target).is_file() else None


def with_links(text: str, source: str, page: str) -> str:
    """Return a page's text with the links out of docs/ turned to what the site has of them.

    Args:
        text: the page's text.
        source: the page's path in the repository.
        page: the page's path below docs/.
    """

    def turned(link: re.Match[str]) -> str:
        found = place(_target(link, source))
        if found is None:
            return link[0]
        relative = posixpath.relpath(found, posixpath.dirname(page) or ".")
        return f"]({relative}{link[2] or ''})"

    return LINK.sub(turned, text)


def linked_files() -> set[str]:
    """Return the paths of the files outside of docs/ to which documents lead."""
    found: set[str] = set()
    for path in (*(ROOT / DOCS).rglob("*.md"), *(ROOT / name for name in PAGES)):
        source = path.relative_to(ROOT).as_posix()
        targets = {_target(link, source) for link in LINK.finditer(path.read_text("utf-8"))}
        found |= {one for one in targets if (place(one) or "").startswith(f"{FOLDER}/")}
    return found


def _target(link: re.Match[str], source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
