"""The default model: what commands and `load()` take where nobody names one, and the file that may say which."""

# pathlib's questions raise OSError where a name is too long or a folder is locked.
# ruff: noqa: PTH110, PTH117

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from zeroshot_cli.disk import expanded, open_plain, write_file
from zeroshot_cli.documents import load_yaml
from zeroshot_cli.errors import CheckpointError, ConfigError, UnavailableError, UsageError
from zeroshot_cli.hub.repository import HUB_PREFIX
from zeroshot_cli.models.registry import BUNDLED, canonical_name, find_published, known_names, split_name

DEFAULT_MODEL = "small"  # in the package
BETTER_MODEL, BETTER_DOWNLOAD = "ViT-B-32-256", "605 MB"  # what to take next; a test compares the size with the table
MODEL_VARIABLE, PRETRAINED_VARIABLE, CONFIG_VARIABLE = "ZEROSHOT_MODEL", "ZEROSHOT_PRETRAINED", "ZEROSHOT_CONFIG"

_KEY = "model"
_MOST = 64_000  # bytes of a config file
_WAY_OUT = "correct or remove the file, or name a model with --model"
_ABOUT = "# zeroshot models use NAME writes this file: the model of commands without --model.\n"


class Source(StrEnum):
    """Who chose a model."""

    GIVEN = "given"
    VARIABLE = f"from {MODEL_VARIABLE}"
    CONFIG = "from the config file"
    PACKAGE = "in the package"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model, its weights where a tag or file names them, and who chose it; `file` is the config file that did."""

    name: str
    pretrained: str | None
    source: Source = Source.GIVEN
    file: Path | None = None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add the config file to an error about weights that cannot be had or are wrong, if that file chose them."""
        try:
            yield
        except (UnavailableError, CheckpointError) as error:
            if self.file is None:
                raise
            kind = UnavailableError if isinstance(error, UnavailableError) else CheckpointError
            raise kind(f"{error}; {self.file} makes {self.name} the default") from error


def choose(name: str | None = None, pretrained: str | None = None) -> Chosen:
    """Return the model of that name, else that of ZEROSHOT_MODEL, else the config file's, else the package's.

    Raises ConfigError where the config file is wrong, UsageError for weights that the default model does not take.
    """
    if name is not None:
        return Chosen(name, pretrained)
    pretrained = pretrained or os.environ.get(PRETRAINED_VARIABLE) or None
    if variable := os.environ.get(MODEL_VARIABLE):
        return Chosen(*split_name(variable, pretrained), Source.VARIABLE)
    file = config_file()
    configured = None if file is None else read_default(file)
    if configured is not None:
        model, tag = split_name(configured, None)
        return Chosen(model, pretrained or tag, Source.CONFIG, file)
    if pretrained is not None:
        raise UsageError(
            f"--pretrained {pretrained} needs --model NAME: {DEFAULT_MODEL}, the default, brings its own weights"
        )
    return Chosen(DEFAULT_MODEL, None, Source.PACKAGE)


def config_file() -> Path | None:
    """Return where the config file is or would be: ZEROSHOT_CONFIG, else the system's place; None without a home."""
    if own := os.environ.get(CONFIG_VARIABLE):
        return expanded(own, of=CONFIG_VARIABLE)
    try:
        place = _system_configs()
        return place / "zeroshot" / "config.yaml" if place.is_absolute() else None  # not one that lies among photos
    except RuntimeError:  # neither HOME nor an entry of the user, as in a container
        return None


def _system_configs() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def read_default(file: Path) -> str | None:
    """Return the model that a config file makes the default; None where there is no file, or none in it.

    Raises ConfigError for what is no config file of zeroshot, and for a model that is neither known nor here.
    """
    if not os.path.exists(file) and CONFIG_VARIABLE not in os.environ:
        return None  # nor is somebody else's home folder, which is locked, an error
    model = _settings(file).get(_KEY)
    if model is None:
        return None
    if not isinstance(model, str) or not model.strip():
        raise ConfigError(f"{file}: {_KEY} is {model!r}, not the name of a model; {_WAY_OUT}")
    try:
        _check(*split_name(model, None))
    except UsageError as error:
        raise ConfigError(f"{file}: {error}; {_WAY_OUT}") from error
    return model


def _settings(file: Path) -> dict[object, object]:
    """Return what a config file sets; raises ConfigError for a file that is not zeroshot's."""
    try:
        with open_plain(file) as stream:
            data = stream.read(_MOST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); {_WAY_OUT}") from error
    try:
        if len(data) > _MOST:
            raise ValueError(f"more than {_MOST:,} bytes are no config file of zeroshot")
        settings = load_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: byte {error.start + 1} is not UTF-8; {_WAY_OUT}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; {_WAY_OUT}") from None
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"{file}: holds no setting such as '{_KEY}: NAME'; {_WAY_OUT}")
    unknown = [key for key in settings or {} if key != _KEY]
    if unknown:
        raise ConfigError(f"{file}: there is no setting {str(unknown[0])!r}, only {_KEY!r}; {_WAY_OUT}")
    return settings or {}


def _check(name: str, tag: str | None) -> None:
    """Raise UsageError for what is not known by name, no repository of the hub, nor the whole path of what is there."""
    if (name.casefold() in BUNDLED and tag is None) or name.startswith(HUB_PREFIX):
        return
    if _is_path(name):
        if not os.path.isabs(name):
            raise UsageError(f"{name} is another model in every folder; give the whole path")
        return
    try:
        find_published(name, tag)
    except UsageError as error:
        raise UsageError(f"{error} (nor a file or folder of that name)") from None


def _is_path(name: str) -> bool:
    return name not in known_names() and os.path.exists(name)


def use_model(name: str, tag: str | None, *, offline: bool = False) -> tuple[str, Path]:
    """Make a model the default, downloaded if it is published; return it as the config file has it, and that file.

    Raises UsageError for an unknown name and where the file cannot be written, ConfigError for a file that is not
    zeroshot's, CheckpointError for a folder without weights, and the errors of a download.
    """
    from zeroshot_cli.models.download import download_model
    from zeroshot_cli.models.formats.detect import find_weights  # imports torch

    file = _writable()
    if name.casefold() in BUNDLED:
        if tag is not None:
            raise UsageError(f"{name} brings its own weights: omit {tag}")
        model = name.casefold()
    elif _is_path(name):
        find_weights(Path(name))
        model = str(Path(name).absolute())
    elif name.startswith(HUB_PREFIX):
        download_model(name, None, None, offline=offline)
        model = name
    else:
        found = find_published(canonical_name(name), tag)
        download_model(found.model, found.tag, None, offline=offline)
        model = found.name
    _write(file, f"{_ABOUT}{_KEY}: {json.dumps(model)}\n")
    return model, file


def forget_default() -> Path:
    """Take the default out of the config file, which is returned; errors as `use_model`."""
    file = _writable()
    if os.path.exists(file):
        _write(file, _ABOUT)
    return file


def _writable() -> Path:
    """Return the config file, which is zeroshot's or not there yet."""
    file = config_file()
    if file is None:
        raise UsageError(f"there is no home folder for a config file; set {CONFIG_VARIABLE} to the name of one")
    _settings(file)
    return file


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot create {file.parent}: {error.strerror}; set {CONFIG_VARIABLE} to a file that you can write"
        ) from error
    write_file(file, text)
