"""WebDataset tars: what belongs together, where it lies, and tars that are not whole."""

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.images.decoder_process import Job, unpack
from zeroshot_cli.pairs.read import Pairs, Source, read_pairs
from zeroshot_cli.pairs.shards import expand
from zeroshot_cli.train.data import ImageReader


def picture(colour: str, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, kind)
    return file.getvalue()


Members = dict[str, bytes]
MakeTar = Callable[..., Path]
RED, BLUE = picture("red"), picture("blue", "JPEG")
TWO: Members = {"0.png": RED, "0.txt": b" a red\n", "1.jpg": BLUE, "1.txt": "bleu foncé".encode()}


@pytest.fixture
def make_tar(tmp_path: Path) -> MakeTar:
    def make(members: Members, name: str = "shard-000.tar", form: int = tarfile.PAX_FORMAT) -> Path:
        with tarfile.open(tmp_path / name, "w", format=form, errors="surrogateescape") as tar:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return tmp_path / name

    return make


def rows(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.images, pairs.captions, strict=True))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_images_and_their_texts_are_found(make_tar: MakeTar, form: int) -> None:
    tar = make_tar({"deep/" + name: content for name, content in TWO.items()}, form=form)
    pairs = read_pairs([tar])
    assert rows(pairs) == [(f"{tar}/deep/0.png", "a red"), (f"{tar}/deep/1.jpg", "bleu foncé")]
    assert (pairs.empty_captions, pairs.missing_files, pairs.sources) == (0, 0, (Source(str(tar), 2),))
    table = tar.with_name("a.csv")
    table.write_text(f"image,label\n{tar.with_name('a.png')},cat\n")
    tar.with_name("a.png").write_bytes(RED)
    assert [source.texts for source in read_pairs([table, tar]).sources] == [{"cat": ("cat",)}, {}]  # no classes of it
    assert "--label-column label not used, for a tar has no columns" in read_pairs([tar], label_column="label").notes[0]
    for row, content in enumerate((RED, BLUE)):
        with pairs.open(row) as file:
            assert file.read() == content
    assert (
        np.asarray(unpack(ImageReader(pairs, Job(at_least=(4, 4))).read(0))).tolist()
        == np.full((8, 8, 3), (255, 0, 0)).tolist()
    )


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"{i:06d}", "png": RED, "txt": f"number {i}", "json": {"caption": "not this"}})
    pairs = read_pairs([tmp_path / "a.tar"])
    assert rows(pairs) == [(f"{tmp_path}/a.tar/{i:06d}.png", f"number {i}") for i in range(3)]
    ours = [(f"{i:06d}", pairs.open(i).read()) for i in range(3)]
    with (tmp_path / "a.tar").open("rb") as file:
        theirs = list(group_by_keys(tar_file_expander([{"url": "a.tar", "stream": file}])))
    assert ours == [(sample["__key__"], sample["png"]) for sample in theirs]


@pytest.mark.parametrize(
    ("members", "columns", "captions"),
    [
        ({"json": {"caption": "x", "label": "no"}}, {}, ["x"]),
        ({"json": {"url": "no", "captions": ["x ", None, "y"]}}, {}, ["x", "y"]),
        ({"json": {"caption": "no", "alt": "x"}}, {"caption_column": "alt"}, ["x"]),
        ({"json": {"caption": "x"}, "cls": "no"}, {"caption_column": "json"}, ["x"]),
        ({"txt": "no", "cls": "3"}, {"caption_column": "cls"}, ["3"]),
        ({"txt": "no", "alt.txt": "x"}, {"caption_column": "alt.txt"}, ["x"]),
        ({"TXT": "\ufeffx"}, {}, ["x"]),
        ({"txt": "x", "cls": "no", "json": {"caption": "no"}}, {}, ["x"]),
    ],
)
def test_captions_are_texts_or_in_json(
    make_tar: MakeTar, members: dict[str, object], columns: dict[str, str], captions: list[str]
) -> None:
    texts = {
        f"0.{ending}": (json.dumps(text) if ending == "json" else str(text)).encode()
        for ending, text in members.items()
    }
    pairs = read_pairs([make_tar({"0.png": RED, **texts, "1.txt": b"no", "1.seg.png": RED})], **columns)
    assert list(pairs.captions) == captions
    assert len(set(pairs.images)) == 1


