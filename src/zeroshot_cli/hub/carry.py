"""A model as a folder that is carried to a machine without a network, where `--model DIR` loads it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from zeroshot_cli.errors import UsageError
from zeroshot_cli.hub import download
from zeroshot_cli.models.catalogue import open_clip_config
from zeroshot_cli.models.registry import BUNDLED, Published, find_published, model_config, published

_CONFIGS = (download.CONFIG, "config.json")


def download_model(name: str, tag: str | None, directory: Path | None, *, offline: bool = False) -> Path:
    """Download a published model or `hf-hub:org/repo`, and write it to `directory` if there is one; where it is then.

    Raises UsageError for an unknown name, and the errors of `save_published`.
    """
    if name.startswith(download.HUB_PREFIX):
        if directory is None:
            return download.fetch_repo(name, offline=offline)
        save_repo(name, directory, offline=offline)
        return directory
    _refuse_bundled(name)
    found = find_published(name, tag)
    if directory is None:
        list(_text_files(found, offline=offline))
        return download.fetch_model(found, offline=offline)
    save_published(found, directory, offline=offline)
    return directory


def remove_model(name: str, tag: str | None) -> tuple[int, list[str]]:
    """Remove a published model or `hf-hub:org/repo` from the cache.

    Returns the number of bytes that are free again, and the other published models that went with the repository.
    """
    if name.startswith(download.HUB_PREFIX):
        repo, own = download.parse_repo(name)[0], None
    else:
        _refuse_bundled(name)
        own = find_published(name, tag)
        repo = own.repo
    others = [found.name for found in published().values() if found.repo == repo and found != own]
    return download.remove(repo), others


def save_published(found: Published, directory: Path, *, offline: bool = False) -> None:
    """Download published weights and write them to `directory` with their configuration and tokenizer.

    Raises UsageError where the folder holds a model already, and the errors of `download.fetch`.
    """
    check_target(directory)
    config = open_clip_config(found)
    text = list(_text_files(found, offline=offline))
    weights = download.fetch_model(found, offline=offline)
    for path in text:
        _copy(path, directory / path.name)
    _copy(weights, directory / download.WEIGHTS[weights.suffix != ".safetensors"])
    _write(directory / download.CONFIG, json.dumps(config, indent=2) + "\n")  # last: it makes the folder a model


def save_repo(spec: str, directory: Path, *, offline: bool = False) -> None:
    """Download `org/repo[@revision]` and write its model and tokenizer to `directory`; errors as `save_published`."""
    check_target(directory)
    folder = download.fetch_repo(spec, offline=offline)
    for name in sorted(download.model_files(folder), key=_CONFIGS.__contains__):  # last: they make it a model
        _copy(folder / name, directory / name)


def check_target(directory: Path) -> None:
    """Refuse, before any work, what is no folder or holds a model already: UsageError."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--to {directory} is a file: name a folder")
    for name in (*_CONFIGS, *download.WEIGHTS, "model.safetensors", "pytorch_model.bin"):
        if (directory / name).exists():
            raise UsageError(f"--to {directory} holds a model already ({name}): name another folder")


def _refuse_bundled(name: str) -> None:
    if name in BUNDLED:
        raise UsageError(f"{name} comes with zeroshot: there is nothing to download or to remove")


def _text_files(found: Published, *, offline: bool) -> Iterator[Path]:
    """The files of a tokenizer and of a text tower's description that are not CLIP's own, in the cache."""
    text_cfg = model_config(found.preset).get("text_cfg", {})
    tokenizer, tower = text_cfg.get("hf_tokenizer_name"), text_cfg.get("hf_model_name")
    if tokenizer:
        folder = download.fetch_tokenizer(tokenizer, offline=offline, wanted=found.name)
        yield from (folder / name for name in download.tokenizer_files(folder) if name != "config.json" or not tower)
    if tower:
        yield download.fetch(tower, "config.json", offline=offline, wanted=found.name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file of the cache, whose name is a link, so that `target` is at no time half a file."""
    partial = _partial(target)
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    partial = _partial(path)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _partial(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--to {target.parent} cannot be made ({error.strerror}): name another folder") from error
    return target.with_name(target.name + ".partial")
