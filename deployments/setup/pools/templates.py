"""The base job template of each type of work pool.

They set the command and the image of all runs: a user who may start runs could otherwise run any
program with the worker's rights. They are written out here because the packages that hold Prefect's
own templates for docker and kubernetes are installed with those workers only. A template that an
operator edits in the UI is kept.
"""

from pathlib import PurePosixPath
from typing import Any

from prefect.workers.process import ProcessWorker
from pydantic import AliasChoices, SecretStr

from deployments.names import RUN_LABEL
from deployments.settings import DeploymentSettings, PoolType
from deployments.worker_settings import PATIENCE
from maintenance.env_file import ENV_FILE
from maintenance.errors import SettingsError
from maintenance.settings import Settings

Template = dict[str, Any]

HEARTBEAT_SECONDS = 30
"""Prefect's minimum. The automation that finds zombie runs waits for two missed heartbeats."""

COMMAND = "python -m flows.engine"
"""Waits for the server, then starts Prefect's engine."""

STORAGE_ROOT = "/app/storage"

WRITABLE = {"HOME": "/tmp", "PREFECT_HOME": "/tmp/prefect"}  # noqa: S108 - of a container
"""Where a container may write that is read-only otherwise."""

CONTAINER = {
    "user": "0:0",
    "cap_drop": ["ALL"],
    "cap_add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
    "security_opt": ["no-new-privileges:true"],
    "read_only": True,
    "tmpfs": {"/tmp": "size=256m,mode=1777"},  # noqa: S108 - the same
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
    return _docker(settings) if kind == "docker" else _kubernetes(settings.image)


def default_template(kind: PoolType) -> Template | None:
    """Return Prefect's own template of a pool type, None if its package is not installed."""
    return ProcessWorker.get_default_base_job_template() if kind == "process" else None


def _process() -> Template:
    template = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["env"]["default"] = _of_runs()
    _fix_command(template)
    return template


def _docker(settings: DeploymentSettings) -> Template:
    files = _secret_files(settings)
    environment = {name: _placeholder(f"${name}") for name in from_worker()}
    environment |= {"STORAGE_ROOT": STORAGE_ROOT, **WRITABLE} | _of_runs()
    environment |= {name: str(path) for name, (path, _) in files.items()}
    # The worker hands its own login over, where it would be shown; empty counts as unset.
    environment |= {"PREFECT_API_AUTH_STRING": "", "MAINTENANCE_WATCH_CANCELLATION": "true"}
    networks = (settings.prefect_network, settings.engine_network, settings.network)
    mounts = [f"{source}:{path}:ro" for path, source in files.values()]
    variables = {
        "name": _text("Name", None),
        "image_pull_policy": _text("Image pull policy", "IfNotPresent")
        | {"enum": ["IfNotPresent", "Always", "Never"]},
        "env": _texts("Environment", environment),
        "stream_output": _flag("Show the container's output in the worker's", default=True),
        "mem_limit": _text("Memory limit", MEMORY),
        "memswap_limit": _text("Memory and swap limit", MEMORY),
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
        "job_configuration": {name: _placeholder(name) for name in variables} | fixed,
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


def _kubernetes(image: str) -> Template:
    variables = {
        "name": _text("Name", None),
        "image_pull_policy": _text("Image pull policy", "IfNotPresent")
        | {"enum": ["IfNotPresent", "Always", "Never"]},
        "namespace": _text("Namespace", "validibot"),
        "service_account_name": _text("Service account", None),
        "secret": _text("Secret with the jobs' environment", "validibot-maintenance"),
        "storage_claim": _text("Claim of the volume with Validibot's files", "validibot-storage"),
        "env": _texts("Environment", {"STORAGE_ROOT": STORAGE_ROOT} | _of_runs()),
        "labels": _texts("Labels", {}),
        "finished_job_ttl": _number("Seconds until an ended job is deleted", 600),
        "job_watch_timeout_seconds": _number("Seconds that a job may take", None),
        "pod_watch_timeout_seconds": _number("Seconds until its pod must be running", 120),
        "stream_output": _flag("Show the pod's output in the worker's", default=True),
    }
    container = {
        "name": "prefect-job",
        "image": image,
        "imagePullPolicy": "{{ image_pull_policy }}",
        "args": COMMAND,
        "env": "{{ env }}",
        "envFrom": [{"secretRef": {"name": "{{ secret }}"}}],
        "volumeMounts": [{"name": "storage", "mountPath": STORAGE_ROOT}],
    }
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": "{{ service_account_name }}",
        "containers": [container],
        "volumes": [
            {"name": "storage", "persistentVolumeClaim": {"claimName": "{{ storage_claim }}"}}
        ],
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "labels": "{{ labels }}",
            "namespace": "{{ namespace }}",
            "generateName": "{{ name }}-",
        },
        "spec": {
            # A crashed run is started again by the server's automation, which has a rerun limit.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": "{{ finished_job_ttl }}",
            "template": {"spec": {"parallelism": 1, "completions": 1} | pod},
        },
    }
    own = {"image_pull_policy", "service_account_name", "secret", "storage_claim"}
    direct = variables.keys() - own - {"finished_job_ttl"}
    return {
        "job_configuration": {name: _placeholder(name) for name in sorted(direct)}
        | {"command": COMMAND, "job_manifest": manifest},
        "variables": {"type": "object", "properties": variables},
    }


def _fix_command(template: Template) -> None:
    """Let all runs have the pool's command, so that who starts a run cannot choose another one."""
    del template["variables"]["properties"]["command"]
    template["job_configuration"]["command"] = COMMAND


def _placeholder(name: str) -> str:
    return f"{{{{ {name} }}}}"


def _of_runs() -> dict[str, str]:
    return {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS), **PATIENCE}


def _text(title: str, default: str | None) -> Template:
    return _variable(title, "string", default)


def _number(title: str, default: int | None) -> Template:
    return _variable(title, "integer", default)


def _flag(title: str, *, default: bool) -> Template:
    return _variable(title, "boolean", default)


def _list(title: str, default: list[str]) -> Template:
    return _variable(title, "array", default) | {"items": {"type": "string"}}


def _texts(title: str, default: dict[str, str]) -> Template:
    return _variable(title, "object", default) | {"additionalProperties": {"type": "string"}}


def _variable(title: str, kind: str, default: object) -> Template:
    variable = {"title": title, "type": kind}
    return variable if default is None else variable | {"default": default}
