"""The rules of the house: who may import whom, and where SQL is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "maintenance", "deployments", "demo")
MAX_LINES = 300

MAY_IMPORT = {
    "maintenance": {"maintenance"},
    "tasks": {"maintenance", "tasks", "prefect"},
    "flows": {"maintenance", "tasks", "flows", "prefect"},
    "deployments": {"maintenance", "flows", "deployments", "prefect"},
    "demo": {"maintenance", "deployments", "demo"},
}
"""Of our packages and Prefect, those that a package's modules may import."""

COMMAND_LINE = "maintenance/cli.py"
"""Stands above the layers that it shows: it may import from all, and nobody imports it."""


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """The modules that a file imports, each with the name that it takes from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_flows_back_up(package: str) -> None:
    ours = {*PACKAGES, "prefect"}
    for path in modules(package):
        roots = {module.partition(".")[0] for module, _ in imported(path)} & ours
        if path != ROOT / COMMAND_LINE:
            assert roots <= MAY_IMPORT[package], path


def test_nobody_imports_the_command_line_that_stands_above_the_layers() -> None:
    importing = {
        str(path.relative_to(ROOT))
        for path in modules(*PACKAGES)
        if "maintenance.cli" in {module for module, _ in imported(path)}
    }
    assert importing == {"maintenance/__main__.py"}


def test_a_flow_holds_no_sql() -> None:
    for path in modules("flows"):
        roots = {module.partition(".")[0] for module, _ in imported(path)}
        assert roots.isdisjoint({"sqlalchemy", "psycopg"}), path


def test_no_module_reaches_into_the_private_names_of_another() -> None:
    for path in modules(*PACKAGES):
        for module, name in imported(path):
            if module.partition(".")[0] in PACKAGES:
                assert not name.startswith("_"), f"{path}: {module}.{name}"


def test_files_are_small() -> None:
    for path in modules(*PACKAGES, "benchmarks"):
        assert len(path.read_text().splitlines()) <= MAX_LINES, path


OPTIONAL = {"maintenance.storage.s3", "maintenance.storage.gcs"}
"""Imported when the settings ask for them: what they need may not be installed."""


def test_nothing_is_imported_late_to_dodge_a_circle() -> None:
    for path in modules(*PACKAGES):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            late = {node.module for node in ast.walk(function) if isinstance(node, ast.ImportFrom)}
            ours = {name for name in late if name and name.partition(".")[0] in PACKAGES}
            assert ours <= OPTIONAL, path
