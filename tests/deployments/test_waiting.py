"""`python -m deployments --wait`: for a server that a supervisor starts at the same time."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.ports import free_port
from deployments.__main__ import FAILED, main, wait_for_server

asked: list[str] = []


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_answers_later_is_waited_for() -> None:
    asked.clear()
    port = free_port()

    def serve() -> None:
        with HTTPServer(("127.0.0.1", port), Healthy) as server:
            server.handle_request()

    late = threading.Timer(0.3, serve)
    late.start()
    with temporary_settings({PREFECT_API_URL: f"http://user:secret@127.0.0.1:{port}/api"}):
        wait_for_server(60)
    late.join()
    assert asked == ["/api/health"]


def test_without_the_option_or_at_its_end_the_error_is_as_ever(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        for options in ([], ["--wait", "0.1"]):
            assert main(options) == FAILED
            assert "no Prefect server answers at http://127.0.0.1:" in capsys.readouterr().err
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert main(["--wait", "60"]) == FAILED
        assert "PREFECT_API_URL is not set" in capsys.readouterr().err
