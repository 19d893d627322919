"""Files of the hub's data set repositories: resumed, and checked by their hash before they get their name."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zeroshot_cli.errors import UnavailableError, UsageError
from zeroshot_cli.hub.download import answer_seconds, deadline_seconds, endpoint
from zeroshot_cli.hub.hashes import fits
from zeroshot_cli.hub.transfer import hub_client, receive, transport_errors, within

T = TypeVar("T")
INCOMPLETE = ".incomplete"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Repository:
    """A data set repository at a revision; `advice` is how to bring its files by hand, the end of a sentence."""

    name: str
    revision: str
    advice: str

    @property
    def address(self) -> str:
        """Where people find it."""
        return f"{endpoint()}/datasets/{self.name}"

    def url(self, filename: str) -> str:
        """Where a file of it is."""
        return url_of(self.name, self.revision, filename)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: size in bytes, and its hash, SHA-256 or git's SHA-1 of a blob."""

    name: str
    size: int
    hash: str


def url_of(repo: str, revision: str, filename: str) -> str:
    """The address of a file of a data set repository."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, filename, repo_type="dataset", revision=revision, endpoint=endpoint())


def list_files(repository: Repository) -> tuple[str, tuple[RemoteFile, ...]]:
    """The commit that a repository's revision is, and its files. Raises UnavailableError with the way out."""
    info = _ask(repository, lambda: within(deadline_seconds(), lambda: _info(repository)))
    files = (_remote(each) for each in info.siblings or ())
    return info.sha, tuple(file for file in files if file is not None)


def fetch(repository: Repository, file: RemoteFile, target: Path) -> None:
    """Download a file to `target`, unless it is there, going on where an earlier attempt ended.

    Raises UnavailableError where the hub does not give it, or gives another than announced, which is not kept.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + INCOMPLETE)
    resumed = partial.exists()
    partial.touch()  # an empty file needs no request
    _receive(repository, file, partial)
    if resumed and not fits(partial, file.hash):  # the earlier part may have been another's
        partial.unlink()
        _receive(repository, file, partial)
    if not fits(partial, file.hash):
        partial.unlink()
        raise UnavailableError(
            f"{endpoint()} sent another {file.name} of {repository.name} than it should be (its hash is not "
            f"{file.hash[:12]}…), and it was not kept: try again, or {repository.advice}"
        )
    partial.replace(target)


def missing_bytes(file: RemoteFile, target: Path) -> int:
    """How many bytes of a file are still to be downloaded."""
    if target.exists():
        return 0
    partial = target.with_name(target.name + INCOMPLETE)
    return max(0, file.size - (partial.stat().st_size if partial.exists() else 0))


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what a disk refuses into a UsageError that says so."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in _FULL:
            raise UsageError(f"the disk of {folder} is full; give --data-dir a folder with more space") from error
        raise UsageError(
            f"cannot use {where} ({error.strerror or error}); give --data-dir a folder that you can write to"
        ) from error


def _receive(repository: Repository, file: RemoteFile, partial: Path) -> None:
    label = os.path.basename(file.name)  # noqa: PTH119
    _ask(repository, lambda: receive(repository.url(file.name), partial, size=file.size, label=label), file.name)


def _info(repository: Repository) -> Any:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    return api.dataset_info(
        repository.name, revision=repository.revision, timeout=answer_seconds(), files_metadata=True
    )


def _remote(sibling: Any) -> RemoteFile | None:
    sha = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    return None if sha is None or sibling.size is None else RemoteFile(sibling.rfilename, sibling.size, sha)


def _ask(repository: Repository, ask: Callable[[], T], filename: str | None = None) -> T:
    """What `ask` returns; every failure of hub or network becomes an UnavailableError."""
    from huggingface_hub.errors import HfHubHTTPError

    thing = f"{filename} of {repository.name}" if filename else repository.name
    try:
        hub_client()  # not within the deadline, a good part of which it takes on a busy machine
        return ask()
    except HfHubHTTPError as error:
        raise UnavailableError(_refusal(repository, thing, error)) from error
    except transport_errors() as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise UnavailableError(
            f"cannot download {thing} from {endpoint()} ({reason}): try again, or {repository.advice}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnavailableError(
            f"{endpoint()} does not answer as a hub does ({type(error).__name__}): {repository.advice}"
        ) from error


def _refusal(repository: Repository, thing: str, error: Any) -> str:
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"{repository.name} is gated: accept its terms at {repository.address}, then run hf auth login "
            "or set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint()} has no data set {repository.name} that it would show you: check the name"
    if isinstance(error, EntryNotFoundError):
        return f"{endpoint()} has no {thing} any more: {repository.advice}"
    status = error.response.status_code
    return f"{endpoint()} cannot serve {thing} now (status {status}): try again later, or {repository.advice}"
