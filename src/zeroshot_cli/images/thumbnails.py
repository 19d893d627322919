"""Small pictures for reports, decoded as the images were: by processes of their own."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future

from zeroshot_cli.embed.images import Decoding
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.images.decoder_pool import Decoded, Decoders
from zeroshot_cli.images.decoder_process import Job

EDGE = 192  # pixels: sharp on a card, some six kilobytes
_AHEAD = 64


def thumbnails(paths: Iterable[str], *, workers: int, decoding: Decoding) -> Generator[bytes | None]:
    """Yield a WebP file of at most 192 pixels an edge for every path, None for what can no longer be read.

    Large JPEGs are decoded at a smaller scale in any case.
    """
    waiting: deque[Future[Decoded]] = deque()
    job = Job(thumbnail=EDGE, exact=False, max_pixels=decoding.max_pixels, timeout=decoding.timeout)
    with Decoders(job, workers=workers) as decoders:
        for path in paths:
            waiting.append(decoders.submit(path))
            if len(waiting) > _AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(future: Future[Decoded]) -> bytes | None:
    try:
        return future.result().pixels
    except UnreadableImage:
        return None
