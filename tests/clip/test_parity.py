"""Our towers against open_clip's, every parameter and buffer randomised."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from zeroshot_cli.clip.config import PRESETS, config_from_dict, config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.formats.open_clip import from_disk, to_disk
from zeroshot_cli.models.formats.tensors import load_into

SMALL_TEXT = {"context_length": 77, "vocab_size": 1000, "width": 64, "heads": 2, "layers": 3}
MODELS: dict[str, dict[str, Any]] = {
    "ViT-B-32": config_to_dict(PRESETS["ViT-B-32"]),
    "ViT-B-32-quickgelu": config_to_dict(PRESETS["ViT-B-32-quickgelu"]),
    "RN50": config_to_dict(PRESETS["RN50"]),
    "shrunken ViT-H": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 56, "layers": 3, "width": 240, "head_width": 80, "patch_size": 14, "mlp_ratio": 4.3637,
        },
        "text_cfg": SMALL_TEXT,
    },
    "small ViT": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": SMALL_TEXT,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_equal_open_clips(name: str, open_clip_model: Callable[..., Any]) -> None:
    model_cfg = MODELS[name]
    theirs = open_clip_model(**model_cfg)
    ours = CLIP(config_from_dict(model_cfg)).eval()
    load_into(ours, from_disk(theirs.state_dict()), source=name)

    generator = torch.Generator().manual_seed(1)
    size = model_cfg["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, size, size, generator=generator)
    tokens = _random_texts(model_cfg["text_cfg"]["vocab_size"], lengths=[3, 77, 12], generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(_image(ours, images), _image(theirs, images), atol=1e-5, rtol=0)
        torch.testing.assert_close(_text(ours, tokens), _text(theirs, tokens), atol=1e-5, rtol=0)
        short = tokens[[0, 2], :12]
        torch.testing.assert_close(_text(ours, short), _text(theirs, tokens[[0, 2]]), atol=1e-5, rtol=0)


def _random_texts(vocab_size: int, *, lengths: list[int], generator: torch.Generator) -> torch.Tensor:
    tokens = torch.zeros(len(lengths), 77, dtype=torch.long)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(0, vocab_size - 2, (length,), generator=generator)
        row[0], row[length - 1] = vocab_size - 2, vocab_size - 1
    return tokens


def _image(model: Any, images: torch.Tensor) -> torch.Tensor:
    return F.normalize(model.encode_image(images), dim=-1)


def _text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    return F.normalize(model.encode_text(tokens), dim=-1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_equal_open_clips_configurations(name: str) -> None:
    """The preset builds what open_clip's file of the same name describes; on the meta device, weights cost nothing."""
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model_configs"
    path = folder / f"{name}.json"
    quick_gelu = name.endswith("-quickgelu")
    if not path.exists():  # open_clip has some presets in one activation only
        other = name.removesuffix("-quickgelu") if quick_gelu else f"{name}-quickgelu"
        path = folder / f"{other}.json"
    assert replace(config_from_dict(json.loads(path.read_text())), quick_gelu=quick_gelu) == PRESETS[name]


@pytest.mark.parametrize(
    ("tower", "change", "message"),
    [
        ("vision_cfg", {"width": 65}, "vision_cfg.width is 65; it must be a multiple of head_width, 32"),
        ("vision_cfg", {"head_width": 128}, "vision_cfg.width is 64; it must be a multiple of head_width, 128"),
        ("vision_cfg", {"patch_size": 33}, "vision_cfg.patch_size is 33; it must be at most image_size, 32"),
        ("vision_cfg", {"layers": [1, 1, 1, 1]}, "vision_cfg.patch_size is 8; a ResNet has none"),
        (
            "vision_cfg",
            {"layers": [1, 1, 1, 1], "patch_size": None, "mlp_ratio": 4},
            "vision_cfg.mlp_ratio is 4.0; a ResNet has none",
        ),
        (
            "vision_cfg",
            {"layers": [1, 1, 1, 1], "patch_size": None, "image_size": 80},
            "vision_cfg.image_size is 80; a ResNet needs a multiple of 32",
        ),
        ("text_cfg", {"heads": 3}, "text_cfg.width is 64; it must be a multiple of heads, 3"),
    ],
)
def test_sizes_that_do_not_fit_are_named(tower: str, change: dict[str, Any], message: str) -> None:
    model_cfg = MODELS["small ViT"] | {tower: MODELS["small ViT"][tower] | change}
    with pytest.raises(ValueError, match=message):
        config_from_dict(model_cfg)


def test_the_last_block_at_one_position_equals_the_whole_block() -> None:
    from zeroshot_cli.clip.transformer import ResidualAttentionBlock

    torch.manual_seed(0)
    block = ResidualAttentionBlock(32, heads=4, hidden=64, quick=False).eval()
    torch.nn.init.normal_(block.attn.in_proj_weight, std=0.3)
    x, position = torch.randn(3, 9, 32), torch.tensor([0, 4, 8])
    for causal in (False, True):
        whole = block(x, causal=causal)[torch.arange(3), position]
        torch.testing.assert_close(block(x, causal=causal, read=position[:, None])[:, 0], whole, atol=1e-6, rtol=0)


def test_names_on_disk_are_open_clips(open_clip_model: Callable[..., Any]) -> None:
    model_cfg = MODELS["small ViT"]
    theirs = open_clip_model(**model_cfg)
    ours = CLIP(config_from_dict(model_cfg))
    assert to_disk(ours.state_dict()).keys() == theirs.state_dict().keys() - {"attn_mask"}
    assert {f"module.{key}": 0 for key in theirs.state_dict()}.keys() >= set()
    assert from_disk({f"module.{k}": v for k, v in theirs.state_dict().items()}).keys() == ours.state_dict().keys()
