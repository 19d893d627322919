"""The device and the numeric precision: what `auto` stands for, what this machine has, and the conversion."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.engines.choose import AUTO, resolve_engine
from zeroshot_cli.models.engines.integers import cpu_flags

# What images are given in; an engine takes float32 in any precision.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


def resolve_device(device: str) -> torch.device:
    """Return the device: `auto` is CUDA where there is one, else the CPU. Raises UsageError for one not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise UsageError(f"--device {device!r} is not a device: use auto, cpu, cuda, cuda:N or mps") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(resolved.type, False):
        raise UsageError(f"--device {device} is not on this machine: use --device cpu")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {device} does not exist: this machine has {torch.cuda.device_count()} GPUs")
    return resolved


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return the precision: `auto` is bf16 where the device computes in it, else fp32.

    Raises UsageError for one that is unknown or not for the device.
    """
    if precision == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if precision not in DTYPES:
        raise UsageError(f"--precision {precision!r} is unknown: use auto, {', '.join(DTYPES)}")
    if precision == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU: on the CPU use fp32, bf16 or int8")
    if precision == "int8" and device.type != "cpu":
        raise UsageError(f"--precision int8 is for the CPU: on {device.type} use bf16 or fp16")
    if precision == "int8":
        resolve_engine(AUTO, precision, device.type)  # is there one?
    return precision


def convert(model: nn.Module, *, device: torch.device, precision: str, images: bool = True) -> nn.Module:
    """Move `model`, float32 on the CPU, to `device` and convert it to `precision`; it is changed in place.

    Without `images`, which an engine encodes, that is the text tower; for int8 it gets bf16 where the device has it.

    The temperature and the bias stay in float32: rounded, they would change every probability. The image tower of a
    CLIP in half precision follows when it gets its first images: where all are cached, it is never read.
    """
    if not images:
        if isinstance(model, CLIP) and (precision == "bf16" or (precision == "int8" and has_bf16(device))):
            model.text.to(torch.bfloat16)
        return model
    scalars = [getattr(model, name, None) for name in ("logit_scale", "logit_bias")]
    exact = [(scalar, scalar.detach().clone()) for scalar in scalars if isinstance(scalar, Tensor)]
    if isinstance(model, CLIP) and precision != "fp32":
        model.text.to(device, DTYPES[precision])
        _when_first_used(model.visual, lambda: _shorten(model.visual, device, DTYPES[precision]))
    else:
        model.to(device, DTYPES[precision])
    for scalar, value in exact:
        scalar.data = value.to(device)
    return model


def _shorten(tower: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    if isinstance(tower, EfficientNet):
        tower.fold()
    tower.to(device, dtype)


def _when_first_used(module: nn.Module, action: Callable[[], object]) -> None:
    def act(*_: object) -> None:
        handle.remove()
        with torch.inference_mode(False):  # else its parameters could never be used outside
            action()

    handle = module.register_forward_pre_hook(act)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies matrices in bfloat16, rather than imitating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())
    return False
