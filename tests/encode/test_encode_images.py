"""The image pipeline, with a model whose answers are known by hand: [cos x, sin x] of the mean pixel x."""

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from zeroshot_cli.encode import images as pipeline
from zeroshot_cli.encode.images import EmbeddedImage, auto_batch_size, auto_workers, encode_images
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.records import SkippedImage


class ToyModel:
    """Embeds an image as [cos x, sin x], x its mean pixel from 0 to 1; remembers the batches it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32).view(3, 1, 1) / 255

    def encode_images(self, batch: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(batch.shape))
        angle = batch.mean(dim=(1, 2, 3))
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def grey_images(folder: Path, levels: list[int]) -> list[str]:
    paths = [str(folder / f"{index}.png") for index in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        Image.new("RGB", (4, 3), (level,) * 3).save(path)
    return paths


def encode(
    model: ToyModel, items: object, *, batch_size: int = 4, workers: int = 2
) -> list[EmbeddedImage | SkippedImage]:
    return list(encode_images(model, items, batch_size=batch_size, workers=workers))


def test_embeddings_are_those_of_their_images_in_order(tmp_path: Path) -> None:
    levels = [0, 255, 51, 102, 204, 153, 10]
    paths = grey_images(tmp_path, levels)
    results = encode(ToyModel(), paths)
    assert [item.path for item in results] == paths
    for item, level in zip(results, levels, strict=True):
        x = level / 255
        assert item.embedding.tolist() == pytest.approx([math.cos(x), math.sin(x)], abs=1e-6)


def test_every_batch_has_one_shape_also_the_last(tmp_path: Path) -> None:
    model = ToyModel()
    encode(model, grey_images(tmp_path, [1] * 9), batch_size=4)
    assert model.shapes == [(4, 3, 1, 1)] * 3


def test_unreadable_images_keep_their_place(tmp_path: Path) -> None:
    paths = grey_images(tmp_path, [0, 255, 0])
    Path(paths[1]).write_bytes(b"")
    missing = SkippedImage("missing.png", "no such file")
    results = encode(ToyModel(), [missing, paths[0], paths[1], missing, paths[2]])
    assert [item.path for item in results] == ["missing.png", paths[0], paths[1], "missing.png", paths[2]]
    assert [isinstance(item, SkippedImage) for item in results] == [True, False, True, True, False]
    assert results[0] is missing
    assert "empty" in results[2].reason


def test_nothing_gives_nothing_and_only_unreadable_images_need_no_model() -> None:
    assert encode(ToyModel(), []) == []
    model = ToyModel()
    skipped = [SkippedImage(str(n), "why") for n in range(20)]
    assert encode(model, skipped) == skipped
    assert model.shapes == []


def test_order_is_kept_when_the_first_image_takes_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(path: str) -> Image.Image:
        time.sleep(0.05 if path == "0" else 0)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(pipeline, "decode", decode)
    names = [str(n) for n in range(8)]
    assert [item.path for item in encode(ToyModel(), names, workers=4)] == names


def test_decoding_is_at_most_two_batches_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    most = taken = 0

    def names() -> Iterator[str]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield str(n)

    monkeypatch.setattr(pipeline, "decode", lambda path: Image.new("RGB", (1, 1)))
    for done, _ in enumerate(encode_images(ToyModel(), names(), batch_size=4, workers=2)):
        most = max(most, taken - done)
    # One batch handed out, two decoded ahead of it, and the item that pushes the first out.
    assert most <= 3 * 4 + 1


def test_a_run_of_unreadable_images_does_not_wait_for_a_full_batch(tmp_path: Path) -> None:
    path = grey_images(tmp_path, [255])[0]
    model = ToyModel()
    endless = iter([path, *(SkippedImage(str(n), "why") for n in range(1000))])
    results = encode_images(model, endless, batch_size=4, workers=1)
    assert next(results).path == path
    remaining = sum(1 for _ in endless)
    assert remaining > 900
    assert model.shapes == [(4, 3, 1, 1)]


def test_closing_drops_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    gate = threading.Event()

    def decode(path: str) -> Image.Image:
        started.append(path)
        if path != "0":
            gate.wait(5)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr(pipeline, "decode", decode)
    decoded = pipeline._decode_ahead(ToyModel().preprocess, [str(n) for n in range(50)], 10, 1)
    next(decoded)
    begun = time.monotonic()
    decoded.close()
    assert time.monotonic() - begun < 1
    gate.set()
    time.sleep(0.05)
    assert len(started) <= 2


def test_an_interrupt_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(batch: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    model = SimpleNamespace(preprocess=ToyModel().preprocess, encode_images=interrupt)
    monkeypatch.setattr(pipeline, "decode", lambda path: Image.new("RGB", (1, 1)))
    with pytest.raises(KeyboardInterrupt):
        encode(model, ["a"] * 20)


def test_a_defect_in_decoding_is_not_taken_for_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(path: str) -> Image.Image:
        raise UnreadableImage("truncated") if path == "bad" else TypeError("a defect")

    monkeypatch.setattr(pipeline, "decode", decode)
    assert encode(ToyModel(), ["bad"]) == [SkippedImage("bad", "truncated")]
    with pytest.raises(TypeError, match="a defect"):
        encode(ToyModel(), ["other"])


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (1, 0), (-1, 1)])
def test_sizes_under_one_are_refused_at_once(batch_size: int, workers: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        encode_images(ToyModel(), [], batch_size=batch_size, workers=workers)


@pytest.mark.parametrize(
    ("images", "size"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (17, 32), (32, 32), (33, 32), (10**6, 32), (None, 32)],
)
def test_auto_batch_size(images: int | None, size: int) -> None:
    assert auto_batch_size(images) == size


def test_auto_workers_are_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert auto_workers() == 3
