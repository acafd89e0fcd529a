"""What an operator does in the UI, and what the tests look at: plain requests to the API."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from prefect.settings.legacy import Setting

from demo.environment import clean_environment
from demo.servers import PrefectServer
from tests.support.memory import temporary_folder

APPLY_SECONDS = 90

BOOKKEEPING = ("updated", "last_polled", "status", "created_by", "updated_by")
"""Fields that change by themselves."""


@contextmanager
def deployed_prefect(settings: Mapping[str, str] | None = None) -> Iterator[PrefectServer]:
    """A server that `python -m deployments` has set up. No worker serves its work pool."""
    with temporary_folder() as name:
        home = Path(name)
        environment = clean_environment(os.environ, home)
        with PrefectServer(home, home, environment | dict(settings or {})) as running:
            running.wait_until_ready()
            subprocess.run(
                [sys.executable, "-m", "deployments"],
                env=environment | running.client_settings,
                check=True,
                capture_output=True,
                timeout=APPLY_SECONDS,
            )
            yield running


def settings_of(server: PrefectServer) -> dict[Setting, Any]:
    """Return the settings of Prefect's own client, for `temporary_settings`."""
    return {
        PREFECT_API_URL: server.client_settings["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: server.login,
    }


def ask(server: PrefectServer, method: str, path: str, body: object = None) -> Any:
    """Make a request and return its answer."""
    return server.api.ask(method, path, body)


def deployments(server: PrefectServer) -> dict[str, dict[str, Any]]:
    """Return the deployments by the name of their flow."""
    names = {flow["id"]: flow["name"] for flow in ask(server, "POST", "/flows/filter", {})}
    found = ask(server, "POST", "/deployments/filter", {})
    return {names[one["flow_id"]]: one for one in found}


def schedules(server: PrefectServer) -> dict[str, list[tuple[str, str, bool]]]:
    """Return cron line, time zone and whether it is active of each job's schedules."""
    return {
        name: sorted(
            (one["schedule"].get("cron", ""), one["schedule"]["timezone"] or "UTC", one["active"])
            for one in deployment["schedules"]
        )
        for name, deployment in deployments(server).items()
    }


def everything(server: PrefectServer) -> dict[str, Any]:
    """Return all that an apply can change."""
    found = {
        "deployments": ask(server, "POST", "/deployments/filter", {}),
        "automations": ask(server, "POST", "/automations/filter", {}),
        "variables": ask(server, "POST", "/variables/filter", {}),
        "work_pools": ask(server, "POST", "/work_pools/filter", {}),
        "blocks": ask(server, "POST", "/block_documents/filter", {}),
    }
    return {
        kind: {
            row["id"]: {name: value for name, value in row.items() if name not in BOOKKEEPING}
            for row in rows
        }
        for kind, rows in found.items()
    }


def coming_runs(server: PrefectServer) -> set[str]:
    """Return the runs that the scheduler has made."""
    return {one["id"] for one in ask(server, "POST", "/flow_runs/filter", {})}


def edit_schedule(server: PrefectServer, job: str, change: dict[str, Any]) -> None:
    """Edit a job's only schedule, as the UI does."""
    deployment = deployments(server)[job]
    (schedule,) = deployment["schedules"]
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    ask(server, "PATCH", path, change)


def automations(server: PrefectServer) -> dict[str, list[dict[str, Any]]]:
    """Return the automations by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in ask(server, "POST", "/automations/filter", {}):
        found.setdefault(one["name"], []).append(one)
    return found
