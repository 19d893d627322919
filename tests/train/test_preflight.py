"""A look at the pairs: figures counted by hand, scipy's hypergeometric distribution, and images of every kind."""

import itertools
import os
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import hypergeom

from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.errors import DataError
from zeroshot_cli.pairs.read import Pairs, Source, read_pairs
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train import preflight as module
from zeroshot_cli.train.preflight import (
    Checked,
    Preflight,
    PreflightWarning,
    draws_of_rows,
    preflight,
    shared_captions,
    spread,
)
from zeroshot_cli.train.schedule import Settled

BYTES = Tokenizer((), context_length=12)  # a token for every byte of a word


def look(
    pairs: Pairs,
    *,
    image_size: tuple[int, int] = (16, 24),
    workers: int = 1,
    heard: Callable[[Checked], None] = lambda event: None,
    **options: Any,
) -> Preflight:
    settings: dict[str, Any] = {"batch_size": 2, "epochs": 3, **options}
    events = preflight(Settled(data=(), model="", **settings), pairs, BYTES, image_size=image_size, workers=workers)
    while True:
        try:
            heard(next(events))
        except StopIteration as end:
            return end.value


def pairs_file(folder: Path, rows: Sequence[tuple[str, str]], name: str = "pairs.csv") -> Path:
    path = folder / name
    path.write_text("".join(f'"{image}","{caption}"\n' for image, caption in [("image", "caption"), *rows]))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures a.png to e.png, and three files that are none."""
    for number, name in enumerate("abcde"):
        Image.new("RGB", (9, 5 + number), "red").save(tmp_path / f"{name}.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("these are words")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])  # within the pixels
    return tmp_path


# all of it, counted by hand


def test_every_figure(folder: Path) -> None:
    rows = [
        ("a.png", "ab c"),  # 3 bytes, 5 tokens with start and end
        ("b.png", "AB c"),
        ("a.png", "ab C"),  # as the first row
        ("a.png", "four"),
        ("c.png", "a longer one"),  # 10 bytes, as many tokens as the model reads
        ("c.png", ""),
        ("x.png", "gone"),
        ("cut.png", "elevenbytes"),
        ("words.png", "twelve-bytes"),
    ]
    file = pairs_file(folder, rows)
    with pytest.warns(PreflightWarning, match="2 of the 5 images"):
        found = look(read_pairs([file]), batch_size=3)
    assert found == Preflight(
        pairs=7,
        sources=(Source(str(file), 7),),
        images=5,
        captions=5,
        empty_captions=1,
        missing_files=1,
        first_missing=str(folder / "x.png"),
        checked=5,
        unreadable=(
            SkippedImage(str(folder / "cut.png"), "the file is truncated"),
            SkippedImage(str(folder / "words.png"), "text, not an image"),
        ),
        context_length=12,
        median_tokens=6,
        longest_tokens=14,
        long_captions=2,
        first_long="elevenbytes",
        repeated_pairs=1,
        largest_caption="ab c",
        largest_count=3,
        shared=pytest.approx(3 * 3 / 7 * (1 - 4 * 3 / (6 * 5))),  # both others of the batch are of the four others
        batch_size=3,
        image_size=(16, 24),
        epochs=3,
        steps_per_epoch=2,
        steps=6,
        several=1,
        plain=3,
    )


# what a batch holds


@pytest.mark.parametrize("captions", ["aabbbcd", "aaaaaab", "abcdefg", "aaaaaaa"])
@pytest.mark.parametrize("batch_size", [2, 3, 5, 7])
def test_shared_captions_are_those_of_all_batches_there_are(captions: str, batch_size: int) -> None:
    batches = list(itertools.combinations(captions, batch_size))
    shared = sum(batch.count(caption) > 1 for batch in batches for caption in batch)
    numbers = np.array([ord(caption) - ord("a") for caption in captions])
    assert shared_captions(numbers, np.ones(7), batch_size=batch_size) == pytest.approx(shared / len(batches))


def test_shared_captions_of_many_rows_are_hypergeometric() -> None:
    caption_of = np.random.default_rng(0).zipf(1.3, 50_000) % 9973
    n, batch_size = len(caption_of), 256
    counts = np.bincount(caption_of)
    none = hypergeom(n - 1, np.maximum(counts, 1) - 1, batch_size - 1).pmf(0)
    expected = (counts * batch_size / n * (1 - none)).sum()
    assert shared_captions(caption_of, np.ones(n), batch_size=batch_size) == pytest.approx(expected)


def test_a_row_is_drawn_by_the_weight_of_its_source() -> None:
    sources = (Source("a", 6, 1.0), Source("b", 2, 3.0))  # 6 to 6 of 8 draws
    assert draws_of_rows(sources) == pytest.approx([4 / 6] * 6 + [2.0] * 2)
    assert draws_of_rows((Source("a", 2, 0.1), Source("b", 1, 0.1))) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("weights", [(3.0, 1.0), (1.0, 0.2)])
def test_shared_captions_with_weights_are_near_those_of_drawn_batches(weights: tuple[float, float]) -> None:
    sources = (Source("a", 60, weights[0]), Source("b", 40, weights[1]))
    caption_of = np.random.default_rng(5).integers(0, 30, 100)
    found = shared_captions(caption_of, draws_of_rows(sources), batch_size=20)
    drawn = [_shared_in_a_batch(sources, caption_of, np.random.default_rng(seed)) for seed in range(1000)]
    assert found == pytest.approx(np.mean(drawn), rel=0.03)


def _shared_in_a_batch(sources: tuple[Source, ...], caption_of: Any, rng: np.random.Generator) -> int:
    """Twenty draws of an epoch in which a source has its share: all its rows several times, then some of them once."""
    total = sum(source.rows * source.weight for source in sources)
    rows: list[int] = []
    start = 0
    for source in sources:
        times, more = divmod(round(100 * source.rows * source.weight / total), source.rows)
        own = np.arange(start, start + source.rows)
        rows += [*np.tile(own, times), *rng.permutation(own)[:more]]
        start += source.rows
    counts = np.bincount(caption_of[rng.permutation(rows)[:20]])
    return int(counts[counts > 1].sum())


# captions


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("é", 4),
        ("\U0001d160" * 2, 26),  # Unicode's normal form is three symbols, of four bytes each
        ("&nGt;" * 2, 14),  # ≫⃒, six bytes
        ("\ud800", 5),  # half a character of a JSON file is U+FFFD
        ("a" * 11, 13),
    ],
)
def test_tokens_are_counted_after_cleaning(folder: Path, caption: str, tokens: int) -> None:
    pairs = read_pairs([pairs_file(folder, [("a.png", "x"), ("b.png", "y")])])
    found = look(replace(pairs, captions=("x", caption)))
    assert found.longest_tokens == tokens
    assert (found.long_captions, found.first_long) == ((1, caption) if tokens > 12 else (0, None))


def test_many_captions_are_sampled_but_none_that_is_too_long_is_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLED_CAPTIONS", 4)
    texts = [*("abcd" if row % 2 else "efgh" for row in range(40)), "z" * 20, "y" * 30, "z" * 20]
    found = look(read_pairs([pairs_file(folder, [("a.png", text) for text in texts] + [("b.png", "abcd")])]))
    assert (found.median_tokens, found.longest_tokens) == (6, 32)
    assert (found.long_captions, found.first_long) == (3, "z" * 20)


# what cannot be trained on


@pytest.mark.parametrize(
    ("rows", "batch_size", "words"),
    [
        (
            [("a.png", "x"), ("b.png", "y"), ("c.png", "")],
            4,
            ["2 usable pairs", "1 with an empty caption", "of 4"],
        ),
        ([("a.png", "x"), ("d.png", "y"), ("x.png", "z")], 3, ["1 without an image", "--batch-size 2 or less"]),
        ([("a.png", "x")], 2, ["1 usable pair;", "at least two"]),
        (
            [("a.png", "Same"), ("b.png", "same"), ("c.png", "SAME")],
            2,
            ["all 3 captions", "'Same'", "--caption-c"],
        ),
        ([("a.png", "x"), ("a.png", "y")], 2, ["same image", "a.png", "--image-column"]),
        ([("cut.png", "x"), ("empty.png", "y")], 2, ["none of the 2", "cut.png: the file is truncated"]),
    ],
)
def test_what_teaches_nothing_is_refused(
    folder: Path, rows: list[tuple[str, str]], batch_size: int, words: list[str]
) -> None:
    pairs = read_pairs([pairs_file(folder, rows)])
    with pytest.raises(DataError) as error:
        look(pairs, batch_size=batch_size)
    assert all(word in str(error.value) for word in ["--data", *words]), str(error.value)


def test_one_class_is_refused_by_its_name(folder: Path) -> None:
    pairs = read_pairs([pairs_file(folder, [("a.png", "cat"), ("b.png", "cat")])], label_column="caption")
    with pytest.raises(DataError, match=r"all 2 images of --data are of one class, 'cat', .* add images of another"):
        look(pairs)


def test_no_row_is_refused(folder: Path) -> None:
    pairs = read_pairs([pairs_file(folder, [("a.png", "x")])])
    with pytest.raises(DataError, match="0 usable pairs"):
        look(replace(pairs, images=(), captions=(), sources=()))


def test_a_long_caption_is_cut_in_a_message(folder: Path) -> None:
    pairs = read_pairs([pairs_file(folder, [("a.png", "x" * 500), ("b.png", "x" * 500)])])
    with pytest.raises(DataError) as error:
        look(pairs)
    assert "x" * 79 + "…" in str(error.value)
    assert len(str(error.value)) < 250


# what little is learned from


def test_one_caption_for_over_half_of_the_rows_is_warned_of(folder: Path) -> None:
    rows = [("a.png", "it"), ("b.png", "it"), ("c.png", "it"), ("d.png", "x"), ("e.png", "y"), ("a.png", "z")]
    look(read_pairs([pairs_file(folder, rows)]))
    with pytest.warns(PreflightWarning, match=r"3 of the 5 captions of --data are 'it'"):
        look(read_pairs([pairs_file(folder, rows[:5])]))


def test_a_tenth_of_the_images_may_be_unreadable(
    folder: Path, draw_pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = read_pairs([draw_pairs(10)])
    bad, gone = str(folder / "empty.png"), str(folder / "x.png")
    assert look(replace(good, images=(bad, *good.images[1:]))).unreadable == (SkippedImage(bad, "the file is empty"),)
    with pytest.warns(PreflightWarning, match=r"2 of the 10 images of --data cannot be read, .*x\.png: no such file$"):
        look(replace(good, images=(gone, *good.images[1:9], bad)))
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 5)
    with pytest.warns(PreflightWarning, match=r"of the 5 images of --data that were checked .*; --verify finds all$"):
        look(replace(good, images=(gone, bad, *good.images[2:])))


# which images are looked at


def test_a_spread_sample_has_an_index_of_each_part() -> None:
    assert spread(5, 5) == [0, 1, 2, 3, 4]
    sample = spread(1000, 10)
    assert [index // 100 for index in sample] == list(range(10))
    assert sample == spread(1000, 10)
    assert len({index % 100 for index in sample}) > 5


def test_a_sample_is_looked_at_or_every_image_once(
    draw_pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLED_IMAGES", 4)
    pairs = read_pairs([draw_pairs(24), draw_pairs(20, "again.csv")])
    calls: list[tuple[int, int]] = []
    sampled = look(pairs, heard=lambda event: calls.append((event.done, event.total)))
    assert (sampled.images, sampled.checked, calls) == (24, 4, [(1, 4), (2, 4), (3, 4), (4, 4)])
    Path(pairs.images[23]).write_text("these are words")
    assert look(pairs, verify=True, workers=2).unreadable == (SkippedImage(pairs.images[23], "text, not an image"),)
    assert look(pairs, verify=True).checked == 24


def test_a_path_may_hold_any_bytes(folder: Path) -> None:
    pairs = read_pairs([pairs_file(folder, [("a.png", "x"), ("b.png", "y")])])
    for name in (os.fsencode(str(folder)) + b"/-\xff\n<img>.png", os.fsencode(str(folder)) + b"/\xfe.png"):
        Path(os.fsdecode(name)).write_bytes((folder / ("a.png" if b"img" in name else "empty.png")).read_bytes())
    images = (os.fsdecode(os.fsencode(str(folder)) + b"/-\xff\n<img>.png"), str(folder) + "/\udcfe.png")
    with pytest.warns(PreflightWarning, match="1 of the 2 images"):
        found = look(replace(pairs, images=images))
    assert found.unreadable == (SkippedImage(str(folder) + "/\udcfe.png", "the file is empty"),)


# images in tars


@pytest.fixture
def tar(folder: Path) -> Path:
    """A tar of pictures a to e and a file that is cut short, each with its caption."""
    path = folder / "shard-000.tar"
    with tarfile.open(path, "w") as file:
        for name in ("a", "b", "c", "d", "e", "cut"):
            (folder / f"{name}.txt").write_text(f"the {name}")
            file.add(folder / f"{name}.png", f"{name}.png")
            file.add(folder / f"{name}.txt", f"{name}.txt")
    return path


def test_images_in_a_tar_are_looked_at_and_leave_no_copy(
    tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    with pytest.warns(PreflightWarning, match="1 of the 6 images"):
        found = look(read_pairs([tar]), workers=2)
    assert found.unreadable == (SkippedImage(f"{tar}/cut.png", "the file is truncated"),)
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_tar_that_is_gone_is_said_of_its_images(tar: Path) -> None:
    pairs = read_pairs([tar])
    tar.unlink()
    with pytest.raises(DataError, match=r"none of the 6 images .* the first is .*/shard-000\.tar/a\.png: no such file"):
        look(pairs)
