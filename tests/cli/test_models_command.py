"""zeroshot models: list, show, download, export, remove."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest

from zeroshot_cli.cli import app as entry
from zeroshot_cli.clip.config import config_from_dict
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UnavailableError
from zeroshot_cli.images.preprocess import PreprocessConfig

REPO, WEIGHTS = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"
SMALL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a small model of random weights."""
    import torch

    from zeroshot_cli.models.formats.open_clip import save_model

    torch.manual_seed(0)
    config = config_from_dict(SMALL)
    save_model(tmp_path / "small", CLIP(config), config, PreprocessConfig(size=32))
    return tmp_path / "small"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def test_list_has_every_pair_that_open_clip_publishes(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["models", "list"]) == 0
    listed = rows(capsys.readouterr().out)
    assert [row["name"] for row in listed if row["download"] == "none"] == ["small", "tiny"]
    assert [(row["name"], row["pretrained"]) for row in listed[2:]] == open_clip.list_pretrained()
    assert [row["name"] for row in listed if row["used"]] == ["small"]
    found = next(row for row in listed if row["pretrained"] == "laion2b_s34b_b79k")
    assert found == {
        "name": "ViT-B-32",
        "pretrained": "laion2b_s34b_b79k",
        "default": "*",
        "params (M)": "151.3",
        "pixels": "224",
        "download": "~605 MB",
        "ImageNet": "66.56%",
        "ImageNet-V2": "58.14%",
        "here": "",
        "used": "",
    }
    assert {row["name"] for row in listed if row["default"]} == {row["name"] for row in listed}
    assert not hub.requests


