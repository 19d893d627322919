"""Compare `zeroshot train` with `python -m open_clip_train.main`: faster, no worse, large batches in less memory.

1. speed: at least 1.35 × the images/s with ViT-B-32 and batches of 16 on the CPU, in fp32 and in bf16, where
   open_clip_train has the fastest of its settings: fp32, or amp_bf16 and pure_bf16, each also with --torchcompile. A
   step lasts from one line of each program's log to the next; the first and last few do not count, since their batches
   may have been decoded in advance, or the model compiled.
2. quality: after equally many steps on the same pairs, a small model's loss on other pairs is no higher; mean of three
   seeds. Both train in bf16 where the processor multiplies in it (theirs: amp_bf16), and images/s are those of the same
   runs.
3. memory: batches of 1024 with --chunk-size 64 take at most a third of the memory of whole batches, in excess of a
   process that trains the same model on the same pairs in batches of 2.

Photographs are made from the two that scikit-learn ships, with captions from a word list. The pairs for quality are
drawn: two coloured shapes, and a caption that names both and their places. Or pass your own pairs; their transparent
images are put on white for both programs.

Both programs get the same model, pairs, batches, steps, workers, smallest crop, learning rate and schedule, betas,
epsilon, weight decay, gradient clipping and seed. Differences that remain:

- Each program has its own order of the pairs and its own crops.
- Each has its own initial weights; open_clip_train leaves the image tower's blocks at PyTorch's defaults, ours have the
  text tower's standard deviations and no biases (--same-start: both begin with ours).
- Rows with the same caption or image are negatives of each other in open_clip_train, but not in ours.
- open_clip_train decodes whole JPEGs, crops, then resizes; ours has libjpeg decode them at a reduced scale.
- open_clip_train resizes palette images to the nearest colour; ours converts them to RGB first.
- open_clip_train computes 77 tokens per caption, ours as many as the longest caption of the batch has.
- In bf16, open_clip_train multiplies image and text embeddings in bf16, ours in fp32.
- open_clip_train's AdamW is not fused, and its inverse temperature is between 1 and 100; ours has no minimum.
- open_clip_train decodes two batches ahead per worker, ours four.

A run takes the installed open_clip and says which; its main branch is not on the package index. Speed takes some ten
minutes on two quiet cores, quality five for each seed. open_clip_train needs pandas, webdataset and braceexpand.
Nothing is downloaded.

    python benchmarks/train.py [--only speed|quality|memory] [--rounds 3] [--seeds 3] [--steps N] [--pairs N]
    python benchmarks/train.py --only quality --data train.csv --val val.csv --steps 2500 [--model my.yaml]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import open_clip
import torch
import yaml
from PIL import Image, ImageDraw
from record import processor
from sklearn.datasets import load_sample_images
from torch import Tensor

from zeroshot_cli.clip.config import (
    PRESETS,
    CLIPConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
    config_to_dict,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.models.formats.open_clip import default_preprocess, describe, read_config, save_model
from zeroshot_cli.models.precision import has_bf16
from zeroshot_cli.models.registry import CONFIG_FILE
from zeroshot_cli.pairs.read import read_pairs

Pair = tuple[str, str]  # path of a image, caption

FASTER = 1.35  # × open_clip_train, at least
CHUNKED = 1 / 3  # of the whole batch's memory, at most
AHEAD = 4  # steps at a run's start and end that are not counted: as many batches may be ready, or left
CHUNK = 64
SMALL = CLIPConfig(
    embed_dim=128,
    vision=VisionTransformerConfig(image_size=64, patch_size=8, width=128, layers=4, head_width=32),
    text=TextTransformerConfig(width=128, heads=4, layers=2),
)
PROGRAMS = ("ours", "open_clip_train")
# What open_clip_train has for each precision of ours; the first is nearest to it, and any may be the fastest.
SETTINGS = {
    "fp32": ("fp32", "fp32 --torchcompile"),
    "bf16": ("amp_bf16", "pure_bf16", "amp_bf16 --torchcompile", "pure_bf16 --torchcompile"),
}
RECORDS = {"ours": ("metrics.jsonl", ""), "open_clip_train": ("out.log", "Train Epoch:")}  # a line a step has the mark
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
CROPS = 0.9  # the smallest share of a image, in both


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    needed = [name for name in ("pandas", "webdataset", "braceexpand") if importlib.util.find_spec(name) is None]
    if needed:
        sys.exit(f"open_clip_train needs {', '.join(needed)}: pip install {' '.join(needed)}")
    versions = f"torch {torch.__version__}, open_clip {open_clip.__version__}"
    print(f"{processor()}, {auto_workers()} cores, load {os.getloadavg()[0]:.1f}; {versions}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) if options.keep is None else options.keep
        for part, measure in (("speed", _measure_speed), ("quality", _measure_quality), ("memory", _measure_memory)):
            if options.only in (None, part):
                (work / part).mkdir(parents=True)
                measure(work / part, options)


# both programs


@dataclass(frozen=True, kw_only=True)
class Run:
    """What both programs are told; `model` is what ours is given, `folder` what open_clip_train is."""

    data: Path
    model: str
    folder: Path
    config: CLIPConfig
    epochs: int
    steps: int
    batch_size: int
    workers: int
    lr: float = 5e-4
    warmup: int = 1
    weight_decay: float = 0.2
    precision: str = "fp32"
    setting: str = "fp32"  # of open_clip_train
    seed: int = 0

    def ours(self, output: Path) -> list[str]:
        # Half a step less, and no rounding can make it a step more.
        warmup = max(0.0, self.warmup - 0.5) / self.steps
        return [
            *(sys.executable, "-m", "zeroshot_cli", "train", "--data", str(self.data), "--output", str(output)),
            *("--model", self.model, "--epochs", str(self.epochs), "--batch-size", str(self.batch_size)),
            *("--lr", str(self.lr), "--warmup", str(warmup), "--weight-decay", str(self.weight_decay)),
            *("--min-scale", str(CROPS), "--precision", self.precision, "--device", "cpu", "--seed", str(self.seed)),
            *("--workers", str(self.workers), "--log-every", "1", "--save-every", str(self.steps), "--quiet"),
        ]

    def theirs(self, output: Path) -> list[str]:
        resnet = isinstance(self.config.vision, ResNetConfig)
        beta2, epsilon = ("0.999", "1e-8") if resnet else ("0.98", "1e-6")
        return [
            *(sys.executable, "-m", "open_clip_train.main", "--dataset-type", "csv", "--train-data", str(self.data)),
            *("--csv-separator", ",", "--csv-img-key", "image", "--csv-caption-key", "caption"),
            *("--model", f"local-dir:{self.folder}", "--epochs", str(self.epochs)),
            *("--batch-size", str(self.batch_size), "--lr", str(self.lr), "--warmup", str(self.warmup)),
            *("--wd", str(self.weight_decay), "--beta1", "0.9", "--beta2", beta2, "--eps", epsilon),
            *("--grad-clip-norm", "1.0", "--aug-cfg", f"scale=({CROPS},1.0)", "--device", "cpu"),
            *("--precision", *self.setting.split(), "--seed", str(self.seed)),
            *("--workers", str(self.workers), "--log-every-n-steps", "1", "--save-frequency", "0"),
            *("--logs", str(output.parent), "--name", output.name),
        ]


@dataclass(frozen=True)
class Step:
    """When a step was written down, in seconds, and the MiB that the process had had at most by then."""

    moment: float
    peak: float


def _run(run: Run, program: str, output: Path, *more: str) -> list[Step]:
    """Train to the end; return the steps, as the program's own record names them.

    What it says goes to a log beside `output`; exits with the end of that where it fails.
    """
    command = [*run.ours(output), *more] if program == "ours" else run.theirs(output)
    file, mark = RECORDS[program]
    log, steps, lines = output.with_name(output.name + ".log"), [], _new_lines(output / file)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZEROSHOT_")} | OFFLINE
    with log.open("wb") as said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as process:
        try:
            while process.poll() is None:
                time.sleep(0.01)
                steps += [Step(time.perf_counter(), _peak(process.pid)) for line in next(lines) if mark in line]
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        sys.exit(f"{log.read_text(errors='replace')[-2000:]}\n{output.name} ended with {process.returncode}")
    if len(steps) != run.steps:
        sys.exit(f"{output.name}: {len(steps)} of {run.steps} steps were seen")
    return steps


def _peak(process: int) -> float:
    # Not ru_maxrss: there a child starts with the peak of its parent.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else math.nan


def _new_lines(file: Path) -> Iterator[list[str]]:
    """The complete lines that a file, once it is there, has got since the last time."""
    while not file.exists():
        yield []
    rest = ""
    with file.open() as opened:
        while True:
            *lines, rest = (rest + opened.read()).split("\n")
            yield lines


def _describe(work: Path, config: CLIPConfig, *, with_weights: bool = False) -> tuple[str, Path]:
    """One model for both: a YAML file for ours and a folder for open_clip's; with weights, the folder is for both."""
    folder = work / "described"
    folder.mkdir()
    if with_weights:
        torch.manual_seed(0)
        save_model(folder, CLIP(config), config, default_preprocess(config))
        return str(folder), folder
    (folder / CONFIG_FILE).write_text(json.dumps(describe(config, default_preprocess(config))))
    (work / "model.yaml").write_text(yaml.safe_dump(config_to_dict(config)))
    return str(work / "model.yaml"), folder


