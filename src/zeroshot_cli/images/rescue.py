"""Read what is left of a truncated file, and tell whether anything of the image is missing."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import BinaryIO

from PIL import Image, ImageChops, ImageFile

from zeroshot_cli.images.formats import jpeg

NOTE = "note"  # the key of `Image.info`
TRUNCATED = "truncated: read without the part that is missing"

_LEAST_BYTES = 32  # of a scan: less is not an image

Read = Callable[[BinaryIO], Image.Image]
_lock = threading.Lock()


def jpeg_without_end(file: BinaryIO, read: Read, read_whole: Read, *, lenient: bool) -> Image.Image | None:
    """Return a JPEG that ends too early, if every pixel is there or `lenient`; a lossless one is read at full scale.

    It is decoded with different bits after its end: a decoder that still needed bits gives different images.
    """
    file.seek(0)
    content = file.read()
    found = jpeg.inspect(content)
    if found.lossless and found.bits == 8:
        return read_whole(file)
    if found.ended or found.frame is None or found.pixels < _LEAST_BYTES:
        return None
    content = content.rstrip(b"\xff")
    image, *others = (read(io.BytesIO(content + end)) for end in (jpeg.END, *jpeg.OTHER_ENDS))
    if found.complete and all(ImageChops.difference(image, other).getbbox() is None for other in others):
        return image
    return _noted(image) if lenient else None


def leniently(file: BinaryIO, read: Read) -> Image.Image | None:
    """Return what Pillow reads of a truncated file, None where that is nothing but one colour."""
    with _lock:  # the switch is one for all threads
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return _noted(read(file))
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False


def _noted(image: Image.Image) -> Image.Image | None:
    if all(low == high for low, high in image.getextrema()):  # type: ignore[misc]
        return None
    image.info[NOTE] = TRUNCATED
    return image
