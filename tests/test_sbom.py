"""The software bill of materials has what is deployed, and nothing else, with its licences."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements-runtime.lock").read_text()
ONLY_IN_DEVELOPMENT = {"cyclonedx-bom", "pytest", "ruff"}
NONE_STATED = {"protobuf", "python-on-whales"}
"""Their metadata has a text and no identifier: of the 3-Clause BSD License, of the MIT License."""

LICENCES = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "LGPL-3.0-only"),
    *("MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Python-2.0"),
    # The names of classifiers.
    *("Apache Software License", "BSD License"),
    "Mozilla Public License 2.0 (MPL 2.0)",
}
"""Those whose terms were read. Another one is added here by choice."""

CHOICE = {"text-unidecode": "Artistic License"}
"""Under the GPL or this one, as the recipient chooses."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The document, which the tool validates, and what was printed."""
    path = tmp_path_factory.mktemp("sbom") / "new" / "sbom.cdx.json"
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "sbom.py", path],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(path.read_text()), done.stdout


def locked() -> dict[str, set[str]]:
    """The versions of each package in the lock, for all platforms."""
    found: dict[str, set[str]] = {}
    for name, number in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(number)
    return found


@pytest.mark.slow
def test_it_has_the_locked_packages_and_no_other(made: tuple[dict[str, Any], str]) -> None:
    document, _ = made
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "validibot-maintenance"
    listed: dict[str, Any] = {canonicalize_name(one["name"]): one for one in document["components"]}
    assert len(listed) == len(document["components"])
    for name, one in listed.items():
        assert one["version"] in locked()[name]
        assert one["purl"].startswith("pkg:pypi/")
    # What is not listed is for other platforms alone.
    for name in set(locked()) - set(listed):
        with pytest.raises(ModuleNotFoundError):
            version(name)
    assert {"prefect", "sqlalchemy", "psycopg"} <= listed.keys()
    assert not ONLY_IN_DEVELOPMENT & listed.keys()


@pytest.mark.slow
def test_every_package_states_a_licence_whose_terms_were_read(
    made: tuple[dict[str, Any], str],
) -> None:
    _, printed = made
    stated = dict(re.findall(r"^(\S+) \S+: (.*)$", printed, re.MULTILINE))
    assert {name for name, text in stated.items() if text == "(none stated)"} == NONE_STATED
    for name, text in stated.items():
        if name in NONE_STATED:
            continue
        parts = set(re.split(r", | AND | OR |[()]", text.replace("(MPL 2.0)", "[MPL 2.0]")))
        named = {one.replace("[MPL 2.0]", "(MPL 2.0)") for one in parts - {""}}
        if name in CHOICE:
            assert CHOICE[name] in named
        else:
            assert named <= LICENCES, f"{name}: {text}"
