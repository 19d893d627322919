"""A hub on loopback: what huggingface.co answers for a few small models and data sets, with its faults on demand."""

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

import pytest

COMMIT = "c0ffee" + "0" * 34
_LFS = (".safetensors", ".bin", ".pt", ".tar", ".gz")


@dataclass
class Hub:
    """Repositories by name, each a mapping of file name to content, and what goes wrong."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of a body, then the connection is closed
    cuts: int = 0  # how many bodies are still to be cut
    sent: dict[str, bytes] = field(default_factory=dict)  # other contents than announced, by file name
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository → status and X-Error-Code
    refuse_bodies: int | None = None  # status for the content, not for the announcement
    revisions: set[str] = field(default_factory=set)  # that every repository has besides main
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    server: Any = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def storage(self) -> str:
        """The host with the large files, another than the hub's, as in life."""
        return f"http://localhost:{self.server.server_port}/storage"

    def bodies(self) -> list[str | None]:
        """The Range of every request for a large file's content."""
        return [ranged for method, path, ranged, _ in self.requests if method == "GET" and path.startswith("/storage")]

    def data_requests(self) -> list[tuple[str, str | None]]:
        """Path and Range of every request for a data set or a file of one, before it is redirected."""
        return [
            (path, ranged) for _, path, ranged, _ in self.requests if path.startswith(("/datasets/", "/api/datasets/"))
        ]


def etag_of(name: str, content: bytes) -> str:
    if name.endswith(_LFS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": etag_of("", content)}
    if name.endswith(_LFS):
        row["lfs"] = {"size": len(content), "sha256": etag_of(name, content), "pointerSize": 130}
    return row


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        if match := re.fullmatch(r"/storage/([^/]+/[^/]+)/(.+)", path):
            return self._body(match[1], match[2])
        if match := re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1], match[2] or "main")
        if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3])
        return self._refuse(404, "RepoNotFound")

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if self._wrong(repo, revision):
            return None
        content = self.hub.repos[repo].get(name)
        if content is None:
            return self._refuse(404, "EntryNotFound")
        etag = etag_of(name, content)
        if not name.endswith(_LFS):
            return self._answer(200, self.hub.sent.get(name, content), {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        return self._answer(
            302,
            b"",
            {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{etag}"',
                "X-Linked-Size": str(len(content)),
                "Location": f"{self.hub.storage}/{repo}/{name}",
            },
        )

    def _info(self, repo: str, revision: str) -> None:
        if self._wrong(repo, revision):
            return
        files = [_sibling(name, content) for name, content in sorted(self.hub.repos[repo].items())]
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": files, "tags": [], "private": False}
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _wrong(self, repo: str, revision: str) -> bool:
        if repo in self.hub.refuse:
            self._refuse(*self.hub.refuse[repo])
        elif repo not in self.hub.repos:
            self._refuse(401, "RepoNotFound")  # so that nobody learns which private ones there are
        elif revision not in ("main", COMMIT, *self.hub.revisions):
            self._refuse(404, "RevisionNotFound")
        else:
            return False
        return True

    def _body(self, repo: str, name: str) -> None:
        hub, content = self.hub, self.hub.sent.get(name, self.hub.repos[repo][name])
        if hub.refuse_bodies:
            return self._refuse(hub.refuse_bodies, "")
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].rstrip("-"))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        cut = hub.cut_after if hub.cuts > 0 else None
        hub.cuts -= 1
        return self._answer(206 if start else 200, content[start:], headers, cut=cut)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code} if code else {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A running hub that huggingface_hub takes for its own, with an empty cache, no token and no proxy."""
    running = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": running}))
    server.daemon_threads = True
    running.server = server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    use_endpoint(running.endpoint, tmp_path, monkeypatch)
    try:
        yield running
    finally:
        from huggingface_hub import close_session

        close_session()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`hub_at(address)` makes that address the hub."""
    return lambda endpoint: use_endpoint(endpoint, tmp_path, monkeypatch)


def use_endpoint(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub, in this process and in those that it starts, ask `endpoint`, with an empty cache."""
    from huggingface_hub import constants

    values = {"ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_TOKEN_PATH": str(tmp_path / "token")}
    for name, value in values.items():
        monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv({"ENDPOINT": "HF_ENDPOINT"}.get(name, name), value)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "notes"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "ZEROSHOT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
