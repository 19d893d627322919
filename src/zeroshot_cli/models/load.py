"""`load(name or path)` reads a model with its preprocessing and tokenizer; `new_model` makes one to be trained."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH110, PTH113

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.hub.repository import HUB_PREFIX
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.default import choose
from zeroshot_cli.models.download import fetch_model, fetch_repo, fetch_tokenizer
from zeroshot_cli.models.engines.choose import AUTO, TORCH, resolve_engine
from zeroshot_cli.models.foreign import load_foreign
from zeroshot_cli.models.formats.detect import Checkpoint, find_weights, read_checkpoint
from zeroshot_cli.models.formats.numbers import check_scalars
from zeroshot_cli.models.formats.open_clip import ForeignModel, default_preprocess, read_config, read_document
from zeroshot_cli.models.formats.tensors import check_fits, read_weights
from zeroshot_cli.models.loaded import LoadedModel, make_ready
from zeroshot_cli.models.precision import resolve_device, resolve_precision
from zeroshot_cli.models.registry import (
    BUNDLED,
    CONFIG_FILE,
    Published,
    bundled_folder,
    canonical_name,
    find_published,
    is_file_of_own,
    known_names,
    model_config,
    open_clip_config,
    shared_preprocess,
    split_name,
)
from zeroshot_cli.models.tokenizers import tokenizer_of

_CONFIGS = {".yaml", ".yml", ".json"}


class ModelWarning(UserWarning):
    """Something about a model that the user should know, such as an activation that had to be assumed."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the weights are, and what the name that the user gave tells of them.

    `like` is the configuration of a model that the bundled CLIP builds, `document` the `open_clip_config.json` of one
    for open_clip; `preprocess` goes before what stands beside the weights. `name` and `pretrained` are the model's for
    people: of published weights as the registry spells them, else as the user does.
    """

    path: Path
    name: str
    pretrained: str | None = None
    like: CLIPConfig | None = None
    document: Mapping[str, Any] | None = None
    preprocess: PreprocessConfig | None = None

    def read(self, image_size: int | None) -> Checkpoint:
        """Read the checkpoint. Raise ForeignModel for a model that is open_clip's to build."""
        if self.document is not None:
            raise ForeignModel("a model of open_clip", config=self.document, weights=self.path)
        return read_checkpoint(self.path, like=self.like, preprocess=self.preprocess, image_size=image_size)


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    pretrained: str | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    offline: bool = False,
    image_size: int | None = None,
    engine: str = "auto",
) -> LoadedModel:
    """Load a model by its published name and tag, from the hub (`hf-hub:org/repo`), or from a file or folder.

    Without a name it is the commands' default: that of ZEROSHOT_MODEL, else the config file's, else `small`.

    `engine` runs the image tower: torch, openvino or onnxruntime; `auto` is torch, for int8 one that is installed.
    With `image_size`, it takes square images of so many pixels, and its positions are interpolated as open_clip does.
    Warns with ModelWarning of what had to be assumed. Raises UsageError for an unknown name or option,
    CheckpointError for a file that is wrong, and UnavailableError for weights that cannot be had.
    """
    running = resolve_engine(engine, precision, device.partition(":")[0])
    where = resolve_device("cpu" if running != TORCH and device == AUTO else device)
    if running == "onnxruntime" and precision == AUTO:
        precision = "fp32"
    computing = {"device": where, "precision": resolve_precision(precision, where), "engine": running}
    chosen = choose(None if name_or_path is None else os.fspath(name_or_path), pretrained)
    with chosen.explained():
        source = _locate(chosen.name, chosen.pretrained, offline=offline)
        return _load(source, computing, offline=offline, image_size=image_size)


def _load(source: _Source, computing: Mapping[str, Any], *, offline: bool, image_size: int | None) -> LoadedModel:
    """Return the model of a source on a device, in a precision, under the name that results are to have."""
    given: dict[str, Any] = {"name": source.name, "pretrained": source.pretrained, **computing}
    try:
        checkpoint = source.read(image_size)
    except ForeignModel as foreign:
        fetch = partial(fetch_tokenizer, offline=offline, wanted=source.name)
        weights = read_weights(foreign.weights)
        _warn(check_scalars(weights.tensors, source=str(foreign.weights)))
        state = weights.tensors
        loaded = load_foreign(foreign=foreign, state=state, fetch=fetch, image_size=image_size, **given)
        return replace(loaded, notes=weights.notes)
    _warn(checkpoint.warnings)
    loaded = make_ready(
        model=_build(checkpoint, copied=given["device"].type == "cpu" and given["precision"] == "fp32"),
        config=checkpoint.config,
        preprocess=checkpoint.preprocess,
        tokenizer=tokenizer_of(checkpoint.config),
        weights_file=Path(checkpoint.source),
        **given,
    )
    return replace(loaded, notes=checkpoint.notes)


