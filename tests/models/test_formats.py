"""Every layout, written by other people's code and read by ours, gives their embeddings."""

import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from zeroshot_cli.clip.config import PRESETS, CLIPConfig, ResNetConfig, config_from_dict, config_to_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import CheckpointError
from zeroshot_cli.images.preprocess import OPENAI_MEAN, Interpolation, PreprocessConfig, ResizeMode
from zeroshot_cli.models.formats.detect import Checkpoint, read_checkpoint
from zeroshot_cli.models.formats.open_clip import ForeignModel, describe, own_settings, save_model
from zeroshot_cli.models.formats.shapes import config_of_shapes, preset_of
from zeroshot_cli.models.formats.tensors import load_into
from zeroshot_cli.models.formats.transformers import (
    config_of_transformers,
    preprocess_of_transformers,
    processor_json,
    to_transformers,
)
from zeroshot_cli.models.registry import CONFIG_FILE
from zeroshot_cli.models.tokenizers import tokenizer_of

TEXTS = ["a photo of a cat.", "", "naïve café 🚀", "very " * 75]
TEXT = {"width": 64, "heads": 1, "layers": 2, "context_length": 77, "vocab_size": 49408}
VIT = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 2, "head_width": 64}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "head_width": 64}


def randomise(model: nn.Module) -> Any:
    """Random weights, gains, biases and batch-norm statistics, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or name.endswith(("attn_mask", "logit_scale")):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.ndim < 2:
                tensor.copy_(float(name.endswith("weight")) + 0.2 * noise)
            else:
                tensor.copy_(noise * (tensor.shape[-1] if "embedding" in name else tensor[0].numel()) ** -0.5)
    return model.eval().requires_grad_(False)


def assert_same_embeddings(
    checkpoint: Checkpoint, images: Callable[..., Tensor], tokens: Callable[..., Tensor]
) -> None:
    """From pixels and from strings, through our tokenizer and theirs."""
    model = CLIP(checkpoint.config).eval()
    load_into(model, checkpoint.state, source="the file")
    size = checkpoint.config.vision.image_size
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = model.encode_image(pixels), model.encode_text(tokenizer_of(checkpoint.config)(TEXTS))
        theirs = images(pixels), tokens(open_clip.tokenize(TEXTS))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(F.normalize(mine, dim=-1), F.normalize(other, dim=-1), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def open_clips() -> Callable[..., Any]:
    """open_clip's own model, randomised."""

    def build(vision: dict[str, Any], *, quick_gelu: bool = False) -> Any:
        return randomise(open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=TEXT, quick_gelu=quick_gelu))

    return build


@pytest.fixture(scope="module")
def openai() -> ModuleType:
    """OpenAI's reference code, loaded by its path: the package's own `clip` would look for its vocabulary."""
    spec = importlib.util.find_spec("clip")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "model.py"
    spec = importlib.util.spec_from_file_location("openai_clip_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def openai_model(openai: ModuleType, vision: dict[str, Any]) -> Any:
    resnet = isinstance(vision["layers"], list)
    model = openai.CLIP(
        embed_dim=32,
        image_resolution=vision["image_size"],
        vision_layers=tuple(vision["layers"]) if resnet else vision["layers"],
        vision_width=vision["width"],
        vision_patch_size=vision.get("patch_size"),
        context_length=77,
        vocab_size=49408,
        transformer_width=64,
        transformer_heads=1,
        transformer_layers=2,
    )
    for name in ("input_resolution", "context_length", "vocab_size"):  # as in the published archives
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(vision["image_size"] if name == "input_resolution" else 77))
    return randomise(model)


