"""DATABASE_URL in the forms that Django's packages accept."""

import logging
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, text

from demo.embedded import EmbeddedServer
from maintenance.database import dispose_engines, engine_for, transaction
from maintenance.database_address import IGNORED, parse_address
from maintenance.errors import SettingsError
from maintenance.settings import Settings, load_settings

CLOUD = "/cloudsql/project:region:instance"


@pytest.mark.parametrize(
    "text_",
    [
        "postgres://alice:s3cret@//cloudsql/project:region:instance/validibot",
        "postgres://alice:s3cret@%2Fcloudsql%2Fproject:region:instance/validibot",
        "postgres://alice:s3cret@%2fcloudsql%2fproject%3Aregion%3Ainstance/validibot",
        "postgresql://alice:s3cret@/validibot?host=/cloudsql/project:region:instance",
        "postgres://alice:s3cret@//cloudsql/project:region:instance/validibot?conn_max_age=60",
    ],
)
def test_a_sockets_folder_is_the_host(text_: str) -> None:
    url = parse_address(text_)
    assert (url.username, url.password, url.host, url.database) == (
        *("alice", "s3cret"),
        *(None, "validibot"),
    )
    assert dict(url.query) == {"host": CLOUD}


def test_the_case_and_the_port_of_a_socket_are_kept() -> None:
    url = parse_address("postgres://u@%2FRun%2FPostgreSQL:5433/v?sslmode=disable")
    assert dict(url.query) == {"host": "/Run/PostgreSQL", "port": "5433", "sslmode": "disable"}


def test_an_address_without_a_user_may_name_a_socket() -> None:
    url = parse_address("postgres:////run/postgresql/v")
    assert (url.username, url.database, dict(url.query)) == (None, "v", {"host": "/run/postgresql"})


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_djangos_options_are_ignored_with_one_log_line(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"postgres://alice:s3cret@db/v?{name.upper()}=s3cret&sslmode=require"
    monkeypatch.setenv("DATABASE_URL", address)
    with caplog.at_level(logging.INFO):
        current = load_settings()
    assert dict(current.url.query) == {"sslmode": "require"}
    (line,) = caplog.messages
    assert line == f"DATABASE_URL: ignored, because Django's own: {name}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("ssl_require=true", {"sslmode": "require"}),
        ("ssl_require=True&sslmode=verify-full", {"sslmode": "verify-full"}),
        ("sslmode=verify-full&ssl_require=1", {"sslmode": "verify-full"}),
        ("ssl_require=false", {}),
    ],
)
def test_tls_is_required_as_django_is_told(options: str, expected: dict[str, str]) -> None:
    assert dict(parse_address(f"postgres://u:p@db/v?{options}").query) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "postgres://db/v?pass=s3cret@db/v",
        "postgres://alice:s3cret@db/v?unknown_s3cret=1",
        "postgres://alice:s3cret@db/v?conn_max_age=60&s3cret=x",
        "postgres://alice:x@s3cret@//cloudsql/a:b:c/v",
        "mysql://alice:s3cret@//cloudsql/a:b:c/v",
    ],
)
def test_anything_else_names_the_variable_and_never_the_value(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", wrong)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "DATABASE_URL: " in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("form", ["//{folder}/{name}", "{quoted}/{name}?conn_max_age=60"])
def test_a_connection_by_a_socket_works(
    form: str, server: EmbeddedServer, database_url: URL, environment: Settings, tmp_path: Path
) -> None:
    with psycopg.connect(
        database_url.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        folders, port = connection.execute(
            "SELECT current_setting('unix_socket_directories'), current_setting('port')"
        ).fetchone() or ("", "")
    folder = str(folders).split(",")[0].strip()
    if not folder:
        pytest.skip("the server has no socket")
    host = form.format(
        folder=folder.lstrip("/"), quoted=folder.replace("/", "%2F"), name=database_url.database
    )
    address = f"postgres://{database_url.username or 'postgres'}@{host}"
    address += f"{'&' if '?' in address else '?'}port={port}"
    current = load_settings(DATABASE_URL=address)
    with transaction(engine_for(current, "socket")) as connection_:
        assert connection_.execute(text("SELECT inet_server_addr()")).scalar_one() is None
    dispose_engines()
