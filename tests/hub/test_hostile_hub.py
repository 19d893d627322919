"""A hub that sends what no hub does: one sentence, exit 5, and nothing written outside the cache."""

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.utils import build_hf_headers

from zeroshot_cli.errors import UnavailableError, UsageError
from zeroshot_cli.hub import repository, settings, transfer
from zeroshot_cli.hub.repository import is_plain_name, list_files, list_names
from zeroshot_cli.models import download
from zeroshot_cli.models.registry import Published, find_published

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
COMMIT = "c0ffee" + "0" * 34
REPOSITORY = repository.Repository(REPO, None, "copy it", kind="model")

Answer = tuple[int, dict[str, str], Iterator[bytes]]


@pytest.fixture
def hostile(hub_at: Callable[[str], None]) -> Iterator[Callable[[Callable[[str, str], Answer]], SimpleNamespace]]:
    """`hostile(answer)` makes `answer(method, path)` the hub, and returns how many bytes it has sent."""
    servers = []

    def start(answer: Callable[[str, str], Answer]) -> SimpleNamespace:
        state = SimpleNamespace(sent=0)

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                status, headers, body = answer(self.command, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                try:
                    for chunk in body:
                        self.wfile.write(chunk)
                        state.sent += len(chunk)
                except OSError:
                    pass

            do_HEAD = do_GET  # noqa: N815

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        state.address = f"http://127.0.0.1:{server.server_port}"
        hub_at(state.address)
        return state

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def model() -> Published:
    return find_published("ViT-B-32")


def endless(limit: int, chunk: bytes = bytes(1 << 16)) -> Iterator[bytes]:
    """Yield more than any test should read."""
    for _ in range(limit // len(chunk)):
        yield chunk


def announces(size: int | None, content: bytes = b"") -> dict[str, str]:
    etag = hashlib.sha256(content).hexdigest()
    length = {} if size is None else {"X-Linked-Size": str(size)}
    return {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"', **length}


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_cut_at_its_announced_size(
    packed: bool, hostile: Any, model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = []
    real = transfer._copy

    def copied(response: Any, file: Any, bar: Any, most: int) -> None:
        real(response, file, bar, most)
        largest.append(file.tell())

    monkeypatch.setattr(transfer, "_copy", copied)
    bomb = gzip.compress(bytes(50 << 20))
    headers = announces(2000) | ({"Content-Encoding": "gzip"} if packed else {})
    state = hostile(lambda *_: (200, headers, iter([bomb]) if packed else endless(200 << 20)))
    with pytest.raises(UnavailableError, match=r"sent another .* than it announced"):
        download.fetch_model(model)
    assert largest == [2000]
    assert state.sent < 50 << 20  # what the buffers of a connection hold
    assert not [name for name in tree(tmp_path) if name.endswith("incomplete")]


def test_a_file_without_a_size_is_cut_too(
    hostile: Any, model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MOST_BYTES", 3 << 20)
    hostile(lambda *_: (200, announces(None), endless(200 << 20)))
    with pytest.raises(UnavailableError, match="file without end"):
        download.fetch_model(model)
    assert all(size < 1000 for size in tree(tmp_path / "hub").values())


@pytest.mark.parametrize("status", [200, 500])
def test_a_description_or_an_error_page_without_end(status: int, hostile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_MOST_TEXT", 1 << 20)
    state = hostile(lambda *_: (status, {"Content-Type": "application/json"}, endless(500 << 20)))
    with pytest.raises(UnavailableError, match="has more than 1 MiB" if status == 200 else "status 500"):
        list_names(REPOSITORY)
    assert state.sent < 50 << 20


DESCRIPTIONS: list[tuple[object, str]] = [
    (5, "names no commit"),
    ({"sha": 5}, "names no commit"),
    ({"sha": COMMIT, "siblings": 5}, "no list of files"),
    ({"sha": COMMIT, "siblings": [5]}, "names a file"),
    ({"sha": COMMIT, "siblings": [{"rfilename": 5}]}, "names a file '5'"),
    ({"sha": COMMIT, "siblings": [{"rfilename": "a", "lfs": 5}]}, "names a file 'a'"),
    *(
        ({"sha": COMMIT, "siblings": [{"rfilename": name}]}, "names a file")
        for name in ("../x", "a/../../x", "/etc/x", "..\\..\\x.json", "tokenizer\\..\\x.json", "a\nb", "\x1b[2J", "C:x")
    ),
]


@pytest.mark.parametrize(("document", "message"), DESCRIPTIONS)
def test_a_description_that_no_hub_gives(document: object, message: str, hostile: Any, tmp_path: Path) -> None:
    hostile(lambda *_: (200, {}, iter([json.dumps(document).encode()])))
    for ask in (list_names, list_files):
        with pytest.raises(UnavailableError, match=message) as caught:
            ask(REPOSITORY)
        assert str(caught.value).isprintable()
    with pytest.raises(UnavailableError):
        download.fetch_repo(f"hf-hub:{REPO}")
    assert not list(tmp_path.rglob("x*"))


@pytest.mark.parametrize("body", [b"[" * 200_000, b"\xff\xfe", b"{", b'{"sha": ' + b"9" * 6000 + b"}"])
def test_a_description_that_is_no_json(body: bytes, hostile: Any) -> None:
    hostile(lambda *_: (200, {}, iter([body])))
    with pytest.raises(UnavailableError, match="is no JSON"):
        list_names(REPOSITORY)


def test_hashes_that_are_numbers_are_no_files(hostile: Any) -> None:
    siblings = [
        {"rfilename": "a.tar", "size": 3, "lfs": {"sha256": 5}},
        {"rfilename": "b.tar", "size": "3", "blobId": "a" * 40},
        {"rfilename": "c.tar", "size": -3, "blobId": "a" * 40},
        {"rfilename": "d.tar", "size": 3, "blobId": "../../x"},
        {"rfilename": "e.tar", "size": 3, "blobId": "a" * 40},
    ]
    hostile(lambda *_: (200, {}, iter([json.dumps({"sha": COMMIT, "siblings": siblings}).encode()])))
    assert [file.name for file in list_files(REPOSITORY)[1]] == ["e.tar"]


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://example.com/x", "http://\x01/", "http://[::1/", "//", "http://" + "a" * 70_000],
)
def test_a_redirect_to_what_is_no_address(target: str, hostile: Any, model: Published, tmp_path: Path) -> None:
    def answer(method: str, _: str) -> Answer:
        return (200 if method == "HEAD" else 302), announces(2000) | {"Location": target}, iter([])

    hostile(answer)
    with pytest.raises(UnavailableError) as caught:
        download.fetch_model(model)
    assert caught.value.exit_code == 5
    assert str(caught.value).isprintable()
    assert all(size < 3000 for size in tree(tmp_path).values())


@pytest.mark.parametrize("target", ["http://\x01\x1b[2J/", "/\x1b]0;x", "http://[", "\\\\..\\..\\x"])
def test_an_announcement_that_redirects_nowhere(target: str, hostile: Any, model: Published) -> None:
    hostile(lambda *_: (302, {"Location": target}, iter([])))
    with pytest.raises(UnavailableError) as caught:
        download.fetch_model(model)
    assert str(caught.value).isprintable()


def test_redirects_without_end(hostile: Any, model: Published) -> None:
    def answer(method: str, path: str) -> Answer:
        return (200 if method == "HEAD" else 302), announces(2000) | {"Location": path + "x"}, endless(100 << 20)

    state = hostile(answer)
    with pytest.raises(UnavailableError, match="redirects more than"):
        download.fetch_model(model)
    assert state.sent < 50 << 20


@pytest.mark.parametrize(
    ("source", "target", "refused"),
    [
        ("https://huggingface.co/a", "https://cdn-lfs.hf.co/a", False),
        ("https://huggingface.co/a", "http://cdn-lfs.hf.co/a", True),
        ("https://huggingface.co/a", "https://127.0.0.1/a", True),
        ("https://huggingface.co/a", "https://169.254.169.254/latest/meta-data", True),
        ("https://huggingface.co/a", "https://[::1]/a", True),
        ("https://huggingface.co/a", "https://localhost/a", True),
        ("https://huggingface.co/a", "https://192.168.1.1/a", True),
        ("http://10.0.0.7:8080/a", "http://10.0.0.8/a", False),
        ("http://127.0.0.1:99/a", "http://localhost:99/b", False),
        ("http://hub.example/a", "file:///etc/passwd", True),
    ],
)
def test_where_a_hub_may_redirect(source: str, target: str, refused: bool) -> None:
    request = transfer.hub_client().build_request
    addresses = request("GET", source).url, request("GET", target).url
    if refused:
        with pytest.raises(transfer.Nonsense, match="it redirects to"):
            transfer._check_redirect(*addresses)
    else:
        transfer._check_redirect(*addresses)


@pytest.mark.parametrize("size", ["-5", "x", "9" * 30])
def test_a_size_that_is_none(size: str, hostile: Any, model: Published, tmp_path: Path) -> None:
    headers = announces(None) | {"X-Linked-Size": size}
    hostile(lambda *_: (200, headers, iter([b"abc"])))
    with pytest.raises((UnavailableError, UsageError)):
        download.fetch_model(model)
    assert all(size < 1000 for size in tree(tmp_path).values())


@pytest.mark.parametrize("name", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "inf", "1e10", "4.5", "9" * 400])
def test_a_patience_that_is_no_number(
    name: str, value: str, hub: Any, model: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}=.* is not a number of seconds: give a whole number") as caught:
        download.fetch_model(model)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "address", ["http://a\x01b", "x", "file:///etc", "http://", "http://a b", "http:\\\\a", "\x1b[2J"]
)
def test_an_address_that_is_none(address: str, model: Published, hub_at: Callable[[str], None]) -> None:
    hub_at(address)
    with pytest.raises(UsageError, match=r"HF_ENDPOINT=.* is not the address of a hub") as caught:
        download.fetch_model(model)
    assert str(caught.value).isprintable()


def test_requests_do_not_say_what_else_runs_here() -> None:
    transfer.hub_client()
    agent = build_hf_headers()["user-agent"]
    assert "hf_hub/" in agent
    assert "torch" not in agent
    assert "agent/" not in agent


def test_a_variable_that_huggingface_hub_cannot_read_is_named_by_the_command() -> None:
    import os
    import subprocess
    import sys

    environment = os.environ | {"HF_HUB_ETAG_TIMEOUT": "x"}
    command = [sys.executable, "-m", "zeroshot_cli", "models", "download", "ViT-B-32"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: HF_HUB_ETAG_TIMEOUT=x is not a number of seconds")
    assert done.stderr.count("\n") == 1
    assert settings.ANSWER_SECONDS == 4


@pytest.mark.parametrize("revision", ["a\x00b", "a b", "a\\b", "a//b", "a/", "\x1b", "-x", "..", "a..b"])
def test_a_revision_that_is_none(revision: str) -> None:
    with pytest.raises(UsageError, match="names no revision"):
        repository.parse_repo(f"hf-hub:org/repo@{revision}")


def test_names_of_real_repositories_are_plain() -> None:
    for name in ("open_clip_model.safetensors", ".gitattributes", "1_Pooling/config.json", "a b (1).json", "modèle.pt"):
        assert is_plain_name(name)
