"""What people's folders and lists of paths really hold: thumbnails, trash, side files, other encodings, typos."""

import io
from pathlib import Path

import pytest

from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import find_images
from zeroshot_cli.images.inputs import MOST_ALTERNATIVES, expand_braces
from zeroshot_cli.images.selection import Selection
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_elsewhere

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the working directory and the home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def listed(data: bytes, *, null_separated: bool = False) -> tuple[str | SkippedImage, ...]:
    return find_images(["-"], stdin=io.BytesIO(data), null_separated=null_separated).items


BYPRODUCTS = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "sub/@eaDir/b.jpg",
    "#recycle/a.jpg",
    "#snapshot/GMT+01_2024/a.jpg",
    "@Recycle/a.jpg",
    "@Recently-Snapshot/a.jpg",
    ".@__thumb/a.jpg",
    "$RECYCLE.BIN/S-1-5-21/$R0A1B2C.jpg",
    "RECYCLER/a.jpg",
    "System Volume Information/a.jpg",
    "FOUND.000/FILE0000.jpg",
    ".Trash-1000/files/a.jpg",
    ".Trashes/501/a.jpg",
    ".Spotlight-V100/a.jpg",
    ".fseventsd/a.jpg",
    "lost+found/a.jpg",
    "__MACOSX/photos/a.jpg",
    ".AppleDouble/a.jpg",
    "._IMG_1.jpg",
    "sub/._IMG_2.heic",
    ".hidden.jpg",
    ".trashed-1700000000-IMG.jpg",
    ".thumbnails/normal/1.png",
    ".git/a.png",
    ".cache/a.png",
    ".dtrash/files/a.jpg",
    ".picasaoriginals/a.jpg",
    "[Originals]/a.jpg",
    ".ipynb_checkpoints/a-checkpoint.png",
    ".stversions/a.jpg",
    "Catalog Previews.lrdata/0/a.jpg",
    "Catalog Smart Previews.lrdata/A/a.jpg",
    "Photos Library.photoslibrary/resources/derivatives/0/a.jpeg",
    "Photos Library.photoslibrary/scopes/cloudsharing/a.jpeg",
    "iPhoto Library.photolibrary/Thumbnails/a.jpg",
    "Aperture Library.aplibrary/Previews/a.jpg",
    "shoot/CaptureOne/Cache/Thumbnails/a.png",
    "appdata_oc1a2b3c4d5e/preview/a.jpg",
    "files_trashbin/files/a.jpg",
    "files_versions/a.jpg",
    "node_modules/logo/a.png",
]
OWN = [
    "Photos Library.photoslibrary/originals/0/a.jpeg",
    "iPhoto Library.photolibrary/Masters/2012/a.jpg",
    "a.jpg",
    "appdata/a.jpg",
    "shoot/CaptureOne/Output/a.jpg",
    "thumbnails/a.jpg",
]


@pytest.mark.parametrize("name", BYPRODUCTS)
def test_thumbnails_trash_and_side_files_are_left_out_and_counted(folder: Path, name: str) -> None:
    touch("p/kept.jpg", f"p/{name}")
    found = find_images(["p"])
    assert found.items == ("p/kept.jpg",)
    (note,) = found.notes
    assert note.startswith("1 hidden or system image left out: ")
    assert note.endswith("; --all-files takes them")
    everything = find_images(["p"], selection=Selection(all_files=True))
    assert sorted(map(str, everything.items)) == sorted(["p/kept.jpg", f"p/{name}"])
    assert everything.notes == ()
    assert find_images([f"p/{name}"]).items == (f"p/{name}",)  # named itself
    assert find_images(["p/**/*.*"]).items == ("p/kept.jpg",)


def test_images_that_only_look_like_it_are_taken(folder: Path) -> None:
    touch(*(f"p/{name}" for name in OWN))
    found = find_images(["p"])
    assert sorted(map(str, found.items)) == sorted(f"p/{name}" for name in OWN)
    assert found.notes == ()


def test_kinds_of_by_products_are_counted_one_by_one(folder: Path) -> None:
    touch("p/a.jpg", *(f"p/@eaDir/{n}/t.jpg" for n in range(4)), "p/@eaDir/x.txt", "p/._a.jpg", "p/._b.jpg", "p/.h.jpg")
    assert find_images(["p"]).notes == (
        "7 hidden or system images left out: @eaDir 4, ._* 2, hidden files 1; --all-files takes them",
    )


def test_the_current_folder_and_the_one_above_are_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("p/a.jpg")
    monkeypatch.chdir("p")
    assert find_images(["."]).notes == find_images([".."]).notes == ()


