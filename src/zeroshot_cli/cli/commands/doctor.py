"""`zeroshot doctor`: check this machine, and say what to do about what is missing."""

import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import AUTO, check_device
from zeroshot_cli.display import size_text

if TYPE_CHECKING:
    from zeroshot_cli.models.registry import Published

T = TypeVar("T")
_OTHERS = ("torch", "open_clip_torch", "pillow", "numpy", "safetensors", "huggingface_hub", "typer", "rich")
PACKAGES = (o.DISTRIBUTION, *_OTHERS)
EXTRAS = {  # name of the extra → (package that it brings, what for)
    "heic": ("pillow-heif", "HEIC photos"),
    "jxl": ("pillow-jxl-plugin", "JPEG XL images"),
    "raw": ("rawpy", "previews in RAW photos"),
    "parquet": ("pyarrow", "Parquet tables"),
    "remote": ("fsspec", "images at addresses"),
    "xlsx": ("xlsxwriter", ".xlsx files"),
    "review": ("starlette", "zeroshot review"),
    "ray": ("ray", "--engine ray"),
    "openvino": ("openvino", "--engine openvino, --precision int8"),
    "onnxruntime": ("onnxruntime", "--engine onnxruntime"),
    "onnx": ("onnxscript", "models export --layout onnx"),
    "webdataset": ("webdataset", "WebDataset shards"),
    "hf": ("transformers", "models of Transformers"),
    "tensorboard": ("tensorboard", "--report-to tensorboard"),
    "wandb": ("wandb", "--report-to wandb"),
}
ALL_WELL = "all is well"
_PATIENCE = 3.0  # seconds for the hub's answer, while torch is imported
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")
_REFUSED = (401, 403, 407)  # of proxies and firewalls


@dataclass
class Findings:
    """Rows of what was found, and what is to be done: the clauses of the last line."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)

    def add(self, what: str, found: str, to_do: str | None = None) -> None:
        """Add a row, and what the user should do about it."""
        self.rows.append((what, found))
        if to_do is not None:
            self.to_do.append(to_do)

    def verdict(self) -> str:
        """Return the last line."""
        return f"to do: {'; '.join(self.to_do)}" if self.to_do else ALL_WELL


def doctor(offline: o.Offline = False, debug: o.Debug = False) -> None:
    """Check this machine: versions, devices, models, caches, network, and what is missing.

    The last line says what to do, or that all is well. Nothing is downloaded.
    """
    from zeroshot_cli.console.terminal import print_rows
    from zeroshot_cli.display import shown

    findings = Findings()
    _versions(findings)
    _extras(findings)
    answer = _ask_hub(offline)  # while torch is imported
    for what, look in (("devices", _computing), ("caches", _caches), ("models", _models)):
        try:
            look(findings, answer)
        except Exception as error:  # a library or driver that is broken: that is what doctor is for
            _not_seen(findings, what, error)
    print_rows(("what", "found"), findings.rows)
    typer.echo(shown(findings.verdict()))


def _not_seen(findings: Findings, what: str, error: Exception) -> None:
    """Add why something could not be checked; a missing package has its advice already."""
    findings.add(what, f"not checked: {' '.join(str(error).split()) or type(error).__name__}")
    if not (isinstance(error, ModuleNotFoundError) and findings.to_do):
        findings.to_do.append(
            f"find out why the {what} cannot be checked; pip install --force-reinstall repairs packages"
        )


# Packages


def _versions(findings: Findings) -> None:
    findings.add("python", platform.python_version())
    required = [name for name in _required() if name not in PACKAGES and _version(name) is None]
    missing = [name for name in (*PACKAGES, *required) if _version(name) is None]
    for name in (*PACKAGES, *required):
        findings.add(name, _version(name) or f"missing; pip install {name}")
    if missing:
        findings.to_do.append(f"pip install {' '.join(missing)}")


def _required() -> list[str]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires(o.DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    return [match[0] for line in lines if "extra ==" not in line and (match := _REQUIREMENT.match(line))]


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras(findings: Findings) -> None:
    for extra, (package, purpose) in EXTRAS.items():
        found = (
            f"{package} {number}"
            if (number := _version(package))
            else f"{package} is missing; pip install '{o.DISTRIBUTION}[{extra}]'"
        )
        findings.add(f"for {purpose}", found)


# Where models run


def _computing(findings: Findings, answer: "Answer") -> None:
    import torch

    from zeroshot_cli.images.decoder_pool import auto_workers
    from zeroshot_cli.models.precision import resolve_device, resolve_precision

    findings.add("devices", ", ".join(_devices()))
    device, source = _resolved(findings, o.DEVICE_VARIABLE, lambda value: resolve_device(check_device(value)))
    findings.add("device", f"{device} ({source or 'auto'})")
    precision, source = _resolved(findings, o.PRECISION_VARIABLE, lambda value: resolve_precision(value, device))
    findings.add("precision", f"{precision} ({source or 'auto'})")
    findings.add("threads of torch", str(torch.get_num_threads()))
    findings.add("decoding processes", str(auto_workers(device.type)))


def _resolved(findings: Findings, variable: str, resolve: Callable[[str], T]) -> tuple[T, str]:
    """Return what commands use, and the variable that says so, if any; if its value is wrong, what auto means."""
    from zeroshot_cli.errors import UsageError

    value = os.environ.get(variable)
    if not value:
        return resolve(AUTO), ""
    try:
        return resolve(value), f"from {variable}"
    except (UsageError, typer.BadParameter) as error:
        findings.add(variable, str(error), f"correct {variable}")
        return resolve(AUTO), ""


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return [*cuda, *["mps"] * torch.backends.mps.is_available(), "cpu"]


# Folders


def _caches(findings: Findings, answer: "Answer") -> None:
    from zeroshot_cli.disk import cache_folder
    from zeroshot_cli.embed.cache_store import LIMIT_VARIABLE, cache_files, size_limit
    from zeroshot_cli.errors import UsageError

    folder = cache_folder()
    findings.add("cache of embeddings", str(folder), _unwritable(folder, "ZEROSHOT_CACHE_DIR"))
    try:
        limits = {"images": f" of at most {size_text(size_limit())}"}
    except UsageError as error:
        limits = {"images": f" ({error})"}
        findings.to_do.append(f"correct {LIMIT_VARIABLE}")
    for file in cache_files(folder):
        if file.problem is None:
            findings.add(f"cache of {file.name}", f"{size_text(file.size)}{limits.get(file.name, '')}")
        else:
            findings.add(f"cache of {file.name}", f"cannot be read: {file.problem}", "zeroshot cache clear")


def _unwritable(folder: Path, variable: str) -> str | None:
    """Return what to do about a folder that cannot be written or created."""
    there = _nearest_folder(folder)
    return (
        None
        if there.is_dir() and os.access(there, os.W_OK)
        else f"set {variable} to a folder that you can write to, not {folder}"
    )


def _nearest_folder(folder: Path) -> Path:
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def _size_of(folder: Path) -> int:
    """Return the bytes of a folder's files, without links, of which the hub's cache is full."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            with suppress(FileNotFoundError):  # a download was renamed meanwhile
                yield 0 if path.is_symlink() else path.lstat().st_size


