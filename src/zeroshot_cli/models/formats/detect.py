"""Recognise the layout of a checkpoint, and read it: our names, the configuration, the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from zeroshot_cli.clip.config import PRESETS, VOCAB_SIZE, CLIPConfig
from zeroshot_cli.disk import similar_path
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.hub.hashes import sha256_of
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.numbers import check_scalars
from zeroshot_cli.models.formats.open_clip import default_preprocess, from_disk, parse_config, read_document
from zeroshot_cli.models.formats.positions import fit_positions, with_image_size
from zeroshot_cli.models.formats.shapes import HEAD_WIDTH, config_of_shapes, preset_of
from zeroshot_cli.models.formats.tensors import INDEX_SUFFIX, Weights, read_weights
from zeroshot_cli.models.formats.transformers import (
    config_of_transformers,
    from_transformers,
    is_transformers,
    preprocess_of_transformers,
)
from zeroshot_cli.models.registry import CONFIG_FILE, WEIGHTS_FILES, by_hash, shared_preprocess

OPEN_CLIP, OPENAI, TRANSFORMERS = "open_clip", "OpenAI", "Transformers"

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under our names, and what is known of their model.

    `warnings` are sentences for the user; `notes` say what was assumed in reading.
    """

    source: str
    state: dict[str, Tensor]
    config: CLIPConfig
    preprocess: PreprocessConfig
    layout: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Described:
    """What the files beside the weights say."""

    path: Path
    config: CLIPConfig
    preprocess: PreprocessConfig | None
    warnings: tuple[str, ...] = ()


def read_checkpoint(
    path: Path,
    *,
    like: CLIPConfig | None = None,
    preprocess: PreprocessConfig | None = None,
    image_size: int | None = None,
) -> Checkpoint:
    """Read the weights in `path`, a file or a folder, with the configuration of their model.

    The configuration is `like`, the model that the user named, else that of the files beside the weights, else what
    their shapes tell; `preprocess` takes precedence over a file, and `image_size`, in pixels, over all of them.
    Positions are interpolated where a file has another number of them. Raises UsageError for a path that does not
    exist, CheckpointError for wrong content, and ForeignModel for a model of open_clip that the bundled CLIP lacks.
    Whether every tensor fits, `check_fits` tells.
    """
    file = find_weights(path)
    weights = read_weights(file)
    layout, quick_gelu = layout_of(weights), _activation(weights)
    is_theirs = layout == TRANSFORMERS
    state = from_transformers(weights.tensors, source=str(file)) if is_theirs else from_disk(weights.tensors)
    described = _beside(file, layout, named=like is not None)
    if like is not None:
        config, warnings = like, _contradictions(file, like, described, quick_gelu)
    elif described is not None:
        config, warnings = described.config, described.warnings + _contradicted(file, described, quick_gelu)
    else:
        config, preprocess, warnings = _guess(file, state, layout, quick_gelu)
    if "logit_bias" in state and config.init_logit_bias is None:
        config = replace(config, init_logit_bias=0.0)
    preprocess = preprocess or _described_preprocess(described, config)
    if preprocess is None:
        preprocess, more = _assumed_preprocess(file, config)
        warnings += more
    _check_size(file, config, preprocess)
    if image_size is not None:
        config = with_image_size(config, image_size, source=str(file))
        preprocess = replace(preprocess, size=image_size)
    state, resized = fit_positions(state, config, source=str(file))
    notes = weights.notes
    if image_size is None:  # nobody asked for it
        warnings += resized
    else:
        notes += resized
    warnings += check_scalars(state, source=str(file))
    return Checkpoint(str(file), state, config, preprocess, layout, warnings, notes)


def _described_preprocess(described: _Described | None, config: CLIPConfig) -> PreprocessConfig | None:
    """Return the preprocessing beside the weights, at the size of the model that the user named."""
    if described is None or described.preprocess is None:
        return None
    fits_its_own = described.preprocess.size == described.config.vision.image_size
    return replace(described.preprocess, size=config.vision.image_size) if fits_its_own else described.preprocess