def test_a_system_folder_that_is_named_is_taken_and_said(folder: Path) -> None:
    touch("p/a.jpg", "p/@eaDir/t.jpg")
    found = find_images(["p/a.jpg", "p/@eaDir"])  # as the shell expands p/*
    assert found.items == ("p/a.jpg", "p/@eaDir/t.jpg")
    assert found.notes == ("p/@eaDir is taken, since it is named; @eaDir is left out of other folders",)
    assert find_images(["p/*"]).items == ("p/a.jpg",)
    assert find_images(["p/@eaDir/*"]).items == ("p/@eaDir/t.jpg",)


def test_raw_pdf_and_video_are_counted_by_extension(folder: Path) -> None:
    touch("p/a.jpg", *(f"p/{n}.CR2" for n in range(4)), *(f"p/x/{n}.cr2" for n in range(3)), "p/a.pdf", "p/none")
    touch(*(f"p/{n}.pdf" for n in range(4)), "p/a.b c")
    found = find_images(["p"])
    assert found.notes == ("14 files left out: .cr2 7, .pdf 5, unusual extensions 1, without extension 1",)
    assert found.others == {".cr2": 7, ".pdf": 5, "": 1, ".b c": 1}
    touch("q/a.cr2")
    with pytest.raises(DataError, match=r"^no image found in q among 1 other file; .*; 1 file left out: \.cr2 1$"):
        find_images(["q"])


@pytest.mark.parametrize(
    ("globs", "left"),
    [
        (["*.PNG"], ["p/a.jpg", "p/raw/d.jpg", "p/x/raw/e.jpg"]),
        (["raw"], ["p/a.jpg", "p/b.png"]),
        (["raw/"], ["p/a.jpg", "p/b.png"]),
        (["raw/*"], ["p/a.jpg", "p/b.png"]),
        (["**/raw/**"], ["p/a.jpg", "p/b.png"]),
        (["p/raw"], ["p/a.jpg", "p/b.png", "p/x/raw/e.jpg"]),
        (["./p/raw"], ["p/a.jpg", "p/b.png", "p/x/raw/e.jpg"]),
        (["x/raw/*.jpg", "b.*"], ["p/a.jpg", "p/raw/d.jpg"]),
    ],
)
def test_what_the_user_excludes(folder: Path, globs: list[str], left: list[str]) -> None:
    touch("p/a.jpg", "p/b.png", "p/raw/d.jpg", "p/x/raw/e.jpg")
    found = find_images(["p"], selection=Selection(exclude=tuple(globs)))
    assert sorted(map(str, found.items)) == left
    number = 4 - len(left)
    assert found.notes == (f"{number} image{'s' * (number > 1)} left out by --exclude",)


def test_excluded_files_that_a_shell_named_are_left_out_too(folder: Path) -> None:
    touch("a.jpg", "b.jpg")
    assert find_images(["a.jpg", "b.jpg"], selection=Selection(exclude=("b*",))).items == ("a.jpg",)
    with pytest.raises(DataError, match="2 images left out by --exclude"):
        find_images(["a.jpg", "b.jpg"], selection=Selection(exclude=("*",)))


# lists on standard input


@pytest.mark.parametrize(
    "data",
    [
        "a b.jpg\nä.jpg\n".encode(),
        "a b.jpg\nä.jpg".encode("utf-8-sig"),
        "a b.jpg\r\nä.jpg\r\n".encode("utf-8-sig"),
        "a b.jpg\r\nä.jpg\r\n".encode("utf-16"),
        b"\xfe\xff" + "a b.jpg\r\nä.jpg\r\n".encode("utf-16-be"),
        "a b.jpg\r\nä.jpg\r\n".encode("utf-16-le"),
        "a b.jpg\nä.jpg\n".encode("utf-16-be"),
        "a b.jpg\nä.jpg\n".encode("utf-32"),
        b"a b.jpg\r\xc3\xa4.jpg\r",
        '"a b.jpg"\n"ä.jpg"\n'.encode(),
        "'a b.jpg'\n'ä.jpg'\n".encode(),
        "a\\ b.jpg\nä.jpg\n".encode(),
        "  a b.jpg  \n\tä.jpg\n".encode(),
        ".\\a b.jpg\n.\\ä.jpg\n".encode(),
        "~/a b.jpg\n$HOME/ä.jpg\n".encode(),
    ],
)
def test_lists_of_other_systems(folder: Path, data: bytes) -> None:
    touch("a b.jpg", "ä.jpg")
    named = [Path(str(path)).name for path in listed(data)]
    assert named == ["a b.jpg", "ä.jpg"]