def test_the_image_may_be_named_by_its_ending(make_tar: MakeTar) -> None:
    tar = make_tar({"0.jpg": BLUE, "0.mask.png": RED, "0.txt": b"x"})
    assert read_pairs([tar]).images == (f"{tar}/0.jpg",)
    assert read_pairs([tar], image_column="mask.PNG").images == (f"{tar}/0.mask.png",)


def test_what_lacks_is_counted_and_other_members_are_passed_over(make_tar: MakeTar) -> None:
    others = {"__index__": b"x", "__meta__/a.txt": b"x", "README": b"x", "._0.png": b"x"}
    lacking = {"2.txt": b"no image", "3.png": RED, "4.png": RED, "4.txt": b" \n"}
    tar = make_tar({**others, **TWO, **lacking})
    pairs = read_pairs([tar])
    assert pairs.captions == ("a red", "bleu foncé")
    assert (pairs.missing_files, pairs.first_missing, pairs.empty_captions) == (1, f"{tar}/2", 2)


def test_names_may_hold_any_bytes(make_tar: MakeTar) -> None:
    name = os.fsdecode(b"-\xff\n<img>")
    tar = make_tar({f"{name}.png": RED, f"{name}.txt": b"x", **TWO}, form=tarfile.GNU_FORMAT)
    pairs = read_pairs([tar])
    assert pairs.images[0] == f"{tar}/{name}.png"
    assert pairs.open(0).read() == RED


def test_the_ending_or_the_content_says_that_it_is_a_tar(make_tar: MakeTar) -> None:
    assert read_pairs([make_tar(TWO, "pairs")]).captions == ("a red", "bleu foncé")
    assert read_pairs([make_tar(TWO, "pairs.csv")]).captions == ("a red", "bleu foncé")


# Patterns ---------------------------------------------------------------------------------------------------


def test_a_pattern_is_one_source(make_tar: MakeTar, tmp_path: Path) -> None:
    for i in range(8, 12):
        make_tar({"0.png": RED, "0.txt": str(i).encode()}, f"s-{i:03d}.tar")
    pattern = f"{tmp_path}/s-{{008..011}}.tar"
    pairs = read_pairs([pattern], weights=[3])
    assert pairs.captions == ("8", "9", "10", "11")
    assert pairs.sources == (Source(pattern, 4, 3.0),)
    with pytest.raises(UsageError, match=r"s-012\.tar: no such file"):
        read_pairs([f"{tmp_path}/s-{{008..012}}.tar"])


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{009..010}.tar", ["a-009.tar", "a-010.tar"]),
        ("{a,b}/{x,y}.csv", ["a/x.csv", "a/y.csv", "b/x.csv", "b/y.csv"]),
        ("a.tar", ["a.tar"]),
        ("a::b.tar", ["a::b.tar"]),
    ],
)
def test_patterns_are_those_of_the_library(pattern: str, files: list[str]) -> None:
    assert expand(pattern) == files


def test_a_name_with_braces_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "{0..2}.tar").touch()
    assert expand(f"{tmp_path}/{{0..2}}.tar") == [f"{tmp_path}/{{0..2}}.tar"]


@pytest.mark.parametrize("pattern", ["a-{0..2.tar", "a-${NOT_SET_ANYWHERE}.tar"])
def test_a_pattern_that_is_none_is_a_wrong_option(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"write a pattern like shard-\{000\.\.099\}\.tar"):
        expand(pattern)


