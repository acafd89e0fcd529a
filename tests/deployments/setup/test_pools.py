"""What a run is started with, by the type of the work pool."""

import asyncio
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import temporary_settings
from prefect.utilities.templating import apply_values
from prefect.workers.base import BaseJobConfiguration
from ruamel.yaml import YAML

from demo.servers import PrefectServer
from deployments.settings import DeploymentSettings, PoolType
from deployments.setup.pools.templates import SECRET_FILES, base_job_template, from_worker
from deployments.setup.pools.variables import COMMAND
from maintenance.env_file import ENV_FILE
from maintenance.errors import SettingsError
from tests.support.prefect_server import settings_of

COMPOSE = Path(__file__).parents[3] / "compose.yaml"
IMAGE = "registry.example/own:1"
SECRETS = "/srv/validibot-maintenance/secrets"
OWN = {"kubernetes": {"secret", "storage_claim"}, "docker": {"container_create_kwargs"}}
"""Variables that Prefect's own templates do not have, or the server's copy of them not yet."""


def settings(**variables: Any) -> DeploymentSettings:
    given = {"MAINTENANCE_IMAGE": IMAGE, "MAINTENANCE_SECRETS": SECRETS} | variables
    return DeploymentSettings(**given)


def prefects_own(kind: str) -> dict[str, Any]:
    """Return the template that Prefect's server knows for a type of worker."""
    views = files("prefect.server.api") / "collections_data" / "views"
    packages = json.loads((views / "aggregate-worker-metadata.json").read_text())
    package = "prefect" if kind == "process" else f"prefect-{kind}"
    template: dict[str, Any] = packages[package][kind]["default_base_job_configuration"]
    return template


@pytest.mark.parametrize("kind", get_args(PoolType))
def test_a_template_says_only_what_its_worker_knows(kind: PoolType) -> None:
    template, known = base_job_template(kind, settings()), prefects_own(kind)
    own = OWN.get(kind, set())
    assert template["job_configuration"].keys() - own <= known["job_configuration"].keys()
    variables = template["variables"]["properties"]
    assert variables.keys() - own <= known["variables"]["properties"].keys()
    for name, variable in variables.items():
        expected = known["variables"]["properties"].get(name, {}).get("type")
        if expected and "type" in variable:
            assert variable["type"] == expected, name
    WorkPoolCreate(name="any", type=kind, base_job_template=template)  # every variable is there


def test_a_container_has_the_storage_the_network_and_the_rights_of_the_composed_worker() -> None:
    worker = YAML(typ="safe").load(COMPOSE.read_text())["services"]["worker"]
    template = base_job_template("docker", settings())
    job = template["job_configuration"]
    rights = dict(job["container_create_kwargs"])
    tmpfs = [f"{path}:{options}" for path, options in rights.pop("tmpfs").items()]
    logs = rights.pop("log_config")
    assert (logs["type"], logs["config"]) == tuple(worker["logging"].values())
    assert rights.pop("healthcheck") == {"test": ["NONE"]}
    assert 0 < rights.pop("pids_limit") < worker["pids_limit"]
    assert rights | {"tmpfs": tmpfs} == {name: worker[name] for name in (*rights, "tmpfs")}
    files = [f"{SECRETS}/{name}:/run/secrets/{name}:ro" for name in SECRET_FILES.values()]
    assert job["volumes"] == ["validibot_validibot_storage:/app/storage", *files]
    assert job["networks"] == ["validibot_validibot"]
    environment = template["variables"]["properties"]["env"]["default"]
    for name in ("HOME", "PREFECT_HOME", "STORAGE_ROOT", *SECRET_FILES):
        assert environment[name] == worker["environment"][name]
    assert environment["PREFECT_API_AUTH_STRING"] == ""
    assert ENV_FILE not in environment


def test_volumes_networks_and_the_env_file_are_those_of_the_settings() -> None:
    other = settings(
        VALIDIBOT_STORAGE_VOLUME="files",
        VALIDIBOT_NETWORK="net",
        PREFECT_NETWORK="prefect",
        MAINTENANCE_ENGINE_NETWORK="engine",
        VALIDIBOT_ENV_FILE="/srv/validibot/.django",
    )
    template = base_job_template("docker", other)
    job = template["job_configuration"]
    assert job["volumes"][0] == "files:/app/storage"
    assert job["volumes"][-1] == "/srv/validibot/.django:/run/secrets/validibot-env:ro"
    assert job["networks"] == ["prefect", "engine", "net"]
    environment = template["variables"]["properties"]["env"]["default"]
    assert environment[ENV_FILE] == "/run/secrets/validibot-env"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAINTENANCE_SECRETS", None),
        ("MAINTENANCE_SECRETS", "./secrets"),
        ("VALIDIBOT_ENV_FILE", "../validibot/.django"),
    ],
)
def test_without_the_place_of_the_secrets_no_docker_pool_is_made(
    variable: str, value: str | None
) -> None:
    given = settings(**{variable: value})
    with pytest.raises(SettingsError, match=f"^{variable}: must be "):
        base_job_template("docker", given)
    base_job_template("process", given)


@pytest.mark.parametrize("kind", get_args(PoolType))
def test_a_run_cannot_choose_its_command_image_or_rights(kind: PoolType) -> None:
    template = base_job_template(kind, settings())
    chosen = {
        "command": "touch started",
        "image": "chosen:1",
        "volumes": ["/:/chosen"],
        "networks": ["chosen"],
        "network_mode": "chosen",
        "privileged": "chosen",
        "container_create_kwargs": {"user": "chosen"},
    }
    filled = apply_values(template["job_configuration"], chosen)
    assert filled["command"] == COMMAND
    assert "touch" not in json.dumps(filled)
    assert "chosen" not in json.dumps(filled)
    assert (IMAGE in json.dumps(filled)) is (kind != "process")


@pytest.mark.parametrize("kind", get_args(PoolType))
def test_runs_send_heartbeats_as_often_as_prefect_allows(kind: PoolType) -> None:
    default = base_job_template(kind, settings())["variables"]["properties"]["env"]["default"]
    assert default["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@pytest.mark.parametrize("kind", get_args(PoolType))
def test_no_template_holds_a_setting_of_the_applying_process(
    monkeypatch: pytest.MonkeyPatch, kind: PoolType
) -> None:
    for name in from_worker():
        monkeypatch.setenv(name, "a-secret")
    assert "a-secret" not in json.dumps(base_job_template(kind, settings()))


@pytest.mark.slow
def test_a_container_gets_its_settings_from_the_workers_environment(
    monkeypatch: pytest.MonkeyPatch, prefect_server: PrefectServer
) -> None:
    for name, value in {"DATABASE_URL": "secret", "VALIDATOR_TIMEOUT_SECONDS": "7"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POSTGRES_HOST", raising=False)
    with temporary_settings(settings_of(prefect_server)):
        template = base_job_template("docker", settings())
        made = BaseJobConfiguration.from_template_and_values(template, {"env": {"MORE": "1"}})
        job: BaseJobConfiguration = asyncio.run(made)
    assert job.env["VALIDATOR_TIMEOUT_SECONDS"] == "7"
    assert "secret" not in job.env.values()
    assert job.env["POSTGRES_HOST"] == ""  # which counts as unset
    assert job.env["STORAGE_ROOT"] == "/app/storage"
    assert job.env["MORE"] == "1"
