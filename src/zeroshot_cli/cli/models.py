"""`zeroshot models`: list and show models, and move them between machines and layouts."""

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Commands
from zeroshot_cli.display import size_text
from zeroshot_cli.models.export import Layout

app = Commands()


class ListFormat(StrEnum):
    """How the list is printed."""

    TABLE = "table"
    JSON = "json"


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:TAG]|hf-hub:ORG/REPO",
        autocompletion=completion.models,
        help="The model; without a tag, with its default weights.",
    ),
]
Loadable = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:TAG]|hf-hub:ORG/REPO|PATH",
        autocompletion=completion.models,
        help="The model, as --model takes it, or with its tag.",
    ),
]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List, show, download, export and remove models."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(
    text: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="TEXT",
            autocompletion=completion.models,
            help="Only names and tags that contain this text.",
        ),
    ] = "",
    form: Annotated[ListFormat, typer.Option("--format", help="How to print the list.")] = ListFormat.TABLE,
    debug: o.Debug = False,
) -> None:
    """List the models that --model knows by name, and the tags of each for --pretrained."""
    from zeroshot_cli.console.lists import print_models
    from zeroshot_cli.models.catalogue import list_models

    print_models(list_models(text), as_json=form is ListFormat.JSON)


@app.command("show")
def show(
    name: Loadable,
    tag: Annotated[
        str | None,
        typer.Argument(metavar="TAG", autocompletion=completion.tags, help="Which published weights."),
    ] = None,
    pretrained: o.Pretrained = None,
    debug: o.Debug = False,
) -> None:
    """Show a model's configuration, preprocessing, origin, published figures and fingerprint, as JSON."""
    from zeroshot_cli.models.registry import split_name

    name, tag = split_name(name, tag or pretrained)
    typer.echo(json.dumps(_description(name, tag), indent=2))


@app.command("download")
def download(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="A folder for another machine, where --model DIR loads it."),
    ] = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    debug: o.Debug = False,
) -> None:
    """Download a model into the cache, or with --to also into a folder for another machine."""
    from zeroshot_cli.console.terminal import note
    from zeroshot_cli.models.download import download_model
    from zeroshot_cli.models.registry import split_name

    name, tag = split_name(name, pretrained)
    where = download_model(name, tag, to, offline=offline)
    note(f"{where} is ready{f': --model {to} loads it' if to else ''}")


@app.command("remove")
def remove(name: Name, pretrained: o.Pretrained = None, debug: o.Debug = False) -> None:
    """Remove a downloaded model from the cache."""
    from zeroshot_cli.console.terminal import note
    from zeroshot_cli.models.download import remove_model
    from zeroshot_cli.models.registry import split_name

    name, tag = split_name(name, pretrained)
    freed, others = remove_model(name, tag)
    also = f"; {', '.join(others)} shared its repository and were removed too" if others else ""
    nothing = f"{name} was not in the cache; nothing was removed"
    note(f"{size_text(freed)} freed{also}" if freed else nothing)


@app.command("export")
def export(
    name: Loadable,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write; --model DIR loads it.")],
    layout: Annotated[Layout, typer.Option("--layout", help="The program that is to load it.")] = Layout.OPEN_CLIP,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    debug: o.Debug = False,
) -> None:
    """Write a model in the layout of open_clip or of Transformers."""
    from zeroshot_cli.console.terminal import note
    from zeroshot_cli.models.download import check_target
    from zeroshot_cli.models.export import export_model
    from zeroshot_cli.models.load import load
    from zeroshot_cli.models.registry import split_name

    check_target(to)
    name, tag = split_name(name, pretrained)
    export_model(load(name, tag, device="cpu", precision="fp32", offline=offline), to, layout=layout)
    note(f"{to} is ready for {layout}")


def _description(name: str, tag: str | None) -> dict[str, Any]:
    """Return what is known without the weights, and what they say if they are on this machine."""
    from zeroshot_cli.models.catalogue import describe_published
    from zeroshot_cli.models.registry import BUNDLED

    described: dict[str, Any] = {}
    if name not in BUNDLED and not name.startswith("hf-hub:") and not os.path.exists(name):  # noqa: PTH110
        described = describe_published(name, tag)
        if not described.get("on_this_machine"):
            return described
        name, tag = described["name"], described["pretrained"]
    from zeroshot_cli.models.load import load

    return described | load(name, tag, device="cpu", precision="fp32", offline=True).describe()
