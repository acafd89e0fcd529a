"""Real parts for the tests: one embedded PostgreSQL a process, a fresh database a test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from demo.embedded import EmbeddedServer, embedded_server
from demo.environment import clean_environment
from demo.servers import PrefectServer
from maintenance import settings as settings_module
from maintenance.database import dispose_engines
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER, Settings
from tests.support import crash_points
from tests.support.dialect import share_compiled_statements
from tests.support.distribution import GroupScheduling, arrange, lower_priority, mark
from tests.support.docker_engine import (
    Containers,
    DockerEngine,
    containers_of_a_test,
    docker_engine_or_skip,
)
from tests.support.markers import identify, mark_storage
from tests.support.memory import keep_pytests_folders_there, memory, temporary_folder
from tests.support.unmarked import Guard
from tests.support.validibot import Validibot
from tests.support.work import work_for_every_job

SHARED = pytest.StashKey[Path]()
"""A folder of all processes of one run of pytest."""
TEMPLATE = "template_validibot"
WITH_PARENTS = "template_with_parents"
WITH_WORK = "template_with_work"
SERVER_PARAMETERS = {"fsync": "off", "max_connections": "200", "track_commit_timestamp": "on"}

_numbers = count()
_guard = Guard()


@pytest.hookimpl(tryfirst=True)  # before pytest asks where its folders shall be
def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all processes share, and choose for all of them."""
    crash_points.choose()
    keep_pytests_folders_there()
    share_compiled_statements()
    if not hasattr(config, "workerinput"):
        # Not pytest's own folder: PostgreSQL runs as another user when root starts it.
        config.stash[SHARED] = Path(tempfile.mkdtemp(prefix="vm-", dir=memory()))
    else:
        config.stash[SHARED] = Path(config.workerinput["shared"])


def pytest_report_header() -> str:
    """Say what was chosen."""
    return f"crashes: {crash_points.choice()}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many worker processes `-n auto` means.

    Tests wait for others some of the time, and those with Prefect servers most of it.
    """
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    without_servers = "not (server" in config.option.markexpr  # as `make test-fast` does
    return (processors or 1) + (1 if without_servers else 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Make the database of all worker processes, before they start."""
    make_template(config.stash[SHARED])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker process where the folder is."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Keep groups of tests together."""
    return GroupScheduling(config, log, config.stash[SHARED])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests before they are selected by their markers, and arrange them."""
    mark(items)
    if hasattr(config, "workerinput"):
        arrange(items, config.stash[SHARED])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch what the test starts."""
    if hasattr(item.config, "workerinput"):
        lower_priority(item)
    _guard.watch(item)
    try:
        return (yield)
    finally:
        _guard.watch(None)


def make_template(folder: Path) -> Path:
    """Return the data directory of a PostgreSQL with an empty Validibot; make it when absent."""
    data = folder / "pg"
    if not data.exists():
        with embedded_server(data, SERVER_PARAMETERS) as running:
            engine = create_engine(running.create_database(TEMPLATE).set(drivername=DRIVER))
            create_tables(engine)
            identify(engine)
            engine.dispose()
    return data


def build(running: EmbeddedServer, name: str, root: Path) -> Validibot:
    """Make a template that has the rows that all others refer to; return its builder."""
    engine = create_engine(running.create_database(name, template=TEMPLATE).set(drivername=DRIVER))
    validibot = Validibot(engine, root)
    engine.dispose()
    return validibot


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Iterator[EmbeddedServer]:
    template = make_template(pytestconfig.stash[SHARED])
    with temporary_folder() as directory:
        data = Path(directory) / "pg"
        # The command keeps the owner, who is not the one that runs the tests when that is root.
        subprocess.run(["cp", "-a", str(template), str(data)], check=True)
        with embedded_server(data, SERVER_PARAMETERS) as running:
            yield running


@pytest.fixture(scope="session")
def template_database(server: EmbeddedServer) -> str:
    return TEMPLATE


@pytest.fixture(scope="session")
def parents(server: EmbeddedServer) -> Validibot:
    """The builder of the template with the rows that all others refer to."""
    return build(server, WITH_PARENTS, Path())


@pytest.fixture(scope="session")
def work(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Validibot:
    """The builder of the template with work for every job."""
    validibot = build(server, WITH_WORK, make_storage(tmp_path_factory.mktemp("work")))
    work_for_every_job(validibot)
    validibot.engine.dispose()
    return validibot


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, server: EmbeddedServer, template_database: str
) -> Iterator[URL]:
    name = f"test_{next(_numbers)}"
    if template_database == TEMPLATE:
        for fixture, builder in (("validibot", "parents"), ("validibot_with_work", "work")):
            if fixture in request.fixturenames:
                template_database = request.getfixturevalue(builder).name
    yield server.create_database(name, template=template_database)
    server.drop_database(name)


@pytest.fixture(scope="module")
def module_database(server: EmbeddedServer, template_database: str) -> Iterator[Engine]:
    """Give a database to the tests of a module that only read what a fixture of it has filled."""
    name = f"test_{next(_numbers)}"
    engine = create_engine(
        server.create_database(name, template=template_database).set(drivername=DRIVER)
    )
    yield engine
    engine.dispose()
    server.drop_database(name)


@pytest.fixture
def database(database_url: URL) -> Iterator[Engine]:
    engine = create_engine(database_url.set(drivername=DRIVER))
    yield engine
    engine.dispose()


@pytest.fixture
def storage_root(tmp_path: Path) -> Path:
    return make_storage(tmp_path)


def make_storage(folder: Path) -> Path:
    """Return a new storage root, which is marked as the application's."""
    root = folder / "storage"
    for name in ("private", "public"):
        (root / name).mkdir(parents=True)
    mark_storage(root)
    return root


@pytest.fixture
def environment(
    database_url: URL, storage_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """The settings that jobs find in their environment: this test's database and storage."""
    monkeypatch.setenv("DATABASE_URL", database_url.render_as_string(hide_password=False))
    monkeypatch.setenv("STORAGE_ROOT", str(storage_root))
    # No job may reach a container engine of this machine, unless a test asks for one.
    monkeypatch.delenv("DEPLOYMENT_TARGET", raising=False)
    settings_module.settings.cache_clear()
    yield settings_module.settings()
    dispose_engines()
    settings_module.settings.cache_clear()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[PrefectServer]:
    """A real Prefect server, started for the first test that asks for it."""
    with temporary_folder() as name:
        home = Path(name)
        with PrefectServer(home, home, clean_environment(os.environ, home)) as running:
            running.wait_until_ready()
            yield running


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A real container engine with an image; tests that ask for it are marked `docker`."""
    with docker_engine_or_skip() as engine:
        yield engine


@pytest.fixture
def containers(docker_engine: DockerEngine) -> Iterator[Containers]:
    """Containers of Validibot's kind on that engine."""
    with containers_of_a_test(docker_engine) as made:
        yield made


@pytest.fixture
def validibot(
    request: pytest.FixtureRequest, database: Engine, storage_root: Path, template_database: str
) -> Validibot:
    if template_database != TEMPLATE:
        return Validibot(database, storage_root)
    parents: Validibot = request.getfixturevalue("parents")
    return parents.at(database, storage_root)


@pytest.fixture
def validibot_with_work(work: Validibot, database: Engine, storage_root: Path) -> Validibot:
    """One with `work_for_every_job`, whose rows and files are copied and not made anew."""
    shutil.copytree(work.root, storage_root, dirs_exist_ok=True)
    return work.at(database, storage_root)
