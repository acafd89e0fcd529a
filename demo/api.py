"""The few requests that the demo makes to its Prefect server.

Plain requests: Prefect's own client would read this user's profile and environment when it is
imported, and the demo has to be untouched by them.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import httpx

REQUEST_SECONDS = 60.0
"""A server on SQLite keeps a request waiting while another one writes."""
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""A server on SQLite says so while another request writes."""
BUSY_SECONDS = 20.0
AGAIN_SECONDS = 0.5
CSRF_CLIENT = "Prefect-Csrf-Client"
CSRF_TOKEN = "Prefect-Csrf-Token"  # noqa: S105 - a header's name
FINAL_STATES = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
LIMIT_REACHED = "concurrency limit"
"""In the message of a run that was cancelled because another run of its deployment was going."""


@dataclass(frozen=True)
class RunState:
    """The state of a flow run."""

    type: str
    name: str
    message: str

    @property
    def final(self) -> bool:
        """Whether it will not change any more."""
        return self.type in FINAL_STATES

    @property
    def completed(self) -> bool:
        """Whether the run did what it was to do."""
        return self.type == "COMPLETED"

    @property
    def in_the_way(self) -> bool:
        """Whether another run of the same deployment kept it from starting."""
        return self.type == "CANCELLED" and LIMIT_REACHED in self.message.lower()


class PrefectApi:
    """A Prefect server's API."""

    def __init__(self, address: str, login: str) -> None:
        """Name the server, like http://127.0.0.1:4200, and its login, like user:password."""
        self.address = address
        user, _, password = login.partition(":")
        self._client = httpx.Client(
            base_url=f"{address}/api",
            auth=httpx.BasicAuth(user, password),
            headers={CSRF_CLIENT: str(uuid4())},
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def answers(self) -> bool:
        """Return whether the server is up."""
        return self._succeeds("/health")

    def has_work_pool(self, name: str) -> bool:
        """Return whether there is a work pool of that name."""
        return self._succeeds(f"/work_pools/{name}")

    def start_run(self, deployment: str, parameters: Mapping[str, Any]) -> str:
        """Ask for a run of a deployment (`flow/name`) and return its identifier."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        # With the key, a request that is repeated does not make a second run.
        asked = {"parameters": dict(parameters), "idempotency_key": str(uuid4())}
        made = self.ask("POST", f"/deployments/{found['id']}/create_flow_run", asked)
        return str(made["id"])

    def state(self, run: str) -> RunState | None:
        """Return the state of a run; None when the server is too busy to say."""
        try:
            answer = self._client.get(f"/flow_runs/{run}")
        except httpx.TransportError:
            return None
        if answer.status_code in BUSY:
            return None
        state = answer.raise_for_status().json()["state"]
        return RunState(state["type"], state["name"], state["message"] or "")

    def count_runs(self, seconds: float) -> int:
        """Return the number of flow runs, for which the server has so many seconds."""
        answer = self._request("POST", "/flow_runs/count", {}, timeout=seconds)
        found: int = answer.raise_for_status().json()
        return found

    def report(self, run: str) -> str | None:
        """Return the address of a run's report, None when it has published none."""
        wanted = {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}
        found = self.ask("POST", "/artifacts/filter", {"artifacts": wanted})
        return f"{self.address}/artifacts/artifact/{found[0]['id']}" if found else None

    def page(self, run: str) -> str:
        """Return the address of a run in the UI."""
        return f"{self.address}/runs/flow-run/{run}"

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Make a request, again while the server is busy; return its answer, None without one."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            answer = self._request(method, path, body)
            if answer.status_code not in BUSY or time.monotonic() > deadline:
                answer.raise_for_status()
                return answer.json() if answer.content else None
            time.sleep(AGAIN_SECONDS)

    def _request(
        self, method: str, path: str, body: object, timeout: float = REQUEST_SECONDS
    ) -> httpx.Response:
        """Make a request, with a new token when the server asks for one."""
        answer = self._client.request(method, path, json=body, timeout=timeout)
        if answer.status_code == HTTPStatus.FORBIDDEN:
            parameters = {"client": self._client.headers[CSRF_CLIENT]}
            token = self._client.get("/csrf-token", params=parameters).raise_for_status().json()
            self._client.headers[CSRF_TOKEN] = token["token"]
            answer = self._client.request(method, path, json=body, timeout=timeout)
        return answer

    def _succeeds(self, path: str) -> bool:
        try:
            return self._client.get(path).is_success
        except httpx.TransportError:
            return False
