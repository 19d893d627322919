"""A repository of the hub, of a model or of a data set: what it holds, one file of it, and what can go wrong."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zeroshot_cli.disk import open_own
from zeroshot_cli.display import shown
from zeroshot_cli.errors import UnavailableError, UsageError
from zeroshot_cli.hub.hashes import fits
from zeroshot_cli.hub.settings import answer_seconds, hub_settings
from zeroshot_cli.hub.transfer import (
    Nonsense,
    check_resolves,
    deadline_seconds,
    hub_client,
    read_json,
    receive,
    transport_errors,
    within,
)

HUB_PREFIX = "hf-hub:"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+=-]{0,127}")  # it becomes the name of a file in the cache
_REVISION = re.compile(r"\w[\w.+=-]*(/\w[\w.+=-]*)*")
_LONGEST_NAME = 500
_PLAIN_REPO = re.compile(r"(?!.*\.git$)(?=.{1,96}$)[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*/[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*")


class MissingFile(UnavailableError):
    """The repository has no file of that name."""


class NoAnswer(UnavailableError):
    """The hub is silent or out of order, which says nothing about the file."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a model or a data set at a revision.

    `advice` ends sentences about a hub that cannot be used: how to bring the files by other means. `wanted` is what
    the user named, where that is not the repository itself.
    """

    name: str
    revision: str | None
    advice: str
    kind: str = "dataset"
    wanted: str = ""

    @property
    def address(self) -> str:
        """Where people find it."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def url(self, filename: str) -> str:
        """Return the address of one file."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.name, filename, repo_type=self.kind, revision=self.revision, endpoint=endpoint())


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: size in bytes where it is known, and its hash, SHA-256 or git's SHA-1 of a blob."""

    name: str
    size: int | None
    hash: str


def parse_repo(text: str) -> tuple[str, str | None]:
    """Return repository and revision of `hf-hub:org/repo@revision`. Raises UsageError for what cannot be one."""
    hub_settings()
    repo, _, revision = text.removeprefix(HUB_PREFIX).partition("@")
    if not _PLAIN_REPO.fullmatch(repo) and not _is_repo(repo):
        raise UsageError(f"{text!r} names no repository: write {HUB_PREFIX}ORG/REPO or {HUB_PREFIX}ORG/REPO@REVISION")
    if revision and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise UsageError(f"{text!r} names no revision: write a branch, a tag or a commit after the @")
    return repo, revision or None


def _is_repo(name: str) -> bool:
    """Return whether the hub's library takes a name; importing it takes longer than listing all models."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def list_names(repository: Repository) -> tuple[str, list[str]]:
    """Return the commit that the revision is, and the names of its files. Raises UnavailableError."""
    commit, siblings = _info(repository, details=False)
    return commit, [file["rfilename"] for file in siblings]


def list_files(repository: Repository) -> tuple[str, list[RemoteFile]]:
    """Return the commit that the revision is, and its files with size and hash. Raises UnavailableError."""
    commit, siblings = _info(repository, details=True)
    files = [(file, (file.get("lfs") or {}).get("sha256") or file.get("blobId")) for file in siblings]
    return commit, [
        RemoteFile(file["rfilename"], file["size"], digest)
        for file, digest in files
        if isinstance(digest, str) and _ETAG.fullmatch(digest) and _is_size(file.get("size"))
    ]


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def announced(repository: Repository, filename: str) -> tuple[RemoteFile, str]:
    """Return what the hub says of a file, and the commit that the revision is. Raises UnavailableError."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    url = repository.url(filename)

    def ask() -> Any:
        try:
            return get_hf_file_metadata(url, timeout=answer_seconds(), endpoint=endpoint())
        except HfHubHTTPError:  # one of them is a ValueError too
            raise
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise FileMetadataError("its answer describes no file") from error

    with hub_errors(repository, filename):
        found = within(deadline_seconds(), ask)
        if found.size is not None and found.size < 0:
            raise FileMetadataError(f"its size is {found.size}")
        if not found.etag or not found.commit_hash or not _ETAG.fullmatch(found.etag):
            raise FileMetadataError("its answer has no ETag or commit")
        if not _COMMIT.fullmatch(found.commit_hash):
            raise FileMetadataError(f"its commit is {found.commit_hash!r}")
        return RemoteFile(filename, found.size, found.etag), found.commit_hash