# Models, and the network


@dataclass(frozen=True)
class _Hub:
    """Whether downloads are on and the hub answers; `sentence` says so."""

    reachable: bool
    sentence: str


Answer = Callable[[], _Hub]


def _ask_hub(offline: bool) -> Answer:
    """Ask the hub whether it is there; return a function that waits for the answer."""
    try:
        from zeroshot_cli.hub.settings import hub_settings

        constants = hub_settings()
        from huggingface_hub import file_download  # noqa: F401  slow to import, so not in the thread
    except Exception as error:  # not installed, or a variable that it cannot read
        missing = _Hub(False, f"not checked: {error}")
        return lambda: missing

    if offline or constants.HF_HUB_OFFLINE:
        off = _Hub(False, f"off ({'HF_HUB_OFFLINE' if constants.HF_HUB_OFFLINE else '--offline or ZEROSHOT_OFFLINE'})")
        return lambda: off
    found: list[_Hub] = []
    thread = threading.Thread(target=lambda: found.append(_knock(constants.ENDPOINT)), daemon=True)
    thread.start()
    until = time.monotonic() + _PATIENCE

    def wait() -> _Hub:
        thread.join(max(0.0, until - time.monotonic()))
        silent = _Hub(False, f"on, but {constants.ENDPOINT} gave no answer within {_PATIENCE:.0f} s")
        return found[0] if found else silent

    return wait


def _knock(endpoint: str) -> _Hub:
    from zeroshot_cli.hub.transfer import hub_client

    try:
        status = hub_client().head(endpoint, timeout=_PATIENCE, follow_redirects=True).status_code
    except Exception as error:  # what the HTTP library raises differs by version
        reason = " ".join(str(error).split()) or type(error).__name__
        return _Hub(False, f"on, but {endpoint} does not answer ({reason})")
    if status >= 500 or status in _REFUSED:
        return _Hub(False, f"on, but {endpoint} answers with status {status}")
    return _Hub(True, f"on, and {endpoint} answers")


def _models(findings: Findings, answer: "Answer") -> None:
    from zeroshot_cli.hub.cache import hub_cache
    from zeroshot_cli.models.registry import BUNDLED

    sizes = {name: weights.stat().st_size for name in BUNDLED if (weights := _bundled_weights(name)).is_file()}
    here = "; ".join(f"{name}, {size_text(size)}" for name, size in sizes.items())
    findings.add("bundled models", f"{here}; they need no network" if here else "none")
    if missing := [name for name in BUNDLED if name not in sizes]:
        findings.add("missing models", ", ".join(missing), f"reinstall {o.DISTRIBUTION}")
    cache, hub = hub_cache(), answer()
    free = shutil.disk_usage(_nearest_folder(cache)).free
    findings.add("downloads", hub.sentence)
    findings.add("downloaded models", f"{cache}, {size_text(_size_of(cache))}")
    findings.add("space left there", size_text(free))
    _config(findings)
    _default_model(findings, hub, free)


