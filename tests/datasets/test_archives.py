"""Archives that lie: nothing of them is believed."""

import gzip
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from zeroshot_cli.datasets import archives
from zeroshot_cli.datasets.archives import need_room, unpack
from zeroshot_cli.errors import DataError, UsageError


def member(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """`pack(members…)` writes a tar."""

    def write(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
        with tarfile.open(tmp_path / "set.tar", mode) as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        return tmp_path / "set.tar"

    return write


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "into"
    folder.mkdir(parents=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_honest_archive_is_unpacked(pack: Callable[..., Path], into: Path, mode: str) -> None:
    folders = member("top", b"", type=tarfile.DIRTYPE, mode=0), member("top/0", b"", type=tarfile.DIRTYPE)
    archive = pack(*folders, member("top/0/a.jpg", b"A", mode=0o4777), member("./top/10/\udce9.jpg", b"B"), mode=mode)
    assert unpack(archive, into, top="top") == 2
    assert files(into) == {"top/0/a.jpg": b"A", "top/10/\udce9.jpg": b"B"}
    assert (into / "top/0/a.jpg").stat().st_mode & 0o7000 == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../evil"), r"'\.\./evil' leads out of it"),
        (member("top/0/../../../evil"), "leads out of it"),
        (member("/evil"), "'/evil' leads out of it"),
        (member("top/0/link", b"", type=tarfile.SYMTYPE, linkname="../../../evil"), "is a link"),
        (member("top/0/link", b"", type=tarfile.SYMTYPE, linkname="a.jpg"), "is a link"),
        (member("top/0/hard", b"", type=tarfile.LNKTYPE, linkname="../../evil"), "is a link"),
        (member("top/0/hard", b"", type=tarfile.LNKTYPE, linkname="top/0/a.jpg"), "is a link"),
        (member("top/0/null", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "is a device"),
        (member("top/0/pipe", b"", type=tarfile.FIFOTYPE), "is a device"),
        (member("other/0/a.jpg"), "holds 'other' where 'top' is expected"),
        (member("readme.txt"), "holds 'readme.txt' where 'top' is expected"),
        (member("top/0/a.jpg"), "appears twice"),
    ],
)
def test_an_archive_that_lies_is_refused(
    pack: Callable[..., Path], into: Path, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], message: str
) -> None:
    archive = pack(member("top/0/a.jpg"), bad)
    with pytest.raises(DataError, match=message):
        unpack(archive, into, top="top")
    assert set(files(tmp_path)) == {"set.tar", "inside/into/top/0/a.jpg"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_link_cannot_prepare_the_way_out(pack: Callable[..., Path], into: Path, tmp_path: Path) -> None:
    way = member("top/0", b"", type=tarfile.SYMTYPE, linkname=str(tmp_path))
    with pytest.raises(DataError, match=r"'top/0' is a link"):
        unpack(pack(way, member("top/0/evil")), into, top="top")
    assert set(files(tmp_path)) == {"set.tar"}


def test_a_bomb_is_stopped_before_it_is_written(into: Path, tmp_path: Path) -> None:
    info = tarfile.TarInfo("top/0/zeros.jpg")
    info.size = 300_000_000
    archive = tmp_path / "set.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
    with pytest.raises(DataError, match=r"unpacks to more than 64 MB"):
        unpack(archive, into, top="top")
    assert files(into) == {}


def test_too_many_files(pack: Callable[..., Path], into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_FILES", 2)
    with pytest.raises(DataError, match=r"2 files"):
        unpack(pack(*(member(f"top/0/{i}.jpg") for i in range(3))), into, top="top")


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, gzip.compress(b"x" * 100, mtime=0)])
def test_what_is_no_archive(tmp_path: Path, into: Path, content: bytes) -> None:
    (tmp_path / "set.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or not a tar|holds no file"):
        unpack(tmp_path / "set.tar", into, top="top")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_that_was_cut(pack: Callable[..., Path], into: Path, mode: str) -> None:
    archive = pack(member("top/0/a.jpg", bytes(range(256)) * 100), mode=mode)
    archive.write_bytes(archive.read_bytes()[: 700 if mode == "w" else 100])
    with pytest.raises(DataError, match=r"is damaged"):
        unpack(archive, into, top="top")


def test_a_full_disk_is_seen_before_it_is_full(
    pack: Callable[..., Path], into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UsageError, match=r"do not fit into .*; give --data-dir a folder with more space"):
        unpack(pack(member("top/0/a.jpg", b"x" * 11)), into, top="top")
    need_room(10, into)
    with pytest.raises(UsageError, match=r"which lacks 1 B;"):
        need_room(11, into)
