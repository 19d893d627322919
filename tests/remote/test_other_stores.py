"""Google Cloud Storage and the Hugging Face hub, as small servers on loopback play them."""

from collections.abc import Callable, Iterator

import pytest
from faulty_web import FILES
from loopback_stores import Bucket, DataSet, store_of

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.find import find_images
from zeroshot_cli.remote.fetch import fetch
from zeroshot_cli.remote.stores import forget_stores

KEYS = {"images/red.png": FILES["red.png"], "images/sub/blue.png": FILES["blue.png"], "notes.txt": b"no image"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with store_of(Bucket, KEYS) as (endpoint, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        forget_stores()
        yield "gs://bucket/"
        forget_stores()


@pytest.fixture
def data_set(hub_at: Callable[[str], None]) -> Iterator[tuple[str, list[str]]]:
    with store_of(DataSet, KEYS) as (endpoint, asked):
        hub_at(endpoint)
        forget_stores()
        yield "hf://datasets/org/name/", asked
        from huggingface_hub import close_session

        close_session()
        forget_stores()


def check(top: str) -> None:
    assert fetch(f"{top}images/red.png") == FILES["red.png"]
    wanted = [f"{top}images/red.png", f"{top}images/sub/blue.png"]
    assert list(find_images([f"{top}images/"]).items) == wanted
    assert list(find_images([f"{top}**/*.png"]).items) == wanted
    assert fetch(f"{top}images/sub/blue.png") == FILES["blue.png"]
    with pytest.raises(UnreadableImage, match=r"^404 not found$"):
        fetch(f"{top}images/none.png")


def test_google_cloud_storage(bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    check(bucket)
    assert not caplog.records  # it has no credentials to warn of


def test_the_hub(data_set: tuple[str, list[str]]) -> None:
    top, asked = data_set
    check(top)
    assert not [path for path in asked if "org/name" not in path]  # nothing else is asked for, or told
