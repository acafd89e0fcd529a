"""The settings of `python -m deployments`.

They are separate from the jobs' settings, because deploying needs no database.
"""

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from maintenance.errors import SettingsError
from maintenance.settings import Settings, explain
from maintenance.unknown_variables import variables_of, warn_of_unknown_variables

PoolType = Literal["process", "docker", "kubernetes"]


def _known_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = "must be a time zone's name, such as UTC or Europe/Vienna"
        raise ValueError(message) from None
    return name


class DeploymentSettings(BaseSettings):
    """How the deployments are set up on the Prefect server.

    The text after a field is its description in docs/settings.md (`make docs`).
    """

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    work_pool_type: PoolType | None = Field(None, validation_alias="MAINTENANCE_WORK_POOL_TYPE")
    """Where runs are started. Unset: `process` for a new pool; the type of an existing one is
    kept."""
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = Field(
        "UTC", validation_alias="MAINTENANCE_TIME_ZONE"
    )
    """The time zone of the daily and weekly schedules. The jobs that run every 5, 10 or 60 minutes
    are in UTC: in a zone that sets its clocks back, they would have no run for an hour."""
    image: str = Field("validibot-maintenance:0.1.0", validation_alias="MAINTENANCE_IMAGE")
    """The image for pools of type docker and kubernetes."""
    storage_volume: str = Field(
        "validibot_validibot_storage", validation_alias="VALIDIBOT_STORAGE_VOLUME"
    )
    """The volume with Validibot's files, for pools of type docker."""
    network: str = Field("validibot_validibot", validation_alias="VALIDIBOT_NETWORK")
    """The network of Validibot's database, for the same."""
    prefect_network: str | None = Field(None, validation_alias="PREFECT_NETWORK")
    """The network of the Prefect server, if it is another one; for the same."""
    engine_network: str | None = Field(None, validation_alias="MAINTENANCE_ENGINE_NETWORK")
    """The network of the container engine's proxy, if it is another one; for the same."""
    secrets: Path | None = Field(None, validation_alias="MAINTENANCE_SECRETS")
    """The folder with [the secrets](installation.md#secrets), an absolute path on the engine's
    machine; required for pools of type docker."""
    env_file: Path | None = Field(None, validation_alias="VALIDIBOT_ENV_FILE")
    """Validibot's env file, an absolute path on the engine's machine, for pools of type docker."""


def load_deployment_settings() -> DeploymentSettings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a value is invalid.
    """
    try:
        loaded = DeploymentSettings()
    except ValidationError as error:
        raise SettingsError(explain(error)) from None
    warn_of_unknown_variables(variables_of(Settings.model_fields))
    return loaded