def _config(name: str | None, default: CLIPConfig) -> CLIPConfig:
    if name is None:
        return default
    return PRESETS[name] if name in PRESETS else read_config(Path(name))[0]


def _write_pairs(file: Path, pairs: Sequence[Pair]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("image", "caption"), *pairs])
    return file


def _read_pairs(file: Path, work: Path, options: argparse.Namespace) -> list[Pair]:
    """The pairs of a CSV, with absolute paths and on white, since open_clip_train would do neither."""
    read = read_pairs([file], image_column=options.image_column, caption_column=options.caption_column)
    images = {}
    for number, image in enumerate(dict.fromkeys(read.images)):
        images[image] = _on_white(str(Path(image).absolute()), work / f"{number}.png")
    return [(images[image], caption) for image, caption in zip(read.images, read.captions, strict=True)]


def _on_white(path: str, target: Path) -> str:
    with Image.open(path) as image:
        if not image.has_transparency_data:
            return path
        target.parent.mkdir(exist_ok=True)
        picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    Image.alpha_composite(white, picture).convert("RGB").save(target, compress_level=1)
    return str(target)


# 1: speed


def _measure_speed(work: Path, options: argparse.Namespace) -> None:
    batch_size, steps = options.batch_size or 16, options.steps or 14
    if steps < 2 * AHEAD + 2:
        sys.exit(f"--steps {steps} leaves nothing to measure; give at least {2 * AHEAD + 2}")
    config = _config(options.model, PRESETS["ViT-B-32"])
    model, folder = _describe(work, config)
    if options.data is None:
        pairs = _draw_photographs(work / "photographs", steps * batch_size)
    else:
        pairs = _read_pairs(options.data, work / "white", options)
        pairs = random.Random(0).choices(pairs, k=steps * batch_size)
    run = Run(
        data=_write_pairs(work / "pairs.csv", pairs),
        model=model,
        folder=folder,
        config=config,
        epochs=1,
        steps=steps,
        batch_size=batch_size,
        workers=options.workers,
        lr=1e-5,  # a higher one drives a model that has no warm-up to speak of to where all embeddings are one
    )
    words = statistics.mean(len(caption.split()) for _, caption in pairs)
    name = options.model or "ViT-B-32"
    print(f"{name}, batches of {batch_size}, {steps} steps, {words:.0f} words a caption, {run.workers} workers")
    for precision in options.precision or ("fp32", "bf16"):
        if precision == "bf16" and not has_bf16(torch.device("cpu")):
            print("bf16: this processor does not multiply in it, so there is nothing to measure")
            continue
        _measure_rates(work, replace(run, precision=precision), options.rounds)


