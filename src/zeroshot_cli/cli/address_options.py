"""Options for images at addresses."""

from typing import Annotated

import typer

from zeroshot_cli.cli.command import Panel

AllowPrivate = Annotated[
    bool,
    typer.Option(
        "--allow-private",
        rich_help_panel=Panel.IMAGES,
        help="Let a server of images redirect into your own network, and read from link-local addresses.",
    ),
]
