"""What `load` takes, what it refuses, and that open_clip reads what we write."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import (
    PRESETS,
    CLIPConfig,
    ResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
    config_to_dict,
)
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.images.preprocess import OPENAI_MEAN, OPENAI_STD, PreprocessConfig
from zeroshot_cli.models import load as load_module
from zeroshot_cli.models.formats import detect as checkpoints
from zeroshot_cli.models.formats.detect import read_checkpoint
from zeroshot_cli.models.formats.open_clip import read_config, save_model
from zeroshot_cli.models.load import _build, load, new_model
from zeroshot_cli.models.registry import CONFIG_FILE, WEIGHTS_FILES, bundled_folder, find_published

WEIGHTS_FILE = WEIGHTS_FILES[0]
SMALL = CLIPConfig(
    embed_dim=32,
    vision=VisionTransformerConfig(image_size=32, patch_size=8, width=64, layers=2, head_width=32),
    text=TextTransformerConfig(width=64, heads=2, layers=2),
    quick_gelu=True,
)


VIT = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with CLIP's full vocabulary, saved as `zeroshot train` saves it."""
    torch.manual_seed(0)
    preprocess = PreprocessConfig(size=32, mean=(0.5, 0.4, 0.3), std=OPENAI_STD)
    save_model(tmp_path / "model", CLIP(SMALL), SMALL, preprocess)
    return tmp_path / "model"


def test_open_clip_loads_our_folder_and_gives_the_same_embeddings(folder: Path) -> None:
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    theirs.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = load(folder, precision="fp32")

    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    texts = ["a photo of a cat.", "", "naïve café 🚀", "very " * 75]
    with torch.inference_mode():
        image = F.normalize(theirs.encode_image(images), dim=-1)
        text = F.normalize(theirs.encode_text(tokenize(texts)), dim=-1)
    torch.testing.assert_close(ours.encode_images(images), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(texts), text, atol=1e-5, rtol=0)
    with pytest.raises(TypeError, match="'a cat' is one text"):
        ours.encode_texts("a cat")
    assert ours.logit_scale == pytest.approx(float(theirs.logit_scale.detach().exp()))
    assert tuple(transform.transforms[-1].mean) == (0.5, 0.4, 0.3)


def test_a_run_folder_and_a_file_beside_its_configuration_load_too(folder: Path) -> None:
    whole = load(str(folder))
    for path in (folder.parent, folder / WEIGHTS_FILE):
        assert load(str(path)).fingerprint == whole.fingerprint


def test_the_fingerprint_follows_weights_and_preprocessing(folder: Path) -> None:
    before = load(str(folder)).fingerprint
    state = load_file(folder / WEIGHTS_FILE)
    state["ln_final.bias"][0] += 1e-3
    save_file(state, folder / WEIGHTS_FILE)
    changed = load(str(folder)).fingerprint
    document = json.loads((folder / CONFIG_FILE).read_text())
    document["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    assert len({before, changed, load(str(folder)).fingerprint}) == 3


def test_a_preset_with_a_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "ViT-B-32", SMALL)
    save_model(tmp_path, CLIP(SMALL), SMALL, PreprocessConfig(size=32, mean=OPENAI_MEAN, std=OPENAI_STD))
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in load_file(tmp_path / WEIGHTS_FILE).items()}, "epoch": 3},
        tmp_path / "epoch.pt",
    )
    expected = load(str(tmp_path)).fingerprint
    assert load("ViT-B-32", str(tmp_path / WEIGHTS_FILE)).fingerprint == expected
    assert load("ViT-B-32", str(tmp_path / "epoch.pt")).fingerprint == expected


def test_bf16_stays_near_fp32(folder: Path) -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    exact, short = load(str(folder), precision="fp32"), load(str(folder), precision="bf16")
    assert short.encode_images(images).dtype == torch.float32
    assert (exact.encode_images(images) * short.encode_images(images)).sum(dim=-1).min() > 0.999


