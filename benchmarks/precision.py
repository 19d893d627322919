"""Measure the image encoder of a model on the CPU, in zeroshot's engines and in peers, as × open_clip in float32.

All have the same random weights. Each round runs one batch per engine, in a new order; images/s are medians, and a
ratio is the median of the rounds' ratios to open_clip in float32, with the spread of its middle half. OpenVINO and ONNX
Runtime by hand run what torch exports of open_clip's model; their 8 bits are those of their own tools: NNCF calibrated
on 32 images of noise, and ONNX Runtime's dynamic quantisation, in which all images of a batch share a scale.

    pip install -e '.[bench]'
    python benchmarks/precision.py [--model NAME] [--rounds N] [--batch N] [--threads N] [--only TEXT]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import PRESETS
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.engines.integers import cpu_flags
from zeroshot_cli.models.formats.open_clip import default_preprocess, from_disk
from zeroshot_cli.models.formats.tensors import load_into
from zeroshot_cli.models.loaded import make_ready
from zeroshot_cli.models.tokenizers import tokenizer_of

REFERENCE = "open_clip fp32"
Encode = Callable[[Tensor], Tensor]  # images b3hw -> embeddings be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="a preset such as RN50")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="only engines whose name contains this text, and open_clip fp32")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # of open_clip, that the weights are random, and of the exporters
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval().requires_grad_(False)
    images = torch.randn(options.batch, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        engines, missing = build(options, model, images, Path(folder))
        with torch.inference_mode():
            cosines, slow = warm_up(engines, images)
            seconds = measure(engines, images, options.rounds, slow)
    print(f"{options.model}, batch {options.batch}, {options.threads} threads, {options.rounds} rounds; ", end="")
    print("bf16 in hardware: " + ("yes" if {"avx512_bf16", "amx_bf16"} & cpu_flags() else "no"), end=", ")
    print("VNNI: " + ("yes" if "avx512_vnni" in cpu_flags() else "no"))
    print(f"{'':24}{'images/s':>10}{'ratio':>8}{'spread':>14}{'cosine':>10}")
    for name, times in seconds.items():
        ratios = [theirs / own for own, theirs in zip(times, seconds[REFERENCE], strict=False)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        spread = f"{low:.2f} to {high:.2f}"
        print(
            f"{name:24}{options.batch / statistics.median(times):10.1f}{middle:8.2f}{spread:>14}{cosines[name]:10.6f}"
        )
    print("cosine: the worst of the batch to open_clip fp32, on random weights; trained weights may differ")
    for name, reason in missing.items():
        print(f"{name:24}not measured: {reason}")


def build(
    options: argparse.Namespace, model: Any, images: Tensor, folder: Path
) -> tuple[dict[str, Encode], dict[str, str]]:
    """The engines by name, and the reason for each that cannot be had; exported models go to `folder`."""
    exported, threads, name, only = folder / "visual.onnx", options.threads, options.model, options.only
    makers: dict[str, Callable[[], Encode]] = {
        REFERENCE: lambda: model.encode_image,
        "zeroshot fp32": lambda: ours(name, model, "fp32"),
        "zeroshot fp32 openvino": lambda: ours(name, model, "fp32", "openvino"),
        "ONNX Runtime fp32": lambda: onnx_runtime(export(model, images, exported), threads),
        "OpenVINO fp32": lambda: openvino(export(model, images, exported), "f32", threads),
        "open_clip bf16": lambda: open_clip_bf16(name, model),
        "zeroshot bf16": lambda: ours(name, model, "bf16"),
        "zeroshot bf16 openvino": lambda: ours(name, model, "bf16", "openvino"),
        "OpenVINO bf16": lambda: openvino(export(model, images, exported), "bf16", threads),
        "zeroshot int8": lambda: ours(name, model, "int8", "openvino"),
        "OpenVINO int8": lambda: openvino(calibrated(export(model, images, exported), images), "bf16", threads),
        "ONNX Runtime int8": lambda: onnx_runtime(quantised(export(model, images, exported)), threads),
    }
    engines: dict[str, Encode] = {}
    missing: dict[str, str] = {}
    for engine, make in makers.items():
        if only and only not in engine and engine != REFERENCE:
            continue
        try:
            engines[engine] = make()
        except ImportError as error:
            missing[engine] = f"{error}; pip install -e '.[bench]'"
    return engines, missing


def warm_up(engines: dict[str, Encode], images: Tensor) -> tuple[dict[str, float], set[str]]:
    """Each engine's cosine to the reference, and which engines are over ten times slower than it.

    bf16 without hardware for it is: a number format imitated one value at a time.
    """
    expected, times, cosines = engines[REFERENCE](images), {}, {}
    for name, encode in engines.items():
        start = time.perf_counter()
        cosines[name] = cosine(encode(images), expected)
        times[name] = time.perf_counter() - start
    return cosines, {name for name in times if times[name] > 10 * times[REFERENCE]}


def measure(engines: dict[str, Encode], images: Tensor, rounds: int, slow: set[str]) -> dict[str, list[float]]:
    """Seconds of each round by engine; all were run before, so nothing is measured cold. Slow ones run once."""
    names = list(engines)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn == 0 or name not in slow:
                start = time.perf_counter()
                engines[name](images)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def cosine(found: Tensor, expected: Tensor) -> float:
    """The worst cosine of two embeddings of one image."""
    return float(F.cosine_similarity(found.float(), expected.float()).min())


def ours(name: str, model: nn.Module, precision: str, engine: str = "torch") -> Encode:
    config = PRESETS[name]
    bundled = CLIP(config)
    load_into(bundled, from_disk(model.state_dict()), source="open_clip")
    loaded = make_ready(
        name=name,
        pretrained=None,
        model=bundled,
        config=config,
        preprocess=default_preprocess(config),
        tokenizer=tokenizer_of(config),
        device=torch.device("cpu"),
        precision=precision,
        engine=engine,
    )
    return loaded.encode_images


def open_clip_bf16(name: str, model: nn.Module) -> Encode:
    short = open_clip.create_model(name, precision="pure_bf16").eval().requires_grad_(False)
    short.load_state_dict(model.state_dict())
    return lambda images: short.encode_image(images.bfloat16())


def export(model: Any, images: Tensor, path: Path) -> Path:
    """open_clip's image tower as ONNX, once, for the batch that is measured."""
    import onnx  # noqa: F401  the exporter needs it and says so less clearly

    if not path.exists():
        torch.backends.mha.set_fastpath_enabled(False)  # the exporter knows the operations that it stands for
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(model.visual, (images,), str(path), input_names=["images"], dynamo=False)
        torch.backends.mha.set_fastpath_enabled(True)
    return path


