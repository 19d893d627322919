"""Merging the embeddings of shards: equal to one run, and whatever is wrong with a shard is said first."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Row, Subject
from zeroshot_cli.embed.embeddings_read import read_embeddings_file
from zeroshot_cli.embed.merge import merge_embeddings
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.results.shards.shard import PathSet, Shard, Share

FORMS = ("parquet", "npz", "safetensors")
ABOUT = {"model": "tiny", "fingerprint": "f" * 64, "precision": "fp32", "batch_size": "8", "versions": '{"torch": "2"}'}
WIDTH = 5


def rows(count: int = 40, *, broken: bool = True) -> list[Row]:
    """Images in order of path, of odd names, some of them unreadable."""
    rng = np.random.default_rng(0)
    found: list[Row] = []
    for number in range(count):
        name = os.fsdecode([b"%d.png", b'"%d,\n.png', b"\xff%d\xe7.png", "%d 猫.png".encode()][number % 4] % number)
        embedding = rng.normal(size=WIDTH).astype(np.float32)
        unread = broken and number % 6 == 3
        found.append((name, None if unread else embedding, 'no "image"\n' if unread else None))
    return sorted(found, key=lambda row: row[0])


def write(path: Path, found: list[Row], *, width: int = WIDTH, **about: str) -> Path:
    with EmbeddingsFile(path, Subject.PATH, width=width, about={**ABOUT, **about}, overwrite=True) as file:
        file.write(found)
    return path


def shard(folder: Path, form: str, number: int, total: int, found: list[Row], **about: Any) -> Path:
    which = Shard(number, total)
    own = [row for row in found if which.has(row[0])]
    share = Share(which, PathSet.of(row[0] for row in own), PathSet.of(row[0] for row in found))
    kept = own[: about.pop("most", None)]
    return write(folder / f"{number}.{form}", kept, **{**share.settings(), **about})


def shards(folder: Path, form: str, found: list[Row], total: int = 3) -> list[Path]:
    return [shard(folder, form, number, total, found) for number in range(1, total + 1)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("broken", [True, False])
@pytest.mark.parametrize("total", [1, 3, 60])
def test_shards_merged_are_one_run(tmp_path: Path, form: str, broken: bool, total: int) -> None:
    found = rows(broken=broken)
    files = shards(tmp_path, form, found, total)
    merge_embeddings(files[::-1], tmp_path / f"merged.{form}")
    alone = write(tmp_path / f"alone.{form}", found)
    assert (tmp_path / f"merged.{form}").read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_images_in_another_order_are_sorted(tmp_path: Path, form: str) -> None:
    files = shards(tmp_path, form, rows()[::-1])
    merge_embeddings(files, tmp_path / f"merged.{form}")
    alone = write(tmp_path / f"alone.{form}", rows())
    assert (tmp_path / f"merged.{form}").read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_the_output_may_have_another_format(tmp_path: Path, form: str) -> None:
    found = rows()
    files = [shard(tmp_path, kind, number, 3, found) for number, kind in enumerate(FORMS, start=1)]
    file = merge_embeddings(files, tmp_path / f"merged.{form}")
    read = read_embeddings_file(tmp_path / f"merged.{form}", Subject.PATH)
    assert read.names == [name for name, _, reason in found if reason is None]
    np.testing.assert_array_equal(read.embeddings.numpy(), [row for _, row, _ in found if row is not None])
    assert (file.readable, file.unreadable) == (33, 7)
    assert "shard" not in read.about
    assert read.about["model"] == "tiny"


@pytest.mark.parametrize("form", FORMS)
def test_no_image_at_all(tmp_path: Path, form: str) -> None:
    merge_embeddings(shards(tmp_path, form, []), tmp_path / f"merged.{form}")
    alone = write(tmp_path / f"alone.{form}", [])
    assert (tmp_path / f"merged.{form}").read_bytes() == alone.read_bytes()


def refused(files: list[Path], message: str, error: type[Exception]) -> None:
    """Merging fails with this message, and nothing is written."""
    before = sorted(files[0].parent.iterdir())
    with pytest.raises(error, match=message):
        merge_embeddings(files, files[0].with_name(f"merged{files[0].suffix}"))
    assert sorted(files[0].parent.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_what_is_refused(tmp_path: Path, form: str) -> None:
    found = rows()
    files = shards(tmp_path, form, found)
    refused(files[:2], "shard 3/3 is missing", UsageError)
    refused([*files, files[0]], "are both shard 1/3", UsageError)
    shard(tmp_path, form, 2, 3, found, fingerprint="e" * 64)
    refused(files, rf"2\.{form}, shard 2/3, was made otherwise than .*1\.{form}: fingerprint is e+…", UsageError)
    shard(tmp_path, form, 2, 3, found[1:])
    refused(files, rf"2\.{form}, shard 2/3, is of other inputs than .*: 39 images, not 40 images", DataError)
    shard(tmp_path, form, 2, 3, found, most=5)
    refused(files, rf"2\.{form}, shard 2/3, has 5 whole images, and its run wrote \d+", DataError)
    wide: list[Row] = [(name, None if row is None else np.append(row, row[:1]), reason) for name, row, reason in found]
    shard(tmp_path, form, 2, 3, wide, width=WIDTH + 1)
    refused(files, r"width is 6, not 5", UsageError)
    write(files[1], found)
    refused(files, rf"2\.{form} is not a shard: its run had no --shard I/N", UsageError)
    shard(tmp_path, form, 2, 3, found, shard="7/3")
    refused(files, rf"2\.{form} is damaged or holds no embeddings .*'7/3' is not a shard", DataError)
    files[1].unlink()
    refused(files, rf"2\.{form}: no such file", UsageError)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 7, 100, -1, -500])
def test_a_file_that_was_cut(tmp_path: Path, form: str, size: int) -> None:
    files = shards(tmp_path, form, rows())
    files[1].write_bytes(files[1].read_bytes()[:size])
    refused(files, rf"2\.{form} is damaged or holds no embeddings", DataError)


def test_other_versions_are_no_other_settings(tmp_path: Path) -> None:
    files = shards(tmp_path, "npz", rows())
    shard(tmp_path, "npz", 2, 3, rows(), versions='{"torch": "3"}')
    assert merge_embeddings(files, tmp_path / "merged.npz").readable == 33
