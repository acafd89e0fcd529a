"""The recipe of CONTRIBUTING.md is followed to the letter: it makes a job that works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "CONTRIBUTING.md").read_text().split("## Adding a job\n")[1].split("\n## ")[0]

STEP = re.compile(r"^(Create|In) `([^`]+)`:\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JOB = "cleanup-login-attempts"
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "*.egg-info")


def edited(text: str, diff: str) -> str:
    """A text with the change that a diff without line numbers says; its context is there once."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    places = [
        match.start() for match in re.finditer(f"^(?={re.escape(before)})", text, re.MULTILINE)
    ]
    assert len(places) == 1, f"not there exactly once:\n{before}"
    return text[: places[0]] + after + text[places[0] + len(before) :]


def follow(tree: Path) -> set[str]:
    """Do in a tree what the recipe says; return the files that it creates or changes."""
    touched = set()
    for verb, name, language, block in STEP.findall(RECIPE):
        path = tree / name
        touched.add(name)
        if verb == "Create":
            assert not path.exists()
            path.write_text(block)
        else:
            assert language == "diff"
            path.write_text(edited(path.read_text(), block))
    for command in COMMAND.findall(RECIPE):
        assert succeed(tree, "sh", "-ec", command) == ""
    return touched


def succeed(tree: Path, *command: str) -> str:
    """Run a command in a tree; return what it says."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(tree)
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("recipe") / "tree"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def touched(tree: Path) -> set[str]:
    return follow(tree)


def test_the_new_job_works_with_its_rights_its_deployment_and_its_documents(
    tree: Path, touched: set[str]
) -> None:
    rights = "tests/maintenance/test_access.py::test_"
    tests = (
        *("tests/deployments/test_prefect_yaml.py", "tests/test_architecture.py"),
        "tests/test_docs.py::test_the_readme_lists_every_job_with_its_schedule",
        f"{rights}the_file_is_what_the_code_renders",
        f"{rights}the_file_grants_the_rights_of_every_job",
        f"{rights}declared_columns_exist[{JOB}]",
        f"{rights}a_job_runs_with_the_rights_that_are_granted_for_it[{JOB}]",
        *sorted(name for name in touched if name.startswith("tests/flows/test_cleanup")),
    )
    assert len(tests) == 8
    python = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "passed" in succeed(tree, *python, *tests)


def test_the_new_job_is_listed(tree: Path, touched: set[str]) -> None:
    listed = succeed(tree, sys.executable, "-m", "flows", "--list")
    assert re.findall(rf"^{JOB} +(.*?)  ", listed, re.MULTILINE) == ["0 5 * * *"]


def test_the_new_code_is_formatted_and_clean(tree: Path, touched: set[str]) -> None:
    code = sorted(name for name in touched if name.endswith(".py"))
    ruff = (sys.executable, "-m", "ruff")
    succeed(tree, *ruff, "check", "--no-cache", "--quiet", *code)
    succeed(tree, *ruff, "format", "--no-cache", "--check", "--quiet", *code)


@pytest.mark.parametrize("diff", [" one\n+two\n", " gone\n+two\n"])
def test_a_diff_whose_context_is_not_there_once_is_refused(diff: str) -> None:
    with pytest.raises(AssertionError, match="not there exactly once"):
        edited("one\none\n", diff)
