"""What compose.demo.yaml promises, without an engine."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from demo.login import main
from demo.servers import SERVER_SETTINGS
from tests.stack.guide import INSTALLATION
from tests.stack.stand_ins import ROOT, STAND_INS

TEXT = (ROOT / "compose.demo.yaml").read_text()
DEMO: dict[str, Any] = YAML(typ="safe").load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DEMO["services"]
REAL = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())


def test_it_needs_no_settings() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)([^}]*)\}", TEXT))
    assert {name for name, _ in used} == {"MAINTENANCE_IMAGE", "PREFECT_PORT"}
    assert all(default.startswith(":-") for _, default in used)
    assert "env_file" not in TEXT
    assert "external" not in TEXT
    assert "docker compose -f compose.demo.yaml up\n" in INSTALLATION


@pytest.mark.parametrize("kind", ["services", "volumes", "networks"])
def test_it_touches_nothing_of_the_real_stack_in_the_same_project(kind: str) -> None:
    assert all(name.startswith("demo-") for name in DEMO[kind])
    assert not DEMO[kind].keys() & REAL[kind].keys()
    for service in SERVICES.values():  # none is in the project's default network
        assert service.get("networks") or service["network_mode"] == "none"


def test_the_image_is_the_same_and_is_built_before_a_service_needs_it() -> None:
    ours = {name for name, one in SERVICES.items() if one["image"] not in STAND_INS}
    assert {SERVICES[name]["image"] for name in ours} == {REAL["services"]["server"]["image"]}
    assert [name for name, one in SERVICES.items() if "build" in one] == ["demo-login"]
    for name in ours - {"demo-login"}:
        needed = {name}
        while "demo-login" not in needed:
            above = {other for one in needed for other in SERVICES[one].get("depends_on", {})}
            assert above - needed, name
            needed |= above


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_bounded_and_unprivileged(service: str) -> None:
    one = SERVICES[service]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["mem_limit"]
    assert one["pids_limit"]
    if service != "demo-database":
        assert one["cap_drop"] == ["ALL"]
        assert one["read_only"] is True
    ports = ["127.0.0.1:${PREFECT_PORT:-4200}:4200"] if service == "demo-server" else []
    assert one.get("ports", []) == ports
    assert "docker.sock" not in TEXT


def test_the_server_is_set_as_the_real_one_and_has_a_login() -> None:
    settings = SERVICES["demo-server"]["environment"]
    image = ("PREFECT_SERVER_ANALYTICS_ENABLED", "SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS")
    needed = {k: v for k, v in SERVER_SETTINGS.items() if not k.endswith(image)}
    assert needed.items() <= settings.items()
    assert settings["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].startswith("http://127.0.0.1:")
    (login,) = SERVICES["demo-login"]["command"][3:]
    assert settings["PREFECT_SERVER_API_AUTH_STRING_FILE"] == login
    for service in ("demo-deploy", "demo-worker", "demo-watch"):
        assert SERVICES[service]["environment"]["PREFECT_API_AUTH_STRING_FILE"] == login


def test_the_login_is_made_once_and_told_each_time(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "login"
    assert main([str(path)]) == 0
    login = path.read_text()
    assert re.fullmatch("demo:[0-9a-f]{32}", login)
    assert path.stat().st_mode & 0o777 == 0o600
    assert main([str(path), "--address", "http://127.0.0.1:4201"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Prefect's UI: http://127.0.0.1:4200 (log in with {login})"
    assert second == f"Prefect's UI: http://127.0.0.1:4201 (log in with {login})"
    assert [one.name for one in tmp_path.iterdir()] == ["login"]
