"""The order of pairs, and the batches made of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.errors import DataError, UnreadableImage
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.images.decode import decode
from zeroshot_cli.images.decoder_process import Job, unpack
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig, resize
from zeroshot_cli.pairs.read import Pairs, Source, read_pairs
from zeroshot_cli.records import Augmentation
from zeroshot_cli.train.data import (
    Batch,
    EvalBatches,
    ImageReader,
    Plan,
    TrainBatches,
    TrainPlans,
    batches_of,
    draws_of_sources,
    earlier_draws,
    epoch_order,
    shuffled,
)

Draw = Callable[..., Path]


# Order ------------------------------------------------------------------------------------------------------


def test_an_epoch_is_numpys_permutation_without_its_rest() -> None:
    plans = list(TrainPlans([Source("", 10)], batch_size=4, epochs=2, seed=7))
    expected = []
    for epoch in range(2):
        rows = np.random.default_rng([7, epoch]).permutation(10).tolist()
        expected += [Plan(epoch, tuple(rows[:4])), Plan(epoch, tuple(rows[4:8]))]
    assert plans == expected


@pytest.mark.parametrize("first", range(7))
def test_a_run_that_goes_on_has_the_batches_that_were_left(first: int) -> None:
    whole = list(TrainPlans([Source("", 11)], batch_size=5, epochs=3, seed=1))
    rest = TrainPlans([Source("", 11)], batch_size=5, epochs=3, seed=1, first_step=first)
    assert list(rest) == whole[first:]
    assert len(rest) == 6 - first


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {tuple(epoch_order([Source("", 50)], seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_rows_are_shuffled_once_and_for_all() -> None:
    plans = shuffled(5, 2)
    assert [len(plan.rows) for plan in plans] == [2, 2, 1]
    assert sorted(row for plan in plans for row in plan.rows) == [0, 1, 2, 3, 4]
    assert shuffled(5, 2) == plans
    assert [row for plan in shuffled(50, 50) for row in plan.rows] != list(range(50))


# Weights ----------------------------------------------------------------------------------------------------


def drawn(sources: list[Source], epoch: int = 0) -> list[int]:
    """How often each row is drawn in an epoch."""
    order = epoch_order(sources, seed=5, epoch=epoch)
    return np.bincount(order, minlength=sum(source.rows for source in sources)).tolist()


@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equal_weights_are_no_weights(weight: float) -> None:
    order = epoch_order([Source("a", 6, weight), Source("b", 4, weight)], seed=5, epoch=2)
    np.testing.assert_array_equal(order, np.random.default_rng([5, 2]).permutation(10))


def test_a_source_gets_its_share_of_rows_times_weight() -> None:
    counts = drawn([Source("a", 60, 1.0), Source("b", 20, 3.0)])  # 60 to 60 of 80 draws: 40 and 40
    assert sum(counts) == 80
    assert sorted(counts[:60]) == [0] * 20 + [1] * 40
    assert counts[60:] == [2] * 20


def test_what_is_left_of_a_pass_is_a_sample_without_repetition() -> None:
    sources = [Source("a", 10, 1.0), Source("b", 4, 2.5)]  # 10 to 10 of 14 draws: 7 and 7
    counts = drawn(sources)
    assert (sorted(counts[:10]), sorted(counts[10:])) == ([0] * 3 + [1] * 7, [1] + [2] * 3)
    assert drawn(sources, epoch=1) != counts
    assert sum(np.array(drawn(sources, epoch)) for epoch in range(40)).min() > 15  # no row is passed over for good


@pytest.mark.parametrize(
    ("sources", "draws"),
    [
        ([("a", 1, 1.0), ("b", 1, 1.5), ("c", 1, 1.5)], [1, 1, 1]),
        ([("a", 5, 1.0), ("b", 3, 2.0), ("c", 2, 4.0)], [3, 3, 4]),  # 50/19, 60/19, 80/19: 2.6, 3.2, 4.2
        ([("a", 1000, 1e-9), ("b", 1, 1.0)], [0, 1001]),  # 0.001, 1000.999: the larger rest is b's
    ],
)
def test_draws_are_whole_and_make_an_epoch(sources: list[tuple[str, int, float]], draws: list[int]) -> None:
    assert draws_of_sources([Source(*source) for source in sources]) == draws


def test_a_row_that_is_drawn_again_says_so() -> None:
    assert earlier_draws(np.array([3, 1, 3, 0, 3, 1])).tolist() == [0, 0, 1, 0, 2, 1]
    plans = list(TrainPlans([Source("a", 2, 1.0), Source("b", 2, 9.0)], batch_size=2, epochs=1, seed=0))
    rows = [row for plan in plans for row in plan.rows]
    passes = [earlier for plan in plans for earlier in plan.passes]
    assert passes == [rows[:place].count(row) for place, row in enumerate(rows)]


def test_a_row_looks_different_each_time(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(1)])
    batches = TrainBatches(pairs, Augment((16, 16), min_scale=0.3, kinds=frozenset()), seed=0)
    first, again, other = (batches[Plan(0, (0,), passes)] for passes in [(), (0,), (1,)])
    assert isinstance(first, Batch)
    assert isinstance(again, Batch)
    assert isinstance(other, Batch)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (first.pixels != other.pixels).any()


# Many processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 4.0)])
@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_processes_see_together_what_one_sees(weights: tuple[float, float], world: int) -> None:
    sources = [Source("a", 20, weights[0]), Source("b", 5, weights[1])]
    one = TrainPlans(sources, batch_size=6, epochs=3, seed=4, first_step=2)
    many = [
        TrainPlans(sources, batch_size=6, epochs=3, seed=4, first_step=2, rank=rank, world=world)
        for rank in range(world)
    ]
    assert {len(plans) for plans in many} == {len(one)} == {10}
    for whole, *shares in zip(one, *many, strict=True):
        assert {share.epoch for share in shares} == {whole.epoch}
        assert {len(share.rows) for share in shares} == {6 // world}
        assert sum((share.rows for share in shares), ()) == whole.rows
        assert sum((share.passes for share in shares), ()) == whole.passes


def test_a_replacement_depends_on_the_row_alone(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(12)])
    for row in (2, 3, 7):
        Path(pairs.images[row]).write_bytes(b"")
    batches = TrainBatches(pairs, Augment((16, 16), min_scale=0.5, kinds=frozenset()), seed=1)
    whole, parts = batches[Plan(2, (7, 1, 2, 3))], [batches[Plan(2, rows)] for rows in [(3, 2), (1,), (7,)]]
    seen: dict[str, bytes] = {}
    for batch in (whole, *parts):
        assert isinstance(batch, Batch)
        for image, pixels in zip(batch.images, batch.pixels, strict=True):
            assert seen.setdefault(image, pixels.tobytes()) == pixels.tobytes()


# Decoding ---------------------------------------------------------------------------------------------------


def open_alone(path: Path, size: tuple[int, int] | None = None) -> Image.Image:
    return unpack(ImageReader(Pairs((str(path),), ("",)), Job(at_least=size)).read(0))


def test_transparency_is_kept_for_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (3, 3), (10, 20, 30, 40)).save(tmp_path / "a.webp", lossless=True, exact=True)
    image = open_alone(tmp_path / "a.webp")
    assert (image.mode, image.getpixel((1, 1))) == ("RGBA", (10, 20, 30, 40))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1", "I;16"])
def test_opaque_pictures_are_read_as_everywhere_else(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tiff"
    gray = Image.linear_gradient("L").resize((16, 16))
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    image.save(path)
    np.testing.assert_array_equal(open_alone(path), decode(str(path)))


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert open_alone(tmp_path / "a.jpg").size == (10, 30)


def test_a_large_jpeg_is_decoded_small_but_never_under_twice_the_size(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800)).save(tmp_path / "a.jpg")
    assert open_alone(tmp_path / "a.jpg", (96, 96)).size == (400, 200)


def test_reasons_are_those_of_decode(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.jpg", "empty.jpg", "none.jpg"):
        with pytest.raises(UnreadableImage) as expected:
            decode(str(tmp_path / name))
        with pytest.raises(UnreadableImage) as ours:
            open_alone(tmp_path / name, (8, 8))
        assert str(ours.value) == str(expected.value)


# Batches ----------------------------------------------------------------------------------------------------


def batch_list(pairs: Pairs, *, workers: int = 0, epochs: int = 1) -> list[Batch]:
    augment = Augment((16, 16), min_scale=0.5, kinds=frozenset(Augmentation))
    plans = TrainPlans(pairs.sources, batch_size=4, epochs=epochs, seed=3)
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
    with pytest.raises(DataError, match=r"^100 images in a row cannot be read .*png: .*; remove the bad ones$"):
        batch_list(pairs, workers=workers)


def test_validation_sees_what_classify_sees(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(3)])
    Path(pairs.images[1]).write_bytes(b"")
    preprocess = Preprocess(PreprocessConfig(size=16))
    (batch,) = batches_of(EvalBatches(pairs, preprocess.config), [Plan(0, (0, 1, 2))], workers=0)
    assert batch.captions == (pairs.captions[0], pairs.captions[2])
    assert [item.path for item in batch.skipped] == [pairs.images[1]]
    for pixels, image in zip(batch.pixels, batch.images, strict=True):
        np.testing.assert_array_equal(pixels, resize(decode(image), preprocess.config))


def test_a_validation_batch_may_be_empty(draw_pairs: Draw) -> None:
    pairs = read_pairs([draw_pairs(1)])
    Path(pairs.images[0]).write_bytes(b"")
    (batch,) = batches_of(EvalBatches(pairs, PreprocessConfig(size=16)), [Plan(0, (0,))], workers=0)
    assert len(batch.captions) == len(batch.pixels) == 0


@pytest.mark.parametrize(("rows", "batch", "world"), [(13, 4, 2), (100, 12, 3), (7, 6, 6), (8, 8, 4)])
def test_processes_draw_every_row_once_an_epoch(rows: int, batch: int, world: int) -> None:
    """An epoch is rows // batch steps for each process, whichever rows those are: none waits for another."""
    sources = (Source("a", rows - 3), Source("b", 3))
    plans = [
        list(TrainPlans(sources, batch_size=batch, epochs=2, seed=1, rank=rank, world=world)) for rank in range(world)
    ]
    steps = rows // batch
    assert [len(each) for each in plans] == [2 * steps] * world
    for epoch in range(2):
        seen = [row for each in plans for plan in each if plan.epoch == epoch for row in plan.rows]
        assert len(seen) == len(set(seen)) == steps * batch
    alone = TrainPlans(sources, batch_size=batch, epochs=2, seed=1)
    together = [tuple(row for plan in step for row in plan.rows) for step in zip(*plans, strict=True)]
    assert together == [plan.rows for plan in alone]
