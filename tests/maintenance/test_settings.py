import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from maintenance.errors import SettingsError
from maintenance.settings import Settings, load_settings

URL = "postgresql://alice:s3cret@db.example:5433/validibot"
SECONDS = (
    "MAINTENANCE_TIME_BUDGET_SECONDS",
    "MAINTENANCE_BATCH_SECONDS",
    "MAINTENANCE_DELETE_BATCH_SECONDS",
    "MAINTENANCE_LOCK_TIMEOUT_SECONDS",
    "MAINTENANCE_STATEMENT_TIMEOUT_SECONDS",
    "MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS",
    "MAINTENANCE_CONNECT_TIMEOUT_SECONDS",
    "MAINTENANCE_DOCKER_TIMEOUT_SECONDS",
)
MINUTES = "MAINTENANCE_CONTINUATION_MINUTES"
REQUESTS = "MAINTENANCE_STORAGE_REQUESTS"
ROWS = ("MAINTENANCE_BATCH_SIZE", "MAINTENANCE_DELETE_BATCH_SIZE")
FIELDS = {
    str(field.validation_alias): name
    for name, field in Settings.model_fields.items()
    if isinstance(field.validation_alias, str)
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*FIELDS, "MAINTENANCE_REDACT_INPUT_TRACES", "REDACT_INPUT_TRACES"):
        monkeypatch.delenv(variable, raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **variables)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_database_url_is_read_with_each_scheme(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    url = load(monkeypatch, DATABASE_URL=URL.replace("postgresql", scheme)).url
    assert (url.drivername, url.username, url.password, url.host, url.port, url.database) == (
        "postgresql+psycopg",
        "alice",
        "s3cret",
        "db.example",
        5433,
        "validibot",
    )


def test_postgres_variables_stand_in_for_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    url = load(
        monkeypatch,
        POSTGRES_HOST="db.example",
        POSTGRES_PORT="5433",
        POSTGRES_DB="other",
        POSTGRES_USER="alice",
        POSTGRES_PASSWORD="s3cret",
    ).url
    assert url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://alice:s3cret@db.example:5433/other"
    )


def test_postgres_port_and_name_have_validibots_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    url = load(monkeypatch, POSTGRES_HOST="db.example", POSTGRES_USER="alice").url
    assert (url.port, url.database, url.password) == (5432, "validibot", None)


def test_database_url_wins_over_postgres_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    url = load(monkeypatch, DATABASE_URL=URL, POSTGRES_HOST="other", POSTGRES_USER="bob").url
    assert (url.host, url.username) == ("db.example", "alice")


def test_special_characters_of_a_postgres_password_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    password = "p@ss:w/rd?#%40 'ü\"\\"
    url = load(
        monkeypatch, POSTGRES_HOST="db", POSTGRES_USER="alice", POSTGRES_PASSWORD=password
    ).url
    assert (url.password, url.host) == (password, "db")


def test_escaped_characters_of_a_database_url_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    url = load(monkeypatch, DATABASE_URL="postgresql://alice:p%40ss%2Fword@db/v").url
    assert (url.password, url.host) == ("p@ss/word", "db")


def test_without_a_database_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch) == (
        "Wrong settings: set DATABASE_URL, or POSTGRES_HOST and POSTGRES_USER"
        " (and POSTGRES_PASSWORD)"
    )


