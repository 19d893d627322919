"""Data sets with a name, the whole way: downloaded from a hub on loopback, checked, unpacked, read."""

import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from zeroshot_cli.cli.app import app
from zeroshot_cli.datasets import known as module
from zeroshot_cli.datasets import registry, wds
from zeroshot_cli.datasets.captioned import CaptionedImages
from zeroshot_cli.datasets.known import open_known
from zeroshot_cli.datasets.labelled import LabelledImages
from zeroshot_cli.datasets.registry import Archive, KnownSet, find_known
from zeroshot_cli.errors import DataError, UnavailableError, UsageError
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import read_prompts

TOP, FILE, REPO = (
    "imagenetv2-matched-frequency-format-val",
    "imagenetv2-matched-frequency.tar.gz",
    "vaishaal/ImageNetV2",
)


def image_bytes(number: int, form: str = "jpeg") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(file, form)
    return file.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@dataclass
class Opened:
    """`open_known` with what it said."""

    data_dir: Path
    said: list[str] = field(default_factory=list)

    def __call__(self, known: KnownSet, *, offline: bool = False) -> Any:
        self.said.clear()
        return open_known(known, data_dir=self.data_dir, offline=offline, say=self.said.append)

    def files(self) -> list[str]:
        paths = (path.relative_to(self.data_dir) for path in self.data_dir.rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if path.parts[0] != ".locks")


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path / "data")


def named(name: str) -> KnownSet:
    found = find_known(name)
    assert found is not None
    return found