def archive(model: nn.Module, path: Path, size: int, *, jit: Callable[..., Any] = torch.jit.trace) -> None:
    """What torch.jit.save writes; torch deprecates it, and OpenAI's files stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = jit(model, (torch.zeros(1, 3, size, size), torch.zeros(1, 77, dtype=torch.long)))
        torch.jit.save(traced, path)


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["ViT", "ResNet"])
@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("container", ["safetensors", "pt", "legacy.bin", "training.pt", "compiled.pt"])
def test_open_clip(
    container: str, quick_gelu: bool, vision: dict[str, Any], tmp_path: Path, open_clips: Callable[..., Any]
) -> None:
    theirs = open_clips(vision, quick_gelu=quick_gelu)
    state = theirs.state_dict()
    path = tmp_path / f"open_clip_model.{container}"
    if container == "safetensors":
        save_file(state, path)
    elif container == "training.pt":
        optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
        wrapped = {f"module.{key}": tensor for key, tensor in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped, "optimizer": optimizer.state_dict(), "scaler": {}}, path)
    elif container == "compiled.pt":
        torch.save({f"module._orig_mod.{key}": tensor for key, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "pt")
    model_cfg = {"embed_dim": 32, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}
    preprocess_cfg = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "resize_mode": "squash"}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}))

    checkpoint = read_checkpoint(path)
    assert (checkpoint.layout, checkpoint.warnings) == ("open_clip", ())
    assert checkpoint.preprocess == PreprocessConfig(
        size=vision["image_size"], mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), resize_mode=ResizeMode.SQUASH
    )
    assert_same_embeddings(checkpoint, theirs.encode_image, theirs.encode_text)


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["ViT", "ResNet"])
def test_open_clip_without_a_configuration(
    vision: dict[str, Any], tmp_path: Path, open_clips: Callable[..., Any]
) -> None:
    theirs = open_clips(vision)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    for path in (tmp_path, tmp_path / "weights.pt"):
        checkpoint = read_checkpoint(path)
        heads, activation = checkpoint.warnings
        assert "64 channels a head" in heads
        assert "GELU is assumed" in activation
        assert_same_embeddings(checkpoint, theirs.encode_image, theirs.encode_text)


@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["ViT", "ResNet"])
@pytest.mark.parametrize("scripted", [False, True], ids=["state dict", "TorchScript"])
def test_openai(scripted: bool, vision: dict[str, Any], tmp_path: Path, openai: ModuleType) -> None:
    theirs = openai_model(openai, vision)
    path = tmp_path / "model.pt"
    if scripted:
        archive(theirs, path, vision["image_size"])
    else:
        torch.save(theirs.state_dict(), path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "OpenAI"
    assert checkpoint.config.quick_gelu
    assert checkpoint.preprocess == PreprocessConfig(size=vision["image_size"])
    assert not any("GELU" in warning for warning in checkpoint.warnings)
    assert_same_embeddings(checkpoint, theirs.encode_image, theirs.encode_text)


def test_an_archive_of_a_model_with_gelu_is_known_by_its_program(
    tmp_path: Path, open_clips: Callable[..., Any]
) -> None:
    theirs = open_clips(VIT)
    archive(theirs, tmp_path / "gelu.pt", 32)
    checkpoint = read_checkpoint(tmp_path / "gelu.pt")
    assert not checkpoint.config.quick_gelu
    assert_same_embeddings(checkpoint, theirs.encode_image, theirs.encode_text)


def test_half_precision_as_openai_stores_it(tmp_path: Path, openai: ModuleType) -> None:
    theirs = openai_model(openai, VIT)
    openai.convert_weights(theirs)
    state = theirs.state_dict()
    assert {tensor.dtype for tensor in state.values()} >= {torch.float16, torch.float32}
    torch.save(state, tmp_path / "half.pt")
    theirs.float()
    checkpoint = read_checkpoint(tmp_path / "half.pt")
    assert_same_embeddings(checkpoint, theirs.encode_image, theirs.encode_text)


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        transformers.utils.logging.disable_progress_bar()
    yield transformers
    transformers.utils.logging.enable_progress_bar()  # huggingface_hub's own are hidden with them


def transformers_model(transformers: Any, activation: str = "quick_gelu", **text: Any) -> Any:
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1,
            "hidden_act": activation, **text,
        },
        vision_config={
            "hidden_size": 160, "intermediate_size": 300, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8, "hidden_act": activation,
        },
        projection_dim=32,
    )  # fmt: skip
    return randomise(transformers.CLIPModel(config))


def transformers_features(model: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    return (
        lambda pixels: model.get_image_features(pixels).pooler_output,
        lambda tokens: model.get_text_features(tokens).pooler_output,
    )


@pytest.mark.parametrize("container", ["safetensors", "shards", "bin"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_transformers(container: str, activation: str, tmp_path: Path, transformers: Any) -> None:
    theirs = transformers_model(transformers, activation)
    theirs.save_pretrained(tmp_path, max_shard_size="4MB" if container == "shards" else "5GB")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size=32, image_mean=[0.5, 0.4, 0.3], resample=2
    )
    processor.save_pretrained(tmp_path)
    if container == "shards":
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
    if container == "bin":
        (tmp_path / "model.safetensors").unlink()
        buffers = {"text_model.embeddings.position_ids": torch.arange(77)[None]}  # older files carry it
        torch.save(theirs.state_dict() | buffers, tmp_path / "pytorch_model.bin")

    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.layout, checkpoint.warnings) == ("Transformers", ())
    assert checkpoint.config.quick_gelu == (activation == "quick_gelu")
    assert checkpoint.preprocess.mean == pytest.approx((0.5, 0.4, 0.3))
    assert (checkpoint.preprocess.size, checkpoint.preprocess.interpolation) == (32, Interpolation.BILINEAR)
    assert_same_embeddings(checkpoint, *transformers_features(theirs))


def test_transformers_of_the_first_hour_pools_at_the_same_token(tmp_path: Path, transformers: Any) -> None:
    """Configurations before 2023 name token 2 as the end; theirs then pools at the highest id, which is the end."""
    theirs = transformers_model(transformers, eos_token_id=2)
    theirs.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["text_config_dict"] = dict(document["text_config"])
    document["text_config"]["num_attention_heads"] = 8  # the other spelling wins
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert_same_embeddings(read_checkpoint(tmp_path), *transformers_features(theirs))


def test_we_write_what_transformers_reads(tmp_path: Path, transformers: Any, open_clips: Callable[..., Any]) -> None:
    source = open_clips(VIT, quick_gelu=True)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    like = config_from_dict({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True})
    state, document = to_transformers(read_checkpoint(tmp_path / "weights.pt", like=like).state, like)
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(document))
    squash = PreprocessConfig(size=32, mean=(0.5, 0.4, 0.3), resize_mode=ResizeMode.SQUASH)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor_json(squash)))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    theirs, found = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    images, tokens = transformers_features(theirs.eval())
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(images(pixels), source.encode_image(pixels), atol=1e-5, rtol=0)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.config == like
    assert checkpoint.preprocess == squash
    assert_same_embeddings(checkpoint, images, tokens)


def test_only_what_transformers_has_is_written_for_it() -> None:
    with pytest.raises(CheckpointError, match="no ResNet"):
        to_transformers({}, PRESETS["RN50"])
    with pytest.raises(CheckpointError, match="no such resize"):
        processor_json(PreprocessConfig(resize_mode=ResizeMode.LONGEST))


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.endswith("-quickgelu")])
def test_presets_are_known_by_their_shapes(name: str) -> None:
    with torch.device("meta"):
        state = CLIP(PRESETS[name]).state_dict()
    assert config_of_shapes(state, source="weights") == PRESETS[name]


def test_a_preset_whose_activation_is_unknown_says_which_flag_settles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openai: ModuleType
) -> None:
    small = config_from_dict({"embed_dim": 32, "vision_cfg": {**VIT, "head_width": 32}, "text_cfg": TEXT})
    monkeypatch.setitem(PRESETS, "small", small)
    path = tmp_path / "weights.pt"
    save_model(tmp_path / "saved", CLIP(small), small, PreprocessConfig(size=32))
    (tmp_path / "saved" / "open_clip_model.safetensors").rename(tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    checkpoint = read_checkpoint(path)
    assert checkpoint.config == small  # with its own heads, which the shapes do not tell
    (warning,) = checkpoint.warnings
    assert f"--model small --pretrained {path}" in warning
    assert f"--model small-quickgelu --pretrained {path}" in warning
    assert read_checkpoint(path, like=small).warnings == ()

    monkeypatch.setitem(PRESETS, "small-quickgelu", small)
    archive(openai_model(openai, VIT), tmp_path / "openai.pt", 32)
    (warning,) = read_checkpoint(tmp_path / "openai.pt", like=small).warnings
    assert "trained with QuickGELU" in warning
    assert "--model small-quickgelu would match" in warning


def test_a_logit_bias_in_the_weights_is_enough(tmp_path: Path, open_clips: Callable[..., Any]) -> None:
    state = open_clips(VIT).state_dict() | {"logit_bias": torch.tensor([-10.0]), "logit_scale": torch.tensor([2.0])}
    torch.save(state, tmp_path / "weights.pt")
    like = config_from_dict({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT})
    for chosen in (None, like):
        checkpoint = read_checkpoint(tmp_path, like=chosen)
        model = CLIP(checkpoint.config)
        load_into(model, checkpoint.state, source="weights")
        assert model.logit_bias is not None
        assert (model.logit_bias.item(), model.logit_scale.item()) == (-10, 2)


def model_configs() -> list[Path]:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None
    assert spec.submodule_search_locations
    return sorted((Path(spec.submodule_search_locations[0]) / "model_configs").glob("*.json"))


@pytest.mark.parametrize("path", model_configs(), ids=lambda path: path.stem)
def test_every_configuration_of_open_clip_is_ours_or_foreign(path: Path) -> None:
    """With the same parameters as open_clip's model where it is ours; two layers stand for all."""
    document = json.loads(path.read_text())
    for tower in ("vision_cfg", "text_cfg"):
        if isinstance(document[tower].get("layers"), int):
            document[tower]["layers"] = 2
    own, foreign = own_settings(document)
    if foreign:
        assert any(
            key in json.dumps(document)
            for key in ("timm", "hf_", "multimodal", "pool", "ls_init", "no_ln_pre", "kwargs", "no_causal_mask")
        )
        return
    with torch.device("meta"):
        ours = CLIP(config_from_dict(own))
        document.pop("custom_text", None)
        theirs = open_clip.CLIP(**{key: value for key, value in document.items() if value is not None})
    count = sum(tensor.numel() for tensor in theirs.parameters())
    assert sum(tensor.numel() for tensor in ours.parameters()) == count


