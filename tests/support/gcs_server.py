"""A small Google Cloud Storage: what the JSON API says to list, read, write and delete.

The emulators that can be installed know no generations. This one does, with holds, retention,
pages, object versioning, and the errors in the words of the service. The real client talks to it
over HTTP.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from socket import SHUT_RDWR, socket
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.faults import Answer, Faults, Request
from tests.support.gate import Gate

PAGE = 1_000


@dataclass
class Generation:
    """One generation of an object; `live` until it is replaced or deleted."""

    name: str
    number: int
    content: str
    live: bool = True
    hold: bool = False
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))

    def resource(self) -> dict[str, Any]:
        """It, as the API shows it."""
        size = str(len(self.content))
        digest = md5(self.content.encode(), usedforsecurity=False).digest()
        return {"kind": "storage#object", "name": self.name, "generation": str(self.number)} | {
            "size": size,
            "temporaryHold": self.hold,
            "updated": f"{self.updated:%Y-%m-%dT%H:%M:%S.%fZ}",
            "md5Hash": b64encode(digest).decode(),
        }


@dataclass
class Objects:
    """One bucket."""

    versioned: bool = False
    generations: list[Generation] = field(default_factory=list)


@dataclass
class GcsServer:
    """Where the server is, what it holds, and what it should get wrong."""

    url: str = ""
    faults: Faults = field(default_factory=Faults)
    gate: Gate = field(default_factory=Gate)
    buckets: dict[str, Objects] = field(default_factory=dict)
    connections: list[socket] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1_700_000_000_000_001))
    _lock: Lock = field(default_factory=Lock)

    def put(self, bucket: str, name: str, content: str) -> Generation:
        """Write an object; the bucket keeps the one that was there if it is versioned."""
        with self._lock:
            objects = self.buckets[bucket]
            self._retire(objects, name)
            new = Generation(name, next(self._numbers), content)
            objects.generations.append(new)
        return new

    def create(self, bucket: str, body: bytes, content_type: str, query: dict[str, str]) -> Answer:
        """Answer objects.insert with its two parts: what the object is called, and its bytes."""
        boundary = b"--" + content_type.partition("boundary=")[2].strip("\"'").encode()
        described, content = (part.partition(b"\r\n\r\n")[2] for part in body.split(boundary)[1:3])
        name: str = json.loads(described)["name"]
        with self._lock:
            known = self.buckets[bucket].generations
            if query.get("ifGenerationMatch") == "0" and any(
                one.live and one.name == name for one in known
            ):
                message = "At least one of the pre-conditions you specified did not hold."
                return failure(412, "conditionNotMet", message)
        new = self.put(bucket, name, content.removesuffix(b"\r\n").decode())
        return Answer(200, json.dumps(new.resource()).encode())

    def get(self, bucket: str, name: str, query: dict[str, str]) -> Answer:
        """Answer objects.get: with the description of an object, or its bytes."""
        with self._lock:
            for one in self.buckets.get(bucket, Objects()).generations:
                if one.live and one.name == name:
                    if query.get("alt") == "media":
                        return Answer(200, one.content.encode(), "application/octet-stream")
                    return Answer(200, json.dumps(one.resource()).encode())
        return failure(404, "notFound", f"No such object: {bucket}/{name}")

    def list(self, bucket: str, query: dict[str, str]) -> Answer:
        """Answer objects.list."""
        with self._lock:
            if bucket not in self.buckets:
                return failure(404, "notFound", "The specified bucket does not exist.")
            found = sorted(
                (
                    one
                    for one in self.buckets[bucket].generations
                    if one.name.startswith(query.get("prefix", ""))
                    and (one.live or query.get("versions") == "True")
                ),
                key=lambda one: (one.name.encode(), one.number),
            )
        if delimiter := query.get("delimiter"):
            return self._folders(found, query.get("prefix", ""), delimiter, query)
        if after := query.get("pageToken"):
            number, _, name = after.partition(":")
            found = [
                one
                for one in found
                if (one.name.encode(), one.number) > (name.encode(), int(number))
            ]
        page = found[: int(query.get("maxResults", PAGE))]
        listing: dict[str, Any] = {"kind": "storage#objects"}
        if page:
            listing["items"] = [one.resource() for one in page]
        if len(found) > len(page):
            listing["nextPageToken"] = f"{page[-1].number}:{page[-1].name}"
        return Answer(200, json.dumps(listing).encode())

    def _folders(
        self, found: Sequence[Generation], prefix: str, delimiter: str, query: dict[str, str]
    ) -> Answer:
        """Answer a listing with a delimiter, a page of which holds as many folders as are asked."""
        below = [one.name.removeprefix(prefix) for one in found]
        names = sorted({name.partition(delimiter)[0] for name in below if delimiter in name})
        names = [name for name in names if name > query.get("pageToken", "")]
        page = names[: int(query.get("maxResults", PAGE))]
        listing: dict[str, Any] = {"kind": "storage#objects"}
        listing["items"] = [
            one.resource()
            for one, name in zip(found, below, strict=True)
            if delimiter not in name and "pageToken" not in query
        ]
        listing["prefixes"] = [f"{prefix}{name}{delimiter}" for name in page]
        if len(names) > len(page):
            listing["nextPageToken"] = page[-1]
        return Answer(200, json.dumps(listing).encode())

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> Answer:
        """Answer objects.delete: a generation for good, or the live one as the bucket has it."""
        with self._lock:
            objects = self.buckets.get(bucket, Objects())
            wanted = query.get("generation")
            found = [
                one
                for one in objects.generations
                if one.name == name and (str(one.number) == wanted if wanted else one.live)
            ]
            if not found:
                return failure(404, "notFound", f"No such object: {bucket}/{name}")
            if found[0].hold:
                return failure(
                    403,
                    "forbidden",
                    f"Object '{bucket}/{name}' is under active Temporary hold and cannot be"
                    " deleted, overwritten or archived until hold is removed.",
                )
            if wanted:
                objects.generations.remove(found[0])
            else:
                self._retire(objects, name)
        return Answer(204, b"")

    def _retire(self, objects: Objects, name: str) -> None:
        for one in [one for one in objects.generations if one.name == name and one.live]:
            one.live = False
            if not objects.versioned:
                objects.generations.remove(one)


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Serve for as long as the block lasts."""
    running = GcsServer()

    class Handler(_Handler):
        server_state = running

    with _Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        running.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
            for connection in running.connections:
                with suppress(OSError):
                    connection.shutdown(SHUT_RDWR)


