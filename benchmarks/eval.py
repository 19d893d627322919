"""Compare `zeroshot eval` with CLIP_benchmark: the same answer for every image, in less time.

1. agreement: the same checkpoint, folder, class names and templates give the same top-1 and top-5, and not only in sum:
   no image is right for one and wrong for the other. In fp32 (`--no_amp`).
2. retrieval: the same recall@1, @5 and @10 in both directions, on images with two captions each.
3. time: the whole commands, and images/s once running, from the images beyond one per class. Weights are random here;
   the answers are compared all the same.

Images are drawn, or cut from the two photographs that scikit-learn ships: JPEG and PNG, RGB and grey, of many sizes,
in class folders `0` to `25`, whose numeric and alphabetic orders differ. Or pass your own folder of class folders.
The model is a small ViT that `zeroshot train` teaches in a minute what such images show, so that the agreement is not
between two kinds of noise; or pass the folder of a model that open_clip can read (a run, or the output of `zeroshot
models export`).

CLIP_benchmark runs through its own command line. It does not store answers for single images, so its
`run_classification` is wrapped to record them; nothing else is changed except a line that NumPy 2.4 rejects. It has
no option for a custom folder, but reads the folder of `imagenet_sketch` with torchvision's ImageFolder and accepts
other class names, in alphabetic order of the folders. Images with captions are read as its `flickr8k`. Batch sizes
and workers are the same.

Intended differences, which your own images may show: ours applies EXIF rotation, puts transparency on white, and
scales 16-bit grey images, which CLIP_benchmark clips to white. CLIP_benchmark ignores GIF, AVIF and HEIC, and rejects
empty class folders, so those are hidden from it while their classes remain. Where two classes share a name
(ImageNet's missile and sunglasses), ours chooses the first and CLIP_benchmark either; such images are counted
separately.

CLIP_benchmark is not a dependency: pip install clip-benchmark requests. Nothing else is downloaded.

    python benchmarks/eval.py [--only agreement|retrieval|time] [--rounds 3] [--images 20]
    python benchmarks/eval.py --data DIR [--labels imagenet] [--prompts imagenet-80] [--model DIR]
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw
from record import processor
from sklearn.datasets import load_sample_images

from zeroshot_cli.clip.config import (
    PRESETS,
    CLIPConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
    config_to_dict,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.datasets.labelled import LabelledImages, read_dataset
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.models.formats.open_clip import default_preprocess, save_model
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import fill, read_prompts

SMALL = CLIPConfig(
    embed_dim=128,
    vision=VisionTransformerConfig(image_size=64, patch_size=16, width=128, layers=3, head_width=32),
    text=TextTransformerConfig(width=128, heads=4, layers=2),
)
PROGRAMS = ("ours", "CLIP_benchmark")
NAMES = {"top1": "acc1", "top5": "acc5", "mean_per_class_recall": "mean_per_class_recall"}  # in CLIP_benchmark
RECALLS = {
    f"{ours}_recall@{k}": f"{theirs}_recall@{k}"
    for ours, theirs in (("image_to_text", "text_retrieval"), ("text_to_image", "image_retrieval"))
    for k in (1, 5, 10)
}
FOLDERS, CAPTIONS = "imagenet_sketch", "flickr8k"  # sets of CLIP_benchmark that read any folder, any captions
OTHER_TEMPLATES = [f"{a} {{}}{b}" for a in ("one", "some", "here is a") for b in ("", ", seen", " again")]

# CLIP_benchmark's command, which also writes down the logits and classes of all images: argv is the file, then its own.
LISTEN = """
import sys
import numpy
from clip_benchmark import cli
from clip_benchmark.metrics import zeroshot_classification as parts

answers, run = sys.argv.pop(1), parts.run_classification

def listen(model, classifier, dataloader, *args, **options):
    logits, classes = run(model, classifier, dataloader, *args, **options)
    paths = [path for path, _ in dataloader.dataset.samples]
    numpy.savez(answers, logits=logits.numpy(), classes=classes.numpy(), paths=paths)
    return logits, classes

def accuracy(output, target, topk=(1,)):
    # As theirs, whose float() of an array with one number NumPy 2.4 refuses.
    right = output.topk(max(topk), 1).indices.eq(target[:, None])
    return [right[:, :k].sum().item() / len(target) for k in topk]

