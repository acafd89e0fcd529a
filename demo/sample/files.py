"""Writing many small files quickly."""

import os
from collections.abc import Iterable
from pathlib import Path


def write_files(root: Path, files: Iterable[tuple[str, bytes]]) -> int:
    """Write files that do not exist yet below a root, and return their bytes."""
    written = 0
    for name, content in files:
        path = f"{root}/{name}"
        try:
            handle = _create(path)
        except FileNotFoundError:
            # Asking first would cost a system call a file; most folders hold several files.
            _make_folder(path.rpartition("/")[0])
            handle = _create(path)
        try:
            if os.write(handle, content) != len(content):
                raise OSError(f"{path} was written only in part")
        finally:
            os.close(handle)
        written += len(content)
    return written


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path)  # noqa: PTH102 - a Path object costs more than the call
    except FileNotFoundError:
        _make_folder(path.rpartition("/")[0])
        os.mkdir(path)  # noqa: PTH102
