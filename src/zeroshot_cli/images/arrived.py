"""Fetch the images that are elsewhere ahead of who decodes them: many at once, in order, with bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.remote.address import is_elsewhere, shown_address

if TYPE_CHECKING:
    from zeroshot_cli.images.given import ImageItem

AHEAD = 64  # requests at once, and images that wait for their turn
MOST_WAITING = 256 << 20  # bytes of images that wait; beyond that only the next one comes in
_GLANCE = 0.02  # seconds between two looks whether there is room again


@dataclass(slots=True)
class _Coming:
    name: str
    budget: "_Budget"
    number: int
    body: "Future[bytes] | None" = None

    async def received(self, size: int) -> None:
        await self.budget.take(self.number, size)


class _Budget:
    """How many bytes of each image are here; the first in the queue is never kept waiting, so there is no deadlock."""

    def __init__(self, most: int) -> None:
        self.most, self.first, self.sizes = most, 0, dict[int, int]()

    def is_full(self) -> bool:
        return sum(list(self.sizes.values())) >= self.most

    async def take(self, number: int, size: int) -> None:
        from asyncio import sleep

        self.sizes[number] = size
        while self.is_full() and number != self.first:
            await sleep(_GLANCE)


def arrived(items: "Iterable[ImageItem]", *, allow_private: bool = False) -> "Iterator[ImageItem]":
    """Yield every item in order, with bytes in place of an address; one that cannot be read is a SkippedImage.

    Results call an image by its address without secrets. Raises UnavailableError where a host cannot be reached.
    """
    from zeroshot_cli.images.given import GivenImage

    queue: deque[ImageItem | _Coming] = deque()
    budget, number = _Budget(MOST_WAITING), 0
    try:
        for item in items:
            if isinstance(item, str) and is_elsewhere(item):
                while queue and (len(queue) >= AHEAD or budget.is_full()):
                    yield _taken(queue.popleft())
                from zeroshot_cli.remote.rows import begin  # it imports asyncio

                coming = _Coming(item, budget, number)
                number += 1
                coming.body = begin(item, coming.received, allow_private=allow_private)
                queue.append(coming)
            elif not queue:
                yield item
            else:
                queue.append(item)
                # Pixels in memory are used before the next is asked for: their owner may change them.
                while queue and (len(queue) >= AHEAD or isinstance(item, GivenImage)):
                    yield _taken(queue.popleft())
        while queue:
            yield _taken(queue.popleft())
    finally:
        for each in queue:
            if isinstance(each, _Coming) and each.body is not None:
                each.body.cancel()


def _taken(item: "ImageItem | _Coming") -> "ImageItem":
    """Wait for an image."""
    if not isinstance(item, _Coming):
        return item
    from zeroshot_cli.images.given import GivenImage

    assert item.body is not None
    item.budget.first = item.number
    try:
        return GivenImage(shown_address(item.name), item.body.result())
    except UnreadableImage as error:
        return SkippedImage(shown_address(item.name), str(error))
    except BaseException:
        item.body.cancel()
        raise
    finally:
        item.budget.sizes.pop(item.number, None)
        item.budget.first = item.number + 1