def _assumed_preprocess(file: Path, config: CLIPConfig) -> tuple[PreprocessConfig, tuple[str, ...]]:
    """Return the preprocessing that all published weights of the model share, else OpenAI's with a warning."""
    name = preset_of(config)
    preset = f"{name}-quickgelu" if config.quick_gelu else name
    shared = shared_preprocess(preset) if preset else {}
    if shared is None:
        return default_preprocess(config), (
            f"{file} does not tell its preprocessing, and the published weights of {preset} differ in it: OpenAI's is "
            f"assumed; name one with --pretrained TAG, or put an {CONFIG_FILE} beside the file",
        )
    return PreprocessConfig.from_dict({**shared, "size": config.vision.image_size}), ()


def _check_size(file: Path, config: CLIPConfig, preprocess: PreprocessConfig) -> None:
    size = config.vision.image_size
    wanted = (size, size) if isinstance(size, int) else tuple(size)
    if preprocess.height_width != wanted:
        raise CheckpointError(
            f"{file}: its preprocessing makes images of {preprocess.size} pixels, and its model takes {size}: "
            "correct the size in preprocess_cfg or image_size in vision_cfg"
        )


def find_weights(path: Path) -> Path:
    """Return the file of weights that `path` means: itself, or the one in a model folder or a training run's folder."""
    if not path.exists():
        raise UsageError(f"{path} does not exist: {similar_path(str(path)) or 'name a checkpoint or a model folder'}")
    if not path.is_dir():
        return path
    if not (path / CONFIG_FILE).is_file() and (path / "model" / CONFIG_FILE).is_file():
        path = path / "model"
    for stem in WEIGHTS_FILES:
        for name in (stem, stem + INDEX_SUFFIX):
            if (path / name).is_file():
                return path / name
    if (path / ".metadata").is_file() or (path / "latest").is_file():  # torch.distributed.checkpoint, DeepSpeed
        raise CheckpointError(
            f"{path} is a checkpoint in parts, as several processes save it: join them first, with python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch, or with DeepSpeed's zero_to_fp32.py"
        )
    others = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if len(others) == 1:
        return others[0]
    if others:
        raise CheckpointError(f"{path} holds {len(others)} files of weights: name one, such as {others[0]}")
    raise CheckpointError(f"{path} is not a model folder: it holds no weights such as {WEIGHTS_FILES[0]}")


def layout_of(weights: Weights) -> str:
    """Return the layout that the names of the tensors tell: Transformers', OpenAI's or open_clip's."""
    if is_transformers(weights.tensors):
        return TRANSFORMERS
    return OPENAI if weights.torchscript or "input_resolution" in weights.tensors else OPEN_CLIP


def _activation(weights: Weights) -> bool | None:
    """Return whether the weights tell of QuickGELU: by their program text, or by a buffer that OpenAI's have."""
    if weights.quick_gelu is not None:
        return weights.quick_gelu
    return True if "input_resolution" in weights.tensors else None


def _beside(file: Path, layout: str, *, named: bool) -> _Described | None:
    """Return what the configuration beside the weights says; that of the weights' own layout goes first.

    A model that the user named needs none, so one that cannot be used is then ignored.
    """
    readers = [_open_clip_config, _transformers_config]
    if layout == TRANSFORMERS:
        readers.reverse()
    try:
        return next((found for reader in readers if (found := reader(file, layout)) is not None), None)
    except CheckpointError:
        if named:
            return None
        raise


def _open_clip_config(file: Path, layout: str) -> _Described | None:
    path = file.parent / CONFIG_FILE
    return _Described(path, *parse_config(read_document(path), path, weights=file)) if path.is_file() else None


