"""Which storage roots a run adopts by itself, and which ones only an operator (SPEC 10.1)."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from demo.embedded import EmbeddedServer
from maintenance import schema
from maintenance.errors import StorageError
from maintenance.settings import DRIVER, Settings
from maintenance.storage import named_files
from maintenance.storage.adoption import UNMARKED
from maintenance.storage.identity import application_id
from maintenance.storage.layout import open_stores
from maintenance.storage.marker import MARKER, Marker
from maintenance.storage.named_files import MANY, SAMPLE, sample_named_files
from tests.support.markers import APPLICATION, marker
from tests.support.validibot import Validibot


@pytest.fixture
def unmarked(validibot: Validibot) -> Validibot:
    for name in ("private", "public"):
        (validibot.root / name / MARKER).unlink()
    return validibot


def markers(app: Validibot) -> dict[str, Marker | None]:
    found = app.root.rglob(MARKER)
    return {path.parent.name: Marker.parse(path.read_bytes()) for path in found}


ADOPTED = {
    "private": Marker(APPLICATION, "private", ("private", "public")),
    "public": Marker(APPLICATION, "public"),
}


def name_files(app: Validibot, found: int, lost: int = 0) -> None:
    """Have rows name so many files that exist, and so many that do not."""
    for number in range(found + lost):
        key = f"submissions/{number}.json"
        app.submission(input_file=key)
        if number < found:
            app.file(key)


def name_bundles(app: Validibot, found: int, lost: int = 0, *, older: bool = False) -> list[UUID]:
    runs = []
    for number in range(found + lost):
        run_id = app.run(None)
        app.attempt(app.step_run(run_id))
        if number < found:
            app.bundle(run_id, older=older).mkdir(parents=True)
        runs.append(run_id)
    return runs


def open_once(settings: Settings, engine: Engine, *, write: bool = True) -> None:
    with open_stores(settings, engine, write=write) as stores:
        stores.verify() if write else None


@pytest.mark.parametrize(("found", "lost"), [(0, 0), (20, 0), (19, 1), (60, 3)])
def test_10_1_what_is_beyond_doubt_is_adopted_by_the_first_run(
    unmarked: Validibot, environment: Settings, found: int, lost: int
) -> None:
    name_files(unmarked, found, lost)
    open_once(environment, unmarked.engine, write=False)
    assert markers(unmarked) == {}
    open_once(environment, unmarked.engine)
    assert markers(unmarked) == ADOPTED


@pytest.mark.parametrize(("found", "lost"), [(1, 0), (19, 0), (18, 2), (0, 20), (0, 1), (60, 4)])
def test_10_1_what_is_not_certain_is_adopted_by_no_run(
    unmarked: Validibot, environment: Settings, found: int, lost: int
) -> None:
    name_files(unmarked, found, lost)
    said = f"/private has no marker .*: {found} of {found + lost} submission files found"
    for write in (False, True):
        with pytest.raises(StorageError, match=said):
            open_once(environment, unmarked.engine, write=write)
    assert markers(unmarked) == {}


def test_10_1_each_kind_of_files_must_be_there(unmarked: Validibot, environment: Settings) -> None:
    """A folder below the root may be a volume of its own, and not be mounted."""
    name_files(unmarked, 100)
    org = unmarked.org_id
    for number in range(SAMPLE):
        unmarked.port_file(unmarked.submission(), input_file=f"submissions/{number}.json")
        run_id = unmarked.run(None)
        unmarked.file(f"evidence/{number}")
        unmarked.insert(
            schema.evidence,
            run_id=run_id,
            manifest_path=f"evidence/{number}",
            availability="GENERATED",
        )
        if number < 20:
            key = f"artifacts/{number}"
            unmarked.insert(schema.artifacts, validation_run_id=run_id, org_id=org, file=key)
            if number < 10:
                unmarked.file(key)
    with pytest.raises(StorageError, match="10 of 20 artifacts"):
        open_once(environment, unmarked.engine)
    assert markers(unmarked) == {}


def test_10_1_rows_without_content_name_no_files(
    unmarked: Validibot, environment: Settings
) -> None:
    purged = datetime(2026, 1, 1, tzinfo=UTC)
    unmarked.submission()
    unmarked.submission(input_file="", content="", content_purged_at=purged)
    unmarked.port_file(unmarked.submission(), input_file="kept", file_purged_at=purged)
    open_once(environment, unmarked.engine)
    assert markers(unmarked) == ADOPTED


def test_10_1_keys_that_no_file_can_have_are_not_found(
    unmarked: Validibot, environment: Settings
) -> None:
    for number in range(20):
        unmarked.submission(input_file=f"../../{number}")
    with pytest.raises(StorageError, match="0 of 20 submission files found"):
        open_once(environment, unmarked.engine)


@pytest.mark.parametrize("older", [False, True])
def test_10_1_bundles_count_where_they_are(
    unmarked: Validibot, environment: Settings, older: bool
) -> None:
    name_bundles(unmarked, 20)
    name_bundles(unmarked, 20 if older else 0, older=True)
    open_once(environment, unmarked.engine)
    assert markers(unmarked) == ADOPTED


def test_10_1_one_bundle_that_is_nowhere_keeps_the_public_root_from_being_adopted(
    unmarked: Validibot, environment: Settings
) -> None:
    name_files(unmarked, 20)
    name_bundles(unmarked, 30, 1)
    with pytest.raises(StorageError, match=r"/public has no marker .*: 0 of 1 run bundles found"):
        open_once(environment, unmarked.engine)
    assert markers(unmarked) == {}


@pytest.mark.parametrize("bundles", [0, 20])
def test_10_1_a_public_root_that_was_never_used_may_be_absent(
    unmarked: Validibot, environment: Settings, bundles: int
) -> None:
    (unmarked.root / "public").rmdir()
    name_bundles(unmarked, bundles)
    open_once(environment, unmarked.engine)
    assert markers(unmarked) == {"private": Marker(APPLICATION, "private", ("private",))}
    # Validibot makes it later, and it goes again.
    (unmarked.root / "public").mkdir()
    open_once(environment, unmarked.engine)
    assert markers(unmarked) == ADOPTED
    (unmarked.root / "public" / MARKER).unlink()
    (unmarked.root / "public").rmdir()
    with pytest.raises(StorageError, match="/public is missing, and was there before"):
        open_once(environment, unmarked.engine)


def test_10_1_a_marked_root_is_not_searched(validibot: Validibot, environment: Settings) -> None:
    name_files(validibot, 0, 40)
    open_once(environment, validibot.engine)
    assert markers(validibot) == ADOPTED


def test_10_1_the_refusal_says_what_to_do(validibot: Validibot, environment: Settings) -> None:
    other = marker("private", "private", "public", application="0" * 64)
    (validibot.root / "private" / MARKER).write_bytes(other)
    with pytest.raises(StorageError) as caught:
        open_once(environment, validibot.engine)
    assert str(caught.value) == (
        f"storage root {validibot.root}/private belongs to another application, says its marker"
        f" ({MARKER}); nothing was stamped; mount the volume of the application or correct the"
        " storage settings; if this is its storage, run `python -m maintenance storage adopt`"
    )
    assert UNMARKED not in str(caught.value)


def identity(engine: Engine) -> str:
    with engine.connect() as connection:
        return application_id(connection)


def test_10_1_a_copy_of_the_database_has_the_same_identity(
    server: EmbeddedServer, database: Engine
) -> None:
    assert identity(database) == APPLICATION
    database.dispose()
    name = f"{database.url.database}_copy"
    copy = create_engine(
        server.create_database(name, template=str(database.url.database)).set(drivername=DRIVER)
    )
    assert identity(copy) == APPLICATION
    with copy.begin() as connection:
        connection.execute(text("SET TimeZone = 'Asia/Tokyo'"))
        connection.execute(text("INSERT INTO django_migrations VALUES (2, 'a', 'b', now())"))
        assert application_id(connection) == APPLICATION
    copy.dispose()
    server.drop_database(name)


@pytest.mark.parametrize(
    "change",
    ["app = 'x'", "name = 'x'", "applied = applied + interval '1 us'", "applied = '-infinity'"],
)
def test_10_1_another_first_migration_is_another_application(database: Engine, change: str) -> None:
    with database.begin() as connection:
        connection.execute(text(f"UPDATE django_migrations SET {change}"))
        assert application_id(connection) != APPLICATION
        connection.rollback()


def test_10_1_without_a_migration_there_is_no_application(
    validibot: Validibot, environment: Settings
) -> None:
    with validibot.engine.begin() as connection:
        connection.execute(text("DELETE FROM django_migrations"))
    with pytest.raises(StorageError, match="django_migrations is empty"):
        open_once(environment, validibot.engine)


@pytest.mark.parametrize("named", [5, 300])
def test_10_1_a_large_table_is_sampled_and_a_sparse_one_is_read(
    validibot: Validibot, monkeypatch: pytest.MonkeyPatch, named: int
) -> None:
    monkeypatch.setattr(named_files, "SAMPLED_PAGES", 4)
    with validibot.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO submissions_submission SELECT (jsonb_populate_record(s,"
                " jsonb_build_object('id', gen_random_uuid(), 'content', CASE WHEN n <= :named THEN"
                " '' ELSE 'x' END, 'input_file', CASE WHEN n <= :named THEN 'up/' || n ELSE ''"
                " END))).* FROM submissions_submission s, generate_series(1, 1000) n"
                " WHERE s.id = :id"
            ),
            {"named": named, "id": validibot.submission(content="x")},
        )
        found = sample_named_files(connection).files["submission files"]
    assert min(named, MANY) <= len(set(found)) == len(found) <= min(named, SAMPLE)
    assert set(found) <= {f"up/{number}" for number in range(1, named + 1)}


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b'{"application": 1, "root": "private", "roots": []}',
        b'{"application": "a", "root": "private", "roots": "private"}',
        b'{"application": "a", "root": "private", "roots": [1]}',
        b"\xff",
        b"[" * 4_000,
    ],
)
def test_10_1_what_is_no_marker_is_not_read_as_one(content: bytes) -> None:
    assert Marker.parse(content) is None


def test_10_1_a_marker_is_read_as_it_was_written() -> None:
    for one in (*ADOPTED.values(), Marker("é", "private", ())):
        assert one is not None
        assert Marker.parse(one.content()) == one
