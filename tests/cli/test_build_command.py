"""`zeroshot build`, and what classify and eval make of its file."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from zeroshot_cli.cli.app import run
from zeroshot_cli.embed import prompt_ensemble
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import new_model

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 77, "vocab_size": 49408},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "config.yaml").write_text(yaml.safe_dump(MODEL))
    for seed in (0, 1):
        model, config, preprocess, _ = new_model(str(folder / "config.yaml"), seed=seed)
        save_model(folder / str(seed), model, config, preprocess)
    return folder / "0", folder / "1"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, models: tuple[Path, Path], tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", str(models[0]))
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp32")
    monkeypatch.chdir(tmp_path)
    for folder, colour in (("cat", "red"), ("dog", "blue")):
        Path("set", folder).mkdir(parents=True)
        Image.new("RGB", (20, 10), colour).save(Path("set", folder, f"{colour}.png"))
    Path("labels.txt").write_text("cat | kitten\ndog\n")


def build(*options: object) -> int:
    return run(["build", "-o", "c.safetensors", "--labels", "labels.txt", *map(str, options)])


def test_the_file_gives_the_same_rows_as_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert build("--label", "horse") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("wrote c.safetensors: 3 labels, 28 texts, prompts imagenet-7, model ")
    assert run(["classify", "set", "--labels", "labels.txt", "--label", "horse", "--top-k", "3"]) == 0
    expected = capsys.readouterr().out
    assert run(["classify", "set", "--classifier", "c.safetensors", "--top-k", "3"]) == 0
    assert capsys.readouterr().out == expected
    assert expected.count("\n") == 7


def labels_given(capsys: pytest.CaptureFixture[str], *options: object) -> list[str]:
    """What classify calls the pictures, by c.safetensors."""
    capsys.readouterr()
    assert run(["classify", "set", "--classifier", "c.safetensors", *map(str, options)]) == 0
    return [row["label"] for row in csv.DictReader(capsys.readouterr().out.splitlines())]


def test_thresholds_of_the_file_are_applied_and_options_come_before_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == 0
    plain = labels_given(capsys)
    assert "unknown" not in plain
    assert build("--min-margin", 1, "--min-score", -0.75, "--overwrite") == 0
    with safe_open("c.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["thresholds"]) == {"min_margin": 1, "min_score": -0.75}
    assert labels_given(capsys) == ["unknown", "unknown"]
    assert labels_given(capsys, "--min-margin", 0) == plain
    assert labels_given(capsys, "--min-margin", -1, "--min-score", 1) == ["unknown", "unknown"]


def test_a_margin_of_the_file_is_left_out_where_labels_are_judged_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert build("--min-margin", 1, "--min-probability", 0) == 0
    assert sorted(labels_given(capsys, "--multi-label")) == ["cat", "cat", "dog", "dog"]
    assert labels_given(capsys, "--multi-label", "--min-probability", 1) == ["unknown", "unknown"]
    capsys.readouterr()
    command = ["classify", "set", "--classifier", "c.safetensors", "--multi-label", "--min-margin", "0"]
    assert run(command) == 2
    assert "--min-margin cannot be used with --multi-label" in capsys.readouterr().err


@pytest.mark.parametrize("thresholds", ['{"min_brightness": 0.5}', '{"min_score": "high"}', "[0.5]", "{"])
def test_thresholds_that_are_not_understood_end_with_3(thresholds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == 0
    with safe_open("c.safetensors", framework="pt") as file:
        metadata, embeddings = file.metadata(), file.get_tensor("embeddings")
    save_file({"embeddings": embeddings}, "c.safetensors", {**metadata, "thresholds": thresholds})
    capsys.readouterr()
    assert run(["classify", "set", "--classifier", "c.safetensors", "--output", "out.csv"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: c.safetensors is a damaged classifier file (")
    assert captured.err.endswith("; build it again\n")
    assert not Path("out.csv").exists()


def test_eval_uses_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert build() == 0
    assert run(["eval", "set", "--labels", "labels.txt", "--output", "a.json"]) == 0
    assert run(["eval", "set", "--classifier", "c.safetensors", "--output", "b.json"]) == 0
    first, second = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    assert first == second
    assert second["prompts"] == "imagenet-7"


@pytest.mark.parametrize("command", [["classify", "set"], ["eval", "set"]])
def test_another_model_ends_with_3(
    command: list[str], models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build("--model", models[1]) == 0
    assert run([*command, "--classifier", "c.safetensors", "--quiet"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    expected = f"c.safetensors was built with --model {models[1]}, not with --model {models[0]}; give that model"
    assert expected in captured.err


@pytest.mark.parametrize("command", [["classify", "set"], ["eval", "set"]])
@pytest.mark.parametrize("option", [["--labels", "labels.txt"], ["--prompts", "photo"]])
def test_a_classifier_has_its_own_labels_and_templates(
    command: list[str], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--classifier", "c.safetensors", *option]) == 2
    assert f"omit {option[0]}" in capsys.readouterr().err


def test_files_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "-o", "c.npz", "--labels", "labels.txt"]) == 2
    assert "ending in .safetensors" in capsys.readouterr().err
    assert run(["build", "-o", "c.safetensors"]) == 2
    assert "no labels" in capsys.readouterr().err
    Path("c.safetensors").write_text("mine")
    assert build() == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["classify", "set", "--classifier", "c.safetensors"]) == 3
    assert "is not a classifier file" in capsys.readouterr().err
    assert run(["classify", "set", "--classifier", "none.safetensors"]) == 2
    assert build("--overwrite") == 0


def test_built_in_labels_take_their_own_templates(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "-o", "c.safetensors", "--labels", "mnist"]) == 0
    assert "10 labels, 10 texts, prompts mnist" in capsys.readouterr().err
    assert run(["build", "-o", "c.safetensors", "--labels", "mnist", "--prompts", "plain", "--overwrite"]) == 0
    assert "prompts plain" in capsys.readouterr().err


def test_a_second_run_encodes_no_text_and_a_new_label_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    embed = prompt_ensemble.embed_texts

    def counting(model: Any, some: Any, **options: Any) -> torch.Tensor:
        encoded.append(len(some))
        return embed(model, some, **options)

    monkeypatch.setattr(prompt_ensemble, "embed_texts", counting)
    command = ["classify", "set", "--label", "cat", "--label", "dog"]
    assert [run(command), sum(encoded)] == [0, 14]
    assert [run(command), sum(encoded)] == [0, 14]
    assert [run([*command, "--label", "horse"]), sum(encoded)] == [0, 21]
    assert [run([*command, "--no-cache"]), sum(encoded)] == [0, 35]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--min-score", "nan"),
        ("--min-score", "-1.01"),
        ("--min-margin", "inf"),
        ("--min-probability", "nan"),
        ("--min-probability", "-0.1"),
    ],
)
def test_thresholds_that_nothing_can_have_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(option, value) == 2
    assert f"{float(value)} is not a" in capsys.readouterr().err
    assert not Path("c.safetensors").exists()


@pytest.mark.parametrize("command", [["classify", "set"], ["eval", "set"]])
def test_without_model_the_files_own_is_taken(
    command: list[str], models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZEROSHOT_MODEL")
    assert build("--model", models[1]) == 0
    assert run([*command, "--classifier", "c.safetensors", "--quiet"]) == 0


def test_lint_looks_at_the_text_where_there_is_no_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ZEROSHOT_MODEL")
    Path(os.environ["ZEROSHOT_CONFIG"]).write_text("model: ViT-B-32-256\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    Path("labels.txt").write_text("cat\ndog\ncat\n")
    assert run(["prompts", "lint", "labels.txt", "--offline"]) == 3
    captured = capsys.readouterr()
    assert "cat" in captured.out
    assert "no model, so lengths and similarity of texts were not checked" in captured.err
    assert run(["prompts", "lint", "labels.txt", "--offline", "--model", "ViT-B-32"]) == 5
    assert run(["prompts", "lint", "none.csv", "--offline"]) == 2
