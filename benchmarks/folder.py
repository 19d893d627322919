"""Measure `zeroshot classify` on folders: the model stays busy, alternatives are slower, known images cost nothing.

1. End to end (finding, hashing, decoding, the model, scoring, CSV, filling the cache): at least 85 % of the limit
   1 ÷ (model seconds per image + decoding CPU seconds per image ÷ cores), both measured in the same round.
2. At least 4 × the speed of an open_clip script in its best settings (folder_peer.py: bf16 pure or mixed, one or two
   workers, whichever is fastest here) on 12-megapixel photographs, and 2 × on small ones, with the same weights, once
   both run; and the peak memory of both whole commands, all their processes together.
3. 10,000 cached images with a new label file: the whole process takes at most one second longer than `import torch`.
4. `tiny`, the smaller bundled model, labels at least 100 images per second on one core, including startup and a CSV.
5. `small` labels at least 60 JPEG images of 500 × 375 pixels per second on one core in bf16, and 30 in fp32, in at most
   700 MB.

Photographs are made from the two that scikit-learn ships, enlarged, with grain so that their files have the size of a
camera's; or pass your own folder. Weights are random: time does not depend on them.

    python benchmarks/folder.py [FOLDER ...] [--rounds 3] [--images 96] [--model ViT-B-32] [--precision auto]
    python benchmarks/folder.py --only cached
    python benchmarks/folder.py --only tiny
    python benchmarks/folder.py --only small
"""

from __future__ import annotations

import argparse
import hashlib
import io
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from folder_peer import LABELS
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from PIL import Image
from record import processor
from sklearn.datasets import load_sample_images

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.clip.config import PRESETS, CBOWConfig, CLIPConfig, EfficientNetConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.embed.batches import auto_batch_size
from zeroshot_cli.embed.image_cache import FileState, ImageCache, NewImage
from zeroshot_cli.images.decode import Decoding, decode
from zeroshot_cli.images.decoder_pool import auto_workers
from zeroshot_cli.images.find import find_images
from zeroshot_cli.images.preprocess import resize, resized_size
from zeroshot_cli.models.formats.open_clip import default_preprocess, save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.models.registry import BUNDLED
from zeroshot_cli.results.formats import deliver
from zeroshot_cli.results.outputs import open_outputs
from zeroshot_cli.results.run_record import RunRecord
from zeroshot_cli.results.targets import Targets

