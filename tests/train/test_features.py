"""Runs on features that were encoded before: the same as on images, whatever interrupts them."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zeroshot_cli.clip.config import CBOWConfig, CLIPConfig, EfficientNetConfig, ResNetConfig, VisionTransformerConfig
from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.records import Augmentation
from zeroshot_cli.train import distributed, features, loop
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch
from zeroshot_cli.train.distributed import World, check_processes
from zeroshot_cli.train.features import Encoded, Rehearsal
from zeroshot_cli.train.files.folder import Stepped, read_skipped
from zeroshot_cli.train.learner import Learner
from zeroshot_cli.train.start import start_from
from zeroshot_cli.train.step import pair_ids, same_pairs
from zeroshot_cli.words.labels import read_labels

pytestmark = pytest.mark.usefixtures("one_thread")

Draw = Callable[..., Path]
VISION = {
    "efficientnet": EfficientNetConfig(image_size=32, hidden=8, gate=0.5, width_multiplier=0.1, classes=5),
    "resnet": ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, head_width=32),
    "vit": VisionTransformerConfig(image_size=32, patch_size=16, width=16, layers=1, head_width=8),
}


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], str]:
    """`model("vit")` is the folder of a model with random weights."""

    def save(kind: str) -> str:
        torch.manual_seed(0)
        text = CBOWConfig(width=16, context_length=12, vocab_size=600)
        config = CLIPConfig(embed_dim=16, vision=VISION[kind], text=text)
        clip = CLIP(config)
        for module in clip.modules():  # or batch norms would blow up what they have not seen
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.weight, 1, 0.1)
                torch.nn.init.normal_(module.bias, 0, 0.1)
        if kind == "efficientnet":
            torch.nn.init.normal_(clip.visual.gated_head.c_proj.weight, 0, 0.1)  # type: ignore[union-attr,arg-type]
        size: Any = 32
        save_model(tmp_path / kind, clip, config, PreprocessConfig(size=size))
        return str(tmp_path / kind)

    return save


@pytest.fixture
def config(draw_pairs: Draw, model: Callable[[str], str]) -> TrainConfig:
    """An EfficientNet on ten pairs in batches of four: two steps an epoch."""
    return TrainConfig(
        data=(str(draw_pairs(10)),),
        model=model("efficientnet"),
        epochs=4,
        batch_size=4,
        lr=1e-2,
        device="cpu",
        precision="fp32",
        log_every=1,
        lock_trunk=True,
        min_scale=0.5,
        augment=(Augmentation.FLIP, Augmentation.COLOUR),
    )


def train(config: TrainConfig, output: Path, *, resume: bool = False, stop: Callable[[Any], bool] | None = None) -> int:
    """Run to the end, or to the event where it is to be killed; return how many views were encoded."""
    encoded = 0
    for event in loop.train(config, output, resume=resume):
        if isinstance(event, Encoded):
            encoded += 1
        if stop is not None and stop(event):
            os.kill(os.getpid(), signal.SIGTERM)
    return encoded


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "open_clip_model.safetensors")


def assert_equal(one: Path, other: Path, **tolerance: float) -> None:
    before, after = weights_of(one), weights_of(other)
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, msg=name, **(tolerance or {"rtol": 0.0, "atol": 0.0}))


@pytest.mark.parametrize(
    ("kind", "lock"),
    [("efficientnet", "lock_trunk"), ("efficientnet", "lock_image"), ("resnet", "lock_trunk"), ("vit", "lock_trunk")],
)
def test_views_learn_what_images_do(
    tmp_path: Path, config: TrainConfig, model: Callable[[str], str], kind: str, lock: str
) -> None:
    """Where every epoch has its own view, but for the rounding to float16."""
    options: dict[str, Any] = {"lock_trunk": False, lock: True, "model": model(kind), "epochs": 2, "lr": 1e-3}
    config = replace(config, **options)
    losses: dict[str, list[float]] = {}
    for name, views in (("images", None), ("views", 2)):
        events = loop.train(replace(config, views=views), tmp_path / name)
        losses[name] = [event.loss for event in events if isinstance(event, Stepped)]
    assert losses["views"] == pytest.approx(losses["images"], abs=2e-3)
    assert_equal(tmp_path / "views", tmp_path / "images", rtol=0.0, atol=2e-3)
    assert not list((tmp_path / "views").glob("views-*"))


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_BATCH", {"cpu": 4})  # 4, 4 and 2 images of a view
    config = replace(config, views=2)
    assert train(config, tmp_path / "whole") == 6
    for run, stop in (
        ("encoding", lambda event: isinstance(event, Encoded) and event.done == 14),
        ("training", lambda event: isinstance(event, Stepped) and event.step == 3),
    ):
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / run, stop=stop)
        (file,) = (tmp_path / run).glob("views-*.npy")
        with file.open("ab") as cut:
            cut.write(b"half a row")
        assert train(config, tmp_path / run, resume=True) == (2 if run == "encoding" else 0)
        assert_equal(tmp_path / run, tmp_path / "whole")


@pytest.mark.slow
def test_other_views_are_not_taken_for_these(tmp_path: Path, config: TrainConfig) -> None:
    """A run without a checkpoint may go on with other settings."""
    config = replace(config, views=1)
    for seed in (0, 1):
        with suppress(KeyboardInterrupt):
            train(
                replace(config, seed=seed),
                tmp_path / "run",
                resume=seed > 0,
                stop=lambda event: isinstance(event, Encoded),
            )
        assert len(list((tmp_path / "run").glob("views-*.npy"))) == 1
    train(replace(config, seed=1), tmp_path / "run", resume=True)
    train(replace(config, seed=1), tmp_path / "fresh")
    assert_equal(tmp_path / "run", tmp_path / "fresh")


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["an image", "statistics"])
def test_what_has_changed_since_is_encoded_again(tmp_path: Path, config: TrainConfig, changed: str) -> None:
    config = replace(config, views=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", stop=lambda event: isinstance(event, Encoded))
    if changed == "an image":
        pictures = tmp_path / "pictures"
        (pictures / "3.png").write_bytes((pictures / "4.png").read_bytes())
    else:
        weights = Path(config.model) / "open_clip_model.safetensors"
        tensors = load_file(weights)
        tensors["visual.stem.norm.running_var"] *= 2
        save_file(tensors, weights)
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "fresh")
    assert_equal(tmp_path / "run", tmp_path / "fresh")


def test_an_image_is_encoded_once_and_a_bad_one_is_skipped(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Path(config.data[0])
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *lines, *(f"{line} again" for line in lines)]) + "\n")
    (tmp_path / "pictures" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found: list[Any] = []
    remove = features.remove_views

    def keep(folder: Any, *, but: str = "") -> None:
        found.extend(np.load(file) for file in folder.path.glob("views-*.npy"))
        remove(folder, but=but)

    monkeypatch.setattr(loop, "remove_views", keep)
    train(replace(config, views=3), tmp_path / "run")
    (array,) = found
    assert array.shape == (3, 10, 1280)
    assert array.dtype == np.float16
    assert np.isnan(array).all(axis=-1).tolist() == [[i == 3 for i in range(10)]] * 3
    assert not np.isnan(array[:, [0, 1, 2, 4]]).any()
    assert [Path(image.path).name for image in read_skipped(tmp_path / "run" / "skipped.csv")] == ["3.png"]


@pytest.mark.slow
def test_too_small_a_disk_and_no_lock_are_refused(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="add --lock-image or --lock-trunk"):
        train(replace(config, views=1, lock_trunk=False), tmp_path / "none")
    with pytest.raises(UsageError, match="--views is 0; it must be at least 1"):
        replace(config, views=0)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: SimpleNamespace(free=3 * 10 * 1280 * 2))
    with pytest.raises(UsageError, match=r"--views 3 needs 0\.0 GB in .*run, which has 0\.0 GB free; make room"):
        train(replace(config, views=3), tmp_path / "run")
    train(replace(config, views=2), tmp_path / "run", resume=True)


# features that are made up

LABELS = """\
- cat
- name: dog
  synonyms: [hound]
