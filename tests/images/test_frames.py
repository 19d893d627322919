"""Which frame of a file is read, how an image fits the model's shape, and what becomes of truncated ones."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.images.decode import Decoding, decode
from zeroshot_cli.images.decoder_pool import Decoders, each_frame
from zeroshot_cli.images.decoder_process import Job
from zeroshot_cli.images.preprocess import PreprocessConfig, ResizeMode, fitted, resize
from zeroshot_cli.records import SkippedImage

COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
CONFIG = PreprocessConfig(size=8)
KINDS = ["gif", "png", "webp", "tiff", "heic", "avif"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def animation(kind: str) -> str:
    import pillow_heif

    pillow_heif.register_heif_opener()
    first, *others = (Image.new("RGB", (32, 32), colour) for colour in COLOURS)
    first.save(f"a.{kind}", save_all=True, append_images=others)
    return f"a.{kind}"


def colour_of(image: Image.Image) -> int:
    """The index of the nearest of COLOURS."""
    return int(
        np.abs(np.array(COLOURS) - np.asarray(image)[image.height // 2, image.width // 2].astype(int))
        .sum(axis=1)
        .argmin()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_frame_that_is_asked_for(kind: str) -> None:
    path = animation(kind)
    asked = {"first": 0, "middle": 2, "0": 0, "3": 3, "4": 4}
    assert {frames: colour_of(decode(path, Decoding(frames=frames))) for frames in asked} == asked
    with pytest.raises(UnreadableImage, match=r"^no frame 5: it has 5, counted from 0 \(--frames\)$"):
        decode(path, Decoding(frames="5"))


def test_the_second_image_of_a_stereo_camera() -> None:
    first, second = (Image.new("RGB", (32, 32), COLOURS[number]) for number in (3, 1))
    first.save("a.mpo", save_all=True, append_images=[second])
    shown = [colour_of(decode("a.mpo", Decoding(frames=frames), reduce_to=lambda h, w: (4, 4))) for frames in "01"]
    assert shown == [3, 1]


def test_a_still_image_has_one_frame_whatever_is_asked_for() -> None:
    Image.new("RGB", (32, 32), COLOURS[3]).save("still.jpg")
    assert [colour_of(decode("still.jpg", Decoding(frames=frames))) for frames in ("middle", "7")] == [3, 3]


@pytest.mark.parametrize("how", [{"frames": "last"}, {"frames": "-1"}, {"truncated": "maybe"}, {"fit": "stretch"}])
def test_ways_of_reading_that_there_are_not_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(how.values()))):
        Decoding(**how)


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_is_an_image_of_its_own(kind: str) -> None:
    path = animation(kind)
    Image.new("RGB", (32, 32), COLOURS[3]).save("still.jpg")
    Path("bad.gif").write_bytes(b"GIF89a")
    missing = SkippedImage("gone.gif", "no such file")
    how = Decoding(frames="each")
    items = list(each_frame([path, "still.jpg", missing, "bad.gif"], workers=2, decoding=how))
    assert items == [*(f"{path}#{number}" for number in range(5)), "still.jpg", missing, "bad.gif"]
    with Decoders(Job(CONFIG, hashed=True, decoding=how), workers=1) as decoders:
        decoded = [decoders.submit(str(item)).result() for item in items[:6]]
    shown = [Image.frombytes("RGB", (8, 8), each.pixels or b"").resize((32, 32)) for each in decoded]
    assert list(map(colour_of, shown)) == [0, 1, 2, 3, 4, 3]
    assert len({each.content for each in decoded}) == 6  # so a cache keeps them apart


def test_a_file_that_is_named_as_a_frame_is_read_as_itself() -> None:
    path = animation("gif")
    Image.new("RGB", (32, 32), COLOURS[4]).save("a.gif#1", "PNG")
    items = list(each_frame([path], workers=1, decoding=Decoding(frames="each")))
    assert items[1] == SkippedImage("a.gif#1", "a file of this name hides the frame; rename it")
    with Decoders(Job(thumbnail=32, decoding=Decoding(frames="each")), workers=1) as decoders:
        pixels = decoders.submit("a.gif#1").result().pixels
    assert colour_of(Image.open(io.BytesIO(pixels or b"")).convert("RGB")) == 4


def test_a_hash_in_a_name_is_no_frame_by_default() -> None:
    animation("gif")
    with Decoders(Job(CONFIG), workers=1) as decoders, pytest.raises(UnreadableImage, match="no such file"):
        decoders.submit("a.gif#1").result()


# to the model's shape


def panorama() -> Image.Image:
    """White, with a red edge on the left that a centre crop does not see."""
    image = Image.new("RGB", (400, 100), "white")
    image.paste((255, 0, 0), (0, 0, 40, 100))
    return image


@pytest.mark.parametrize(("fit", "red"), [("crop", 0), ("pad", 0.1 / 4), ("squash", 0.1)])
def test_how_a_panorama_fits(fit: str, red: float) -> None:
    config = fitted(PreprocessConfig(size=100, interpolation="bilinear", fill_color=0), fit)  # type: ignore[arg-type]
    pixels = np.asarray(resize(panorama(), config)).astype(int)
    assert pixels.shape == (100, 100, 3)
    assert (pixels[..., 0] - pixels[..., 1] > 128).mean() == pytest.approx(red, abs=0.01)
    assert (pixels.sum(axis=-1) == 0).mean() == pytest.approx(0.75 if fit == "pad" else 0)


def test_by_default_an_image_fits_as_the_model_was_trained() -> None:
    trained = PreprocessConfig(resize_mode=ResizeMode.SQUASH)
    assert fitted(trained, None) == fitted(trained, "squash") == trained


# what a cache depends on


def test_defaults_have_the_key_that_0_1_0_gave_them() -> None:
    assert Decoding().mode == "exact, at most 178956970 pixels"
    assert Decoding(exact=False, max_pixels=5, truncated="read", frames="each").mode == "reduced, at most 5 pixels"
    others = [Decoding(frames="middle"), Decoding(frames="2"), Decoding(fit="pad"), Decoding(fit="squash"), Decoding()]
    assert len({each.mode for each in others}) == 5
