"""`zeroshot prompts`: the template sets."""

from typing import Annotated

import typer

from zeroshot_cli.cli import options as o

app = typer.Typer(help="List and show the template sets.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def prompts(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sets()


@app.command("list")
def list_sets(debug: o.Debug = False) -> None:
    """List the template sets that come with zeroshot."""
    from zeroshot_cli.prompts import list_prompts
    from zeroshot_cli.report.console import print_rows

    rows = [(each.name, str(len(each.templates)), each.description) for each in list_prompts()]
    print_rows(("name", "templates", "description"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A template set that is listed, or a file.")],
    debug: o.Debug = False,
) -> None:
    """Show the templates of a set, one a line."""
    from zeroshot_cli.prompts import read_prompts
    from zeroshot_cli.report.console import note, shown

    found = read_prompts(name)
    note(". ".join(part.rstrip(".") for part in (found.name, found.description, found.source) if part) + ".")
    for template in found.templates:
        typer.echo(shown(template))
