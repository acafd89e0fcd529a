"""A server that knows just enough of the engine's API to misbehave as a test chooses."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from maintenance.containers.labels import MANAGED, MANAGED_VALUE

ID = "ab" * 32
LABELS = {MANAGED: MANAGED_VALUE}
LISTED = {
    "Id": ID,
    "Names": ["/odd"],
    "Labels": LABELS,
    "Created": 1_700_000_000,
    "State": "running",
}
INSPECTED = {
    "Id": ID,
    "Name": "/odd",
    "Config": {"Labels": LABELS},
    "Created": "2023-11-14T22:13:20.123456789Z",
    "State": {"Status": "running"},
}
SANE: dict[tuple[str, str], tuple[int, Any]] = {
    ("GET", "version"): (200, {"ApiVersion": "1.41"}),
    ("GET", "_ping"): (200, "OK"),
    ("GET", "json"): (200, [LISTED]),
    ("GET", "inspect"): (200, INSPECTED),
    ("POST", "stop"): (204, ""),
    ("DELETE", "container"): (204, ""),
}
"""What a sane engine with one container answers, by the kind of the request."""

HANG = (0, "")
"""The answer that never comes."""

Answers = dict[tuple[str, str], tuple[int, Any]]


def kind(path: str) -> str:
    """What a request is about."""
    last = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    if last == ID:
        return "container"
    return "inspect" if f"/{ID}/json" in path else last


@contextmanager
def odd_engine(
    changes: Mapping[str, tuple[int, Any]] | None = None,
    *,
    requests: list[str] | None = None,
    **changed: tuple[int, Any],
) -> Iterator[str]:
    """Serve a sane engine but for the answers to requests like `GET_version`; yield its address.

    The addresses that are asked for are added to `requests`.
    """
    answers: Answers = SANE | {
        (method, about): answer
        for name, answer in {**(changes or {}), **changed}.items()
        for method, _, about in [name.partition("_")]
    }
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            if requests is not None:
                requests.append(self.path)
            status, content = answers[self.command, kind(self.path)]
            if not status:
                over.wait()
                self.close_connection = True
                return
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names are the library's

        def log_message(self, *_arguments: Any) -> None:
            """Keep silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(reply: Callable[[socket.socket], None]) -> Iterator[str]:
    """Let `reply` deal with each connection; yield the server's address."""
    over = Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(10)
                    reply(connection)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """Accept connections and never answer; yield the server's address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def closed_port() -> str:
    """Return an address without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"
