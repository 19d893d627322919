"""The image pipeline, with a model whose answers are known by hand: [cos x, sin x] of the mean pixel x."""

import itertools
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zeroshot_cli.clip.config import PRESETS, EfficientNetConfig
from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.embed import image_cache
from zeroshot_cli.embed import images as pipeline
from zeroshot_cli.embed.batches import auto_batch_size, padded_rows
from zeroshot_cli.embed.image_cache import ImageCache
from zeroshot_cli.embed.images import EmbeddedImage, encode_images
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.decoder_pool import Decoded, Decoders, auto_workers
from zeroshot_cli.images.given import named_images
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.records import SkippedImage


class ToyModel:
    """Embeds an image as [cos x, sin x], x its mean pixel from 0 to 1; remembers the batches it was given."""

    fingerprint, precision, model, embed_dim = "f" * 64, "fp32", None, 2
    computing = precision

    def __init__(self, device: str = "cpu") -> None:
        self.device = SimpleNamespace(type=device)
        self.preprocess = Preprocess(PreprocessConfig(size=2))
        self.shapes: list[tuple[int, ...]] = []

    def encode_pixels(self, batch: torch.Tensor) -> torch.Tensor:
        assert batch.dtype == torch.uint8
        self.shapes.append(tuple(batch.shape))
        angle = batch.float().mean(dim=(1, 2, 3)) / 255
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def grey_images(folder: Path, levels: list[int]) -> list[str]:
    paths = [str(folder / f"{index}.png") for index in range(len(levels))]
    for path, level in zip(paths, levels, strict=True):
        Image.new("RGB", (4, 3), (level,) * 3).save(path)
    return paths


@pytest.fixture(autouse=True)
def _files_are_trusted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file that was written in the last two seconds is not known by its path."""
    monkeypatch.setattr(image_cache, "SETTLED", -(10**18))


def encode(
    model: Any, items: Any, *, batch_size: int = 4, workers: int = 2, cache: ImageCache | None = None
) -> list[EmbeddedImage | SkippedImage]:
    blocks = encode_images(model, items, batch_size=batch_size, workers=workers, cache=cache)
    return list(itertools.chain.from_iterable(blocks))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are decoded at once, in this process: every one is black."""
    monkeypatch.setattr(Decoders, "_decode", lambda self, path, is_known: Decoded(bytes(12), b""))


def test_embeddings_are_those_of_their_images_in_order(tmp_path: Path) -> None:
    levels = [0, 255, 51, 102, 204, 153, 10]
    paths = grey_images(tmp_path, levels)
    results = encode(ToyModel(), paths)
    assert [item.path for item in results] == paths
    for item, level in zip(results, levels, strict=True):
        x = level / 255
        assert item.embedding.tolist() == pytest.approx([math.cos(x), math.sin(x)], abs=1e-6)


def test_a_gpu_gets_the_same_while_the_next_images_are_decoded(tmp_path: Path) -> None:
    """The way of a GPU, with a model that needs none: decoding goes on, two batches are submitted ahead."""
    levels = [level % 256 for level in range(0, 300, 7)]
    paths = [*grey_images(tmp_path, levels), str(tmp_path / "none.png")]
    expected, results = encode(ToyModel(), paths), encode(ToyModel("cuda"), paths)
    assert [item.path for item in results] == paths
    for one, other in zip(results[:-1], expected[:-1], strict=True):
        assert (one.embedding == other.embedding).all()
    assert results[-1] == expected[-1]


def test_a_gpu_is_not_waited_for_before_two_more_batches(no_processes: None) -> None:
    events: list[str] = []

    class Lazy(ToyModel):
        def encode_pixels(self, batch: torch.Tensor) -> Any:
            events.append("start")
            rows = super().encode_pixels(batch)
            return SimpleNamespace(cpu=lambda: events.append("wait") or rows)

    encode(Lazy("cuda"), [str(n) for n in range(16)])
    assert events == ["start"] * 3 + ["wait", "start"] + ["wait"] * 3


def test_every_batch_has_one_shape_also_the_last(tmp_path: Path) -> None:
    model = ToyModel()
    encode(model, grey_images(tmp_path, [1] * 9), batch_size=4)
    assert model.shapes == [(4, 2, 2, 3)] * 3


@pytest.mark.parametrize(
    ("size", "rows"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 8), (7, 8), (8, 8), (9, 16), (32, 32), (33, 40)]
)
def test_rows_are_numbers_that_matrix_products_treat_alike(size: int, rows: int) -> None:
    assert padded_rows(size) == rows


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


