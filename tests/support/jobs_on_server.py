"""Runs and workers on a Prefect server, made as the worker and the engine make them."""

from datetime import UTC, datetime
from typing import Any

from demo.servers import PrefectServer
from deployments.names import WORK_POOL
from tests.support.prefect_server import ask, deployments


def make_run(
    server: PrefectServer,
    job: str,
    state: str,
    name: str | None = None,
    message: str = "",
    **parameters: Any,
) -> datetime:
    """Make a run of a job that starts now and ends so; return when it started."""
    deployment = deployments(server)[job]["id"]
    made = ask(
        server,
        "POST",
        f"/deployments/{deployment}/create_flow_run",
        {"parameters": parameters, "state": {"type": "PENDING"}},
    )
    states = [{"type": "RUNNING"}]
    if state != "RUNNING":
        states.append({"type": state, "name": name or state.capitalize(), "message": message})
    for one in states:
        ask(
            server,
            "POST",
            f"/flow_runs/{made['id']}/set_state",
            {"state": one, "force": True},
        )
    found = ask(server, "GET", f"/flow_runs/{made['id']}")
    return datetime.fromisoformat(found["start_time"])


def heartbeat(server: PrefectServer, worker: str) -> None:
    """Be a worker that is there."""
    body = {"name": worker, "heartbeat_interval_seconds": 30}
    ask(server, "POST", f"/work_pools/{WORK_POOL}/workers/heartbeat", body)


def scheduled_jobs(server: PrefectServer) -> set[str]:
    """Return the jobs of which the server has made a run that is still to come."""
    by_id = {one["id"]: job for job, one in deployments(server).items()}
    coming = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "next_scheduled_start_time": {"after_": datetime.now(UTC).isoformat()},
    }
    found = set()
    for identifier, job in by_id.items():
        query = {"flow_runs": coming, "deployments": {"id": {"any_": [identifier]}}, "limit": 1}
        if ask(server, "POST", "/flow_runs/filter", query):
            found.add(job)
    return found
