"""Models so small that a step takes milliseconds."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

VIT = """\
embed_dim: 32
vision_cfg: {image_size: 16, patch_size: 8, width: 32, layers: 1, head_width: 16}
text_cfg: {width: 32, heads: 2, layers: 1, context_length: 12, vocab_size: 600}
"""
RESNET = """\
embed_dim: 32
vision_cfg: {image_size: 32, layers: [1, 1, 1, 1], width: 8, head_width: 32}
text_cfg: {encoder: cbow, width: 32, context_length: 12, vocab_size: 600}
"""


@pytest.fixture
def model_yaml(tmp_path: Path) -> Callable[[str], str]:
    """`model_yaml("vit")` or `model_yaml("resnet")` is the path of a model's configuration."""

    def write(kind: str) -> str:
        path = tmp_path / f"{kind}.yaml"
        path.write_text({"vit": VIT, "resnet": RESNET}[kind])
        return str(path)

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes in one thread: models so small are slower in more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