- bird
- name: white on red
- fish
"""


@pytest.fixture
def rehearsing(tmp_path: Path, config: TrainConfig) -> TrainConfig:
    (tmp_path / "labels.yaml").write_text(LABELS)
    return replace(config, rehearse=str(tmp_path / "labels.yaml"), rehearse_share=0.6)


@pytest.fixture
def rehearsal(rehearsing: TrainConfig) -> Rehearsal:
    """Of four images with features of 1, 2, 3 and 4, the mean is 10."""
    start = start_from(rehearsing)
    assert isinstance(start.model.visual, EfficientNet)
    start.model.visual.gated_head.mean.fill_(10)
    labels = read_labels(str(rehearsing.rehearse))
    return Rehearsal(Learner(rehearsing, start, World(), torch.device("cpu")), labels)


BATCH = Batch(
    np.repeat(np.arange(1, 5, dtype=np.float16)[:, None], 1280, axis=1),
    captions=("one", "Bird", "three", "four"),
    images=("1.png", "2.png", "3.png", "4.png"),
)


@pytest.mark.slow
def test_features_are_made_up_of_the_classifier_and_an_image(rehearsal: Rehearsal) -> None:
    visual = rehearsal.learner.model.visual
    assert isinstance(visual, EfficientNet)
    weight = visual.classifier.weight.detach().numpy()
    drawn: set[tuple[str, str]] = set()
    strengths = []
    for step in range(1, 40):
        batch = rehearsal.joined(BATCH, step=step)
        assert batch.pixels.dtype == np.float32
        assert len(batch.pixels) == len(batch.captions) == len(batch.images) == len(batch.meanings) == 4 + 6
        assert np.array_equal(batch.pixels[:4], BATCH.pixels)
        assert batch.captions[:4] == batch.meanings[:4] == BATCH.captions
        for feature, text, name in zip(batch.pixels[4:], batch.captions[4:], batch.meanings[4:], strict=True):
            c = ["cat", "dog", "bird", "white on red", "fish"].index(name)
            towards = weight[c] - weight.mean(axis=0)
            # feature = 10 + a · towards + (image - 10) / 2 is a line; its slope is a, its foot (10 + image) / 2
            slope, foot = np.polyfit(towards.astype(float), feature.astype(float), 1)
            assert feature == pytest.approx(foot + slope * towards, abs=1e-4)
            assert min(abs(foot - expected) for expected in (5.5, 6, 6.5, 7)) < 1e-4
            strengths.append(slope)
            drawn.add((name, text))
    assert 1.19 < min(strengths) < 1.3
    assert 2.9 < max(strengths) < 3.01
    forms = ("{}", "a photo of a {}.", "a picture of a {}.", "a photo of the {}.")
    words = {"cat": ["cat"], "dog": ["dog", "hound"], "bird": ["bird"], "fish": ["fish"]}
    words["white on red"] = ["white on red"]
    assert drawn == {(n, form.replace("{}", word)) for n, some in words.items() for word in some for form in forms}


def test_rows_of_a_class_are_no_negatives_of_each_other(rehearsal: Rehearsal) -> None:
    batch = rehearsal.joined(BATCH, step=1)
    ids = pair_ids(batch)
    meanings = [meaning.casefold() for meaning in batch.meanings]
    assert len(set(meanings[4:])) < 6
    assert "bird" in meanings[4:]
    assert same_pairs(ids, ids).tolist() == [[one == other for other in meanings] for one in meanings]


def test_steps_make_up_their_own(rehearsal: Rehearsal) -> None:
    first, again, second = (rehearsal.joined(BATCH, step=step) for step in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.captions == again.captions
    assert first.captions != second.captions


def test_a_teacher_and_masked_texts_go_with_it(tmp_path: Path, rehearsing: TrainConfig) -> None:
    embeddings = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
    np.savez(tmp_path / "teacher.npz", texts=np.array([f"sentence {i}" for i in range(6)]), embeddings=embeddings)
    config = replace(rehearsing, views=2, mask_similar=0.9, distil_text=str(tmp_path / "teacher.npz"), epochs=10)
    steps = [event for event in loop.train(config, tmp_path / "run") if isinstance(event, Stepped)]
    first, last = (np.mean([step.distil or np.nan for step in some]) for some in (steps[:4], steps[-4:]))
    assert last < first - 0.1
    assert all(np.isfinite(step.loss) for step in steps)


@pytest.mark.slow
@pytest.mark.parametrize("views", [None, 2])
def test_a_rehearsing_run_learns_and_goes_on_where_it_was(
    tmp_path: Path, rehearsing: TrainConfig, views: int | None
) -> None:
    config = replace(rehearsing, views=views, epochs=10, chunk_size=6)
    losses = [event.loss for event in loop.train(config, tmp_path / "whole") if isinstance(event, Stepped)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.2
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", stop=lambda event: isinstance(event, Stepped) and event.step == 5)
    with pytest.raises(UsageError, match=r"was started with rehearse_share 0\.6"):
        train(replace(config, rehearse_share=0.5), tmp_path / "run", resume=True)
    train(config, tmp_path / "run", resume=True)
    assert_equal(tmp_path / "run", tmp_path / "whole")


def test_what_cannot_be_rehearsed_is_refused(
    tmp_path: Path, rehearsing: TrainConfig, model: Callable[[str], str]
) -> None:
    with pytest.raises(UsageError, match="add --lock-trunk"):
        train(replace(rehearsing, lock_trunk=False), tmp_path / "run")
    with pytest.raises(UsageError, match="for an image tower with a classifier, and this model's has none"):
        train(replace(rehearsing, model=model("vit")), tmp_path / "run")
    with pytest.raises(UsageError, match=r"--rehearse imagenet has 1,000 labels, and .* classifier 5 classes"):
        train(replace(rehearsing, rehearse="imagenet"), tmp_path / "run")
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match=r"--rehearse-share is .*; it must be between 0 and 1"):
            replace(rehearsing, rehearse_share=share)
    for alone in (["--views"], ["--rehearse"]):
        check_processes(batch_size=4, fsdp=False, ema=False, alone=alone)


def test_several_processes_do_not_share_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    with pytest.raises(UsageError, match="--views is for one process, and there are 2"):
        check_processes(batch_size=4, fsdp=False, ema=False, alone=["--views"])
