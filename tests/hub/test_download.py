"""Downloads from a hub on loopback; huggingface_hub itself judges the cache that we leave."""

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir

from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.hub import cache, repository, transfer
from zeroshot_cli.models import download
from zeroshot_cli.models.registry import Published, find_published

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
CONTENT = bytes(range(256)) * 8000  # 2 MB


@pytest.fixture
def model(hub: Any) -> Published:
    hub.repos[REPO] = {WEIGHTS: CONTENT, "open_clip_config.json": b"{}", "README.md": b"# CLIP"}
    return find_published("ViT-B-32")


def blobs(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.glob("hub/*/blobs/*")}


def test_a_file_comes_once_and_lies_where_huggingface_hub_looks(hub: Any, model: Published, tmp_path: Path) -> None:
    path = download.fetch_model(model)
    assert path.read_bytes() == CONTENT
    assert blobs(tmp_path) == {hashlib.sha256(CONTENT).hexdigest()}
    asked = len(hub.requests)
    assert download.fetch_model(model) == download.fetch_model(model, offline=True) == path
    assert len(hub.requests) == asked
    assert hf_hub_download(REPO, WEIGHTS, cache_dir=tmp_path / "hub", local_files_only=True) == str(path)
    report = scan_cache_dir(tmp_path / "hub")
    assert not report.warnings
    assert {(repo.repo_id, repo.size_on_disk) for repo in report.repos} == {(REPO, len(CONTENT))}


