"""Errors of the container engine, produced by servers one by one: which pass by themselves."""

import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from requests.exceptions import SSLError

from maintenance.containers.endpoint import Endpoint
from maintenance.containers.engine import open_engine
from maintenance.errors import (
    ContainerError,
    EngineNotConfigured,
    EngineUnavailable,
    SettingsError,
)
from maintenance.settings import Settings, load_settings
from maintenance.transient import is_transient
from tests.support.odd_engine import HANG, ID, answering, closed_port, odd_engine, silent

SECONDS = 0.5


def settings(host: str, **more: Any) -> Settings:
    given = {
        "DATABASE_URL": "postgresql://nobody@h/d",
        "DEPLOYMENT_TARGET": "self_hosted",
        "DOCKER_HOST": host,
        "MAINTENANCE_DOCKER_TIMEOUT_SECONDS": SECONDS,
    }
    return load_settings(**(given | more))


def failure(host: str) -> ContainerError:
    """The error of asking an engine for its list."""
    with pytest.raises(ContainerError) as caught, open_engine(settings(host)) as engine:
        engine.managed()
    shown = "".join(traceback.format_exception(caught.value))
    assert "urllib3" not in shown
    assert "requests" not in shown
    return caught.value


def says(reply: bytes) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(reply)

    return act


def test_a_sane_engine_is_understood() -> None:
    """The test server misbehaves only where a test asks for it."""
    with odd_engine() as host, open_engine(settings(host)) as engine:
        (container,) = engine.managed()
        assert container.id == ID
        assert engine.find(ID) is not None
        engine.ping()
        assert engine.remove(ID, 1).state == "removed"


def test_a_closed_port_is_transient() -> None:
    host = closed_port()
    error = failure(host)
    assert type(error) is EngineUnavailable
    assert str(error) == f"the container engine at {host} cannot be reached: Connection refused"
    assert is_transient(error)


