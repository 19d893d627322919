"""The program of a decoding process: paths in, pixels out; it imports neither torch nor numpy and starts in a moment.

Decoders of damaged files can hang or crash. Here they take a process with them that nobody misses.

Both ways a message is its kind (a byte), its length (four bytes, big-endian) and its content. The first to come is the
Job as JSON. Then, for every image:

    PATH ->             what to read, as the system has it; or
    FILE ->             the file itself
         <- CONTENT     the SHA-256 of the file, where the job asks for it and the file is not huge
    GO or SKIP ->       whether it is to be decoded; after SKIP comes the next image
         <- NOTE        what is to be said of the image, where there is something
         <- PIXELS      the resized image (height, width, 3), the thumbnail as a file, or the whole image (`pack`); or
            REASON      why it cannot be read
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import signal
import struct
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import (
    EACH,
    EXACTLY,
    Decoding,
    ReduceTo,
    count_frames,
    open_regular,
    read_image,
    single_threaded,
)
from zeroshot_cli.images.file_kinds import HEAD_BYTES, image_format
from zeroshot_cli.images.memory import limit_this_process, too_large
from zeroshot_cli.images.preprocess import PreprocessConfig, resize, resized_size
from zeroshot_cli.images.rescue import NOTE as NOTE_KEY
from zeroshot_cli.processes import end_with_parent

PATH, FILE, GO, SKIP = b"P", b"F", b"G", b"S"
READY, CONTENT, NOTE, PIXELS, REASON = b"R", b"C", b"N", b"X", b"E"
_THUMBNAIL_QUALITY = 60  # of 100
_HUGE = 1 << 30  # bytes: what is larger is not read into memory, and so not kept in a cache
_READ_ANEW = b"0.2.0"  # 0.1.0 kept embeddings of TIFF files that it misread
_MOST_WHOLE = 50_000_000  # pixels of a whole image: 200 MB with transparency
_GRACE = 30.0  # seconds beyond the timeout, within which the parent ends the process


@dataclass(frozen=True, slots=True)
class Job:
    """What is made of every image: pixels for a model, a thumbnail of at most so many pixels an edge, or all of it.

    Or its number of frames, as decimal digits, where they are to be `counted`.

    A whole image keeps its transparency; with `at_least`, (height, width), a JPEG is decoded at a scale of twice that.
    `hashed` asks for the content's hash. The parent ends a process that takes longer than the decoding's timeout; if
    the parent is gone, the process ends itself. It takes no more than `memory` bytes; 0 is any number.
    """

    preprocess: PreprocessConfig | None = None
    thumbnail: int = 0
    at_least: tuple[int, int] | None = None
    hashed: bool = False
    decoding: Decoding = EXACTLY
    memory: int = 0
    counted: bool = False

    def to_json(self) -> bytes:
        """Return the job as the first message to a process."""
        return json.dumps({**asdict(self), "preprocess": self.preprocess and self.preprocess.to_dict()}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Job:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(content)
        given = values.pop("preprocess")
        return cls(
            **{**values, "decoding": Decoding(**values["decoding"])},
            preprocess=given and PreprocessConfig.from_dict(given),
        )


def main() -> None:
    """Serve standard input and output until the other end is gone."""
    end_with_parent(os.getppid(), thread_lasts=True)  # in the midst of an image, too
    with suppress(BrokenPipeError, EOFError, KeyboardInterrupt):
        source, target = _private_streams()
        _leave_no_traces()
        job = Job.from_json(receive(source)[1])
        limit_this_process(job.memory)
        send(target, READY)
        _serve(job, source, target)


def send(stream: BinaryIO, kind: bytes, content: bytes = b"") -> None:
    """Write one message."""
    stream.write(kind + len(content).to_bytes(4, "big") + content)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Read one message; raises EOFError where the other end is gone."""
    head = stream.read(5)
    length = int.from_bytes(head[1:], "big")
    content = stream.read(length)
    if len(head) < 5 or len(content) < length:
        raise EOFError
    return head[:1], content


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the parent, out of reach of libraries that read standard input or print."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    return source, target


def _leave_no_traces() -> None:
    warnings.simplefilter("ignore")
    single_threaded()
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk


def _serve(job: Job, source: BinaryIO, target: BinaryIO) -> None:
    while True:
        kind, asked = receive(source)
        try:
            path, frame = _frame(asked, kind, job.decoding)
            with io.BytesIO(asked) if kind == FILE else open_regular(path) as file:
                stream, digest = _content(job, file)
                if digest:
                    send(target, CONTENT, digest + frame.encode())
                    if receive(source)[0] == SKIP:
                        continue
                with _alarm(job.decoding.timeout):
                    note, answer = make(job, stream, frame)
        except UnreadableImage as error:
            send(target, REASON, str(error).encode("utf-8", "backslashreplace"))
        except OSError as error:  # of the disk
            send(target, REASON, (error.strerror or str(error)).lower().encode("utf-8", "backslashreplace"))
        else:
            if note:
                send(target, NOTE, note.encode())
            send(target, PIXELS, answer)


