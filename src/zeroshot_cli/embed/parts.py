"""Embeddings as a folder of parts: each is a file of embeddings by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Row, Subject
from zeroshot_cli.records import Counts
from zeroshot_cli.results.shards.parts import part_metadata, part_name


@dataclass(frozen=True, slots=True)
class EmbeddingParts:
    """Writes parts of embeddings of a `width`, in this process or in another; `about` is what they come from."""

    folder: Path
    width: int
    about: Mapping[str, str]

    def __call__(self, images: range, rows: Sequence[Row]) -> Counts:
        """Write the part of these images; return how many were read. UsageError where it cannot be written."""
        unreadable = sum(reason is not None for _, _, reason in rows)
        counts = Counts(classified=len(rows) - unreadable, unreadable=unreadable)
        about = {**self.about, **part_metadata(counts, (name for name, _, _ in rows))}
        path = self.folder / part_name(images)
        with EmbeddingsFile(path, Subject.PATH, width=self.width, about=about, overwrite=True, part=True) as file:
            file.write(rows)
        return counts
