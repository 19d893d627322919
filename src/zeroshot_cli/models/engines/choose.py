"""Which program runs the image tower; importing this takes no torch."""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from zeroshot_cli.disk import cache_folder
from zeroshot_cli.errors import UsageError

AUTO, TORCH = "auto", "torch"
PACKAGES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}  # in the order in which int8 prefers them
ENGINES = (AUTO, TORCH, *PACKAGES)


def computing(precision: str, engine: str) -> str:
    """Return what the bits of an image's embedding depend on: `fp32`, or `fp32 by openvino 2026.4.1`."""
    return precision if engine == TORCH else f"{precision} by {engine} {version(engine)}"


def computed_by(text: str) -> tuple[str, str]:
    """Return the precision and the engine that `computing` has put together."""
    precision, _, engine = text.partition(" by ")
    return precision, engine.partition(" ")[0] or TORCH


def engines_folder() -> Path:
    """Return where encoders are kept as ONNX."""
    return cache_folder() / "engines"


def resolve_engine(engine: str, precision: str, device: str) -> str:
    """Return what runs the image tower on a kind of device: `auto` is torch, for int8 the first engine installed.

    Raises UsageError for an engine that is unknown, not installed, not for the device or without the precision.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is unknown: use {', '.join(ENGINES)}")
    if precision == "int8" and device in (AUTO, "cpu"):
        if engine == AUTO:
            engine = next(filter(find_spec, PACKAGES), "")
        if not engine:
            raise UsageError("--precision int8 needs OpenVINO: pip install 'zeroshot-cli[openvino]'")
        if engine == TORCH:
            raise UsageError("--precision int8 is for --engine openvino or onnxruntime; with torch use bf16 or fp32")
    if engine in (AUTO, TORCH):
        return TORCH
    if device not in (AUTO, "cpu"):
        raise UsageError(f"--engine {engine} is for the CPU: on {device} use --engine torch")
    if find_spec(engine) is None:
        raise UsageError(f"--engine {engine} needs {PACKAGES[engine]}: pip install 'zeroshot-cli[{engine}]'")
    if engine == "onnxruntime" and precision == "bf16":
        raise UsageError(
            "--engine onnxruntime has no bf16 on a CPU: use --engine openvino, or --precision fp32 or int8"
        )
    return engine