def _frame(asked: bytes, kind: bytes, decoding: Decoding) -> tuple[str, str]:
    """Return the path, and the number of a frame that it names after `#`, where no file has such a name."""
    if kind == FILE:
        return "", ""
    path = os.fsdecode(asked)
    before, mark, number = path.rpartition("#")
    if decoding.frames != EACH or not mark or not (number.isascii() and number.isdigit()) or os.path.lexists(path):
        return path, ""
    return before, str(int(number))


def _content(job: Job, file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Return what to decode and its SHA-256, which is empty where nobody asks or the file is huge.

    A file is read once: what is hashed is what is decoded, whoever writes to it meanwhile.
    """
    if not job.hashed or file.seek(0, os.SEEK_END) > _HUGE:
        return file, b""
    with _alarm(job.decoding.timeout):
        file.seek(0)
        content = file.read()
        salt = _READ_ANEW if image_format(content[:HEAD_BYTES]) == "TIFF" else b""
        return io.BytesIO(content), hashlib.sha256(content + salt).digest()


@contextmanager
def _alarm(timeout: float) -> Iterator[None]:
    """End this process when nobody else has, well after the time for an image is over."""
    timer = getattr(signal, "setitimer", None)  # Windows has none
    if timer is None:
        yield
        return
    timer(signal.ITIMER_REAL, timeout + _GRACE)
    try:
        yield
    finally:
        timer(signal.ITIMER_REAL, 0)


def make(job: Job, file: BinaryIO, frame: str = "") -> tuple[str, bytes]:
    """Return a note on an image, and what the job makes of it. Whatever else goes wrong costs this image only.

    `frame` is the number of a frame, in place of what the job says. Raises UnreadableImage.
    """
    try:
        return _make(replace(job, decoding=replace(job.decoding, frames=frame)) if frame else job, file)
    except (UnreadableImage, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        raise UnreadableImage(too_large()) from None
    except BaseException as error:  # a plugin's panic, or a defect of ours
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} in {Path(where.filename).name}, line {where.lineno}"
        raise UnreadableImage(f"it cannot be decoded, a defect that we would like to hear of ({what})") from error


def _make(job: Job, file: BinaryIO) -> tuple[str, bytes]:
    if job.counted:
        return "", str(count_frames(file, job.decoding)).encode()
    how, reduce_to = job.decoding, _scale(job)
    image = read_image(file, how, reduce_to=reduce_to, keep_alpha=job.preprocess is None and not job.thumbnail)
    note = str(image.info.get(NOTE_KEY, ""))
    if job.preprocess is not None:
        return note, resize(image, job.preprocess, exact=how.exact or how.as_stored).tobytes()
    return note, _thumbnail(image, job.thumbnail) if job.thumbnail else pack(_within_reason(image, job.at_least))


def _within_reason(image: Image.Image, at_least: tuple[int, int] | None) -> Image.Image:
    """Return an image of at most so many pixels that copies of it fit into memory: means of squares of pixels.

    Both sides stay at least twice `at_least`.
    """
    if at_least is None or image.width * image.height <= _MOST_WHOLE:
        return image
    factor = math.ceil(math.sqrt(image.width * image.height / _MOST_WHOLE))
    most = min(image.height // (2 * at_least[0]), image.width // (2 * at_least[1]))
    return image.reduce(factor) if factor <= most else image


def _scale(job: Job) -> ReduceTo | None:
    if job.preprocess is not None:
        return None if job.decoding.exact or job.decoding.as_stored else partial(resized_size, config=job.preprocess)
    if job.thumbnail:
        return partial(_within, job.thumbnail)
    size = job.at_least
    return None if size is None else lambda height, width: size


def pack(image: Image.Image) -> bytes:
    """Return width, height and pixels of an RGB or RGBA image."""
    return struct.pack(">II", *image.size) + image.tobytes()


def unpack(content: bytes) -> Image.Image:
    """Return the image that `pack` was given."""
    width, height = struct.unpack_from(">II", content)
    mode = "RGB" if len(content) - 8 == 3 * width * height else "RGBA"
    return Image.frombytes(mode, (width, height), memoryview(content)[8:])  # no copy: it may be large


def _thumbnail(image: Image.Image, edge: int) -> bytes:
    height, width = _within(edge, image.height, image.width)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_THUMBNAIL_QUALITY, method=2)
    return out.getvalue()


def _within(edge: int, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which the longest edge is at most `edge`."""
    ratio = max(1, height / edge, width / edge)
    return max(1, round(height / ratio)), max(1, round(width / ratio))
