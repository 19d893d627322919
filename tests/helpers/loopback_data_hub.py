"""A hub on loopback with data set repositories, and its faults on demand."""

import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import loopback_hub as loopback
import pytest

COMMIT = "da7a5e7" + "0" * 33


@dataclass
class DataHub:
    """Repositories by name, each a mapping of file name to content, and what goes wrong."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)  # other contents than announced, by file name
    cut_after: int | None = None  # bytes of a body, then the connection is closed
    cuts: int = 0  # how many bodies are still to be cut
    status: int | None = None  # of every answer
    gated: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range
    server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: DataHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if "datasets/" in path:  # not what huggingface_hub asks for itself
            self.hub.requests.append((path, self.headers.get("Range")))
        if self.hub.status is not None:
            return self._answer(self.hub.status, b"{}", {"X-Error-Code": "GatedRepo"} if self.hub.gated else {})
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1])
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(match[1], match[2])
        return self._answer(404, b"{}", {})

    def _info(self, repo: str) -> None:
        if repo not in self.hub.repos:
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        siblings = [_sibling(name, content) for name, content in self.hub.repos[repo].items()]
        info = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
        return self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, name: str) -> None:
        hub = self.hub
        if name not in hub.repos.get(repo, {}):
            return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        content = hub.sent.get(name, hub.repos[repo][name])
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cut = hub.cut_after if hub.cuts > 0 else None
        hub.cuts -= 1
        return self._answer(206 if start else 200, content[start:], headers, cut=cut)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith((".tar", ".gz")):
        row["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
    return row


@pytest.fixture
def data_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataHub]:
    """A running hub of data sets that huggingface_hub takes for its own."""
    running = DataHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": running}))
    server.daemon_threads = True
    running.server = server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    loopback.use_endpoint(running.endpoint, tmp_path, monkeypatch)
    monkeypatch.delenv("ZEROSHOT_DATA_DIR", raising=False)
    try:
        yield running
    finally:
        from huggingface_hub import close_session

        close_session()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def data_hub_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`data_hub_at(address)` makes that address the hub."""
    return lambda endpoint: loopback.use_endpoint(endpoint, tmp_path, monkeypatch)
