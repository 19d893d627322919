"""Thumbnails and originals for a page, decoded in processes of their own, and the folder of an image opened."""

# pathlib would change how a path is written.
# ruff: noqa: PTH120

import io
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from zeroshot_cli.errors import UnreadableImage, UsageError
from zeroshot_cli.images.decode import Decoding, open_regular
from zeroshot_cli.images.decoder_pool import Decoders, auto_workers
from zeroshot_cli.images.decoder_process import Job, unpack
from zeroshot_cli.images.file_kinds import HEAD_BYTES, image_format
from zeroshot_cli.review.run import Answered, Run, is_link_out, unframed

THUMBNAIL_EDGE = 320  # pixels: sharp on a card, some fifteen kilobytes
_KEPT = 128 << 20  # bytes of thumbnails in memory
_CHUNK = 1 << 18
_QUALITY = 92
_SHOWN = {  # by browsers, as they are
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WebP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
}


@dataclass(frozen=True, slots=True)
class Original:
    """An image at full size: its type, its length, and its bytes in pieces."""

    media_type: str
    size: int
    content: Iterator[bytes]


class Pictures:
    """The images of a run for a page; links that lead out of the folders of the run are refused.

    `follow_links` shows these, too. Errors are UnreadableImage, with the reason.
    """

    def __init__(self, run: Run, decoding: Decoding, *, follow_links: bool = False) -> None:
        self._run = run
        self._follow_links = follow_links
        workers = auto_workers()
        self._small = Decoders(Job(thumbnail=THUMBNAIL_EDGE, decoding=decoding), workers=workers, beside=1)
        self._whole = Decoders(Job(decoding=decoding), workers=1, beside=workers)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def close(self) -> None:
        """End the processes that decode."""
        self._small.close()
        self._whole.close()

    def thumbnail(self, image: Answered) -> bytes:
        """Return a WebP file of at most 320 pixels an edge."""
        with self._lock:
            if (kept := self._kept.get(image.file)) is not None:
                self._kept.move_to_end(image.file)
                return kept
        self._check(image)
        made = self._small.submit(image.file).result().pixels or b""
        with self._lock:
            if image.file not in self._kept:
                self._kept[image.file] = made
                self._size += len(made)
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return made

    def original(self, image: Answered) -> Original:
        """Return the image at full size: the file itself where browsers show it, else a JPEG of its pixels."""
        self._check(image)
        if unframed(image.file) == image.file:
            file = open_regular(image.file)
            head = file.read(HEAD_BYTES)
            if media_type := _SHOWN.get(image_format(head) or ""):
                size = os.fstat(file.fileno()).st_size
                file.seek(0)
                return Original(media_type, size, _pieces(file, size))
            file.close()
        content = self._converted(image.file)
        return Original("image/jpeg", len(content), iter([content]))

    def _converted(self, file: str) -> bytes:
        pixels = self._whole.submit(file).result().pixels or b""
        image = unpack(pixels)
        if image.mode == "RGBA":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image).convert("RGB")
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()

    def _check(self, image: Answered) -> None:
        if not self._follow_links and is_link_out(self._run, image):
            raise UnreadableImage(
                "a link that leads out of the folders of the run; zeroshot review --follow-links shows it"
            )


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield as many bytes as were announced, though the file may grow meanwhile."""
    with file:
        while size > 0 and (piece := file.read(min(_CHUNK, size))):
            size -= len(piece)
            yield piece


def open_folder(file: str) -> None:
    """Open the folder of an image in the system's file manager; UsageError where there is none."""
    shown = unframed(file)
    folder = os.path.dirname(shown)
    opened = ["explorer" if sys.platform == "win32" else "xdg-open", folder]
    if sys.platform == "darwin":
        opened = ["open", "-R", shown]  # in the Finder: a folder that is named photos.app would be started
    try:
        subprocess.Popen(
            opened,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise UsageError(f"cannot open {folder} with {opened[0]} ({error.strerror})") from error