def test_the_cache_of_huggingface_hub_is_taken_as_it_is(hub: Any, model: Published, tmp_path: Path) -> None:
    theirs = hf_hub_download(REPO, WEIGHTS, cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    hub.requests.clear()
    assert download.fetch_model(model) == Path(theirs)
    assert not hub.requests


def test_a_connection_that_is_cut_goes_on_where_it_stopped(hub: Any, model: Published) -> None:
    hub.cut_after, hub.cuts = 700_000, 2
    assert download.fetch_model(model).read_bytes() == CONTENT
    assert hub.bodies() == [None, "bytes=700000-", "bytes=1400000-"]


def test_a_second_call_goes_on_where_the_first_gave_up(hub: Any, model: Published, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 700_000, 1
    original = hub.server.RequestHandlerClass._body

    def cut_then_refuse(self: Any, repo: str, name: str) -> None:
        hub.refuse_bodies = None if hub.cuts else 503
        original(self, repo, name)

    hub.server.RequestHandlerClass._body = cut_then_refuse
    with pytest.raises(UnavailableError, match=r"status 503.*zeroshot models download ViT-B-32:laion2b_s34b_b79k --to"):
        download.fetch_model(model)
    assert blobs(tmp_path) == {hashlib.sha256(CONTENT).hexdigest() + ".zeroshot-incomplete"}
    assert download.cached_model(model) is None  # half a file is no file
    with pytest.raises(UnavailableError, match="not on this machine"):
        download.fetch_model(model, offline=True)
    hub.server.RequestHandlerClass._body = original
    hub.refuse_bodies = None
    hub.requests.clear()
    assert download.fetch_model(model).read_bytes() == CONTENT
    assert hub.bodies() == ["bytes=700000-"]


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "http://127.0.0.1:80x", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_named(
    proxy: str, hub: Any, model: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import close_session

    close_session()
    monkeypatch.setenv("ALL_PROXY", proxy)
    try:
        with pytest.raises(UnavailableError, match=r"correct ALL_PROXY, HTTPS_PROXY or HTTP_PROXY"):
            download.fetch_model(model)
    finally:
        close_session()
    monkeypatch.delenv("ALL_PROXY")
    assert download.fetch_model(model).read_bytes() == CONTENT


@pytest.mark.parametrize("earlier", [b"x" * 1000, CONTENT + b"more"])
def test_what_an_earlier_download_left_wrong_is_thrown_away(
    earlier: bytes, hub: Any, model: Published, tmp_path: Path
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    left = tmp_path / "hub" / f"models--{REPO.replace('/', '--')}" / "blobs" / f"{digest}.zeroshot-incomplete"
    left.parent.mkdir(parents=True)
    left.write_bytes(earlier)
    assert download.fetch_model(model).read_bytes() == CONTENT


@pytest.mark.parametrize("name", [WEIGHTS, "open_clip_config.json"])  # SHA-256; git's SHA-1
def test_content_of_another_hash_is_refused(name: str, hub: Any, model: Published, tmp_path: Path) -> None:
    announced = hub.repos[REPO][name]
    hub.sent[name] = b"y" * len(announced)  # of the right size, which is all that huggingface_hub looks at
    with pytest.raises(UnavailableError, match=rf"sent another {name} .* than it announced"):
        download.fetch_file(REPO, name)
    assert not blobs(tmp_path)
    hub.sent.clear()
    assert download.fetch_file(REPO, name).read_bytes() == announced


def test_a_cached_file_is_hashed_once_before_it_is_used(
    hub: Any, model: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Path(hf_hub_download(REPO, WEIGHTS, cache_dir=tmp_path / "hub", endpoint=hub.endpoint))
    theirs.resolve().write_bytes(b"z" + CONTENT[1:])
    with pytest.raises(CheckpointError, match=f"{WEIGHTS} in the download cache was damaged.*has been removed"):
        download.fetch_model(model)
    assert not blobs(tmp_path)
    hf_hub_download(REPO, WEIGHTS, cache_dir=tmp_path / "hub", endpoint=hub.endpoint)
    assert download.fetch_model(model).read_bytes() == CONTENT
    monkeypatch.setattr("zeroshot_cli.hub.hashes.fits", lambda *_: pytest.fail("hashed again"))
    assert download.fetch_model(model).read_bytes() == CONTENT


def test_a_file_that_changed_since_is_hashed_again(hub: Any, model: Published) -> None:
    path = download.fetch_model(model)
    path.resolve().write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        download.fetch_model(model)


def test_pickles_are_second_choice(hub: Any, model: Published) -> None:
    hub.repos[REPO] = {"open_clip_pytorch_model.bin": CONTENT}
    assert download.fetch_model(model).name == "open_clip_pytorch_model.bin"


def test_the_token_goes_to_the_hub_alone(hub: Any, model: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download.fetch_model(model)
    seen = {path.startswith("/storage"): token for _, path, _, token in hub.requests}
    assert seen == {False: "Bearer hf_secret", True: None}


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (403, "GatedRepo", r"is gated: accept its terms at http://127\.0\.0\.1:\d+/laion/"),
        (401, "RepoNotFound", "has no model laion/.* that you may see"),
        (404, "RevisionNotFound", "has no revision"),
        (403, "", r"refuses laion/.* \(status 403\): set HF_TOKEN"),
        (503, "", r"cannot serve laion/.* now \(status 503\): try again later, or where there is a network"),
        (429, "", "status 429"),
    ],
)
def test_refusals(status: int, code: str, sentence: str, hub: Any, model: Published) -> None:
    hub.refuse[REPO] = (status, code)
    with pytest.raises(UnavailableError, match=sentence):
        download.fetch_model(model)


def test_missing_files_and_revisions(hub: Any, model: Published) -> None:
    with pytest.raises(repository.MissingFile, match=r"has no file vocab\.txt"):
        download.fetch_file(REPO, "vocab.txt")
    with pytest.raises(UnavailableError, match="has no revision 'v9'"):
        download.fetch_file(f"{REPO}@v9", WEIGHTS)


def test_offline(hub: Any, model: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    for offline in (True, False):
        with pytest.raises(UnavailableError, match=r"downloads are off: .*--to DIR .*--model small needs no network"):
            download.fetch_model(model, offline=offline)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub.requests


@pytest.fixture
def silence() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_hub_that_does_not_answer(silence: str, hub_at: Callable[[str], None]) -> None:
    hub_at(silence)
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"cannot download {WEIGHTS} of .*--to DIR .*--model small"):
        download.fetch_model(find_published("ViT-B-32"))
    assert time.monotonic() - start < 8


def test_a_closed_port(hub_at: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    hub_at(f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=r"refused.*ViT-B-32:openai --to DIR"):
        download.fetch_model(find_published("ViT-B/32", "openai"))
    assert time.monotonic() - start < 2


def test_a_name_that_nobody_resolves(hub_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver keeps its caller for half a minute, and no timeout of a socket counts that."""
    hub_at("http://hub.invalid")
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and None)
    monkeypatch.setattr(transfer, "RESOLVE_SECONDS", 0.3)
    try:
        with pytest.raises(UnavailableError, match=r"hub.invalid is not resolved within.*--model small"):
            download.fetch_repo("hf-hub:org/repo")
    finally:
        release.set()


def test_a_page_of_a_portal_is_no_hub(hub: Any, model: Published) -> None:
    def portal(self: Any) -> None:
        self._answer(200, b"<html>please log in</html>", {"Content-Type": "text/html"})

    hub.server.RequestHandlerClass.do_GET = portal
    for fetch in (lambda: download.fetch_model(model), lambda: download.fetch_repo(REPO)):
        with pytest.raises(UnavailableError, match="does not answer as a hub does"):
            fetch()


# Whole repositories


SIGLIP = {
    WEIGHTS: CONTENT,
    "open_clip_pytorch_model.bin": b"pickle" * 9,
    "open_clip_config.json": b'{"model_cfg": {}}',
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "special_tokens_map.json": b"{}",
    "spiece.model": b"pieces",
    "README.md": b"# SigLIP",
    "assets/photo.jpg": b"jpeg",
}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_becomes_a_folder(hub: Any, tmp_path: Path) -> None:
    hub.repos["org/siglip"] = SIGLIP
    folder = download.fetch_repo("hf-hub:org/siglip")
    assert names(folder) == set(SIGLIP) - {"open_clip_pytorch_model.bin", "README.md", "assets/photo.jpg"}
    asked = len(hub.requests)
    assert download.fetch_repo("org/siglip") == download.fetch_repo("org/siglip", offline=True) == folder
    assert download.fetch_tokenizer("org/siglip") == folder
    assert len(hub.requests) == asked
    assert not scan_cache_dir(tmp_path / "hub").warnings


def test_a_tokenizer_alone(hub: Any) -> None:
    hub.repos["org/siglip"] = SIGLIP
    folder = download.fetch_tokenizer("org/siglip")
    assert names(folder) == {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model"}
    assert download.fetch_tokenizer("org/siglip", offline=True) == folder
    with pytest.raises(UnavailableError, match="org/siglip is not on this machine"):
        download.fetch_repo("org/siglip", offline=True)
    assert WEIGHTS in names(download.fetch_repo("org/siglip"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"}, {"model.safetensors"}),
        (
            {
                "config.json",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "pytorch_model.bin",
            },
            {
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            },
        ),
        ({"config.json", "mobileclip_s1.pt"}, {"mobileclip_s1.pt"}),
    ],
)
def test_one_set_of_weights_is_taken(files: set[str], expected: set[str], hub: Any) -> None:
    hub.repos["org/model"] = {name: name.encode() for name in files}
    assert names(download.fetch_repo("org/model")) == expected | {"config.json"}


def test_a_repository_in_part_is_completed_or_else_refused(hub: Any) -> None:
    hub.repos["org/siglip"] = SIGLIP
    path = download.fetch_file("org/siglip", "open_clip_config.json")
    with pytest.raises(UnavailableError, match="not on this machine"):
        download.fetch_repo("org/siglip", offline=True)
    assert download.fetch_repo("org/siglip") == path.parent
    assert (path.parent / "tokenizer.json").is_file()


def test_a_repository_without_weights(hub: Any) -> None:
    hub.repos["org/data"] = {"README.md": b"", "train.parquet": b""}
    with pytest.raises(UnavailableError, match="org/data holds nothing that zeroshot can load"):
        download.fetch_repo("hf-hub:org/data")


def test_revisions(hub: Any) -> None:
    hub.repos["org/siglip"] = SIGLIP
    commit = download.fetch_repo("org/siglip").name
    asked = len(hub.requests)
    assert download.fetch_repo(f"hf-hub:org/siglip@{commit}").name == commit
    assert len(hub.requests) == asked
    with pytest.raises(UnavailableError, match="has no revision 'v9'"):
        download.fetch_repo("hf-hub:org/siglip@v9")


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:a/b/c", "hf-hub:../x", "hf-hub:org/re po"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        download.fetch_repo(name)


def test_remove(hub: Any, model: Published, tmp_path: Path) -> None:
    download.fetch_model(model)
    assert cache.remove(REPO) == len(CONTENT) + len(hub.repos and "c0ffee" + "0" * 34)  # the note of the branch
    assert download.cached_model(model) is None
    assert cache.remove(REPO) == 0


@pytest.mark.parametrize("revision", ["/etc", "../../x", "a/../../b"])
def test_a_revision_is_no_path(revision: str) -> None:
    with pytest.raises(UsageError, match="names no revision"):
        repository.parse_repo(f"hf-hub:org/repo@{revision}")


@pytest.mark.parametrize(("etag", "commit"), [("..", "c" * 40), ("a/b", "c" * 40), ("a" * 64, "../x")])
def test_a_hub_names_no_paths(etag: str, commit: str, hub: Any, model: Published, monkeypatch: Any) -> None:
    answer = SimpleNamespace(etag=etag, commit_hash=commit, size=1)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: answer)
    with pytest.raises(UnavailableError, match="does not answer as a hub does"):
        download.fetch_model(model)


def test_a_cache_that_is_no_folder(hub: Any, model: Published, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("")
    with pytest.raises(UsageError, match="set HF_HUB_CACHE"):
        download.fetch_model(model)


def test_a_server_that_starts_anew_each_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def cut(_: str, partial: Path, *__: Any) -> None:
        calls.append(partial)
        partial.write_bytes(b"x" * (10 + len(calls) % 2 * 5))

    monkeypatch.setattr(transfer, "_append", cut)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(transfer.Silence):
        transfer.receive("http://x", tmp_path / "file", size=100, label="file")
    assert len(calls) <= 7
