"""Images as Python programs have them: paths, bytes of files, Pillow images, arrays; results have a name for each."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import Decoding, read_given
from zeroshot_cli.images.preprocess import PreprocessConfig, resize
from zeroshot_cli.records import SkippedImage


@dataclass(frozen=True, slots=True, eq=False)
class GivenImage:
    """An image in memory: a file's bytes, or pixels; `path` is what results call it."""

    path: str
    content: bytes | Image.Image

    def digest(self) -> bytes | None:
        """Return the SHA-256 of a file's bytes, or of the pixels as they are read; None if they cannot be."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).digest()
        try:
            pixels = read_given(self.content)
        except UnreadableImage:
            return None
        return hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).digest()


ImageLike: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
ImageItem: TypeAlias = str | GivenImage | SkippedImage


def named_images(images: Iterable[ImageLike | SkippedImage], *, of: str = "") -> Iterator[ImageItem]:
    """Yield every image as the pipeline takes it: the third, without a path, is `<image 2>`, or `<image 2 of …>`.

    Raises TypeError or ValueError for what is no image, and for one image in place of several.
    """
    if _is_one(images):
        raise TypeError(f"images are a list, and {_described(images)} is one image; put it into brackets")
    suffix = f" of {of}" if of else ""
    return (named_image(image, f"<image {number}{suffix}>") for number, image in enumerate(images))


def named_image(image: Any, name: str) -> ImageItem:
    """Return an image as the pipeline takes it; raises TypeError or ValueError for what is no image."""
    if isinstance(image, SkippedImage | GivenImage):
        return image
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, bytes | Image.Image):
        return GivenImage(name, image)
    if isinstance(image, np.ndarray):
        return GivenImage(name, _from_array(image, name))
    kinds = "a path, the bytes of a file, a Pillow image, or an array of uint8, (height, width, 3) or (height, width)"
    raise TypeError(f"{name} is {_described(image)}; an image is {kinds}")


def resized_pixels(image: Image.Image, config: PreprocessConfig, how: Decoding) -> bytes | str:
    """Return the resized pixels (height, width, 3) of a Pillow image, or why it has none."""
    try:
        return resize(read_given(image, how), config, exact=how.exact or how.as_stored).tobytes()
    except UnreadableImage as error:
        return str(error)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """Return the pixels of an array, copied: it may hold the next image by the time they are needed."""
    what = f"{name} is {_described(array)}"
    if array.dtype.kind == "f":
        raise TypeError(f"{what}; give levels from 0 to 255: (image * 255).astype('uint8') if they are from 0 to 1")
    if array.dtype != "uint8":
        raise TypeError(f"{what}; give levels from 0 to 255 as uint8, or a Pillow image")
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"{what}; an array is one image, (height, width, 3) or (height, width)")
    if array.ndim == 3 and array.shape[2] != 3:
        raise ValueError(f"{what}; {_way_out(array.shape)}")
    height, width = array.shape[:2]
    return Image.frombytes("L" if array.ndim == 2 else "RGB", (width, height), array.tobytes())


def _way_out(shape: tuple[int, ...]) -> str:
    if shape[2] == 1:
        return "give image[..., 0]"
    if shape[2] == 4:
        return "give image[..., :3], or with its transparency PIL.Image.fromarray(image)"
    turned = ": image.transpose(1, 2, 0)" if shape[0] == 3 else ""
    return f"the last axis is red, green and blue{turned}"


def _is_one(images: Any) -> bool:
    """Return whether this is one image in place of several; an array may be several of the same size."""
    if isinstance(images, str | os.PathLike | bytes | Image.Image | GivenImage | SkippedImage):
        return True
    is_array = isinstance(images, np.ndarray)
    return is_array and (images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4)))


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, {tuple(value.shape)}"
    if isinstance(value, str | os.PathLike):
        return repr(os.fspath(value))
    return f"{'an' if type(value).__name__[0] in 'AEIOUaeiou' else 'a'} {type(value).__name__}"
