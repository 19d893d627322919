"""The models worth having: their figures are those of their sources, and what is said of them is true of the list."""

import json
from pathlib import Path

import pytest
from gflops import gflops

from zeroshot_cli.models.recommended import Recommended, measure, recommended, sources
from zeroshot_cli.models.registry import BUNDLED, figures

# open_clip's docs/model_profile.csv, column image_gflops.
PROFILE = {"ViT-B-32-256": 11.5, "ViT-B-16": 35.13, "ViT-L-14": 162.03}


def named() -> dict[str, Recommended]:
    return {model.entry.name: model for model in recommended()}


def test_every_figure_has_a_source() -> None:
    models = recommended()
    assert len(models) == 8
    for model in models:
        assert (model.imagenet is None) is (model.source == "")
        if model.source == "open_clip":
            assert model.entry.pretrained is not None
            assert model.imagenet == figures(model.entry.name, model.entry.pretrained).imagenet
    assert {model.source for model in models if model.source} == set(sources())


def test_gflops_are_those_of_open_clips_profile() -> None:
    models = named()
    for name, known in PROFILE.items():
        assert models[name].gflops == pytest.approx(known, abs=0.06)


@pytest.mark.parametrize("name", ["small", "ViT-B-32-256", "MobileCLIP2-S0", "ViT-B-16-SigLIP2-256"])
def test_gflops_are_what_torch_counts(name: str) -> None:
    assert named()[name].gflops == pytest.approx(gflops(name), abs=0.06)


def test_what_each_is_for_is_true_of_the_list() -> None:
    models = named()
    size = {name: model.entry.estimated_bytes or 0 for name, model in models.items() if name not in BUNDLED}
    best = {name: model.imagenet for name, model in models.items() if model.imagenet is not None}
    trainable = {name for name, model in models.items() if model.is_measurable and name in best}

    def names(words: str) -> list[str]:
        return [name for name, model in models.items() if words in model.purpose]

    assert names("fastest but for small") == [min(best, key=lambda name: models[name].gflops)]
    assert names("best under 500 MB") == [max((name for name in best if size[name] < 5e8), key=best.__getitem__)]
    assert names("best under 1 GB to train") == [
        max((name for name in trainable if size[name] < 1e9), key=best.__getitem__)
    ]
    assert names("the best to train") == [max(trainable, key=best.__getitem__)]
    assert names("the best,") == [max(best, key=best.__getitem__)]
    assert trainable == {"ViT-B-32-256", "ViT-B-16", "ViT-L-14"}


@pytest.mark.slow
def test_speed_is_measured_without_a_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from zeroshot_cli.models import recommended as measuring

    monkeypatch.setattr(measuring, "_SECONDS", 0.0)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    some = tuple(named()[name] for name in ("small", "MobileCLIP2-S0", "ViT-B-32-256"))
    small, foreign, vit = measure(some, device="cpu", precision="fp32")
    assert foreign is None
    assert small is not None
    assert vit is not None
    assert small > vit > 0
    assert not list(tmp_path.iterdir())


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli.cli import app

    assert app.run(["models", "recommend"]) == 0
    captured = capsys.readouterr()
    header, *rows = (line.split("\t") for line in captured.out.splitlines())
    assert header == ["name", "used", "ImageNet", "source", "download", "GFLOP", "what for"]
    assert rows[0][:2] == ["small", "*"]  # the one that is used
    assert rows[2][:6] == ["ViT-B-32-256", "", "72.81%", "open_clip", "~605 MB", "11.5"]
    assert all(where in captured.err for where in sources().values())
    assert app.run(["models", "recommend", "--format", "jsonl"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    objects = [json.loads(line) for line in captured.out.splitlines()]
    assert [each["name"] for each in objects] == list(named())
    assert objects[2]["download_bytes"] == 605_160_000
    assert objects[2]["pretrained"] == "datacomp_s34b_b86k"
    assert objects[1]["source"].startswith("github.com/apple/ml-mobileclip")
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        assert app.run(["models", "recommend", "--format", form]) == 0
        header, first, *_ = capsys.readouterr().out.splitlines()
        assert header.split(delimiter) == list(objects[0])
        assert first.startswith(f"small{delimiter}{delimiter}")