parts.run_classification, parts.accuracy = listen, accuracy
cli.main()
"""


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    if importlib.util.find_spec("clip_benchmark") is None or importlib.util.find_spec("requests") is None:
        sys.exit("this needs CLIP_benchmark: pip install clip-benchmark requests")
    print(f"{processor()}, {auto_workers()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}", end="")
    print(f", CLIP_benchmark {version('clip-benchmark')}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) if options.keep is None else options.keep
        work.mkdir(exist_ok=True)
        task = _task(work, options)
        if options.only in (None, "agreement"):
            _measure_agreement(work, _with_model(task, work, options))
        if options.only in (None, "retrieval"):
            _measure_retrieval(work, _with_model(task, work, options))
        if options.only in (None, "time"):
            _measure_time(work, task if options.model is None else _with_model(task, work, options), options)


# both programs


@dataclass(frozen=True, kw_only=True)
class Task:
    """What both programs are told: a folder of class folders, its classes in order, templates, and a model's folder."""

    data: Path
    labels: str | None
    prompts: str
    model: Path
    batch_size: int
    workers: int
    cache: Path | None = None

    @property
    def model_name(self) -> str:
        return self.model.parent.name if self.model.name == "model" else self.model.name  # of a run

    @property
    def images(self) -> LabelledImages:
        return read_dataset(self.data, None if self.labels is None else read_labels(self.labels))


@dataclass(frozen=True)
class Answer:
    """What a program made of one image; the names of its true class and of that given, which two classes may share.

    `tied`: another class has exactly the score of the true one.
    """

    true: str
    best: str
    top1: bool
    top5: bool
    score: float
    tied: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a program said, and the seconds that it ran."""

    figures: dict[str, float]
    answers: dict[str, Answer]  # by paths in the data's folder
    seconds: float


def _run(program: str, task: Task, work: Path) -> Outcome:
    work.mkdir(parents=True)
    return (_ours if program == "ours" else _theirs)(task, work)


def _ours(task: Task, work: Path) -> Outcome:
    figures, rows = work / "figures.json", work / "predictions.csv"
    labels = [] if task.labels is None else ["--labels", task.labels]
    command = [
        *_eval(task, figures),
        *(str(task.data), *labels, "--prompts", task.prompts, "--predictions", str(rows), "--ignore-errors"),
    ]
    seconds = _command(command, work, task.cache)
    answers = {}
    with rows.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        for row in csv.DictReader(opened):
            if not row["error"]:
                path = os.path.relpath(row["path"], task.data)
                rank = int(row["rank"])
                answers[path] = Answer(row["label"], row["predicted"], rank == 1, rank <= 5, float(row["score"]))
    return Outcome(json.loads(figures.read_text())["metrics"], answers, seconds)


def _eval(task: Task, figures: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "zeroshot_cli", "eval", "--model", str(task.model), "--precision", "fp32"),
        *("--device", "cpu", "--batch-size", str(task.batch_size), "--workers", str(task.workers), "--quiet"),
        *("--output", str(figures), "--no-cache" if task.cache is None else "--cache"),
    ]


def _theirs(task: Task, work: Path) -> Outcome:
    root, classes = _view(task.images, task.data, work / "folders")
    names = [task.images.labels.names[index] for index in classes]
    (work / "classes.json").write_text(json.dumps({FOLDERS: names}))
    (work / "templates.json").write_text(json.dumps({FOLDERS: _templates(task)}))
    command = [
        *(sys.executable, "-c", LISTEN, str(work / "answers.npz"), *_clip_benchmark(task, work), "--dataset", FOLDERS),
        *("--dataset_root", str(root), "--custom_classname_file", str(work / "classes.json")),
        *("--custom_template_file", str(work / "templates.json")),
    ]
    seconds = _command(command, work)
    metrics = json.loads((work / "figures.json").read_text())["metrics"]
    figures = {name: metrics[theirs] for name, theirs in NAMES.items()}
    return Outcome(figures, _their_answers(work / "answers.npz", root, names), seconds)


def _clip_benchmark(task: Task, work: Path) -> list[str]:
    return [
        *("eval", "--model", f"local-dir:{task.model}", "--pretrained", "", "--no_amp", "--quiet"),
        *("--batch_size", str(task.batch_size), "--num_workers", str(task.workers)),
        *("--output", str(work / "figures.json")),
    ]


def _view(images: LabelledImages, data: Path, view: Path) -> tuple[Path, list[int]]:
    """A folder with links to the class folders that have images, and our class of each of theirs.

    Theirs are in the order of the folders' names as strings; classes that have no folder come after those.
    """
    class_of: dict[str, int] = {}
    for item, target in zip(images.items, images.targets, strict=True):
        path = item if isinstance(item, str) else item.path
        class_of[Path(path).relative_to(data).parts[0]] = target
    if len(set(class_of.values())) < len(class_of):
        sys.exit(f"{data}: several folders are one class, which CLIP_benchmark cannot say; join them")
    view.mkdir()
    for folder in class_of:
        (view / folder).symlink_to((data / folder).absolute())
    classes = [class_of[folder] for folder in sorted(class_of)]
    return view, [*classes, *sorted(set(range(len(images.labels))) - set(classes))]


def _templates(task: Task) -> list[str] | dict[str, list[str]]:
    """The templates with CLIP_benchmark's `{c}`; all texts of all classes where some class has texts of its own."""
    prompts, labels = read_prompts(task.prompts), task.images.labels
    if any(label.synonyms or label.prompts for label in labels):
        return {label.name: list(texts) for label, texts in zip(labels, prompts.fill(labels), strict=True)}
    return [fill(template, "{c}") for template in prompts.templates]


