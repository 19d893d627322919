"""Files of a repository in huggingface_hub's own cache, in its layout, each checked by its hash.

What the cache has is taken without asking anybody. A file gets its name there only when it is whole and its hash
is right; until then it is `<hash>.zeroshot-incomplete`, which the next call resumes.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zeroshot_cli.disk import write_file
from zeroshot_cli.display import size_text
from zeroshot_cli.errors import UnavailableError, UsageError
from zeroshot_cli.hub.hashes import check_cached, is_remembered, remember
from zeroshot_cli.hub.repository import (
    NoAnswer,
    RemoteFile,
    Repository,
    announced,
    endpoint,
    is_offline,
    list_names,
    receive_file,
)
from zeroshot_cli.hub.settings import hub_settings
from zeroshot_cli.hub.transfer import transport_errors

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL = 1_000_000  # bytes that are here before a line about them is read
_log = logging.getLogger(__name__)


def fetch(repository: Repository, filename: str, *, offline: bool = False) -> Path:
    """Return the path of one file, downloaded unless the cache has it.

    Raises UnavailableError where it is neither here nor to be had, MissingFile where the repository lacks it,
    CheckpointError where the cached copy was damaged.
    """
    local = cached(repository, filename)
    if local is not None:
        return check_cached(local)
    if is_offline(offline):
        raise UnavailableError(
            f"{filename} of {repository.name} is not on this machine, and downloads are off: {repository.advice}"
        )
    return _download(repository, filename)


def fetch_folder(
    repository: Repository, choose: Callable[[Sequence[str]], Sequence[str]], *, offline: bool = False
) -> Path:
    """Return the folder of one commit with the files that `choose` takes from the repository's list; as `fetch`.

    A cached folder that was once whole is taken without asking.
    """
    local = _snapshot(repository)
    names = choose(listed(local)) if local else ()
    if local and names and (is_offline(offline) or is_remembered(local)):
        return _checked(local, names)
    if is_offline(offline):
        raise UnavailableError(f"{repository.name} is not on this machine, and downloads are off: {repository.advice}")
    try:
        commit, files = list_names(repository)
    except NoAnswer:
        if local and names:
            return _checked(local, names)
        raise
    names = choose(files)
    if not names:
        raise UnavailableError(
            f"{repository.name} holds nothing that zeroshot can load: name a CLIP of open_clip or Transformers"
        )
    at_commit = replace(repository, revision=commit)
    for name in names:
        fetch(at_commit, name)
    _write_ref(repository, commit)
    folder = _folder(repository.name) / "snapshots" / commit
    remember(folder)  # another tool may leave a folder in part; what changes it makes it forgotten
    return folder


def cached(repository: Repository, *filenames: str) -> Path | None:
    """Return where the first of these files that is on this machine is, unchecked; no network is used."""
    folder = _snapshot(repository)
    return next((folder / name for name in filenames if (folder / name).is_file()), None) if folder else None


def listed(folder: Path) -> list[str]:
    """Return the names of all files under a cached folder."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def remove(name: str) -> int:
    """Delete what the cache has of a repository, complete or not, and return the number of bytes freed."""
    folder = _folder(name)
    freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    if folder.is_dir():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise _no_cache(error) from None
    return freed


def hub_cache() -> Path:
    """Return the folder of huggingface_hub's cache."""
    return Path(hub_settings().HF_HUB_CACHE)


def _folder(name: str) -> Path:
    from huggingface_hub.constants import REPO_ID_SEPARATOR

    return hub_cache() / REPO_ID_SEPARATOR.join(("models", *name.split("/")))


def _snapshot(repository: Repository) -> Path | None:
    """Return the cached folder of the repository's revision."""
    revision = repository.revision or "main"
    ref = _folder(repository.name) / "refs" / revision
    commit = ref.read_text(errors="replace").strip() if ref.is_file() else revision
    if commit != revision and not _COMMIT.fullmatch(commit):
        return None
    folder = _folder(repository.name) / "snapshots" / commit
    return folder if folder.is_dir() else None


def _checked(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        check_cached(folder / name)
    return folder


def _download(repository: Repository, filename: str) -> Path:
    """Download one file into the cache; one process at a time downloads it."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    file, commit = announced(repository, filename)
    folder = _folder(repository.name)
    blob, lock = folder / "blobs" / file.hash, hub_cache() / ".locks" / folder.name / f"{file.hash}.lock"
    try:
        for parent in (blob.parent, lock.parent):
            parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _receive_blob(repository, file, blob)
            pointer = _link(folder / "snapshots" / commit / filename, blob)
        _write_ref(repository, commit)
    except transport_errors():
        raise  # some are OSErrors too
    except OSError as error:
        raise _no_cache(error) from None
    return check_cached(pointer)


def _receive_blob(repository: Repository, file: RemoteFile, blob: Path) -> None:
    """Download a file, and say so before unless it is small; on a terminal a bar shows the rest."""
    partial = blob.with_name(f"{blob.name}.zeroshot-incomplete")
    have = partial.stat().st_size if partial.exists() else 0
    missing, free = (file.size or 0) - have, shutil.disk_usage(blob.parent).free
    if missing > free:
        raise UsageError(
            f"{size_text(missing)} do not fit into {hub_cache()}, which lacks {size_text(missing - free)}: "
            "set HF_HUB_CACHE to a folder with more space"
        )
    if file.size is None or missing >= _SMALL:
        here = f", {size_text(have)} of it here already" if have else ""
        size = "of a size that the hub does not say" if file.size is None else f"{size_text(file.size)}{here}"
        wanted = repository.wanted or repository.name
        _log.info("downloading %s (%s: %s) from %s to %s", wanted, file.name, size, endpoint(), hub_cache())
    receive_file(repository, file, blob, partial)
    remember(blob)


def _link(pointer: Path, blob: Path) -> Path:
    """Give the blob its name in the commit's snapshot: a relative link, or the file itself where there are none."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if pointer.exists():
        return pointer
    pointer.unlink(missing_ok=True)  # a link whose blob was removed
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(pointer)
    return pointer


def _write_ref(repository: Repository, commit: str) -> None:
    """Note which commit a branch or tag is, as the hub's cache does."""
    revision = repository.revision or "main"
    if revision == commit:
        return
    ref = _folder(repository.name) / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    if not ref.is_file() or ref.read_text() != commit:
        write_file(ref, commit, own=True)


def _no_cache(error: OSError) -> UsageError:
    return UsageError(
        f"cannot write to {error.filename or hub_cache()} ({error.strerror or error}): set HF_HUB_CACHE to a folder "
        "that you can write to"
    )
