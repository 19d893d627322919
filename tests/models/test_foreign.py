"""Models that the bundled CLIP does not have: the same as open_clip, through our own command's path."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.images.preprocess import OPENAI_MEAN
from zeroshot_cli.models import registry
from zeroshot_cli.models.foreign import load_foreign
from zeroshot_cli.models.formats.open_clip import ForeignModel
from zeroshot_cli.models.formats.tensors import read_tensors
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import Prediction
from zeroshot_cli.words.labels import Labels

WORDS = ["a", "photo", "of", "the", "red", "green", "blue", "square", "in", "picture", "bad", "good", "it", "is"]
NAMES = ["red", "green", "blue square"]
TEXT = {"width": 64, "heads": 2, "layers": 2}
HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"}

SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        **TEXT,
        "context_length": 16,
        "vocab_size": 32,
        "hf_tokenizer_name": "someone/siglip-like",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
CONVNEXT = {
    "embed_dim": 48,
    "vision_cfg": {
        "timm_model_name": "test_convnext",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "timm_drop": 0.0,
        "timm_drop_path": 0.1,
        "image_size": 64,
    },
    "text_cfg": {**TEXT, "context_length": 77, "vocab_size": 49408},
}
COCA = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 64,
        "layers": 2,
        "width": 64,
        "head_width": 32,
        "patch_size": 16,
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {**TEXT, "context_length": 76, "vocab_size": 49408, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, **TEXT, "attn_pooler_heads": 2},
    "custom_text": True,
}
ROBERTA = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "hf_model_name": "someone/roberta-like",
        "hf_tokenizer_name": "someone/roberta-like",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "mlp",
        "context_length": 16,
    },
}
EVA = {
    "embed_dim": 64,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "eva02_tiny_patch14_224",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    },
    "text_cfg": {**TEXT, "context_length": 77, "vocab_size": 49408},
}


def write_tokenizer(folder: Path, **config: Any) -> None:
    """A tokenizer in the layout of a hub repository: one token a word, `</s>` ends a text, `<pad>` fills it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**options, "unk_token": "<unk>"}))
    if config:
        (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    write_tokenizer(
        tmp_path / "tokenizer",
        model_type="roberta",
        vocab_size=32,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=40,
        pad_token_id=0,
    )
    return tmp_path / "tokenizer"


def randomise(model: nn.Module) -> nn.Module:
    """Every parameter and batch-norm statistic random, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or key.endswith("logit_bias"):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2:
                tensor.copy_(1 + 0.2 * noise if key.endswith(("weight", "gamma", "var")) else 0.2 * noise)
            else:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
        model.logit_scale.fill_(3.0)
    return model.eval()


def theirs_of(config: dict[str, Any], folder: Path, tokenizer_folder: Path) -> tuple[Any, Any, Any]:
    """open_clip's own model, transform and tokenizer of `config`, saved to `folder` as open_clip lays them out."""
    config = json.loads(json.dumps(config))
    for key in ("hf_tokenizer_name", "hf_model_name"):
        if key in config["text_cfg"]:
            config["text_cfg"][key] = str(tokenizer_folder)
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    folder.mkdir()
    document = {"model_cfg": config, "preprocess_cfg": HALF}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    write_tokenizer(folder)
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name, pretrained_text=False)
    randomise(model)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
    return model, transform, open_clip.get_tokenizer(name)


@pytest.fixture
def pair(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., tuple[LoadedModel, Any]]:
    """`pair(config)` is the same model twice: loaded by us, and (model, transform, tokenizer) of open_clip."""

    def build(config: dict[str, Any], precision: str = "fp32") -> tuple[LoadedModel, Any]:
        theirs = theirs_of(config, tmp_path / "model", tokenizer_folder)
        return load(config, tmp_path / "model", tokenizer_folder, precision=precision), theirs

    return build


def load(config: dict[str, Any], saved: Path, tokenizer_folder: Path, **options: Any) -> LoadedModel:
    weights = saved / "weights.safetensors"
    document = options.pop("document", {"model_cfg": config, "preprocess_cfg": HALF})
    folder = options.pop("folder", Path())
    return load_foreign(
        **{
            "name": "another",
            "pretrained": None,
            "foreign": ForeignModel("", config=document, weights=folder / "weights.safetensors"),
            "state": read_tensors(weights) if weights.exists() else {},
            "device": torch.device("cpu"),
            "precision": "fp32",
            "fetch": {"someone/siglip-like": tokenizer_folder, "someone/roberta-like": tokenizer_folder}.__getitem__,
            **options,
        }
    )