def failure(status: int, reason: str, message: str = "no luck") -> Answer:
    """An error as the service answers it."""
    error = {"message": message, "domain": "global", "reason": reason}
    body = {"error": {"code": status, "message": message, "errors": [error]}}
    return Answer(status, json.dumps(body).encode())


class _Handler(BaseHTTPRequestHandler):
    server_state: GcsServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer in two packets would wait 40 ms for the second

    def setup(self) -> None:
        self.server_state.connections.append(self.request)
        super().setup()

    def do_GET(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(address.path)
        request = Request(self.command, path, address.query, body)
        answer = self.server_state.faults.of(request)
        if answer is None:
            with self.server_state.gate.passing(request):
                answer = self._truth(address.path, address.query, body)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _truth(self, path: str, asked: str, body: bytes) -> Answer:
        query = {name: values[0] for name, values in parse_qs(asked).items()}
        bucket, _, name = path.partition("/storage/v1/b/")[2].partition("/o")
        if self.command == "POST":
            kind = self.headers["Content-Type"]
            return self.server_state.create(unquote(bucket), body, kind, query)
        if self.command == "GET" and name:
            return self.server_state.get(unquote(bucket), unquote(name[1:]), query)
        if self.command == "GET":
            return self.server_state.list(unquote(bucket), query)
        return self.server_state.delete(unquote(bucket), unquote(name[1:]), query)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with five, clients that connect at the same time wait for a second