def test_a_missing_socket_is_transient(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/docker.sock"
    error = failure(host)
    assert is_transient(error)
    assert str(error) == (
        f"the container engine at {host} cannot be reached: No such file or directory"
    )


def test_an_engine_that_accepts_and_never_answers_is_transient_after_the_time_out() -> None:
    with silent() as host:
        started = time.monotonic()
        error = failure(host)
        assert SECONDS <= time.monotonic() - started < SECONDS + 5
    assert is_transient(error)
    assert str(error) == f"the container engine at {host} did not answer within 0.5 s"


@pytest.mark.parametrize("call", ["GET_version", "GET_json"])
def test_every_call_has_a_time_out(call: str) -> None:
    with odd_engine({call: HANG}) as host:
        assert "did not answer within 0.5 s" in str(failure(host))


@pytest.mark.parametrize("call", ["GET_inspect", "POST_stop", "DELETE_container"])
def test_every_call_of_a_removal_has_a_time_out(call: str) -> None:
    with odd_engine({call: HANG}) as host, open_engine(settings(host)) as engine:
        started = time.monotonic()
        removal = engine.remove(ID, 1)
        assert time.monotonic() - started < 10
    assert removal.state == "failed"
    assert is_transient(removal.error or ValueError())
    assert "did not answer" in removal.cause


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("call", ["GET_version", "GET_json"])
def test_an_engine_that_is_busy_or_broken_is_transient(call: str, status: int) -> None:
    with odd_engine({call: (status, {"message": "too\n much"})}) as host:
        error = failure(host)
    assert is_transient(error)
    assert str(error) == f"the container engine answered {status}: too much"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_refusal_fails_at_once(status: int) -> None:
    with odd_engine(GET_json=(status, {"message": "no"})) as host:
        error = failure(host)
    assert not is_transient(error)
    assert str(error) == f"the container engine answered {status}: no"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_a_connection_that_is_closed_early_is_transient(reply: bytes) -> None:
    with answering(says(reply)) as host:
        assert is_transient(failure(host))


@pytest.mark.parametrize("answer", ["hello", "{}", '{"ApiVersion": "1.1"}', '{"ApiVersion": 7}'])
def test_a_server_that_is_no_container_engine_fails_at_once(answer: str) -> None:
    with odd_engine(GET_version=(200, answer)) as host:
        error = failure(host)
    assert not is_transient(error)
    assert f"the container engine at {host} gave no valid answer" in str(error)


@pytest.mark.parametrize("listed", ["hello", [{}], {"a": 1}, [{"Id": 1}]])
def test_a_malformed_list_fails_at_once(listed: object) -> None:
    with odd_engine(GET_json=(200, listed)) as host:
        assert not is_transient(failure(host))


def test_a_permission_that_is_missing_fails_at_once() -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(ContainerError, match="may not be used by this user") as caught:
        Endpoint("unix:///x", 1).ask(refused)
    assert not is_transient(caught.value)


def test_a_certificate_that_is_not_trusted_fails_at_once() -> None:
    def refused() -> None:
        raise SSLError("certificate verify failed")

    with pytest.raises(ContainerError, match="no secure connection") as caught:
        Endpoint("tcp://x:2376", 1).ask(refused)
    assert not is_transient(caught.value)


def test_certificates_that_are_missing_fail_at_once(tmp_path: Path) -> None:
    given = settings("tcp://127.0.0.1:1", DOCKER_CERT_PATH=str(tmp_path), DOCKER_TLS_VERIFY="1")
    with pytest.raises(ContainerError) as caught, open_engine(given):
        pass
    assert not is_transient(caught.value)


def test_a_removal_by_another_client_is_waited_for_up_to_the_time_out() -> None:
    conflict = (409, {"message": f"removal of container {ID} is already in progress"})
    with odd_engine(DELETE_container=conflict) as host, open_engine(settings(host)) as engine:
        started = time.monotonic()
        removal = engine.remove(ID, 1)
        assert SECONDS <= time.monotonic() - started < SECONDS + 5
    assert removal.state == "failed"
    assert "another client has been removing it" in removal.cause


def test_another_conflict_is_the_containers_failure_with_the_engines_message() -> None:
    conflict = (409, {"message": "something else"})
    with odd_engine(DELETE_container=conflict) as host, open_engine(settings(host)) as engine:
        removal = engine.remove(ID, 1)
    assert (removal.state, removal.cause) == (
        "failed",
        "the container engine answered 409: something else",
    )


def test_a_container_that_cannot_be_stopped_is_still_removed() -> None:
    refusal = (500, {"message": "cannot stop container"})
    with odd_engine(POST_stop=refusal) as host, open_engine(settings(host)) as engine:
        assert engine.remove(ID, 1).state == "removed"


@pytest.mark.parametrize("status", [404, 500])
def test_a_container_that_vanishes_between_the_stop_and_the_removal_is_gone(status: int) -> None:
    absent = (status, {"message": "No such container"})
    with (
        odd_engine(POST_stop=absent, DELETE_container=absent) as host,
        open_engine(settings(host)) as engine,
    ):
        assert engine.remove(ID, 1).state == "removed"


@pytest.mark.parametrize("target", [None, "gcp", "aws", "test", "SELF_HOSTED"])
def test_without_an_engine_nothing_is_asked(target: str | None) -> None:
    given = settings(closed_port(), DEPLOYMENT_TARGET=target, STORAGE_BUCKET="files")
    with pytest.raises(EngineNotConfigured, match="DEPLOYMENT_TARGET") as caught, ExitStack() as it:
        it.enter_context(open_engine(given))
    assert not is_transient(caught.value)


@pytest.mark.parametrize("target", ["self_hosted", "local_docker_compose"])
def test_with_an_engine_it_is_asked(target: str) -> None:
    with odd_engine() as host, open_engine(settings(host, DEPLOYMENT_TARGET=target)) as engine:
        assert len(engine.managed()) == 1


@pytest.mark.parametrize(
    "host",
    ["ssh://h", "http://h", "h:1", "tcp://user:secret@h:1", "unix://relative", "tcp://h:1/secret"],
)
def test_an_address_that_is_not_allowed_is_refused_and_not_repeated(host: str) -> None:
    with pytest.raises(
        SettingsError, match=r"DOCKER_HOST: must be unix:///path or tcp://"
    ) as caught:
        settings(host)
    assert host not in str(caught.value)


def test_without_a_container_engine_its_address_is_not_validated() -> None:
    assert (
        settings("ssh://h", DEPLOYMENT_TARGET="gcp", STORAGE_BUCKET="files").docker_host
        == "ssh://h"
    )
