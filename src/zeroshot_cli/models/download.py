"""Models from the hub: published weights or a whole repository, in the cache or in a folder to carry elsewhere."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from zeroshot_cli.disk import replacing, write_file, writing
from zeroshot_cli.errors import UsageError
from zeroshot_cli.hub import cache
from zeroshot_cli.hub.hashes import check_cached
from zeroshot_cli.hub.repository import HUB_PREFIX, MissingFile, Repository, parse_repo
from zeroshot_cli.models.registry import (
    BUNDLED,
    CONFIG_FILE,
    WEIGHTS_FILES,
    Published,
    canonical_name,
    find_published,
    is_file_of_own,
    known_names,
    model_config,
    open_clip_config,
    published,
    split_name,
)

_CONFIGS = (CONFIG_FILE, "config.json")
_SHARD = re.compile(r"-\d+-of-\d+")
_TOKENIZER = re.compile(
    r"(tokenizer|special_tokens_map|added_tokens|vocab|merges|spiece|sentencepiece|config)[^/]*\.(json|txt|model)"
)


def fetch_model(found: Published, *, offline: bool = False) -> Path:
    """Return the path of published weights, as safetensors where the hub has them; errors as `fetch_file`."""
    local = cached_model(found)
    if local is not None:
        return check_cached(local)
    *first, last = _names(found)
    for name in first:
        try:
            return fetch_file(found.repo, name, offline=offline, wanted=found.name)
        except MissingFile:
            continue
    return fetch_file(found.repo, last, offline=offline, wanted=found.name)


def fetch_ahead(name: str, tag: str | None, *, offline: bool = False) -> None:
    """Download what loading a model of the registry or the hub would, which is known to fail before torch is imported.

    Other names are left to who loads them. Errors as `fetch_file`, and UsageError for an unknown tag.
    """
    name, tag = split_name(name, tag)
    if name.startswith(HUB_PREFIX):
        fetch_repo(name, offline=offline)
        return
    is_path = name not in known_names() and os.path.exists(name)  # noqa: PTH110 - a Path raises for a long name
    try:
        model = canonical_name(name)
    except UsageError:
        return
    if model not in BUNDLED and not is_path and not (tag is not None and is_file_of_own(model, tag)):
        fetch_model(find_published(model, tag), offline=offline)


def cached_model(found: Published) -> Path | None:
    """Return where published weights are on this machine, unchecked; no network is used."""
    repository = _repository(found.repo, found.name)
    return cache.cached(repository, *_names(found))


def fetch_file(repo: str, filename: str, *, offline: bool = False, wanted: str | None = None) -> Path:
    """Return the path of one file of `org/repo[@revision]`, downloaded unless the cache has it.

    `wanted` is what the user named, for messages. Raises UnavailableError where the file is neither here nor to be
    had, MissingFile where the repository lacks it, CheckpointError where the cached copy was damaged.
    """
    return cache.fetch(_repository(repo, wanted), filename, offline=offline)


def fetch_repo(repo: str, *, offline: bool = False) -> Path:
    """Return the folder of `[hf-hub:]org/repo[@revision]` with configuration, weights and tokenizer; as `fetch_file`.

    A cached folder that was once whole is taken without asking.
    """
    return cache.fetch_folder(_repository(repo), _model_files, offline=offline)


def fetch_tokenizer(repo: str, *, offline: bool = False, wanted: str | None = None) -> Path:
    """Return the folder with the tokenizer's files of `org/repo[@revision]`; as `fetch_repo`."""
    return cache.fetch_folder(_repository(repo, wanted), _tokenizer_files, offline=offline)


def download_model(name: str, tag: str | None, directory: Path | None, *, offline: bool = False) -> Path:
    """Download a published model or `hf-hub:org/repo`, write it to `directory` if there is one, and return its place.

    Raises UsageError for an unknown name or a folder that holds a model already, and the errors of `fetch_file`.
    """
    if directory is not None:
        check_target(directory)
    if name.startswith(HUB_PREFIX):
        folder = fetch_repo(name, offline=offline)
        if directory is None:
            return folder
        for file in sorted(_model_files(cache.listed(folder)), key=_CONFIGS.__contains__):  # what makes it a model last
            _write(directory / file, folder / file)
        return directory
    found = _find(name, tag)
    text = list(_text_files(found, offline=offline))
    weights = fetch_model(found, offline=offline)
    if directory is None:
        return weights
    for path in text:
        _write(directory / path.name, path)
    _write(directory / WEIGHTS_FILES[weights.suffix != ".safetensors"], weights)
    _write(directory / CONFIG_FILE, json.dumps(open_clip_config(found), indent=2) + "\n")  # makes it a model
    return directory


