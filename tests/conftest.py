"""Real parts for the tests: one embedded PostgreSQL a session, a fresh database a test."""

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine

from demo.embedded import EmbeddedServer, embedded_server
from demo.environment import clean_environment
from demo.servers import PrefectServer
from maintenance import settings as settings_module
from maintenance.database import dispose_engines
from maintenance.schema import metadata, migrations
from maintenance.settings import DRIVER, Settings
from tests.support.docker_engine import (
    Containers,
    DockerEngine,
    containers_of_a_test,
    docker_engine_or_skip,
)
from tests.support.markers import FIRST_MIGRATION, mark
from tests.support.prefect_server import deployed_prefect
from tests.support.validibot import Validibot

SERVER_PARAMETERS = {"fsync": "off", "max_connections": "200", "track_commit_timestamp": "on"}

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    # Not pytest's own folder: PostgreSQL runs as another user when root starts it.
    with (
        tempfile.TemporaryDirectory(prefix="vm-", ignore_cleanup_errors=True) as directory,
        embedded_server(Path(directory) / "pg", SERVER_PARAMETERS) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def template_database(server: EmbeddedServer) -> str:
    engine = create_engine(server.create_database("template_validibot").set(drivername=DRIVER))
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(migrations.insert().values(FIRST_MIGRATION))
    engine.dispose()
    return "template_validibot"


@pytest.fixture
def database_url(server: EmbeddedServer, template_database: str) -> Iterator[URL]:
    name = f"test_{next(_numbers)}"
    yield server.create_database(name, template=template_database)
    server.drop_database(name)


@pytest.fixture
def database(database_url: URL) -> Iterator[Engine]:
    engine = create_engine(database_url.set(drivername=DRIVER))
    yield engine
    engine.dispose()


@pytest.fixture
def storage_root(tmp_path: Path) -> Path:
    root = tmp_path / "storage"
    for name in ("private", "public"):
        (root / name).mkdir(parents=True)
    mark(root)
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
    with tempfile.TemporaryDirectory(prefix="vm-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        with PrefectServer(home, home, clean_environment(os.environ, home)) as running:
            running.wait_until_ready()
            yield running


@pytest.fixture(scope="session")
def deployed_server() -> Iterator[PrefectServer]:
    """Another one, on which prefect.yaml was applied: it has schedules and makes runs of them."""
    with deployed_prefect() as running:
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
def validibot(database: Engine, storage_root: Path) -> Validibot:
    return Validibot(database, storage_root)