@pytest.mark.parametrize(("workers", "ahead"), [(1, 2), (2, 4), (3, 6)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_decoding_is_two_batches_or_eight_images_a_process_ahead(
    device: str, workers: int, ahead: int, no_processes: None
) -> None:
    most = taken = done = 0

    def names() -> Iterator[str]:
        nonlocal taken
        for n in range(100):
            taken += 1
            yield str(n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "WINDOW", 1)
        for block in encode_images(ToyModel(device), names(), batch_size=4, workers=workers):
            most = max(most, taken - done)
            done += len(block)
    # On the CPU all are encoded before the next is taken; on a GPU they are decoded beside three batches at the model.
    assert most == (ahead * 4 if device == "cpu" else (ahead + 3) * 4)


def test_on_the_cpu_nothing_is_decoded_while_the_model_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = threading.Semaphore(2)
    decode = Decoders._decode

    def counted(self: Decoders, path: str, is_known: Callable[[bytes], bool]) -> Decoded:
        with busy:
            return decode(self, path, is_known)

    class Watching(ToyModel):
        def encode_pixels(self, batch: torch.Tensor) -> torch.Tensor:
            assert busy._value == 2
            return super().encode_pixels(batch)

    monkeypatch.setattr(Decoders, "_decode", counted)
    model = Watching()
    encode(model, grey_images(tmp_path, [5] * 30))
    assert len(model.shapes) == 8


def test_a_run_of_unreadable_images_does_not_wait_for_a_full_batch(tmp_path: Path) -> None:
    path = grey_images(tmp_path, [255])[0]
    model = ToyModel()
    endless = iter([path, *(SkippedImage(str(n), "why") for n in range(10 * pipeline.MAX_WAITING))])
    results = encode_images(model, endless, batch_size=4, workers=1)
    assert next(results)[0].path == path
    assert sum(1 for _ in endless) > 8 * pipeline.MAX_WAITING
    assert model.shapes == [(4, 2, 2, 3)]


def test_an_interrupt_passes_through(no_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(batch: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    model = ToyModel()
    monkeypatch.setattr(model, "encode_pixels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encode(model, ["a"] * 20)


def test_a_generator_that_is_dropped_leaves_no_process(tmp_path: Path) -> None:
    closed: list[Decoders] = []
    close = Decoders.close
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoders, "close", lambda self: closed.append(self) or close(self))
        blocks = encode_images(ToyModel(), grey_images(tmp_path, [1] * 20), batch_size=4, workers=2)
        next(blocks)
        blocks.close()
    assert [decoders._processes for decoders in closed] == [set()] or all(
        not process.is_alive() for process in closed[0]._processes
    )


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (1, 0), (-1, 1)])
def test_sizes_under_one_are_refused_at_once(batch_size: int, workers: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        encode_images(ToyModel(), [], batch_size=batch_size, workers=workers)


@pytest.mark.parametrize(
    ("images", "size"),
    [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (17, 32), (32, 32), (33, 32), (10**6, 32), (None, 32)],
)
def test_auto_batch_size(images: int | None, size: int) -> None:
    assert auto_batch_size(images, ToyModel()) == size


def test_auto_batch_size_by_device_and_kind_of_model() -> None:
    assert auto_batch_size(None, ToyModel("cuda")) == 128
    with torch.device("meta"):
        resnet = CLIP(PRESETS["RN50"])
    model = ToyModel()
    model.model = resnet  # type: ignore[assignment]
    assert auto_batch_size(None, model) == 16
    vision = EfficientNetConfig(image_size=224, hidden=4, gate=1.0)
    with torch.device("meta"):
        model.model = CLIP(replace(PRESETS["RN50"], vision=vision))  # type: ignore[assignment]
    assert auto_batch_size(None, model) == 4
    model.precision = "bf16"
    assert (auto_batch_size(None, model), auto_batch_size(3, model)) == (8, 4)


def test_auto_workers_are_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert auto_workers() == 3
    assert auto_workers("cuda") == 2
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1}, raising=False)
    assert auto_workers("cuda") == 1


# with a cache


def test_what_is_cached_is_neither_read_nor_encoded(tmp_path: Path) -> None:
    paths = grey_images(tmp_path, [1, 200, 30, 40, 50])
    first = encode(ToyModel(), paths, cache=ImageCache(tmp_path / "cache"))
    model = ToyModel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoders, "submit", None)
        again = encode(model, paths, cache=ImageCache(tmp_path / "cache"))
    assert model.shapes == []
    assert [item.path for item in again] == paths
    assert all((one.embedding == other.embedding).all() for one, other in zip(first, again, strict=True))


def test_new_images_among_known_ones_keep_their_place(tmp_path: Path) -> None:
    paths = grey_images(tmp_path, list(range(0, 250, 10)))
    encode(ToyModel(), paths[::3], cache=ImageCache(tmp_path / "cache"))
    model = ToyModel()
    mixed = [SkippedImage("x", "why"), *paths]
    results = encode(model, mixed, cache=ImageCache(tmp_path / "cache"))
    assert [item.path for item in results] == ["x", *paths]
    expected = encode(ToyModel(), paths)
    assert all((a.embedding == b.embedding).all() for a, b in zip(results[1:], expected, strict=True))
    assert len(model.shapes) == 4  # 16 new ones


