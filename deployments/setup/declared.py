"""The content of prefect.yaml, checked before the first request to the server.

`prefect deploy --all` reads the same file. Fields that it supports and this module does not are
refused, so that the two never differ silently.
"""

from pathlib import Path
from typing import Any, Literal

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.templating import apply_values
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from deployments.due import NEVER_DUE, never_due
from deployments.setup.schedule_merge import Timing
from maintenance.errors import MaintenanceError

DEFAULT_TIME_ZONE = "UTC"


class DeclarationError(MaintenanceError):
    """prefect.yaml cannot be applied; the text says what is wrong."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredSchedule(_Declared):
    """A schedule, known by its slug.

    `active` can only be false, and counts only when the schedule is made: after that the operator
    decides.
    """

    slug: str
    cron: str
    timezone: str = DEFAULT_TIME_ZONE
    active: Literal[False] | None = None

    @field_validator("timezone")
    @classmethod
    def _unset_is_the_default(cls, value: str) -> str:
        # An environment variable that is not set becomes an empty text.
        return value or DEFAULT_TIME_ZONE

    @model_validator(mode="after")
    def _check(self) -> "DeclaredSchedule":
        if never_due(CronSchedule(cron=self.cron, timezone=self.timezone)):
            message = f"schedule {self.slug}: {self.cron} {NEVER_DUE}"
            raise ValueError(message)
        return self

    @property
    def timing(self) -> Timing:
        """When it starts runs."""
        return Timing(self.cron, self.timezone)


class DeclaredLimit(_Declared):
    """The concurrency limit of a deployment, and what happens to runs above it."""

    limit: int
    collision_strategy: ConcurrencyLimitStrategy


class DeclaredPool(_Declared):
    """The work pool, and the job variables of the deployment's runs."""

    name: str
    job_variables: dict[str, Any] = {}


class DeclaredDeployment(_Declared):
    """One deployment."""

    name: str
    entrypoint: str
    work_pool: DeclaredPool
    concurrency_limit: DeclaredLimit
    schedules: tuple[DeclaredSchedule, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    parameters: dict[str, Any] | None = None

    @property
    def flow(self) -> Flow[..., Any]:
        """The flow at its entrypoint."""
        return load_flow_from_entrypoint(self.entrypoint)

    @property
    def full_name(self) -> str:
        """The name on the command line: flow/name."""
        return f"{self.flow.name}/{self.name}"


def read_declared(prefect_file: Path) -> list[DeclaredDeployment]:
    """Return the deployments of a prefect.yaml, with environment variables filled in.

    Raises:
        DeclarationError: it cannot be read, or has an unknown field or an invalid value.
    """
    if not prefect_file.is_file():
        raise DeclarationError(f"{prefect_file} does not exist; name it with --prefect-file")
    try:
        content = YAML(typ="safe").load(prefect_file)
        if content.get("build") or content.get("push") or content.get("pull") != []:
            raise DeclarationError(
                f"{prefect_file}: build and push must be empty and pull must be [];"
                " use `prefect deploy` for anything else"
            )
        declared = apply_values(content["deployments"], {})
        return [DeclaredDeployment.model_validate(entry) for entry in declared]
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False, include_context=False)
        )
        raise DeclarationError(f"{prefect_file}: {error.title}: {problems}") from None
    except (YAMLError, AttributeError, KeyError, TypeError) as error:
        raise DeclarationError(f"{prefect_file} is not a prefect.yaml: {error!r}") from None
