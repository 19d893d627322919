"""Hand results to sinks, and count them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.report.files import Result, Sink


@dataclass(frozen=True, slots=True)
class Counts:
    """How a run over images ended."""

    classified: int
    unreadable: int
    ignored: int = 0

    def sentence(self) -> str:
        """Return the counts for people."""
        parts = [f"{counted(self.classified, 'image')} classified", f"{self.unreadable} could not be read"]
        if self.ignored:
            parts.append(f"{counted(self.ignored, 'other file')} passed over")
        return ", ".join(parts) + "."

    def exit_code(self, *, ignore_errors: bool) -> int:
        """Return 4 if images could not be read and that matters, else 0."""
        return UnreadableImage.exit_code if self.unreadable and not ignore_errors else 0


def deliver(results: Iterable[Result], sinks: Sequence[Sink], *, ignored: int = 0) -> Counts:
    """Write every result to every sink, one by one; `ignored` files were passed over before."""
    classified = unreadable = 0
    for item in results:
        for sink in sinks:
            sink.write(item)
        if isinstance(item, SkippedImage):
            unreadable += 1
        else:
            classified += 1
    return Counts(classified, unreadable, ignored)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as "1 image" or "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
