"""What a run starts from, read and checked before its first step: the pairs, and a new model or one with weights."""

# pathlib's questions raise OSError where a name is too long or a folder is locked; opening names the reason.
# ruff: noqa: PTH112

import math
import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig
from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.lora import adapt
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.datasets.folders import PairOptions, read_sources
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.images.selection import Selection
from zeroshot_cli.models.load import load, new_model
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.records import Loss, TextEncoder, assumed_of
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import decoding_of
from zeroshot_cli.train.preflight import Checked, Preflight, find_unreadable, preflight
from zeroshot_cli.train.schedule import BATCH, SCRATCH_LR, Settled, fine_tuning_lr, settled
from zeroshot_cli.train.step import Teacher
from zeroshot_cli.train.validate import LabelledSet
from zeroshot_cli.words.labels import Labels, read_labels

# Section 3.2 of arXiv 2303.15343: most pairs of a batch do not match, and the bias says so from the start.
SIGMOID_LOGIT_SCALE = math.log(10)
SIGMOID_LOGIT_BIAS = -10.0


@dataclass(frozen=True, slots=True)
class Start:
    """A model to train, on the CPU in float32, with what is needed to save it; what is locked gets no gradient.

    `origin` says in words what it starts from, `lr` is the highest learning rate, `notes` say what was assumed when
    weights were read.
    """

    model: CLIP
    config: CLIPConfig
    preprocess: PreprocessConfig
    tokenizer: Tokenizer
    origin: str
    lr: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings, pairs, model and labelled images of a run; `preflight` is the first process's, `fingerprint` of pairs.

    `rehearsed` are the labels of the image tower's classifier, `teacher` has texts that the text tower goes on
    learning.
    """

    config: Settled
    pairs: Pairs
    fingerprint: str
    val: Pairs | None
    start: Start
    labelled: LabelledSet | None
    preflight: Preflight | None
    rehearsed: Labels | None = None
    teacher: Teacher | None = None

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed when pairs, images, labels and weights were read."""
        dataset = None if self.labelled is None else self.labelled.dataset
        labelled = () if dataset is None else (*dataset.labels.notes, *dataset.notes)
        rehearsed = () if self.rehearsed is None else self.rehearsed.notes
        val = () if self.val is None else self.val.notes
        return assumed_of(self.pairs.notes, val, labelled, rehearsed, self.start.notes)


def prepare(given: TrainConfig, *, checks: bool, processes: int = 1) -> Generator[Checked, None, Prepared]:
    """Read the pairs and the model; with `checks` examine the pairs too, which one process does for all.

    What `given` leaves open is chosen by the number of pairs.

    Raises UsageError for options that do not go together, DataError for pairs that cannot be trained on.
    """
    _check_options(given)
    if not given.data:
        raise UsageError("--data is missing; name the pairs to train on, such as --data pairs.csv")
    options = PairOptions(
        **{
            name: getattr(given, name)
            for name in ("image_column", "caption_column", "label_column", "image_root", "labels", "prompts")
        },
        templates=given.template,
        selection=Selection(all_files=given.all_files, exclude=given.exclude),
    )
    pairs = read_sources(given.data, options, weights=given.data_weights)
    config = settled(given, pairs=len(pairs), trained=has_weights(given), processes=processes)
    val = read_sources(config.val, options, option="--val") if config.val else None
    _check_classes(config, pairs, val)
    if val is not None and checks:
        _check_readable(val, config)
    labelled = None
    if config.zero_shot is not None:
        labelled = LabelledSet(
            config.zero_shot, config.labels, config.prompts, config.template, decoding=decoding_of(config)
        )
    start = start_from(config)
    rehearsed = None if config.rehearse is None else _rehearsed(config.rehearse, start.model)
    teacher, found = None, None
    if config.distil_text is not None:
        teacher = Teacher.read(Path(config.distil_text), width=start.config.embed_dim)
    if checks:
        size, workers = start.preprocess.height_width, auto_workers()  # nothing trains yet: all cores decode
        found = yield from preflight(config, pairs, start.tokenizer, image_size=size, workers=workers, val=val)
    return Prepared(config, pairs, pairs.fingerprint(), val, start, labelled, found, rehearsed, teacher)


def _check_options(config: TrainConfig) -> None:
    if config.caption_column is not None and config.label_column is not None:
        raise UsageError("--caption-column and --label-column each name the column of texts; omit one of them")
    trained_before = has_weights(config)
    check_locks(config, trained_before)
    if config.wise_ft not in (None, 1) and not trained_before:
        raise UsageError("--wise-ft mixes the result with the weights that it came from, and a new model has none")
    if config.lora is not None and not trained_before:
        raise UsageError(
            "--lora adapts weights, and a new model's are random; start from weights (--pretrained) or omit it"
        )
    if config.lora is not None and config.train_batch_norm:
        raise UsageError("--lora keeps all weights as they are, and batch norm with them; omit --train-batch-norm")
    if config.distil_text is not None and config.lock_text:
        raise UsageError("--lock-text keeps the text tower as it is, and --distil-text trains it; omit one of them")
    defaults = TrainConfig()
    for name, of in (("rehearse_share", "rehearse"), ("distil_weight", "distil_text")):
        if getattr(config, of) is None and getattr(config, name) != getattr(defaults, name):
            option, needed = (f"--{each.replace('_', '-')}" for each in (name, of))
            raise UsageError(f"{option} needs {needed}; add it or omit {option}")
    if config.patience is not None and config.zero_shot is None and not config.val:
        raise UsageError("--patience needs --val FILE or --zero-shot DIR, which show whether the model improves")


