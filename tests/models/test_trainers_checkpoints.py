"""What trainers, wrappers and converters leave behind is read as the model in it, or refused by its name."""

import argparse
import collections
import functools
import pathlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zeroshot_cli.clip.config import PRESETS, config_from_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.formats.detect import read_checkpoint
from zeroshot_cli.models.formats.open_clip import save_model, to_disk
from zeroshot_cli.models.formats.tensors import read_weights
from zeroshot_cli.models.load import ModelWarning, load

CONFIG = config_from_dict(
    {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1, "vocab_size": 600},
    }
)


def weights(seed: int = 0) -> dict[str, Tensor]:
    """A CLIP as open_clip names its tensors."""
    torch.manual_seed(seed)
    return {name: tensor.clone() for name, tensor in to_disk(CLIP(CONFIG).state_dict()).items()}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def saved(content: object, tmp_path: Path, *, new: bool = True) -> Path:
    torch.save(content, tmp_path / "epoch_3.pt", _use_new_zipfile_serialization=new)
    return tmp_path / "epoch_3.pt"


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


class MyConfig:
    """A class of the user's own, as trainers save it with their settings."""

    def __init__(self) -> None:
        self.lr = 0.1


class AttributeDict(dict[str, Any]):
    """As Lightning keeps its hyperparameters."""


