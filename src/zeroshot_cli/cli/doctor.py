"""`zeroshot doctor`: what zeroshot finds on this machine."""

import platform
import shutil
from pathlib import Path

from zeroshot_cli.cli import options as o

PACKAGES = (
    "zeroshot-cli",
    "torch",
    "open_clip_torch",
    "pillow",
    "numpy",
    "safetensors",
    "huggingface_hub",
    "typer",
    "rich",
)


def doctor(debug: o.Debug = False) -> None:
    """Say what zeroshot finds on this machine."""
    from zeroshot_cli.report.console import print_rows

    print_rows(("what", "found"), [*_versions(), *_computing(), *_caches()])


def _versions() -> list[tuple[str, str]]:
    return [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and --help needs it not

    try:
        return version(package)
    except PackageNotFoundError:
        return f"missing; pip install {package}"


def _computing() -> list[tuple[str, str]]:
    import torch

    from zeroshot_cli.encode.images import auto_workers
    from zeroshot_cli.weights.device import resolve_device, resolve_precision

    device = resolve_device(o.AUTO)
    return [
        ("devices", ", ".join(_devices())),
        ("device", f"{device} (what auto takes)"),
        ("precision", f"{resolve_precision(o.AUTO, device)} (what auto takes there)"),
        ("threads of torch", str(torch.get_num_threads())),
        ("decoding processes", str(auto_workers(device.type))),
    ]


def _devices() -> list[str]:
    import torch

    cuda = [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
    return [*cuda, *["mps"] * torch.backends.mps.is_available(), "cpu"]


def _caches() -> list[tuple[str, str]]:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cache = Path(HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    return [
        ("downloaded models", HF_HUB_CACHE),
        ("space left there", f"{free / 1e9:.1f} GB"),
        ("downloads", "off (HF_HUB_OFFLINE)" if HF_HUB_OFFLINE else "on"),
    ]
