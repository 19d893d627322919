"""`zeroshot embed`: the embeddings of images or of texts as one file."""

import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.display import counted
from zeroshot_cli.errors import DataError, UnreadableImage, UsageError
from zeroshot_cli.records import SkippedImage

if TYPE_CHECKING:
    from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, Row, Subject
    from zeroshot_cli.images.decode import Decoding
    from zeroshot_cli.models.loaded import LoadedModel

VERSIONS_OF = ("zeroshot-cli", "torch", "pillow")

Target = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The .parquet, .npz or .safetensors file to write.", show_default=False
    ),
]
TextsFile = Annotated[
    Path | None,
    typer.Option(
        "--texts", metavar="FILE", help="In place of images: a file of one text a line, - for standard input."
    ),
]


def embed(
    output: Target,
    images: o.ImagesIfAny = None,
    texts: TextsFile = None,
    null: o.NullSeparated = False,
    overwrite: o.Overwrite = False,
    exact_decode: o.ExactDecode = False,
    max_pixels: o.MaxPixels = None,
    decode_timeout: o.DecodeTimeout = None,
    ignore_errors: o.IgnoreErrors = False,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
    model: o.Model = o.DEFAULT_MODEL,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.AUTO,
    batch_size: o.BatchSize = o.AUTO,
    workers: o.Workers = o.AUTO,
) -> None:
    """Write the embeddings of images, or of texts, to a file: normalised, float32, with all that they came from.

    An image that could not be read is in the file with its reason. The file is there only when it is whole.
    """
    from zeroshot_cli.embed.embeddings_file import EmbeddingsFile, check_embeddings_file, check_room

    # What takes no time comes first: a mistake shows before the model is loaded.
    check_embeddings_file(output, overwrite=overwrite)
    decoding = partial(o.decoding, exact=exact_decode, max_pixels=max_pixels, timeout=decode_timeout)
    source = _source(images or [], texts, null=null, exact=exact_decode, decoding=decoding, cache=cache)
    check_room(output, source.names)

    from zeroshot_cli.embed.batches import auto_batch_size
    from zeroshot_cli.models.load import load

    loaded = load(model, pretrained, device=device, precision=precision.value, offline=offline)
    # As classify counts them: with the same batches, what is cached serves both.
    size = o.as_count(batch_size) or auto_batch_size(sum(isinstance(item, str) for item in source.items), loaded)
    what = counted(len(source.items), source.noun)
    note(f"{loaded.name} on {loaded.device} in {loaded.precision}; {what}", quiet=quiet or not verbose)
    about = _about(loaded) | source.about(loaded, size)
    rows = source.rows(loaded, size, o.as_count(workers))
    with (
        EmbeddingsFile(output, source.subject, width=loaded.embed_dim, about=about, overwrite=overwrite) as file,
        progress_bar(quiet=quiet) as bar,
        closing(rows),  # whatever happens, the decoders end now
    ):
        unreadable = _write(file, rows, len(source.items), bar.counter("embedding", f"{source.noun}s"))
    note(f"wrote {output}: {_sentence(source, unreadable, loaded.embed_dim)}", quiet=quiet)
    raise typer.Exit(UnreadableImage.exit_code if unreadable and not ignore_errors else 0)


@dataclass(frozen=True, slots=True)
class _Images:
    """Images to embed, and how."""

    items: Sequence[str | SkippedImage]
    ignored: int
    decoding: "Callable[[], Decoding]"
    cache: bool

    noun = "image"

    @property
    def subject(self) -> "Subject":
        from zeroshot_cli.embed.embeddings_file import Subject

        return Subject.PATH

    @property
    def names(self) -> Sequence[str]:
        return [item.path if isinstance(item, SkippedImage) else item for item in self.items]

    @property
    def passed_over(self) -> str:
        return counted(self.ignored, "other file") if self.ignored else ""

    def about(self, model: "LoadedModel", batch_size: int) -> dict[str, str]:
        """Return what embeddings of images depend on besides the model."""
        preprocess = json.dumps(model.preprocess.config.to_dict())
        return {
            "preprocess": preprocess,
            "decoding": "exact" if self.decoding().exact else "draft",
            "batch_size": str(batch_size),
        }

    def rows(self, model: "LoadedModel", batch_size: int, workers: int | None) -> "Generator[list[Row]]":
        from zeroshot_cli.embed.image_cache import ImageCache
        from zeroshot_cli.embed.images import encode_images
        from zeroshot_cli.images.decoder_pool import auto_workers

        blocks = encode_images(
            model,
            self.items,
            batch_size=batch_size,
            workers=workers or auto_workers(model.device.type),
            cache=ImageCache() if self.cache else None,
            decoding=self.decoding(),
        )
        for block in blocks:
            yield [
                (item.path, None, item.reason) if isinstance(item, SkippedImage) else (item.path, item.embedding, None)
                for item in block
            ]


