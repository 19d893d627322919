"""WebDataset shards at addresses: copied once, continued where they were cut, named where they do not come."""

import json
from pathlib import Path

import pytest
from faulty_web import Web, shard

from zeroshot_cli.cli import app as entry
from zeroshot_cli.disk import cache_folder
from zeroshot_cli.errors import DataError, UnavailableError, UnreadableImage
from zeroshot_cli.pairs.read import Pairs, read_pairs
from zeroshot_cli.remote import copies, fetch
from zeroshot_cli.remote.copies import copy_of


@pytest.fixture(autouse=True)
def _pieces(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_PIECE", 4096)
    for number in range(3):
        web.files[f"shard-{number:03}.tar"] = shard(4 * number)


def contents(pairs: Pairs) -> list[tuple[str, bytes]]:
    found = []
    for row, caption in enumerate(pairs.captions):
        with pairs.open(row) as file:
            found.append((caption, file.read()))
    return found


@pytest.mark.parametrize("fault", ["parts", "partscut", "chunked", "later"])
def test_shards_there_are_those_on_disk(web: Web, tmp_path: Path, fault: str) -> None:
    for name, body in web.files.items():
        (tmp_path / name).write_bytes(body)
    disk = read_pairs([str(tmp_path / "shard-{000..002}.tar")])
    there = read_pairs([web.at(fault + "/shard-{000..002}.tar")])
    assert contents(there) == contents(disk)
    assert [caption for caption, _ in contents(there)] == [f"image {number}" for number in range(12)]
    assert there.images[5] == web.at(f"{fault}/shard-001.tar/005.png")
    assert there.fingerprint() == disk.fingerprint()  # so that a run may move


def test_a_shard_is_copied_once_and_anew_when_it_changes(web: Web) -> None:
    address = web.at("parts/shard-000.tar")
    first = copy_of(address)
    asked = web.asked["parts/shard-000.tar"]
    assert copy_of(address) == first
    assert web.asked["parts/shard-000.tar"] == asked + 1  # whether it is the same still
    web.files["shard-000.tar"] = shard(100)
    assert copy_of(address).read_bytes() == shard(100)


def test_a_copy_that_was_cut_is_continued(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    address, body = web.at("parts/shard-000.tar"), web.files["shard-000.tar"]
    pieces = -(-len(body) // 4096)
    real, firsts = fetch.fetch_piece, list[int]()

    def cut(name: str, first: int, most: int) -> fetch.Piece:
        if len(firsts) == 3:
            raise KeyboardInterrupt
        firsts.append(first)
        return real(name, first, most)

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "fetch_piece", cut)
        with pytest.raises(KeyboardInterrupt):
            copy_of(address)
    assert firsts == [0, 0, 4096]
    web.asked.clear()
    assert copy_of(address).read_bytes() == body
    assert web.asked["parts/shard-000.tar"] == 1 + pieces - 2


def test_a_copy_that_is_whole_but_has_not_its_name_yet_is_taken(web: Web) -> None:
    address, body = web.at("parts/shard-000.tar"), web.files["shard-000.tar"]
    copy = copy_of(address)
    copy.rename(copy.with_name("copy.tar.partial"))
    web.asked.clear()
    assert copy_of(address).read_bytes() == body
    assert web.asked["parts/shard-000.tar"] == 2


def test_a_damaged_note_costs_a_copy(web: Web) -> None:
    address = web.at("parts/shard-000.tar")
    copy = copy_of(address)
    for text in ("{", "[]", '{"version": 7}', ""):
        copy.with_name("version.json").write_text(text)
        copy.write_bytes(b"old")
        assert copy_of(address).read_bytes() == web.files["shard-000.tar"], text


@pytest.mark.parametrize(("fault", "reason"), [("404", "404 not found"), ("cut", "the connection was cut")])
def test_a_shard_that_does_not_come_is_named_and_left_out(web: Web, fault: str, reason: str) -> None:
    web.redirects["parts/shard-001.tar"] = f"/{fault}/shard-001.tar"
    pairs = read_pairs([web.at("parts/shard-{000..002}.tar")])
    assert len(pairs) == 8
    address = web.at("parts/shard-001.tar")
    assert [(item.path, item.reason) for item in pairs.skipped] == [(address, f"{reason}; check the address")]
    with pytest.raises(DataError, match=f"{address}: {reason}; check the address"):
        read_pairs([address])


def test_a_host_that_is_gone_ends_the_run(web: Web) -> None:
    """Good shards are not left out because a network was down."""
    web.close()
    with pytest.raises(UnavailableError, match="cannot be reached: the connection was refused"):
        read_pairs([web.at("parts/shard-{000..002}.tar")])


def test_no_copy_and_no_name_has_a_secret(web: Web) -> None:
    pairs = read_pairs([web.at("parts/shard-000.tar?sig=hunter2").replace("://", "://me:hunter2@")])
    assert len(pairs) == 4
    assert "hunter2" not in repr(pairs)
    for path in (cache_folder() / copies.FOLDER).rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


def test_a_shard_that_is_written_anew_meanwhile_is_not_mixed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fetch.fetch_piece

    def changing(name: str, first: int, most: int) -> fetch.Piece:
        web.files["shard-000.tar"] = shard(first)
        return real(name, first, most)

    monkeypatch.setattr(fetch, "fetch_piece", changing)
    with pytest.raises(UnreadableImage, match="it was written anew while it was read; try again"):
        copy_of(web.at("parts/shard-000.tar"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_trains_on_them_and_ends_with_4_where_one_is_missing(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        json.dumps(
            {
                "embed_dim": 8,
                "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
                "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 16, "vocab_size": 600},
            }
        )
    )
    options = [
        "--model",
        "c.yaml",
        "--epochs",
        "1",
        "--batch-size",
        "4",
        "--workers",
        "1",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert entry.run(["train", "--data", web.at("parts/shard-{000..002}.tar"), *options, "-o", "whole"]) == 0
    assert entry.run(["train", "--data", web.at("parts/shard-{000..003}.tar"), *options, "-o", "lacking"]) == 4
    assert "shard-003.tar,404 not found" in Path("lacking/skipped.csv").read_text()
    web.asked.clear()
    assert entry.run(["train", "--resume", "-o", "whole", "--epochs", "2", "--workers", "1"]) == 0
    assert set(web.asked.values()) == {1}  # whether each is the same still
