"""A Prefect server that is configured is used, or it is said why not (SPEC 9)."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    temporary_settings,
)

from demo.servers import PrefectServer
from flows.run.server_access import why_no_server
from maintenance.settings import Settings
from tests.support.commands import run_command, without_prefect
from tests.support.http_server import serving
from tests.support.validibot import DAY, NOW, Validibot

ACTION = "PREFECT_API_URL must be the address of the API, like http://127.0.0.1:4200/api"


class Api(BaseHTTPRequestHandler):
    """Answers as a Prefect server does: the API below /api, elsewhere the page of the UI."""

    def do_GET(self) -> None:
        found = self.path == "/api/admin/version"
        page = not self.path.startswith("/api/")
        body = b'"3.8.8"' if found else b"<!doctype html>"
        self.send_response(HTTPStatus.OK if found or page else HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of one's own for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return file


@pytest.fixture
def https_address(certificate: Path) -> Iterator[str]:
    """A server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_a_certificate_of_ones_own_is_used_or_it_is_said_that_it_is_not_trusted(
    https_address: str, certificate: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: https_address}):
        assert why_no_server() == (
            f"the certificate of the Prefect server at {https_address} is not trusted: self-signed"
            " certificate; set PREFECT_API_SSL_CERT_FILE to the certificate of its authority"
        )
        with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(certificate)}):
            assert why_no_server() is None


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/api", None),
        ("/api/", None),
        ("", f"what answers at {{}} is no Prefect API; {ACTION}"),
        ("/", f"what answers at {{}}/ is no Prefect API; {ACTION}"),
        ("/api/api", f"there is no Prefect API at {{}}/api/api (404); {ACTION}"),
    ],
)
def test_an_address_without_the_api_is_said_and_a_slash_at_its_end_does_not_matter(
    path: str, problem: str | None
) -> None:
    with serving(Api) as address:
        secret = address.replace("//", "//user:hidden-password@")
        with temporary_settings({PREFECT_API_URL: f"{secret}{path}"}):
            assert why_no_server() == (problem and problem.format(address))


def test_without_an_address_there_is_nothing_to_say() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert why_no_server() == ""


@pytest.mark.parametrize(
    ("login", "said"),
    [(None, "wants a login (401)"), ("demo:wrong", "refuses the login (401)")],
)
def test_a_missing_or_wrong_login_is_said(
    prefect_server: PrefectServer, login: str | None, said: str
) -> None:
    address = prefect_server.client_settings["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: address, PREFECT_API_AUTH_STRING: login}):
        assert why_no_server() == (
            f"the Prefect server at {address} {said};"
            " set PREFECT_API_AUTH_STRING as the server has it"
        )


def runs(server: PrefectServer) -> int:
    found: int = server.api.ask("POST", "/flow_runs/count", {})
    return found


def test_a_run_by_hand_is_recorded_at_an_address_with_a_slash_at_its_end(
    environment: Settings, validibot: Validibot, prefect_server: PrefectServer
) -> None:
    validibot.session(NOW - DAY)
    variables = without_prefect(**prefect_server.client_settings)
    variables["PREFECT_API_URL"] += "/"
    before = runs(prefect_server)
    done = run_command("flows", "clear-sessions", env=variables)
    assert done.returncode == 0, done.stderr
    assert "without a Prefect server" not in done.stderr
    assert runs(prefect_server) == before + 1


def test_a_run_by_hand_says_why_it_does_without_the_server(
    environment: Settings, validibot: Validibot, prefect_server: PrefectServer
) -> None:
    validibot.session(NOW - DAY)
    variables = without_prefect(**prefect_server.client_settings)
    variables["PREFECT_API_AUTH_STRING"] = "demo:wrong"
    before = runs(prefect_server)
    done = run_command("flows", "clear-sessions", env=variables)
    assert done.returncode == 0, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if "python -m flows:" in line)
    assert said.startswith("python -m flows: without a Prefect server: the Prefect server at ")
    assert "refuses the login (401)" in said
    assert runs(prefect_server) == before
