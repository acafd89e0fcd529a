"""A web page of another origin, in a browser that reaches the server, reads and starts nothing.

The page knows the server's address and the identifier of a deployment, and tries what a browser
allows: requests with and without a preflight, and, with a host name that resolves to the server,
requests of the same origin.
"""

from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from demo.servers import PrefectServer
from tests.support.browser import browser_page
from tests.support.http_server import serving
from tests.support.prefect_server import ask, deployments

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]

REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
"""Without the login; without a CSRF token."""
NAME = "validibot.example"
COMMAND = {"job_variables": {"command": "touch /tmp/started-by-a-page"}}
TRY = """
async ([address, body, mode, kind]) => {
    const request = {method: body ? "POST" : "GET", mode: mode, credentials: "include"};
    if (body) { request.body = JSON.stringify(body); request.headers = {"Content-Type": kind}; }
    try {
        const answer = await fetch(address, request);
        return {status: answer.status, text: await answer.text()};
    } catch (error) {
        return {status: 0, text: ""};
    }
}
"""


@pytest.fixture
def page_of_another_origin() -> Iterator[str]:
    """The address of a web server whose page is empty: its script comes from the test."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with serving(Empty) as address:
        yield f"{address}/"


def attempts(server: PrefectServer) -> list[list[Any]]:
    """Return what the page tries, each as address, body, mode and type of content."""
    target = f"{server.api.address}/api"
    identifier = deployments(server)["clear-sessions"]["id"]
    start = f"{target}/deployments/{identifier}/create_flow_run"
    pool = f"{target}/work_pools/maintenance"
    return [
        [f"{target}/deployments/{identifier}", None, "cors", ""],
        [f"{target}/admin/settings", None, "cors", ""],
        [f"{target}/deployments/filter", {}, "cors", "application/json"],
        [start, COMMAND, "cors", "application/json"],
        [start, COMMAND, "cors", "text/plain"],
        [start, COMMAND, "no-cors", "text/plain"],
        [pool, {"base_job_template": {}}, "no-cors", "text/plain"],
        [f"{target}/flow_runs/filter", {}, "no-cors", "text/plain"],
    ]


def test_a_page_of_another_origin_reads_nothing_and_starts_nothing(
    deployed_server: PrefectServer, page_of_another_origin: str
) -> None:
    before = started(deployed_server)
    with browser_page() as page:
        page.goto(page_of_another_origin)
        for attempt in attempts(deployed_server):
            answer = page.evaluate(TRY, attempt)
            assert answer == {"status": 0, "text": ""}, attempt
    assert started(deployed_server) == before


def test_a_page_whose_host_name_resolves_to_the_server_gets_no_answer_without_the_login(
    deployed_server: PrefectServer,
) -> None:
    before = started(deployed_server)
    port = urlsplit(deployed_server.api.address).port
    address = f"http://{NAME}:{port}"
    with browser_page(None, f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as page:
        page.goto(f"{address}/api/health")
        for url, *others in attempts(deployed_server):
            same_origin = url.replace(deployed_server.api.address, address)
            answer = page.evaluate(TRY, [same_origin, others[0], "cors", others[2]])
            assert answer["status"] in REFUSED, same_origin
            assert "clear-sessions" not in answer["text"]
    assert started(deployed_server) == before


def test_every_path_of_the_api_needs_the_login_but_those_for_health(
    deployed_server: PrefectServer,
) -> None:
    """The schema lists all paths; none of them is answered, whatever the host's name."""
    paths = ask(deployed_server, "GET", "/openapi.json")["paths"]
    gets = [path for path, methods in paths.items() if "get" in methods]
    assert len(gets) > 20
    open_paths = set()
    for path in gets:
        address = f"{deployed_server.api.address}/api{path}"
        answer = httpx.get(address, headers={"Host": NAME}, trust_env=False, timeout=30)
        if answer.status_code != HTTPStatus.UNAUTHORIZED:
            open_paths.add(path)
    assert open_paths <= {"/health", "/ready"}


def started(server: PrefectServer) -> set[str]:
    """Return the runs that no schedule has made."""
    runs = ask(server, "POST", "/flow_runs/filter", {})
    return {run["id"] for run in runs if not run["auto_scheduled"]}