def test_lists_of_file_urls(folder: Path) -> None:
    touch("a b.jpg", "ä.jpg")
    urls = f"file://{folder}/a%20b.jpg\nFILE://localhost{folder}/%C3%A4.jpg\n"
    assert listed(urls.encode()) == (f"{folder}/a b.jpg", f"{folder}/ä.jpg")


def test_utf_16_is_said(folder: Path) -> None:
    touch("a.jpg")
    found = find_images(["-"], stdin=io.BytesIO("a.jpg\r\n".encode("utf-16")))
    assert found.notes == ("paths on standard input read as UTF-16",)
    with pytest.raises(DataError, match="invalid UTF-16"):
        listed("a.jpg\r\n".encode("utf-16") + b"\x0d")


def test_a_name_with_quotes_or_a_line_break_is_itself(folder: Path) -> None:
    touch('"a.jpg"', "b\nc.jpg", "~", "$HOME.jpg")
    assert listed(b'"a.jpg"\n~\n$HOME.jpg\n') == ('"a.jpg"', "~", "$HOME.jpg")
    assert listed(b"b\nc.jpg\0", null_separated=True) == ("b\nc.jpg",)


@pytest.mark.parametrize(
    ("data", "null_separated", "message"),
    [
        (JPEG, False, "standard input is a JPEG image, and - reads paths, one a line"),
        (JPEG, True, "standard input is a JPEG image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", False, "standard input is a PNG image"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", False, "standard input is a ZIP archive"),
        (b"a.jpg\0b.jpg\0", False, "end with NUL; add -0"),
        (b"a.jpg\nb.jpg\n", True, "end with a line break, not with NUL; omit -0"),
        (b"no.jpg\nnor.jpg\n", False, "none of the 2 paths on standard input exists, the first is no.jpg"),
    ],
)
def test_what_is_no_list(folder: Path, data: bytes, null_separated: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        listed(data, null_separated=null_separated)


# arguments


def test_what_the_shell_did_not_expand(folder: Path) -> None:
    touch("a/b.jpg", "a/c.jpg", "a/img1.jpg", "a/img2.jpg")
    home = str(folder)
    assert find_images(["~/a/b.jpg"]).items == (f"{home}/a/b.jpg",)
    assert find_images(["$HOME/a/c.jpg"]).items == (f"{home}/a/c.jpg",)
    assert find_images(["~/a/[bc].jpg"]).items == (f"{home}/a/b.jpg", f"{home}/a/c.jpg")
    assert find_images(["a/{c,b}.jpg"]).items == ("a/c.jpg", "a/b.jpg")
    assert find_images(["a/{b,no}.jpg"]).items == ("a/b.jpg", SkippedImage("a/no.jpg", "no such file"))
    assert find_images(["a/img{1..2}.{jpg,png}", "a"]).count == 4
    assert find_images(["a\\b.jpg"]).items == ("a/b.jpg",)
    assert find_images(["a\\*.jpg"]).count == 4
    assert find_images([f"file://{home}/a/b.jpg"]).items == (f"{home}/a/b.jpg",)
    assert find_images(["~nobodyatall/a.jpg", "a/b.jpg"]).items[0] == SkippedImage("~nobodyatall/a.jpg", "no such file")


def test_brackets_and_braces_in_real_names(folder: Path) -> None:
    touch("img[1].jpg", "trip [2024]/a.jpg", "trip [2024]/b[2].jpg", "{x,y}.jpg", "x.jpg", "a{1}.jpg")
    assert find_images(["img[1].jpg"]).items == ("img[1].jpg",)
    assert find_images(["trip [2024]/*.jpg"]).items == ("trip [2024]/a.jpg", "trip [2024]/b[2].jpg")
    assert find_images(["trip [2024]/**"]).count == 2
    assert find_images(["trip [2024]/b[2]*"]).items == ("trip [2024]/b[2].jpg",)
    assert find_images(["{x,y}.jpg"]).items == ("{x,y}.jpg",)
    assert find_images(["a{1}.*"]).items == ("a{1}.jpg",)


def test_braces_as_bash_expands_them() -> None:
    assert expand_braces("{a,b}{1,2}") == ["a1", "a2", "b1", "b2"]
    assert expand_braces("{a,{b,c}d}e") == ["ae", "bde", "cde"]
    assert expand_braces("{08..11}") == ["08", "09", "10", "11"]
    assert expand_braces("{3..1}") == ["3", "2", "1"]
    assert expand_braces("{a}{}{x..y}{") == ["{a}{}{x..y}{"]
    for many in ("{0..99999999}", "{0..99}" * 9, "{" * 3000 + "a,b" + "}" * 3000):
        if many.startswith("{{"):
            assert len(expand_braces(many)) == 2
            continue
        with pytest.raises(UsageError, match=f"more than {MOST_ALTERNATIVES:,} paths"):
            expand_braces(many)


def test_addresses_are_images_wherever_they_are_named(folder: Path) -> None:
    touch("a.jpg")
    web = ("https://a.org/x.jpg", "HTTP://a.org/image?id=3")
    assert find_images(["a.jpg", *web, " 'https://a.org/y.jpg' "]).items == ("a.jpg", *web, "https://a.org/y.jpg")
    assert find_images(["https://a.org/{1..2}.png"]).items == ("https://a.org/1.png", "https://a.org/2.png")
    assert listed(f"a.jpg\n{web[0]}\r\ns3://bucket/key\n".encode()) == ("a.jpg", web[0], "s3://bucket/key")
    assert listed(b"a.jpg\nfoo://x/y\n")[1] == SkippedImage("foo://x/y", "unknown scheme foo://")


def test_a_file_that_looks_like_an_address_is_a_file(folder: Path) -> None:
    touch("https:/a.org/x.jpg", "b.parquet#3")
    assert find_images(["https://a.org/x.jpg"]).items == ("./https://a.org/x.jpg",)
    assert listed(b"https://a.org/x.jpg\n") == ("./https://a.org/x.jpg",)
    assert not any(map(is_elsewhere, ["./https://a.org/x.jpg", "b.parquet#3"]))
    assert is_elsewhere("b.parquet#4")


def test_a_web_server_does_not_list(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"^https://a\.org/photos/: a web server does not list its folders; give"):
        find_images(["https://a.org/photos/"])


@pytest.mark.parametrize(
    ("given", "meant"), [("http:/a.org/x.jpg", "http://a.org/x.jpg"), ("s3:bucket/x", "s3://bucket/x")]
)
def test_an_address_with_too_few_slashes_is_corrected(folder: Path, given: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"^{given}: no such file or folder; did you mean {meant}\?$"):
        find_images([given])
    touch("s3:bucket.jpg")
    assert find_images(["s3:bucket.jpg"]).items == ("s3:bucket.jpg",)


def test_what_results_call_an_address_lacks_its_secrets() -> None:
    found = find_images(["https://me:secret@a.org/x.jpg?X-Amz-Signature=abc&size=3"])
    assert list(found.paths()) == ["https://***@a.org/x.jpg?X-Amz-Signature=***&size=3"]


@pytest.mark.parametrize("inputs", [["phots"], ["phots/"], ["phots", "nor"], ["phots/*.jpg"], ["photos/ab.jpg"]])
def test_a_mistyped_name_is_refused_at_once(folder: Path, inputs: list[str]) -> None:
    touch("photos/a.jpg")
    with pytest.raises(UsageError, match=r"no such file or folder|none of the 2 paths exists|no file .* matches"):
        find_images(inputs)
    found = find_images([*inputs, "photos"])  # among others it is a row
    assert found.items[-1] == "photos/a.jpg"
    assert all(isinstance(item, SkippedImage) for item in found.items[:-1])


def test_the_name_that_was_meant_is_suggested(folder: Path) -> None:
    touch("photos/holiday.jpg")
    with pytest.raises(UsageError, match=r"^phots: no such file or folder; did you mean photos\?$"):
        find_images(["phots"])
    with pytest.raises(UsageError, match=r"did you mean photos/holiday\.jpg\?"):
        find_images(["photos/holliday.jpg"])


def test_one_file_by_several_names_is_one_row(folder: Path) -> None:
    touch("p/a.jpg", "p/q/b.jpg")
    Path("link").symlink_to("p")
    assert find_images(["p", "link", "p/q/../a.jpg", str(folder / "link/a.jpg")]).items == ("p/a.jpg", "p/q/b.jpg")
    assert find_images(["link/a.jpg", "p"]).items == ("link/a.jpg", "p/q/b.jpg")


def test_names_as_long_as_they_may_be(folder: Path) -> None:
    name = "a" * 251 + ".jpg"
    touch(f"p/{name}")
    assert find_images(["p"]).items == (f"p/{name}",)
    assert isinstance(find_images([f"p/{name}", "b" * 5000]).items[1], str | SkippedImage)


def test_a_folder_without_images_among_others_is_said(folder: Path) -> None:
    touch("p/a.jpg", "q/notes.txt")
    assert find_images(["p", "q"]).notes == ("no image in q", "1 file left out: .txt 1")