@pytest.mark.parametrize("new", [True, False], ids=["archive", "legacy"])
def test_an_open_clip_trainer_checkpoint_with_numpy_numbers(new: bool, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": np.float64(1e-3), "params": [0]}]}
    content = {"epoch": 3, "name": "run", "state_dict": prefixed("module.", weights()), "optimizer": optimizer}
    assert same(read_weights(saved(content, tmp_path, new=new)).tensors, weights())


def test_settings_of_every_kind_lie_beside_the_weights(tmp_path: Path) -> None:
    beside = {
        "args": argparse.Namespace(lr=1.0), "path": pathlib.PurePosixPath("/x"), "own": MyConfig(),
        "counts": collections.defaultdict(int, a=1), "queue": collections.deque([1, 2], maxlen=3),
        "rng": np.random.default_rng(0).integers(0, 9, 4), "numpy": (np.int64(3), np.float32(0.5), np.dtype("f4")),
        "scheduler": types.SimpleNamespace(last=3), "set": {1, 2}, "bytes": b"abc", "optim": torch.optim.SGD,
        "dict": AttributeDict(a=MyConfig()),
    }  # fmt: skip
    path = saved({"state_dict": weights(), **beside}, tmp_path)
    assert same(read_weights(path).tensors, weights())


@pytest.mark.parametrize("door", [eval, exec, getattr, functools.partial, sys.exit, np.load, torch.load])
def test_a_function_that_runs_code_is_refused_by_name(door: Any, tmp_path: Path) -> None:
    refused(
        saved({"state_dict": weights(), "x": door}, tmp_path), f"refused: besides tensors it holds .*{door.__name__}"
    )


NESTS = ["state_dict", "model_state_dict", "model", "module", "net", "ema", "checkpoint.model", "trainer.0.clip"]


@pytest.mark.parametrize("nest", NESTS)
def test_every_nesting_of_a_state_dict(nest: str, tmp_path: Path) -> None:
    content: Any = weights()
    for key in reversed(nest.split(".")):
        content = {key: content, "epoch": 1}
    found = read_weights(saved(content, tmp_path))
    assert same(found.tensors, weights())
    assert found.notes == (f"the weights of {tmp_path / 'epoch_3.pt'} are those under {nest!r}",)


PREFIXES = [
    "model.", "module.", "clip.", "net.", "_orig_mod.", "student.", "model.module.", "module.model.clip.",
    "_orig_mod.module.", "model._orig_mod.", "_forward_module.model.", "base.encoder.", "clip_model.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", ["pt", "safetensors"])
def test_every_prefix_before_the_names(prefix: str, container: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{container}"
    (save_file if container == "safetensors" else torch.save)(prefixed(prefix, weights()), path)
    assert same(read_weights(path).tensors, weights())


def test_fsdps_words_inside_the_names(tmp_path: Path) -> None:
    inner = {
        name.replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): tensor
        for name, tensor in weights().items()
    }
    path = saved(prefixed("_fsdp_wrapped_module.", inner), tmp_path)
    assert same(read_weights(path).tensors, weights())


def test_a_lightning_checkpoint_with_its_metrics_and_an_averaged_copy(tmp_path: Path) -> None:
    copy = prefixed("model_ema.module.", weights(1))
    state = {**copy, **prefixed("model.", weights()), "loss.scale": torch.ones(1)}
    content = {
        "pytorch-lightning_version": "2.4.0", "state_dict": state,
        "hyper_parameters": {"config": MyConfig()}, "callbacks": {"ModelCheckpoint": {"best": torch.tensor(0.1)}},
    }  # fmt: skip
    found = read_weights(saved(content, tmp_path))
    assert same(found.tensors, weights())
    assert any("read without 'model.'" in note for note in found.notes)
    assert any("beside the model are left out: ema" in n or "beside the model are left out" in n for n in found.notes)


@pytest.mark.parametrize("keys", [("model", "ema"), ("state_dict", "state_dict_ema"), ("student", "teacher")])
def test_weights_and_their_averaged_copy(keys: tuple[str, str], tmp_path: Path) -> None:
    path = saved({keys[1]: weights(1), keys[0]: weights()}, tmp_path)
    found = read_weights(path)
    assert same(found.tensors, weights())
    assert any(f"also holds weights under {keys[1]!r}, which are left out" in note for note in found.notes)


def test_two_models_between_which_only_the_user_can_choose(tmp_path: Path) -> None:
    refused(saved({"first": weights(), "second": weights(1)}, tmp_path), "several models, under 'first', 'second'")
    both = prefixed("a.", weights()) | prefixed("b.", weights(1))
    refused(saved(both, tmp_path), r"several models, under 'a\.', 'b\.'")


def test_an_averaged_model_of_torch(tmp_path: Path) -> None:
    content = {"n_averaged": torch.tensor(5), **prefixed("module.", weights())}
    assert same(read_weights(saved(content, tmp_path)).tensors, weights())


def test_counters_beside_the_tensors_and_a_temperature_as_a_number(tmp_path: Path) -> None:
    content = {**weights(), "epoch": 3, "logit_scale": 2.5, "args": argparse.Namespace()}
    assert read_weights(saved(content, tmp_path)).tensors["logit_scale"] == 2.5


@pytest.mark.filterwarnings("ignore")
def test_a_whole_model_that_torch_pickled(tmp_path: Path) -> None:
    model = CLIP(CONFIG)
    assert same(read_weights(saved(model, tmp_path)).tensors, dict(model.state_dict()))
    assert same(read_weights(saved({"model": nn.DataParallel(model)}, tmp_path)).tensors, dict(model.state_dict()))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("base_model.model.visual.proj.lora_A.weight", torch.ones(2, 2), r"is an adapter .*\(lora_A in .*merge_and_un"),
        ("visual.transformer.resblocks.0.mlp.c_fc.lora_B.default.weight", torch.ones(2, 2), "is an adapter"),
        ("visual.transformer.resblocks.0.mlp.c_fc.base_layer.weight", torch.ones(2, 2), "is an adapter"),
        ("prompt_learner.ctx", torch.ones(4, 64), "is an adapter"),
        ("visual.proj.SCB", torch.ones(2), r"is quantised \(visual\.proj\.SCB.*take the weights in float32"),
        ("visual.conv1.qweight", torch.ones(2, 2, dtype=torch.int32), "is quantised"),
        ("visual.conv1.weight.absmax", torch.ones(2), "is quantised"),
        ("visual.ln_post.weight", torch.ones(64, 8, dtype=torch.int8), r"is quantised \(visual\.ln_post\.weight, int8"),
        ("_flat_param", torch.ones(9), "flattened parameters.*FULL_STATE_DICT"),
        ("visual.proj", torch.ones(0), "only a part of a model.*zero_to_fp32"),
    ],
)  # fmt: skip
def test_parts_of_models_are_refused_by_name(name: str, tensor: Tensor, message: str, tmp_path: Path) -> None:
    refused(saved({**weights(), name: tensor}, tmp_path), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x00", "is an ONNX model"),
        (b"\x08\x01\x12\x00\x1a\x00" + b"\x0a\x10saved_model\x00\xff", "is a protocol buffer, as ONNX and TensorFlow"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "is an HDF5 file"),
        (b"\x81\xa6params\x82\xa5model\xc7\x00", "is a msgpack file, as Flax writes"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(9), "is a TensorFlow Lite model"),
        (b"\x1f\x8b\x08" + bytes(20), "is packed with gzip: unpack it"),
        (b"\x93NUMPY\x01\x00", "is an array of numpy"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "is a web page"),
        (b'<?xml version="1.0"?>\n<net name="clip" version="11">', "is a model of OpenVINO"),
        (b'{"error":"Invalid username or password."}', "is the error message of a server"),
        (b"Entry not found", "is the error message of a server"),
        (b'{"model_type": "clip"}', "is a configuration, not the weights"),
        ("Gewichte für später\n".encode(), "is text; expected"),
        ("a text".encode("utf-16"), "is text in UTF-16"),
        (b'{"abc": {"d": 1}}', "is text that begins"),
    ],
)
def test_what_people_take_for_a_checkpoint_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    refused(tmp_path / "model.pt", message)


