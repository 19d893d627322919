"""Measure class embeddings of ImageNet's 1000 names in 80 templates against open_clip's build_zero_shot_classifier.

Weights are random: time does not depend on them, and nothing is downloaded. open_clip would take hours, so it encodes a
sample of the names, alternating with ours; ours encodes all of them. The limit is the number of tokens to compute times
the FLOPs per token, at the rate that matrix products reach in the same run.

    python benchmarks/class_embeddings.py [--classes 1000] [--sample 4] [--precision fp32] [--exact]
"""

import argparse
import multiprocessing
import os
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from record import processor

from zeroshot_cli.clip.config import PRESETS, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.embed.prompt_ensemble import class_embeddings
from zeroshot_cli.embed.texts import TREE, WINDOW, TextCache, trees
from zeroshot_cli.models.formats.open_clip import default_preprocess, save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.models.precision import DTYPES, has_bf16
from zeroshot_cli.words.prompts import read_prompts

TARGETS = {"fp32": (10, 12), "bf16": (30, 35)}  # at least, and hoped for
SMALL = CLIPConfig(
    embed_dim=64,
    vision=VisionTransformerConfig(image_size=32, patch_size=8, width=64, layers=1, head_width=32),
    text=TextTransformerConfig(width=128, heads=4, layers=3),
)


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    print(f"{processor()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        if options.exact:
            _save(Path(folder) / "small", SMALL)
            _compare_all(Path(folder) / "small")
        _save(Path(folder) / "model", PRESETS[options.model])
        for precision in options.precision or ("fp32", "bf16"):
            if precision == "bf16" and not has_bf16(torch.device("cpu")):
                print("bf16: this processor does not multiply in it, so there is nothing to measure")
                continue
            _measure(Path(folder) / "model", precision, options)


def _measure(folder: Path, precision: str, options: argparse.Namespace) -> None:
    model = load(str(folder), device="cpu", precision=precision)
    names = IMAGENET_CLASSNAMES[: options.classes]
    prompts = _prompts(names)
    theirs = _their_rate(folder, precision)
    rates = [theirs(names[: options.sample])]
    products = [_product_rate(model)]
    start = time.perf_counter()
    class_embeddings(model, prompts)
    seconds = time.perf_counter() - start
    rates.append(theirs(names[-options.sample :]))
    products.append(_product_rate(model))
    count = sum(map(len, prompts))
    rate, rate_of_theirs, product = count / seconds, statistics.harmonic_mean(rates), statistics.mean(products)
    least, aim = TARGETS.get(precision, (0, 0))
    tokens, flops = _work(model, prompts)
    print(f"{precision}: {options.model}, {len(names)} names × {len(prompts[0])} templates")
    print(f"  ours       {rate:8.1f} prompts/s  ({count} prompts, {seconds:.0f} s)")
    print(
        f"  open_clip  {rate_of_theirs:8.1f} prompts/s  ({2 * options.sample} names, before and after: {_list(rates)})"
    )
    print(f"  ratio      {rate / rate_of_theirs:8.1f} ×  (at least {least}, aim {aim})")
    print(
        f"  limit      {flops / product / seconds:8.0%}  of it reached: {tokens / count:.2f} tokens a prompt, ", end=""
    )
    print(f"{product / 1e9:.0f} GFLOP/s in products ({_list(p / 1e9 for p in products)})")
    _measure_tokenizer(model, prompts, seconds)
    _measure_cache(model, prompts)
    _measure_memory(folder, precision, min(len(names), 205))  # a whole window of prompts


def _measure_tokenizer(model: LoadedModel, prompts: list[list[str]], seconds: float) -> None:
    start = time.perf_counter()
    model.tokenizer.sequences([text for texts in prompts for text in texts])  # type: ignore[attr-defined]
    print(f"  tokens     {(time.perf_counter() - start) / seconds:8.1%}  of the time for tokenising (at most 5 %)")


def _measure_cache(model: LoadedModel, prompts: list[list[str]]) -> None:
    """The first seven templates: as many prompts a label as the default set has."""
    few = [texts[:7] for texts in prompts]
    model.fingerprint  # noqa: B018  computed once a model, whatever is cached by it
    with tempfile.TemporaryDirectory() as folder:
        first = class_embeddings(model, few, cache=TextCache(Path(folder)))
        start = time.perf_counter()
        again = class_embeddings(model, few, cache=TextCache(Path(folder)))
        seconds = time.perf_counter() - start
    assert torch.equal(first, again)
    print(f"  cache      {1000 * seconds:8.0f} ms for {len(few)} labels × 7 templates the second time (at most 50)")


def _compare_all(folder: Path) -> None:
    """All thousand names with a small tower: the largest difference to open_clip."""
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    expected = open_clip.build_zero_shot_classifier(
        theirs, tokenizer, IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=10
    ).T
    ours = class_embeddings(load(str(folder), device="cpu", precision="fp32"), _prompts(IMAGENET_CLASSNAMES))
    print(
        f"exact: the largest difference, a small tower, 1000 × 80: {(ours - expected).abs().max():.1e} (at most 1e-5)"
    )


def _their_rate(folder: Path, precision: str) -> Callable[[list[str]], float]:
    model = open_clip.create_model(f"local-dir:{folder}").eval().to(DTYPES[precision])
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    build: Callable[..., Any] = open_clip.build_zero_shot_classifier

    def rate(names: list[str]) -> float:
        start = time.perf_counter()
        build(model, tokenizer, names, OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=2)
        return len(names) * len(OPENAI_IMAGENET_TEMPLATES) / (time.perf_counter() - start)

    return rate


def _prompts(names: list[str]) -> list[list[str]]:
    return [[template.replace("{}", name) for template in read_prompts("imagenet-80").templates] for name in names]


def _work(model: LoadedModel, prompts: list[list[str]]) -> tuple[int, float]:
    """The tokens that are computed, and their FLOPs: two for each weight that a token is multiplied by."""
    clip, config, tokenizer = model.bundled()
    sequences = list({tuple(ids) for ids in tokenizer.sequences([text for texts in prompts for text in texts])})
    tokens = sum(
        len(tree.tokens)
        for start in range(0, len(sequences), WINDOW)
        for tree in trees(sequences[start : start + WINDOW], most=TREE["cpu"])
    )
    width, layers = config.text.width, len(clip.text.transformer.resblocks)
    of_last = 2 * 2 * width**2 * tokens + 2 * 10 * width**2 * len(sequences)
    return tokens, (layers - 1) * 2 * 12 * width**2 * tokens + of_last


@torch.inference_mode()
def _product_rate(model: LoadedModel) -> float:
    """FLOP/s of the tower's largest product, 512 tokens at once: the median of 50."""
    _, config, _ = model.bundled()
    width, dtype = config.text.width, DTYPES[model.precision]
    x, w = torch.randn(512, width, dtype=dtype), torch.randn(4 * width, width, dtype=dtype)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        seconds.append(time.perf_counter() - start)
    return 2 * 512 * 4 * width**2 / statistics.median(seconds)


def _memory(folder: Path, precision: str, names: int, results: SimpleQueue[int]) -> None:
    """The largest resident size after loading and after the build, of a process of its own."""
    warnings.simplefilter("ignore")
    model = load(str(folder), device="cpu", precision=precision)
    results.put(_peak())
    class_embeddings(model, _prompts(IMAGENET_CLASSNAMES[:names]))
    results.put(_peak())


def _peak() -> int:
    # Not getrusage: there a child starts with the peak of its parent.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def _measure_memory(folder: Path, precision: str, names: int) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_memory, args=(folder, precision, names, results))
    process.start()
    process.join()
    loading, building = results.get(), results.get()
    print(f"  memory     {building / loading:8.2f} ×  the peak of loading ({loading >> 10} MiB; at most 1.5)")


def _save(folder: Path, config: CLIPConfig) -> None:
    torch.manual_seed(0)
    save_model(folder, CLIP(config), config, default_preprocess(config))


def _list(values: Any) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=4, help="names that open_clip encodes, before ours and after")
    parser.add_argument("--precision", action="append", choices=("fp32", "bf16"))
    parser.add_argument("--exact", action="store_true", help="also compare all names with open_clip on a small encoder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
