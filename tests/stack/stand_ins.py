"""Stand-ins for the base images that Dockerfile and compose.yaml name.

Where no image registry is reached, Debian's own packages make images that do the same: a Python,
and a PostgreSQL with an entry point that knows the official one's variables. They get the same
names, so the files are used as they are. An image that the engine already has is taken as it is.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docker import APIClient

ROOT = Path(__file__).parents[2]
ENTRY_POINT = Path(__file__).with_name("postgres-entrypoint.sh")
MAKE_SECONDS = 300
STOP_SECONDS = 30


@dataclass(frozen=True)
class StandIn:
    """How an image is made: a release of Debian, packages, and what is different from them."""

    suite: str
    packages: str
    hook: str
    changes: tuple[str, ...]


STAND_INS = {
    "python:3.11-slim": StandIn(
        "bookworm",
        "ca-certificates,passwd,python3,python3-venv",
        'ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
        ("ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",),
    ),
    "postgres:17": StandIn(
        "trixie",
        "passwd,postgresql-17",
        f"copy-in {ENTRY_POINT} /usr/local/bin",
        (
            f'ENTRYPOINT ["/usr/local/bin/{ENTRY_POINT.name}"]',
            'CMD ["postgres", "-c", "listen_addresses=*"]',
        ),
    ),
}


def python_image() -> str:
    """The image that the Dockerfile starts from."""
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


def why_not(client: APIClient) -> str | None:
    """Why there are no base images on this machine, and none can be made; None when there are."""
    missing = [name for name in STAND_INS if not _has(client, name)]
    if not missing or (os.geteuid() == 0 and shutil.which("mmdebstrap")):
        return None
    return f"the engine has no {' and no '.join(missing)}; making them needs root and mmdebstrap"


@contextmanager
def base_images(client: APIClient, directory: Path) -> Iterator["BaseImages"]:
    """Make the images that are missing, all at the same time, and remove them at the end."""
    images = BaseImages(client, directory)
    try:
        yield images
    finally:
        images.remove()


class BaseImages:
    """Base images, of which some are being made."""

    def __init__(self, client: APIClient, directory: Path) -> None:
        self._client = client
        self._directory = directory
        self._made: list[str] = []
        self._makers = {
            name: _start(stand_in, self._files(name))
            for name, stand_in in STAND_INS.items()
            if not _has(client, name)
        }

    def wait_for(self, name: str) -> None:
        """Wait until an image is there."""
        maker = self._makers.pop(name, None)
        if maker is None:
            return
        files = self._files(name)
        assert maker.wait(MAKE_SECONDS) == 0, files.with_suffix(".log").read_text()[-2000:]
        repository, tag = name.split(":")
        changes = list(STAND_INS[name].changes)
        self._client.import_image_from_file(
            str(files), repository=repository, tag=tag, changes=changes
        )
        files.unlink()
        self._made.append(name)

    def remove(self) -> None:
        """Remove the images that were made, and end what is still making some."""
        for maker in self._makers.values():
            maker.terminate()
            maker.wait(STOP_SECONDS)
        for name in self._made:
            self._client.remove_image(name, force=True)

    def _files(self, name: str) -> Path:
        return self._directory / f"{name.partition(':')[0]}.tar"


def _start(stand_in: StandIn, target: Path) -> subprocess.Popen[bytes]:
    with target.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [
                *("mmdebstrap", "--variant=minbase", "--format=tar"),
                "--dpkgopt=force-unsafe-io",  # the engine stores it anew anyway
                f"--include={stand_in.packages}",
                f"--customize-hook={stand_in.hook}",
                *(stand_in.suite, str(target)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _has(client: APIClient, name: str) -> bool:
    return bool(client.images(name=name))