FAMILIES = {"SigLIP": SIGLIP, "ConvNeXt": CONVNEXT, "CoCa": COCA, "roberta": ROBERTA, "EVA": EVA}


@pytest.mark.filterwarnings("ignore::zeroshot_cli.clip.tokenizer.TruncatedTextWarning")  # one text is meant to be
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_open_clips_own(family: str, pair: Callable[..., Any]) -> None:
    ours, (model, _, tokenize) = pair(FAMILIES[family])
    size = ours.preprocess.config.height_width
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    texts = ["a photo of a red square.", "", "The GREEN picture  is bad", "blue " * 90]
    with torch.inference_mode():
        image = F.normalize(model.encode_image(images), dim=-1)
        text = F.normalize(model.encode_text(tokenize(texts)), dim=-1)
    torch.testing.assert_close(ours.encode_images(images), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_texts(texts), text, atol=1e-5, rtol=0)
    assert ours.embed_dim == image.shape[1] == text.shape[1]
    assert (text @ text.T).min() < 0.999  # the texts do differ


@pytest.mark.parametrize("family", ["SigLIP", "ConvNeXt"])
def test_a_folder_of_pictures_gets_open_clips_own_probabilities(
    family: str, pair: Callable[..., Any], tmp_path: Path
) -> None:
    ours, (model, transform, tokenize) = pair(FAMILIES[family])
    noise = np.random.default_rng(0)
    paths = [str(tmp_path / f"{index}.png") for index in range(3)]
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(path)

    results = list(Classifier(ours, Labels.of(NAMES), "plain").predict(paths, top_k=3, batch_size=2))

    with torch.inference_mode():
        images = torch.stack([transform(Image.open(path)) for path in paths])
        image = F.normalize(model.encode_image(images), dim=-1)
        text = F.normalize(model.encode_text(tokenize(NAMES)), dim=-1)
        expected = (image @ text.T * model.logit_scale.exp() + (model.logit_bias or 0)).softmax(dim=-1)
    for result, row in zip(results, expected, strict=True):
        assert isinstance(result, Prediction)
        found = {best.label: best.probability for best in result.predictions}
        assert [found[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)


def test_siglip_keeps_its_bias(pair: Callable[..., Any]) -> None:
    ours, (model, _, _) = pair(SIGLIP)
    assert ours.logit_bias == -10.0 == float(model.logit_bias.detach())
    assert ours.logit_scale == pytest.approx(np.exp(3.0))


def test_a_tokenizer_beside_the_weights_needs_no_hub(pair: Callable[..., Any], tmp_path: Path) -> None:
    ours, _ = pair(SIGLIP)
    local = load(SIGLIP, tmp_path / "model", tmp_path, folder=tmp_path / "model", fetch=None)
    torch.testing.assert_close(local.encode_texts(NAMES), ours.encode_texts(NAMES), atol=0, rtol=0)
    assert local.fingerprint == ours.fingerprint
    with pytest.raises(UnavailableError, match="someone/siglip-like"):
        load(SIGLIP, tmp_path / "model", tmp_path, fetch=None)


def test_the_fingerprint_follows_the_tokenizer(pair: Callable[..., Any], tmp_path: Path) -> None:
    ours, _ = pair(SIGLIP)
    file = tmp_path / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace("picture", "drawing"))
    assert load(SIGLIP, tmp_path / "model", tmp_path / "tokenizer").fingerprint != ours.fingerprint


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        *((family, "bf16") for family in FAMILIES if family != "EVA"),
        *(pytest.param(family, "int8", marks=[pytest.mark.slow, pytest.mark.engines]) for family in FAMILIES),
    ],
)
def test_other_precisions_stay_near(family: str, precision: str, pair: Callable[..., Any], tmp_path: Path) -> None:
    exact, _ = pair(FAMILIES[family])
    short = load(FAMILIES[family], tmp_path / "model", tmp_path / "tokenizer", precision=precision)
    images = torch.randn(3, 3, *exact.preprocess.config.height_width, generator=torch.Generator().manual_seed(1))
    assert (exact.encode_images(images) * short.encode_images(images)).sum(dim=-1).min() > 0.997
    assert (exact.encode_texts(NAMES) * short.encode_texts(NAMES)).sum(dim=-1).min() > 0.997
    assert short.fingerprint == exact.fingerprint


