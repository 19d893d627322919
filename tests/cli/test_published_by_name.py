"""`--model ViT-B/32` the whole way: name, default tag, hub, preprocessing of the tag, the answer of open_clip."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zeroshot_cli.cli import app
from zeroshot_cli.clip.config import PRESETS, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.open_clip import save_model

SMALL = CLIPConfig(
    embed_dim=32,
    vision=VisionTransformerConfig(image_size=32, patch_size=8, width=64, layers=2, head_width=32),
    text=TextTransformerConfig(width=64, heads=2, layers=2),
)


@pytest.mark.parametrize(
    ("arguments", "named", "preset", "repo", "mean"),
    [
        (["ViT-B/32"], "ViT-B-32:laion2b_s34b_b79k", "ViT-B-32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
        (
            ["ViT-L-14", "--pretrained", "laion2b-s32b-b82k"],
            "ViT-L-14:laion2b_s32b_b82k",
            "ViT-L-14",
            "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
            0.5,
        ),
        (
            ["ViT-B-32:openai"],
            "ViT-B-32:openai",
            "ViT-B-32-quickgelu",
            "timm/vit_base_patch32_clip_224.openai",
            None,
        ),
    ],
)
def test_a_published_name_gives_open_clips_answer(
    arguments: list[str],
    named: str,
    preset: str,
    repo: str,
    mean: float | None,
    hub: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = CLIPConfig(embed_dim=32, vision=SMALL.vision, text=SMALL.text, quick_gelu=preset.endswith("-quickgelu"))
    monkeypatch.setitem(PRESETS, preset, config)  # a small model where the hub has a large one
    own = {} if mean is None else {"mean": (mean,) * 3, "std": (mean,) * 3}
    torch.manual_seed(0)
    model = CLIP(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.constant_(model.logit_scale, 1.0)
    saved = tmp_path / "saved"
    save_model(saved, model, config, PreprocessConfig(size=32, **own))
    hub.repos[repo] = {"open_clip_model.safetensors": (saved / "open_clip_model.safetensors").read_bytes()}
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)

    labels = ["cat", "dog"]
    options = ["--label", "cat", "--label", "dog", "--prompts", "photo", "--top-k", "2", "--format", "jsonl"]
    assert app.run(["classify", str(path), "--model", *arguments, *options, "--precision", "fp32"]) == 0
    captured = capsys.readouterr()
    ours = {entry["label"]: entry["score"] for entry in json.loads(captured.out)["predictions"]}
    assert captured.err.endswith(f"0 could not be read, model {named}.\n")

    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{saved}")
    tokens = open_clip.get_tokenizer(f"local-dir:{saved}")([f"a photo of a {label}." for label in labels])
    with torch.inference_mode():
        image = F.normalize(theirs.eval().encode_image(transform(Image.open(path))[None]), dim=-1)
        cosines = image @ F.normalize(theirs.encode_text(tokens), dim=-1).T
    assert ours == pytest.approx(dict(zip(labels, cosines[0].tolist(), strict=True)), abs=2e-6)
