"""Several heads of `small` in one: what they say together is the mean of what each says."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import script_module

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load

CONFIG = CLIPConfig(
    embed_dim=8,
    vision=EfficientNetConfig(image_size=40, hidden=6, gate=0.5, width_multiplier=0.25, classes=10),
    text=CBOWConfig(width=8, vocab_size=600),
)


def head_of(folder: Path) -> dict[str, np.ndarray]:
    model, _, _ = load(str(folder), precision="fp32").bundled()
    return {name: tensor.numpy() for name, tensor in model.visual.gated_head.state_dict().items()}  # type: ignore[union-attr,operator]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    recipe = script_module("recipes/small/heads.py")
    monkeypatch.setattr(sys, "argv", [recipe.__name__, *map(str, arguments)])
    recipe.main()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """`start`, and `trained` from it, with other weights everywhere."""
    for seed, name in enumerate(("start", "trained")):
        torch.manual_seed(seed)
        model = CLIP(CONFIG)
        for parameter in model.visual.gated_head.parameters():  # type: ignore[union-attr]
            torch.nn.init.normal_(parameter)
        save_model(tmp_path / name, model, CONFIG, PreprocessConfig(size=40))
    return tmp_path


def test_another_head_has_learned_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 2):
        run(
            monkeypatch,
            "begin",
            models / "trained",
            "--start",
            models / "start",
            "--seed",
            seed,
            "--to",
            models / f"{seed}",
        )
    first, second, start, trained = (head_of(models / name) for name in ("1", "2", "start", "trained"))
    assert np.array_equal(first["class_embedding"], start["class_embedding"])
    assert not np.array_equal(first["class_embedding"], trained["class_embedding"])
    assert not np.array_equal(first["c_fc.weight"], second["c_fc.weight"])
    assert np.abs(first["c_fc.weight"]).max() <= 1280**-0.5  # as torch begins a linear layer
    assert not first["c_proj.weight"].any()
    texts = [load(str(models / name), precision="fp32").encode_texts(["a cat"]) for name in ("1", "2", "trained")]
    assert torch.equal(texts[0], texts[2])
    assert torch.equal(texts[1], texts[2])


def test_joined_heads_say_the_mean(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["trained"]
    for seed in (1, 2):
        model, config, _ = load(str(models / "trained"), precision="fp32").bundled()
        torch.manual_seed(seed)
        for parameter in model.visual.gated_head.parameters():  # type: ignore[union-attr]
            torch.nn.init.normal_(parameter)
        save_model(models / f"{seed}", model, config, PreprocessConfig(size=40))
        names.append(str(seed))
    run(monkeypatch, "join", *(models / name for name in names), "--to", models / "joined")
    images = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        each = [load(str(models / name), precision="fp32").bundled()[0].visual(images).numpy() for name in names]
        together = load(str(models / "joined"), precision="fp32").bundled()[0].visual(images).numpy()
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-4, atol=1e-4)
    assert load(str(models / "joined")).describe()["model_cfg"]["vision_cfg"]["hidden"] == 18


def test_heads_of_other_texts_do_not_join(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"start has another text tower than .*trained: train it with --lock-text"):
        run(monkeypatch, "join", models / "trained", models / "start", "--to", models / "joined")
    assert not (models / "joined").exists()
