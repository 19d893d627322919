"""The program of a decoding process: paths in, pixels out; it imports neither torch nor numpy and starts in a moment.

Decoders of damaged files can hang or crash. Here they take a process with them that nobody misses.

Both ways a message is its kind (a byte), its length (four bytes, big-endian) and its content. The first to come is the
Job as JSON. Then, for every image:

    PATH ->             what to read, as the system has it; or
    FILE ->             the file itself
         <- CONTENT     the SHA-256 of the file, where the job asks for it and the file is not huge
    GO or SKIP ->       whether it is to be decoded; after SKIP comes the next image
         <- PIXELS      the resized image (height, width, 3), the thumbnail as a file, or the whole image (`pack`); or
            REASON      why it cannot be read; or
            DEFECT      the traceback of a bug of ours
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO

from PIL import Image

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decode import EXACTLY, Decoding, open_regular, read_image, single_threaded
from zeroshot_cli.images.preprocess import PreprocessConfig, resize, resized_size

PATH, FILE, GO, SKIP = b"P", b"F", b"G", b"S"
READY, CONTENT, PIXELS, REASON, DEFECT = b"R", b"C", b"X", b"E", b"D"
_THUMBNAIL_QUALITY = 60  # of 100
_HUGE = 1 << 30  # bytes: what is larger is not read into memory, and so not kept in a cache
_GRACE = 30.0  # seconds beyond the timeout, within which the parent ends the process


@dataclass(frozen=True, slots=True)
class Job:
    """What is made of every image: pixels for a model, a thumbnail of at most so many pixels an edge, or all of it.

    A whole image keeps its transparency; with `at_least`, (height, width), a JPEG is decoded at a scale of twice that.
    `hashed` asks for the content's hash. The parent ends a process that takes longer than the decoding's timeout; if
    the parent is gone, the process ends itself.
    """

    preprocess: PreprocessConfig | None = None
    thumbnail: int = 0
    at_least: tuple[int, int] | None = None
    hashed: bool = False
    decoding: Decoding = EXACTLY

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
    with suppress(BrokenPipeError, EOFError, KeyboardInterrupt):
        source, target = _private_streams()
        _leave_no_traces()
        job = Job.from_json(receive(source)[1])
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
    make = maker(job)
    while True:
        kind, asked = receive(source)
        try:
            with io.BytesIO(asked) if kind == FILE else open_regular(os.fsdecode(asked)) as file:
                stream, digest = _content(job, file)
                if digest:
                    send(target, CONTENT, digest)
                    if receive(source)[0] == SKIP:
                        continue
                with _alarm(job.decoding.timeout):
                    answer = PIXELS, make(stream)
        except UnreadableImage as error:
            answer = REASON, str(error).encode("utf-8", "backslashreplace")
        except MemoryError:
            answer = REASON, b"too large for the memory of this machine"
        except (BrokenPipeError, EOFError):
            raise
        except OSError as error:  # of the disk
            answer = REASON, (error.strerror or str(error)).lower().encode()
        except Exception:
            answer = DEFECT, traceback.format_exc().encode("utf-8", "backslashreplace")
        send(target, *answer)


def _content(job: Job, file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Return what to decode and its SHA-256, which is empty where nobody asks or the file is huge.

    A file is read once: what is hashed is what is decoded, whoever writes to it meanwhile.
    """
    if not job.hashed or os.fstat(file.fileno()).st_size > _HUGE:
        return file, b""
    with _alarm(job.decoding.timeout):
        content = file.read()
        return io.BytesIO(content), hashlib.sha256(content).digest()


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


def maker(job: Job) -> Callable[[BinaryIO], bytes]:
    """Return the function that makes of an open file what the job asks for; it raises UnreadableImage."""
    if job.preprocess is not None:
        return partial(_pixels, job, job.preprocess)
    return partial(_thumbnail if job.thumbnail else _whole, job)


def _pixels(job: Job, config: PreprocessConfig, file: BinaryIO) -> bytes:
    how = job.decoding
    reduce_to = None if how.exact or how.as_stored else partial(resized_size, config=config)
    image = read_image(file, reduce_to=reduce_to, max_pixels=how.max_pixels, as_stored=how.as_stored)
    return resize(image, config).tobytes()


def _whole(job: Job, file: BinaryIO) -> bytes:
    size = job.at_least
    reduce_to = None if size is None else lambda height, width: size
    return pack(read_image(file, reduce_to=reduce_to, max_pixels=job.decoding.max_pixels, keep_alpha=True))


def pack(image: Image.Image) -> bytes:
    """Return width, height and pixels of an RGB or RGBA image."""
    return struct.pack(">II", *image.size) + image.tobytes()


def unpack(content: bytes) -> Image.Image:
    """Return the image that `pack` was given."""
    width, height = struct.unpack_from(">II", content)
    mode = "RGB" if len(content) - 8 == 3 * width * height else "RGBA"
    return Image.frombytes(mode, (width, height), content[8:])


def _thumbnail(job: Job, file: BinaryIO) -> bytes:
    edge = job.thumbnail
    image = read_image(file, reduce_to=partial(_within, edge), max_pixels=job.decoding.max_pixels)
    height, width = _within(edge, image.height, image.width)
    small = image.resize((width, height), Image.Resampling.BOX, reducing_gap=2) if width < image.width else image
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_THUMBNAIL_QUALITY, method=2)
    return out.getvalue()


def _within(edge: int, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which the longest edge is at most `edge`."""
    ratio = max(1, height / edge, width / edge)
    return max(1, round(height / ratio)), max(1, round(width / ratio))
