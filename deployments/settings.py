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
    """How the deployments are set up on the Prefect server."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    work_pool_type: PoolType | None = Field(None, validation_alias="MAINTENANCE_WORK_POOL_TYPE")
    """The type of the work pool. Unset: `process` for a new pool, any type for an existing one."""
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = Field(
        "UTC", validation_alias="MAINTENANCE_TIME_ZONE"
    )
    """The time zone of the schedules; prefect.yaml refers to the same variable."""
    image: str = Field("validibot-maintenance:0.1.0", validation_alias="MAINTENANCE_IMAGE")
    """The image that docker and kubernetes work pools start."""
    storage_volume: str = Field(
        "validibot_validibot_storage", validation_alias="VALIDIBOT_STORAGE_VOLUME"
    )
    """The volume with Validibot's files, for the runs of a docker work pool."""
    network: str = Field("validibot_validibot", validation_alias="VALIDIBOT_NETWORK")
    """The network of Validibot's database, for the same runs."""
    prefect_network: str | None = Field(None, validation_alias="PREFECT_NETWORK")
    """The network of the Prefect server, if it is another one; for the same runs."""
    engine_network: str | None = Field(None, validation_alias="MAINTENANCE_ENGINE_NETWORK")
    """The network in which DOCKER_HOST is, if it is another one; for the same runs."""
    secrets: Path | None = Field(None, validation_alias="MAINTENANCE_SECRETS")
    """The folder with the secrets, on the machine of the container engine; for the same runs."""
    env_file: Path | None = Field(None, validation_alias="VALIDIBOT_ENV_FILE")
    """Validibot's env file on that machine, if the runs are to read it."""


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