@pytest.mark.parametrize("given", ["POSTGRES_HOST", "POSTGRES_USER", "POSTGRES_PASSWORD"])
def test_half_an_address_is_not_enough(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    assert "set DATABASE_URL, or POSTGRES_HOST" in refusal(monkeypatch, **{given: "x"})


@pytest.mark.parametrize(
    "wrong",
    [
        "s3cret",
        "mysql://alice:s3cret@db/v",
        "postgresql://alice:s3cret@db:port/v",
        "postgresql://alice:x@s3cret@db/v",
        "postgresql://alice:x@s3cret/y@db/v",
        "sqlite:///s3cret",
        "://s3cret",
    ],
)
def test_a_wrong_database_url_is_named_but_never_quoted(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", wrong)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    shown = "".join(traceback.format_exception(caught.value))
    assert "DATABASE_URL: " in str(caught.value)
    assert "s3cret" not in shown


def test_no_secret_is_in_the_text_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    current = load(monkeypatch, DATABASE_URL=URL, POSTGRES_PASSWORD="an0ther")
    shown = f"{current} {current!r} {current.url} {current.url!r} {current.model_dump()}"
    assert "db.example" in shown
    assert "s3cret" not in shown
    assert "an0ther" not in shown


def test_a_secret_is_not_quoted_beside_another_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(
        monkeypatch, DATABASE_URL=URL, POSTGRES_PORT="s3cret", MAINTENANCE_BATCH_SIZE="an0ther"
    )
    assert "POSTGRES_PORT: " in message
    assert "MAINTENANCE_BATCH_SIZE: " in message
    assert "s3cret" not in message
    assert "an0ther" not in message


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    blank = dict.fromkeys(FIELDS, "") | {"MAINTENANCE_REDACT_INPUT_TRACES": ""}
    address = {"POSTGRES_HOST": "db", "POSTGRES_USER": "alice"}
    assert load(monkeypatch, **{**blank, **address}) == Settings.model_validate(address)


def test_an_empty_environment_is_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "set DATABASE_URL" in refusal(monkeypatch, DATABASE_URL="", POSTGRES_HOST="")


def test_storage_variables_lead_to_the_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    current = load(monkeypatch, DATABASE_URL=URL, STORAGE_ROOT="/data")
    roots = (current.private_root, current.public_root, current.bundle_root)
    assert roots == (Path("/data/private"), Path("/data/public"), Path("/data/private"))
    moved = load(monkeypatch, DATA_STORAGE_ROOT="/bundles")
    roots = (moved.private_root, moved.public_root, moved.bundle_root)
    assert roots == (Path("/data/private"), Path("/data/public"), Path("/bundles"))


def test_the_storage_root_is_by_default_that_of_validibots_containers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load(monkeypatch, DATABASE_URL=URL).private_root == Path("/app/storage/private")


@pytest.mark.parametrize("variable", ["STORAGE_ROOT", "DATA_STORAGE_ROOT"])
@pytest.mark.parametrize("path", ["storage", "./storage", "../storage", "."])
def test_relative_roots_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, path: str
) -> None:
    message = refusal(monkeypatch, DATABASE_URL=URL, **{variable: path})
    assert f"{variable}: must be an absolute path" in message


def test_other_variables_of_validibot_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    current = load(
        monkeypatch,
        DATABASE_URL=URL,
        DEPLOYMENT_TARGET="self_hosted",
        DATA_STORAGE_BACKEND="s3",
        STORAGE_BUCKET="validibot-files",
    )
    assert current.deployment_target == "self_hosted"
    assert current.data_storage_backend == "s3"


@pytest.mark.parametrize(
    ("target", "stated", "bucket", "expected"),
    [
        (None, None, None, "local"),
        (None, "s3", "files", "s3"),
        ("gcp", None, "files", "gcs"),
        ("gcp", "local", "files", "gcs"),
        ("aws", None, "files", "s3"),
        ("self_hosted", None, None, "local"),
        ("self_hosted", "s3", "files", "s3"),
        ("self_hosted", "local", "files", "local"),
        ("local_docker_compose", None, None, "local"),
    ],
)
def test_the_backend_follows_from_the_deployment_target_as_in_validibot(
    monkeypatch: pytest.MonkeyPatch,
    target: str | None,
    stated: str | None,
    bucket: str | None,
    expected: str,
) -> None:
    given = {
        "DEPLOYMENT_TARGET": target,
        "DATA_STORAGE_BACKEND": stated,
        "STORAGE_BUCKET": bucket,
    }
    set_ones = {name: value for name, value in given.items() if value is not None}
    current = load(monkeypatch, DATABASE_URL=URL, **set_ones)
    assert current.data_storage_backend == expected
    assert current.gcs_validation_bucket == ("files" if target == "gcp" else None)


def test_a_bucket_of_its_own_for_run_bundles_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    current = load(
        monkeypatch,
        DATABASE_URL=URL,
        DEPLOYMENT_TARGET="gcp",
        STORAGE_BUCKET="files",
        GCS_VALIDATION_BUCKET="bundles",
    )
    assert (current.storage_bucket, current.gcs_validation_bucket) == ("files", "bundles")


def test_a_bucket_that_is_needed_or_not_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, DATABASE_URL=URL, DEPLOYMENT_TARGET="gcp")
    assert "DEPLOYMENT_TARGET=gcp needs STORAGE_BUCKET" in message
    message = refusal(
        monkeypatch, DATABASE_URL=URL, DEPLOYMENT_TARGET="self_hosted", STORAGE_BUCKET="files"
    )
    assert "DATA_STORAGE_BACKEND: must be gcs or s3, because STORAGE_BUCKET is set" in message


