"""Where a run starts: a new model, or a model with weights."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.create import new_model
from zeroshot_cli.models.load import load
from zeroshot_cli.train.config import FINE_TUNING_LR, SCRATCH_LR, Loss, TextEncoder, TrainConfig

# Section 3.2 of arXiv 2303.15343: most pairs of a batch do not match, and the bias says so from the start.
SIGMOID_LOGIT_SCALE = math.log(10)
SIGMOID_LOGIT_BIAS = -10.0


@dataclass(frozen=True, slots=True)
class Start:
    """A model to train, on the CPU in float32, with all that is needed to save it; `lr` is the peak it is used with."""

    model: CLIP
    config: CLIPConfig
    preprocess: PreprocessConfig
    tokenizer: Tokenizer
    lr: float


def start_from(config: TrainConfig) -> Start:
    """The model that a run begins with. Raises UsageError for options that do not go together."""
    start = _from_weights(config) if has_weights(config) else _from_scratch(config)
    return _with_bias(start, new=not has_weights(config)) if config.loss is Loss.SIGMOID else start


def has_weights(config: TrainConfig) -> bool:
    """A run starts from weights with `--pretrained`, and unless `--model` is a preset or a configuration file."""
    path = Path(config.model)
    describes = config.model in PRESETS or (path.suffix in {".yaml", ".yml", ".json"} and not os.path.isdir(path))
    return config.pretrained is not None or not describes


def _from_scratch(config: TrainConfig) -> Start:
    encoder = None if config.text_encoder is None else str(config.text_encoder)
    parts = new_model(config.model, text_encoder=encoder, seed=config.seed)
    return Start(*parts, lr=config.lr or SCRATCH_LR)


def _from_weights(config: TrainConfig) -> Start:
    loaded = load(config.model, config.pretrained, device="cpu", precision="fp32", offline=config.offline)
    model, architecture, tokenizer = loaded.bundled()
    encoder = TextEncoder.CBOW if isinstance(architecture.text, CBOWConfig) else TextEncoder.TRANSFORMER
    if config.text_encoder not in (None, encoder):
        raise UsageError(f"--text-encoder is for a new model; these weights have {encoder}")
    model.requires_grad_(True)
    return Start(model, architecture, loaded.preprocess.config, tokenizer, lr=config.lr or FINE_TUNING_LR)


def _with_bias(start: Start, *, new: bool) -> Start:
    """Give the model the bias that the sigmoid loss needs, and a new model the loss's own temperature."""
    if start.model.logit_bias is not None:
        return start
    start.model.logit_bias = nn.Parameter(torch.tensor(SIGMOID_LOGIT_BIAS))
    config = replace(start.config, init_logit_bias=SIGMOID_LOGIT_BIAS)
    if new:
        with torch.no_grad():
            start.model.logit_scale.fill_(SIGMOID_LOGIT_SCALE)
        config = replace(config, init_logit_scale=SIGMOID_LOGIT_SCALE)
    return replace(start, config=config)
