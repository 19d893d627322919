"""Models with every parameter randomised, ours and open_clip's of the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.models.formats.open_clip import default_preprocess, save_model
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel

_VISION = VisionTransformerConfig(image_size=32, patch_size=8, width=64, layers=1, head_width=32)
_SMALL = CLIPConfig(embed_dim=32, vision=_VISION, text=TextTransformerConfig(width=64, heads=2, layers=3))
_BAG = CLIPConfig(embed_dim=32, vision=_VISION, text=CBOWConfig(width=64))


def save_randomised(folder: Path, config: CLIPConfig) -> Path:
    """Random gains, biases and weights, of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(0)
    model = CLIP(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            elif "logit" not in name:
                parameter.copy_(0.2 * noise + (parameter.ndim == 1 and name.endswith("weight")))
    save_model(folder, model, config, default_preprocess(config))
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_randomised(tmp_path_factory.mktemp("small"), _SMALL)


@pytest.fixture
def small(small_folder: Path) -> LoadedModel:
    """A text tower of three layers, in float32 on the CPU."""
    return load(str(small_folder), device="cpu", precision="fp32")


@pytest.fixture
def small_in(small_folder: Path) -> Callable[[str], LoadedModel]:
    """`small_in(precision)` is the small model in that precision."""
    return lambda precision: load(str(small_folder), device="cpu", precision=precision)


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A CBOW, which is not causal."""
    return load(str(save_randomised(tmp_path_factory.mktemp("bag"), _BAG)), device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def open_clip_classifier() -> Callable[..., torch.Tensor]:
    """`open_clip_classifier(folder, names, templates)` is open_clip's answer, ce."""

    def classifier(folder: Path, names: list[str], templates: list[Any]) -> torch.Tensor:
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        weights: torch.Tensor = open_clip.build_zero_shot_classifier(model, tokenizer, names, templates)
        return weights.T

    return classifier


@pytest.fixture(scope="session")
def save_model_randomised() -> Callable[[Path, CLIPConfig], Path]:
    return save_randomised


class CountingModel:
    """A LoadedModel whose tokenizer notes every text that it is asked for: what is cached is not tokenised."""

    def __init__(self, model: LoadedModel) -> None:
        import dataclasses

        self.texts: list[str] = []
        sequences = model.tokenizer.sequences  # type: ignore[attr-defined]

        def count(texts: Any) -> Any:
            self.texts += texts
            return sequences(texts)

        model.tokenizer.sequences = count  # type: ignore[attr-defined]
        self.model = dataclasses.replace(model)


@pytest.fixture
def counted(small: LoadedModel) -> CountingModel:
    return CountingModel(small)
