"""A server in front of another one that refuses a part of its addresses, as a broken one does."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

import httpx

from tests.support.http_server import serving

PASSED_ON = {"content-type", "authorization", "prefect-csrf-client", "prefect-csrf-token"}


@contextmanager
def refusing(
    address: str, path: str, status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR
) -> Iterator[str]:
    """Pass requests on to `address`, but for those to `path`; yield where to ask."""

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.path == path:
                self._answer(status, b"{}")
                return
            kind = {
                name: value for name, value in self.headers.items() if name.lower() in PASSED_ON
            }
            answer = client.request(
                self.command, f"{address}{self.path}", content=body, headers=kind
            )
            self._answer(answer.status_code, answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the library's names

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with httpx.Client(trust_env=False, timeout=30) as client, serving(Handler) as own:
        yield own
