"""An S3 in this process: moto's application behind a real HTTP server, with faults in front."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.support.faults import Answer, Faults, Request
from tests.support.gate import Gate


@dataclass
class S3Server:
    """Where the server is, and what it should get wrong."""

    url: str
    faults: Faults = field(default_factory=Faults)
    gate: Gate = field(default_factory=Gate)
    client: Any = None
    """A client that sees past the store that is tested; the server's user makes it."""


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve for as long as the block lasts."""
    moto = create_backend_app("s3")
    running = S3Server("")

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        request = Request(environ["REQUEST_METHOD"], path, query, body)
        answer = running.faults.of(request)
        if answer is None:
            with running.gate.passing(request):
                given: Iterable[bytes] = moto(environ, start_response)
            return given
        start_response(f"{answer.status} fault", [("Content-Type", answer.content_type)])
        return [answer.body]

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    running.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failure(status: int, code: str, message: str = "no luck") -> Answer:
    """An error as S3 answers it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(status, body.encode(), "application/xml")


def refused(keys: Iterable[str], code: str) -> Answer:
    """The answer to a bulk delete that refused these keys, whatever was to be deleted."""
    errors = "".join(
        f"<Error><Key>{key}</Key><Code>{code}</Code><Message>no luck</Message></Error>"
        for key in keys
    )
    body = f"<DeleteResult>{errors}</DeleteResult>"
    return Answer(200, body.encode(), "application/xml")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer in two packets would wait 40 ms for the second

    def log_request(self, *args: object) -> None:
        """Say nothing."""