# ImageNet-V2's layout


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A thousand numbered folders, an image in each, in the order in which tar would find them."""
    numbers = sorted(range(1000), key=str)
    return tar_of({f"{TOP}/{number}/{number:04d}.jpeg": image_bytes(number) for number in numbers})


@pytest.fixture
def v2(hub: Any, archive: bytes) -> KnownSet:
    """ImageNet-V2, but for size and hash, which are those of the archive on loopback."""
    hub.repos[REPO] = {FILE: archive}
    known = named("imagenet-v2")
    assert isinstance(known.source, Archive)
    hub.revisions.add(known.source.revision)
    source = replace(known.source, bytes=len(archive), sha256=hashlib.sha256(archive).hexdigest())
    return replace(known, source=source)


def check_v2(found: LabelledImages) -> None:
    assert len(found) == 1000
    assert found.labels == read_labels("imagenet")
    for item, target in zip(found.items, found.targets, strict=True):
        assert isinstance(item, str)
        assert Path(item).stem == f"{target:04d}"
    assert (found.name, found.known, found.prompts, found.as_stored) == (
        "imagenet-v2",
        "imagenet-v2",
        "imagenet-80",
        True,
    )
    assert found.notes == ()


def test_imagenet_v2_comes_once(opened: Opened, v2: KnownSet, hub: Any) -> None:
    check_v2(opened(v2))
    assert hub.data_requests() == [(f"/datasets/{REPO}/resolve/d626240be2538720e83103a0e1178d24aca8b12c/{FILE}", None)]
    first = opened.said[0]
    assert re.fullmatch(
        rf"downloading ImageNet-V2, matched frequency \(\d\.\d MB; licence: MIT\) "
        rf"from {hub.endpoint}/datasets/{REPO} to {opened.data_dir}",
        first,
    )
    assert json.loads((opened.data_dir / "imagenet-v2" / "zeroshot.json").read_text())["images"] == 1000
    assert len(opened.files()) == 1001

    check_v2(opened(v2, offline=True))
    assert opened.said == []
    assert len(hub.data_requests()) == 1


def test_a_download_that_was_cut_goes_on(opened: Opened, v2: KnownSet, hub: Any) -> None:
    hub.cut_after, hub.cuts = 400_000, 2
    check_v2(opened(v2))
    assert [ranged for _, ranged in hub.data_requests()] == [None, "bytes=400000-", "bytes=800000-"]


def test_a_run_that_was_killed_is_continued_by_the_next(opened: Opened, v2: KnownSet, hub: Any, archive: bytes) -> None:
    incoming = opened.data_dir / ".incoming" / "imagenet-v2" / f"{FILE}.incomplete"
    incoming.parent.mkdir(parents=True)
    incoming.write_bytes(archive[:500_000])
    unpacking = opened.data_dir / ".unpacking" / "imagenet-v2" / TOP / "0"
    unpacking.mkdir(parents=True)
    (unpacking / "another.jpeg").write_bytes(b"half")
    check_v2(opened(v2))
    assert [ranged for _, ranged in hub.data_requests()] == ["bytes=500000-"]
    assert ", 500 kB of it here already" in opened.said[0]
    assert len(opened.files()) == 1001


def test_another_files_beginning_is_thrown_away(opened: Opened, v2: KnownSet, hub: Any, archive: bytes) -> None:
    incoming = opened.data_dir / ".incoming" / "imagenet-v2" / f"{FILE}.incomplete"
    incoming.parent.mkdir(parents=True)
    incoming.write_bytes(b"another" * 1000)
    check_v2(opened(v2))
    assert [ranged for _, ranged in hub.data_requests()] == ["bytes=7000-", None]


def test_one_wrong_byte_is_refused(opened: Opened, v2: KnownSet, hub: Any, archive: bytes) -> None:
    wrong = bytearray(archive)
    wrong[len(wrong) // 2] ^= 1
    hub.sent[FILE] = bytes(wrong)
    with pytest.raises(UnavailableError, match=r"sent another imagenetv2-matched-frequency.tar.gz .*was not kept"):
        opened(v2)
    assert opened.files() == []
    hub.sent.clear()
    check_v2(opened(v2))


def test_an_archive_with_a_path_out_is_not_unpacked(opened: Opened, v2: KnownSet, hub: Any) -> None:
    evil = tar_of({f"{TOP}/0/a.jpeg": image_bytes(0), "../../evil": b"evil"})
    hub.repos[REPO][FILE] = evil
    source = replace(v2.source, bytes=len(evil), sha256=hashlib.sha256(evil).hexdigest())  # type: ignore[type-var]
    with pytest.raises(DataError, match=r"leads out of it"):
        opened(replace(v2, source=source))
    assert not list(opened.data_dir.parent.rglob("evil"))
    assert not (opened.data_dir / "imagenet-v2").exists()


def test_offline_says_what_to_do(opened: Opened, v2: KnownSet, hub: Any) -> None:
    with pytest.raises(UnavailableError, match=r"downloads are off: fetch http://.*gz by other means and put it into"):
        opened(v2, offline=True)
    assert hub.data_requests() == []


def test_an_archive_that_was_brought(opened: Opened, v2: KnownSet, hub: Any, archive: bytes) -> None:
    opened.data_dir.mkdir()
    brought = opened.data_dir / FILE
    brought.write_bytes(archive[:-1] + b"x")
    with pytest.raises(DataError, match=r"is not ImageNet-V2, matched frequency as published"):
        opened(v2, offline=True)
    brought.write_bytes(archive)
    check_v2(opened(v2, offline=True))
    assert brought.is_file()
    assert hub.data_requests() == []


def test_a_folder_that_was_brought_must_be_whole(opened: Opened, v2: KnownSet, hub: Any, archive: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(opened.data_dir, filter="data")
    with pytest.raises(DataError, match=r"has 1,000 images where ImageNet-V2, matched frequency has 10,000"):
        opened(v2)
    check_v2(opened(replace(v2, images=1000)))
    assert hub.data_requests() == []


def test_images_that_were_removed_are_missed(opened: Opened, v2: KnownSet) -> None:
    opened(v2)
    (opened.data_dir / "imagenet-v2" / TOP / "7" / "0007.jpeg").unlink()
    with pytest.raises(DataError, match=r"has 999 images where .* has 1,000; remove the folder"):
        opened(v2)


def test_a_folder_of_the_users_is_left_alone(opened: Opened, v2: KnownSet) -> None:
    mine = opened.data_dir / "imagenet-v2" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"exists, but zeroshot did not make it from imagenet-v2"):
        opened(v2)
    assert mine.is_dir()


def test_another_set_of_the_same_folder(opened: Opened, v2: KnownSet) -> None:
    opened(v2)
    with pytest.raises(UsageError, match=r"did not make it from wds/imagenet-v2"):
        opened(replace(v2, name="wds/imagenet-v2", source=registry.Shards("clip-benchmark/wds_imagenet-v2")))


@pytest.mark.slow
def test_the_command_goes_the_whole_way(
    opened: Opened, v2: KnownSet, hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.cut_after, hub.cuts = 600_000, 1
    monkeypatch.setattr(registry, "_by_name", lambda: {"imagenet-v2": v2})
    output = tmp_path / "figures.json"
    arguments = ["eval", "imagenet-v2", "--model", "tiny", "--prompts", "plain", "--data-dir", str(opened.data_dir)]
    result = CliRunner().invoke(app, [*arguments, "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "downloading ImageNet-V2, matched frequency" in result.stderr
    figures = json.loads(output.read_text())
    assert (figures["dataset"], figures["n"], len(figures["per_class"])) == ("imagenet-v2", 1000, 1000)
    assert "stored" in figures["decoding"]
    assert len(hub.data_requests()) == 2


def test_no_room(opened: Opened, v2: KnownSet, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    with pytest.raises(UsageError, match=r"do not fit into"):
        opened(v2)
    assert hub.data_requests() == []


def test_a_disk_that_fills_up(opened: Opened, v2: KnownSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "unpack", full)
    with pytest.raises(UsageError, match=r"the disk of .* is full; give --data-dir a folder with more space"):
        opened(v2)
    assert not (opened.data_dir / "imagenet-v2").exists()
    assert not list((opened.data_dir / ".unpacking").iterdir())


def test_a_data_dir_that_is_a_file(opened: Opened, v2: KnownSet) -> None:
    opened.data_dir.write_text("")
    with pytest.raises(UsageError, match=r"cannot use .*data"):
        opened(v2)


@pytest.mark.parametrize(
    ("status", "gated", "message"),
    [(503, False, r"cannot serve .* \(status 503\): try again later"), (403, True, "is gated: accept its terms")],
)
def test_a_hub_that_refuses(opened: Opened, v2: KnownSet, hub: Any, status: int, gated: bool, message: str) -> None:
    hub.refuse[REPO] = (status, "GatedRepo" if gated else "")
    with pytest.raises(UnavailableError, match=message):
        opened(v2)


def test_no_hub(opened: Opened, v2: KnownSet, hub_at: Callable[[str], None]) -> None:
    hub_at("http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"cannot download .*: try again, or fetch http"):
        opened(v2)


def test_two_at_once_download_once(opened: Opened, v2: KnownSet, hub: Any) -> None:
    found: list[Any] = []
    say = Opened(opened.data_dir)
    threads = [threading.Thread(target=lambda: found.append(say(v2))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each) for each in found] == [1000, 1000]
    assert len(hub.data_requests()) == 1


# CLIP_benchmark's shards

EUROSAT = [  # the order of its own list, which is not that of CLIP's authors
    "annual crop land",
    "forest",
    "brushland or shrubland",
    "highway or road",
    "industrial buildings or commercial buildings",
    "pasture land",
    "permanent crop land",
    "residential buildings or homes or apartments",
    "river",
    "lake or sea",
]


def shards(samples: list[dict[str, bytes]], count: int, **texts: str) -> dict[str, bytes]:
    """A repository of samples, each a mapping of extension to content, in that many tars."""
    repo = {"README.md": b"# set", "train/0.tar": b"not for us", "test/nshards.txt": f"{count}\n".encode()}
    for number in range(count):
        mine = {
            f"s{index:07d}.{extension}": content
            for index, sample in enumerate(samples)
            if index % count == number
            for extension, content in sample.items()
        }
        repo[f"test/{number}.tar"] = tar_of(mine)
    return repo | {f"{name}.txt": text.encode() for name, text in texts.items()}


def labelled(classes: list[int]) -> list[dict[str, bytes]]:
    return [{"cls": str(c).encode(), "webp": image_bytes(c, "webp")} for c in classes]


@pytest.fixture
def eurosat(hub: Any) -> dict[str, bytes]:
    repo = shards(
        labelled([3, 0, 9, 9, 1]),
        2,
        classnames="\n".join(EUROSAT) + "\n",
        zeroshot_classification_templates="a photo of {c}.\n{c}\n",
    )
    hub.repos["clip-benchmark/wds_vtab-eurosat"] = repo
    return repo


def truths(found: LabelledImages) -> list[str]:
    return [found.labels.names[target] for target in found.targets]


def test_a_webdataset_copy(opened: Opened, eurosat: dict[str, bytes], hub: Any) -> None:
    found = opened(named("eurosat"))
    assert truths(found) == ["annual crop land", "forest", "highway or road", "lake or sea", "lake or sea"]
    assert found.labels.names == tuple(EUROSAT)
    assert set(found.labels.names) == set(read_labels("eurosat").names)
    assert found.labels.names != read_labels("eurosat").names
    assert (found.name, found.known, found.prompts, found.as_stored) == ("eurosat", "eurosat", "eurosat", True)
    # The first tar has the samples 0, 2 and 4, the second 1 and 3; files are numbered as they come.
    assert [Path(str(item)).name for item in found.items] == [f"000000{n}.webp" for n in (3, 2, 0, 1, 4)]
    asked = {path.rpartition("/")[2] for path, _ in hub.data_requests()}
    assert "README.md" not in asked
    assert not any("train" in path for path, _ in hub.data_requests())
    assert all("c0ffee" in path for path, _ in hub.data_requests()[1:])  # the files of one commit

    count = len(hub.data_requests())
    assert truths(opened(named("eurosat"), offline=True)) == truths(found)
    assert len(hub.data_requests()) == count


def test_pixels_and_classes_stay_together(opened: Opened, eurosat: dict[str, bytes]) -> None:
    found = opened(named("eurosat"))
    expected = {image_bytes(c, "webp"): c for c in (3, 0, 9, 1)}
    for item, target in zip(found.items, found.targets, strict=True):
        assert expected[Path(str(item)).read_bytes()] == target


def test_the_same_copy_with_its_own_names_and_templates(opened: Opened, eurosat: dict[str, bytes]) -> None:
    opened(named("eurosat"))
    found = opened(named("wds/vtab/eurosat"), offline=True)
    assert found.labels.names == tuple(EUROSAT)
    assert found.name == "wds/vtab/eurosat"
    assert found.prompts is not None
    assert read_prompts(found.prompts).templates == ("a photo of {}.", "{}")


def test_names_that_are_not_all_of_clips_are_the_sets_own(opened: Opened, hub: Any) -> None:
    names = ["negative", "positively good"]
    hub.repos["clip-benchmark/wds_renderedsst2"] = shards(labelled([0, 1]), 1, classnames="\n".join(names))
    found = opened(replace(named("sst2"), images=None))
    assert found.labels.names == tuple(names)
    assert truths(found) == names


def test_class_names_that_are_numbers(opened: Opened, hub: Any) -> None:
    names = [str(digit) for digit in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]  # class 0 is called 9
    hub.repos["clip-benchmark/wds_mnist"] = shards(labelled([0, 9, 2]), 1, classnames="\n".join(names))
    assert truths(opened(named("mnist"))) == ["9", "7", "0"]


def test_a_class_without_images_and_one_name_twice(opened: Opened, hub: Any) -> None:
    hub.repos["clip-benchmark/wds_own"] = shards(labelled([2, 2]), 1, classnames="missile\ncrane\nmissile\n")
    found = opened(named("wds/own"))
    assert found.labels.names == ("missile", "crane", "missile")
    assert found.targets == (2, 2)
    assert found.prompts is None


def test_captions(opened: Opened, hub: Any) -> None:
    samples = [
        {"jpg": image_bytes(1), "txt": b"a cat\na black cat"},
        {"jpg": image_bytes(2), "txt": "ein Hündchen".encode()},
    ]
    hub.repos["clip-benchmark/wds_flickr8k"] = shards(samples, 1, dataset_type="retrieval")
    found = opened(named("wds/flickr8k"))
    assert isinstance(found, CaptionedImages)
    assert found.texts == ("a cat", "a black cat", "ein Hündchen")
    assert found.pairs == ((0, 0), (0, 1), (1, 2))
    assert (found.name, found.known, found.as_stored) == ("wds/flickr8k", "wds/flickr8k", True)
    assert [Path(str(item)).read_bytes() for item in found.items] == [image_bytes(1), image_bytes(2)]


def test_a_shard_with_a_wrong_byte(opened: Opened, eurosat: dict[str, bytes], hub: Any) -> None:
    hub.sent["test/1.tar"] = eurosat["test/1.tar"][:-1] + b"x"
    with pytest.raises(UnavailableError, match=r"sent another test/1.tar"):
        opened(named("eurosat"))
    assert not (opened.data_dir / "vtab-eurosat").exists()
    hub.sent.clear()
    asked = len(hub.data_requests())
    assert len(opened(named("eurosat"))) == 5
    assert [path.rpartition("/")[2] for path, _ in hub.data_requests()[asked + 1 :]] == ["1.tar"]  # the rest was here


def test_what_came_of_another_commit_is_thrown_away(opened: Opened, eurosat: dict[str, bytes]) -> None:
    incoming = opened.data_dir / ".incoming" / "vtab-eurosat"
    incoming.mkdir(parents=True)
    (incoming / "commit").write_text("another")
    (incoming / "classnames.txt").write_text("wrong\n" * 10)
    assert opened(named("eurosat")).labels.names == tuple(EUROSAT)


def test_a_copy_that_was_brought(opened: Opened, eurosat: dict[str, bytes], hub: Any) -> None:
    brought = opened.data_dir / "wds_vtab-eurosat"
    for name, content in eurosat.items():
        (brought / name).parent.mkdir(parents=True, exist_ok=True)
        (brought / name).write_bytes(content)
    assert len(opened(named("eurosat"), offline=True)) == 5
    assert hub.data_requests() == []
    assert brought.is_dir()


def test_a_repository_that_is_not_there(opened: Opened, hub: Any) -> None:
    with pytest.raises(UnavailableError, match=r"has no data set clip-benchmark/wds_nothing"):
        opened(named("wds/nothing"))


def test_a_repository_of_another_kind(opened: Opened, hub: Any) -> None:
    hub.repos["clip-benchmark/wds_other"] = {"data.parquet": b"x"}
    with pytest.raises(UnavailableError, match=r"no test/nshards.txt"):
        opened(named("wds/other"))


def test_offline_says_how_to_bring_a_copy(opened: Opened, hub: Any) -> None:
    with pytest.raises(UnavailableError, match=r"run hf download clip-benchmark/wds_vtab-dtd --repo-type dataset"):
        opened(named("dtd"), offline=True)
    assert hub.data_requests() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classnames.txt": b""}, "so the classes have no names"),
        ({"classnames.txt": b"a\n\nb\n"}, "line 2: is blank"),
        ({"classnames.txt": b"\xff"}, "is not UTF-8"),
        ({"classnames.txt": b"a\nb\n"}, "its class is '3'; expected a number below 2"),
        ({"dataset_type.txt": b"multilabel\n"}, "the type 'multilabel' cannot be evaluated"),
        ({"test/nshards.txt": b"3"}, "2.tar: is missing, though test/nshards.txt says 3"),
        ({"test/nshards.txt": b"many"}, "holds 'many' instead of the number of shards"),
        ({"test/0.tar": b"no tar" * 200}, "0.tar: is damaged or not a tar"),
        ({"test/0.tar": tar_of({"a.cls": b"0"})}, "0.tar/a: has no image beside cls"),
        ({"test/0.tar": tar_of({"a.webp": b"x"})}, "its class is none"),
        ({"test/0.tar": tar_of({"a.webp": b"x", "a.cls": b"-1"})}, "its class is '-1'"),
        ({"test/0.tar": tar_of({"a.webp": b"x", "a.webp ": b"x", "a.WEBP": b"x"})}, "appears twice"),
    ],
)
def test_shards_that_are_wrong(
    opened: Opened, eurosat: dict[str, bytes], change: dict[str, bytes], message: str
) -> None:
    eurosat.update(change)
    with pytest.raises(DataError, match=re.escape(message)):
        opened(named("eurosat"))
    assert not (opened.data_dir / "vtab-eurosat").exists()


def test_names_in_shards_are_never_paths(tmp_path: Path) -> None:
    raw, into = tmp_path / "raw", tmp_path / "into"
    (raw / "test").mkdir(parents=True)
    into.mkdir()
    (raw / "test" / "nshards.txt").write_text("1")
    (raw / "classnames.txt").write_text("a\n")
    evil = {"../../evil.webp": b"x", "../../evil.cls": b"0", "/tmp/evil.webp": b"y", "/tmp/evil.cls": b"0"}
    (raw / "test" / "0.tar").write_bytes(tar_of(evil))
    assert wds.convert(raw, into, templates_name="t.txt").images == 2
    assert sorted(str(path.relative_to(into)) for path in into.rglob("*.webp")) == [
        "images/0/0000000.webp",
        "images/0/0000001.webp",
    ]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_link_in_a_shard(tmp_path: Path, kind: bytes) -> None:
    raw, into = tmp_path / "raw", tmp_path / "into"
    (raw / "test").mkdir(parents=True)
    into.mkdir()
    (raw / "test" / "nshards.txt").write_text("1")
    (raw / "classnames.txt").write_text("a\n")
    with tarfile.open(raw / "test" / "0.tar", "w") as tar:
        info = tarfile.TarInfo("a.webp")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match=r"'a.webp' is not a regular file"):
        wds.convert(raw, into, templates_name="t.txt")


# What cannot be fetched


def test_what_nobody_has(opened: Opened) -> None:
    with pytest.raises(UnavailableError, match=r"zeroshot eval FOLDER --labels birdsnap --prompts birdsnap"):
        opened(named("birdsnap"))


def test_imagenet_is_the_users_own(opened: Opened, draw_angle: Callable[[Path, int], Path]) -> None:
    draw_angle(opened.data_dir / "val" / "n01440764" / "a.png", 10)
    found = opened(named("imagenet"))
    assert (found.known, found.targets, found.labels.names[0]) == ("imagenet", (0,), "tench")
    with pytest.raises(UnavailableError, match=r"imagenet cannot be fetched; give --data-dir the folder"):
        open_known(named("imagenet"), data_dir=None, offline=False, say=print)


def test_the_folder_of_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("ZEROSHOT_DATA_DIR", raising=False)
    assert module.data_folder() == tmp_path / "datasets"
    monkeypatch.setenv("ZEROSHOT_DATA_DIR", str(tmp_path / "sets"))
    assert module.data_folder() == tmp_path / "sets"
