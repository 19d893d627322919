"""Weights from the Hugging Face hub into its own cache: resumed, checked by their hash, and never waited for long.

What the cache has is taken without asking anybody. A file gets its name there only when it is whole and its hash
is right; until then it is `<hash>.zeroshot-incomplete`, which the next call continues.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zeroshot_cli.display import size_text
from zeroshot_cli.errors import UnavailableError, UsageError
from zeroshot_cli.hub.hashes import check_cached, fits, is_remembered, remember
from zeroshot_cli.hub.transfer import (
    ANSWER_SECONDS,
    DEADLINE_SECONDS,
    hub_client,
    receive,
    transport_errors,
    within,
)
from zeroshot_cli.models.registry import Published

T = TypeVar("T")
HUB_PREFIX = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order of preference
_OTHER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of Transformers, each whole or in shards
_SHARD = re.compile(r"-\d+-of-\d+")
_TOKENIZER = re.compile(
    r"(tokenizer|special_tokens_map|added_tokens|vocab|merges|spiece|sentencepiece|config)[^/]*\.(json|txt|model)"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL = 1_000_000  # bytes that are here before a line about them is read
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+=-]*")  # what may be a file's name in the cache
_log = logging.getLogger(__name__)


class MissingFile(UnavailableError):
    """The repository has no file of that name."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A repository at a revision, and what the user asked for, as `zeroshot models download` takes it."""

    repo: str
    revision: str | None
    wanted: str

    @property
    def cache(self) -> Path:
        from huggingface_hub.constants import REPO_ID_SEPARATOR

        return hub_cache() / REPO_ID_SEPARATOR.join(("models", *self.repo.split("/")))

    @property
    def elsewhere(self) -> str:
        return (
            f"where there is a network, run zeroshot models download {self.wanted} --to DIR and bring DIR here for "
            "--model DIR; --model tiny needs no network"
        )


def fetch(
    repo: str,
    filename: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    refresh: bool = False,
    wanted: str | None = None,
) -> Path:
    """The path of one file of a hub repository, downloaded unless the cache has it; `refresh` asks for a newer one.

    `wanted` is what the user named, for the advice in errors. Raises UnavailableError where it is neither here nor
    to be had, MissingFile where the repository lacks it, CheckpointError where the cached copy was damaged.
    """
    source = _source(repo, revision, wanted)
    local = _cached(source, filename)
    if local is not None and not refresh:
        return check_cached(local)
    if is_offline(offline):
        raise UnavailableError(
            f"{filename} of {repo} is not on this machine, and downloads are off: {source.elsewhere}"
        )
    return _download(source, filename)


def fetch_model(published: Published, *, offline: bool = False, refresh: bool = False) -> Path:
    """The path of published weights, as safetensors where the hub has them; errors as `fetch`."""
    local = cached_model(published)
    if local is not None and not refresh:
        return check_cached(local)
    names = _names(published)
    for name in names[:-1]:
        try:
            return fetch(published.repo, name, offline=offline, refresh=refresh, wanted=published.name)
        except MissingFile:
            continue
    return fetch(published.repo, names[-1], offline=offline, refresh=refresh, wanted=published.name)


def fetch_repo(repo: str, *, offline: bool = False, refresh: bool = False) -> Path:
    """The folder of `org/repo[@revision]` (`hf-hub:` before it or not) with configuration, weights and tokenizer.

    Errors as `fetch`; a cached folder that was once whole is taken without asking.
    """
    return _fetch_folder(repo, _model_files, offline=offline, refresh=refresh)


def fetch_tokenizer(repo: str, *, offline: bool = False, wanted: str | None = None) -> Path:
    """The folder with the tokenizer's files of `org/repo[@revision]`; errors as `fetch`."""
    return _fetch_folder(repo, _tokenizer_files, offline=offline, wanted=wanted)


def cached_model(published: Published) -> Path | None:
    """Where published weights are on this machine, unchecked; nobody is asked."""
    source = _Source(published.repo, None, published.name)
    return next((path for name in _names(published) if (path := _cached(source, name))), None)


