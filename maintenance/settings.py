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

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from maintenance.database_address import ignored_options, parse_address
from maintenance.env_file import read_env_file
from maintenance.errors import SettingsError
from maintenance.plain_words import requirement
from maintenance.secret_files import SecretFileError, read_secrets
from maintenance.settings_rules import check_buckets, check_endpoint, is_ping_url
from maintenance.unknown_variables import variables_of, warn_of_unknown_variables

logger = logging.getLogger(__name__)

SECRETS = ("DATABASE_URL", "POSTGRES_PASSWORD")
"""What may be in a file of its own: see maintenance/secret_files.py."""

DRIVER = "postgresql+psycopg"

CONTAINER_TARGETS = ("self_hosted", "local_docker_compose")
"""The values of DEPLOYMENT_TARGET with which validators run on a container engine."""
DOCKER_HOST = re.compile(r"unix:///[^@]*|tcp://[A-Za-z0-9._:\[\]-]+/?")

Backend = Literal["local", "gcs", "s3"]
GOOGLE_CLOUD = "gcp"
BACKEND_OF_TARGET: dict[str, Backend] = {GOOGLE_CLOUD: "gcs", "aws": "s3"}
"""Deployment targets in which Validibot uses this backend, whatever DATA_STORAGE_BACKEND says."""
BUCKET_OPTIONAL = "self_hosted"

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Where Validibot's data is, and the limits within which jobs work on it.

    The text after a field is its description in docs/settings.md (`make docs`).
    """

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(None, validation_alias="DATABASE_URL")
    """`postgresql://` or `postgres://`; or the next five. Django's forms work too: a socket's
    folder (`@//cloudsql/project:region:instance/name` or `@%2Fcloudsql%2F…/name`); options such as
    `conn_max_age` are ignored and logged; `ssl_require=true` means `sslmode=require`."""
    postgres_host: str | None = Field(None, validation_alias="POSTGRES_HOST")
    """The database's host, used when `DATABASE_URL` is not set."""
    postgres_port: int = Field(5432, ge=1, le=65_535, validation_alias="POSTGRES_PORT")
    """The same: its port."""
    postgres_db: str = Field("validibot", validation_alias="POSTGRES_DB")
    """The same: its name."""
    postgres_user: str | None = Field(None, validation_alias="POSTGRES_USER")
    """The same: the role."""
    postgres_password: SecretStr | None = Field(None, validation_alias="POSTGRES_PASSWORD")
    """The same: the role's password."""

    deployment_target: str | None = Field(None, validation_alias="DEPLOYMENT_TARGET")
    """`self_hosted` or `local_docker_compose`: validators run on a container engine; with any
    other value cleanup-orphaned-containers ends as `Skipped`. `gcp` and `aws` choose the
    backend."""
    storage_root: Path = Field(Path("/app/storage"), validation_alias="STORAGE_ROOT")
    """Contains `private/` and `public/`."""
    data_storage_root: Path | None = Field(None, validation_alias="DATA_STORAGE_ROOT")
    """Where container workers write run bundles. Unset: `private/` below `STORAGE_ROOT`."""
    stated_backend: Backend | None = Field(None, validation_alias="DATA_STORAGE_BACKEND")
    """Where the files are. Unset: `local`. `DEPLOYMENT_TARGET=gcp` means `gcs` and `aws` means
    `s3`, whatever it says."""
    storage_bucket: str | None = Field(None, validation_alias="STORAGE_BUCKET")
    """The name of the bucket that contains `private/` and `public/`, without a scheme."""
    stated_bundle_bucket: str | None = Field(None, validation_alias="GCS_VALIDATION_BUCKET")
    """With `gcs`: the name of the bucket whose `runs/` contains the run bundles. Unset: with
    `DEPLOYMENT_TARGET=gcp`, `STORAGE_BUCKET`."""
    aws_s3_endpoint_url: str | None = Field(None, validation_alias="AWS_S3_ENDPOINT_URL")
    """With `s3`: the address of an S3-compatible service. Unset: Amazon S3."""
    aws_s3_region_name: str | None = Field(None, validation_alias="AWS_S3_REGION_NAME")
    """With `s3`: the bucket's region."""
    storage_requests: int = Field(32, ge=1, le=128, validation_alias="MAINTENANCE_STORAGE_REQUESTS")
    """Requests to S3 or Google Cloud Storage that a run has in flight at a time at most; also the
    connections that it keeps. Local storage does not use it."""

    validator_timeout_seconds: Seconds = Field(3_600, validation_alias="VALIDATOR_TIMEOUT_SECONDS")
    """Timeout of a validator's container without a timeout label."""
    docker_host: str | None = Field(None, validation_alias="DOCKER_HOST")
    """The container engine: `unix:///path` or `tcp://host:port`. Unset:
    `unix:///var/run/docker.sock`."""
    docker_tls_verify: bool = Field(False, validation_alias="DOCKER_TLS_VERIFY")  # noqa: FBT003
    """As for Docker's own client, with `tcp://`."""
    docker_cert_path: Path | None = Field(None, validation_alias="DOCKER_CERT_PATH")
    """The same."""
    docker_timeout_seconds: Seconds = Field(
        30.0, validation_alias="MAINTENANCE_DOCKER_TIMEOUT_SECONDS"
    )
    """Longest wait for an answer of the container engine, not counting the time in which a
    container stops."""

    batch_size: int = Field(1_000, ge=1, le=50_000, validation_alias="MAINTENANCE_BATCH_SIZE")
    """Largest number of items in a batch; batches adapt up to it."""
    time_budget_seconds: Seconds | None = Field(
        None, validation_alias="MAINTENANCE_TIME_BUDGET_SECONDS"
    )
    """Time after which a run stops and leaves the rest for the next run. Unset: the job's own."""
    delete_batch_size: int = Field(
        200_000, ge=1, le=1_000_000, validation_alias="MAINTENANCE_DELETE_BATCH_SIZE"
    )
    """Largest number of rows in a batch of a job that deletes by age."""
    batch_seconds: Seconds = Field(0.5, validation_alias="MAINTENANCE_BATCH_SECONDS")
    """Target time of a purge batch, including its files."""
    delete_batch_seconds: Seconds = Field(0.05, validation_alias="MAINTENANCE_DELETE_BATCH_SECONDS")
    """Target time of a batch of a job that deletes by age."""
    delete_pause_seconds: float = Field(
        0.02, ge=0, le=60, validation_alias="MAINTENANCE_DELETE_PAUSE_SECONDS"
    )
    """Pause after each such batch."""
    lock_timeout_seconds: Seconds = Field(0.5, validation_alias="MAINTENANCE_LOCK_TIMEOUT_SECONDS")
    """Longest wait for a lock; below PostgreSQL's `deadlock_timeout` (1 s), so that in a deadlock
    our statement fails and not the application's."""
    statement_timeout_seconds: Seconds = Field(
        30.0, validation_alias="MAINTENANCE_STATEMENT_TIMEOUT_SECONDS"
    )
    """Longest time of a statement."""
    idle_timeout_seconds: Seconds = Field(
        60.0, validation_alias="MAINTENANCE_IDLE_IN_TRANSACTION_TIMEOUT_SECONDS"
    )
    """Longest time that a transaction may wait for us, for instance while files are deleted."""
    connect_timeout_seconds: Seconds = Field(
        10.0, validation_alias="MAINTENANCE_CONNECT_TIMEOUT_SECONDS"
    )
    """Longest wait for a connection."""
    continuation_minutes: int = Field(
        60, ge=1, le=43_200, validation_alias="MAINTENANCE_CONTINUATION_MINUTES"
    )
    """Age from which an unfinished continuation of a validation run is reported. Validibot takes
    the execution of one for dead after 35 minutes, and looks every 10."""
    redact_input_traces: bool = Field(
        True,  # noqa: FBT003 - the default of a field
        validation_alias=AliasChoices("MAINTENANCE_REDACT_INPUT_TRACES", "REDACT_INPUT_TRACES"),
    )
    """Also clear the payload-derived values in `validations_resolvedinputtrace`, which Validibot's
    own purge leaves."""
    success_ping_url: SecretStr | None = Field(
        None, validation_alias="MAINTENANCE_SUCCESS_PING_URL"
    )
    """An `http(s)://` address that each successful run requests; `{job}` in it is replaced by the
    job's name. To be kept as secret as a password."""

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
        if self.success_ping_url and not is_ping_url(self.success_ping_url.get_secret_value()):
            message = (
                "MAINTENANCE_SUCCESS_PING_URL: must be http:// or https:// and a host; {job} in it"
                " stands for the job's name, and nothing else may be in braces"
            )
            raise ValueError(message)
        optional = self.deployment_target == BUCKET_OPTIONAL and self.stated_backend is None
        if optional and self.storage_bucket:
            message = "DATA_STORAGE_BACKEND: must be gcs or s3, because STORAGE_BUCKET is set"
            raise ValueError(message)
        buckets = {
            "STORAGE_BUCKET": self.storage_bucket,
            "GCS_VALIDATION_BUCKET": self.gcs_validation_bucket,
        }
        derived = self.deployment_target in BACKEND_OF_TARGET
        variable = "DEPLOYMENT_TARGET" if derived else "DATA_STORAGE_BACKEND"
        value = self.deployment_target if derived else self.data_storage_backend
        needed = {"local": 0, "s3": 1, "gcs": 2}[self.data_storage_backend]
        check_buckets(buckets, needed, f"{variable}={value}")
        check_endpoint(self.aws_s3_endpoint_url)
        return self

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


def explain(error: ValidationError) -> str:
    """Return which variables are wrong and what is allowed, without their values."""
    lines = []
    for problem in error.errors(include_input=False):
        variable = ".".join(str(part) for part in problem["loc"])
        reason = requirement(problem)
        lines.append(f"{variable}: {reason}" if variable else reason)
    return "Wrong settings: " + "; ".join(lines)
