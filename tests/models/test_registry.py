"""Names, tags and published figures, against the installed open_clip and its own table."""

import subprocess
import sys

import open_clip
import pytest
from open_clip.pretrained import get_pretrained_cfg

from zeroshot_cli.clip.config import PRESETS
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import Interpolation, PreprocessConfig, ResizeMode
from zeroshot_cli.models import registry


def test_every_pair_of_open_clip_is_known_with_its_repository_and_preprocessing() -> None:
    theirs = open_clip.list_pretrained()
    assert list(registry.published()) == theirs
    for model, tag in theirs:
        ours, entry = registry.published()[model, tag], get_pretrained_cfg(model, tag)
        assert f"{ours.repo}/{ours.filename or ''}" == entry["hf_hub"]
        assert ours.preprocess == {key: entry[key] for key in ("mean", "std", "interpolation", "resize_mode")}
        assert ours.quick_gelu == entry.get("quick_gelu", False)


def test_the_list_is_read_without_what_is_slow() -> None:
    code = (
        "import sys; from zeroshot_cli.models.registry import published; assert len(published()) > 150; "
        "print(sorted({'torch', 'open_clip', 'huggingface_hub', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32", "ViT-B-32"),
        ("ViT-B/32", "ViT-B-32"),
        ("ViT-L/14@336px", "ViT-L-14-336"),
        ("RN50x4", "RN50x4"),
        ("vit-b-16-siglip", "ViT-B-16-SigLIP"),
        ("tiny", "tiny"),
    ],
)
def test_spellings(name: str, expected: str) -> None:
    assert registry.canonical_name(name) == expected


@pytest.mark.parametrize(
    ("model", "tag", "sentence"),
    [
        ("ViT-B-23", None, "there is no model 'ViT-B-23': did you mean ViT-B-32 or "),
        ("frobnicate", None, "there is no model 'frobnicate': zeroshot models list shows what there is"),
        ("ViT-B/32", "laion2b_s34b_b79", "ViT-B-32 has no weights 'laion2b_s34b_b79': did you mean laion2b_s34b_b79k"),
        ("RN50", "webli", "RN50 has no weights 'webli': zeroshot models list"),
        ("tiny", None, "no weights of tiny are published"),
    ],
)
def test_what_is_unknown_is_named_with_the_nearest(model: str, tag: str | None, sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        registry.find_published(model, tag)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("RN50", "openai"),  # 59.82 %, before cc12m and yfcc15m
        ("ViT-L-14", "dfn2b"),  # 81.41 %
        ("ViT-B-16-SigLIP", "webli"),
        ("ViTamin-L2", "datacomp1b"),  # not in the table, so the first
    ],
)
def test_default_tags(model: str, tag: str) -> None:
    assert registry.default_tag(model) == registry.find_published(model).tag == tag


@pytest.mark.parametrize(
    ("model", "tag", "preset", "mode"),
    [
        ("ViT-B/32", "openai", "ViT-B-32-quickgelu", "shortest"),
        ("ViT-B-32-quickgelu", "openai", "ViT-B-32-quickgelu", "shortest"),
        ("ViT-B-32", "laion2b_s34b_b79k", "ViT-B-32", "shortest"),
        ("ViT-B-32", "metaclip_400m", "ViT-B-32-quickgelu", "shortest"),
        ("ViT-H-14", "dfn5b", "ViT-H-14-quickgelu", "squash"),
        ("ViT-L-14", "laion2b_s32b_b82k", "ViT-L-14", "shortest"),
    ],
)
def test_activation_and_preprocessing_are_of_the_tag(model: str, tag: str, preset: str, mode: str) -> None:
    found = registry.find_published(model, tag)
    assert found.preset == preset
    assert PRESETS[preset].quick_gelu == found.quick_gelu
    config = PreprocessConfig.from_dict({"size": 224, **found.preprocess})
    assert config.resize_mode is (ResizeMode.SQUASH if tag == "dfn5b" else ResizeMode(mode))
    assert config.interpolation is Interpolation.BICUBIC
    assert config.mean == ((0.5, 0.5, 0.5) if tag == "laion2b_s32b_b82k" else (0.48145466, 0.4578275, 0.40821073))


@pytest.mark.parametrize(
    ("model", "tag", "expected"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k", (151.28, 0.6656, 0.5814)),
        ("ViT-B-32", "openai", (151.28, 0.6332, 0.5592)),
        ("ViT-L-14-336-quickgelu", "openai", (427.94, 0.7656, 0.7089)),  # in the table without -quickgelu
        ("ViT-B-32", "laion400m_e32", (151.28, 0.6293, 0.5506)),  # 0.6024 was measured without QuickGELU
        ("ViTamin-L2", "datacomp1b", (687.61, None, None)),
        ("tiny", "", (None, None, None)),
    ],
)
def test_published_figures(model: str, tag: str, expected: tuple[float | None, ...]) -> None:
    found = registry.figures(model, tag)
    assert (found.parameters, found.imagenet, found.imagenet_v2) == expected


def test_every_published_model_has_a_size_and_a_configuration() -> None:
    for model, tag in registry.published():
        assert registry.figures(model, tag).parameters
        assert registry.model_config(model)["embed_dim"] > 0


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_sizes_are_of_the_models(name: str) -> None:
    import torch

    with torch.device("meta"):
        model = CLIP(PRESETS[name])
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert registry.figures(name, "openai").parameters == round(millions, 2)


def test_the_configuration_of_a_quickgelu_twin() -> None:
    assert registry.model_config("ViT-B-16-plus-240-quickgelu")["quick_gelu"] is True  # open_clip has no file of it
    assert "quick_gelu" not in registry.model_config("ViT-B-16-plus-240")
    with pytest.raises(UsageError, match="no configuration of 'ViT-B-33'"):
        registry.model_config("ViT-B-33")


def test_weights_are_known_by_their_published_hash() -> None:
    found = registry.by_hash("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af")
    assert found is not None
    assert (found.model.removesuffix("-quickgelu"), found.tag, found.quick_gelu) == ("ViT-B-32", "openai", True)
    assert registry.by_hash("0" * 64) is None


def test_preprocessing_that_a_models_weights_share() -> None:
    siglip = registry.shared_preprocess("ViT-B-16-SigLIP")
    assert siglip is not None
    assert siglip["mean"] == (0.5, 0.5, 0.5)
    assert registry.shared_preprocess("ViT-L-14") is None  # laion2b_s32b_b82k has a mean of 0.5
    assert registry.shared_preprocess("no-such-model") == {}
