"""A store of local files, and servers of both bucket services."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from maintenance.storage.local import LocalStore
from tests.support.gcs_server import GcsServer
from tests.support.s3_server import S3Server
from tests.support.stores import services


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    opened = LocalStore(root)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[S3Server, GcsServer]]:
    with services() as running:
        yield running