def test_new_models_follow_their_seed() -> None:
    config_file = Path(__file__).parents[2] / "recipes" / "tiny" / "model.yaml"
    first, again, other = (new_model(str(config_file), seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["visual.conv1.weight"], other["visual.conv1.weight"])


def test_cbow_takes_the_place_of_a_presets_transformer() -> None:
    with torch.device("meta"):
        model = new_model("ViT-B-32", text_encoder="cbow")[0]
    assert {key for key in model.state_dict() if key.startswith("text.")} == {
        "text.token_embedding.weight",
        "text.ln_final.weight",
        "text.ln_final.bias",
        "text.text_projection",
    }


@pytest.mark.parametrize("name", ["RN5O", "no/such/folder"])
def test_an_unknown_model_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        load(name)


def test_weights_that_are_not_here_are_unavailable() -> None:
    with pytest.raises(UnavailableError, match="--model small"):
        load("ViT-B-32", "laion2b_s34b_b79k")


class _Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    proof, path = tmp_path / "ran", tmp_path / "evil.pt"
    torch.save({"state_dict": _Bomb(proof)}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pt is refused"):
        load("ViT-B-32", str(path))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truncated.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{"),
        ("page.safetensors", b"<!doctype html><title>404</title>" * 9),
        ("empty.safetensors", b""),
        ("empty.pt", b""),
        ("text.pt", b"hello"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        load("ViT-B-32", str(tmp_path / name))


def test_tensors_that_do_not_fit_are_named(folder: Path) -> None:
    good = load_file(folder / WEIGHTS_FILE)
    cases = {
        r"lacks: visual\.proj": {key: value for key, value in good.items() if key != "visual.proj"},
        r"unknown tensors: extra\.weight": good | {"extra.weight": torch.zeros(1)},
        r"shape: visual\.proj is \[3, 3\] and not \[64, 32\]": good | {"visual.proj": torch.zeros(3, 3)},
    }
    for message, state in cases.items():
        save_file(state, folder / WEIGHTS_FILE)
        with pytest.raises(CheckpointError, match=message):
            load(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": None}, "lacks 'embed_dim'"),
        ({"embed_dim": "32"}, "embed_dim cannot be '32'"),
        ({"embed_dim": -1}, "embed_dim cannot be -1"),
        ({"colour": "red"}, "does not know: 'colour'"),
        ({"text_cfg": {"encoder": "rnn", "width": 8}}, "not 'rnn'"),
        ({"text_cfg": {"encoder": "cbow", "width": 8, "vocab_size": 99}}, "not 99"),
        ({"vision_cfg": {"image_size": 32, "layers": [1, 2], "width": 8}}, r"one number or four, not \[1, 2\]"),
        ({"vision_cfg": {"image_size": 32, "layers": 2, "width": 8}}, "lacks 'patch_size'"),
        ({"embed_dim": 10**18}, "embed_dim cannot be 1000000000000000000"),
        ({"vision_cfg": {**VIT, "image_size": 10**12}}, "image_size cannot be 1000000000000"),
        ({"vision_cfg": {**VIT, "layers": 10**9}}, "layers cannot be 1000000000"),
        ({"vision_cfg": {**VIT, "layers": -1}}, "layers cannot be -1"),
        ({"vision_cfg": {**VIT, "mlp_ratio": -1}}, "mlp_ratio cannot be -1"),
        ({"vision_cfg": {**VIT, "mlp_ratio": float("nan")}}, "mlp_ratio cannot be nan"),
        ({"vision_cfg": {**VIT, "mlp_ratio": float("inf")}}, "mlp_ratio cannot be inf"),
        ({"text_cfg": {"width": 64, "heads": 2, "layers": 10**9}}, "text_cfg.layers cannot be 1000000000"),
        ({"init_logit_scale": float("nan")}, "init_logit_scale cannot be nan"),
    ],
)
def test_a_wrong_configuration_is_named(folder: Path, change: dict[str, object], message: str) -> None:
    document = json.loads((folder / CONFIG_FILE).read_text())
    document["model_cfg"] |= change
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=message):
        load(str(folder))


def test_a_configuration_that_torch_cannot_build_is_an_error_of_input(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read_checkpoint(bundled_folder("tiny"))
    for error in (RuntimeError("too large\nmore"), OverflowError("too large"), TypeError("too large")):
        monkeypatch.setattr("zeroshot_cli.models.load.CLIP", Mock(side_effect=error))
        with pytest.raises(CheckpointError, match=r"builds no model: too large$"):
            _build(checkpoint)


def test_counts_of_batches_that_a_file_lacks_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = read_checkpoint(bundled_folder("tiny"))
    kept = {key: value for key, value in checkpoint.state.items() if not key.endswith("num_batches_tracked")}
    assert len(kept) < len(checkpoint.state)

    def to_empty(model: nn.Module, *, device: str) -> nn.Module:
        return nn.Module._apply(model, lambda t: torch.full_like(t, 77, device=device))

    monkeypatch.setattr(nn.Module, "to_empty", to_empty)  # memory that was something else's before
    missing = checkpoint.state.keys() - kept.keys()
    state = _build(replace(checkpoint, state=kept)).state_dict()
    assert all(not state[key] for key in missing)
    assert not kept  # the memory of what was converted is free


def test_a_preprocess_cfg_of_the_wrong_kind_is_named(tmp_path: Path) -> None:
    document = {"model_cfg": config_to_dict(SMALL), "preprocess_cfg": [1]}
    (tmp_path / "model.yaml").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"its preprocess_cfg is \[1\]"):
        read_config(tmp_path / "model.yaml")
    (tmp_path / "model.yaml").write_text(json.dumps({**document, "preprocess_cfg": None}))
    assert read_config(tmp_path / "model.yaml")[1] == PreprocessConfig(size=32)  # as for a model folder


def test_a_fresh_resnet_survives_the_way_through_disk(tmp_path: Path) -> None:
    config_file = Path(__file__).parents[2] / "recipes" / "tiny" / "model.yaml"
    model, config, preprocess, _ = new_model(str(config_file), seed=0)
    save_model(tmp_path, model, config, preprocess, dtype=torch.float16)
    loaded = load(str(tmp_path))
    assert loaded.config == config
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = F.normalize(model.eval().encode_image(images), dim=-1)
    torch.testing.assert_close(loaded.encode_images(images), expected, atol=2e-3, rtol=0)


def test_counts_stay_whole_numbers_in_half_precision(tmp_path: Path) -> None:
    vision = ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32)
    config = replace(SMALL, vision=vision)
    save_model(tmp_path, CLIP(config), config, PreprocessConfig(size=32), dtype=torch.float16)
    saved = load_file(tmp_path / WEIGHTS_FILE)
    counts = {name for name in saved if name.endswith("num_batches_tracked")}
    assert counts
    assert all(saved[name].dtype is (torch.int64 if name in counts else torch.float16) for name in saved)


def test_preprocessing_of_a_named_models_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    assert tuple(load_module._preprocess_of("ViT-B-16-SigLIP", file)["mean"]) == (0.5, 0.5, 0.5)
    (tmp_path / CONFIG_FILE).write_text('{"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}')
    assert load_module._preprocess_of("ViT-B-16-SigLIP", file) == {"mean": [0.1, 0.2, 0.3]}
    with pytest.warns(load_module.ModelWarning, match="OpenAI's is assumed"):
        assert load_module._preprocess_of("no-such-model", tmp_path / "other" / "weights.pt") == {}


@pytest.mark.parametrize(("preset", "warned"), [("ViT-L-14", True), ("ViT-H-14-quickgelu", True), ("ViT-B-32", False)])
def test_preprocessing_in_which_published_weights_differ(preset: str, warned: bool) -> None:
    _, told = checkpoints._assumed_preprocess(Path("weights.pt"), PRESETS[preset])
    assert ["--pretrained TAG" in sentence and preset in sentence for sentence in told] == [True] * warned


def test_a_published_hash_settles_the_activation(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    (folder / WEIGHTS_FILE).rename(tmp_path / WEIGHTS_FILE)
    known = find_published("ViT-B-32", "openai")
    monkeypatch.setattr(checkpoints, "by_hash", lambda _: known)
    checkpoint = checkpoints.read_checkpoint(tmp_path / WEIGHTS_FILE)
    assert (checkpoint.config.quick_gelu, checkpoint.warnings) == (True, ())


def test_weights_that_contradict_the_configuration_beside_them(folder: Path) -> None:
    state = load_file(folder / WEIGHTS_FILE) | {"input_resolution": torch.tensor(32)}
    save_file(state, folder / WEIGHTS_FILE)
    assert checkpoints.read_checkpoint(folder).warnings == ()
    document = json.loads((folder / CONFIG_FILE).read_text())
    document["model_cfg"]["quick_gelu"] = False
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    (warning,) = checkpoints.read_checkpoint(folder).warnings
    assert "trained with QuickGELU and runs with GELU" in warning


def test_the_preprocessing_has_the_towers_size(folder: Path) -> None:
    document = json.loads((folder / CONFIG_FILE).read_text())
    for size in (None, 48):
        document["preprocess_cfg"]["size"] = size
        (folder / CONFIG_FILE).write_text(json.dumps(document))
        if size is None:
            assert checkpoints.read_checkpoint(folder).preprocess.size == 32
    with pytest.raises(CheckpointError, match="images of 48 pixels, and its model takes 32"):
        checkpoints.read_checkpoint(folder)


def test_a_tag_goes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").mkdir()
    assert not load_module.is_file_of_own("ViT-B-32", "openai")
    for path in ("/nope/x.pt", "x.safetensors"):
        with pytest.raises(UsageError, match="no such file"):
            load("ViT-B-32", path)


def test_a_fingerprint_is_computed_once_for_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zeroshot_cli.models import loaded

    counted: list[str] = []
    original = loaded._hash_of
    monkeypatch.setattr(loaded, "_hash_of", lambda *args: counted.append("hash") or original(*args))
    first = load(str(folder)).fingerprint
    assert [load(str(folder)).fingerprint, load(str(folder), precision="bf16").fingerprint] == [first, first]
    assert len(counted) == 1
    state = load_file(folder / WEIGHTS_FILE)
    state["ln_final.bias"][0] += 1e-3  # the same size, another time
    save_file(state, folder / WEIGHTS_FILE)
    assert load(str(folder)).fingerprint != first
    assert len(counted) == 2
