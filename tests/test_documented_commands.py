"""Commands that the documents show are commands that exist, with options that they have."""

import re
import shlex
import subprocess
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError
from prefect.cli._app import _app as prefect_command

from flows.jobs import JOBS
from flows.options import parser
from maintenance import cli
from maintenance.errors import ParameterError

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PREFECT, FLOWS, MAINTENANCE = "prefect ", "python -m flows ", "python -m maintenance "
SHORTENED = ("…", "...", "[", "<", "$")
"""What is in a text that is not a whole command."""
ANY_JOB = next(iter(JOBS))
ANY_ID = "00000000-0000-0000-0000-000000000000"
NAMED_ONLY = "requires an argument"
"""Said of a command that a text names without its arguments."""


def commands(document: Path, prefix: str) -> Iterator[list[str]]:
    """The arguments of each command with a prefix, in blocks and in text."""
    text = document.read_text()
    found = [line.strip() for block in BLOCK.finditer(text) for line in block[3].splitlines()]
    found += [" ".join(span.split()) for span in SPAN.findall(BLOCK.sub("", text))]
    for one in found:
        command = one.removeprefix(".venv/bin/")
        if command.startswith(prefix) and not any(part in command for part in SHORTENED):
            filled = re.sub(r"\bID\b", ANY_ID, command.replace("JOB", ANY_JOB))
            yield shlex.split(filled.removeprefix(prefix), comments=True)


def listed(prefix: str) -> list[tuple[str, list[str]]]:
    """Every documented command, once, with the document that has it."""
    found = {
        shlex.join(one): (document.name, one)
        for document in DOCUMENTS
        for one in commands(document, prefix)
    }
    return list(found.values())


def problem(arguments: list[str]) -> str:
    """What Prefect's command line says of arguments; empty if it takes them."""
    try:
        prefect_command.parse_args(arguments, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        return str(error)
    return ""


def test_prefect_has_its_commands() -> None:
    found = {(name, shlex.join(one)): problem(one) for name, one in listed(PREFECT)}
    assert len(found) > 25
    wrong = {one: said for one, said in found.items() if said and NAMED_ONLY not in said}
    assert wrong == {}


@pytest.mark.parametrize(
    "made_up", [["worker", "ls"], ["flow-run", "ls", "--stat", "Late"], ["schedule", "ls"]]
)
def test_a_made_up_command_of_prefect_is_found(made_up: list[str]) -> None:
    assert problem(made_up)


def test_the_jobs_commands_have_their_options() -> None:
    found = [(name, one) for name, one in listed(FLOWS) if one[-1] != "--help"]
    assert len(found) > 8
    for name, arguments in found:
        try:
            parser().parse_args(arguments)
        except ParameterError as error:
            pytest.fail(f"{name}: {shlex.join(arguments)}: {error}")


def test_the_other_commands_have_their_options() -> None:
    found = listed(MAINTENANCE)
    assert len(found) > 12
    for name, arguments in found:
        try:
            options = cli._parse(arguments)
        except (SystemExit, ParameterError) as error:
            pytest.fail(f"{name}: {shlex.join(arguments)}: {error}")
        assert isinstance(options, Namespace)


@pytest.mark.parametrize("name", ["README.md", "docs/quick-start.md", "docs/troubleshooting.md"])
def test_blocks_that_can_be_pasted_are_commands_of_a_shell(name: str) -> None:
    blocks = [one[3] for one in BLOCK.finditer((ROOT / name).read_text()) if one[2] == "sh"]
    assert blocks
    for block in blocks:
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
