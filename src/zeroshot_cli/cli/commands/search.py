"""`zeroshot search`: the images that fit a text or look like an image; `zeroshot duplicates`: near-copies."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli.command import Panel, check_cosine, command, finish
from zeroshot_cli.cli.listing_options import INPUTS, ListingOptions
from zeroshot_cli.console.search import print_linked
from zeroshot_cli.console.terminal import note, progress_bar
from zeroshot_cli.disk import similar_path
from zeroshot_cli.display import counted, size_text
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.find import IMAGE_SUFFIXES
from zeroshot_cli.remote.address import is_elsewhere, shown_address
from zeroshot_cli.search.listing import THRESHOLD, Listing, Match

if TYPE_CHECKING:
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.pages.found import FoundPage
    from zeroshot_cli.search.collection import Collection
    from zeroshot_cli.search.copies import Copy
    from zeroshot_cli.search.nearest import Floats


_EXAMPLE = "zeroshot search 'a red boat'"


@dataclass(frozen=True, kw_only=True)
class SearchOptions(ListingOptions):
    """The options of `zeroshot search`."""

    given: Annotated[
        tuple[str, ...],
        typer.Argument(metavar="[TEXT] IMAGES", show_default=False, help=f"What to look for, then where: {INPUTS}"),
    ] = ()
    like: Annotated[
        tuple[str, ...],
        typer.Option(
            "--like",
            metavar="IMAGE",
            show_default=False,
            rich_help_panel=Panel.DATA,
            help="Find images that look like this one; repeatable, and TEXT may be added or omitted.",
        ),
    ] = ()
    unlike: Annotated[
        tuple[str, ...],
        typer.Option(
            "--not",
            metavar="TEXT",
            show_default=False,
            rich_help_panel=Panel.DATA,
            help="What the images should not show; repeatable.",
        ),
    ] = ()
    top: Annotated[
        int,
        typer.Option("--top", metavar="N", min=1, rich_help_panel=Panel.OUTPUT, help="How many images to find."),
    ] = 20
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            metavar="COSINE",
            callback=check_cosine,
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="Only images whose cosine with the query is at least this.",
        ),
    ] = None


@command
def search(options: SearchOptions) -> None:
    """Find the images that fit a text, or look like an image: the best first.

    Images are encoded once, and found from the cache after that.
    """
    # What takes no time comes first: a mistake shows before the model is loaded.
    text, inputs = _text_and_images(options)
    options.check_outputs()
    collection, found = options.collection(inputs)
    model = options.load_for(collection)
    size = options.batch_of(model, found)
    options.say(model, found)
    query = _query(options, model, text, size)
    from zeroshot_cli.search.nearest import best, scores_of

    paths = [*map(shown_address, collection.paths())]
    with progress_bar(quiet=options.quiet) as bar:
        blocks = collection.blocks(options.embedded(model, collection.items, size), bar.counter("searching", "images"))
        scores = scores_of(blocks, query, len(paths))
    hits = [(paths[place], float(scores[place])) for place in best(scores, options.top, options.min_score)]
    rows = [{"path": path, "rank": rank, "score": score} for rank, (path, score) in enumerate(hits, start=1)]
    listing = Listing(("path", "rank", "score"), rows, [path for path, _ in hits])
    named = _named(text, options)
    what = f"{counted(len(hits), 'image')} of {len(paths) - len(collection.skipped):,} for {named}"

    def page() -> "FoundPage":
        from zeroshot_cli.pages.found import FoundImage, FoundPage

        images = [FoundImage(path, f"{rank}. {score:.4f}") for rank, (path, score) in enumerate(hits, start=1)]
        about = [("searched", what), *options.about(model, found)]
        return FoundPage("search", named, [("", images)], about, collection.unread())

    options.write(
        listing,
        page,
        lambda: print_linked(
            ("rank", "score", "path"), [(str(row["rank"]), f"{row['score']:.4f}", str(row["path"])) for row in rows]
        ),
    )
    options.say_unread(collection, found)
    note(f"{what}, model {model.title}.", quiet=options.quiet)
    finish(len(collection.skipped), ignore_errors=options.ignore_errors)


def _text_and_images(options: SearchOptions) -> tuple[str | None, Sequence[str]]:
    """Return the text and the images: the first argument is the text, but with --like only where it is no path.

    Raises UsageError where one of them is missing, or they have changed places.
    """
    for path in options.like:
        if not is_elsewhere(path) and not os.path.isfile(path):  # noqa: PTH113 (a NUL in the path is no error here)
            raise UsageError(f"--like {path}: there is no such file; {similar_path(path) or 'give an image'}")
    first, rest = (options.given or ("",))[0], options.given[1:]
    is_path = os.path.lexists(first)
    _check_words(options.given)
    if options.like and (not first or first == "-" or is_path):
        text, inputs = None, options.given
    else:
        text, inputs = first, rest
        if not text.strip():
            raise UsageError(f"nothing to search for; give a text, as in {_EXAMPLE} photos/, or --like IMAGE")
    if is_path and text is not None and not any(os.path.lexists(each) or os.sep in each for each in inputs):
        if not inputs:
            raise UsageError(f"the text to search for comes first: {_EXAMPLE} {shlex.quote(text)}")
        if os.path.isdir(first) and inputs != ("-",):  # noqa: PTH112
            raise UsageError(f"the text comes first: zeroshot search {shlex.join([' '.join(inputs), text])}")
    if text is not None and os.path.isfile(text) and Path(text).suffix.lower() in IMAGE_SUFFIXES:  # noqa: PTH113
        raise UsageError(
            f"{text} is an image; for images like it: zeroshot search {shlex.join(['--like', *options.given])}"
        )
    if not inputs:
        raise UsageError(f"no images to search; add a folder, as in {_EXAMPLE} photos/")
    return text, inputs


def _check_words(given: Sequence[str]) -> None:
    """Raise UsageError for `search a red boat photos`, where the words of the text are not in quotes."""
    words = [*takewhile(lambda word: word.isalnum() and not os.path.lexists(word), given)]
    folders = given[len(words) :]
    if len(words) > 1 and folders and os.path.lexists(folders[0]):
        raise UsageError(
            f"a text of several words is in quotes: zeroshot search {shlex.join([' '.join(words), *folders])}"
        )


def _query(options: SearchOptions, model: "LoadedModel", text: str | None, size: int) -> "Floats":
    """Return the direction of what is looked for; DataError for an image of --like that cannot be read."""
    from zeroshot_cli.classify.language import warning_of_language
    from zeroshot_cli.embed.prompt_ensemble import class_embeddings
    from zeroshot_cli.embed.texts import TextCache
    from zeroshot_cli.search.nearest import query_of

    texts = [*([] if text is None else [text]), *options.unlike]
    if texts and (doubt := warning_of_language(texts, model.name)):
        note(f"warning: {doubt}", quiet=options.quiet)
    cache = TextCache() if options.cache else None
    embedded = [*class_embeddings(model, [[each] for each in texts], cache=cache).numpy()] if texts else []
    images = []
    for block in options.embedded(model, options.like, size) if options.like else ():
        for _, item in block.skipped:
            raise DataError(f"--like {item.path} cannot be read: {item.reason}; give another image")
        images += list(block.embeddings)
    known = 0 if text is None else 1
    try:
        return query_of([*embedded[:known], *images], embedded[known:])
    except ValueError as error:
        raise UsageError(f"{error}; change TEXT, --like or --not") from None


def _named(text: str | None, options: SearchOptions) -> str:
    """Return what was looked for, as a sentence has it."""
    parts = [] if text is None else [repr(text)]
    parts += [f"like {shown_address(path)}" for path in options.like]
    return " and ".join(parts) + "".join(f", not {each!r}" for each in options.unlike)


@dataclass(frozen=True, kw_only=True)
class DuplicatesOptions(ListingOptions):
    """The options of `zeroshot duplicates`."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGES",
            show_default=False,
            help="Files, folders (searched recursively), globs, addresses, or - for paths on standard input.",
        ),
    ]
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            metavar="N",
            callback=check_cosine,
            rich_help_panel=Panel.DATA,
            help="How alike the pixels of copies are at least, from 0 to 1 for the same.",
        ),
    ] = THRESHOLD