def _their_answers(file: Path, root: Path, names: Sequence[str]) -> dict[str, Answer]:
    with np.load(file) as kept:
        logits, true, paths = torch.from_numpy(kept["logits"]), kept["classes"].tolist(), kept["paths"].tolist()
    best = logits.topk(min(5, logits.shape[1]), 1, True, True)[1].tolist()  # as CLIP_benchmark's accuracy()
    answers = {}
    for path, own, top, row in zip(paths, true, best, logits, strict=True):
        tied = int((row == row[own]).sum()) > 1
        answer = Answer(names[own], names[top[0]], own == top[0], own in top, float(row.max()) / 100, tied)
        answers[os.path.relpath(path, root)] = answer
    return answers


def _command(command: Sequence[str], work: Path, cache: Path | None = None) -> float:
    """Seconds that a command takes; exits with the end of what it said where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZEROSHOT_")}
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONIOENCODING": "utf-8:surrogateescape"}
    environment["ZEROSHOT_CACHE_DIR"] = str(cache or work / "cache")
    log = work / "log"
    with log.open("wb") as said:
        start = time.perf_counter()
        ended = subprocess.run(command, env=environment, stdout=said, stderr=said, check=False)
        seconds = time.perf_counter() - start
    if ended.returncode:
        sys.exit(f"{log.read_text(errors='replace')[-2000:]}\n{work.name} ended with {ended.returncode}")
    return seconds


# 1: agreement


def _measure_agreement(work: Path, task: Task) -> None:
    images = task.images
    templates = len(read_prompts(task.prompts).templates)
    print(f"agreement: {len(images)} images, {len(images.labels)} classes × {templates} templates, {task.model_name}")
    ours, theirs = (_run(program, task, work / "agreement" / program) for program in PROGRAMS)
    for program, outcome in zip(PROGRAMS, (ours, theirs), strict=True):
        figures = ", ".join(f"{name} {_per_cent(outcome.figures[name])}" for name in NAMES)
        print(f"  {program:16}{figures}")
    _compare(ours.answers, theirs.answers)


def _compare(ours: dict[str, Answer], theirs: dict[str, Answer]) -> None:
    """Print on how many images the two differ, and those, a line each."""
    pairs = {path: (ours[path], theirs[path]) for path in ours if path in theirs}
    tied = sum((a.top1, a.top5) != (b.top1, b.top5) for a, b in pairs.values() if b.tied)
    top1 = sum(a.top1 != b.top1 for a, b in pairs.values() if not b.tied)
    top5 = sum(a.top5 != b.top5 for a, b in pairs.values() if not b.tied)
    others = {path: pair for path, pair in pairs.items() if pair[0].best != pair[1].best}
    furthest = max(abs(a.score - b.score) for a, b in pairs.values())
    print(f"  right for one only: {top1} of {len(pairs)} images in top-1, {top5} in top-5 (at most 0)", end="")
    print(f"; another best class: {len(others)}; best cosines differ by at most {furthest:.0e}")
    if any(b.tied for _, b in pairs.values()):
        print(f"  and {tied} where two classes have the same score, of which torch.topk puts either first")
    wrong = sum(a.true != b.true for a, b in pairs.values())
    if wrong or len(pairs) < max(len(ours), len(theirs)):
        print(f"  other true classes: {wrong}; only one read {len(ours.keys() ^ theirs.keys())} images")
    for path, (a, b) in itertools.islice(others.items(), 10):
        print(f"    {path!a}: {a.best!a} by {a.score:.7f}, theirs {b.best!a} by {b.score:.7f}; is {a.true!a}")


# 2: retrieval


def _measure_retrieval(work: Path, task: Task) -> None:
    folder = work / "retrieval"
    pictures = folder / "pictures"
    captions = _draw_captioned(pictures)
    _write_csv(folder / "pairs.csv", [("image", "caption"), *((f"pictures/{name}", text) for name, text in captions)])
    lines = ["image,caption", *(f"{name},{text}" for name, text in captions)]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n")
    (folder / "ours").mkdir()
    (folder / "theirs").mkdir()
    print(f"retrieval: {len({name for name, _ in captions})} images, {len(captions)} captions, {task.model_name}")
    _command([*_eval(task, folder / "ours.json"), "--task", "retrieval", str(folder / "pairs.csv")], folder / "ours")
    command = [*_clip_benchmark(task, folder / "theirs"), "--dataset", CAPTIONS, "--dataset_root", str(pictures)]
    command += ["--annotation_file", str(folder / "captions.txt"), "--recall_k", "1", "5", "10"]
    _command([sys.executable, "-m", "clip_benchmark.cli", *command], folder / "theirs")
    ours, theirs = (json.loads((folder / name).read_text())["metrics"] for name in ("ours.json", "theirs/figures.json"))
    for name, their_name in RECALLS.items():
        queries = len(captions) if name.startswith("text") else len({name for name, _ in captions})
        right, their_right = round(queries * ours[name]), round(queries * theirs[their_name])
        print(
            f"  {name:24}{right} of {queries} queries, CLIP_benchmark {their_right}: {right - their_right:+d}", end=""
        )
        print(" (exactly 0)")


# 3: time


def _measure_time(work: Path, task: Task, options: argparse.Namespace) -> None:
    """Each round measures both programs on all images and on one a class; they take turns in going first."""
    few = replace(task, data=_one_a_class(task, work / "one a class"))
    count, less = len(task.images), len(few.images)
    other = work / "other.yaml"
    other.write_text(yaml.safe_dump({"templates": OTHER_TEMPLATES[: len(read_prompts(task.prompts).templates)]}))
    rows = []
    for number in range(options.rounds):
        folder, whole = work / f"time {number}", {}
        rates = {}
        for program in PROGRAMS[:: -1 if number % 2 else 1]:
            whole[program] = _run(program, task, folder / program)
            start = _run(program, few, folder / f"{program} few")
            rates[program] = (count - less) / (whole[program].seconds - start.seconds)
        known = replace(task, cache=folder / "cache")
        _run("ours", known, folder / "filling")
        again = _run("ours", replace(known, prompts=str(other)), folder / "again").seconds
        ours, theirs = (whole[program].seconds for program in PROGRAMS)
        rows.append((ours, theirs, theirs / ours, *(rates[p] for p in PROGRAMS), again, theirs / again))
        rows[-1] += (rates["ours"] / rates["CLIP_benchmark"],)
        if number == 0:
            name = task.model_name
            print(f"time: {count} images, {len(task.images.labels)} classes, {name}, {task.workers} workers")
            _compare(*(whole[program].answers for program in PROGRAMS))
    _print_times(rows, count)


def _print_times(rows: Sequence[tuple[float, ...]], count: int) -> None:
    ours, theirs, ratio, rate, their_rate, again, again_ratio, rates = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    print(f"  whole command   ours {ours:.1f} s, {count / ours:.1f} images/s", end="")
    print(f"; CLIP_benchmark {theirs:.1f} s, {count / theirs:.1f} images/s")
    print(f"    ratio {ratio:.2f} ×: {_all(rows, 2, '{:.2f}')}")
    print(f"  once it runs    ours {rate:.1f} images/s, CLIP_benchmark {their_rate:.1f}")
    print(f"    ratio {rates:.2f} ×: {_all(rows, 7, '{:.2f}')}")
    print(f"  other templates, ours with its cache {again:.1f} s; CLIP_benchmark begins anew")
    print(f"    ratio {again_ratio:.2f} ×: {_all(rows, 6, '{:.2f}')}")


def _one_a_class(task: Task, folder: Path) -> Path:
    first: dict[int, Path] = {}
    for item, target in zip(task.images.items, task.images.targets, strict=True):
        if isinstance(item, str):
            first.setdefault(target, Path(item))
    for path in first.values():
        copy = folder / path.relative_to(task.data)
        copy.parent.mkdir(parents=True)
        shutil.copy(path, copy)
    return folder


# models


def _task(work: Path, options: argparse.Namespace) -> Task:
    data, labels = options.data, options.labels
    if data is None:
        data, labels = work / "pictures", str(work / "labels.json")
        _draw_folders(data, options.images, seed=0)
        Path(labels).write_text(json.dumps(CLASSES))
    if options.model is None and options.only in (None, "time"):
        _save_random(work / options.time_model, options.time_model)
    return Task(
        data=data,
        labels=labels,
        prompts=options.prompts,
        model=work / options.time_model,
        batch_size=options.batch_size,
        workers=options.workers,
    )


def _with_model(task: Task, work: Path, options: argparse.Namespace) -> Task:
    if options.model is not None:
        return replace(task, model=options.model.absolute())
    folder = work / "small ViT" / "model"
    if not folder.exists():
        _train(folder.parent, options)
    return replace(task, model=folder)


def _train(run: Path, options: argparse.Namespace) -> None:
    """Teach a small ViT what the drawn images show, on others than those that it is evaluated on."""
    work = run.with_name("to train on")
    pairs = _draw_pairs(work / "pictures", options.pairs, seed=1)
    _write_csv(work / "pairs.csv", [("image", "caption"), *pairs])
    (work / "model.yaml").write_text(yaml.safe_dump(config_to_dict(SMALL)))
    command = [
        *(sys.executable, "-m", "zeroshot_cli", "train", "--data", str(work / "pairs.csv"), "--output", str(run)),
        *("--model", str(work / "model.yaml"), "--epochs", str(options.epochs), "--batch-size", "64", "--lr", "1e-3"),
        *("--precision", "fp32", "--device", "cpu", "--seed", "0", "--quiet"),
    ]
    seconds = _command(command, work)
    print(f"a small ViT has seen {len(pairs)} other images with captions {options.epochs} times, {seconds:.0f} s")


def _save_random(folder: Path, name: str) -> None:
    torch.manual_seed(0)
    config = PRESETS[name]
    save_model(folder, CLIP(config), config, default_preprocess(config))


# images

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "cross")
EDGES = {"small": 0.1, "medium": 0.16, "large": 0.24}  # half the width, of the shorter edge
SPOTS = {"upper left": (-1, -1), "upper right": (1, -1), "centre": (0, 0), "lower left": (-1, 1), "lower right": (1, 1)}
SHAPE_CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
CLASSES = [*SHAPE_CLASSES, "Chinese temple", "dahlia"]  # the two photographs
SENTENCES = ("a {} {} in the {}", "a picture with a {} {}, {}")


def _draw_folders(folder: Path, count: int, seed: int) -> None:
    """Class folders `0`, `1`, …, of `count` images each: two in three JPEG, one in five grey."""
    rng = random.Random(seed)
    for index, name in enumerate(CLASSES):
        (folder / str(index)).mkdir(parents=True)
        for number in range(count):
            picture, _, _ = _picture(name, rng)
            if rng.random() < 0.2:
                picture = picture.convert("L")
            if rng.random() < 0.33:
                picture.save(folder / str(index) / f"{number:03}.png", compress_level=1)
            else:
                picture.save(folder / str(index) / f"{number:03}.jpg", quality=rng.randint(60, 95))


def _draw_pairs(folder: Path, count: int, seed: int) -> list[tuple[str, str]]:
    folder.mkdir(parents=True)
    rng, pairs = random.Random(seed), []
    for number in range(count):
        name = rng.choice(CLASSES)
        picture, size, spot = _picture(name, rng)
        path = folder / f"{number:05}.jpg"
        picture.save(path, quality=90)
        plain = name not in SHAPE_CLASSES or rng.random() < 0.3
        pairs.append((str(path), f"a photo of a {name}" if plain else rng.choice(SENTENCES).format(size, name, spot)))
    return pairs


def _draw_captioned(folder: Path) -> list[tuple[str, str]]:
    """Every shape in every size and place, with two captions that no other image has."""
    folder.mkdir(parents=True)
    rng, captions = random.Random(2), []
    for number, (name, size, spot) in enumerate(itertools.product(SHAPE_CLASSES, EDGES, SPOTS)):
        _drawing(name, size, spot, rng).save(folder / f"{number:03}.jpg", quality=90)
        captions += [(f"{number:03}.jpg", sentence.format(size, name, spot)) for sentence in SENTENCES]
    return captions


def _picture(name: str, rng: random.Random) -> tuple[Image.Image, str, str]:
    size, spot = rng.choice(list(EDGES)), rng.choice(list(SPOTS))
    return (_drawing(name, size, spot, rng) if name in SHAPE_CLASSES else _part(name, rng)), size, spot


def _drawing(name: str, size: str, spot: str, rng: random.Random) -> Image.Image:
    """A shape in the square in the middle, on any light grey."""
    width, height = _edges(rng)
    edge = min(width, height)
    picture = Image.new("RGB", (width, height), tuple(rng.randint(150, 200) for _ in range(3)))
    colour, shape = name.split()
    x, y = (whole / 2 + side * 0.22 * edge for whole, side in zip((width, height), SPOTS[spot], strict=True))
    r, fill_colour, draw = EDGES[size] * edge, COLOURS[colour], ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill_colour)
    elif shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill_colour)
    elif shape == "triangle":
        draw.polygon(((x, y - r), (x + r, y + r), (x - r, y + r)), fill_colour)
    else:
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill_colour)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill_colour)
    return _grainy(picture, rng)


def _part(name: str, rng: random.Random) -> Image.Image:
    """A part of one of the photographs, at another scale."""
    photograph = PHOTOGRAPHS[CLASSES.index(name) - len(SHAPE_CLASSES)]
    width, height = _edges(rng)
    share = rng.uniform(0.3, 1) * min(photograph.width / width, photograph.height / height)
    left = rng.uniform(0, photograph.width - share * width)
    top = rng.uniform(0, photograph.height - share * height)
    box = (left, top, left + share * width, top + share * height)
    return _grainy(photograph.resize((width, height), Image.Resampling.BICUBIC, box=box), rng)


PHOTOGRAPHS = [Image.fromarray(photograph) for photograph in load_sample_images().images]


def _edges(rng: random.Random) -> tuple[int, int]:
    short = rng.randint(48, 400)
    edges = short, round(short * rng.choice((1, 4 / 3, rng.uniform(1, 2))))
    return edges if rng.random() < 0.6 else edges[::-1]


def _grainy(picture: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32)).integers(-9, 10, (picture.height, picture.width, 1))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


# odds and ends


def _write_csv(file: Path, rows: Sequence[tuple[str, str]]) -> None:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)


def _all(rows: Sequence[tuple[float, ...]], column: int, form: str) -> str:
    return ", ".join(form.format(row[column]) for row in rows)


def _per_cent(share: float) -> str:
    return f"{share:.4%}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("agreement", "retrieval", "time"))
    parser.add_argument("--data", type=Path, metavar="DIR", help="your own folder of class folders")
    parser.add_argument("--labels", metavar="FILE|NAME", help="the classes of --data; default: its folder names")
    parser.add_argument("--prompts", default="imagenet-7", metavar="NAME|FILE")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a model folder that open_clip can read")
    parser.add_argument("--time-model", default="ViT-B-32", help="a preset for time, with random weights")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of time for each program")
    parser.add_argument("--images", type=int, default=20, help="drawn images per class; there are 26")
    parser.add_argument("--pairs", type=int, default=2048, help="drawn pairs to train the small ViT on")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=auto_workers())
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep runs and logs in this new folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
