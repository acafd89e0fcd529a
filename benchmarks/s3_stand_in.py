"""An S3 that answers every request after a fixed delay, and any number of them at the same time.

It keeps the names and sizes of one bucket's objects in memory and has what a purge asks for: both
listings, bulk deletes, and the small objects that markers are. A request costs it about a tenth of
a millisecond, so that it is not what is measured; moto needs several.

`python -m benchmarks.s3_stand_in DIRECTORY [--delay-ms 20]` begins with a directory's files, prints
its address, and ends when its standard input does. `GET /` answers with what it has counted.
"""

import argparse
import asyncio
import json
import sys
from bisect import bisect_left, insort
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

TIME = "2026-01-01T00:00:00.000Z"
MOST = 1_000
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
REASONS = {200: "OK", 404: "Not Found", 501: "Not Implemented"}


class Objects:
    """The objects of one bucket, and the requests for them."""

    def __init__(self, sizes: dict[str, int]) -> None:
        """Begin with objects of these sizes, by their keys."""
        self._sizes = sizes
        self._keys = sorted(sizes)  # a deleted one stays here
        self._contents: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0

    def summary(self) -> bytes:
        """Return what was counted, as JSON; the most in flight since this was asked before."""
        seen = {"requests": self.counts, "most": self.most_in_flight, "left": len(self._sizes)}
        self.most_in_flight = 0
        return json.dumps(seen).encode()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer to a request."""
        parts = urlsplit(target)
        query = {
            name: values[0]
            for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        if method == "POST" and "delete" in query:
            self.counts["bulk deletes"] += 1
            return self._delete(body)
        if method == "PUT":
            self.counts["writes"] += 1
            return self._write(key, body)
        if method != "GET":
            return 501, b""
        if key:
            self.counts["reads"] += 1
            found = self._contents.get(key)
            return (404, _missing()) if found is None else (200, found)
        kind = "versions" if "versions" in query else "objects"
        self.counts[f"listings of {kind}"] += 1
        return 200, self._listing(query, versions=kind == "versions")

    def _listing(self, query: dict[str, str], *, versions: bool) -> bytes:
        prefix = query.get("prefix", "")
        after = query.get("key-marker", query.get("continuation-token", ""))
        most = min(int(query.get("max-keys", MOST)), MOST)
        place = bisect_left(self._keys, max(prefix, after + "\0" if after else ""))
        found: list[str] = []
        while place < len(self._keys) and self._keys[place].startswith(prefix):
            if self._keys[place] in self._sizes:
                if len(found) == most:
                    break
                found.append(self._keys[place])
            place += 1
        else:
            most = -1  # the last page
        tag, identity = ("Version", "<VersionId>null</VersionId>") if versions else ("Contents", "")
        shown = "".join(
            f"<{tag}><Key>{escape(key)}</Key>{identity}<LastModified>{TIME}</LastModified>"
            f"<Size>{self._sizes[key]}</Size></{tag}>"
            for key in found
        )
        ends = "<IsTruncated>false</IsTruncated>"
        if most > 0:
            last = escape(found[-1])
            ends = f"<NextContinuationToken>{last}</NextContinuationToken>"
            if versions:
                ends = f"<NextKeyMarker>{last}</NextKeyMarker>"
                ends += "<NextVersionIdMarker>null</NextVersionIdMarker>"
            ends += "<IsTruncated>true</IsTruncated>"
        root = "ListVersionsResult" if versions else "ListBucketResult"
        return f"<{root}>{ends}{shown}</{root}>".encode()

    def _delete(self, body: bytes) -> tuple[int, bytes]:
        for one in ET.fromstring(body).iter():  # noqa: S314 - our own client's
            if one.tag.endswith("Key"):
                self._sizes.pop(one.text or "", None)
                self._contents.pop(one.text or "", None)
                self.counts["objects deleted"] += 1
        return 200, b"<DeleteResult></DeleteResult>"

    def _write(self, key: str, body: bytes) -> tuple[int, bytes]:
        if key not in self._sizes and self._missing_name(key):
            insort(self._keys, key)
        self._sizes[key], self._contents[key] = len(body), body
        return 200, b""

    def _missing_name(self, key: str) -> bool:
        place = bisect_left(self._keys, key)
        return place == len(self._keys) or self._keys[place] != key


class Connection(asyncio.Protocol):
    """One connection; its client sends the next request when it has the answer to the last one."""

    def __init__(self, objects: Objects, delay: float) -> None:
        """Take what it serves."""
        self._objects = objects
        self._delay = delay
        self._received = b""
        self._asked_to_continue = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP server
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer, once a request is complete, after the delay."""
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        if len(body) < int(headers.get("content-length", 0)):
            if "expect" in headers and not self._asked_to_continue:
                self._asked_to_continue = True
                self._send(CONTINUE)
            return
        self._received, self._asked_to_continue = b"", False
        method, target, _ = first.split(" ", 2)
        if target == "/":
            self._send(_message(200, self._objects.summary()))
            return
        self._objects.in_flight += 1
        self._objects.most_in_flight = max(self._objects.most_in_flight, self._objects.in_flight)
        answer = _message(*self._objects.answer(method, target, body))
        asyncio.get_running_loop().call_later(self._delay, self._end, answer)

    def _end(self, answer: bytes) -> None:
        self._objects.in_flight -= 1
        self._send(answer)

    def _send(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(message)


def _message(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/xml\r\n\r\n" + body


def _missing() -> bytes:
    return b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"


def sizes_in(directory: Path) -> dict[str, int]:
    """Return the sizes of a directory's files by their keys."""
    return {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
    }


async def serve(objects: Objects, delay: float) -> None:
    """Serve on a free port of the loopback until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(objects, delay), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve a directory's files as objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--delay-ms", type=float, default=20)
    options = parser.parse_args()
    asyncio.run(serve(Objects(sizes_in(options.directory)), options.delay_ms / 1_000))


if __name__ == "__main__":
    main()