def test_a_model_of_another_family_is_handed_on(tmp_path: Path) -> None:
    document = {
        "model_cfg": {
            "embed_dim": 32, "custom_text": True, "init_logit_bias": -10,
            "vision_cfg": {"image_size": 32, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map"},
            "text_cfg": {**TEXT, "no_causal_mask": True},
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]},
    }  # fmt: skip
    weights = tmp_path / "open_clip_model.safetensors"
    save_file({"visual.trunk.pos_embed": torch.zeros(2)}, weights)
    with pytest.raises(CheckpointError, match=r"visual\.trunk\.pos_embed.*--model NAME --pretrained"):
        read_checkpoint(tmp_path)
    (tmp_path / CONFIG_FILE).write_text(json.dumps(document))
    with pytest.raises(ForeignModel, match=r"vision_cfg\.timm_model_name, text_cfg\.no_causal_mask") as caught:
        read_checkpoint(tmp_path)
    assert caught.value.config == document
    assert caught.value.weights == weights


def test_settings_at_their_defaults_say_nothing() -> None:
    like = config_from_dict({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT})
    verbose = config_to_dict(like)
    verbose["vision_cfg"] |= {"pool_type": "tok", "ls_init_value": None, "patch_dropout": 0.5, "image_size": [32, 32]}
    verbose["text_cfg"] |= {"pool_type": "argmax", "hf_model_name": None, "mlp_ratio": 4.0, "proj_bias": False}
    own, foreign = own_settings(verbose)
    assert not foreign
    assert config_from_dict(own) == like


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "type 'siglip'"),
        ({"text_config": {"vocab_size": 1000}}, r"text_config\.vocab_size is 1000"),
        ({"text_config": {"hidden_act": "relu"}}, r"hidden_act is 'relu'"),
        ({"vision_config": {"hidden_act": "gelu"}}, r"vision_config\.hidden_act is 'gelu'"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps is 1e-06"),
        ({"projection_dim": None}, "is not a model configuration"),
        ({"projection_dim": -1}, "embed_dim cannot be -1"),
        ({"text_config": 5}, "is not a model configuration"),
    ],
)
def test_a_transformers_model_that_is_not_ours_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_of_transformers({"model_type": "clip", **change}, source="config.json")