def remove_model(name: str, tag: str | None) -> tuple[int, list[str]]:
    """Remove a published model or `hf-hub:org/repo` from the cache.

    Return the number of bytes freed, and the other published models that went with the repository.
    """
    own = None if name.startswith(HUB_PREFIX) else _find(name, tag)
    repo = own.repo if own else parse_repo(name)[0]
    others = [found.name for found in published().values() if found.repo == repo and found != own]
    return cache.remove(repo), others


def check_target(directory: Path) -> None:
    """Raise UsageError, before any work, for what is not a folder or already holds a model."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"--to {directory} is a file: name a folder")
    for name in (*_CONFIGS, *WEIGHTS_FILES):
        if (directory / name).exists():
            raise UsageError(f"--to {directory} holds a model already ({name}): name another folder")


def _find(name: str, tag: str | None) -> Published:
    if name in BUNDLED:
        raise UsageError(f"{name} comes with zeroshot: there is nothing to download or to remove")
    return find_published(name, tag)


def _repository(spec: str, wanted: str | None = None) -> Repository:
    name, revision = parse_repo(spec)
    wanted = wanted or HUB_PREFIX + spec.removeprefix(HUB_PREFIX)
    advice = (
        f"where there is a network, run zeroshot models download {wanted} --to DIR and bring DIR here for "
        f"--model DIR; --model {BUNDLED[0]} needs no network"
    )
    return Repository(name, revision, advice, kind="model", wanted=wanted)


def _names(found: Published) -> tuple[str, ...]:
    """Return the files that may hold published weights, safetensors first."""
    if found.filename is None:
        return WEIGHTS_FILES[:2]
    safe = str(Path(found.filename).with_suffix(".safetensors"))
    return tuple(dict.fromkeys((safe, found.filename)))


def _text_files(found: Published, *, offline: bool) -> Iterator[Path]:
    """Yield the cached files of a tokenizer and of a text tower's description that are not CLIP's own."""
    text_cfg = model_config(found.preset).get("text_cfg", {})
    tokenizer, tower = text_cfg.get("hf_tokenizer_name"), text_cfg.get("hf_model_name")
    if tokenizer:
        folder = fetch_tokenizer(tokenizer, offline=offline, wanted=found.name)
        names = _tokenizer_files(cache.listed(folder))
        yield from (folder / name for name in names if name != "config.json" or not tower)
    if tower:
        yield fetch_file(tower, "config.json", offline=offline, wanted=found.name)


# Which files of a repository a model needs


def _model_files(names: Sequence[str]) -> Sequence[str]:
    """Return what a model needs, weights last: whatever says what they are, and one set of them, the best."""
    weights = _weight_files(names)
    known = (CONFIG_FILE, "preprocessor_config.json")
    beside = [name for name in names if name in known or _TOKENIZER.fullmatch(name)]
    return [*beside, *weights] if weights else []


def _tokenizer_files(names: Sequence[str]) -> Sequence[str]:
    found = [name for name in names if _TOKENIZER.fullmatch(name)]
    return found if any(not name.startswith("config") for name in found) else []


def _weight_files(names: Sequence[str]) -> list[str]:
    """Return one set of weights: open_clip's, else Transformers' whole or in shards, else the only file of tensors."""
    for name in WEIGHTS_FILES:
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


def _write(target: Path, content: Path | str) -> None:
    """Copy a file of the cache, whose name is a link, or write a text, so that `target` is at no time half a file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create --to {target.parent}: {error.strerror}; name another folder") from error
    if isinstance(content, str):
        write_file(target, content)
        return
    with replacing(target) as unfinished, writing(str(target)):
        shutil.copyfile(content, unfinished)
