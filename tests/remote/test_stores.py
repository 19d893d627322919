"""S3 as moto plays it on loopback: listings, globs, bytes, and which failure is whose fault."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_web import FILES, shard

from zeroshot_cli.cli import app as entry
from zeroshot_cli.errors import DataError, UnavailableError, UnreadableImage, UsageError
from zeroshot_cli.images.find import find_images
from zeroshot_cli.images.selection import Selection
from zeroshot_cli.pairs.read import read_pairs
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote import copies, stores
from zeroshot_cli.remote.fetch import begin, fetch
from zeroshot_cli.remote.stores import forget_stores
from zeroshot_cli.remote.web import Limits

KEYS = {
    "a/red.png": FILES["red.png"],
    "a/deep/lime.png": FILES["lime.png"],
    "a/notes.txt": b"no image",
    "a/.hidden/blue.png": FILES["blue.png"],
    "a/@eaDir/blue.png": FILES["blue.png"],
    "a/": b"",  # what consoles make for a folder
    "a+b/50% [1].png": FILES["gray.png"],
    "noextension": FILES["gray.png"],
    "empty.png": b"",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.mark.parametrize("address", ["s3://", "s3:///a.png", "gs://"])
def test_an_address_without_its_bucket_is_one_sentence(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["classify", address, "--label", "a", "--label", "b", "--model", "tiny"]) == 2
    sentence = f"error: {address}: the bucket is missing; give {address.partition(':')[0]}://BUCKET/PATH\n"
    assert capsys.readouterr().err == sentence


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with KEYS."""
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    limits = Limits(most_bytes=1 << 20, total=30, tries=3, first_wait=0.01)
    monkeypatch.setattr("zeroshot_cli.remote.fetch.LIMITS", limits)
    forget_stores()
    client = s3()
    client.create_bucket(Bucket="photos")
    for key, body in KEYS.items():
        client.put_object(Bucket="photos", Key=key, Body=body)
    yield "s3://photos"
    for key in client.list_objects_v2(Bucket="photos").get("Contents", []):
        client.delete_object(Bucket="photos", Key=key["Key"])
    client.delete_bucket(Bucket="photos")
    forget_stores()


def s3() -> Any:
    from botocore.session import Session

    return Session().create_client("s3")


def found(*inputs: str, **settings: Any) -> list[str]:
    return [item if isinstance(item, str) else item.path for item in find_images(inputs, **settings).items]


@pytest.mark.parametrize("address", ["a", "a/"])
def test_a_prefix_is_searched_as_a_folder_is(bucket: str, address: str) -> None:
    images = find_images([f"{bucket}/{address}"])
    assert list(images.items) == [f"{bucket}/a/deep/lime.png", f"{bucket}/a/red.png"]
    assert dict(images.others) == {".txt": 1}
    assert any("2 hidden or system images left out: .hidden 1, @eaDir 1" in note for note in images.notes)


def test_all_files_and_exclude_hold_for_addresses(bucket: str) -> None:
    assert len(found(f"{bucket}/a/", selection=Selection(all_files=True))) == 4
    assert found(f"{bucket}/a/", selection=Selection(exclude=("deep",))) == [f"{bucket}/a/red.png"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("a/*.png", ["a/red.png"]), ("a/**/*.png", ["a/.hidden/blue.png", "a/@eaDir/blue.png", "a/deep/lime.png"])],
)
def test_globs(bucket: str, pattern: str, names: list[str]) -> None:
    wanted = [f"{bucket}/{name}" for name in names if "/." not in name and "@" not in name]
    assert set(wanted) <= set(found(f"{bucket}/{pattern}"))


def test_a_key_that_looks_like_a_glob_is_itself(bucket: str) -> None:
    assert found(f"{bucket}/a+b/50% [1].png") == [f"{bucket}/a+b/50% [1].png"]
    assert fetch(f"{bucket}/a+b/50% [1].png") == FILES["gray.png"]


def test_a_key_without_extension_is_an_image(bucket: str) -> None:
    assert found(f"{bucket}/noextension") == [f"{bucket}/noextension"]


