"""What the proxy in front of the container engine's socket lets through, and what it refuses."""

import json
from collections.abc import Sequence

from tests.stack.engine import execute
from tests.stack.project import Project

ABSENT = "a" * 64
"""The engine answers 404 about it: the request got through."""
LIST = "/containers/json?all=1&limit=-1&size=0&trunc_cmd=0&filters="
MANAGED = "%7B%22label%22%3A+%5B%22org.validibot.managed%3Dtrue%22%5D%7D"

ALLOWED = [
    ("GET", "/version", 200),
    ("GET", "/v1.41/version", 200),
    ("GET", "/_ping", 200),
    ("GET", f"/v1.41{LIST}{MANAGED}", 200),
    ("GET", f"/v1.41/containers/{ABSENT}/json", 404),
    ("POST", f"/v1.41/containers/{ABSENT}/stop?t=10", 404),
    ("DELETE", f"/v1.41/containers/{ABSENT}?v=1&force=1", 404),
]
OTHER_ENDS = ("start", "kill", "restart", "exec", "attach", "update", "rename?name=x", "wait")
REFUSED = [
    # What would be root access to the machine.
    *[("POST", f"/v1.41/{path}") for path in ("containers/create", "exec/1/start", "build")],
    *[("POST", f"/v1.41/containers/{ABSENT}/{end}") for end in OTHER_ENDS],
    *[("PUT", f"/containers/{ABSENT}/archive?path=/"), ("POST", "/images/create?fromImage=x")],
    # What is not a job's to read or to delete.
    *[("GET", f"/containers/{ABSENT}/{end}") for end in ("logs", "archive?path=/", "export")],
    *[("GET", f"/{path}") for path in ("info", "events", "images/json", "secrets", "networks")],
    *[("DELETE", f"/{path}") for path in ("images/x", "volumes/x", "networks/x")],
    # Containers of others, and other ways to name an allowed path.
    *[("GET", "/containers/json"), ("GET", f"{LIST}%7B%7D"), ("GET", f"{LIST}%7B%7D&x={MANAGED}")],
    *[("GET", f"{LIST}%7B%7D&filters={MANAGED}"), ("GET", f"{LIST}{MANAGED}&filters=%7B%7D")],
    *[
        ("GET", f"/containers/json?%66ilters=%7B%7D&filters={MANAGED}"),
        ("DELETE", "/containers/by-name"),
    ],
    *[("GET", f"/containers/{ABSENT}/../../info"), ("GET", "//version"), ("GET", "/%76ersion")],
    *[("GET", "/version/"), ("POST", "/version"), ("GET", "/x/version"), ("GET", "http://x/info")],
    *[("POST", f"/containers/{ABSENT}/json"), ("GET", f"/containers/{ABSENT}/stop")],
]

ASK = """
import http.client, json, sys
statuses = []
for method, path, upgrade in json.loads(sys.argv[1]):
    connection = http.client.HTTPConnection("socket-proxy", 2375, timeout=20)
    headers = {"Upgrade": "tcp", "Connection": "Upgrade"} if upgrade else {}
    connection.request(method, path, headers=headers)
    statuses.append(connection.getresponse().status)
print(json.dumps(statuses))
"""


def proxy_lets_the_jobs_requests_through_and_no_other(stack: Project) -> None:
    """From the worker; the other services do not reach it at all."""
    allowed = answers(stack, [(method, path, False) for method, path, _ in ALLOWED])
    assert allowed == [status for _, _, status in ALLOWED], allowed
    refused = answers(stack, [(method, path, False) for method, path in REFUSED])
    through = [one for one, status in zip(REFUSED, refused, strict=True) if status != 403]
    assert through == [], through
    assert answers(stack, [("GET", "/version", True)]) == [403]
    networks = {
        service: set(one["NetworkSettings"]["Networks"])
        for service, one in stack.containers().items()
    }
    (engine,) = networks.pop("socket-proxy")
    assert {service for service, joined in networks.items() if engine in joined} == {"worker"}


def proxy_of_a_docker_pool_refuses_the_rest(stack: Project) -> None:
    """With the other configuration: what makes and watches containers gets through as well."""
    refused = answers(stack, [(method, path, False) for method, path in REFUSED])
    through = {one for one, status in zip(REFUSED, refused, strict=True) if status != 403}
    assert through == {
        ("POST", "/v1.41/containers/create"),
        ("POST", f"/v1.41/containers/{ABSENT}/start"),
        ("POST", f"/v1.41/containers/{ABSENT}/wait"),
        ("GET", f"/containers/{ABSENT}/logs"),
    }, through


def answers(stack: Project, requests: Sequence[tuple[str, str, bool]]) -> list[int]:
    """Make requests from the worker; return the statuses."""
    command = ["python", "-c", ASK, json.dumps(requests)]
    statuses: list[int] = json.loads(execute(stack.client, stack.container("worker"), command))
    return statuses
