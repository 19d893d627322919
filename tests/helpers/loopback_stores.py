"""A bucket of Google Cloud Storage and a data set of the Hugging Face hub on loopback: as much as is asked of them."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Mapping[str, bytes]
    asked: list[str]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        path, query = unquote(place.path), parse_qs(place.query)
        self.asked.append(path)
        content = self.content(path, query)
        headers = {"Content-Type": "application/json", "X-Error-Code": "EntryNotFound"}
        status = 404 if content is None else 200
        if content is not None and (ranged := self.headers.get("Range")):
            first, last = ranged.removeprefix("bytes=").split("-")
            size, content = len(content), content[int(first) : int(last) + 1]
            headers["Content-Range"], status = f"bytes {first}-{int(first) + len(content) - 1}/{size}", 206
        content = b'{"error": {"code": 404, "message": "no"}}' if content is None else content
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "X-Repo-Commit": "c" * 40}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def content(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
        raise NotImplementedError


class Bucket(_Handler):
    """The JSON interface of Google Cloud Storage."""

    def content(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
        if path.endswith("/o"):
            prefix = query.get("prefix", [""])[0]
            items = [
                {"name": name, "size": str(len(body)), "bucket": "bucket", "kind": "storage#object"}
                for name, body in self.files.items()
                if name.startswith(prefix)
            ]
            return json.dumps({"items": items}).encode()
        return self.files.get(path.partition("/o/")[2])


class DataSet(_Handler):
    """The hub's interface, with one data set."""

    def content(self, path: str, query: Mapping[str, list[str]]) -> bytes | None:
        if "/resolve/main/" in path:
            return self.files.get(path.partition("/resolve/main/")[2])
        if "/tree/main" in path:
            folder = path.partition("/tree/main")[2].strip("/")
            below = [name for name in self.files if name.startswith(f"{folder}/" if folder else "")]
            rest = {name: name[len(folder) :].lstrip("/") for name in below}
            whole = query["recursive"] == ["true"]
            found = [_file(name, self.files[name]) for name in below if whole or "/" not in rest[name]]
            folders = {name[: -len(rest[name])] + rest[name].partition("/")[0] for name in below if "/" in rest[name]}
            return json.dumps(found + [{"type": "directory", "path": each, "oid": "0"} for each in folders]).encode()
        return b'{"id": "org/name", "sha": "c", "siblings": []}' if path == "/api/datasets/org/name" else None


def _file(name: str, body: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(body), "oid": "0" * 40}


@contextmanager
def store_of(kind: type[_Handler], files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server, and the paths that it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (kind,), {"files": files, "asked": asked}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
