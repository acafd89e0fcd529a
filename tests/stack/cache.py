"""What takes minutes to make is kept from one run of the tests to the next.

It lies in TEST_CACHE, or in a folder of the user's caches, under a name that follows from all that
it is made of: when that changes, it is made anew. The folder may be deleted at any time.
"""

import os
import shutil
import time
import uuid
from hashlib import sha256
from pathlib import Path

UNUSED_SECONDS = 30 * 24 * 3600
"""What was not used for so long is deleted."""


def cache_folder() -> Path:
    """Return the folder; it exists."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TEST_CACHE") or Path(caches) / "validibot-maintenance-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


class Kept:
    """A file or a folder that may be in the cache."""

    def __init__(self, name: str, *inputs: str) -> None:
        """Find it by a name and all that it is made of."""
        digest = sha256(repr(inputs).encode()).hexdigest()[:16]
        folder = cache_folder()
        for other in folder.iterdir():
            if other.stat().st_mtime < time.time() - UNUSED_SECONDS:
                _delete(other)
        self.path = folder / f"{name}-{digest}"
        self.draft = folder / f"{name}-{digest}.{uuid.uuid4().hex[:8]}.draft"
        """Where it is made, before it is kept."""
        if self.exists():
            os.utime(self.path)

    def exists(self) -> bool:
        """Return whether it is there."""
        return self.path.exists()

    def keep(self) -> None:
        """Put the draft into its place, unless another process was faster."""
        try:
            self.draft.rename(self.path)
        except OSError:
            if not self.exists():
                raise
            _delete(self.draft)

    def give_up(self) -> None:
        """Delete the draft."""
        _delete(self.draft)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