@command
def duplicates(options: DuplicatesOptions) -> None:
    """Find near-copies: the same bytes, resized, recompressed or slightly cropped images, in groups.

    The first of each group is the one to keep: the largest file, then the oldest. Nothing is ever deleted.
    """
    options.check_outputs()
    if options.frames == "each":
        raise UsageError("--frames each: duplicates compares whole files; give first, middle or a number")
    collection, found = options.collection(options.images)
    if collection.files:
        raise UsageError(f"{collection.files[0][0]} has no pixels to compare; give the images themselves")
    model = options.load_for(collection)
    options.say(model, found)
    groups = _groups(options, collection, model, options.batch_of(model, found))
    groups = [[replace(copy, path=shown_address(copy.path)) for copy in group] for group in groups]
    copies = [copy for group in groups for copy in group]
    others = [copy for group in groups for copy in group[1:]]
    rows = [
        {"group": copy.group, "path": copy.path, "match": str(copy.match), "score": copy.score, "size": copy.size}
        for copy in copies
    ]
    listing = Listing(("group", "path", "match", "score", "size"), rows, [copy.path for copy in others])
    images = len(collection.items) - len(collection.skipped)
    beyond = f"{counted(len(others), 'image')} beyond those to keep ({_size(sum(copy.size for copy in others))})"
    what = f"{counted(images, 'image')}, {counted(len(groups), 'group')} of copies, {beyond}"

    def page() -> "FoundPage":
        from zeroshot_cli.pages.found import FoundImage, FoundPage

        sections = [
            (
                f"{number}. {counted(len(group), 'image')}",
                [FoundImage(c.path, _line(c), c.match is Match.KEEP) for c in group],
            )
            for number, group in enumerate(groups, start=1)
        ]
        about = [("found", what), ("threshold", f"{options.threshold:g}"), *options.about(model, found)]
        return FoundPage(
            "duplicates", ", ".join(map(shown_address, options.images)), sections, about, collection.unread()
        )

    options.write(
        listing,
        page,
        lambda: print_linked(
            ("group", "match", "score", "size", "path"),
            [(str(c.group), str(c.match), f"{c.score:.4f}", _size(c.size), c.path) for c in copies],
            texts=("match",),
        ),
    )
    options.say_unread(collection, found)
    note(f"{what}; nothing was deleted; model {model.title}.", quiet=options.quiet)
    finish(len(collection.skipped), ignore_errors=options.ignore_errors)


