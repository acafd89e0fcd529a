"""The identity of the application of the tests, and the markers of its storage roots."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from maintenance.schema import migrations
from maintenance.storage.marker import MARKER, Marker

FIRST_MIGRATION: dict[str, Any] = {
    "id": 1,
    "app": "contenttypes",
    "name": "0001_initial",
    "applied": datetime(2025, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
}
"""The row that every database of the tests has in `django_migrations`."""

APPLICATION = "8ab1603b31a4ef9ce780f0446d7d31fd06bef5fea5e0df612a5f4d869ba3ab75"
"""The identity that comes of it."""


def identify(database: Engine) -> None:
    """Give a database the row that its application is known by."""
    with database.begin() as connection:
        connection.execute(migrations.insert().values(FIRST_MIGRATION))


def marker(root: str, *roots: str, application: str = APPLICATION) -> bytes:
    """The content of a root's marker; the private one names all roots."""
    return Marker(application, root, tuple(sorted(roots))).content()


def mark_storage(storage_root: Path, **others: Path) -> None:
    """Mark the roots below a storage root, and others by their names, as the application's."""
    roots = {name: storage_root / name for name in ("private", "public")} | others
    present = {name: path for name, path in roots.items() if path.is_dir()}
    for name, path in present.items():
        (path / MARKER).write_bytes(marker(name, *(present if name == "private" else ())))