def _measure_rates(work: Path, run: Run, rounds: int) -> None:
    """Each round measures ours and all settings of theirs, in one order and then in the other; the fastest counts."""
    runs = {"ours": run} | {setting: replace(run, setting=setting) for setting in SETTINGS[run.precision]}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            program = "ours" if name == "ours" else "open_clip_train"
            rate = _rate(runs[name], program, work / f"{run.precision} {number} {name.replace(' --', ' ')}")
            if rate is None:
                print(f"  {name}: fails")
            else:
                rates[name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    print(f"{run.precision}, the median of {rounds} rounds:")
    for name, median in medians.items():
        print(f"  {name:28}{median:8.2f} images/s: {', '.join(f'{rate:.2f}' for rate in rates[name])}")
    ours = medians.pop("ours")
    best = max(medians, key=lambda name: medians[name])
    print(f"  ratio{ours / medians[best]:8.2f} × of open_clip_train at its best, {best} (at least {FASTER})", end="")
    print(f": {', '.join(f'{one / other:.2f}' for one, other in zip(rates['ours'], rates[best], strict=False))}")


def _rate(run: Run, program: str, output: Path) -> float | None:
    """Images a second by the median of the steps in the middle; None where a compiler is missing or fails."""
    try:
        return _images_a_second(run, _run(run, program, output))
    except SystemExit:
        if "--torchcompile" not in run.setting or program == "ours":
            raise
        return None


def _images_a_second(run: Run, steps: Sequence[Step]) -> float:
    seconds = [later.moment - earlier.moment for earlier, later in itertools.pairwise(steps)]
    return run.batch_size / statistics.median(seconds[AHEAD : len(seconds) - AHEAD])


def _draw_photographs(folder: Path, count: int) -> list[Pair]:
    """JPEG photographs of 500 × 375, each another part of one of two images, with captions of 8 to 14 words."""
    folder.mkdir()
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    pairs = []
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        _photograph(pictures[number % len(pictures)], (500, 375), number).save(path, quality=90)
        pairs.append((str(path), _sentence(random.Random(number))))
    return pairs


def _photograph(picture: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    """Another part of the image for every seed, with the grain of a sensor."""
    rng = np.random.default_rng(seed)
    width, height = (rng.uniform(0.6, 1.0) * edge for edge in picture.size)
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    part = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    grain = rng.standard_normal((size[1], size[0], 1), dtype=np.float32) * 6
    return Image.fromarray((np.asarray(part) + grain).clip(0, 255).astype(np.uint8))


ADJECTIVES = ("old", "small", "red", "quiet", "wooden", "bright", "empty", "wet", "golden", "narrow", "tall", "dark")
NOUNS = ("temple", "bridge", "flower", "garden", "boat", "river", "street", "window", "market", "dog", "horse", "tree")
PLACES = ("beside", "near", "under", "behind", "above", "against", "opposite", "beyond")
TIMES = ("in the morning", "at night", "on a rainy day", "in late summer", "after the storm", "just before sunset")


def _sentence(rng: random.Random) -> str:
    """A caption of 8 to 14 words."""
    first, second = rng.sample(NOUNS, 2)
    words = [f"a photo of the {rng.choice(ADJECTIVES)} {first}"]
    if rng.random() < 0.8:
        words.append(f"{rng.choice(PLACES)} a {rng.choice(ADJECTIVES)} {second}")
    if len(words) == 1 or rng.random() < 0.6:
        words.append(rng.choice(TIMES))
    return " ".join(words)


# 2: quality


def _measure_quality(work: Path, options: argparse.Namespace) -> None:
    batch_size = options.batch_size or 128
    config = _config(options.model, SMALL)
    train, val = _quality_pairs(work, options)
    steps_per_epoch = len(train) // batch_size
    epochs = max(1, round((options.steps or 384) / steps_per_epoch))
    model, folder = _describe(work, config, with_weights=options.same_start)
    precision = (options.precision or ["bf16" if has_bf16(torch.device("cpu")) else "fp32"])[0]
    run = Run(
        data=_write_pairs(work / "train.csv", train),
        model=model,
        folder=folder,
        config=config,
        epochs=epochs,
        steps=epochs * steps_per_epoch,
        batch_size=batch_size,
        workers=options.workers,
        lr=options.lr,
        warmup=max(1, epochs * steps_per_epoch // 20),
        precision=precision,
        setting=options.setting or SETTINGS[precision][0],
    )
    print(f"{len(train)} pairs, {run.steps} steps of {batch_size}; scored on {len(val)} others")
    print(f"  ours in {run.precision}, open_clip_train in {run.setting}")
    rows = [_score_seed(work, replace(run, seed=seed), val) for seed in range(options.seeds)]
    loss, their_loss = _means(rows, "loss")
    print(f"  mean of the loss: ours {loss:.4f}, open_clip_train {their_loss:.4f}", end="")
    print(f"; ours is {loss - their_loss:+.4f} (at most 0)")
    for way in ("image_to_text", "text_to_image"):
        recall, their_recall = _means(rows, way)
        print(f"  mean recall@1, {way.replace('_', ' ')}: ours {recall:.1%}, open_clip_train {their_recall:.1%}")
    rate, their_rate = _means(rows, "rate")
    print(f"  mean images/s: ours {rate:.0f}, open_clip_train {their_rate:.0f}, {rate / their_rate:.2f} ×")


def _means(rows: Sequence[tuple[Score, Score]], name: str) -> tuple[float, float]:
    ours, theirs = ([getattr(score, name) for score in column] for column in zip(*rows, strict=True))
    return statistics.mean(ours), statistics.mean(theirs)


def _quality_pairs(work: Path, options: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    if options.data is None:
        scenes = _draw_scenes(work / "scenes", options.pairs + max(2, options.pairs // 8))
        return scenes[: options.pairs], scenes[options.pairs :]
    if options.val is None:
        sys.exit("--data train.csv is for quality with --val val.csv only")
    train, val = (_read_pairs(file, work / f"white {n}", options) for n, file in enumerate((options.data, options.val)))
    return train, val


def _score_seed(work: Path, run: Run, val: Sequence[Pair]) -> tuple[Score, Score]:
    """Train with both, then score both final models."""
    scores = []
    for program in PROGRAMS:
        output = work / f"{run.seed} {program}"
        rate = _images_a_second(run, _run(run, program, output))
        folder, checkpoint = output / "model", None
        if program != "ours":
            folder, checkpoint = run.folder, output / "checkpoints" / f"epoch_{run.epochs}.pt"
        score = _score(folder, checkpoint, val, run.batch_size)
        print(
            f"  seed {run.seed}: {program:16}loss {score.loss:.4f}, recall@1 {score.image_to_text:.1%} image to text",
            end="",
        )
        print(f" and {score.text_to_image:.1%} back; 1 ÷ temperature {score.scale:.1f}, {rate:.0f} images/s")
        scores.append(replace(score, rate=rate))
    return scores[0], scores[1]


@dataclass(frozen=True)
class Score:
    """What a model makes of the pairs that it has not seen."""

    loss: float
    image_to_text: float
    text_to_image: float
    scale: float
    rate: float = math.nan  # images a second in training


@torch.inference_mode()
def _score(folder: Path, checkpoint: Path | None, pairs: Sequence[Pair], batch_size: int) -> Score:
    """Score a model by open_clip's code: its loss over batches of rows, weighed by rows, and recall@1 over all.

    Rows with equal captions, or the same image, are right answers for each other in the recall; not in the loss.
    """
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    model.eval()
    tokenizer, criterion = open_clip.get_tokenizer(f"local-dir:{folder}"), open_clip.ClipLoss()
    losses, features = [], []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        images = torch.stack([preprocess(Image.open(path)) for path, _ in batch])
        image, text, scale = model(images, tokenizer([caption for _, caption in batch]))[:3]
        losses.append(len(batch) * criterion(image, text, scale).item())
        features.append((image, text))
    images, texts = (torch.cat(part) for part in zip(*features, strict=True))
    right = _numbers([path for path, _ in pairs]), _numbers([caption for _, caption in pairs])
    return Score(sum(losses) / len(pairs), _recall(images, texts, right), _recall(texts, images, right), scale.item())


def _recall(queries: Tensor, answers: Tensor, numbers: tuple[Tensor, Tensor]) -> float:
    """The share of rows whose nearest answer has the row's image or caption."""
    nearest = torch.cat([(part @ answers.T).argmax(1) for part in queries.split(1024)])
    right = [number[nearest] == number for number in numbers]
    return (right[0] | right[1]).float().mean().item()


def _numbers(texts: Sequence[str]) -> Tensor:
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in texts])


COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "orange": (245, 140, 30),
    "black": (25, 25, 25),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "bar")
EDGES = {"small": 10, "medium": 16, "large": 24}  # half the width, of 96
SPOTS = {
    f"{row} {column}".replace("middle middle", "centre"): (24 + 24 * x, 24 + 24 * y)
    for y, row in enumerate(("upper", "middle", "lower"))
    for x, column in enumerate(("left", "middle", "right"))
}
SENTENCES = ("a {} and a {}", "a picture of a {} with a {}", "there is a {}, and a {}", "one {} next to one {}")


def _draw_scenes(folder: Path, count: int) -> list[Pair]:
    """Pictures of two shapes with captions that name their sizes, colours and places, no caption twice."""
    folder.mkdir()
    rng, seen, pairs = random.Random(0), set(), []
    while len(pairs) < count:
        shapes = [
            (rng.choice(list(EDGES)), rng.choice(list(COLOURS)), rng.choice(SHAPES), spot)
            for spot in rng.sample(list(SPOTS), 2)
        ]
        if frozenset(shapes) in seen:
            continue
        seen.add(frozenset(shapes))
        path = folder / f"{len(pairs):05}.png"
        _scene(shapes, rng).save(path)
        said = (f"{size} {colour} {shape} in the {spot}" for size, colour, shape, spot in shapes)
        pairs.append((str(path), rng.choice(SENTENCES).format(*said)))
    return pairs


def _scene(shapes: Sequence[tuple[str, str, str, str]], rng: random.Random) -> Image.Image:
    """96 × 96 pixels; the places are a little off, the background is any grey that all colours differ from."""
    picture = Image.new("RGB", (96, 96), tuple(rng.randint(150, 200) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for size, colour, shape, spot in shapes:
        x, y = (centre + rng.randint(-4, 4) for centre in SPOTS[spot])
        _shape(draw, shape, x, y, EDGES[size], COLOURS[colour])
    return picture


def _shape(draw: ImageDraw.ImageDraw, shape: str, x: int, y: int, r: int, fill: tuple[int, int, int]) -> None:
    third = r // 3
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill)
    elif shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill)
    elif shape == "triangle":
        draw.polygon(((x, y - r), (x + r, y + r), (x - r, y + r)), fill)
    elif shape == "diamond":
        draw.polygon(((x, y - r), (x + r, y), (x, y + r), (x - r, y)), fill)
    else:
        draw.rectangle((x - r, y - third, x + r, y + third), fill)
        if shape == "cross":
            draw.rectangle((x - third, y - r, x + third, y + r), fill)


# 3: memory


def _measure_memory(work: Path, options: argparse.Namespace) -> None:
    batch_size = options.batch_size or 1024
    config = _config(options.model, SMALL)
    model, folder = _describe(work, config)
    run = Run(
        data=_write_pairs(work / "pairs.csv", _draw_scenes(work / "scenes", batch_size)),
        model=model,
        folder=folder,
        config=config,
        epochs=3,
        steps=3,
        batch_size=batch_size,
        workers=options.workers,
    )
    idle = _training_peak(replace(run, batch_size=2, epochs=1, steps=batch_size // 2), work / "idle")
    whole = _training_peak(run, work / "whole") - idle
    chunked = _training_peak(run, work / "chunked", "--chunk-size", str(options.chunk_size)) - idle
    print(f"memory of batches of {batch_size}, above the {idle:.0f} MiB of batches of 2")
    print(f"  whole    {whole:8.0f} MiB")
    print(f"  chunked  {chunked:8.0f} MiB with --chunk-size {options.chunk_size}")
    print(f"  ratio    {chunked / whole:8.2f} (at most {CHUNKED:.2f})")


def _training_peak(run: Run, output: Path, *more: str) -> float:
    """MiB before the last step, with AdamW's moments, without what saving and the report take in the end."""
    return _run(run, "ours", output, *more)[-2].peak


# odds and ends


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "quality", "memory"))
    parser.add_argument("--model", help="a preset or a YAML file; default: ViT-B-32 for speed, otherwise a small model")
    parser.add_argument("--data", type=Path, metavar="CSV", help="your own pairs, for speed and quality")
    parser.add_argument("--val", type=Path, metavar="CSV", help="pairs to measure on, with --data")
    parser.add_argument("--image-column")
    parser.add_argument("--caption-column")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of speed for each program and setting")
    every = [setting for settings in SETTINGS.values() for setting in settings]
    parser.add_argument("--setting", choices=every, help="of open_clip_train, for quality")
    parser.add_argument("--seeds", type=int, default=3, help="models to train per program, for quality")
    parser.add_argument("--steps", type=int, help="14 for speed; 384 for quality, rounded to whole epochs")
    parser.add_argument("--pairs", type=int, default=8192, help="training pairs for quality")
    parser.add_argument("--batch-size", type=int, help="16 for speed, 128 for quality, 1024 for memory")
    parser.add_argument("--chunk-size", type=int, default=CHUNK)
    parser.add_argument("--lr", type=float, default=1e-3, help="the highest learning rate, for quality")
    parser.add_argument("--precision", action="append", choices=("fp32", "bf16"))
    parser.add_argument("--workers", type=int, default=min(8, max(1, auto_workers() // 2)), help="per program")
    parser.add_argument("--same-start", action="store_true", help="for quality: the same initial weights in both")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep runs and logs in this new folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
