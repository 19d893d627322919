"""The options of the commands that print a list."""

from dataclasses import dataclass
from typing import Annotated

import typer

from zeroshot_cli.cli.command import Panel
from zeroshot_cli.console.terminal import ListFormat

Form = Annotated[ListFormat, typer.Option("--format", help="How to print the list.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole list as JSON, as --format json does.")]


def list_format(form: ListFormat, as_json: bool) -> ListFormat:
    """Return the format of a list, which --json gives as well."""
    return ListFormat.JSON if as_json else form


@dataclass(frozen=True, kw_only=True)
class SetsOptions:
    """The options of the list of data sets."""

    list_sets: Annotated[
        bool,
        typer.Option("--list", rich_help_panel=Panel.DATASET, help="List the data sets that have a name, and exit."),
    ] = False
    all_sets: Annotated[
        bool,
        typer.Option(
            "--all",
            rich_help_panel=Panel.DATASET,
            help="With --list: all data sets, on a terminal too, not only a few.",
        ),
    ] = False
    as_json: Annotated[
        bool, typer.Option("--json", rich_help_panel=Panel.DATASET, help="With --list: the whole list as JSON.")
    ] = False
