"""Hand results to sinks, and count them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.results.files import Result, Sink


@dataclass(frozen=True, slots=True)
class Counts:
    """How a run over images ended; `classified` includes the `unknown`."""

    classified: int = 0
    unreadable: int = 0
    ignored: int = 0
    unknown: int = 0

    @property
    def images(self) -> int:
        return self.classified + self.unreadable

    def plus(self, items: Iterable[Result]) -> "Counts":
        """Return the counts with some results more."""
        classified, unreadable, unknown = self.classified, self.unreadable, self.unknown
        for item in items:
            if isinstance(item, SkippedImage):
                unreadable += 1
            else:
                classified += 1
                unknown += item.rejected
        return replace(self, classified=classified, unreadable=unreadable, unknown=unknown)

    def sentence(self) -> str:
        """Return the counts for people."""
        parts = [f"{counted(self.classified, 'image')} classified"]
        if self.unknown:
            parts.append(f"{self.unknown} of them unknown")
        parts.append(f"{self.unreadable} could not be read")
        if self.ignored:
            parts.append(f"{counted(self.ignored, 'other file')} passed over")
        return ", ".join(parts) + "."

    def exit_code(self, *, ignore_errors: bool) -> int:
        """Return 4 if images could not be read and that matters, else 0."""
        return UnreadableImage.exit_code if self.unreadable and not ignore_errors else 0


def deliver(
    blocks: Iterable[Sequence[Result]], sinks: Sequence[Sink], *, ignored: int = 0, before: Counts | None = None
) -> Counts:
    """Write every block to every sink, and return the counts, on top of those of `before`.

    `ignored` files were passed over when the images were looked for.
    """
    counts = replace(before or Counts(), ignored=ignored)
    for block in blocks:
        for sink in sinks:
            sink.write(block)
        counts = counts.plus(block)
    return counts


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as "1 image" or "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
