"""The options that `zeroshot search` and `zeroshot duplicates` share: which images, and where what was found goes."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel
from zeroshot_cli.console.terminal import ProgressBar, note, note_assumed, progress_bar
from zeroshot_cli.disk import check_output, write_all, write_file, writing
from zeroshot_cli.display import shown_lines
from zeroshot_cli.records import SkippedImage, assumed_of, versions
from zeroshot_cli.search.listing import Listing, ListingFile, ListingFormat

if TYPE_CHECKING:
    from zeroshot_cli.embed.matrices import Embedded
    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.pages.found import FoundPage
    from zeroshot_cli.search.collection import Collection

_UNREADABLE = 5  # that are named on standard error
INPUTS = "files, folders (recursive), globs, addresses, files of zeroshot embed, or - for paths on standard input."


@dataclass(frozen=True, kw_only=True)
class ListingOptions(o.BatchOptions, o.ModelOptions, o.ImageOptions, o.MessageOptions):
    """Where images come from, and where what was found goes."""

    null: Annotated[
        bool,
        typer.Option(
            "-0",
            "--null",
            rich_help_panel=Panel.OUTPUT,
            help="Paths end with NUL, those on standard input and those that are printed.",
        ),
    ] = False
    form: Annotated[
        ListingFormat | None,
        typer.Option(
            "--format",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="What standard output gets. Default: table on a terminal, paths in a pipe.",
        ),
    ] = None
    output: Annotated[
        tuple[Path, ...],
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="Also write a .csv or .jsonl file, or a .html page with thumbnails; repeatable.",
        ),
    ] = ()
    overwrite: o.Overwrite = False

    def check_outputs(self) -> None:
        """Raise UsageError now for an output that cannot be written."""
        from zeroshot_cli.results.formats import format_of

        for path in self.output:
            format_of(path, ListingFile)
            check_output(path, overwrite=self.overwrite)

    def collection(self, inputs: Sequence[str]) -> tuple["Collection", "FoundImages"]:
        """Return the images that the inputs name, and what was assumed when they were looked for."""
        from zeroshot_cli.embed.embeddings_read import is_embeddings_file
        from zeroshot_cli.images.find import FoundImages, find_images
        from zeroshot_cli.search.collection import Collection

        self.check_cache()
        files = [each for each in inputs if is_embeddings_file(each)]
        others = [each for each in inputs if not is_embeddings_file(each)]
        found = FoundImages(())
        if others or not files:
            stdin = getattr(sys.stdin, "buffer", None)
            found = find_images(others, stdin=stdin, null_separated=self.null, selection=self.selection())
            found = self.with_frames(found)
        return Collection.of(found.items, files), found

    def load_for(self, collection: "Collection") -> "LoadedModel":
        """Load the model of the options, else the one that made the files of embeddings, else the default."""
        name, pretrained = (self.model, self.pretrained)
        if name is None and pretrained is None:
            name, pretrained = collection.model() or (None, None)
        model = self.load(name, pretrained)
        collection.check(model)
        return model

    def embedded(
        self, model: "LoadedModel", items: Sequence[str | SkippedImage], batch_size: int
    ) -> "Iterator[Embedded]":
        """Yield the embeddings of images, from the cache or the model."""
        from zeroshot_cli.embed.image_cache import ImageCache
        from zeroshot_cli.embed.matrices import embedded_images
        from zeroshot_cli.images.decoder_pool import auto_workers

        return embedded_images(
            model,
            items,
            batch_size=batch_size,
            workers=o.as_count(self.workers) or auto_workers(model.device.type),
            cache=ImageCache() if self.cache else None,
            decoding=self.decoding(),
        )

    def batch_of(self, model: "LoadedModel", found: "FoundImages") -> int:
        """Return the batch size, counted as classify does: with the same batches, cached embeddings serve both."""
        from zeroshot_cli.embed.batches import auto_batch_size

        return o.as_count(self.batch_size) or auto_batch_size(found.count or None, model)

    def say(self, model: "LoadedModel", found: "FoundImages") -> None:
        """Say what is used, and what was assumed."""
        quiet = self.quiet
        note(f"{model.title} on {model.device} in {model.computing}", quiet=quiet or not self.verbose)
        note_assumed(assumed_of(found.assumed, model.notes), quiet=quiet, verbose=self.verbose)

    def say_unread(self, collection: "Collection", found: "FoundImages") -> None:
        """Name what could not be read, at most five images unless --verbose is given."""
        lines = [f"{item.path}: {item.reason}" for item in collection.unread()]
        lines += collection.notes
        most = len(lines) if self.verbose else _UNREADABLE
        rest = [f"and {len(lines) - most} more; --verbose names all"] if len(lines) > most else []
        for text in (*lines[:most], *rest, *found.warnings):
            note(text, quiet=self.quiet)

    def about(self, model: "LoadedModel", found: "FoundImages") -> list[tuple[str, str]]:
        """Return what a page says of the run."""
        rows = {
            "model": model.title,
            "fingerprint of the weights": model.fingerprint,
            "computed on": f"{model.device.type} in {model.computing}",
            **{name: value for name, value in self.reading().items() if value},
            "assumed": "\n".join(assumed_of(found.assumed, model.notes)),
            "versions": ", ".join(f"{name} {number}" for name, number in versions("pillow").items()),
        }
        return [(name, value) for name, value in rows.items() if value]

    def thumbnails(self, bar: ProgressBar, description: str) -> "Callable[[Sequence[str]], Iterable[bytes | None]]":
        """Return what draws the thumbnails of paths, with a progress bar."""
        from zeroshot_cli.images.decoder_pool import auto_workers, thumbnails

        workers, decoding = o.as_count(self.workers) or auto_workers(), self.decoding()
        return lambda paths: bar.track(thumbnails(paths, workers=workers, decoding=decoding), len(paths), description)

    def write(self, listing: Listing, page: "Callable[[], FoundPage]", table: Callable[[], None]) -> None:
        """Write the output files, then standard output, where `table` prints for people."""
        from zeroshot_cli.results.formats import format_of

        for path in self.output:
            if (kind := format_of(path, ListingFile)) is ListingFile.HTML:
                self._write_page(page(), path)
            else:
                write_file(path, listing.rendered(kind))
        on_terminal = sys.stdout.isatty()
        form = self.form or (ListingFormat.TABLE if on_terminal and not self.null else ListingFormat.PATHS)
        if form is ListingFormat.TABLE:
            table()
            return
        data = listing.rendered(form, null=self.null)
        if on_terminal:
            data = shown_lines(data.decode("utf-8", "surrogateescape")).encode()
        with writing("standard output"):
            write_all(sys.stdout.buffer, data)

    def _write_page(self, page: "FoundPage", path: Path) -> None:
        from zeroshot_cli.pages.found import write_found_html

        with progress_bar(quiet=self.quiet) as bar:
            write_found_html(page, path, thumbnails=self.thumbnails(bar, f"drawing {path.name}"))