def model_files(folder: Path) -> list[str]:
    """The names of the files in a cached folder that a model needs, weights last."""
    return list(_model_files(_listed(folder)))


def tokenizer_files(folder: Path) -> list[str]:
    """The names of the files in a cached folder that a tokenizer needs."""
    return list(_tokenizer_files(_listed(folder)))


def remove(repo: str) -> int:
    """Delete what the cache has of a repository, also what is half there; the number of bytes that are free again."""
    folder = _source(repo, None, None).cache
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if folder.is_dir():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise _no_cache(error) from None
    return freed


def parse_repo(text: str) -> tuple[str, str | None]:
    """`hf-hub:org/repo@revision` → repository and revision. Raises UsageError for what cannot be one."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    repo, _, revision = text.removeprefix(HUB_PREFIX).partition("@")
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise UsageError(
            f"{text!r} names no repository: write {HUB_PREFIX}ORG/REPO or {HUB_PREFIX}ORG/REPO@REVISION"
        ) from None
    if revision.startswith(("/", "\\")) or ".." in revision:
        raise UsageError(f"{text!r} names no revision: write a branch, a tag or a commit after the @")
    return repo, revision or None


def hub_cache() -> Path:
    """The folder of huggingface_hub's cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline(offline: bool) -> bool:
    """Whether downloads are off: by the caller, or by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return offline or constants.HF_HUB_OFFLINE


# Folders: several files of one commit


def _fetch_folder(
    spec: str,
    choose: Callable[[Sequence[str]], Sequence[str]],
    *,
    offline: bool,
    refresh: bool = False,
    wanted: str | None = None,
) -> Path:
    """The snapshot that holds the files that `choose` takes from the repository's list."""
    repo, revision = parse_repo(spec)
    source = _source(repo, revision, wanted or HUB_PREFIX + spec.removeprefix(HUB_PREFIX))
    local = _snapshot(source)
    names = choose(_listed(local)) if local else ()
    if local and names and not refresh and (is_offline(offline) or is_remembered(local)):
        return _checked(local, names)
    if is_offline(offline):
        raise UnavailableError(f"{repo} is not on this machine, and downloads are off: {source.elsewhere}")
    try:
        info = _ask(source, None, _info)
    except _NoAnswer:
        if local and names:
            return _checked(local, names)
        raise
    names = choose([file.rfilename for file in info.siblings or ()])
    if not names:
        raise UnavailableError(
            f"{repo} holds nothing that zeroshot can load: name one of open_clip's or Transformers' CLIPs"
        )
    for name in names:
        fetch(repo, name, revision=info.sha, wanted=source.wanted)
    _write_ref(source, info.sha)
    folder: Path = source.cache / "snapshots" / info.sha
    remember(folder)  # another tool may leave a folder in part; what changes it makes it forgotten
    return folder


