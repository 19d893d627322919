"""The option that a scheduler's tasks share the images by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Panel
from zeroshot_cli.console.terminal import note
from zeroshot_cli.display import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from zeroshot_cli.images.find import FoundImages
    from zeroshot_cli.results.shards.shard import Share


def _check_shard(value: str | None) -> str | None:
    """Raise BadParameter unless the value is I/N, with I from 1 to N."""
    from zeroshot_cli.results.shards.shard import Shard

    try:
        return None if value is None else str(Shard.parse(value))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class ShardOptions(o.ImageOptions):
    """Images, of which a run may take a share."""

    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            callback=_check_shard,
            show_default=False,
            rich_help_panel=Panel.IMAGES,
            help="Take share I of N of the images, chosen by a hash of their paths, for one task of many; zeroshot "
            "merge joins their outputs.",
        ),
    ] = None

    def share(
        self, found: "FoundImages", shown: "Callable[[str], str]" = str, *, always: bool = False
    ) -> "tuple[FoundImages, Share | None]":
        """Return the images of the shard, and what they are a share of; all of them without --shard, or `always` 1/1.

        `shown` is the path of an image as results have it.
        """
        if self.shard is None and not always:
            return found, None
        from zeroshot_cli.images.find import path_of
        from zeroshot_cli.remote.address import shown_address
        from zeroshot_cli.results.shards.shard import PathSet, Shard, Share

        shard, everything = Shard.parse(self.shard or "1/1"), PathSet.of(map(shown, found.paths()))
        if shard.total == 1:
            return found, Share(shard, everything, everything)
        found = found.with_items(item for item in found.items if shard.has(shown(shown_address(path_of(item)))))
        return found, Share(shard, PathSet.of(map(shown, found.paths())), everything)

    def say_share(self, share: "Share | None") -> None:
        """Say how many of the images a shard has."""
        if share is not None and self.shard is not None:
            images = counted(share.all.count, "image")
            note(f"shard {share.shard}: {share.own.count} of {images}", quiet=getattr(self, "quiet", False))
