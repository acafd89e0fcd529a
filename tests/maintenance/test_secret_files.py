"""Secrets from files: what is read, what is refused, and that no error shows a secret."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from maintenance.env_file import ENV_FILE
from maintenance.errors import SettingsError
from maintenance.secret_files import OF_PREFECT, SecretFileError, fill_in, read_secrets
from maintenance.settings import Settings, load_settings
from tests.support.commands import run_fresh, without_prefect

SECRET = "postgresql://alice:s3cret@db.example/validibot"
NAMES = [
    str(field.validation_alias)
    for field in Settings.model_fields.values()
    if isinstance(field.validation_alias, str)
]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *OF_PREFECT, ENV_FILE):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "secret"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refusal(**environment: str) -> str:
    with pytest.raises(SecretFileError) as caught:
        read_secrets(["DATABASE_URL"], environment)
    return str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_database_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", written(tmp_path, SECRET + end))
    assert load_settings().url.password == "s3cret"
    assert "DATABASE_URL" not in os.environ


def test_the_password_alone_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POSTGRES_HOST", "db")
    monkeypatch.setenv("POSTGRES_USER", "alice")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", written(tmp_path, " p@ss:w/rd \n"))
    assert load_settings().url.password == " p@ss:w/rd "


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    path = written(tmp_path, SECRET)
    environment = {"DATABASE_URL": "", "DATABASE_URL_FILE": path, "POSTGRES_PASSWORD_FILE": ""}
    assert read_secrets(["DATABASE_URL", "POSTGRES_PASSWORD"], environment) == {
        "DATABASE_URL": SECRET
    }


def test_a_missing_file_is_named_by_its_variable(tmp_path: Path) -> None:
    said = refusal(DATABASE_URL_FILE=str(tmp_path / "s3cret"))
    assert said == "DATABASE_URL_FILE: there is no such file"


def test_a_folder_in_place_of_the_file_is_explained(tmp_path: Path) -> None:
    said = refusal(DATABASE_URL_FILE=str(tmp_path))
    assert said == "DATABASE_URL_FILE: is a directory; Docker makes one where the file is missing"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        (b"s3cret\xff", "the file is not text"),
        ("s3cret\nof two lines\n", "the file has more than one line"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(
    tmp_path: Path, content: str | bytes, problem: str
) -> None:
    assert refusal(DATABASE_URL_FILE=written(tmp_path, content)) == f"DATABASE_URL_FILE: {problem}"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_file_that_may_not_be_read_is_refused() -> None:
    with NamedTemporaryFile() as file:  # its folder can be entered by all, its mode is 600
        file.write(SECRET.encode())
        os.seteuid(65_534)
        try:
            said = refusal(DATABASE_URL_FILE=file.name)
        finally:
            os.seteuid(0)
    assert said == "DATABASE_URL_FILE: user 65534 may not read the file"


def test_a_variable_and_its_file_together_are_refused_and_both_are_named(tmp_path: Path) -> None:
    said = refusal(DATABASE_URL=SECRET, DATABASE_URL_FILE=written(tmp_path, SECRET))
    assert said == "DATABASE_URL and DATABASE_URL_FILE are both set; set one of them"


def test_a_secret_in_place_of_a_path_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", SECRET)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == "Wrong settings: DATABASE_URL_FILE: there is no such file"
    monkeypatch.setenv("DATABASE_URL_FILE", "s3cret" * 1_000)  # longer than a name may be
    with pytest.raises(SettingsError, match=r"DATABASE_URL_FILE: the file cannot be read$"):
        load_settings()


def test_a_wrong_address_in_a_file_is_an_error_without_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", written(tmp_path, "mysql://alice:s3cret@db/v"))
    with pytest.raises(SettingsError, match="DATABASE_URL: ") as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__context__)


def test_the_env_file_is_read_below_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "# Validibot's own\nDJANGO_SECRET_KEY=other\nDATABASE_URL=postgresql://x@other/x\n"
        "VALIDATOR_TIMEOUT_SECONDS=60\nMAINTENANCE_BATCH_SIZE=7\nSTORAGE_BUCKET=\n"
        "POSTGRES_PASSWORD='a${b}'\n"
    )
    secret = tmp_path / "url"
    secret.write_text(SECRET)
    monkeypatch.setenv("DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("MAINTENANCE_BATCH_SIZE", "8")
    monkeypatch.setenv(ENV_FILE, written(tmp_path, text))
    loaded = load_settings()
    assert loaded.url.host == "db.example"
    assert (loaded.validator_timeout_seconds, loaded.batch_size) == (60, 8)
    assert loaded.postgres_password
    assert loaded.postgres_password.get_secret_value() == "a${b}"
    assert loaded.storage_bucket is None
    assert "DJANGO_SECRET_KEY" not in os.environ


def test_credentials_of_the_env_file_reach_the_storage_clients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    monkeypatch.setenv(ENV_FILE, written(tmp_path, "AWS_SECRET_ACCESS_KEY=from-the-file\n"))
    monkeypatch.setenv("DATABASE_URL", SECRET)
    load_settings()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "from-the-file"


def test_a_missing_env_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENV_FILE, str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=f"{ENV_FILE}: there is no such file"):
        load_settings()


def test_prefects_secrets_take_the_place_of_their_files(tmp_path: Path) -> None:
    environment = {f"{OF_PREFECT[0]}_FILE": written(tmp_path, "operator:s3cret\n")}
    fill_in(environment)
    assert environment == {OF_PREFECT[0]: "operator:s3cret"}
    fill_in(environment)  # as in a process that inherits it


@pytest.mark.parametrize("module", ["flows", "deployments", "maintenance", "deployments.watch"])
def test_a_command_without_its_file_says_so_in_one_line(tmp_path: Path, module: str) -> None:
    variable = f"{OF_PREFECT[0]}_FILE"
    environment = without_prefect(**{variable: str(tmp_path / "s3cret")})
    ran = run_fresh(module, "--help", env=environment)
    assert ran.returncode == 1
    assert ran.stderr == f"Wrong settings: {variable}: there is no such file\n"


def test_prefects_own_command_knows_the_login_from_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "operator:s3cret")
    environment = without_prefect(**{f"{OF_PREFECT[0]}_FILE": path, "PREFECT_HOME": str(tmp_path)})
    arguments = ("config", "view", "--show-secrets")
    ran = run_fresh("deployments.prefect_command", *arguments, env=environment)
    assert "PREFECT_API_AUTH_STRING='operator:s3cret'" in ran.stdout.replace("\n", "")
    assert ran.returncode == 0
