"""A bare Debian with systemd as its first process, in a container without a network.

Its files are made of Debian's own packages, and kept (tests/stack/cache.py).
"""

import io
import os
import platform
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker import APIClient

from tests.stack.cache import Kept
from tests.stack.engine import execute
from tests.stack.packages import download

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
PACKAGES = "dbus,make,postgresql,python3,python3-venv,systemd"
"""What a Debian of the standard priority has, and what the page installs: there is no network."""
HOOK = 'ln -s /usr/bin/python3 "$1/usr/local/bin/python"'
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
MAKE_SECONDS = 300
BOOT_SECONDS = 60
SOURCE = "/usr/local/src/validibot-maintenance"
DELIVERED = (
    *("Makefile", "LICENSE", "prefect.yaml", "pyproject.toml"),
    *("requirements.lock", "requirements-runtime.lock"),
    *("flows", "tasks", "maintenance", "deployments", "demo", "docs"),
)
"""Of the checkout, what `make install` needs, and nothing that was made in it."""
SYSTEMD = {"container": "docker"}
FIRST_PROCESS = (
    # The engine mounts the control groups read-only.
    "grep -o ' /sys/fs/cgroup[^ ]*' /proc/mounts | xargs -n 1 mount -o remount,bind,rw;"
    " exec /lib/systemd/systemd"
)


def why_not() -> str | None:
    """Why no such container can be made here; None when it can."""
    if os.geteuid() == 0 and shutil.which("mmdebstrap"):
        return None
    return "making a Debian needs root and mmdebstrap"


class Machine:
    """A machine that has booted."""

    def __init__(self, client: APIClient, identifier: str) -> None:
        self._client = client
        self._identifier = identifier

    def run(self, command: str) -> str:
        """Run a command of a shell as root in the source's folder, and return what it printed."""
        given = ["env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/packages", f"PATH={PATH}"]
        shell = ["bash", "-euo", "pipefail", "-c", f"cd {SOURCE}; {command}"]
        return execute(self._client, self._identifier, [*given, *shell], user="0")

    def active(self, unit: str) -> bool:
        """Whether a unit is active."""
        return self.run(f"systemctl is-active {unit} || true") == "active"

    def wait_for(self, command: str, expected: str, seconds: float) -> None:
        """Wait until a command prints this."""
        deadline = time.monotonic() + seconds
        while (said := self.run(f"{command} || true")) != expected:
            assert time.monotonic() < deadline, f"{command}: {said}"
            time.sleep(0.5)


@contextmanager
def booted(client: APIClient, directory: Path) -> Iterator[Machine]:
    """Boot a machine with this source and its packages, and remove it at the end."""
    name = f"validibot-maintenance-systemd:{uuid.uuid4().hex[:8]}"
    repository, tag = name.split(":")
    client.import_image_from_file(
        str(_files(directory)), repository=repository, tag=tag, changes=[f"ENV PATH={PATH}"]
    )
    try:
        packages = download(client, name, directory)
        host = client.create_host_config(
            cap_add=["SYS_ADMIN"],  # for mounts and namespaces; fewer rights than `privileged`
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            network_mode="none",
            tmpfs={"/run": "", "/run/lock": "", "/tmp": ""},  # noqa: S108 - of the container
            binds=[f"{packages}:/packages:ro"],
        )
        # Otherwise no unit can have a /proc of its own.
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        made = client.create_container(
            name, ["sh", "-c", FIRST_PROCESS], environment=SYSTEMD, host_config=host
        )
        identifier: str = made["Id"]
        try:
            client.start(identifier)
            client.put_archive(identifier, "/usr/local/src", _source())
            machine = Machine(client, identifier)
            machine.wait_for("systemctl is-system-running", "running", BOOT_SECONDS)
            yield machine
        finally:
            client.remove_container(identifier, v=True, force=True)
    finally:
        client.remove_image(name, force=True)


def _files(directory: Path) -> Path:
    files = Kept("debian-systemd.tar", SUITE, PACKAGES, HOOK, platform.machine())
    if files.exists():
        return files.path
    log = directory / "debian.log"
    with log.open("wb") as output:
        made = subprocess.run(
            [
                *("mmdebstrap", "--variant=minbase", "--format=tar"),
                "--dpkgopt=force-unsafe-io",  # the engine stores it anew anyway
                f"--include={PACKAGES}",
                f"--customize-hook={HOOK}",
                *(SUITE, str(files.draft)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=MAKE_SECONDS,
            check=False,
        )
    if made.returncode:
        files.give_up()
    assert made.returncode == 0, log.read_text()[-2000:]
    files.keep()
    return files.path


def _source() -> bytes:
    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return None if "__pycache__" in entry.name else entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in DELIVERED:
            archive.add(ROOT / name, f"{Path(SOURCE).name}/{name}", filter=wanted)
    return packed.getvalue()