def test_the_library_is_an_extra(make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("webdataset", "webdataset.shardlists", "webdataset.tariterators"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in (str(make_tar(TWO)), "a-{0..2}.tar"):
        with pytest.raises(UsageError, match=r"pip install 'zeroshot-cli\[webdataset\]'"):
            read_pairs([name])


# What is wrong with tars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "columns", "words"),
    [
        ({}, {}, "holds no files"),
        ({"0.txt": b"x", "0.cls": b"3"}, {}, r"has no images \(jpg, .*\), only txt, cls; .*--image-column"),
        ({"0.png": RED}, {"image_column": "jpg"}, r"has no images \(jpg\), only png"),
        ({"0.png": RED, "0.cls": b"3"}, {}, r"has no captions .*only png, cls; .*--caption-column"),
        ({"0.png": RED, "table.csv": b"image,caption"}, {}, "unpack it and name its csv"),
        ({"0.png": RED, "0.json": b'{"x": 1}'}, {}, r"'caption' in json"),
        ({"0.png": RED, "0.json": b"{"}, {}, r"shard-000\.tar/0: its JSON cannot be read"),
        ({"0.png": RED, "0.json": b"[" * 100_000}, {}, r"0: its JSON cannot be read"),
        ({"0.png": RED, "0.json": b"[1]"}, {}, r"0: its JSON is not an object"),
        ({"0.png": RED, "0.json": b'{"caption": {"en": "x"}}'}, {}, r"0: the caption is .*expected"),
        ({"0.png": RED, "0.txt": b"\xe9"}, {}, r"0: byte 0xe9 is not UTF-8"),
        ({"0.png": RED, "0.txt": b"x\0"}, {}, r"0: NUL"),
        ({"0.png": RED, "0.PNG": RED, "0.txt": b"x"}, {}, r"0\.PNG occurs twice"),
    ],
)
def test_a_tar_without_pairs_is_explained(
    make_tar: MakeTar, members: Members, columns: dict[str, str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_pairs([make_tar(members)], **columns)


def test_a_member_that_comes_twice_is_explained(make_tar: MakeTar) -> None:
    tar = make_tar(TWO)
    with tarfile.open(tar, "a") as file:
        for name, content in TWO.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    with pytest.raises(DataError, match=r"0\.png occurs twice"):
        read_pairs([tar])


def test_every_cut_of_a_tar_is_noticed(make_tar: MakeTar) -> None:
    tar = make_tar(TWO)
    whole = tar.read_bytes()
    with tarfile.open(tar) as file:
        last = file.getmembers()[-1]
    end = last.offset_data + 512  # of the blocks of the last member
    for size in [*range(1, end + 512, 100), *range(0, end, 512)]:
        tar.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"shard-000\.tar (is|holds)"):
            read_pairs([tar])
    tar.write_bytes(whole[: end + 512])
    assert len(read_pairs([tar])) == 2


@pytest.mark.parametrize("damage", [b"\xff" * 512, b"no header" + bytes(503)])
def test_a_damaged_header_is_noticed(make_tar: MakeTar, damage: bytes) -> None:
    tar = make_tar(TWO)
    with tarfile.open(tar) as file:
        start = file.getmembers()[2].offset
    content = tar.read_bytes()
    tar.write_bytes(content[:start] + damage + content[start + 512 :])
    with pytest.raises(DataError, match="damaged at byte"):
        read_pairs([tar])


def test_a_tar_that_changes_later_costs_its_images(make_tar: MakeTar) -> None:
    tar = make_tar({**TWO, "2.png": b"", "2.txt": b"x"})
    pairs = read_pairs([tar])
    with pytest.raises(UnreadableImage, match="the file is empty"):
        pairs.open(2)
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(UnreadableImage, match="its tar is truncated"):
        pairs.open(1)
    tar.unlink()
    with pytest.raises(UnreadableImage, match="no such file"):
        pairs.open(0)


@pytest.mark.parametrize(
    "pattern",
    [
        "x-{0..99999999}.tar",
        "{0..999}{0..999}{0..9}.tar",
        "{-99999999..5}.tar",
        "x-{0..9" + "9" * 100 + "}.tar",
        "{a..z}{a..z}{a..z}{a..z}{a..z}.tar",
        "{a,b}" * 30 + ".tar",
        "a.tar::x-{0..99999999..2}.tar",
    ],
)
def test_more_shards_than_anybody_has(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"stands for more than 1,000,000 files; write a smaller range"):
        expand(pattern)


def test_many_shards() -> None:
    assert len(expand("x-{00000..99999}.tar")) == 100_000
    assert expand("{b,a}-{1..2}.tar") == ["b-1.tar", "b-2.tar", "a-1.tar", "a-2.tar"]


def test_braces_in_braces_without_end() -> None:
    with pytest.raises(UsageError, match=r"write a pattern like"):
        expand("{" * 5000 + "}" * 5000)