def _transformers_config(file: Path, layout: str) -> _Described | None:
    path = file.parent / "config.json"
    document = read_document(path) if path.is_file() else {}
    other = document.get("model_type") != "clip"
    if "model_type" not in document or (other and layout != TRANSFORMERS):
        return None  # many programs write a config.json
    config = config_of_transformers(document, source=str(path))
    processor = next((path.with_name(name) for name in _PROCESSORS if path.with_name(name).is_file()), None)
    if processor is None:
        return _Described(path, config, None)
    preprocess, warnings = preprocess_of_transformers(
        read_document(processor), image_size=config.vision.image_size, source=str(processor)
    )
    return _Described(path, config, preprocess, warnings)


def _guess(
    file: Path, state: Mapping[str, Tensor], layout: str, quick_gelu: bool | None
) -> tuple[CLIPConfig, PreprocessConfig | None, tuple[str, ...]]:
    """Return the configuration that the shapes or a published hash tell, and what they do not tell."""
    config = config_of_shapes(state, source=str(file))
    preset, known = preset_of(config), None
    if preset is not None and quick_gelu is None and layout != TRANSFORMERS:
        known = by_hash(sha256_of(file))
    if known is not None:
        preprocess = PreprocessConfig.from_dict({**known.preprocess, "size": config.vision.image_size})
        return replace(config, quick_gelu=known.quick_gelu), preprocess, ()
    warnings = []
    if preset is None:
        warnings.append(
            f"{file} is not a published model: {HEAD_WIDTH} channels a head and CLIP's own preprocessing are assumed; "
            f"put an {CONFIG_FILE} beside it to be sure of both"
        )
    if config.text.vocab_size != VOCAB_SIZE:
        warnings.append(
            f"{file} has {config.text.vocab_size} tokens: CLIP's vocabulary, cut to that many, is assumed, which is "
            f"right only for a model that was trained with it"
        )
    if quick_gelu is None:
        quick_gelu = layout == TRANSFORMERS  # the default there
        warnings.append(_unknown_activation(file, preset, quick_gelu))
    return replace(config, quick_gelu=quick_gelu), None, tuple(warnings)


def _unknown_activation(file: Path, preset: str | None, quick_gelu: bool) -> str:
    assumed, other = ("QuickGELU", "GELU") if quick_gelu else ("GELU", "QuickGELU")
    sentence = f"{file} does not tell whether it was trained with GELU or QuickGELU; {assumed} is assumed: "
    if preset is None:
        return sentence + f"put an {CONFIG_FILE} with quick_gelu beside it to be sure"
    names = {"GELU": preset, "QuickGELU": f"{preset}-quickgelu"}
    return sentence + (
        f"--model {names[assumed]} --pretrained {file} confirms that, --model {names[other]} --pretrained {file} "
        f"takes {other}"
    )


def _contradicted(file: Path, described: _Described, quick_gelu: bool | None) -> tuple[str, ...]:
    """Return a warning where the configuration beside the weights has another activation than the weights tell."""
    if quick_gelu is None or quick_gelu == described.config.quick_gelu:
        return ()
    kinds = ("GELU", "QuickGELU")
    return (
        f"{file} was trained with {kinds[quick_gelu]} and runs with {kinds[not quick_gelu]} as {described.path} says: "
        f'"quick_gelu": {str(quick_gelu).lower()} there would match',
    )


def _contradictions(
    file: Path, like: CLIPConfig, described: _Described | None, quick_gelu: bool | None
) -> tuple[str, ...]:
    """Return a warning where the model that the user named has another activation than the weights tell."""
    told = described.config.quick_gelu if described else quick_gelu
    if told is None or told == like.quick_gelu:
        return ()
    name = preset_of(like)
    way_out = f"--model {name}{'-quickgelu' if told else ''}" if name in PRESETS else f"--model {file}"
    kinds = ("GELU", "QuickGELU")
    return (f"{file} was trained with {kinds[told]} and runs with {kinds[not told]} as asked: {way_out} would match",)
