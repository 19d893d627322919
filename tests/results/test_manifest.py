"""The list of images on disk: a sequence like any other, in the order of its runs, with little in memory."""

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.shards.manifest import Item, Manifest

ITEMS: list[Item] = [
    *(f"photos/{number:05}.jpg" for number in range(3000)),
    SkippedImage("none.png", "no such file"),
    os.fsdecode(b"\xff\n.png"),
    SkippedImage(os.fsdecode(b"\xfe.png"), 'a "reason"\n猫'),
    "猫\t.png",
]


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    made = Manifest.of([ITEMS], tmp_path)
    yield made
    made.close()


def test_it_is_a_sequence(manifest: Manifest) -> None:
    assert len(manifest) == len(ITEMS)
    assert list(manifest) == ITEMS
    for place in (0, 1, 1023, 1024, 2999, 3000, 3001, 3002, -1, -3004):
        assert manifest[place] == ITEMS[place]
    with pytest.raises(IndexError):
        manifest[len(ITEMS)]
    assert ITEMS[5] in manifest


@pytest.mark.parametrize("start", [None, 0, 1, 1000, 1024, 3003, 5000, -2])
@pytest.mark.parametrize("stop", [None, 0, 1025, 3004, -1])
@pytest.mark.parametrize("step", [None, 7])
def test_a_part_is_a_view(manifest: Manifest, start: int | None, stop: int | None, step: int | None) -> None:
    part = manifest[start:stop:step]
    assert list(part) == ITEMS[start:stop:step]
    assert len(part) == len(ITEMS[start:stop:step])
    assert list(part[2:9]) == ITEMS[start:stop:step][2:9]


def test_two_readers_do_not_disturb_each_other(manifest: Manifest) -> None:
    one, other = iter(manifest), iter(manifest[1500:])
    both = [(next(one), next(other)) for _ in range(1504)]
    assert both == list(zip(ITEMS, ITEMS[1500:], strict=False))


def test_runs_in_order_of_path_become_one(tmp_path: Path) -> None:
    draw = random.Random(0)
    paths = sorted({f"{draw.randrange(10**6)}.png" for _ in range(5000)} | {os.fsdecode(b"\xff.png"), "é.png"})
    runs: list[list[Item]] = [[], [], [], []]
    for path in paths:
        draw.choice(runs[:3]).append(path)
    made = Manifest.of(runs, tmp_path)
    assert list(made) == paths
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_single_run_keeps_its_order(tmp_path: Path) -> None:
    made = Manifest.of([[], ["b.png", "a.png"], []], tmp_path)
    assert list(made) == ["b.png", "a.png"]
    made.close()


def test_nothing(tmp_path: Path) -> None:
    made = Manifest.of([], tmp_path)
    assert list(made) == []
    assert not made
    made.close()


def test_the_file_has_paths_and_reasons(tmp_path: Path) -> None:
    made = Manifest.of([["secret", SkippedImage("b.png", "no such file")]], tmp_path)
    made.save(tmp_path / "_manifest", lambda path: path.replace("secret", "***"))
    made.close()
    assert (tmp_path / "_manifest").read_bytes() == b"***\0\0b.png\0no such file\0"


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Item]:
        yield "a.png"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Manifest.of([broken()], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow(tmp_path: Path) -> None:
    tracemalloc.start()
    made = Manifest.of([(f"photos/{number:09}.jpg" for number in range(30_000))], tmp_path)
    assert sum(1 for _ in made) == 30_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    made.close()
    assert peak < 700_000