def fetch_file(repository: Repository, file: RemoteFile, target: Path) -> None:
    """Download a file to `target` unless it is there; until it is whole it is `target.incomplete`.

    Raises what `receive_file` raises.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        receive_file(repository, file, target, _incomplete(target))


def missing_bytes(file: RemoteFile, target: Path) -> int:
    """Return how many bytes `fetch_file` still has to download."""
    if target.exists():
        return 0
    partial = _incomplete(target)
    return max(0, (file.size or 0) - (partial.stat().st_size if partial.exists() else 0))


def _incomplete(target: Path) -> Path:
    return target.with_name(target.name + ".incomplete")


def receive_file(repository: Repository, file: RemoteFile, target: Path, partial: Path) -> None:
    """Download a file to `partial`, resuming what an earlier attempt left there, and rename it when its hash is right.

    Raises UnavailableError where the hub does not send it, or sends another than announced, which is not kept.
    """
    resumed = partial.exists()
    for _ in range(1 + resumed):  # what was there may have been part of another file
        os.close(open_own(partial, os.O_WRONLY | os.O_CREAT))  # an empty file needs no request
        with hub_errors(repository, file.name):
            receive(repository.url(file.name), partial, size=file.size, label=Path(file.name).name)
        if fits(partial, file.hash):
            partial.replace(target)
            return
        partial.unlink()
    raise UnavailableError(
        f"{endpoint()} sent another {file.name} of {repository.name} than it announced (its hash is not "
        f"{file.hash[:12]}…), and it was not kept: try again, or {repository.advice}"
    )


def endpoint() -> str:
    """Return the address of the hub, https://huggingface.co unless HF_ENDPOINT names another."""
    address: str = hub_settings().ENDPOINT
    return address


def is_offline(offline: bool) -> bool:
    """Return whether downloads are off: by the caller, or by HF_HUB_OFFLINE."""
    return offline or bool(hub_settings().HF_HUB_OFFLINE)


def _info(repository: Repository, *, details: bool) -> tuple[str, list[dict[str, Any]]]:
    """Return the commit of a repository and what the hub says of its files, with sizes and hashes if `details`."""
    kind = "datasets" if repository.kind == "dataset" else "models"
    revision = f"/revision/{quote(repository.revision, safe='')}" if repository.revision else ""
    url = f"{endpoint()}/api/{kind}/{repository.name}{revision}{'?blobs=true' if details else ''}"
    with hub_errors(repository):
        info = within(deadline_seconds(), lambda: read_json(url))
        commit = info.get("sha") if isinstance(info, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise Nonsense("its answer names no commit")
        siblings = info.get("siblings") or []
        if not isinstance(siblings, list):
            raise Nonsense("its answer has no list of files")
        return commit, [_checked_file(file) for file in siblings]


def _checked_file(file: Any) -> dict[str, Any]:
    """Return what the hub says of one file. Raises Nonsense where that is not a name within the repository."""
    name = file.get("rfilename") if isinstance(file, dict) else None
    if not isinstance(name, str) or not is_plain_name(name) or not isinstance(file.get("lfs") or {}, dict):
        raise Nonsense(f"its answer names a file {str(name)[:100]!r}")
    return dict(file)


def is_plain_name(name: str) -> bool:
    """Return whether a file of a repository stays within it under any system, and can be printed."""
    parts = name.split("/")
    return (
        name.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
        and not any(character in name for character in '\\:*?"<>|')
        and len(name) <= _LONGEST_NAME
    )


@contextmanager
def hub_errors(repository: Repository, filename: str | None = None) -> Iterator[None]:
    """Turn every failure of hub or network into an UnavailableError that says what to do."""
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError

    try:
        check_resolves(endpoint())
        hub_client()  # not within the deadline, a good part of which it takes on a busy machine
        yield
    except HfHubHTTPError as error:
        raise _refusal(repository, filename, error) from error
    except (FileMetadataError, Nonsense) as error:
        raise NoAnswer(
            f"{endpoint()} does not answer as a hub does ({shown(str(error))[:200]}): {repository.advice}"
        ) from error
    except transport_errors() as error:
        reason = shown(" ".join(str(error).split()))[:200].rstrip(".") or type(error).__name__
        thing = f"{filename} of {repository.name}" if filename else repository.name
        raise NoAnswer(
            f"cannot download {thing} from {endpoint()} ({reason}): try again, or {repository.advice}"
        ) from error


def _refusal(repository: Repository, filename: str | None, error: Any) -> UnavailableError:
    """Return what the hub refuses in our words: what is wrong, and the way out."""
    from huggingface_hub import errors

    name, hub, status = repository.name, endpoint(), error.response.status_code
    log_in = "run hf auth login or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return UnavailableError(f"{name} is gated: accept its terms at {repository.address}, then {log_in}")
    if isinstance(error, errors.RepositoryNotFoundError):
        kind = "data set" if repository.kind == "dataset" else "model"
        return UnavailableError(
            f"{hub} has no {kind} {name} that you may see: check the name; if it is private, {log_in}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnavailableError(
            f"{name} has no revision {repository.revision!r}: choose a branch, tag or commit of {repository.address}"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return MissingFile(f"{name} has no file {filename}: see {repository.address} for what it holds")
    if status in (401, 403):
        return UnavailableError(f"{hub} refuses {name} (status {status}): set HF_TOKEN to a token that may read it")
    if status == 404:  # the hub itself would say what is not there
        return NoAnswer(f"{hub} does not answer as a hub does (status 404): {repository.advice}")
    return NoAnswer(f"{hub} cannot serve {name} now (status {status}): try again later, or {repository.advice}")
