"""`zeroshot cache`: the embeddings that are kept for later runs."""

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Commands
from zeroshot_cli.console.terminal import note
from zeroshot_cli.display import counted, size_text
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.engines.choose import engines_folder

if TYPE_CHECKING:
    from zeroshot_cli.embed.cache_store import CacheFile, Cleared

cache_app = Commands()


@cache_app.callback(invoke_without_command=True)
def cache(context: typer.Context) -> None:
    """Show and empty the cache of embeddings."""
    if context.invoked_subcommand is None:
        info()


@cache_app.command("info")
def info(quiet: o.Quiet = False, debug: o.Debug = False) -> None:
    """Show where the cache is, and the entries, size and size limit of each of its files."""
    from zeroshot_cli.console.terminal import print_rows
    from zeroshot_cli.embed.cache_store import cache_files, size_limit

    limits = {"images": size_text(size_limit())}
    engines = engines_folder()
    files = cache_files()
    rows = [(f.name, _entries(f), size_text(f.size), limits.get(f.name, ""), str(f.path)) for f in files]
    if engines.is_dir():
        each = [path for path in engines.rglob("*") if path.is_file()]
        count = counted(sum(path.suffix == ".onnx" for path in each), "encoder")
        rows.append(("engines", count, size_text(sum(path.stat().st_size for path in each)), "", str(engines)))
    print_rows(("cache", "entries", "size", "limit", "file"), rows, spare=("limit",))
    for file in (file for file in files if file.problem is not None):
        note(f"warning: {file.path} cannot be read ({file.problem})", quiet=quiet)


@cache_app.command("clear")
def clear(
    texts: Annotated[bool, typer.Option("--texts", help="Clear only the embeddings of texts.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Clear only the embeddings of images.")] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Empty the cache of embeddings, remove damaged files and what was prepared for engines; others may be running."""
    from zeroshot_cli.embed.cache_store import IMAGES, TEXTS
    from zeroshot_cli.embed.cache_store import clear as clear_files

    both = texts == images
    chosen = [database for database, wanted in ((TEXTS, texts), (IMAGES, images)) if wanted or both]
    done = clear_files(chosen)
    if both and (engines := engines_folder()).is_dir():
        shutil.rmtree(engines, ignore_errors=True)
        note(f"{engines}: encoders prepared for other engines removed", quiet=quiet)
    for each in done:
        note(_cleared(each), quiet=quiet or each.problem is not None)
    failed = [f"{each.path} ({each.problem})" for each in done if each.problem is not None]
    if failed:
        raise UsageError(f"cannot empty {' and '.join(failed)}; try again when no other run is using it")


def _entries(file: "CacheFile") -> str:
    return "?" if file.problem is not None else _counts(file.rows)


def _counts(rows: dict[str, int]) -> str:
    """Return the rows by table, whose names are plurals: "1 embedding, 2 files"."""
    return ", ".join(counted(count, table.removesuffix("s")) for table, count in rows.items())


def _cleared(done: "Cleared") -> str:
    later = "; the rest is freed when another run ends" if done.in_use else ""
    return f"{done.path}: {_counts(done.removed)} removed, {size_text(done.freed)} freed{later}"
