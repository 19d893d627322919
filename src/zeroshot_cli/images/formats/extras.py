"""Kinds of image that need a package of their own: HEIC, JPEG XL and the previews in cameras' RAW files."""

from __future__ import annotations

import io
import threading
from typing import Any, BinaryIO

from PIL import Image

from zeroshot_cli.errors import UnreadableImage

_lock = threading.Lock()
# LibRaw's flip: how the sensor's rows lie to the upright image
_TURNS = {3: Image.Transpose.ROTATE_180, 5: Image.Transpose.ROTATE_90, 6: Image.Transpose.ROTATE_270}
_ORIENTATION = 0x0112


def register_heic() -> None:
    """Have Pillow read HEIC; pillow-heif turns images upright itself and resets their Exif."""
    try:
        import pillow_heif
    except ImportError:
        raise UnreadableImage("HEIC needs an extra package: pip install 'zeroshot-cli[heic]'") from None
    with _lock:
        if "HEIF" not in Image.OPEN:
            Image.init()  # with AVIF, which would come after it and not get its files of the brand mif1
            pillow_heif.register_heif_opener(decode_threads=1)


def register_jxl() -> None:
    """Have Pillow read JPEG XL."""
    try:
        import pillow_jxl  # noqa: F401  (it registers itself)
    except ImportError:
        raise UnreadableImage("JPEG XL needs an extra package: pip install 'zeroshot-cli[jxl]'") from None


def preview(file: BinaryIO, kind: str) -> Image.Image:
    """Return the preview that a camera put into its RAW file, upright; raises UnreadableImage where it has none."""
    try:
        import rawpy
    except ImportError:
        needed = "to read its preview: pip install 'zeroshot-cli[raw]'"
        raise UnreadableImage(f"a RAW photograph ({kind}); convert it to JPEG, or {needed}") from None
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            thumbnail, flip = raw.extract_thumb(), raw.sizes.flip
    except rawpy.LibRawError as error:
        detail = str(error.args[0] if error.args else error).removeprefix("b'").rstrip("'")
        raise UnreadableImage(f"a RAW photograph ({kind}) without a preview ({detail}); convert it to JPEG") from None
    content: Any = thumbnail.data  # a file, or an array
    is_jpeg = thumbnail.format == rawpy.ThumbFormat.JPEG
    image: Image.Image = Image.open(io.BytesIO(content)) if is_jpeg else Image.fromarray(content)
    image.load()
    turn = None if image.getexif().get(_ORIENTATION, 1) != 1 else _TURNS.get(flip)
    return image if turn is None else image.transpose(turn)
