"""The base job template of each type of work pool.

They set the command and the image of all runs: a user who may start runs could otherwise run any
program with the worker's rights. They are written out here because the packages that hold Prefect's
own templates for docker and kubernetes are installed with those workers only. A template that an
operator edits in the UI is kept.
"""

from prefect.workers.process import ProcessWorker
from pydantic import AliasChoices

from deployments.settings import DeploymentSettings, PoolType
from deployments.setup.pools.kubernetes import kubernetes_template
from deployments.setup.pools.variables import (
    COMMAND,
    STORAGE_ROOT,
    WRITABLE,
    Template,
    flag,
    list_of_texts,
    of_runs,
    placeholder,
    text,
    texts,
)
from maintenance.settings import Settings

CONTAINER = {
    "user": "0:0",
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
    "security_opt": ["no-new-privileges:true"],
    "read_only": True,
    "tmpfs": {"/tmp": "size=256m,mode=1777"},  # noqa: S108 - of a container
}
"""The user and rights of a container, as those of the worker in compose.yaml: it deletes files of
Validibot's user and of its validators' containers."""

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def from_worker() -> list[str]:
    """Return the names of the variables that a container gets from its worker's environment.

    The worker fills in the values, so that no secret is stored on the Prefect server. A variable
    that the worker does not have is empty, which counts as unset.
    """
    names = []
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        names.append(str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias))
    return [name for name in (*names, *CREDENTIALS) if name != "STORAGE_ROOT"]


def base_job_template(kind: PoolType, settings: DeploymentSettings) -> Template:
    """Return the base job template of a new work pool."""
    if kind == "process":
        return _process()
    return _docker(settings) if kind == "docker" else kubernetes_template(settings.image)


def default_template(kind: PoolType) -> Template | None:
    """Return Prefect's own template of a pool type, None if its package is not installed."""
    return ProcessWorker.get_default_base_job_template() if kind == "process" else None


def _process() -> Template:
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = of_runs()
    _fix_command(template)
    return template


def _docker(settings: DeploymentSettings) -> Template:
    environment = {name: placeholder(f"${name}") for name in from_worker()}
    environment |= {"STORAGE_ROOT": STORAGE_ROOT, **WRITABLE} | of_runs()
    variables = {
        "name": text("Name", None),
        "image_pull_policy": text("Image pull policy", "IfNotPresent")
        | {"enum": ["IfNotPresent", "Always", "Never"]},
        "env": texts("Environment", environment),
        "labels": texts("Labels", {}),
        "volumes": list_of_texts("Volumes", [f"{settings.storage_volume}:{STORAGE_ROOT}"]),
        "networks": list_of_texts("Networks", [settings.network]),
        "network_mode": text("Network mode", None),
        "auto_remove": flag("Remove the container when it has ended", default=True),
        "stream_output": flag("Show the container's output in the worker's", default=True),
        "mem_limit": text("Memory limit", None),
        "privileged": flag("Privileged", default=False),
    }
    return {
        "job_configuration": {name: placeholder(name) for name in variables}
        | {"command": COMMAND, "image": settings.image, "container_create_kwargs": CONTAINER},
        "variables": {"type": "object", "properties": variables},
    }


def _fix_command(template: Template) -> None:
    """Let all runs have the pool's command, so that who starts a run cannot choose another one."""
    del template["variables"]["properties"]["command"]
    template["job_configuration"]["command"] = COMMAND