def _info(source: _Source) -> Any:
    """The commit and the file names of a repository."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    hub = HfApi(endpoint=constants.ENDPOINT)
    try:
        info = hub.model_info(source.repo, revision=source.revision, timeout=answer_seconds())
    except HfHubHTTPError:  # one of them is a ValueError too
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FileMetadataError("its answer describes no repository") from error
    if not info.sha or not _COMMIT.fullmatch(info.sha):
        raise FileMetadataError("its answer names no commit")
    return info


def _listed(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _checked(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        check_cached(folder / name)
    return folder


def _model_files(names: Sequence[str]) -> Sequence[str]:
    """What a model needs, weights last: whatever says what they are, and one set of them, the best."""
    weights = _weight_files(names)
    return [*_beside(names), *weights] if weights else []


def _beside(names: Sequence[str]) -> list[str]:
    known = (CONFIG, "preprocessor_config.json")
    return [name for name in names if name in known or _TOKENIZER.fullmatch(name)]


def _tokenizer_files(names: Sequence[str]) -> Sequence[str]:
    found = [name for name in names if _TOKENIZER.fullmatch(name)]
    return found if any(not name.startswith("config") for name in found) else []


def _weight_files(names: Sequence[str]) -> list[str]:
    """One set of weights: open_clip's, else Transformers' whole or in shards, else the only file of tensors."""
    for name in (*WEIGHTS, *_OTHER_WEIGHTS):
        if name in names:
            return [name]
        if f"{name}.index.json" in names:
            stem, suffix = Path(name).stem, Path(name).suffix
            shards = [file for file in names if _SHARD.fullmatch(file.removeprefix(stem).removesuffix(suffix))]
            return [f"{name}.index.json", *shards]
    for suffixes in ((".safetensors",), (".pt", ".pth", ".bin")):
        rest = [name for name in names if name.endswith(suffixes) and "/" not in name]
        if len(rest) == 1:
            return rest
    return []


# One file


def _source(repo: str, revision: str | None, wanted: str | None) -> _Source:
    parse_repo(repo)
    return _Source(repo, revision, wanted or HUB_PREFIX + repo + (f"@{revision}" if revision else ""))


def _names(published: Published) -> tuple[str, ...]:
    """The files that may hold published weights, safetensors first."""
    if published.filename is None:
        return WEIGHTS
    safe = str(Path(published.filename).with_suffix(".safetensors"))
    return tuple(dict.fromkeys((safe, published.filename)))


def _cached(source: _Source, filename: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, filename, cache_dir=hub_cache(), revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _snapshot(source: _Source) -> Path | None:
    """The cached folder of the source's revision."""
    revision = source.revision or "main"
    ref = source.cache / "refs" / revision
    commit = ref.read_text().strip() if ref.is_file() else revision
    folder = source.cache / "snapshots" / commit
    return folder if folder.is_dir() else None


def _download(source: _Source, filename: str) -> Path:
    """Fetch one file into the hub's cache, in the hub's layout."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    url, metadata = _ask(source, filename, partial(_metadata, filename=filename))
    blob = source.cache / "blobs" / metadata.etag
    lock = hub_cache() / ".locks" / source.cache.name / f"{metadata.etag}.lock"
    try:
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _receive_blob(source, filename, url=url, blob=blob, size=metadata.size)
            pointer = _link(source, filename, blob=blob, commit=metadata.commit_hash)
        _write_ref(source, metadata.commit_hash)
    except transport_errors():
        raise  # some are OSErrors too
    except OSError as error:
        raise _no_cache(error) from None
    return check_cached(pointer)


def _no_cache(error: OSError) -> UsageError:
    return UsageError(
        f"cannot write to {error.filename or hub_cache()} ({error.strerror or error}): set HF_HUB_CACHE to a folder "
        "that you can write to"
    )


def _metadata(source: _Source, *, filename: str) -> Any:
    """(address, what the hub says of the file)."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import FileMetadataError

    url = hf_hub_url(source.repo, filename, revision=source.revision, endpoint=constants.ENDPOINT)
    metadata = get_hf_file_metadata(url, timeout=answer_seconds(), endpoint=constants.ENDPOINT)
    if not metadata.etag or not metadata.commit_hash or not _PLAIN.fullmatch(metadata.etag):
        raise FileMetadataError("its answer has no ETag or commit")
    if not _COMMIT.fullmatch(metadata.commit_hash):
        raise FileMetadataError(f"its commit is {metadata.commit_hash!r}")
    return url, metadata


def _receive_blob(source: _Source, filename: str, *, url: str, blob: Path, size: int | None) -> None:
    """Download to `blob` under a temporary name, which it loses when the hash is right."""
    incomplete = blob.with_name(f"{blob.name}.zeroshot-incomplete")
    resumed = incomplete.exists()
    _need_space(incomplete, size)
    _announce(source, filename, size=size, have=incomplete.stat().st_size if resumed else 0)
    _ask(source, filename, lambda _: receive(url, incomplete, size=size, label=filename), patient=True)
    if resumed and not fits(incomplete, blob.name):  # the earlier part may have been another's
        incomplete.unlink()
        _ask(source, filename, lambda _: receive(url, incomplete, size=size, label=filename), patient=True)
    if not fits(incomplete, blob.name):
        incomplete.unlink()
        raise UnavailableError(
            f"{endpoint()} sent another {filename} of {source.repo} than it announced (its hash is not "
            f"{blob.name[:12]}…), and it was not kept: try again, or {source.elsewhere}"
        )
    incomplete.replace(blob)
    remember(blob)