@pytest.mark.parametrize(
    ("tower", "setting", "message"),
    [
        ("vision_cfg", {"head_width": 48}, "vision_cfg.width is 128; it must be a multiple of head_width, 48"),
        ("vision_cfg", {"head_width": 256}, "vision_cfg.width is 128; it must be a multiple of head_width, 256"),
        ("text_cfg", {"heads": 3}, "text_cfg.width is 64; it must be a multiple of heads, 3"),
    ],
)
def test_heads_that_do_not_fit_are_named(tower: str, setting: dict[str, int], message: str, tmp_path: Path) -> None:
    model_cfg = {"embed_dim": 32, "vision_cfg": VIT, "text_cfg": TEXT}
    model_cfg[tower] = {**{"vision_cfg": VIT, "text_cfg": TEXT}[tower], **setting}
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"model_cfg": model_cfg}))
    save_file({"visual.proj": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path)


def test_transformers_defaults_are_vit_b_32s() -> None:
    config = config_of_transformers({"model_type": "clip"}, source="config.json")
    assert config == PRESETS["ViT-B-32-quickgelu"]
    assert preset_of(config) == "ViT-B-32"
    assert isinstance(config, CLIPConfig)
    assert not isinstance(config.vision, ResNetConfig)


@pytest.mark.parametrize(
    ("document", "expected", "warnings"),
    [
        ({}, PreprocessConfig(), 0),
        ({"size": 224, "crop_size": 224, "resample": 2}, PreprocessConfig(interpolation=Interpolation.BILINEAR), 0),
        ({"size": {"height": 96, "width": 96}, "do_center_crop": False},
         PreprocessConfig(size=96, resize_mode=ResizeMode.SQUASH), 0),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, PreprocessConfig(), 1),
        ({"image_processor": {"image_mean": [0.5, 0.5, 0.5], "image_std": list(OPENAI_MEAN)}},
         PreprocessConfig(mean=(0.5, 0.5, 0.5), std=OPENAI_MEAN), 0),
        ({"do_normalize": False}, PreprocessConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), 0),
    ],
)  # fmt: skip
def test_image_processors(document: dict[str, Any], expected: PreprocessConfig, warnings: int) -> None:
    found, told = preprocess_of_transformers(document, image_size=224, source="preprocessor_config.json")
    assert found == expected
    assert len(told) == warnings


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"do_rescale": False}, "has do_rescale False, which is not followed"),
        ({"do_resize": False}, "has do_resize False, which is not followed"),
        ({"rescale_factor": 1 / 127.5}, "has rescale_factor 0.00784"),
        ({"image_processor_type": "ViTImageProcessor"}, "is of a ViTImageProcessor and lacks image_mean and image_std"),
        ({"image_processor_type": "CLIPImageProcessorFast", "rescale_factor": 0.00392156862745098}, None),
    ],
)
def test_what_of_an_image_processor_is_not_followed(document: dict[str, Any], message: str | None) -> None:
    _, told = preprocess_of_transformers(document, image_size=224, source="preprocessor_config.json")
    assert len(told) == (message is not None)
    assert all(message in warning for warning in told if message)


def test_the_mlp_of_a_cbow_is_kept_by_a_folder_and_seen_by_its_shapes(tmp_path: Path) -> None:
    text_cfg = {"encoder": "cbow", "width": 8, "hidden": 12}
    config = config_from_dict({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": text_cfg})
    model = CLIP(config)
    save_model(tmp_path, model, config, PreprocessConfig(size=32))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config == config
    for name, tensor in model.state_dict().items():
        assert torch.equal(checkpoint.state[name], tensor), name
    (tmp_path / CONFIG_FILE).unlink()
    assert read_checkpoint(tmp_path / "open_clip_model.safetensors").config.text == config.text


def test_our_own_run_folder(tmp_path: Path) -> None:
    config = config_from_dict({"embed_dim": 32, "vision_cfg": VIT, "text_cfg": {"encoder": "cbow", "width": 8}})
    save_model(tmp_path / "model", CLIP(config), config, PreprocessConfig(size=32))
    (tmp_path / "config.yaml").write_text("model: small\n")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config == config
    assert describe(checkpoint.config, checkpoint.preprocess) == json.loads(
        (tmp_path / "model" / CONFIG_FILE).read_text()
    )