def test_an_unknown_backend_is_refused_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = refusal(monkeypatch, DATABASE_URL=URL, DATA_STORAGE_BACKEND="azure")
    assert "DATA_STORAGE_BACKEND: " in message
    assert "'local', 'gcs' or 's3'" in message


@pytest.mark.parametrize("variable", [*SECONDS, *ROWS, MINUTES, REQUESTS])
@pytest.mark.parametrize("value", ["-1", "many", "nan", "inf", "1e99", "1,5", "5 s"])
def test_what_is_no_number_in_bounds_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert f"{variable}: " in refusal(monkeypatch, DATABASE_URL=URL, **{variable: value})


@pytest.mark.parametrize(
    ("variable", "inside", "outside"),
    [
        *((variable, ("0.001", "86400"), ("0", "86400.001")) for variable in SECONDS),
        ("MAINTENANCE_BATCH_SIZE", ("1", "50000"), ("0", "50001")),
        ("MAINTENANCE_DELETE_BATCH_SIZE", ("1", "1000000"), ("0", "1000001")),
        ("MAINTENANCE_DELETE_PAUSE_SECONDS", ("0", "60"), ("-0.001", "60.001")),
        (MINUTES, ("1", "43200"), ("0", "43201")),
        (REQUESTS, ("1", "128"), ("0", "129")),
        ("POSTGRES_PORT", ("1", "65535"), ("0", "65536")),
    ],
)
def test_numbers_are_allowed_up_to_their_bounds(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    inside: tuple[str, str],
    outside: tuple[str, str],
) -> None:
    for value in inside:
        current = load(monkeypatch, DATABASE_URL=URL, **{variable: value})
        assert getattr(current, FIELDS[variable]) == float(value)
    for value in outside:
        assert f"{variable}: " in refusal(monkeypatch, DATABASE_URL=URL, **{variable: value})


def test_every_number_of_ours_is_tested_here() -> None:
    ours = {name for name in FIELDS if name.startswith("MAINTENANCE_")}
    numbers = {
        name
        for name in ours
        if isinstance(Settings.model_fields[FIELDS[name]].default, (int, float))
        or name.endswith("_SECONDS")
    }
    assert numbers == {*SECONDS, *ROWS, MINUTES, REQUESTS, "MAINTENANCE_DELETE_PAUSE_SECONDS"}


@pytest.mark.parametrize("variable", ["MAINTENANCE_REDACT_INPUT_TRACES", "REDACT_INPUT_TRACES"])
@pytest.mark.parametrize(("value", "expected"), [("false", False), ("0", False), ("true", True)])
def test_redaction_of_input_traces_can_be_set_by_either_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: bool
) -> None:
    current = load(monkeypatch, DATABASE_URL=URL, **{variable: value})
    assert current.redact_input_traces is expected


def test_input_traces_are_redacted_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, DATABASE_URL=URL).redact_input_traces is True


def test_the_time_budget_is_the_jobs_default_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = timedelta(minutes=4)
    assert load(monkeypatch, DATABASE_URL=URL).time_budget(default) == 240
    current = load(monkeypatch, MAINTENANCE_TIME_BUDGET_SECONDS="7.5")
    assert current.time_budget(default) == 7.5