def _line(copy: "Copy") -> str:
    """Return what a page says of a file."""
    what = f"similar, {copy.score:.3f}" if copy.match is Match.SIMILAR else str(copy.match)
    return f"{what}, {_size(copy.size)}"


def _size(size: int) -> str:
    """Return a size; that of an image that is no file on this disk is not known."""
    return size_text(size) if size >= 0 else "size unknown"


def _groups(
    options: DuplicatesOptions, collection: "Collection", model: "LoadedModel", batch_size: int
) -> "list[list[Copy]]":
    """Return the groups of copies among the images that can be read."""
    import numpy as np

    from zeroshot_cli.embed.image_cache import ImageCache
    from zeroshot_cli.search.copies import find_copies, once_each

    paths = collection.paths()
    embeddings = np.empty((len(paths), model.embed_dim), np.float32)
    with progress_bar(quiet=options.quiet) as bar:
        embedded = options.embedded(model, collection.items, batch_size)
        for places, block in collection.blocks(embedded, bar.counter("encoding", "images")):
            embeddings[places] = block
        unread = {place for place, _ in collection.skipped}
        kept = [place for place in once_each(paths) if place not in unread]
        return find_copies(
            [paths[place] for place in kept],
            embeddings[kept],
            options.threshold,
            thumbnails=options.thumbnails(bar, "comparing pixels"),
            cache=ImageCache() if options.cache else None,
            on_progress=bar.counter("comparing", "tiles"),
        )
