"""GFLOP of a model's image encoder for one image, as torch counts them: two for a multiplication with its addition.

`python tests/helpers/gflops.py NAME ...` prints them for models/recommended.yaml.
"""

import sys
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zeroshot_cli.models.registry import BUNDLED, find_published


def gflops(name: str) -> float:
    """Return the GFLOP of one image, computed by open_clip's model without weights, or by ours for a bundled one."""
    encoder, size = _bundled(name) if name in BUNDLED else _of_open_clip(name)
    encoder.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        encoder(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 1e9


def _bundled(name: str) -> tuple[Any, int]:
    from zeroshot_cli.models.load import load

    model = load(name, device="cpu", precision="fp32")
    return model.model.visual.to("meta"), model.preprocess.config.height_width[0]


def _of_open_clip(name: str) -> tuple[Any, int]:
    from open_clip.factory import get_model_config
    from open_clip.model import _build_vision_tower

    config = get_model_config(find_published(name).preset)
    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
    return tower, config["vision_cfg"].get("image_size", 224)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {gflops(name):.2f}")
