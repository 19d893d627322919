"""Shards: which images are whose, and what is said where all shards together are not all images."""

import hashlib
import os
import random

import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.formats import no_formula
from zeroshot_cli.results.parquet import arrow_text
from zeroshot_cli.results.shards.shard import PathSet, Shard, Share, check_complete, without_shard

PATHS = [f"photos/{number}.jpg" for number in range(1000)] + ["=1.png", "猫.png", os.fsdecode(b"\xff,\n.png")]


@pytest.mark.parametrize(
    ("path", "remainder"),
    # printf PATH | sha256sum | cut -c1-16, as a number, modulo 7
    [("a.jpg", 0x2FE5E1F98E84F9F0 % 7), ("photos/1.jpg", 0xD9D5E2B5C96E3A2F % 7)],
)
def test_a_share_is_by_the_first_bytes_of_a_sha256(path: str, remainder: int) -> None:
    first = int(hashlib.sha256(path.encode()).hexdigest()[:16], 16)
    assert [Shard(number, 7).has(path) for number in range(1, 8)].index(True) == first % 7


def test_every_image_is_in_one_shard_and_shards_are_alike() -> None:
    shares = [[path for path in PATHS if Shard(number, 4).has(path)] for number in range(1, 5)]
    assert sorted(path for share in shares for path in share) == sorted(PATHS)
    assert all(200 < len(share) < 300 for share in shares)


def test_bytes_that_are_not_utf_8_have_a_shard() -> None:
    path = os.fsdecode(b"\xff,\n.png")
    number = int.from_bytes(hashlib.sha256(b"\xff,\n.png").digest()[:8], "big") % 5
    assert Shard(number + 1, 5).has(path)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "0/0", "a/b", "1", "1/", "/4", "-1/4", "1/-4", "1.0/4", "1/4/4"])
@pytest.mark.parametrize("more", ["", "0"])
def test_what_is_no_shard(text: str, more: str) -> None:
    with pytest.raises(ValueError, match=r"is not a shard; give I/N, such as 1/16, with I from 1 to N"):
        Shard.parse(more + text)


@pytest.mark.parametrize("text", ["1/1000001", f"1/{10**30}", f"{'9' * 5000}/{'9' * 5000}", "١/٢", " 1/2", "1/2\n", ""])
def test_numbers_beyond_reason(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard"):
        Shard.parse(text)


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("03/16", (3, 16)), ("1000000/1000000", (10**6, 10**6))])
def test_what_is_one(text: str, shard: tuple[int, int]) -> None:
    assert Shard.parse(text) == Shard(*shard)


def test_a_set_is_the_sum_of_hashes_in_any_order() -> None:
    by_hand = sum(int(hashlib.sha256(path).hexdigest(), 16) for path in (b"a", b"b", b"b")) % 2**256
    assert PathSet.of(["b", "a", "b"]) == PathSet(3, by_hand)
    assert PathSet.of(["a", "b"]) + PathSet.of(["b"]) == PathSet(3, by_hand)
    assert PathSet.of(PATHS) == PathSet.of(random.Random(0).sample(PATHS, len(PATHS)))
    assert PathSet.of(PATHS) != PathSet.of(PATHS[1:] + PATHS[-1:])


def test_a_set_is_the_same_in_every_format() -> None:
    for written in (no_formula, arrow_text, lambda path: no_formula(arrow_text(path))):
        assert PathSet.of(map(written, PATHS)) == PathSet.of(PATHS)


def share(number: int, total: int, paths: list[str] = PATHS) -> Share:
    shard = Shard(number, total)
    return Share(shard, PathSet.of(path for path in paths if shard.has(path)), PathSet.of(paths))


def test_what_a_record_says_is_read_again() -> None:
    settings = {"model": "tiny", **share(2, 3).settings()}
    assert Share.read(settings) == share(2, 3)
    assert without_shard(settings) == {"model": "tiny"}
    assert Share.read({"model": "tiny"}) is None


@pytest.mark.parametrize(
    "wrong", [{"shard": "4/3"}, {"all_images": "many"}, {"shard_paths": "xyz"}, {"all_paths": None}, {"shard": 3}]
)
def test_a_damaged_record_is_a_value_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Share.read({**share(2, 3).settings(), **wrong})
    lacking = share(2, 3).settings()
    del lacking[next(iter(wrong))]
    if "shard" not in wrong:
        with pytest.raises(ValueError, match="is missing"):
            Share.read(lacking)


def named(*shares: Share) -> list[tuple[str, Share]]:
    return [(f"{place}.csv", each) for place, each in enumerate(shares)]


def test_all_shards_in_any_order_are_complete() -> None:
    check_complete(named(share(3, 3), share(1, 3), share(2, 3)))
    check_complete(named(share(1, 1)))
    check_complete(named(*(share(number, 3, []) for number in (1, 2, 3))))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([share(1, 3), share(3, 3)], r"^shard 2/3 is missing; run it"),
        ([share(4, 5)], r"^shard 1/5 is missing, and 3 others; run it"),
        ([share(1, 2), share(2, 2), share(1, 2)], r"^2\.csv and 0\.csv are both shard 1/2; give each shard once$"),
        ([share(1, 2), share(2, 3)], r"^1\.csv is shard 2/3 and 0\.csv shard 1/2; give the shards of one run$"),
    ],
)
def test_a_shard_is_missing_or_twice(shares: list[Share], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_complete(named(*shares))


@pytest.mark.parametrize(
    ("paths", "what"),
    [(PATHS[1:], "1002 images, not 1003 images"), ([*PATHS[1:], "new.png"], "1003 images, but not the same")],
)
def test_a_shard_of_other_images(paths: list[str], what: str) -> None:
    with pytest.raises(DataError, match=rf"^1\.csv, shard 2/2, is of other inputs than 0\.csv: {what}; run all shards"):
        check_complete(named(share(1, 2), share(2, 2, paths)))


def test_shards_that_lie_about_their_own_images() -> None:
    one = Share(Shard(1, 2), PathSet.of(PATHS[:5]), PathSet.of(PATHS))
    with pytest.raises(DataError, match="of 1003; run them all again"):
        check_complete(named(one, share(2, 2)))
