"""The settings, validated once (SPEC 8).

Validibot's own variables are read under their names, so that its env files can be reused; those of
this project start with `MAINTENANCE_`. A wrong value is one error that names the variable but never
repeats the value, because it may be a secret.
"""

import logging
import os
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from maintenance.database_address import ignored_options, parse_address
from maintenance.env_file import read_env_file
from maintenance.errors import SettingsError
from maintenance.plain_words import requirement
from maintenance.secret_files import SecretFileError, read_secrets
from maintenance.unknown_variables import variables_of, warn_of_unknown_variables

logger = logging.getLogger(__name__)

SECRETS = ("DATABASE_URL", "POSTGRES_PASSWORD")
"""What may be in a file of its own: see maintenance/secret_files.py."""

DRIVER = "postgresql+psycopg"

CONTAINER_TARGETS = ("self_hosted", "local_docker_compose")
"""The values of DEPLOYMENT_TARGET with which validators run on a container engine."""
DOCKER_HOST = re.compile(r"unix:///[^@]*|tcp://[A-Za-z0-9._:\[\]-]+/?")

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
ENDPOINT_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._/-]*)?")

JOB_PLACEHOLDER = "{job}"
"""Replaced by the job's name in MAINTENANCE_SUCCESS_PING_URL."""

Backend = Literal["local", "gcs", "s3"]
GOOGLE_CLOUD = "gcp"
BACKEND_OF_TARGET: dict[str, Backend] = {GOOGLE_CLOUD: "gcs", "aws": "s3"}
"""Deployment targets in which Validibot uses this backend, whatever DATA_STORAGE_BACKEND says."""
BUCKET_OPTIONAL = "self_hosted"

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Where Validibot's data is, and the limits within which jobs work on it."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    postgres_host: str | None = Field(None, validation_alias="POSTGRES_HOST")
    postgres_port: int = Field(5432, ge=1, le=65_535, validation_alias="POSTGRES_PORT")
    postgres_db: str = Field("validibot", validation_alias="POSTGRES_DB")
    postgres_user: str | None = Field(None, validation_alias="POSTGRES_USER")
    postgres_password: SecretStr | None = Field(None, validation_alias="POSTGRES_PASSWORD")

    deployment_target: str | None = Field(None, validation_alias="DEPLOYMENT_TARGET")
    storage_root: Path = Field(Path("/app/storage"), validation_alias="STORAGE_ROOT")
    data_storage_root: Path | None = Field(None, validation_alias="DATA_STORAGE_ROOT")
    stated_backend: Backend | None = Field(None, validation_alias="DATA_STORAGE_BACKEND")
    """The backend as it is set; `data_storage_backend` is the one that counts."""
    storage_bucket: str | None = Field(None, validation_alias="STORAGE_BUCKET")
    """Holds `private/` and `public/` when the backend is not local."""
    stated_bundle_bucket: str | None = Field(None, validation_alias="GCS_VALIDATION_BUCKET")
    """The bucket as it is set; `gcs_validation_bucket` is the one that counts."""
    aws_s3_endpoint_url: str | None = Field(None, validation_alias="AWS_S3_ENDPOINT_URL")
    """The address of an S3-compatible service other than Amazon's."""
    aws_s3_region_name: str | None = Field(None, validation_alias="AWS_S3_REGION_NAME")
    storage_requests: int = Field(32, ge=1, le=128, validation_alias="MAINTENANCE_STORAGE_REQUESTS")
    """Requests to the object storage that one run has in flight at a time at most."""

    validator_timeout_seconds: Seconds = Field(3_600, validation_alias="VALIDATOR_TIMEOUT_SECONDS")
    """Time-out of a validator whose container has no time-out label."""
    docker_host: str | None = Field(None, validation_alias="DOCKER_HOST")
    """The container engine's address; by default the local socket."""
    docker_tls_verify: bool = Field(False, validation_alias="DOCKER_TLS_VERIFY")  # noqa: FBT003
    docker_cert_path: Path | None = Field(None, validation_alias="DOCKER_CERT_PATH")
    docker_timeout_seconds: Seconds = Field(
        30.0, validation_alias="MAINTENANCE_DOCKER_TIMEOUT_SECONDS"
    )
    """Time-out of a request to the container engine."""

    batch_size: int = Field(1_000, ge=1, le=50_000, validation_alias="MAINTENANCE_BATCH_SIZE")
    """Most rows of one batch; the batch adapts below it."""
    time_budget_seconds: Seconds | None = Field(
        None, validation_alias="MAINTENANCE_TIME_BUDGET_SECONDS"
    )
    """Time budget of a run; without one, each job's own default."""
    delete_batch_size: int = Field(
        200_000, ge=1, le=1_000_000, validation_alias="MAINTENANCE_DELETE_BATCH_SIZE"
    )
    """The same for the jobs that delete rows by age, which reach their target time first."""
    batch_seconds: Seconds = Field(0.5, validation_alias="MAINTENANCE_BATCH_SECONDS")
    """Target time of a purge batch, files included."""
    delete_batch_seconds: Seconds = Field(0.05, validation_alias="MAINTENANCE_DELETE_BATCH_SECONDS")
    """Target time of a batch of the jobs that delete rows by age."""
    delete_pause_seconds: float = Field(
        0.02, ge=0, le=60, validation_alias="MAINTENANCE_DELETE_PAUSE_SECONDS"
    )
    """Pause between two such batches."""
    lock_timeout_seconds: Seconds = Field(0.5, validation_alias="MAINTENANCE_LOCK_TIMEOUT_SECONDS")
    """Below PostgreSQL's deadlock_timeout (1 s), so that a job gives way before the application."""
    statement_timeout_seconds: Seconds = Field(
        30.0, validation_alias="MAINTENANCE_STATEMENT_TIMEOUT_SECONDS"
    )
    idle_timeout_seconds: Seconds = Field(
        60.0, validation_alias="MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS"
    )
    connect_timeout_seconds: Seconds = Field(
        10.0, validation_alias="MAINTENANCE_CONNECT_TIMEOUT_SECONDS"
    )
    continuation_minutes: int = Field(
        60, ge=1, le=43_200, validation_alias="MAINTENANCE_CONTINUATION_MINUTES"
    )
    """Age from which an unfinished continuation is reported. Validibot takes the execution of one
    for dead after 35 minutes, and looks every 10."""
    redact_input_traces: bool = Field(
        True,  # noqa: FBT003 - the default of a field
        validation_alias=AliasChoices("MAINTENANCE_REDACT_INPUT_TRACES", "REDACT_INPUT_TRACES"),
    )
    """Clear the payload-derived values that Validibot's own purge leaves in input traces."""
    success_ping_url: SecretStr | None = Field(
        None, validation_alias="MAINTENANCE_SUCCESS_PING_URL"
    )
    """Requested after each successful run; to be kept as secret as a password."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.database_url is None and not (self.postgres_host and self.postgres_user):
            message = "set DATABASE_URL, or POSTGRES_HOST and POSTGRES_USER (and POSTGRES_PASSWORD)"
            raise ValueError(message)
        if self.database_url is not None:
            try:
                parse_address(self.database_url.get_secret_value())
            except ValueError as error:
                message = f"DATABASE_URL: {error}"
                raise ValueError(message) from None
        for variable, path in (
            ("STORAGE_ROOT", self.storage_root),
            ("DATA_STORAGE_ROOT", self.data_storage_root),
        ):
            if path is not None and not path.is_absolute():
                message = f"{variable}: must be an absolute path"
                raise ValueError(message)
        engine = self.docker_host if self.deployment_target in CONTAINER_TARGETS else None
        if engine and not DOCKER_HOST.fullmatch(engine):
            message = "DOCKER_HOST: must be unix:///path or tcp://host:port, without a password"
            raise ValueError(message)
        if self.success_ping_url and not _is_ping_url(self.success_ping_url.get_secret_value()):
            message = (
                "MAINTENANCE_SUCCESS_PING_URL: must be http:// or https:// and a host; {job} in it"
                " stands for the job's name, and nothing else may be in braces"
            )
            raise ValueError(message)
        self._check_buckets()
        return self

    def _check_buckets(self) -> None:
        optional = self.deployment_target == BUCKET_OPTIONAL and self.stated_backend is None
        if optional and self.storage_bucket:
            message = "DATA_STORAGE_BACKEND: must be gcs or s3, because STORAGE_BUCKET is set"
            raise ValueError(message)
        buckets = {
            "STORAGE_BUCKET": self.storage_bucket,
            "GCS_VALIDATION_BUCKET": self.gcs_validation_bucket,
        }
        needed = {"local": 0, "s3": 1, "gcs": 2}[self.data_storage_backend]
        missing = [variable for variable in list(buckets)[:needed] if not buckets[variable]]
        if missing:
            cause = f"DATA_STORAGE_BACKEND={self.data_storage_backend}"
            if self.deployment_target in BACKEND_OF_TARGET:
                cause = f"DEPLOYMENT_TARGET={self.deployment_target}"
            message = f"{cause} needs {' and '.join(missing)}"
            raise ValueError(message)
        for variable, name in buckets.items():
            if name is not None and not BUCKET_NAME.fullmatch(name):
                message = f"{variable}: must be a bucket's name alone, such as validibot-files"
                raise ValueError(message)
        if self.aws_s3_endpoint_url and not ENDPOINT_URL.fullmatch(self.aws_s3_endpoint_url):
            message = (
                "AWS_S3_ENDPOINT_URL: must be http:// or https://, a host and no user or password"
            )
            raise ValueError(message)

    @property
    def url(self) -> URL:
        """The address of Validibot's database, with the driver that is used here."""
        if self.database_url is not None:
            address = parse_address(self.database_url.get_secret_value())
            return address.set(drivername=DRIVER)
        password = self.postgres_password
        return URL.create(
            DRIVER,
            username=self.postgres_user,
            password=password.get_secret_value() if password else None,
            host=self.postgres_host,
            port=self.postgres_port,
            database=self.postgres_db,
        )

    @property
    def data_storage_backend(self) -> Backend:
        """Where files are kept, as Validibot derives it: from the deployment target first."""
        stated = self.stated_backend or "local"
        return BACKEND_OF_TARGET.get(self.deployment_target or "", stated)

    @property
    def gcs_validation_bucket(self) -> str | None:
        """The bucket of run bundles on Google Cloud; Validibot's only one unless one is set."""
        own = self.storage_bucket if self.deployment_target == GOOGLE_CLOUD else None
        return self.stated_bundle_bucket or own

    def time_budget(self, default: timedelta) -> float:
        """Return the seconds that a run may take: the setting, or the job's default."""
        return self.time_budget_seconds or default.total_seconds()

    @property
    def private_root(self) -> Path:
        """Where uploaded files, port files, artifacts and evidence are."""
        return self.storage_root / "private"

    @property
    def public_root(self) -> Path:
        """Where run bundles of the older layout are."""
        return self.storage_root / "public"

    @property
    def bundle_root(self) -> Path:
        """Where the container workers write run bundles."""
        return self.data_storage_root or self.private_root


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - any field's type
    """Read the settings from the environment, from files of secrets and from an env file.

    The environment has precedence over the env file that MAINTENANCE_ENV_FILE names.

    Raises:
        SettingsError: a value is not allowed, a file cannot be read, or the database's address is
            missing.
    """
    try:
        secrets = read_secrets(SECRETS, os.environ)
        loaded = Settings(**{**read_env_file(os.environ), **secrets, **overrides})
    except SecretFileError as error:
        raise SettingsError(f"Wrong settings: {error}") from None
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    warn_of_unknown_variables(variables_of(Settings.model_fields))
    if loaded.database_url is not None:
        ignored = ignored_options(loaded.database_url.get_secret_value())
        if ignored:
            logger.warning("DATABASE_URL: ignored, because Django's own: %s", ", ".join(ignored))
    return loaded


@cache
def settings() -> Settings:
    """Return this process's settings, read once."""
    return load_settings()


def _is_ping_url(text: str) -> bool:
    filled = text.replace(JOB_PLACEHOLDER, "job")
    try:
        parts = urlsplit(filled)
        port = parts.port
    except ValueError:
        return False
    known = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    return known and not re.search(r"[\s{}]", filled)


def explain(error: ValidationError) -> str:
    """Return which variables are wrong and what is allowed, without their values."""
    lines = []
    for problem in error.errors(include_input=False):
        variable = ".".join(str(part) for part in problem["loc"])
        reason = requirement(problem)
        lines.append(f"{variable}: {reason}" if variable else reason)
    return "Wrong settings: " + "; ".join(lines)
