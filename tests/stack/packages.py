"""The packages of the lock files for the image's Python, and a server that a build finds them on.

A build has no network but the engine's own loopback. So the packages are fetched here, with this
machine's pip and its settings, and none of those gets into an image.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docker import APIClient
from packaging.markers import Marker

from demo.ports import free_port
from tests.stack.cache import Kept
from tests.stack.engine import run_once, running
from tests.stack.stand_ins import ROOT

DOWNLOAD_SECONDS = 300
GLIBC = range(17, 37)
"""The minor versions of glibc whose wheels Debian 12 runs."""
PINNED = re.compile(r"^(\S+==\S+)(?: ; (.+?))? \\$")
BUILD_TOOLS = r"^(editables|hatchling|packaging|pathspec|pluggy|trove-classifiers)=="


def wanted(lock: str, environment: dict[str, str]) -> Iterator[str]:
    """Yield the requirements of a lock file that hold in an environment, with their hashes."""
    keep = False
    for line in lock.splitlines():
        pinned = PINNED.match(line)
        if pinned:
            keep = not pinned[2] or Marker(pinned[2]).evaluate(environment)
            if keep:
                yield f"{pinned[1]} \\"
        elif keep and line.startswith(" "):
            yield line


def download(client: APIClient, image: str, directory: Path) -> Path:
    """Fetch what a build from the image needs; return the folder."""
    asked = "import platform as p; print(p.python_version(), p.machine())"
    version, machine = run_once(client, image, ["python", "-c", asked]).split()
    environment = {
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }
    runtime = (ROOT / "requirements-runtime.lock").read_text()
    everything = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"^(?=\S)", everything, flags=re.MULTILINE)
    tools = "".join(block for block in blocks if re.match(BUILD_TOOLS, block))
    locks = {"runtime": runtime, "tools": tools}
    asked_for = {name: "\n".join(wanted(lock, environment)) for name, lock in locks.items()}
    packages = Kept("packages", version, machine, *asked_for.values())
    if packages.exists():
        return packages.path
    for name, lines in asked_for.items():
        requirements = directory / f"{name}.txt"
        requirements.write_text(lines + "\n")
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC]
        platforms += [f"manylinux2014_{machine}", f"linux_{machine}"]
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input"),
                *("--disable-pip-version-check", "--no-deps", "--require-hashes"),
                *("--only-binary=:all:", "--implementation=cp", f"--python-version={version}"),
                *(f"--platform={platform}" for platform in platforms),
                *("--dest", str(packages.draft), "--requirement", str(requirements)),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
        if ran.returncode:
            packages.give_up()
        assert ran.returncode == 0, ran.stderr[-2000:]
    packages.keep()
    return packages.path


@contextmanager
def serve(client: APIClient, image: str, packages: Path) -> Iterator[str]:
    """Serve the packages on the loopback of the engine, and give the address."""
    port = free_port()
    command = ["python", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    mount = f"{packages}:/packages:ro"
    with running(client, image, [*command, "--directory", "/packages"], binds=[mount]):
        yield f"http://127.0.0.1:{port}/"