@pytest.mark.parametrize("name", [".metadata", "latest"])
def test_a_folder_of_parts_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("global_step100")
    refused(tmp_path, "is a checkpoint in parts.*zero_to_fp32")


def test_an_archive_of_numpy_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", a=np.ones(3))
    refused(tmp_path / "weights.npz", "archive of numpy's arrays")


# Numbers


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logit_scale", float("nan"), "its logit_scale is nan"),
        ("logit_scale", float("inf"), "its logit_scale is inf"),
        ("logit_scale", 100.0, r"its logit_scale is 100, which is the scale itself; .* logarithm, so store 4\.6052"),
        ("text_projection", float("nan"), r"its tensor text\.text_projection holds NaN or infinity"),
        ("visual.ln_post.bias", float("-inf"), r"its tensor visual\.ln_post\.bias holds NaN or infinity"),
    ],
)
@pytest.mark.filterwarnings("ignore::zeroshot_cli.models.load.ModelWarning")
def test_a_number_that_cannot_be_is_refused_with_its_tensor(
    name: str, value: float, message: str, tmp_path: Path
) -> None:
    state = weights()
    state[name].view(-1)[0] = value
    with pytest.raises(CheckpointError, match=message):
        load(str(saved(state, tmp_path)))


def test_a_temperature_that_makes_all_labels_alike_is_named(tmp_path: Path) -> None:
    state = weights() | {"logit_scale": torch.tensor(0.07)}
    told = read_checkpoint(saved(state, tmp_path)).warnings
    assert any("logit_scale of 0.07" in sentence and "store 2.6593" in sentence for sentence in told)


# Sizes


def test_the_same_weights_have_one_ratio_in_every_layout(tmp_path: Path) -> None:
    from zeroshot_cli.models.formats.shapes import config_of_shapes
    from zeroshot_cli.models.formats.transformers import config_of_transformers, to_transformers

    for name in ("ViT-g-14", "ViT-bigG-14", "ViT-B-32"):
        with torch.device("meta"):
            model = CLIP(PRESETS[name])
        _, document = to_transformers(model.state_dict(), PRESETS[name])
        assert config_of_transformers(document, source="x").vision == PRESETS[name].vision
        assert config_of_shapes(model.state_dict(), source="x").vision == PRESETS[name].vision
    odd = config_from_dict({**TOY, "vision_cfg": {**TOY["vision_cfg"], "mlp_ratio": 1001 / 192}})
    model = CLIP(odd)
    _, document = to_transformers(model.state_dict(), odd)
    assert document["vision_config"]["intermediate_size"] == 1001
    assert (
        config_of_transformers(document, source="x").vision.mlp_ratio
        == config_of_shapes(model.state_dict(), source="x").vision.mlp_ratio
    )