def _warn(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        warnings.warn(sentence, ModelWarning, stacklevel=3)


def new_model(
    name_or_yaml: str, *, text_encoder: str | None = None, seed: int = 0
) -> tuple[CLIP, CLIPConfig, PreprocessConfig, Tokenizer]:
    """Return a model with random weights under `seed`, from a preset's name or a YAML file of open_clip's `model_cfg`.

    `text_encoder` replaces the text tower: `transformer` or `cbow`. Raises UsageError or CheckpointError.
    """
    config, preprocess = _new_config(name_or_yaml)
    if text_encoder == "cbow" and not isinstance(config.text, CBOWConfig):
        text = config.text
        cbow = CBOWConfig(width=text.width, context_length=text.context_length, vocab_size=text.vocab_size)
        config = replace(config, text=cbow)
    elif text_encoder == "transformer" and isinstance(config.text, CBOWConfig):
        raise UsageError(f"--text-encoder transformer: {name_or_yaml} describes a CBOW only; add heads and layers")
    torch.manual_seed(seed)
    return CLIP(config), config, preprocess, tokenizer_of(config)


def _new_config(name_or_yaml: str) -> tuple[CLIPConfig, PreprocessConfig]:
    if name_or_yaml in PRESETS:
        return PRESETS[name_or_yaml], default_preprocess(PRESETS[name_or_yaml])
    path = Path(name_or_yaml)
    if path.suffix in _CONFIGS and os.path.isfile(path):
        return read_config(path)
    raise UsageError(f"--model {name_or_yaml!r} is neither a preset nor a YAML file: see zeroshot models list")


class _WithoutInitialising(TorchFunctionMode):
    """Omits the initial weights, whose imitation on the meta device imports half of torch: a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build(checkpoint: Checkpoint, *, copied: bool = True) -> CLIP:
    """Return the model with the weights of the checkpoint, which are checked before memory is taken.

    Their file may be mapped into memory: `copied` they no longer need it, else they are for converting only. The
    checkpoint's own are given up.
    """
    try:
        with torch.device("meta"), _WithoutInitialising():
            model = CLIP(checkpoint.config)
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # a configuration is data
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{checkpoint.source}: its configuration builds no model: {reason}") from error
    check_fits(model, checkpoint.state, source=checkpoint.source)
    given = dict(checkpoint.state)
    checkpoint.state.clear()  # so that each tensor's memory is free when it has been converted
    state = {  # what is missing by now is a count of batches, which older files lack
        key: given.pop(key).to(meta.dtype, copy=copied) if key in given else torch.zeros(meta.shape, dtype=meta.dtype)
        for key, meta in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    return model


def _locate(name: str, pretrained: str | None, *, offline: bool) -> _Source:
    """Return what --model and --pretrained mean. A known name goes before a file or folder of that name."""
    name, pretrained = split_name(name, pretrained)
    if name.casefold() in BUNDLED:
        _refuse_pretrained(name, pretrained)
        return _Source(bundled_folder(name.casefold()), name.casefold())
    if name.startswith(HUB_PREFIX):
        _refuse_pretrained(name, pretrained)
        return _Source(fetch_repo(name, offline=offline), name)
    if name not in known_names() and os.path.exists(name):
        if os.path.isfile(name) and Path(name).suffix in ({".yaml", ".yml"} if pretrained is None else _CONFIGS):
            raise UsageError(
                f"--model {name} is a configuration without weights: write it to {CONFIG_FILE} as "
                '{"model_cfg": …, "preprocess_cfg": …}, beside the weights, and give that folder'
            )
        _refuse_pretrained(name, pretrained)
        return _Source(Path(name), name)
    try:
        name = canonical_name(name)
    except UsageError as error:
        raise UsageError(f"{error} (nor a file or folder of that name)") from None
    if pretrained is not None and is_file_of_own(name, pretrained):
        return _file_of_named(name, pretrained)
    return _published(find_published(name, pretrained), offline=offline)


def _file_of_named(name: str, pretrained: str) -> _Source:
    if name in PRESETS:
        return _Source(Path(pretrained), name, pretrained, like=PRESETS[name])
    file = find_weights(Path(pretrained))
    document = {"model_cfg": model_config(name), "preprocess_cfg": _preprocess_of(name, file)}
    return _Source(file, name, pretrained, document=document)


def _preprocess_of(name: str, file: Path) -> Mapping[str, Any]:
    """Return the `preprocess_cfg` beside a file of open_clip's kind, else what the model's published weights share."""
    beside = file.parent / CONFIG_FILE
    if beside.is_file():
        given = read_document(beside).get("preprocess_cfg")
        if isinstance(given, dict) and given:
            return given
    shared = shared_preprocess(name)
    if not shared:
        warnings.warn(
            f"{file} does not tell its preprocessing; OpenAI's is assumed: put an {CONFIG_FILE} beside it to be sure",
            ModelWarning,
            stacklevel=2,
        )
    return shared or {}


def _published(found: Published, *, offline: bool) -> _Source:
    path, named = fetch_model(found, offline=offline), (found.model, found.tag)
    if found.preset not in PRESETS:
        return _Source(path, *named, document=open_clip_config(found))
    like = PRESETS[found.preset]
    preprocess = PreprocessConfig.from_dict({"size": like.vision.image_size, **found.preprocess})
    return _Source(path, *named, like=like, preprocess=preprocess)


def _refuse_pretrained(name: str, pretrained: str | None) -> None:
    if pretrained is not None:
        raise UsageError(f"--model {name} brings its own weights: omit --pretrained {pretrained}")
