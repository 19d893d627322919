"""Training sees the pixels that classify sees, whatever kind of file they come from, within the same limits."""

import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from good_files import make_good_files
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images import decoder_pool
from zeroshot_cli.images.augment import Augment, lay_on
from zeroshot_cli.images.decode import Decoding, decode
from zeroshot_cli.images.decoder_process import Job, unpack
from zeroshot_cli.images.preprocess import PreprocessConfig, resize
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch, EvalBatches, ImageReader, Plan, TrainBatches, batches_of, decoding_of

AUGMENT = Augment((16, 16), min_scale=0.5)
CONFIG = PreprocessConfig(size=16)

# A process that does something else than to read a file called bad.
MISBEHAVING = """
import os, signal, time
from zeroshot_cli.images import decoder_process as decoder
read = decoder.read_image
def misbehave(file, how, **options):
    if "bad" in os.readlink(f"/proc/self/fd/{file.fileno()}"): ACT
    return read(file, how, **options)
decoder.read_image = misbehave
decoder.main()
"""


def pairs_of(*paths: str | Path) -> Pairs:
    return Pairs(tuple(map(str, paths)), ("a caption",) * len(paths))


def on_white(image: Image.Image) -> np.ndarray:
    return np.asarray(lay_on(image, Image.new("RGB", image.size, "white")) if image.mode == "RGBA" else image)


def read_both(path: Path) -> tuple[np.ndarray, Image.Image]:
    """The pixels that classify reads, and the image that training augments."""
    return np.asarray(decode(str(path))), unpack(ImageReader(pairs_of(path), Job()).read(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_every_kind_of_file_has_the_same_pixels_in_classify_and_train(tmp_path: Path, workers: int) -> None:
    paths = list(make_good_files(tmp_path))
    pairs, plans = pairs_of(*paths), [Plan(3, tuple(range(len(paths))))]
    (training,) = batches_of(TrainBatches(pairs, AUGMENT, seed=5), plans, workers=workers)
    (validation,) = batches_of(EvalBatches(pairs, CONFIG), plans, workers=workers)
    assert len(paths) == len(training.images) == len(validation.images) == 100
    for row, path in enumerate(paths):
        image = decode(path)
        np.testing.assert_array_equal(training.pixels[row], AUGMENT(image, Random(f"5 3 {row}")), path)
        np.testing.assert_array_equal(validation.pixels[row], resize(image, CONFIG), path)
        if not workers:
            np.testing.assert_array_equal(on_white(decode(path, keep_alpha=True)), image, path)


# Transparency by hand ---------------------------------------------------------------------------------------


def test_a_deep_gradient_with_a_transparent_level(tmp_path: Path) -> None:
    """Each of 65,536 levels once: scaled to 8 bits, and one of them white."""
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=1000)
    expected = np.rint(levels / 257).astype(np.uint8)
    expected[levels == 1000] = 255
    classified, trained = read_both(tmp_path / "a.png")
    np.testing.assert_array_equal(classified, np.stack([expected] * 3, axis=-1))
    np.testing.assert_array_equal(on_white(trained), classified)
    np.testing.assert_array_equal(np.asarray(trained)[..., 3] == 0, levels == 1000)
    assert 127 < classified.mean() < 128


def test_deep_gray_of_few_levels_is_not_bleached(tmp_path: Path) -> None:
    """As Pillow's i_trns.png: black lines on a transparent ground, gray in between."""
    levels = np.array([[0, 65535, 8995, 33153, 65535]], np.uint16).repeat(4, axis=0)
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=65535)
    classified, trained = read_both(tmp_path / "a.png")
    assert classified[0, :, 0].tolist() == on_white(trained)[0, :, 0].tolist() == [0, 255, 35, 129, 255]
    assert np.asarray(trained)[0, :, 3].tolist() == [255, 0, 255, 255, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_a_transparent_gray_or_colour_of_a_palette(tmp_path: Path, mode: str) -> None:
    gray = Image.linear_gradient("L").resize((8, 64))
    image = gray.quantize(4) if mode == "P" else gray.convert(mode)
    stored = np.asarray(image).astype(np.uint8) * (255 if mode == "1" else 1)
    alphas = bytes([255, 0, 51, 255])
    image.save(tmp_path / "a.png", transparency=alphas if mode == "P" else int(stored[0, 0]))
    if mode == "P":
        colours = np.array(image.getpalette()).reshape(-1, 3)[stored].astype(float)
        alpha = np.array(list(alphas))[stored][..., None] / 255
        expected = colours * alpha + 255 * (1 - alpha)
    else:
        expected = np.where(stored == stored[0, 0], 255, stored)[..., None].repeat(3, axis=-1)
    classified, trained = read_both(tmp_path / "a.png")
    np.testing.assert_allclose(classified, expected, atol=1)
    np.testing.assert_array_equal(on_white(trained), classified)
    assert trained.mode == "RGBA"


# Limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_large_images_are_refused(tmp_path: Path, workers: int) -> None:
    for name, size in (("small", (10, 10)), ("large", (11, 10))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    pairs, limit = pairs_of(tmp_path / "small.png", tmp_path / "large.png"), Decoding(max_pixels=100)
    (training,) = batches_of(TrainBatches(pairs, AUGMENT, seed=0, decoding=limit), [Plan(0, (0, 1))], workers=workers)
    (validation,) = batches_of(EvalBatches(pairs, CONFIG, decoding=limit), [Plan(0, (0, 1))], workers=workers)
    for batch in (training, validation):
        assert {(Path(item.path).name, item.reason) for item in batch.skipped} == {
            ("large.png", "110 pixels, more than the limit of 100 (--max-pixels)")
        }
    assert (len(training.images), len(validation.images)) == (2, 1)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("time.sleep(60)", "decoding took longer than 0.5 seconds (--decode-timeout)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the decoder crashed on it (SIGSEGV)"),
    ],
)
def test_a_file_on_which_a_decoder_hangs_or_crashes_costs_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, reason: str
) -> None:
    monkeypatch.setattr(decoder_pool, "PROGRAM", MISBEHAVING.replace("ACT", act))
    for name in ("good.png", "bad.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    pairs = pairs_of(tmp_path / "good.png", tmp_path / "bad.png")
    dataset = TrainBatches(pairs, AUGMENT, seed=0, decoding=Decoding(timeout=0.5))
    began = time.monotonic()
    (batch,) = batches_of(dataset, [Plan(0, (0, 1))], workers=1)
    assert time.monotonic() - began < 50
    assert {item.reason for item in batch.skipped} == {reason}
    assert {Path(image).name for image in batch.images} == {"good.png"}


def test_truncated_images_are_trained_on_if_asked(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(whole)
    half = tmp_path / "half.jpg"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ways = (decoding_of(TrainConfig(data=(), truncated=truncated)) for truncated in ("skip", "read"))
    skipped, read = (EvalBatches(pairs_of(half), CONFIG, decoding=way)[Plan(0, (0,))] for way in ways)
    assert isinstance(skipped, Batch)
    assert isinstance(read, Batch)
    assert [item.reason for item in skipped.skipped] == ["the file is truncated"]
    assert read.images == (str(half),)


def test_a_damaged_tiff_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    Image.linear_gradient("L").save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[20:200] = bytes(180)
    path.write_bytes(content)
    batches = TrainBatches(pairs_of(path), AUGMENT, seed=0)
    assert not isinstance(batches[Plan(0, (0,))], Batch)
    with pytest.raises(UnreadableImage):
        ImageReader(pairs_of(path), Job()).read(0)
    assert capfd.readouterr() == ("", "")
