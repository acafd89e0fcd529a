"""The base job template of each type of work pool.

They set the command and the image of all runs: a user who may start runs could otherwise run any
program with the worker's rights. They are written out here because the packages that hold Prefect's
own templates for docker and kubernetes are installed with those workers only. A template that an
operator edits in the UI is kept.
"""

from pathlib import PurePosixPath

from prefect.workers.process import ProcessWorker
from pydantic import AliasChoices, SecretStr

from deployments.names import RUN_LABEL
from deployments.settings import DeploymentSettings, PoolType
from deployments.setup.pools.kubernetes import kubernetes_template
from deployments.setup.pools.variables import (
    COMMAND,
    STORAGE_ROOT,
    WRITABLE,
    Template,
    flag,
    of_runs,
    placeholder,
    text,
    texts,
)
from maintenance.env_file import ENV_FILE
from maintenance.errors import SettingsError
from maintenance.settings import Settings

CONTAINER = {
    "user": "0:0",
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
    "security_opt": ["no-new-privileges:true"],
    "read_only": True,
    "tmpfs": {"/tmp": "size=256m,mode=1777"},  # noqa: S108 - of a container
    "pids_limit": 256,
    "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
    "healthcheck": {"test": ["NONE"]},  # the image's own is the worker's
}
"""The user, rights and limits of a container, as those of the worker in compose.yaml: it deletes
files of Validibot's user and of its validators' containers."""

MEMORY = "1g"
"""A run needs a quarter of that; one that needs more is killed, and started again."""

SECRET_FILES = {
    "DATABASE_URL_FILE": "validibot-database-url",
    "PREFECT_API_AUTH_STRING_FILE": "prefect-login",
}
"""By the variable that names it, the file of each secret, as in compose.yaml."""
ENV_FILE_NAME = "validibot-env"


def from_worker() -> list[str]:
    """Return the names of the variables that a container gets from its worker's environment.

    Secrets are not among them, because everyone who may use the container engine can read a
    container's environment. A variable that the worker does not have is empty, which counts as
    unset.
    """
    names = []
    for field in Settings.model_fields.values():
        if field.annotation == SecretStr | None:
            continue
        alias = field.validation_alias
        names.append(str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias))
    return [name for name in names if name != "STORAGE_ROOT"]


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
    files = _secret_files(settings)
    environment = {name: placeholder(f"${name}") for name in from_worker()}
    environment |= {"STORAGE_ROOT": STORAGE_ROOT, **WRITABLE} | of_runs()
    environment |= {name: str(path) for name, (path, _) in files.items()}
    # The worker hands its own login over, where it would be shown; empty counts as unset.
    environment |= {"PREFECT_API_AUTH_STRING": "", "MAINTENANCE_WATCH_CANCELLATION": "true"}
    networks = (settings.prefect_network, settings.engine_network, settings.network)
    mounts = [f"{source}:{path}:ro" for path, source in files.values()]
    variables = {
        "name": text("Name", None),
        "image_pull_policy": text("Image pull policy", "IfNotPresent")
        | {"enum": ["IfNotPresent", "Always", "Never"]},
        "env": texts("Environment", environment),
        "stream_output": flag("Show the container's output in the worker's", default=True),
        "mem_limit": text("Memory limit", MEMORY),
        "memswap_limit": text("Memory and swap limit", MEMORY),
    }
    fixed = {
        "command": COMMAND,
        "image": settings.image,
        "volumes": [f"{settings.storage_volume}:{STORAGE_ROOT}", *mounts],
        "networks": [name for name in networks if name],
        "labels": {RUN_LABEL: "true"},
        "auto_remove": False,  # the worker does it, when it has the exit status
        "privileged": False,
        "container_create_kwargs": CONTAINER,
    }
    return {
        "job_configuration": {name: placeholder(name) for name in variables} | fixed,
        "variables": {"type": "object", "properties": variables},
    }


def _secret_files(settings: DeploymentSettings) -> dict[str, tuple[PurePosixPath, PurePosixPath]]:
    """Return the files of a container by variable: its path there, and on the engine's machine."""
    if settings.secrets is None or not settings.secrets.is_absolute():
        raise SettingsError(
            "MAINTENANCE_SECRETS: must be the absolute path of the folder with the secrets, because"
            " a work pool of type docker mounts them into its containers"
        )
    inside = PurePosixPath("/run/secrets")
    folder = PurePosixPath(settings.secrets)
    found = {name: (inside / file, folder / file) for name, file in SECRET_FILES.items()}
    if settings.env_file is not None:
        if not settings.env_file.is_absolute():
            raise SettingsError(
                "VALIDIBOT_ENV_FILE: must be an absolute path for a work pool of type docker"
            )
        found[ENV_FILE] = (inside / ENV_FILE_NAME, PurePosixPath(settings.env_file))
    return found


def _fix_command(template: Template) -> None:
    """Let all runs have the pool's command, so that who starts a run cannot choose another one."""
    del template["variables"]["properties"]["command"]
    template["job_configuration"]["command"] = COMMAND