def _check_classes(config: TrainConfig, pairs: Pairs, val: Pairs | None) -> None:
    """Raise UsageError for words of classes where nothing has classes."""
    sources = (*pairs.sources, *(() if val is None else val.sources))
    has_classes = config.zero_shot is not None or any(source.texts for source in sources)
    if not has_classes and (config.labels or config.prompts or config.template):
        raise UsageError(
            "--labels, --prompts and --template need class folders or a column of labels, in --zero-shot or --data; "
            "add one or omit them"
        )


def check_locks(config: TrainConfig, has_weights: bool) -> None:
    """Raise UsageError for locks that leave nothing to train, or that keep a tower which has learned nothing."""
    if config.lock_image and config.lock_text:
        raise UsageError("--lock-image and --lock-text leave only the temperature to train; omit one of them")
    if config.lock_image and config.lock_trunk:
        raise UsageError("--lock-image locks the head too, which --lock-trunk trains; omit one of them")
    if config.views is not None and not (config.lock_image or config.lock_trunk):
        raise UsageError("--views keeps what the image tower makes of images; add --lock-image or --lock-trunk")
    if config.rehearse is not None and not config.lock_trunk:
        raise UsageError("--rehearse is for the head of a locked image tower; add --lock-trunk")
    locks = [name for name in ("lock_image", "lock_trunk", "lock_text") if getattr(config, name)]
    if locks and not has_weights:
        option = f"--{locks[0].replace('_', '-')}"
        raise UsageError(
            f"{option} keeps a tower as it is, and a new model's is random; "
            "start from weights (--pretrained) or omit it"
        )


def _rehearsed(name: str, model: CLIP) -> Labels:
    """Return the labels of the image tower's classifier. Raises UsageError where it has none, or other classes."""
    labels, visual = read_labels(name), model.visual
    if not isinstance(visual, EfficientNet):
        raise UsageError("--rehearse is for an image tower with a classifier, and this model's has none; omit it")
    if len(labels) != visual.classifier.out_features:
        raise UsageError(
            f"--rehearse {name} has {len(labels):,} labels, and the image tower's classifier "
            f"{visual.classifier.out_features:,} classes; give the labels of its classes, in its order"
        )
    return labels


def _check_readable(val: Pairs, config: TrainConfig) -> None:
    """Raise DataError where no image to validate on can be read, which would else show after an epoch."""
    first = None
    for problem in find_unreadable(val, range(len(val)), workers=1, decoding=decoding_of(config)):
        if problem is None:
            return
        first = first or problem
    assert first is not None  # there are pairs
    raise DataError(
        f"none of the {len(val)} images to validate on can be read (the first, {first.path}: {first.reason}); "
        "check --val"
    )


def start_from(config: TrainConfig) -> Start:
    """Return the model that a run begins with. Raises UsageError for options that do not go together."""
    start = _from_weights(config) if has_weights(config) else _from_scratch(config)
    if config.loss is Loss.SIGMOID:
        start = _with_bias(start, new=not has_weights(config))
    lock(start.model, image=config.lock_image, trunk=config.lock_trunk, text=config.lock_text)
    if config.lora is not None:
        try:
            adapt(start.model, rank=config.lora, seed=config.seed)
        except ValueError as error:
            raise UsageError(f"--lora {config.lora} is too much for this model: {error}; use less") from None
    return start


def lock(model: CLIP, *, image: bool = False, trunk: bool = False, text: bool = False) -> None:
    """Let a tower get no gradient (LiT, arXiv 2111.07991), or with `trunk` what is below the image tower's head."""
    for tower, locked in ((model.visual, image), (model.text, text)):
        if locked:
            tower.requires_grad_(False)
    if trunk:
        for name, parameter in model.visual.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] in model.visual.HEAD)


def has_weights(config: TrainConfig) -> bool:
    """Return whether a run starts from weights: `--pretrained`, or a `--model` that is no preset or configuration."""
    path = Path(config.model)
    describes = config.model in PRESETS or (path.suffix in {".yaml", ".yml", ".json"} and not os.path.isdir(path))
    return config.pretrained is not None or not describes


def _from_scratch(config: TrainConfig) -> Start:
    encoder = None if config.text_encoder is None else str(config.text_encoder)
    parts = new_model(config.model, text_encoder=encoder, seed=config.seed)
    return Start(*parts, f"new {config.model}", lr=config.lr or SCRATCH_LR)


def _from_weights(config: TrainConfig) -> Start:
    loaded = load(config.model, config.pretrained, device="cpu", precision="fp32", offline=config.offline)
    model, architecture, tokenizer = loaded.bundled()
    encoder = TextEncoder.CBOW if isinstance(architecture.text, CBOWConfig) else TextEncoder.TRANSFORMER
    if config.text_encoder not in (None, encoder):
        raise UsageError(f"--text-encoder is for a new model; these weights have {encoder}")
    model.requires_grad_(True)
    size = sum(parameter.numel() for parameter in model.parameters())
    lr = config.lr or fine_tuning_lr(size, config.batch_size or BATCH, lora=config.lora)
    origin = f"from {loaded.title}"
    return Start(model, architecture, loaded.preprocess.config, tokenizer, origin, lr, loaded.notes)


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
