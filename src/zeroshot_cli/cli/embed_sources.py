"""What `zeroshot embed` embeds: images, or texts."""

import json
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.output_folder import keep_on_disk
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.records import SkippedImage

if TYPE_CHECKING:
    from zeroshot_cli.cli.commands.embed import EmbedOptions
    from zeroshot_cli.cli.engine_options import OnRay
    from zeroshot_cli.embed.embeddings_file import Row, Subject
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.results.shards.shard import Share


@dataclass(frozen=True, slots=True)
class Images:
    """Images to embed."""

    items: Sequence[str | SkippedImage]
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    options: "EmbedOptions"
    tried: int  # by all shards, so that their batches are those of one run
    share: "Share | None" = None
    tars: Mapping[str, str] = field(default_factory=dict)  # folder with the images of a tar → the tar

    noun = "image"

    @property
    def subject(self) -> "Subject":
        """Return what the rows are named by."""
        from zeroshot_cli.embed.embeddings_file import Subject

        return Subject.PATH

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the rows."""
        return [self.shown(item.path if isinstance(item, SkippedImage) else item) for item in self.items]

    def shown(self, path: str) -> str:
        """Return the path of an image as the file has it: in a tar, that of the tar and the member's."""
        return _shown(path, self.tars)

    def about(self, model: "LoadedModel", batch_size: int) -> dict[str, str]:
        """Return what embeddings of images depend on besides the model."""
        from zeroshot_cli.images.preprocess import fitted

        preprocess = json.dumps(fitted(model.preprocess.config, self.options.fit).to_dict())
        return {
            "preprocess": preprocess,
            "decoding": "exact" if self.options.exact_decode else "reduced",
            **{name: value for name, value in self.options.reading().items() if value},
            "batch_size": str(batch_size),
            **(self.share.settings() if self.share else {}),
        }

    def rows(self, model: "LoadedModel", batch_size: int, cluster: "OnRay | None" = None) -> "Generator[list[Row]]":
        """Yield the rows, in lists."""
        from zeroshot_cli.embed.image_cache import ImageCache
        from zeroshot_cli.embed.images import encode_images
        from zeroshot_cli.images.decoder_pool import auto_workers

        if cluster is not None:
            blocks = cluster.embedded(model, self.items, batch_size)
        else:
            blocks = encode_images(
                model,
                self.items,
                batch_size=batch_size,
                workers=o.as_count(self.options.workers) or auto_workers(model.device.type),
                cache=ImageCache() if self.options.cache else None,
                decoding=self.options.decoding(),
            )
        for block in blocks:
            yield [
                (self.shown(item.path), None, item.reason)
                if isinstance(item, SkippedImage)
                else (self.shown(item.path), item.embedding, None)
                for item in block
            ]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts to embed, many at a time: they share what they begin with."""

    items: Sequence[str]
    blank: int
    assumed: tuple[str, ...] = ()

    noun = "text"
    share: "Share | None" = None

    @property
    def tried(self) -> int:
        """Return how many there are."""
        return len(self.items)

    @property
    def subject(self) -> "Subject":
        """Return what the rows are named by."""
        from zeroshot_cli.embed.embeddings_file import Subject

        return Subject.TEXT

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the rows."""
        return self.items

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what was left out, in sentences."""
        return (f"{counted(self.blank, 'blank line')} ignored",) if self.blank else ()

    def about(self, model: "LoadedModel", batch_size: int) -> dict[str, str]:
        """Return nothing: the model and the texts say everything."""
        return {}

    def rows(self, model: "LoadedModel", batch_size: int, cluster: "OnRay | None" = None) -> "Generator[list[Row]]":
        """Yield the rows, in lists."""
        from zeroshot_cli.embed.texts import WINDOW, embed_texts, one_warning

        for start in range(0, len(self.items), WINDOW):
            window = self.items[start : start + WINDOW]
            with one_warning():
                embeddings = embed_texts(model, window).numpy()
            yield [(text, embedding, None) for text, embedding in zip(window, embeddings, strict=True)]


def source_of(options: "EmbedOptions", scratch: ExitStack, folder: Path | None) -> Images | Texts:
    """Return what the arguments name; UsageError if that is not either images or texts."""
    texts = options.texts
    if bool(options.images) == (texts is not None):
        both = f"IMAGES and --texts {texts} are both given" if options.images else "nothing to embed"
        raise UsageError(f"{both}; give either IMAGES, files or folders, or --texts FILE")
    if texts is None:
        from zeroshot_cli.images.find import find_images, in_memory
        from zeroshot_cli.pairs.shards import unpack_tars

        if options.text_column is not None:
            raise UsageError("--text-column is for --texts; add that, or omit it")

        options.check_cache()
        stdin = getattr(sys.stdin, "buffer", None)
        inputs, tars = unpack_tars(options.images, scratch)
        keep = keep_on_disk(folder, scratch) if folder else in_memory
        found = find_images(inputs, stdin=stdin, null_separated=options.null, selection=options.selection(), keep=keep)
        found = options.with_frames(found)
        tried = found.count
        found, share = options.share(found, partial(_shown, tars=tars), always=folder is not None)
        return Images(found.items, found.assumed, found.warnings, options, tried, share, tars)
    from zeroshot_cli.pairs.texts import is_table, read_texts

    named = {"-0": options.null, "--exact-decode": options.exact_decode, "--shard": options.shard}
    given = next((option for option, value in named.items() if value), None)
    if given is not None:
        raise UsageError(f"{given} is for images, and --texts {texts} names texts; omit it")
    if options.text_column is not None or is_table(texts):
        cells, assumed = read_texts(texts, options.text_column)
        return Texts([text for text in cells if text], cells.count(""), assumed)
    lines = _read_texts(texts).removesuffix("\n").split("\n")
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise DataError(f"no text in {_name(texts)}; give one text a line")
    return Texts(kept, len(lines) - len(kept))


def _shown(path: str, tars: Mapping[str, str]) -> str:
    """Return the path of an image as the file has it; `tars` are by the folders with their images."""
    folder = next((folder for folder in tars if path.startswith(folder)), None)
    return path if folder is None else tars[folder] + path.removeprefix(folder)


def _read_texts(path: Path) -> str:
    from zeroshot_cli.words.textfiles import read_text

    if str(path) != "-":
        return read_text(path, DataError)
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        byte = data[problem.start]
        raise DataError(f"{_name(path)}, line {line}: byte 0x{byte:02x} is not UTF-8; write it as UTF-8") from None


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)
