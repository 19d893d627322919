"""Several heads of `small` in one: what they say together is the mean of what each says."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from scripts import ROOT, script_module

from zeroshot_cli.cli.app import app
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


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Ask make what it would do."""
    command = ["make", "-n", "-f", "recipes/small/Makefile", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_the_makefile_has_the_steps_in_order(tmp_path: Path) -> None:
    """Each script is there, each option of train too, and each head trains beside the first one's text tower."""
    lines = made(f"RUNS={tmp_path}", "PHOTOS=photos.csv").stdout.replace("\\\n", " ").splitlines()
    commands = [line.split() for line in lines if not line.startswith(("mkdir", "touch"))]
    scripts = [Path(words[1]).stem for words in commands if words[0] == "python"]
    order = ["prepare", "build_texts", "teach", "start", "heads", "heads", "heads", "pack"]
    assert [name for name in scripts if name in order] == order
    assert all((ROOT / words[1]).is_file() for words in commands if words[0] == "python")
    trainings = [words[2:] for words in commands if words[:2] == ["zeroshot", "train"]]
    known = {option for parameter in typer.main.get_command(app).commands["train"].params for option in parameter.opts}
    assert {word for words in trainings for word in words if word.startswith("--")} <= known
    assert ["--lock-text" in words for words in trainings] == [False, True, True]
    assert [words[words.index("--seed") + 1] for words in trainings] == ["0", "1", "2"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_the_makefile_without_photographs(tmp_path: Path) -> None:
    ended = made(f"RUNS={tmp_path}")
    assert ended.returncode == 2
    assert "give PHOTOS=photos/train.csv, a CSV with the columns image, caption and label" in ended.stderr
