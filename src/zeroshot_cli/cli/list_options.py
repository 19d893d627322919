"""The options of the commands that print a list."""

from typing import Annotated

import typer

from zeroshot_cli.console.terminal import ListFormat

Form = Annotated[ListFormat, typer.Option("--format", help="How to print the list.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole list as JSON, as --format json does.")]


def list_format(form: ListFormat, as_json: bool) -> ListFormat:
    """Return the format of a list, which --json gives as well."""
    return ListFormat.JSON if as_json else form