def test_a_copy_of_a_known_file_is_read_and_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = grey_images(tmp_path, [77])
    encode(ToyModel(), [path], cache=ImageCache(tmp_path / "cache"))
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(path).read_bytes())
    model = ToyModel()
    (found,) = encode(model, [str(copy)], cache=ImageCache(tmp_path / "cache"))
    assert model.shapes == []
    assert found.path == str(copy)
    assert found.embedding.tolist() == pytest.approx([math.cos(77 / 255), math.sin(77 / 255)], abs=1e-6)


def test_real_batches_of_other_sizes_and_neighbours(small: Any, tmp_path: Path) -> None:
    """The same image with other neighbours: to the bit at one batch size, to 1e-6 at batches of 1, 7 and 64."""
    paths = []
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    rows = {}
    for size in (1, 7, 64):
        together = encode(small, paths, batch_size=size)
        turned = encode(small, paths[::-1], batch_size=size)[::-1]
        alone = encode(small, paths[5:6], batch_size=size)
        for one, other in zip(together, turned, strict=True):
            assert (one.embedding == other.embedding).all(), size
        assert (alone[0].embedding == together[5].embedding).all(), size
        rows[size] = np.stack([item.embedding for item in together])
    np.testing.assert_allclose(rows[7], rows[1], atol=1e-6, rtol=0)
    np.testing.assert_allclose(rows[64], rows[1], atol=1e-6, rtol=0)


def test_files_and_what_a_program_has_of_them_have_the_same_embeddings(tmp_path: Path) -> None:
    """A noisy image in five forms, turned by its Exif and with colours that JPEG changes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    content = path.read_bytes()
    upright = np.asarray(decode(str(path)))
    forms = [str(path), path, content, Image.open(path), upright, Image.fromarray(upright), str(path)]
    results = encode(ToyModel(), named_images(forms))
    names = [str(path), str(path), *(f"<image {number}>" for number in range(2, 6)), str(path)]
    assert [item.path for item in results] == names
    for item in results[1:]:
        assert item.embedding.tolist() == results[0].embedding.tolist()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_in_a_mix_every_image_keeps_its_place(tmp_path: Path, device: str) -> None:
    levels = [level % 256 for level in range(0, 300, 7)]
    paths = grey_images(tmp_path, levels)
    forms = (lambda path: path, Path, lambda path: Path(path).read_bytes(), Image.open, lambda path: b"not an image")
    images = [forms[number % 5](path) for number, path in enumerate(paths)]
    results = encode(ToyModel(device), named_images(images))
    for number, (result, level) in enumerate(zip(results, levels, strict=True)):
        if number % 5 == 4:
            assert result == SkippedImage(f"<image {number}>", "text, not an image")
        else:
            assert math.atan2(*result.embedding[::-1]) == pytest.approx(level / 255, abs=1e-6)


def test_arrays_that_share_their_memory_are_seen_one_after_the_other(tmp_path: Path) -> None:
    frame = np.empty((3, 4), np.uint8)

    def frames() -> Iterator[np.ndarray]:
        for level in (0, 51, 102, 153, 204, 255):
            frame[:] = level
            yield frame

    angles = [math.atan2(*item.embedding[::-1]) for item in encode(ToyModel(), named_images(frames()), batch_size=2)]
    assert angles == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1], abs=1e-6)


def test_a_generator_of_images_is_read_two_batches_ahead_at_most() -> None:
    asked = []

    def frames() -> Iterator[Image.Image]:
        for number in itertools.count():
            asked.append(number)
            yield Image.new("L", (4, 4))

    blocks = encode_images(ToyModel(), named_images(frames()), batch_size=4, workers=1)
    next(blocks)
    blocks.close()
    assert len(asked) == 8


def test_no_image_has_no_embedding() -> None:
    assert encode(ToyModel(), named_images([])) == []


def test_bytes_are_cached_by_their_content_and_pixels_are_not(tmp_path: Path) -> None:
    (path,) = grey_images(tmp_path, [51])
    cache, first, again = ImageCache(tmp_path / "cache"), ToyModel(), ToyModel()
    forms = [Path(path).read_bytes(), Image.open(path)]
    before = encode(first, named_images(forms[:1]), cache=cache)
    after = encode(again, named_images([path, *forms]), cache=cache)
    assert [item.embedding.tolist() for item in after] == [before[0].embedding.tolist()] * 3
    assert len(again.shapes) == 1  # for the Pillow image
    encode(again, named_images([path, forms[0]]), cache=cache)
    assert len(again.shapes) == 1
