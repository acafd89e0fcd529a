"""The layering: which package imports which, where SQL is, and which packages are delivered."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "maintenance", "deployments", "demo")
NOT_DELIVERED = {"benchmarks", "tests", "website"}
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
"""Above the layers that it shows: it may import all of them, and no other module imports it."""

SETUP = {"deployments.setup", "deployments.setup.automations", "deployments.setup.pools"}
FOLDERS = {
    "flows": {"flows.run", "tasks", "tasks.expiry", "tasks.purge", "tasks.residue", "tasks.stuck"},
    "flows.run": {"tasks", "tasks.batching"},
    "tasks": {"tasks.batching"},
    "tasks.batching": set(),
    "tasks.expiry": {"tasks", "tasks.batching"},
    "tasks.purge": {"tasks", "tasks.batching"},
    "tasks.residue": {"tasks", "tasks.batching", "tasks.purge"},
    "tasks.stuck": {"tasks", "tasks.batching", "tasks.purge"},
    "deployments": {"deployments.monitoring", "deployments.setup", "flows", "flows.run"},
    "deployments.monitoring": {"deployments", *SETUP, "flows", "flows.run"},
    "deployments.setup": {"deployments", *SETUP, "flows", "flows.run"},
    "deployments.setup.automations": {"deployments", "deployments.setup"},
    "deployments.setup.pools": {"deployments", "deployments.setup"},
}
"""Of the folders of flows, tasks and deployments, those that the modules of each may import."""

PURGE_FOR_STUCK = {
    "tasks.purge.options",
    "tasks.purge.output_deadlines",
    "tasks.purge.output_selection",
    "tasks.purge.repairs",
    "tasks.purge.retry_queue",
}
"""What ending stuck runs takes from the purges: how deadlines follow, and the queue of purges."""


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
def test_packages_import_only_the_layers_below_them(package: str) -> None:
    ours = {*PACKAGES, "prefect"}
    for path in modules(package):
        roots = {module.partition(".")[0] for module, _ in imported(path)} & ours
        if path != ROOT / COMMAND_LINE:
            assert roots <= MAY_IMPORT[package], path


def folder(module: str) -> str:
    """The deepest of the listed folders that a module is in; else its package."""
    inside = [name for name in FOLDERS if f"{module}.".startswith(f"{name}.")]
    return max(inside, key=len, default=module.partition(".")[0])


def refused(place: str, path: Path) -> set[str]:
    """The folders that a file in a folder imports and must not."""
    imports = {folder(f"{module}.{name}") for module, name in imported(path)}
    return imports & FOLDERS.keys() - FOLDERS[place] - {place}


def test_folders_import_only_those_that_are_listed_for_them() -> None:
    for path in modules("flows", "tasks", "deployments"):
        place = ".".join(path.relative_to(ROOT).parent.parts)
        assert place in FOLDERS, f"{place} is not listed in FOLDERS"
        assert refused(place, path) == set(), path


def test_every_listed_import_between_folders_exists() -> None:
    for place, allowed in FOLDERS.items():
        found = {
            folder(f"{module}.{name}")
            for path in (ROOT / place.replace(".", "/")).glob("*.py")
            for module, name in imported(path)
        }
        assert allowed - {place} <= found, place


@pytest.mark.parametrize(
    ("place", "line", "found"),
    [
        ("tasks.batching", "from tasks.purge.outputs import x", {"tasks.purge"}),
        ("tasks.batching", "from tasks import reporting", {"tasks"}),
        ("tasks.purge", "from tasks.stuck import rows", {"tasks.stuck"}),
        ("tasks.expiry", "import tasks.purge.outputs", {"tasks.purge"}),
        ("flows.run", "from flows.clear_sessions import clear_sessions", {"flows"}),
        ("deployments.setup", "from deployments.monitoring import x", {"deployments.monitoring"}),
        ("tasks.stuck", "from tasks.purge.retry_queue import x", set()),
    ],
)
def test_an_import_against_the_layers_is_found(
    tmp_path: Path, place: str, line: str, found: set[str]
) -> None:
    path = tmp_path / "made_up.py"
    path.write_text(f"{line}\n")
    assert refused(place, path) == found


def test_ending_stuck_runs_takes_only_deadlines_and_the_queue_from_the_purges() -> None:
    taken = {
        module
        for path in modules("tasks/stuck")
        for module, _ in imported(path)
        if module.startswith("tasks.purge")
    }
    assert taken == PURGE_FOR_STUCK


def test_only_the_entry_point_of_maintenance_imports_its_command_line() -> None:
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
    for path in modules(*PACKAGES, "benchmarks", "website"):
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


def delivered() -> dict[str, set[str]]:
    """The packages that each list of what is delivered or checked names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    context = re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    return {
        "wheel": set(project["hatch"]["build"]["targets"]["wheel"]["packages"]),
        "image": set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE)),
        ".dockerignore": set(context) - {"LICENSE"},
        "mypy": set(project["mypy"]["files"]) - NOT_DELIVERED,
        "isort": set(project["ruff"]["lint"]["isort"]["known-first-party"]) - NOT_DELIVERED,
        "tree": {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_DELIVERED,
    }


def test_every_list_of_packages_names_exactly_the_product_packages() -> None:
    lists = delivered()
    assert lists == {name: set(PACKAGES) for name in lists}