SIZES = {"0.2 megapixels": (500, 375), "2 megapixels": (1600, 1200), "12 megapixels": (4000, 3000)}
AT_LEAST = {"0.2 megapixels": 2.0, "12 megapixels": 4.0}  # × the script
PEER = Path(__file__).with_name("folder_peer.py")
PEER_SETTINGS = [(precision, workers) for precision in ("pure_bf16", "amp_bf16") for workers in (1, 2)]
DRAFT = Decoding(exact=False)


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    print(f"{processor()}, {auto_workers()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        _save(work / "model", options.model)
        if options.only in (None, "folders"):
            folders = [Path(folder) for folder in options.folders] or _draw(work / "photos", options.images)
            for folder in folders:
                _measure_folder(folder, work, options)
        if options.only in (None, "cached"):
            _measure_cached(work, options)
        if options.only in (None, "tiny"):
            _measure_tiny(work, options)
        if options.only in (None, "small"):
            _measure_small(work, options)


# 1 and 2: folders


def _measure_folder(folder: Path, work: Path, options: argparse.Namespace) -> None:
    model = load(str(work / "model"), precision=options.precision)
    small = load("small", precision=options.precision)
    paths = [item for item in find_images([str(folder)]).items if isinstance(item, str)]
    sample = paths[:: max(1, len(paths) // 32)][:32]
    peer = [sys.executable, str(PEER), str(work / "model"), str(folder), str(work / "peer.csv")]
    best = min(PEER_SETTINGS, key=lambda settings: _peer_seconds(peer, *settings)[0])
    rows = []
    for number in range(options.rounds):
        model_seconds = _model_seconds(model)
        decoding_seconds = _decoding_seconds(model, sample)
        ours, with_small = (
            _our_seconds(one, folder, work / f"{folder.name} {number} {name}") / len(paths)
            for one, name in ((model, "same"), (small, "small"))
        )
        theirs, their_memory = _peer_seconds(peer, *best)
        limit = model_seconds + decoding_seconds / auto_workers()
        row = {"rate": 1 / ours, "limit": limit / ours, "ratio": theirs / ours, "theirs": 1 / theirs}
        row |= {"model": 1 / model_seconds, "decoding": 1000 * decoding_seconds}
        row |= {"share": 1 - model_seconds / limit, "small": 1 / with_small, "small ratio": theirs / with_small}
        row |= {"memory": _our_memory(folder, work, options), "their memory": their_memory}
        rows.append(row)
    median = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    megabytes = statistics.mean(Path(path).stat().st_size for path in paths) / 1e6
    print(f"{folder.name}: {len(paths)} images of {megabytes:.1f} MB, {options.model} in {model.precision}")
    print(f"  end to end {median['rate']:8.1f} images/s: {_all(rows, 'rate', '{:.1f}')}")
    print(f"  decoding   {median['decoding']:8.1f} ms of CPU, {median['share']:.0%} of the time", end="")
    print(f"; the model alone {median['model']:.1f} images/s")
    print(f"  limit      {median['limit']:8.1%} of it reached (at least 85 %): {_all(rows, 'limit', '{:.0%}')}")
    least = f" (at least {AT_LEAST[folder.name]:.0f})" if folder.name in AT_LEAST else ""
    how = f"open_clip in {best[0]}, {best[1]} workers: {median['theirs']:.1f} images/s"
    print(f"  script     {median['ratio']:8.1f} × as fast as it{least}: {_all(rows, 'ratio', '{:.1f}')}; {how}")
    print(f"  small      {median['small ratio']:8.1f} × as fast as it, {median['small']:.1f} images/s")
    print(f"  memory     {median['memory']:8.0f} MB at the peak; the script {median['their memory']:.0f} MB")


def _our_seconds(model: LoadedModel, folder: Path, output: Path) -> float:
    """All that `zeroshot classify FOLDER --output FILE.csv` does once its model and labels are there."""
    classifier = Classifier(model, LABELS, "plain")
    cache = ImageCache(output)
    output.mkdir()
    model.fingerprint  # noqa: B018  computed once a model, whatever is classified
    start = time.perf_counter()
    found = find_images([str(folder)])
    size = auto_batch_size(found.count, model)
    with open_outputs(Targets((output / "labels.csv",)), RunRecord(), expected=found.paths()) as outputs:
        blocks = classifier.predict_blocks(found.items, batch_size=size, cache=cache, decoding=DRAFT)
        outputs.finish(deliver(blocks, outputs.sinks))
    return time.perf_counter() - start


def _model_seconds(model: LoadedModel) -> float:
    """Seconds an image in full batches, which are ready in memory: the median of nine."""
    size = auto_batch_size(None, model)
    batch = torch.randint(0, 256, (size, *model.preprocess.config.height_width, 3), dtype=torch.uint8)
    return statistics.median(_seconds(lambda: model.encode_pixels(batch).cpu()) for _ in range(9)) / size


def _decoding_seconds(model: LoadedModel, paths: Sequence[str]) -> float:
    """CPU seconds an image, decoded and resized in this process by one thread."""
    config = model.preprocess.config
    start = time.process_time()
    for path in paths:
        resize(decode(path, reduce_to=lambda height, width: resized_size(height, width, config)), config, exact=False)
    return (time.process_time() - start) / len(paths)


def _peer_seconds(command: Sequence[str], precision: str, workers: int) -> tuple[float, float]:
    """Seconds an image of open_clip's script, without its start, and megabytes of its processes at the peak."""
    output, memory = _whole([*command, "--precision", precision, "--workers", str(workers)])
    count, seconds = output.split()
    return float(seconds) / int(count), memory


def _our_memory(folder: Path, work: Path, options: argparse.Namespace) -> float:
    labels = work / "labels.txt"
    labels.write_text("\n".join(LABELS) + "\n")
    command = [sys.executable, "-m", "zeroshot_cli", "classify", str(folder), "--model", str(work / "model")]
    command += ["--labels", str(labels), "--precision", options.precision, "--no-cache", "--quiet"]
    return _whole([*command, "--overwrite", "--output", str(work / "memory.csv")])[1]


def _whole(command: Sequence[str]) -> tuple[str, float]:
    """Run a command; return what it prints, and megabytes at the peak of all its processes, shared pages once."""
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            peak = max(peak, _megabytes(process.pid))
            time.sleep(0.1)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output, peak


def _megabytes(pid: int) -> float:
    """Memory of a process and of those that it started, shared pages divided among them; 0 without Linux's /proc."""
    folder = Path(f"/proc/{pid}")
    try:
        own = int(re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)[1])
        children = " ".join(task.read_text() for task in folder.glob("task/*/children")).split()
    except (OSError, TypeError):  # it has ended
        return 0.0
    return own * 1024 / 1e6 + sum(_megabytes(int(child)) for child in children)


def _open_clip_script(folder: Path) -> Callable[[Sequence[str]], float]:
    """What one writes after reading open_clip's README: seconds an image, in batches of 32."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def run(paths: Sequence[str]) -> float:
        with torch.no_grad():
            text = torch.nn.functional.normalize(model.encode_text(tokenizer(LABELS)), dim=-1)
            start = time.perf_counter()
            for first in range(0, len(paths), 32):
                images = torch.stack([preprocess(Image.open(path)) for path in paths[first : first + 32]])
                features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
                (100 * features @ text.T).softmax(dim=-1)
            return (time.perf_counter() - start) / len(paths)

    return run


# 3: known images


def _measure_cached(work: Path, options: argparse.Namespace) -> None:
    folder, cache = work / "known", work / "known-cache"
    environment = {**os.environ, "ZEROSHOT_CACHE_DIR": str(cache)}
    _fill(folder, cache, work / "model", options)
    command = [sys.executable, "-m", "zeroshot_cli", "classify", str(folder), "--model", str(work / "model")]
    command += ["--precision", options.precision, "--overwrite", "--output", str(work / "known.csv")]
    rows = []
    for number in range(options.rounds + 3):
        labels = work / f"labels-{number}.txt"
        labels.write_text("\n".join(random.sample(sorted(set(IMAGENET_CLASSNAMES)), 20)) + "\n")
        ours = _seconds(lambda labels=labels: _run([*command, "--labels", str(labels)], environment))
        torch_alone = _seconds(lambda: _run([sys.executable, "-c", "import torch"], environment))
        if number:  # the first fills the disk's cache, and notes the weights' fingerprint
            rows.append((ours, torch_alone, ours - torch_alone))
    lines = (work / "known.csv").read_text().count("\n") - 1
    ours, torch_alone, more = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{lines} cached images, 20 new labels × 7 templates, {options.model}: the whole process {ours:.2f} s")
    print(f"  import torch {torch_alone:.2f} s, so {more:.2f} s more (at most 1): {_all(rows, 2, '{:.2f}')}")


def _fill(folder: Path, cache: Path, model: Path, options: argparse.Namespace) -> None:
    """Ten thousand different files, and an embedding for each as a run would have kept it."""
    folder.mkdir()
    loaded = load(str(model), precision=options.precision)
    known = ImageCache(cache).for_run(loaded, decoding=DRAFT.mode, batch_size=auto_batch_size(10_000, loaded))
    rng = np.random.default_rng(0)
    with io.BytesIO() as small:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(small, "JPEG")
        content = small.getvalue()
    paths = [folder / f"{number:05}.jpg" for number in range(10_000)]
    for number, path in enumerate(paths):
        path.write_bytes(content + number.to_bytes(4, "big"))
    time.sleep(2.5)  # files that have just changed are not trusted
    for start in range(0, len(paths), 500):
        new = []
        for path in paths[start : start + 500]:
            embedding = rng.standard_normal(loaded.embed_dim).astype(np.float32)
            embedding /= np.linalg.norm(embedding)
            digest = hashlib.sha256(path.read_bytes()).digest()
            new.append(NewImage(FileState.of(str(path)), digest, embedding))
        known.put(new)


# 4 and 5: the bundled models on one core


@dataclass(frozen=True, slots=True)
class _OneCore:
    """What is measured on one core: a model, in one precision, on few and many images of a size in pixels."""

    name: str
    model: str
    precision: str
    size: tuple[int, int]
    counts: tuple[int, int]
    suffix: str


def _measure_tiny(work: Path, options: argparse.Namespace) -> None:
    rows = _on_one_core(_OneCore("tiny", "tiny", options.precision, (128, 128), (200, 2_000), ".png"), work, options)
    if rows:
        whole, running, ratio, _ = (statistics.median(column) for column in zip(*rows, strict=True))
        print("2000 images of 128 pixels, 5 labels, tiny, on one core")
        print(f"  start and all {whole:.0f} images/s (at least 100): {_all(rows, 0, '{:.0f}')}")
        print(f"  once it runs {running:.0f} images/s: {_all(rows, 1, '{:.0f}')}")
        print(f"  {ratio:.0f} × as fast as the script with {options.model} in float32, whose start is not counted")


def _measure_small(work: Path, options: argparse.Namespace) -> None:
    model = "small" if "small" in BUNDLED else _random_small(work / "random-small")
    for precision, least in (("bf16", 60), ("fp32", 30)):
        kind = _OneCore("small", model, precision, (500, 375), (100, 500), ".jpg")
        if rows := _on_one_core(kind, work, options):
            whole, running, ratio, memory = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"500 images of 500 × 375 pixels, 5 labels, small in {precision}, on one core")
            print(f"  once it runs {running:.0f} images/s (at least {least}): {_all(rows, 1, '{:.0f}')}")
            print(f"  start and all {whole:.0f} images/s: {_all(rows, 0, '{:.0f}')}")
            print(f"  memory {memory:.0f} MB at the peak (at most 700): {_all(rows, 3, '{:.0f}')}")
            print(f"  script {ratio:.1f} × as fast as it with {options.model} in float32, whose start is not counted")


def _on_one_core(kind: _OneCore, work: Path, options: argparse.Namespace) -> list[tuple[float, ...]]:
    """Images a second with and without the start, how often the script's, and megabytes, for each round.

    Few and many images tell the start from the work.
    """
    if not hasattr(os, "sched_setaffinity"):
        print(f"{kind.name} on one core: not measured, since this system binds no process to a core")
        return []
    few, many = (_folder_of(kind, count, work) for count in kind.counts)
    labels = work / "labels.txt"
    labels.write_text("\n".join(LABELS) + "\n")
    command = [sys.executable, "-m", "zeroshot_cli", "classify", "--model", kind.model, "--labels", str(labels)]
    command += ["--device", "cpu", "--precision", kind.precision, "--no-cache"]
    command += ["--overwrite", "--output", str(work / f"{kind.name}.csv")]
    script, sample = _open_clip_script(work / "model"), sorted(map(str, few.iterdir()))[:64]
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})  # children inherit it
    torch.set_num_threads(1)
    rows = []
    for _ in range(options.rounds):
        theirs = script(sample)
        (short, _), (long, memory) = (_watched([*command, str(folder)]) for folder in (few, many))
        count, more = kind.counts[1], kind.counts[1] - kind.counts[0]
        rows.append((count / long, more / (long - short), theirs * count / long, memory))
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    return rows


def _folder_of(kind: _OneCore, count: int, work: Path) -> Path:
    folder = work / f"{kind.name}-{count}"
    if not folder.exists():
        folder.mkdir()
        pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
        for index in range(count):
            picture = _photograph(pictures[index % len(pictures)], kind.size, index)
            picture.save(folder / f"{index:04}{kind.suffix}", quality=90)
    return folder


def _watched(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and its megabytes at the peak, or NaN where the system does not tell."""
    start, peak = time.perf_counter(), math.nan
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            # Not ru_maxrss: there a child starts with the peak of its parent.
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
            peak = int(found[1]) * 1024 / 1e6 if found else peak
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, peak


def _random_small(folder: Path) -> str:
    """A model of the shape of `small`, for a version that does not carry it."""
    vision = EfficientNetConfig(image_size=224, hidden=512, gate=0.5)
    config = CLIPConfig(embed_dim=384, vision=vision, text=CBOWConfig(width=384, vocab_size=12_000))
    save_model(folder, CLIP(config), config, default_preprocess(config), dtype=torch.int8)
    return str(folder)


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# photographs


def _draw(folder: Path, count: int) -> list[Path]:
    """A folder for each size, of `count` photographs, a third of them for the largest."""
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    folders = []
    for name, size in SIZES.items():
        target = folder / name
        target.mkdir(parents=True)
        number = count if size[0] < 4000 else max(1, count // 3)
        for index in range(number):
            _photograph(pictures[index % len(pictures)], size, index).save(target / f"{index:04}.jpg", quality=90)
        folders.append(target)
    return folders


def _photograph(picture: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    """Another part of the image for every seed, enlarged, with the grain of a sensor."""
    rng = np.random.default_rng(seed)
    part = rng.uniform(0.6, 1.0)
    width, height = part * picture.width, part * picture.width * size[1] / size[0]
    height = min(height, picture.height)
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    large = picture.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
    grain = rng.standard_normal((size[1], size[0], 1), dtype=np.float32) * 6
    return Image.fromarray((np.asarray(large) + grain).clip(0, 255).astype(np.uint8))


# odds and ends


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _all(rows: Sequence[Any], column: int | str, form: str) -> str:
    return ", ".join(form.format(row[column]) for row in rows)


def _save(folder: Path, name: str) -> None:
    torch.manual_seed(0)
    config = PRESETS[name]
    save_model(folder, CLIP(config), config, default_preprocess(config))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="your own folders of photographs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=192, help="photographs per size; a third as many at 12 megapixels"
    )
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only", choices=("folders", "cached", "tiny", "small"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
