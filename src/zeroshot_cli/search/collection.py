"""The images that are looked at: files, whose embeddings are cached or computed, and files of embeddings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zeroshot_cli.embed.embeddings_file import Subject
from zeroshot_cli.embed.embeddings_read import EmbeddingsRead, read_embeddings_file
from zeroshot_cli.embed.matrices import Embedded
from zeroshot_cli.errors import CheckpointError, DataError
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.search.nearest import Block, Floats

_UNIT = 1e-3  # how far an embedding's length may be from 1


@dataclass(slots=True)
class Collection:
    """Images by their place: those to embed, then those of files of embeddings; and what came of reading them."""

    items: Sequence[str | SkippedImage]
    files: Sequence[tuple[Path, EmbeddingsRead]] = ()
    skipped: list[tuple[int, SkippedImage]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, items: Sequence[str | SkippedImage], files: Sequence[str]) -> "Collection":
        """Return the images of files of embeddings after others; raises as `read_embeddings_file`."""
        return cls(items, [(Path(file), read_embeddings_file(Path(file), Subject.PATH)) for file in files])

    def paths(self) -> list[str]:
        """Return the path of each image."""
        own = [item.path if isinstance(item, SkippedImage) else item for item in self.items]
        return own + [name for _, read in self.files for name in read.names]

    def unread(self) -> list[SkippedImage]:
        """Return the images that could not be read, in order."""
        return [item for _, item in sorted(self.skipped, key=lambda each: each[0])]

    def model(self) -> tuple[str, str | None] | None:
        """Return the name and the weights of the model that made the first file, None where that is not known."""
        for _, read in self.files:
            if name := read.about.get("model"):
                return name, read.about.get("pretrained") or None
        return None

    def check(self, model: LoadedModel) -> None:
        """Raise CheckpointError or DataError for embeddings that another model made, or that have another size."""
        for path, read in self.files:
            made_by = read.about.get("fingerprint")
            if made_by not in (None, model.fingerprint):
                name, tag = read.about.get("model", "another model"), read.about.get("pretrained")
                option = f"--model {name}" + (f" --pretrained {tag}" if tag else "")
                raise CheckpointError(
                    f"{path} has embeddings that other weights made than those of {model.title}; give {option}, "
                    "or write the file again with zeroshot embed"
                )
            if (width := read.embeddings.shape[1]) != model.embed_dim:
                raise DataError(
                    f"{path} has embeddings of {width} numbers, and those of {model.title} have {model.embed_dim}; "
                    "name the model that made them with --model"
                )

    def blocks(self, embedded: Iterator[Embedded], on_progress: Callable[[int, int], None]) -> Iterator[Block]:
        """Yield places and embeddings of all images, normalised; `embedded` are the blocks of those to embed."""
        done = 0
        for block in embedded:
            self.skipped += block.skipped
            self.notes += block.notes
            done += block.count
            yield block.places, block.embeddings
            on_progress(done, len(self.items))
        start = len(self.items)
        for _, read in self.files:
            yield range(start, start + len(read.names)), _normalised(read.embeddings.numpy())
            start += len(read.names)


def _normalised(embeddings: Floats) -> Floats:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings if np.abs(lengths - 1).max() < _UNIT else embeddings / lengths
