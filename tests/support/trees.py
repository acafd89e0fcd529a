"""Trees of files: made from a list of paths, and looked at as a whole."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from maintenance.storage.marker import MARKER


def make_files(root: Path, paths: Iterable[str]) -> None:
    """Make files; each one holds its own path, and a path that ends in a slash is a directory."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(path)


def entries(root: Path) -> set[str]:
    """Every entry below a root but markers: directories with a slash at the end, links with @."""
    found = set()
    for folder, directories, files in os.walk(root):
        for name in {*directories, *files} - {MARKER}:
            path = Path(folder, name)
            mark = "@" if path.is_symlink() else "/" if path.is_dir() else ""
            found.add(f"{path.relative_to(root)}{mark}")
    return found


def files(root: Path) -> set[str]:
    """Every entry that is no directory."""
    return {path for path in entries(root) if not path.endswith("/")}


def state(root: Path) -> dict[str, tuple[int, int, int, int, str]]:
    """All that can be seen of a tree without reading it, times and contents included."""
    found = {}
    for path in (root, *root.rglob("*")):
        status = path.lstat()
        content = path.read_text() if stat.S_ISREG(status.st_mode) else ""
        found[str(path)] = (
            status.st_mode,
            status.st_ino,
            status.st_mtime_ns,
            status.st_ctime_ns,
            content,
        )
    return found