def quantised(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = path.with_suffix(".int8.onnx")
    # Its documentation advises 7 bits of weights where the processor lacks VNNI, as ours has it.
    fits = "avx512_vnni" in cpu_flags()
    # Linear layers alone, as ours: its default takes the convolution too, in a kernel that is slow.
    kinds = ["MatMul", "Gemm"]
    quantize_dynamic(
        path, out, op_types_to_quantize=kinds, weight_type=QuantType.QInt8, per_channel=True, reduce_range=not fits
    )
    return out


def calibrated(path: Path, images: Tensor) -> Path:
    """What NNCF makes of an exported model: static scales, and SmoothQuant for Transformers."""
    import nncf
    import openvino as ov

    out = path.with_suffix(".int8.xml")
    graph = ov.Core().read_model(str(path))
    noise = [torch.randn(images.shape).numpy() for _ in range(max(1, 32 // len(images)))]
    kind = nncf.ModelType.TRANSFORMER if "softmax" in {op.get_type_name().lower() for op in graph.get_ops()} else None
    ov.save_model(nncf.quantize(graph, nncf.Dataset(noise), model_type=kind), str(out), compress_to_fp16=False)
    return out


def onnx_runtime(path: Path, threads: int) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def openvino(path: Path, precision: str, threads: int) -> Encode:
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(str(path), "CPU", options)
    return lambda images: torch.from_numpy(np.array(compiled(images.numpy())[0]))


if __name__ == "__main__":
    main()
