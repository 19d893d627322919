"""Weights as 8-bit integers on disk, against numbers by hand; and an EfficientNet through the doors of every model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.export import Layout, export_model
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.formats.packed import pack, unpacked
from zeroshot_cli.models.formats.tensors import read_weights
from zeroshot_cli.models.load import load

WEIGHTS_FILE = "open_clip_model.safetensors"
SMALL = CLIPConfig(
    embed_dim=16,
    vision=EfficientNetConfig(image_size=40, hidden=16, gate=0.5, width_multiplier=0.25, classes=10),
    text=CBOWConfig(width=16, vocab_size=600),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = CLIP(SMALL)
    torch.nn.init.normal_(model.visual.gated_head.c_proj.weight)  # type: ignore[union-attr,arg-type]
    save_model(tmp_path / "whole", model, SMALL, PreprocessConfig(size=40))
    save_model(tmp_path / "packed", model, SMALL, PreprocessConfig(size=40), dtype=torch.int8)
    return tmp_path


def test_numbers_by_hand() -> None:
    state = {
        "a": F.pad(torch.tensor([[1.27, -0.635, 0.0101], [0.0, 0.0, 0.0], [-254.0, 127.0, 1.1]]), (0, 29)),
        "kernel": F.pad(torch.tensor([2.54, -2.54, 0.0, 1.0]).view(2, 2, 1, 1), (0, 3, 0, 3)).half(),
        "depthwise": torch.tensor([0.1, 1 / 3, 1e-6]).view(1, 1, 1, 3),
        "bias": torch.tensor([0.1, 3e-8]).double(),
        "count": torch.tensor(7),
        "logit_scale": torch.tensor(4.6),
    }
    packed = pack(state)
    assert packed["a"].dtype == torch.int8
    # 0.635 is half way between 63 and 64 steps of 0.01; every other number has one nearest step.
    assert packed["a"][:, :3].tolist() in (
        [[127, -64, 1], [0, 0, 0], [-127, 64, 1]],
        [[127, -63, 1], [0, 0, 0], [-127, 64, 1]],
    )
    torch.testing.assert_close(packed["a.scale"], torch.tensor([0.01, 0.0, 2.0]))
    assert packed["kernel"][:, :, 0, 0].tolist() == [[127, -127], [0, 127]]
    torch.testing.assert_close(packed["kernel.scale"], torch.tensor([0.02, 1 / 127]), rtol=1e-3, atol=0)
    assert packed["depthwise"].dtype == torch.float16  # 10 bits of a number, and 24 after the point
    np.testing.assert_array_equal(packed["depthwise"].flatten(), np.float16([0.1, 1 / 3, 1e-6]))
    assert packed["bias"].dtype == torch.float32
    assert packed["count"].dtype == torch.int64
    assert packed.keys() == {*state, "a.scale", "kernel.scale"}
    again = unpacked(packed, Path("x"))
    assert again.keys() == state.keys()
    torch.testing.assert_close(again["a"][2, :4], torch.tensor([-254.0, 128.0, 2.0, 0.0]))
    assert not again["a"][1].any()
    assert torch.equal(again["bias"], state["bias"].float())


def test_a_tensor_that_is_really_called_scale() -> None:
    state = {"norm.scale": torch.ones(3), "layer.scale": torch.rand(4, 32), "layer.scales.scale": torch.rand(2)}
    packed = pack(state)
    assert packed.keys() == {*state, "layer.scale.scale"}
    again = unpacked(packed, Path("x"))
    assert again.keys() == state.keys()
    assert torch.equal(again["norm.scale"], state["norm.scale"])
    torch.testing.assert_close(again["layer.scale"], state["layer.scale"], atol=1 / 254, rtol=0)
    with pytest.raises(ValueError, match=r"layer cannot be packed: the model has a layer\.scale of its own"):
        pack({"layer": torch.ones(2, 32), "layer.scale": torch.ones(2)})


def test_the_model_that_comes_back(folder: Path) -> None:
    """Each weight is its integer times its row's scale, as numpy multiplies them, or has half precision."""
    stored, exact = load_arrays(folder / "packed" / WEIGHTS_FILE), load_file(folder / "whole" / WEIGHTS_FILE)
    loaded = read_weights(folder / "packed" / WEIGHTS_FILE).tensors
    assert loaded.keys() == exact.keys()
    for name, tensor in exact.items():
        if tensor.ndim < 2:
            assert torch.equal(loaded[name], tensor)
            assert name + ".scale" not in stored
            continue
        if tensor[0].numel() < 32:
            assert np.array_equal(loaded[name].numpy(), tensor.numpy().astype(np.float16))
            continue
        scale = stored[name + ".scale"].reshape(-1, *[1] * (tensor.ndim - 1))
        assert np.array_equal(loaded[name].numpy(), stored[name].astype(np.float32) * scale)
        assert (np.abs(loaded[name].numpy() - tensor.numpy()) <= scale * 0.5001).all()
    whole, packed = load(str(folder / "whole"), precision="fp32"), load(str(folder / "packed"), precision="fp32")
    images = torch.randn(4, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    assert (whole.encode_images(images) * packed.encode_images(images)).sum(dim=-1).min() > 0.995
    assert (whole.encode_texts(["a cat"]) * packed.encode_texts(["a cat"])).sum() > 0.999
    assert whole.fingerprint != packed.fingerprint
    assert (whole.logit_scale, packed.config) == (packed.logit_scale, whole.config)


NAME = "visual.classifier.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(NAME + ".scale"), rf"is quantised \({NAME}, int8\)"),
        (lambda state: state.update({NAME + ".scale": torch.ones(9)}), r"float32 \[9\] and not float32 \[10\]"),
        (lambda state: state.update({NAME + ".scale": torch.ones(10, 1)}), r"float32 \[10, 1\] and not float32 \[10\]"),
        (lambda state: state.update({NAME + ".scale": torch.ones(())}), r"float32 \[\] and not float32 \[10\]"),
        (lambda state: state.update({NAME + ".scale": torch.ones(10).half()}), r"float16 \[10\] and not float32"),
        (lambda state: state.update({NAME + ".scale": torch.full((10,), torch.nan)}), f"{NAME} holds NaN or infinity"),
        (lambda state: state.update({NAME: state[NAME].float()}), rf"unknown tensors: {NAME}\.scale"),
        (lambda state: state.update({NAME: state[NAME].to(torch.uint8)}), rf"is quantised \({NAME}, uint8\)"),
        (lambda state: state.update({NAME: state[NAME][:, :7].clone()}), rf"{NAME} is \[10, 7\] and not \[10, 1280\]"),
        (lambda state: state.update({"x.scale": torch.ones(1)}), r"unknown tensors: x\.scale"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused(folder: Path, change: Callable[[dict[str, Tensor]], Any], message: str) -> None:
    file = folder / "packed" / WEIGHTS_FILE
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(CheckpointError, match=message):
        load(str(folder / "packed"))


def test_weights_that_went_wrong_are_refused_packed_too(tmp_path: Path) -> None:
    for bad in (torch.nan, torch.inf):
        model = CLIP(SMALL)
        model.text.token_embedding.weight.data[3, 3] = bad
        save_model(tmp_path, model, SMALL, PreprocessConfig(size=40), dtype=torch.int8)
        with pytest.raises(CheckpointError, match=r"token_embedding\.weight holds NaN or infinity"):
            load(str(tmp_path))


def test_show_and_export(folder: Path) -> None:
    packed = load(str(folder / "packed"), precision="fp32")
    shown = json.loads(json.dumps(packed.describe()))  # what `models show` prints
    assert shown["model_cfg"]["vision_cfg"]["encoder"] == "efficientnet-lite"
    assert shown["fingerprint"] == load(str(folder / "packed"), precision="bf16").fingerprint
    for layout in (Layout.OPEN_CLIP, Layout.TRANSFORMERS):
        with pytest.raises(CheckpointError, match="which only zeroshot has"):
            export_model(packed, folder / "exported", layout=layout)
    assert not (folder / "exported").exists()


def test_an_efficientnet_without_its_configuration(folder: Path, tmp_path: Path) -> None:
    file = (folder / "whole" / WEIGHTS_FILE).rename(tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match=r"does not tell .* its gate: put the model's open_clip_config\.json"):
        load(str(file))


def test_an_efficientnet_at_another_image_size(folder: Path) -> None:
    larger = load(str(folder / "whole"), image_size=65)
    assert larger.encode_images(torch.zeros(1, 3, 65, 65)).shape == (1, 16)
    assert larger.preprocess.config.size == 65
    with pytest.raises(UsageError, match=r"--image-size 16: .* takes 32 to 2048 pixels"):
        load(str(folder / "whole"), image_size=16)
    with pytest.raises(UsageError, match=r"--image-size 3000: .* takes 32 to 2048 pixels"):
        load(str(folder / "whole"), image_size=3000)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_loaded_efficientnet_keeps_its_names_for_training(folder: Path, precision: str) -> None:
    """Norms are folded as they are used, but for half precision, in which nothing is trained."""
    loaded = load(str(folder / "whole"), precision=precision)
    before = set(loaded.model.state_dict())
    loaded.encode_images(torch.zeros(1, 3, 40, 40))
    assert (set(loaded.model.state_dict()) == before) == (precision != "bf16")


def test_the_size_of_small(tmp_path: Path) -> None:
    config = replace(
        SMALL,
        embed_dim=384,
        vision=EfficientNetConfig(image_size=224, hidden=512, gate=0.5),
        text=CBOWConfig(width=384, vocab_size=12_000),
    )
    save_model(tmp_path, CLIP(config), config, PreprocessConfig(size=224), dtype=torch.int8)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 14_000_000
