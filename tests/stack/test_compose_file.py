"""What compose.yaml, .env.example and the Dockerfile promise, without an engine.

compose.demo.yaml has a test of its own, test_compose_demo.py.
"""

import json
import re
import tomllib
from typing import Any

import pytest
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_settings_fields
from ruamel.yaml import YAML

from demo.servers import SERVER_SETTINGS
from deployments.names import PREFECT_FILE
from deployments.settings import DeploymentSettings
from maintenance.env_file import ENV_FILE
from maintenance.secret_files import OF_PREFECT
from maintenance.settings import SECRETS, Settings
from maintenance.storage.capabilities import NUMBERS
from tests.stack.guide import INSTALLATION
from tests.stack.stand_ins import ROOT, STAND_INS, python_image
from tests.stack.validibot import COMPOSE_FILE, ENV_FILES, NETWORK, PROJECT, STORAGE
from tests.stack.validibot import SERVICES as APPLICATION

TEXT = (ROOT / "compose.yaml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STACK: dict[str, Any] = YAML(typ="safe").load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]

TMP = "/tmp"  # noqa: S108 - of a container
ONE_SHOT = {"upgrade", "deploy"}
OTHERS = {"database", "socket-proxy"}
OURS = SERVICES.keys() - OTHERS
WITHOUT_CHECK = ONE_SHOT | {"socket-proxy", "watch"}
IN_CONTAINER = "/run/secrets/"
RIGHTS = {
    "database": [*NUMBERS, "SETGID", "SETUID"],
    "watch": ["DAC_READ_SEARCH"],
    "worker": list(NUMBERS),
}
"""The capabilities of each service that has any."""
USED = re.compile(r"\$\{([A-Z_]+)(?:(:[-?])([^}]*))?\}")
GIVEN = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


def environment(service: str) -> dict[str, str]:
    found: dict[str, str] = SERVICES[service].get("environment", {})
    return found


def test_every_variable_is_explained_and_has_the_default_that_is_told() -> None:
    uses = set(USED.findall(TEXT))
    assert {name for name, _, _ in uses} | {"COMPOSE_PROJECT_NAME"} == GIVEN.keys()
    for name, kind, default in uses:
        assert (kind, GIVEN[name]) == (":-", default), name


def test_nothing_secret_is_in_the_files() -> None:
    secret = re.compile(r"PASSWORD|AUTH_STRING|DATABASE_URL|SECRET_|TOKEN|KEY")
    for name, value in GIVEN.items():
        assert not (secret.search(name) and value), name
    secret = re.compile(secret.pattern + "|ENV_FILE")
    for service, one in SERVICES.items():
        named = {name: value for name, value in environment(service).items() if secret.search(name)}
        if service == "deploy":  # where a docker work pool mounts it from
            named.pop("VALIDIBOT_ENV_FILE")
        assert all(name.endswith("_FILE") for name in named), service
        assert {f"{IN_CONTAINER}{name}" for name in one.get("secrets", [])} == set(named.values())
        assert "env_file" not in one


def test_every_secret_is_a_file_of_this_machine() -> None:
    folder = f"${{MAINTENANCE_SECRETS:-{GIVEN['MAINTENANCE_SECRETS']}}}"
    files = {name: one["file"] for name, one in STACK["secrets"].items()}
    assert files.pop("validibot-env").startswith("${VALIDIBOT_ENV_FILE:-")
    assert files == {name: f"{folder}/{name}" for name in files}
    ignored = (ROOT / ".gitignore").read_text().split()
    assert f"/{GIVEN['MAINTENANCE_SECRETS'].removeprefix('./')}/" in ignored


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_environment_names_known_settings(service: str) -> None:
    known = set(_get_settings_fields(PrefectSettings)) | {"HOME", ENV_FILE}
    for model in (Settings, DeploymentSettings):
        known |= {str(field.validation_alias) for field in model.model_fields.values()}
    known |= {f"{name}_FILE" for name in (*SECRETS, *OF_PREFECT)}
    official = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
    assert environment(service).keys() <= (official if service == "database" else known)


def test_the_server_has_what_the_rescue_of_runs_needs() -> None:
    quick = "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS"
    needed = {name: value for name, value in SERVER_SETTINGS.items() if name != quick}
    image = dict(re.findall(r"^\s+(PREFECT_\w+)=(\S+)", DOCKERFILE, re.MULTILINE))
    assert needed.items() <= (environment("server") | image).items()


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_bounded_and_unprivileged(service: str) -> None:
    one = SERVICES[service]
    assert "privileged" not in one
    assert "network_mode" not in one
    assert "pid" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["cap_drop"] == ["ALL"]
    assert one.get("cap_add", []) == RIGHTS.get(service, [])
    assert one.get("user") == ("0:0" if service in {"socket-proxy", "watch", "worker"} else None)
    assert one["read_only"] is True
    assert 0 < one["pids_limit"] <= 1024
    assert one["logging"]["options"].keys() == {"max-size", "max-file"}
    assert one["restart"] == ("no" if service in ONE_SHOT else "unless-stopped")
    if service not in ONE_SHOT:
        assert one["mem_limit"]


@pytest.mark.parametrize("service", sorted(OURS))
def test_ours_write_only_where_they_have_to(service: str) -> None:
    one = SERVICES[service]
    assert [place.partition(":")[0] for place in one["tmpfs"]] == [TMP]
    assert environment(service)["HOME"] == TMP
    if service not in {"server", "upgrade"}:  # the image's own folder is their volume
        assert environment(service)["PREFECT_HOME"].startswith(f"{TMP}/")


def test_every_name_is_validibots_and_set_in_one_place() -> None:
    real = YAML(typ="safe").load(COMPOSE_FILE.read_text())
    storage, network = f"{PROJECT}_validibot_storage", f"{PROJECT}_validibot"
    assert "validibot_storage" in real["volumes"]
    assert real["networks"].keys() == {"validibot"}
    assert (storage, network) == (STORAGE, NETWORK)
    assert GIVEN["VALIDIBOT_STORAGE_VOLUME"] == storage
    assert GIVEN["VALIDIBOT_NETWORK"] == network
    assert real["services"].keys() == APPLICATION
    assert GIVEN["VALIDIBOT_ENV_FILE"] == f"../{PROJECT}/{ENV_FILES}/.django"
    assert f"{ENV_FILES}/.django" in real["services"]["web"]["env_file"]
    assert STACK["volumes"]["validibot-storage"]["name"].endswith(f":-{storage}}}")
    assert STACK["networks"]["validibot"]["name"].endswith(f":-{network}}}")
    pool = DeploymentSettings()
    assert (pool.storage_volume, pool.network) == (storage, network)
    used = re.findall(r"\$\{(VALIDIBOT_\w+)", json.dumps(environment("deploy")))
    assert used == ["VALIDIBOT_ENV_FILE", "VALIDIBOT_STORAGE_VOLUME", "VALIDIBOT_NETWORK"]


def test_beside_a_default_validibot_no_setting_is_needed() -> None:
    assert all(GIVEN.values())


def test_an_absent_socket_is_an_error_and_not_made_a_directory() -> None:
    (socket,) = (one for one in SERVICES["socket-proxy"]["volumes"] if "docker.sock" in str(one))
    assert socket["type"] == "bind"
    assert socket["source"] == f"${{DOCKER_SOCKET:-{GIVEN['DOCKER_SOCKET']}}}"


def test_every_service_that_stays_has_a_health_check() -> None:
    for service, one in SERVICES.items():
        if service in WITHOUT_CHECK:
            assert one["healthcheck"] == {"disable": True}
        elif service == "worker":
            assert "healthcheck" not in one  # the image's own
            assert "HEALTHCHECK" in DOCKERFILE
        else:
            assert one["healthcheck"]["test"][0] == "CMD"


def test_the_watch_that_ends_dead_runs_is_always_there() -> None:
    assert SERVICES["watch"]["command"] == ["python", "-m", "deployments.watch"]
    assert "watch" not in ONE_SHOT
    assert environment("watch")["PREFECT_API_URL"] == environment("worker")["PREFECT_API_URL"]


def test_one_port_is_published_and_on_the_loopback() -> None:
    ports = [port for one in SERVICES.values() for port in one.get("ports", [])]
    assert ports == ["127.0.0.1:${PREFECT_PORT:-4200}:4200"]


def test_the_proxy_alone_has_the_engine_and_the_worker_the_files_of_validibot() -> None:
    having = {name: str(one.get("volumes")) for name, one in SERVICES.items()}
    assert {name for name, volumes in having.items() if "docker.sock" in volumes} == {
        "socket-proxy"
    }
    assert {name for name, volumes in having.items() if "validibot-storage" in volumes} == {
        "worker"
    }
    on = {name for name, one in SERVICES.items() if "engine" in one.get("networks", [])}
    assert on == {"socket-proxy", "worker"}
    assert STACK["networks"]["engine"]["internal"] is True
    assert SERVICES["socket-proxy"]["networks"] == ["engine"]


def test_what_is_validibots_is_never_removed_with_the_stack() -> None:
    assert STACK["volumes"]["validibot-storage"]["external"] is True
    assert STACK["networks"]["validibot"]["external"] is True


def test_images_have_a_version_and_ours_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = f"${{MAINTENANCE_IMAGE:-validibot-maintenance:{project['version']}}}"
    images = {service: one["image"] for service, one in SERVICES.items()}
    assert {images[service] for service in OURS} == {ours}
    others = {images[service] for service in OTHERS} | {python_image()}
    assert others == STAND_INS.keys()
    assert all(re.search(r":\d", image) for image in others)
    assert f'org.opencontainers.image.version="{project["version"]}"' in DOCKERFILE
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in DOCKERFILE


def test_the_image_holds_the_packages_and_prefect_yaml() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    files = {name for line in copied for name in line.split()}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packages = set(wheel["targets"]["wheel"]["packages"])
    assert packages | {PREFECT_FILE.name, "pyproject.toml"} < files
    sent = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(sent) == files
    assert "PYTHONDONTWRITEBYTECODE" not in DOCKERFILE
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["maintenance"]


def test_the_build_backend_and_all_that_it_needs_is_taken_from_the_lock() -> None:
    (names,) = re.findall(r"/\^\(([a-z|-]+)\)==/", DOCKERFILE)
    locked = re.findall(r"^([a-z-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert "hatchling" in names.split("|")
    assert set(names.split("|")) <= set(locked)


def test_the_guide_names_services_and_variables_that_exist() -> None:
    for service in re.findall(
        r"docker compose (?:exec|logs|run|stop) (?:-\S+ )*([a-z][\w-]+)", INSTALLATION
    ):
        assert service in SERVICES.keys() | APPLICATION
    ours = r"`((?:PREFECT|VALIDIBOT|DOCKER|MAINTENANCE)_[A-Z_]+)[`=]"
    for name in re.findall(ours, INSTALLATION):
        assert name in GIVEN or name == "DOCKER_HOST", name
    for name in re.findall(r"`?(PIP_[A-Z_]+)`?", INSTALLATION):
        assert f"ARG {name}\n" in DOCKERFILE