def _announce(source: _Source, filename: str, *, size: int | None, have: int) -> None:
    """Log what is about to be downloaded, how large it is, and where it goes; on a terminal a bar shows the rest."""
    if size is not None and size - have < _SMALL:
        return
    here = f", {size_text(have)} of it here already" if have else ""
    large = "of a size that the hub does not say" if size is None else f"{size_text(size)}{here}"
    _log.info("downloading %s (%s: %s) from %s to %s", source.wanted, filename, large, endpoint(), hub_cache())


def _need_space(path: Path, size: int | None) -> None:
    need = (size or 0) - (path.stat().st_size if path.exists() else 0)
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise UsageError(
            f"{size_text(need)} do not fit into {hub_cache()}, which lacks {size_text(need - free)}: "
            "set HF_HUB_CACHE to a folder with more space"
        )


def _link(source: _Source, filename: str, *, blob: Path, commit: str) -> Path:
    """Give the blob its name in the commit's snapshot: a relative link, or the file itself where there are none."""
    pointer = source.cache / "snapshots" / commit / filename
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if pointer.exists():
        return pointer
    pointer.unlink(missing_ok=True)  # a link whose blob was removed
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)
    return pointer


def _write_ref(source: _Source, commit: str) -> None:
    """Note which commit a branch or tag is, as the hub's cache does."""
    revision = source.revision or "main"
    if revision == commit:
        return
    ref = source.cache / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    if not ref.is_file() or ref.read_text() != commit:
        ref.write_text(commit)


# What went wrong, in a sentence


class _NoAnswer(UnavailableError):
    """The hub is silent or out of order, which says nothing about the file."""


def _ask(source: _Source, filename: str | None, ask: Callable[[_Source], T], *, patient: bool = False) -> T:
    """What `ask` returns, soon unless `patient`; every failure of hub or network becomes an UnavailableError."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    try:
        hub_client()  # not within the deadline, a good part of which it takes on a busy machine
        return ask(source) if patient else within(deadline_seconds(), lambda: ask(source))
    except HfHubHTTPError as error:
        raise _refusal(source, filename, error) from error
    except FileMetadataError as error:
        raise _NoAnswer(f"{endpoint()} does not answer as a hub does ({error}): {source.elsewhere}") from error
    except transport_errors() as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        thing = f"{filename} of {source.repo}" if filename else source.repo
        raise _NoAnswer(f"cannot download {thing} from {endpoint()} ({reason}): {source.elsewhere}") from error


def _refusal(source: _Source, filename: str | None, error: Any) -> UnavailableError:
    """The hub's refusal in our words: what is wrong, and the way out."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, status = source.repo, error.response.status_code
    if isinstance(error, GatedRepoError):
        return UnavailableError(
            f"{repo} is gated: accept its terms at {endpoint()}/{repo}, then run hf auth login or set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return UnavailableError(
            f"{endpoint()} has no repository {repo} that it would show you: check the name, and if it is private "
            "run hf auth login or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return UnavailableError(f"{repo} has no revision {source.revision!r}: check what stands after the @")
    if isinstance(error, EntryNotFoundError):
        return MissingFile(f"{repo} has no file {filename}: is it a CLIP of open_clip or Transformers?")
    if status in (401, 403):
        return UnavailableError(
            f"{endpoint()} refuses {repo} (status {status}): set HF_TOKEN to a token that may read it"
        )
    if status == 404:  # the hub itself would say what is not there
        return _NoAnswer(f"{endpoint()} does not answer as a hub does (status 404): {source.elsewhere}")
    return _NoAnswer(f"{endpoint()} cannot serve {repo} now (status {status}): try again later, or {source.elsewhere}")


def endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def answer_seconds() -> float:
    """Patience for one step of an answer; HF_HUB_ETAG_TIMEOUT is the user's own."""
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_SECONDS)


def deadline_seconds() -> float:
    return DEADLINE_SECONDS * answer_seconds() / ANSWER_SECONDS
