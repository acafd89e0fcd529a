"""A server in front of another one that refuses a part of its addresses, as a broken one does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PASSED_ON = {"content-type", "authorization", "prefect-csrf-client", "prefect-csrf-token"}


@contextmanager
def refusing(address: str, path: str) -> Iterator[str]:
    """Pass requests on to `address`, but for those to `path`; yield where to ask."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.path == path:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"{}")
                return
            kind = {
                name: value for name, value in self.headers.items() if name.lower() in PASSED_ON
            }
            with httpx.Client(trust_env=False, timeout=30) as client:
                answer = client.request(
                    self.command, f"{address}{self.path}", content=body, headers=kind
                )
            self._answer(answer.status_code, answer.content)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
