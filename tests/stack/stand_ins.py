"""Stand-ins for the base images that Dockerfile and compose.yaml name.

Where no image registry is reached, Debian's own packages make images that do the same: a Python,
and a PostgreSQL with an entry point that knows the official one's variables. They get the same
names, so the files are used as they are. An image that the engine already has is taken as it is.
The files of those that are made are kept (see cache.py).
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docker import APIClient

from tests.stack.cache import Kept

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
    "haproxy:3.0": StandIn(
        "trixie",
        "haproxy",
        'mkdir -p "$1/usr/local/etc/haproxy"',
        ('CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]',),
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
        self._logs = directory
        self._made: list[str] = []
        self._files = {
            name: Kept(f"{name.replace(':', '-')}.tar", *inputs(stand_in))
            for name, stand_in in STAND_INS.items()
            if not _has(client, name)
        }
        self._makers = {
            name: _start(STAND_INS[name], files.draft, self._log(name))
            for name, files in self._files.items()
            if not files.exists()
        }

    def wait_for(self, name: str) -> None:
        """Wait until an image is there."""
        files = self._files.pop(name, None)
        if files is None:
            return
        maker = self._makers.pop(name, None)
        if maker is not None:
            status = maker.wait(MAKE_SECONDS)
            if status == 0:
                files.keep()
            else:
                files.give_up()
            assert status == 0, self._log(name).read_text()[-2000:]
        repository, tag = name.split(":")
        changes = list(STAND_INS[name].changes)
        self._client.import_image_from_file(
            str(files.path), repository=repository, tag=tag, changes=changes
        )
        self._made.append(name)

    def remove(self) -> None:
        """Remove the images that were made, and end what is still making some."""
        for name, maker in self._makers.items():
            maker.terminate()
            maker.wait(STOP_SECONDS)
            self._files[name].give_up()
        for name in self._made:
            self._client.remove_image(name, force=True)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name.partition(':')[0]}.log"


def inputs(stand_in: StandIn) -> tuple[str, ...]:
    """Return all that the files of an image are made of."""
    parts = (stand_in.suite, stand_in.packages, stand_in.hook, ENTRY_POINT.read_text())
    return (*parts, platform.machine())


def _start(stand_in: StandIn, target: Path, output: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as log:
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
