"""All that a run needs before its first step, read and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.pairs.read import Pairs, read_pairs
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import open_image
from zeroshot_cli.train.lock import check_locks
from zeroshot_cli.train.preflight import Preflight, preflight
from zeroshot_cli.train.start import Start, has_weights, start_from
from zeroshot_cli.train.zero_shot import ZeroShot


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pairs, model and labelled images of a run; `preflight` is the first process's."""

    pairs: Pairs
    val: Pairs | None
    start: Start
    zero_shot: ZeroShot | None
    preflight: Preflight | None


def prepare(config: TrainConfig, *, checks: bool, on_check: Callable[[int, int], None]) -> Prepared:
    """Read the pairs and the model; with `checks` look at the pairs too, which one process does for all.

    Raises UsageError for options that do not go together, DataError for pairs that cannot be trained on.
    """
    _check_options(config)
    read = partial(read_pairs, image_column=config.image_column, caption_column=config.caption_column)
    pairs = read(config.data, weights=config.data_weights)
    val = None if config.val is None else read([config.val], option="--val")
    if val is not None and checks:
        _check_readable(val)
    zero_shot = None if config.zero_shot is None else ZeroShot(config.zero_shot, config.labels, config.prompts)
    start = start_from(config)
    checked = _look_at(pairs, start, config, on_check) if checks else None
    return Prepared(pairs, val, start, zero_shot, checked)


def _check_options(config: TrainConfig) -> None:
    trained_before = has_weights(config)
    check_locks(config.lock_image, config.lock_text, trained_before)
    if config.wise_ft is not None and not trained_before:
        raise UsageError("--wise-ft mixes the result with the weights that it came from, and a new model has none")
    if config.zero_shot is None and (config.labels or config.prompts):
        raise UsageError("--labels and --prompts are for --zero-shot DIR, which is not given; add it or leave them out")


def _check_readable(val: Pairs) -> None:
    """Raise DataError where there is nothing to validate on; it would else be found out after an epoch."""
    first = ""
    for row in range(len(val)):
        try:
            open_image(val, row, None)
        except UnreadableImage as error:
            first = first or f"{val.images[row]}: {error}"
        else:
            return
    raise DataError(f"none of the {len(val)} images to validate on can be read (the first, {first}); check --val")


def _look_at(pairs: Pairs, start: Start, config: TrainConfig, on_check: Callable[[int, int], None]) -> Preflight:
    return preflight(
        pairs,
        start.tokenizer,
        batch_size=config.batch_size,
        epochs=config.epochs,
        image_size=start.preprocess.height_width,
        verify=config.verify,
        workers=auto_workers(),  # nothing trains yet
        on_progress=on_check,
    )