def test_weights_that_do_not_fit_are_named(pair: Callable[..., Any], tmp_path: Path) -> None:
    pair(CONVNEXT)
    state = dict(read_tensors(tmp_path / "model" / "weights.safetensors"))
    del state["visual.head.proj.weight"]
    with pytest.raises(CheckpointError, match=r"weights\.safetensors .*lacks: visual\.head\.proj\.weight"):
        load(CONVNEXT, tmp_path / "model", tmp_path, state=state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "no_such_model", "image_size": 32}}, "cannot build .*no_such_model"),
        ({"vision_cfg": {**CONVNEXT["vision_cfg"], "image_size": 10**12}}, "image_size 1000000000000, which cannot"),
        ({"text_cfg": {**CONVNEXT["text_cfg"], "layers": 10**9}}, "layers 1000000000, which cannot be meant"),
        ({"vision_cfg": {"colour": "red"}}, "cannot build .*colour"),
        ({"vision_cfg": None}, "lacks a vision_cfg"),
        ({"text_cfg": {**TEXT, "vocab_size": 32}}, "names no tokenizer"),
    ],
)
def test_a_configuration_that_open_clip_cannot_build(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load({**CONVNEXT, **change}, tmp_path, tmp_path)


def test_the_fingerprint_follows_the_text_tower_and_not_the_order_of_settings(
    pair: Callable[..., Any], tmp_path: Path
) -> None:
    ours, _ = pair(ROBERTA)
    again = {key: ROBERTA[key] for key in reversed(ROBERTA)}
    assert load(again, tmp_path / "model", tmp_path / "tokenizer").fingerprint == ours.fingerprint
    file = tmp_path / "tokenizer" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hidden_act": "relu"}))
    assert load(ROBERTA, tmp_path / "model", tmp_path / "tokenizer").fingerprint != ours.fingerprint


def test_a_tokenizer_that_only_happens_to_lie_beside_the_weights_is_not_taken(
    pair: Callable[..., Any], tmp_path: Path
) -> None:
    ours, _ = pair(SIGLIP)
    stray = tmp_path / "downloads"
    write_tokenizer(stray)
    (stray / "tokenizer.json").write_text((stray / "tokenizer.json").read_text().replace("red", "xxx"))
    assert load(SIGLIP, tmp_path / "model", tmp_path / "tokenizer", folder=stray).fingerprint == ours.fingerprint


@pytest.mark.parametrize(("given", "fine"), [(None, True), ([1], False)])
def test_a_preprocess_cfg_of_the_wrong_kind(
    given: object, fine: bool, pair: Callable[..., Any], tmp_path: Path
) -> None:
    pair(CONVNEXT)
    document = {"model_cfg": CONVNEXT, "preprocess_cfg": given}
    if fine:
        found = load(CONVNEXT, tmp_path / "model", tmp_path, document=document)
        assert found.preprocess.config.mean == OPENAI_MEAN
    else:
        with pytest.raises(CheckpointError, match=r"preprocess_cfg is \[1\] and not a mapping"):
            load(CONVNEXT, tmp_path / "model", tmp_path, document=document)


@pytest.mark.parametrize("told", [True, False], ids=["by tokenizer_kwargs", "by the folder alone"])
def test_code_in_a_tokenizers_folder_does_not_run(told: bool, tokenizer_folder: Path, tmp_path: Path) -> None:
    proof, settings = tmp_path / "ran", tokenizer_folder / "tokenizer_config.json"
    (tokenizer_folder / "evil.py").write_text(
        f"open({str(proof)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
    )
    settings.write_text(json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}))
    (tokenizer_folder / "config.json").unlink()
    options = {"trust_remote_code": True} if told else {}
    config = {**SIGLIP, "text_cfg": {**SIGLIP["text_cfg"], "tokenizer_kwargs": options}}
    with pytest.raises(CheckpointError, match="trust_remote_code" if told else "tokenizer cannot be read"):
        load(config, tmp_path, tokenizer_folder)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("config", "tower", "change", "message"),
    [
        (SIGLIP, "text_cfg", {"tokenizer_kwargs": {"cache_dir": "/"}}, "has 'cache_dir'"),
        (SIGLIP, "text_cfg", {"tokenizer_kwargs": [1]}, "tokenizer_kwargs is .1. and not a mapping"),
        (SIGLIP, "text_cfg", {"tokenizer_kwargs": {"clean": "thoroughly"}}, "tokenizer cannot be read"),
        (SIGLIP, "text_cfg", {"hf_tokenizer_name": "http://example.org/x"}, "not a repository such as org/name"),
        (SIGLIP, "vision_cfg", {"timm_model_name": "hf-hub:someone/evil"}, "timm_model_name is 'hf-hub:someone/evil'"),
        (ROBERTA, "text_cfg", {"hf_model_name": "../evil"}, "not a repository such as org/name"),
    ],
)
def test_a_configuration_reaches_no_further_than_a_model(
    config: dict[str, Any], tower: str, change: dict[str, Any], message: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load({**config, tower: {**config[tower], **change}}, tmp_path, tokenizer_folder)


def test_a_text_tower_that_open_clip_lacks_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    (tokenizer_folder / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}')
    with pytest.raises(CheckpointError, match="someone/roberta-like, is of no kind"):
        load(ROBERTA, tmp_path, tokenizer_folder)


@pytest.mark.parametrize("config", [SIGLIP, ROBERTA])
def test_without_transformers_the_extra_is_named(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroshot_cli.models.tokenizers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'zeroshot-cli\[hf\]'"):
        load(config, tmp_path, tmp_path)


def test_commands_for_the_bundled_clip_refuse_another(pair: Callable[..., Any]) -> None:
    ours, _ = pair(CONVNEXT)
    with pytest.raises(UsageError, match="another"):
        ours.bundled()


def test_registered_configurations_are_open_clips() -> None:
    assert registry.model_config("ViT-B-16-SigLIP") == open_clip.get_model_config("ViT-B-16-SigLIP")
    for name in ("no-such", "../model_configs/ViT-B-16-SigLIP"):
        with pytest.raises(UsageError, match="there is no configuration of"):
            registry.model_config(name)


@pytest.mark.filterwarnings("ignore::zeroshot_cli.embed.cache_store.CacheWarning")
def test_the_command_takes_a_siglip_from_the_hub_and_then_without_it(
    hub: Any, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights from one repository, the tokenizer from another, a folder of pictures, open_clip's own probabilities."""
    from zeroshot_cli.cli import app

    saved = tmp_path / "saved"
    model, transform, tokenize = theirs_of(SIGLIP, saved, tokenizer_folder)
    hub.repos["someone/siglip-like"] = {path.name: path.read_bytes() for path in tokenizer_folder.iterdir()}
    hub.repos["someone/model"] = {
        "open_clip_config.json": json.dumps({"model_cfg": SIGLIP, "preprocess_cfg": HALF}).encode(),
        "open_clip_model.safetensors": (saved / "weights.safetensors").read_bytes(),
    }
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{index}.png")

    command = ["classify", str(pictures), "--model", "hf-hub:someone/model", "--prompts", "plain", "--top-k", "3"]
    command += [part for name in NAMES for part in ("--label", name)] + ["--format", "jsonl", "--precision", "fp32"]
    assert app.run(command) == 0
    first = capsys.readouterr().out
    hub.server.shutdown()
    assert app.run([*command, "--offline"]) == 0
    assert capsys.readouterr().out == first

    with torch.inference_mode():
        texts = F.normalize(model.encode_text(tokenize(NAMES)), dim=-1)
        for line, path in zip(first.splitlines(), sorted(pictures.iterdir()), strict=True):
            image = F.normalize(model.encode_image(transform(Image.open(path))[None]), dim=-1)
            logits = model.logit_scale.exp() * image @ texts.T + model.logit_bias
            expected = dict(zip(NAMES, logits.softmax(dim=-1)[0].tolist(), strict=True))
            ours = {entry["label"]: entry["probability"] for entry in json.loads(line)["predictions"]}
            assert ours == pytest.approx(expected, abs=1e-5)


def test_a_text_that_is_cut_is_named(pair: Callable[..., Any]) -> None:
    """SIGLIP reads 16 tokens, the last of which ends the text."""
    from zeroshot_cli.clip.tokenizer import TruncatedTextWarning

    model, _ = pair(SIGLIP)
    fits, one_over = " ".join(["red"] * 15), " ".join(["green"] * 16)
    model.encode_texts(["", "red", fits])  # a warning would be an error
    with pytest.warns(TruncatedTextWarning, match="cut to 16 tokens: 'green green") as caught:
        model.encode_texts(["red", one_over, fits])
    assert len(caught) == 1