def test_list_takes_a_filter_and_knows_what_is_here(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos[REPO] = {WEIGHTS: b"w" * 3_000_000}
    assert entry.run(["models", "download", "ViT-B-32"]) == 0
    assert f"{WEIGHTS} is ready" in capsys.readouterr().err
    assert entry.run(["models", "list", "--model", "vit-b/32:LAION2B_S34", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found.pop("on_this_machine").endswith(f"/{WEIGHTS}")
    assert found == {
        "name": "ViT-B-32",
        "pretrained": "laion2b_s34b_b79k",
        "default": True,
        "parameters_millions": 151.28,
        "image_size": 224,
        "file_bytes": 3_000_000,
        "estimated_bytes": 605_120_000,
        "imagenet_top1": 0.6656,
        "imagenet_v2_top1": 0.5814,
        "used": False,
    }
    assert entry.run(["models", "list", "-m", "laion2b_s34b_b79k"]) == 0
    assert [row["here"] for row in rows(capsys.readouterr().out)] == ["yes"]
    assert entry.run(["models", "remove", "ViT-B-32"]) == 0
    assert "3.0 MB freed" in capsys.readouterr().err
    assert entry.run(["models", "remove", "ViT-B-32"]) == 0
    assert "nothing was removed" in capsys.readouterr().err


def test_remove_says_what_else_lay_in_the_repository(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repos["timm/resnet50_clip.openai"] = {"open_clip_model.safetensors": b"weights"}
    assert entry.run(["models", "download", "RN50:openai"]) == 0
    assert entry.run(["models", "remove", "RN50:openai"]) == 0
    assert "RN50-quickgelu:openai shared its repository and were removed too" in capsys.readouterr().err


def test_a_tag_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["models", "download", "RN50:openai", "--pretrained", "yfcc15m"]) == 2
    assert "omit yfcc15m" in capsys.readouterr().err


def test_names_are_known_in_any_case() -> None:
    from zeroshot_cli.models.load import load

    assert load("TINY", device="cpu", precision="fp32").embed_dim == 256


def test_the_list_is_there_without_torch() -> None:
    code = "import sys; from zeroshot_cli.cli.app import run; run(['models']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "resize", "quick_gelu"),
    [
        (["ViT-B/32", "openai"], "shortest", True),
        (["ViT-B-32:openai"], "shortest", True),
        (["ViT-B-32"], "shortest", None),
        (["ViT-H-14", "--pretrained", "dfn5b"], "squash", True),
        (["ViT-B-16-SigLIP"], "squash", None),
    ],
)
def test_show_a_published_model(
    arguments: list[str], resize: str, quick_gelu: bool | None, hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["models", "show", *arguments]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["preprocess_cfg"]["resize_mode"] == resize
    assert shown["model_cfg"].get("quick_gelu") == quick_gelu
    assert shown["on_this_machine"] is None
    assert not hub.requests


def test_show_a_folder_with_its_fingerprint(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zeroshot_cli.models.load import load

    assert entry.run(["models", "show", str(small)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["model_cfg"]["vision_cfg"]["width"] == 64
    assert shown["fingerprint"] == load(str(small), device="cpu", precision="fp32").fingerprint


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["show", "RN5"], 2, "there is no model 'RN5': did you mean RN50"),
        (["show", "RN50", "webli"], 2, "RN50 has no weights 'webli'"),
        (["download", "ViT-B-33"], 2, "did you mean ViT-B-32"),
        (["download", "tiny", "--to", "x"], 2, "tiny comes with zeroshot"),
        (["download", "hf-hub:a b"], 2, "'hf-hub:a b' names no repository"),
        (["remove", "tiny"], 2, "tiny comes with zeroshot"),
        (["download", "ViT-B-32", "--offline"], 5, "downloads are off"),
        (["download", "hf-hub:org/nothing"], 5, "has no model org/nothing"),
    ],
)
def test_errors(arguments: list[str], code: int, expected: str, hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["models", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_a_repository_is_carried_and_loaded_elsewhere(
    small: Path, hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from zeroshot_cli.models.load import load

    files = {path.name: path.read_bytes() for path in small.iterdir()}
    hub.repos["org/small"] = files | {"tokenizer.json": b"{}", "README.md": b"# small"}
    carried = tmp_path / "carried"
    assert entry.run(["models", "download", "hf-hub:org/small", "--to", str(carried)]) == 0
    assert f"--model {carried} loads it" in capsys.readouterr().err
    assert {path.name for path in carried.iterdir()} == {*files, "tokenizer.json"}
    assert not any(path.is_symlink() for path in carried.iterdir())
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{carried}")
    ours = load(str(carried), device="cpu", precision="fp32")
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.eval().encode_image(image, normalize=True)
    torch.testing.assert_close(ours.encode_images(image), expected, rtol=0, atol=1e-5)
    assert entry.run(["models", "download", "hf-hub:org/small", "--to", str(carried)]) == 2
    assert f"--to {carried} holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "file"), [("ViT-B-32", WEIGHTS), ("ViTamin-S", "open_clip_pytorch_model.bin")])
def test_a_published_model_is_carried_with_what_describes_it(name: str, file: str, hub: Any, tmp_path: Path) -> None:
    hub.repos[REPO] = {WEIGHTS: b"weights"}
    hub.repos["jienengchen/ViTamin-S"] = {"pytorch_model.bin": b"weights"}
    assert entry.run(["models", "download", name, "--to", str(tmp_path / "carried")]) == 0
    assert {path.name for path in (tmp_path / "carried").iterdir()} == {file, "open_clip_config.json"}
    config = json.loads((tmp_path / "carried" / "open_clip_config.json").read_text())
    assert config["preprocess_cfg"]["size"] == 224
    assert config["model_cfg"]["embed_dim"] == open_clip.get_model_config(name)["embed_dim"]


def test_a_tokenizer_of_its_own_is_carried_too(hub: Any, tmp_path: Path) -> None:
    repo = "timm/ViT-B-16-SigLIP"
    tokenizer = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "special_tokens_map.json": b"{}"}
    hub.repos[repo] = {WEIGHTS: b"weights", "open_clip_config.json": b"{}", **tokenizer}
    assert entry.run(["models", "download", "ViT-B-16-SigLIP", "--to", str(tmp_path / "carried")]) == 0
    names = {path.name for path in (tmp_path / "carried").iterdir()}
    assert names == {WEIGHTS, "open_clip_config.json", *tokenizer}
    config = json.loads((tmp_path / "carried" / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == repo


def export(folder: Path, to: Path, layout: str) -> int:
    return entry.run(["models", "export", str(folder), "--to", str(to), "--layout", layout])


def test_export_for_open_clip(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from zeroshot_cli.models.load import load

    assert export(small, tmp_path / "exported", "open_clip") == 0
    assert "exported is ready for open_clip" in capsys.readouterr().err
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'exported'}")
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs.eval().encode_image(image, normalize=True)
    ours = load(str(small), device="cpu", precision="fp32").encode_images(image)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


LABELS = ["red", "a blue square", "naïve café", "dog's bowl 42", "???"]


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_folder_exported_for_transformers_answers_as_its_pipeline(
    quick_gelu: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from PIL import Image
    from transformers import pipeline

    from zeroshot_cli import Classifier
    from zeroshot_cli.clip.config import config_from_dict
    from zeroshot_cli.clip.model import CLIP
    from zeroshot_cli.models.formats.open_clip import default_preprocess, save_model
    from zeroshot_cli.models.load import load
    from zeroshot_cli.words.prompts import Prompts

    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}
    text = {"width": 64, "heads": 1, "layers": 1, "context_length": 40}
    config = config_from_dict({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu})
    torch.manual_seed(0)
    model = CLIP(config)
    with torch.no_grad():
        model.logit_scale.fill_(3.3)
        model.text.token_embedding.weight.mul_(30)
    save_model(tmp_path / "own", model, config, default_preprocess(config))
    assert export(tmp_path / "own", tmp_path / "exported", "transformers") == 0
    assert "exported is ready for transformers" in capsys.readouterr().err
    image = tmp_path / "red.png"
    Image.radial_gradient("L").resize((32, 32)).convert("RGB").save(image)  # of the model's size: nothing is resized

    theirs = pipeline("zero-shot-image-classification", model=str(tmp_path / "exported"))
    found = {row["label"]: row["score"] for row in theirs(str(image), LABELS, hypothesis_template="a photo of a {}.")}
    ours = Classifier(
        load(str(tmp_path / "own"), device="cpu", precision="fp32"),
        labels=LABELS,
        prompts=Prompts.of(["a photo of a {}."]),
    )
    (item,) = ours.predict([image], top_k=len(LABELS))
    expected = {row.label: row.probability for row in item.predictions}
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(found.values()) > 0.25  # not the even answer of a broken tokenizer
    again = load(str(tmp_path / "exported"), device="cpu", precision="fp32")
    assert again.fingerprint == ours.model.fingerprint


def test_transformers_makes_our_tokens_of_plain_texts(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from zeroshot_cli.models.tokenizers import tokenizer_for, transformers_files

    ours = tokenizer_for(vocab_size=49408, context_length=77)
    for name, content in transformers_files(ours).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 77
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.bos_token_id) == (49407, 49407, 49406)
    texts = [*LABELS, "a photo of a cat.", "日本語", "emoji 🚀 here", "It's we'll   spaces", "", "x" * 60]
    assert theirs(texts)["input_ids"] == ours.sequences(texts)


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_what_only_zeroshot_has_is_not_exported(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["models", "export", "tiny", "--to", str(tmp_path / "out"), "--layout", layout]) == 3
    said = capsys.readouterr().err
    assert f"tiny cannot be exported for {layout}: its text encoder is a bag of words (CBOW), which only" in said
    assert "ready" not in said
    assert not (tmp_path / "out").exists()


def test_silence_ends_with_5_within_seconds(hub_at: Callable[[str], None]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub_at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "zeroshot_cli", "models", "download", "ViT-B-32"],
            capture_output=True,
            text=True,
            timeout=60,
            env=dict(os.environ),
        )
    assert done.returncode == UnavailableError.exit_code
    assert "zeroshot models download ViT-B-32:laion2b_s34b_b79k --to DIR" in done.stderr
    assert "--model small needs no network" in done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - start < 20  # of which the answer may take 6; the rest is a busy machine's start of Python
