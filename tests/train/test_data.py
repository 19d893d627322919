"""The order of pairs, and the batches made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.decode import decode
from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.train.augment import Augment
from zeroshot_cli.train.config import Augmentation
from zeroshot_cli.train.data import (
    Batch,
    EvalBatches,
    Plan,
    TrainBatches,
    TrainPlans,
    batches_of,
    epoch_order,
    in_order,
    open_image,
)
from zeroshot_cli.train.pairs import Pairs, read_pairs

Draw = Callable[..., Path]


# Order ------------------------------------------------------------------------------------------------------


def test_an_epoch_is_numpys_permutation_without_its_rest() -> None:
    plans = list(TrainPlans(10, batch_size=4, epochs=2, seed=7))
    expected = []
    for epoch in range(2):
        rows = np.random.default_rng([7, epoch]).permutation(10).tolist()
        expected += [Plan(epoch, tuple(rows[:4])), Plan(epoch, tuple(rows[4:8]))]
    assert plans == expected


@pytest.mark.parametrize("first", range(7))
def test_a_run_that_goes_on_has_the_batches_that_were_left(first: int) -> None:
    whole = list(TrainPlans(11, batch_size=5, epochs=3, seed=1))
    rest = TrainPlans(11, batch_size=5, epochs=3, seed=1, first_step=first)
    assert list(rest) == whole[first:]
    assert len(rest) == 6 - first


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_in_order_takes_every_row_once() -> None:
    assert in_order(5, 2) == [Plan(0, (0, 1)), Plan(0, (2, 3)), Plan(0, (4,))]


# Decoding ---------------------------------------------------------------------------------------------------


def test_transparency_is_kept_for_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 3), (10, 20, 30, 40)).save(tmp_path / "a.webp", lossless=True, exact=True)
    image = open_image(str(tmp_path / "a.webp"), None)
    assert (image.mode, image.getpixel((1, 1))) == ("RGBA", (10, 20, 30, 40))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1", "I;16"])
def test_opaque_pictures_are_read_as_everywhere_else(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    gray = Image.linear_gradient("L").resize((16, 16))
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    image.save(path)
    np.testing.assert_array_equal(open_image(str(path), None), decode(str(path)))


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(str(tmp_path / "a.jpg"), None).size == (10, 30)


def test_a_large_jpeg_is_decoded_small_but_never_under_twice_the_size(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800)).save(tmp_path / "a.jpg")
    assert open_image(str(tmp_path / "a.jpg"), (96, 96)).size == (400, 200)


def test_reasons_are_those_of_decode(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(UnreadableImage) as expected:
            decode(str(tmp_path / name))
        with pytest.raises(UnreadableImage) as ours:
            open_image(str(tmp_path / name), (8, 8))
        assert str(ours.value) == str(expected.value)


# Batches ----------------------------------------------------------------------------------------------------


def batch_list(pairs: Pairs, *, workers: int = 0, epochs: int = 1) -> list[Batch]:
    augment = Augment((16, 16), min_scale=0.5, kinds=frozenset(Augmentation))
    plans = TrainPlans(len(pairs), batch_size=4, epochs=epochs, seed=3)
    return list(batches_of(TrainBatches(pairs, augment, seed=3), plans, workers=workers))


def test_batches_do_not_depend_on_the_workers(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(13)])
    alone, helped = batch_list(pairs), batch_list(pairs, workers=2)
    assert len(alone) == len(helped) == 3
    for one, other in zip(alone, helped, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.captions == other.captions
    assert alone[0].pixels.shape == (4, 16, 16, 3)
    assert alone[0].pixels.dtype == np.uint8


def test_captions_go_with_their_pictures(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(8)])
    known = dict(zip(pairs.images, pairs.captions, strict=True))
    for batch in batch_list(pairs):
        assert batch.captions == tuple(known[image] for image in batch.images)


def test_a_picture_looks_different_in_the_next_epoch(draw_pairs: Draw) -> None:
    first, second = batch_list(read_pairs([draw_pairs(4)]), epochs=2)
    views = {image: pixels.tobytes() for image, pixels in zip(first.images, first.pixels, strict=True)}
    again = {image: pixels.tobytes() for image, pixels in zip(second.images, second.pixels, strict=True)}
    assert views.keys() == again.keys()
    assert all(views[image] != again[image] for image in views)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_is_replaced_and_noted(draw_pairs: Draw, workers: int) -> None:
    pairs = read_pairs([draw_pairs(8)])
    whole = Path(pairs.images[2]).read_bytes()
    Path(pairs.images[2]).write_bytes(whole[: len(whole) // 2])
    Path(pairs.images[5]).write_bytes(b"")
    batches = batch_list(pairs, workers=workers)
    noted = [item for batch in batches for item in batch.skipped]
    assert {item.path for item in noted} == {pairs.images[2], pairs.images[5]}
    assert "the file is empty" in {item.reason for item in noted}
    assert [len(batch.captions) for batch in batches] == [4, 4]
    assert not {pairs.images[2], pairs.images[5]} & {image for batch in batches for image in batch.images}


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_pictures_is_an_error_in_one_sentence(draw_pairs: Draw, workers: int) -> None:
    pairs = read_pairs([draw_pairs(4)])
    for image in pairs.images:
        Path(image).write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"^100 images one after the other cannot be read \(.*png: .*\); check --data$"):
        batch_list(pairs, workers=workers)


def test_validation_sees_what_classify_sees(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(3)])
    Path(pairs.images[1]).write_bytes(b"")
    preprocess = Preprocess(PreprocessConfig(size=16))
    (batch,) = batches_of(EvalBatches(pairs, preprocess), in_order(3, 4), workers=0)
    assert batch.captions == (pairs.captions[0], pairs.captions[2])
    assert [item.path for item in batch.skipped] == [pairs.images[1]]
    for pixels, image in zip(batch.pixels, batch.images, strict=True):
        np.testing.assert_array_equal(pixels, preprocess.resized(decode(image)))


def test_a_validation_batch_may_be_empty(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(1)])
    Path(pairs.images[0]).write_bytes(b"")
    (batch,) = batches_of(EvalBatches(pairs, Preprocess(PreprocessConfig(size=16))), in_order(1, 4), workers=0)
    assert len(batch.captions) == len(batch.pixels) == 0