@dataclass(frozen=True, slots=True)
class _Texts:
    """Texts to embed, in a window of many at a time: they share what they begin with."""

    items: Sequence[str]
    blank: int

    noun = "text"

    @property
    def subject(self) -> "Subject":
        from zeroshot_cli.embed.embeddings_file import Subject

        return Subject.TEXT

    @property
    def names(self) -> Sequence[str]:
        return self.items

    @property
    def passed_over(self) -> str:
        return counted(self.blank, "blank line") if self.blank else ""

    def about(self, model: "LoadedModel", batch_size: int) -> dict[str, str]:
        """Return nothing: the model and the texts say all."""
        return {}

    def rows(self, model: "LoadedModel", batch_size: int, workers: int | None) -> "Generator[list[Row]]":
        from zeroshot_cli.embed.texts import WINDOW, embed_texts

        for start in range(0, len(self.items), WINDOW):
            window = self.items[start : start + WINDOW]
            embeddings = embed_texts(model, window).numpy()
            yield [(text, embedding, None) for text, embedding in zip(window, embeddings, strict=True)]


def _source(
    images: list[str],
    texts: Path | None,
    *,
    null: bool,
    exact: bool,
    decoding: "Callable[[], Decoding]",
    cache: bool,
) -> _Images | _Texts:
    """Return what the arguments name; UsageError where that is not either images or texts."""
    if bool(images) == (texts is not None):
        both = f"IMAGES and --texts {texts} are both given" if images else "nothing to embed"
        raise UsageError(f"{both}; give images, files or folders, or --texts FILE, one of the two")
    if texts is None:
        from zeroshot_cli.images.find import find_images

        o.check_cache(cache)
        found = find_images(images, stdin=getattr(sys.stdin, "buffer", None), null_separated=null)
        return _Images(found.items, found.ignored, decoding, cache)
    given = "-0" if null else "--exact-decode" if exact else None
    if given is not None:
        raise UsageError(f"{given} is for images, and --texts {texts} names texts; leave it out")
    lines = _read_texts(texts).removesuffix("\n").split("\n")
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise DataError(f"no text in {_name(texts)}; give one text a line")
    return _Texts(kept, len(lines) - len(kept))


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


def _write(
    file: "EmbeddingsFile", blocks: "Iterable[list[Row]]", total: int, on_progress: Callable[[int, int], None]
) -> int:
    """Write all rows; return how many have no embedding."""
    done = unreadable = 0
    for block in blocks:
        file.write(block)
        done += len(block)
        unreadable += sum(reason is not None for _, _, reason in block)
        on_progress(done, total)
    return unreadable


def _about(model: "LoadedModel") -> dict[str, str]:
    from importlib.metadata import version

    return {
        "model": model.name,
        "pretrained": model.pretrained or "",
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "device": model.device.type,
        "versions": json.dumps({name: version(name) for name in VERSIONS_OF}),
    }


def _sentence(source: _Images | _Texts, unreadable: int, width: int) -> str:
    parts = [f"{counted(len(source.items) - unreadable, 'embedding')} of {width} numbers"]
    if unreadable:
        parts.append(f"{counted(unreadable, source.noun)} could not be read")
    if source.passed_over:
        parts.append(f"{source.passed_over} passed over")
    return ", ".join(parts) + "."