def _bundled_weights(name: str) -> Path:
    from zeroshot_cli.models.registry import WEIGHTS_FILES, bundled_folder

    return bundled_folder(name) / WEIGHTS_FILES[0]


def _config(findings: Findings) -> None:
    """Say where the config file is, and which model it makes the default."""
    from zeroshot_cli.errors import ConfigError, UsageError
    from zeroshot_cli.models.default import CONFIG_VARIABLE, config_file, read_default

    try:
        file = config_file()
        model = None if file is None else read_default(file)
    except (ConfigError, UsageError) as error:
        findings.add("config file", str(error), "correct or remove the config file")
        return
    there = f"model {model}" if model else "which names no model" if file and file.exists() else "not there"
    none = f"none, for want of a home folder; {CONFIG_VARIABLE} can name one"
    findings.add("config file", none if file is None else f"{file}, {there}")


def _default_model(findings: Findings, hub: _Hub, free: int) -> None:
    """Say which model is the default, who chose it, whether it is here, and if not whether it can be downloaded."""
    from zeroshot_cli.errors import CheckpointError, ConfigError, UnavailableError, UsageError
    from zeroshot_cli.hub.cache import hub_cache
    from zeroshot_cli.models.default import CONFIG_VARIABLE, MODEL_VARIABLE, PRETRAINED_VARIABLE, Source, choose
    from zeroshot_cli.models.registry import Published, figures

    name, tag, by, need = "", os.environ.get(PRETRAINED_VARIABLE), "", 0
    try:
        name, tag, by = (chosen := choose()).name, chosen.pretrained, f" ({chosen.source})"
        found = _look_for(name, tag)
    except UnavailableError:
        found = None
    except (ConfigError, UsageError, CheckpointError) as error:
        own = "the config file" if Source.CONFIG in by else MODEL_VARIABLE
        wrong = PRETRAINED_VARIABLE if tag and tag in str(error) else own
        told = isinstance(error, ConfigError) or CONFIG_VARIABLE in str(error)  # the config file's row says what to do
        findings.add("default model", str(error), None if told else f"correct {wrong}")
        return
    if isinstance(found, str):
        findings.add("default model", f"{found}{by}")
        return
    if isinstance(found, Published):
        name = found.name
        need = round((figures(found.model, found.tag).parameters or 0) * 4e6)  # the usual file is float32
    large = f" (about {size_text(need)})" if need else ""
    findings.add("default model", f"{name} is not on this machine; its first use downloads it{large}{by}")
    if not hub.reachable:
        findings.to_do.append(_without_hub(name))
    elif need > free:
        findings.to_do.append("set HF_HUB_CACHE to a folder with more space")
    elif to_do := _unwritable(hub_cache(), "HF_HUB_CACHE"):
        findings.to_do.append(to_do)


def _look_for(name: str, tag: str | None) -> "str | Published":
    """Return in words what is here of a model, or what to download; raise what loading it offline would."""
    from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
    from zeroshot_cli.hub.repository import HUB_PREFIX
    from zeroshot_cli.models.download import cached_model, fetch_repo
    from zeroshot_cli.models.formats.detect import find_weights
    from zeroshot_cli.models.registry import (
        BUNDLED,
        canonical_name,
        find_published,
        is_file_of_own,
        known_names,
        split_name,
    )

    name, tag = split_name(name, tag)
    is_path = name not in known_names() and os.path.exists(name)  # noqa: PTH110
    if name.casefold() in BUNDLED or name.startswith(HUB_PREFIX) or is_path:
        if tag is not None:
            raise UsageError(f"{name} brings its own weights; omit {tag}")
        if is_path:
            find_weights(Path(name))
        elif name.startswith(HUB_PREFIX):
            try:
                fetch_repo(name, offline=True)
            except CheckpointError as error:  # damaged, and removed for that
                raise UnavailableError(str(error)) from error
        return name
    if tag is not None and is_file_of_own(canonical_name(name), tag):
        return f"{canonical_name(name)} with the weights {find_weights(Path(tag))}"
    published = find_published(name, tag)
    path = cached_model(published)
    return published if path is None else f"{published.name}, {size_text(path.stat().st_size)}, is on this machine"


def _without_hub(name: str) -> str:
    from zeroshot_cli.models.registry import BUNDLED

    here = f"--model {BUNDLED[0]} works without the hub; " if _bundled_weights(BUNDLED[0]).is_file() else ""
    return (
        f"{here}for {name} run zeroshot models download {name} --to DIR on a machine with a network and bring DIR "
        "here for --model DIR"
    )
