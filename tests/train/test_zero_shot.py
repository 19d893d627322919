"""Zero-shot accuracy of a model in training: the figures of the model itself, which is left as it was."""

import copy
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zeroshot_cli.clip.loss import clip_loss
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.clip.tokenizer import TruncatedTextWarning
from zeroshot_cli.clip.vit import VisionTransformer
from zeroshot_cli.datasets.labelled import read_dataset
from zeroshot_cli.errors import DataError, LabelsError, PromptsError, UsageError, ZeroshotError
from zeroshot_cli.evaluation.evaluate import evaluate
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import load, new_model
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.train.start import Start
from zeroshot_cli.train.validate import Accuracy, LabelledSet

COLOURS = ("red", "lime", "blue", "yellow", "magenta", "cyan", "white")
TEMPLATES = ("a {} one", "{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven classes of three pictures, and templates that are short enough for a tiny model."""
    root = tmp_path / "colours"
    for number, colour in enumerate(COLOURS):
        (root / colour).mkdir(parents=True)
        for shade in range(3):
            image = Image.new("RGB", (20, 20), colour)
            image.paste((40 * shade, 10 * number, 90), (0, 0, 8 + shade, 9))
            image.save(root / colour / f"{shade}.png")
    (tmp_path / "short.txt").write_text("\n".join(TEMPLATES))
    return root


@pytest.fixture
def zero_shot(folder: Path) -> LabelledSet:
    return LabelledSet(str(folder), None, str(folder.with_name("short.txt")))


def accuracy(zero_shot: LabelledSet, parts: Any, *, precision: str = "fp32", batch_size: int = 8) -> Accuracy:
    start = Start(*parts, "new", lr=1e-3)
    cpu = torch.device("cpu")
    return zero_shot.accuracy(start.model, start, device=cpu, precision=precision, workers=1, batch_size=batch_size)


def by_hand(parts: Any, folder: Path) -> tuple[float, float]:
    """Top-1 and top-5 without any of the pipeline but the towers and the tokenizer."""
    model, _, preprocess, tokenizer = parts
    classes = sorted(COLOURS)
    size = preprocess.height_width[0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    images, truth = [], []
    for index, colour in enumerate(classes):
        for path in sorted((folder / colour).iterdir()):
            resized = Image.open(path).resize((size, size), Image.Resampling.BICUBIC)
            images.append((torch.tensor(np.array(resized)).permute(2, 0, 1) / 255 - mean) / std)
            truth.append(index)
    was = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        seen = F.normalize(model.encode_image(torch.stack(images)), dim=-1)
        said = [model.encode_text(tokenizer([template.format(name) for template in TEMPLATES])) for name in classes]
        texts = F.normalize(torch.stack([F.normalize(rows, dim=-1).mean(dim=0) for rows in said]), dim=-1)
    for module, mode in was.items():
        module.training = mode
    order = (seen @ texts.T).argsort(dim=1, descending=True, stable=True)
    hits = order == torch.tensor(truth)[:, None]
    return float(hits[:, 0].float().mean()), float(hits[:, :5].any(dim=1).float().mean())


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_figures_are_those_by_hand_and_of_the_saved_model(
    kind: str, zero_shot: LabelledSet, folder: Path, model_yaml: Callable[[str], str], tmp_path: Path
) -> None:
    parts = new_model(model_yaml(kind))
    parts[0].train()
    found = accuracy(zero_shot, parts)
    assert (found.top1, found.top5) == pytest.approx(by_hand(parts, folder))
    assert 0 < found.top5 < 1
    assert (found.images, found.skipped) == (21, ())

    save_model(tmp_path / "model", *parts[:3])
    saved = evaluate(load(str(tmp_path / "model"), None), read_dataset(folder), zero_shot.prompts, workers=1)
    assert (saved.metrics["top1"], saved.metrics["top5"]) == (found.top1, found.top5)


def test_it_follows_the_weights(zero_shot: LabelledSet, model_yaml: Callable[[str], str], folder: Path) -> None:
    parts = new_model(model_yaml("vit"))
    figures = []
    for seed in range(3):
        parts[0].load_state_dict(new_model(model_yaml("vit"), seed=seed)[0].state_dict())
        found = accuracy(zero_shot, parts)
        assert (found.top1, found.top5) == pytest.approx(by_hand(parts, folder))
        figures.append((found.top1, found.top5))
    assert len(set(figures)) > 1


def step(model: CLIP, precision: str) -> list[torch.Tensor]:
    """One step of training on batches that are always the same; all parameters and buffers after it."""
    rng = torch.Generator().manual_seed(5)
    edge = 16 if isinstance(model.visual, VisionTransformer) else 32
    images = torch.randn(6, 3, edge, edge, generator=rng)
    tokens = torch.tensor([[598, 10 + row, 20, 599] for row in range(6)])
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        outputs = model(images, tokens)
    clip_loss(*outputs).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    return [tensor.clone() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_model_is_left_as_it_was(
    kind: str, precision: str, zero_shot: LabelledSet, model_yaml: Callable[[str], str]
) -> None:
    parts = new_model(model_yaml(kind))
    model = parts[0].train()
    model.text.eval().requires_grad_(False)  # as --lock-text leaves it
    step(model, precision)
    other = copy.deepcopy(model)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    draws = torch.get_rng_state(), random.getstate(), str(np.random.get_state())

    found = accuracy(zero_shot, parts, precision=precision)

    assert found.images == 21
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert (random.getstate(), str(np.random.get_state())) == draws[1:]
    for own, untouched in zip(step(model, precision), step(other, precision), strict=True):
        assert torch.equal(own, untouched)


def test_the_model_is_left_as_it_was_by_an_error(
    zero_shot: LabelledSet, model_yaml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = new_model(model_yaml("vit"))
    parts[0].train()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LoadedModel, "encode_pixels", fail)
    with pytest.raises(KeyboardInterrupt):
        accuracy(zero_shot, parts, precision="bf16")
    assert all(module.training for module in parts[0].modules())
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_inference_mode_enabled()


def test_bf16_is_that_of_training(
    zero_shot: LabelledSet, model_yaml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = new_model(model_yaml("vit"))
    kinds = []
    encode = CLIP.encode_image

    def watched(self: CLIP, images: torch.Tensor) -> torch.Tensor:
        kinds.append((images.dtype, self.visual.conv1.weight.dtype, encode(self, images).dtype))
        return encode(self, images)

    monkeypatch.setattr(CLIP, "encode_image", watched)
    accuracy(zero_shot, parts, precision="bf16")
    assert set(kinds) == {(torch.float32, torch.float32, torch.bfloat16)}


@pytest.mark.parametrize(("batch_size", "rows"), [(1, {1}), (3, {4}), (8, {8}), (32768, {32})])
def test_few_images_do_not_fill_the_batch_of_training(
    batch_size: int,
    rows: set[int],
    zero_shot: LabelledSet,
    model_yaml: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()
    encode = LoadedModel.encode_pixels

    def watched(self: LoadedModel, pixels: torch.Tensor) -> torch.Tensor:
        seen.add(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(LoadedModel, "encode_pixels", watched)
    parts = new_model(model_yaml("vit"))
    assert accuracy(zero_shot, parts, batch_size=batch_size).images == 21
    assert seen == rows


def test_nothing_is_cached(zero_shot: LabelledSet, model_yaml: Callable[[str], str]) -> None:
    accuracy(zero_shot, new_model(model_yaml("vit")))
    assert list(Path(os.environ["ZEROSHOT_CACHE_DIR"]).rglob("*")) == []


def test_fewer_than_five_classes(folder: Path, model_yaml: Callable[[str], str]) -> None:
    for colour in COLOURS[2:]:
        (folder / colour).rename(folder.parent / colour)
    found = accuracy(LabelledSet(str(folder), None, str(folder.with_name("short.txt"))), new_model(model_yaml("vit")))
    assert (found.top5, found.images) == (1.0, 6)


def test_unreadable_images_are_named(folder: Path, model_yaml: Callable[[str], str]) -> None:
    bad = folder / "blue" / os.fsdecode(b"<img onerror> \xff\n.png")
    bad.write_bytes(b"")
    zero_shot = LabelledSet(str(folder), None, str(folder.with_name("short.txt")))
    parts = new_model(model_yaml("vit"))
    found = accuracy(zero_shot, parts)
    assert found.images == 21
    assert [image.path for image in found.skipped] == [str(bad)]
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"none of its 22 images can be read"):
        accuracy(zero_shot, parts)


@pytest.mark.parametrize(("tower", "what"), [("visual", "images"), ("text", "labels")])
def test_weights_that_are_no_numbers_get_advice(
    tower: str, what: str, zero_shot: LabelledSet, model_yaml: Callable[[str], str]
) -> None:
    parts = new_model(model_yaml("vit"))
    with torch.no_grad():
        for parameter in getattr(parts[0], tower).parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(UsageError, match=rf"--zero-shot: the embeddings of its {what} are not finite.* a lower --lr"):
        accuracy(zero_shot, parts)


def test_a_long_prompt_is_warned_of_once(folder: Path, model_yaml: Callable[[str], str]) -> None:
    long = folder.with_name("long.txt")
    long.write_text("a picture of something or other that is {}, as one can see here")
    zero_shot = LabelledSet(str(folder), None, str(long))
    parts = new_model(model_yaml("vit"))
    with pytest.warns(TruncatedTextWarning, match="something or other"):
        first = accuracy(zero_shot, parts)
    assert accuracy(zero_shot, parts) == first  # a second warning would be an error


def test_labels_and_prompts_by_name_and_by_file(folder: Path) -> None:
    labels = folder.with_name("labels.yaml")
    labels.write_text("\n".join(f"{colour}: [{colour} thing]" for colour in reversed(COLOURS)))
    zero_shot = LabelledSet(str(folder), str(labels), "imagenet-80")
    assert zero_shot.dataset.labels.names == tuple(reversed(COLOURS))
    assert zero_shot.dataset.targets[0] == COLOURS[::-1].index("blue")
    assert len(zero_shot.prompts.templates) == 80
    assert len(LabelledSet(str(folder)).prompts.templates) == 7


def test_a_csv_will_do(folder: Path, model_yaml: Callable[[str], str]) -> None:
    table = folder.parent / "labels.csv"
    rows = [f"colours/{colour}/{shade}.png,{colour}" for colour in COLOURS for shade in (0, 2)]
    table.write_text("\n".join(["image,label", *rows]))
    zero_shot = LabelledSet(str(table), None, str(folder.with_name("short.txt")))
    assert accuracy(zero_shot, new_model(model_yaml("vit"))).images == 14


def spoil(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(b"no picture")


def leave_one_class(root: Path) -> None:
    for colour in COLOURS[1:]:
        (root / colour).rename(root.parent / colour)


def leave_no_image(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "labels", "prompts", "kind", "message"),
    [
        (lambda root: root.rename(root.with_name("x")), None, None, UsageError, "colours: no such data set"),
        (leave_no_image, None, None, DataError, "no image in any of its 7 class folders"),
        (
            spoil,
            None,
            None,
            DataError,
            r"none of its 21 images can be read \(the first, .*0\.png: .*omit --zero-sh",
        ),
        (leave_one_class, None, None, DataError, "'red' is its only class, so every answer is right"),
        (None, "nowhere.txt", None, UsageError, "nowhere.txt"),
        (None, "few.txt", None, DataError, "blue"),
        (None, "blank.txt", None, LabelsError, "blank.txt holds no labels"),
        (None, None, "imagenet-81", UsageError, "there is no prompt set 'imagenet-81'; did you mean"),
        (None, None, "blank.txt", PromptsError, "blank.txt holds no templates"),
    ],
)
def test_mistakes_show_before_a_run_starts(
    change: Callable[[Path], object] | None,
    labels: str | None,
    prompts: str | None,
    kind: type[ZeroshotError],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("few.txt").write_text("red\nlime\n")
    Path("blank.txt").write_text("\n")
    if change is not None:
        change(folder)
    with pytest.raises(kind, match=message) as caught:
        LabelledSet(str(folder), labels, prompts)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
