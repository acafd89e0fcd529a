"""Make the software bill of materials of what is deployed, and list its licences: `make sbom`.

It is a CycloneDX document (JSON) of the packages in requirements-runtime.lock for this platform,
made by cyclonedx-py. That tool reads the licences from installed packages. So it is shown an
environment that consists of this one's metadata of the locked packages, and of nothing else.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-runtime.lock"
PINNED = re.compile(r"^([\w.-]+)==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)


def main(output: Path) -> int:
    """Write the document, and print name, version and licences of each package."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sbom-") as folder:
        environment = Path(folder)
        venv.create(environment, with_pip=False, symlinks=True)
        (packages,) = environment.glob("lib/python3*/site-packages")
        for name, version in locked():
            metadata = _metadata(name, version)
            (packages / metadata.name).symlink_to(metadata)
        make = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
        main_component = ["--pyproject", str(ROOT / "pyproject.toml")]
        subprocess.run(
            [*make, *main_component, "-o", str(output), str(environment / "bin" / "python")],
            check=True,
        )
    for component in components(output):
        stated = ", ".join(licences(component)) or "(none stated)"
        print(f"{component['name']} {component['version']}: {stated}")
    return 0


def locked() -> Iterator[tuple[str, str]]:
    """Yield name and version of the packages that the lock has for this platform."""
    for name, version, marker in PINNED.findall(LOCK.read_text()):
        if not marker or Marker(marker).evaluate():
            yield name, version


def components(document: Path) -> list[dict[str, Any]]:
    """Return the packages in a document, by name."""
    found: list[dict[str, Any]] = json.loads(document.read_text())["components"]
    return sorted(found, key=lambda one: str(one["name"]).lower())


def licences(component: dict[str, Any]) -> list[str]:
    """Return the licences that a package states: an expression, identifiers or names."""
    found = set()
    for one in component.get("licenses", []):
        stated = one.get("license", {})
        text = one.get("expression") or stated.get("id") or stated["name"]
        found.add(text.rpartition(" :: ")[2])
    return sorted(found)


def _metadata(name: str, version: str) -> Path:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise SystemExit(f"{name} is not installed here: run `make check`") from None
    if found.version != version:
        raise SystemExit(
            f"{name} is {found.version} here and {version} in {LOCK.name}: `make check`"
        )
    file = next(file for file in found.files or () if file.name == "METADATA")
    return Path(str(found.locate_file(file))).parent


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