def test_shards_in_a_bucket_are_read(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the three is missing: it is named, and the pairs of the others are all there."""
    monkeypatch.setattr(copies, "_PIECE", 4096)
    for number in (0, 2):
        s3().put_object(Bucket="photos", Key=f"shards/{number}.tar", Body=shard(4 * number))
    pairs = read_pairs([f"{bucket}/shards/{{0..2}}.tar"])
    assert pairs.captions == tuple(f"image {number}" for number in (0, 1, 2, 3, 8, 9, 10, 11))
    for row, name in enumerate([*FILES, *FILES]):
        with pairs.open(row) as file:
            assert file.read() == FILES[name]
    assert [(item.path, item.reason) for item in pairs.skipped] == [
        (f"{bucket}/shards/1.tar", "404 not found; check the address")
    ]
    s3().put_object(Bucket="photos", Key="shards/0.tar", Body=shard(20))
    assert read_pairs([f"{bucket}/shards/0.tar"]).captions[0] == "image 20"


def test_nothing_there(bucket: str) -> None:
    with pytest.raises(DataError, match="no image found"):
        find_images([f"{bucket}/none/"])
    with pytest.raises(UsageError, match="no file or folder matches this pattern"):
        find_images([f"{bucket}/none/*.png"])


def test_bytes_are_those_of_the_key(bucket: str) -> None:
    assert fetch(f"{bucket}/a/red.png") == FILES["red.png"]


@pytest.mark.parametrize("part", [1, 2])
def test_a_large_key_comes_in_parts_that_wait_for_room(bucket: str, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """One key ends within a part, the other with one."""
    size = len(FILES["red.png"])
    parts = {1: size // 3, 2: size // 2 + 10}[part]
    monkeypatch.setattr(stores, "_PART", parts)
    whole, heard = FILES["red.png"][: parts * (4 - part)], list[int]()
    s3().put_object(Bucket="photos", Key="large.png", Body=whole)

    async def received(count: int) -> None:
        heard.append(count)

    assert begin(f"{bucket}/large.png", received).result() == whole
    assert heard == [min(parts * number, len(whole)) for number in range(1, 5 if part == 1 else 3)]


@pytest.mark.parametrize(
    ("address", "reason"),
    [("a/none.png", "404 not found"), ("empty.png", "the file is empty")],
)
def test_a_failure_is_a_reason(bucket: str, address: str, reason: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        fetch(f"{bucket}/{address}")
    assert str(caught.value) == reason


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    with pytest.raises(UnreadableImage, match=r"^404 not found$"):
        fetch("s3://no-such-bucket-here/a.png")


def test_too_large_a_key_is_cut_off_by_range(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3().put_object(Bucket="photos", Key="big.png", Body=b"\0" * ((1 << 20) + 10))
    with pytest.raises(UnreadableImage, match="larger than"):
        fetch(f"{bucket}/big.png")


def test_anonymous_without_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3().put_object(Bucket="photos", Key="public.png", Body=FILES["red.png"], ACL="public-read")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget_stores()
    assert fetch(f"{bucket}/public.png") == FILES["red.png"]
    with pytest.raises(UnreadableImage, match=r"^403 forbidden$"):
        fetch(f"{bucket}/a/red.png")


def test_a_refused_connection_is_nobodys_bad_image(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("zeroshot_cli.remote.fetch.LIMITS", Limits(tries=1))
    forget_stores()
    with pytest.raises(UnavailableError, match="s3://photos cannot be reached"):
        fetch(f"{bucket}/a/red.png")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        find_images([f"{bucket}/a/"])


def test_a_file_system_in_memory_stands_for_any_of_fsspec() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/box/red.png", FILES["red.png"])
    store.pipe("/box/sub/blue.png", FILES["blue.png"])
    try:
        assert found("memory://box/") == ["memory://box/red.png", "memory://box/sub/blue.png"]
        assert fetch("memory://box/red.png") == FILES["red.png"]
        assert isinstance(find_images(["memory://box/red.png", "memory://none/"]).items[-1], str | SkippedImage)
    finally:
        store.rm("/box", recursive=True)


@pytest.mark.slow
def test_images_and_output_in_a_bucket(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are those of the files on disk, and the file in the bucket is that of a run here."""
    monkeypatch.chdir(tmp_path)
    for key in ("a/deep/lime.png", "a/red.png"):
        Path(key).parent.mkdir(parents=True, exist_ok=True)
        Path(key).write_bytes(KEYS[key])
    setting = ["--label", "red", "--label", "green", "--model", "tiny", "--precision", "fp32", "--batch-size", "2"]
    assert entry.run(["classify", "a", *setting, "-o", "here.csv"]) == 0
    assert entry.run(["classify", f"{bucket}/a/", *setting, "-o", f"{bucket}/out/there.csv"]) == 0
    there = fetch(f"{bucket}/out/there.csv").decode()
    assert there.replace(f"{bucket}/", "") == Path("here.csv").read_text()
    assert entry.run(["classify", f"{bucket}/a/", *setting, "-o", f"{bucket}/out/there.csv"]) == 2