TOY: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 192, "layers": 1},
    "text_cfg": {"width": 64, "heads": 1, "layers": 1},
}


def test_a_folder_at_another_size_has_open_clips_positions(tmp_path: Path) -> None:
    import open_clip

    model = CLIP(CONFIG_FULL)
    save_model(tmp_path / "model", model, CONFIG_FULL, read_preprocess())
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'model'}", force_image_size=48).eval()
    ours = load(str(tmp_path / "model"), image_size=48, precision="fp32")
    small = load(str(tmp_path / "model"), precision="fp32")
    pixels = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        expected = theirs.encode_image(pixels, normalize=True)
        found = ours.encode_images(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert ours.preprocess.config.size == 48
    assert ours.fingerprint != small.fingerprint


CONFIG_FULL = config_from_dict(TOY)


def read_preprocess() -> Any:
    from zeroshot_cli.models.formats.open_clip import default_preprocess

    return default_preprocess(CONFIG_FULL)


@pytest.mark.parametrize("context", [20, 120])
def test_a_checkpoint_of_another_size_and_context_is_interpolated_as_open_clip_does(
    context: int, tmp_path: Path
) -> None:
    import open_clip

    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 40, "patch_size": 8, "width": 192, "layers": 1},
        "text_cfg": {**TOY["text_cfg"], "context_length": context},
    }
    state = to_disk(CLIP(config_from_dict(config)).state_dict())
    path = saved(dict(state), tmp_path)
    theirs = open_clip.CLIP(
        embed_dim=8, vision_cfg=TOY["vision_cfg"], text_cfg={**TOY["text_cfg"], "vocab_size": 49408}
    )
    theirs_state = dict(state)
    open_clip.model.resize_pos_embed(theirs_state, theirs)
    open_clip.model.resize_text_pos_embed(theirs_state, theirs)
    found = read_checkpoint(path, like=CONFIG_FULL)
    for key, other in (("visual.positional_embedding",) * 2, ("text.positional_embedding", "positional_embedding")):
        torch.testing.assert_close(found.state[key], theirs_state[other], atol=1e-5, rtol=0)
    assert len([w for w in found.warnings if "interpolated" in w]) == 2


def test_a_resnets_attention_pool_takes_another_size(tmp_path: Path) -> None:
    config = config_from_dict(
        {
            "embed_dim": 8,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
            "text_cfg": TOY["text_cfg"],
        }
    )
    path = saved(dict(to_disk(CLIP(config).state_dict())), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)  # of what the shapes do not tell
        loaded = load(str(path), image_size=96, precision="fp32")
    assert loaded.encode_images(torch.randn(1, 3, 96, 96)).shape == (1, 8)


def test_a_size_that_the_patches_do_not_fill_is_refused(tmp_path: Path) -> None:
    path = saved(weights(), tmp_path)
    for size, message in ((20, "multiples of 8 pixels, such as 16 or 24"), (4, "takes 8 to 2048"), (9000, "8 to 2048")):
        with pytest.raises(Exception, match=message) as caught:
            load(str(path), image_size=size)
        assert caught.value.exit_code == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("pretrained", [None, "epoch_3.pt"])
def test_a_configuration_given_as_a_model_says_where_to_put_it(pretrained: str | None, tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("embed_dim: 8\n")
    with pytest.raises(UsageError, match=r"is a configuration without weights: write it to open_clip_config\.json"):
        load(str(tmp_path / "model.yaml"), pretrained)
