"""`zeroshot models`: list and show models, and move them between machines and layouts."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import AUTO, Commands
from zeroshot_cli.cli.list_options import AsJson, Form, list_format
from zeroshot_cli.console.terminal import ListFormat, note, progress_bar
from zeroshot_cli.display import size_text
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.default import (
    BETTER_MODEL,
    DEFAULT_MODEL,
    MODEL_VARIABLE,
    forget_default,
    use_model,
)
from zeroshot_cli.models.export import Layout
from zeroshot_cli.models.registry import split_name

app = Commands()


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
    """List, choose, show, download, export and remove models."""
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
    every: Annotated[
        bool, typer.Option("--all", help="All models with all their weights, on a terminal too, not only a few.")
    ] = False,
    form: Form = ListFormat.TABLE,
    as_json: AsJson = False,
    debug: o.Debug = False,
) -> None:
    """List the models that --model knows by name, and the tags of each for --pretrained.

    On a terminal, a few worth having, unless --all or --model asks for others; a pipe, and --json, have all.
    """
    from zeroshot_cli.console.lists import print_first_models, print_models
    from zeroshot_cli.models.catalogue import list_models
    from zeroshot_cli.models.recommended import recommended

    entries, form = list_models(text), list_format(form, as_json)
    if form is ListFormat.TABLE and sys.stdout.isatty() and not (every or text):
        print_first_models(entries, recommended())
    else:
        print_models(entries, form)


@app.command("recommend")
def recommend(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure images a second of those that run without a download.")
    ] = False,
    form: Form = ListFormat.TABLE,
    as_json: AsJson = False,
    device: o.Device = AUTO,
    precision: o.PrecisionOption = o.Precision.AUTO,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """List a few models worth having: how good, how large, and what for.

    ImageNet is the accuracy that others published; GFLOP is the work of the image encoder for one image. --measure runs
    CLIP's own architectures here, with random weights, for a few seconds each.
    """
    from zeroshot_cli.console.lists import print_recommended
    from zeroshot_cli.models import recommended as worth

    models, form = worth.recommended(), list_format(form, as_json)
    speeds: list[float | None] | None = None
    if measure:
        with progress_bar(quiet=quiet) as bar:
            measured = worth.measure(models, device=device, precision=precision.value)
            speeds = list(bar.track(measured, len(models), "measuring"))
    print_recommended(models, speeds, form)
    if form is ListFormat.TABLE:
        used = {model.source for model in models}
        note("; ".join(f"{name}: {where}" for name, where in worth.sources().items() if name in used), quiet=quiet)


@app.command("use")
def use(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME[:TAG]|hf-hub:ORG/REPO|PATH",
            autocompletion=completion.models,
            show_default=False,
            help="The model; without a tag, with its default weights.",
        ),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help=f"Go back to {DEFAULT_MODEL}.")] = False,
    offline: o.Offline = False,
    debug: o.Debug = False,
) -> None:
    """Make a model the default of all commands but train, and download it unless it is here.

    The config file says so; --model, ZEROSHOT_MODEL and a classifier file go before it.
    """
    if (name is None) is not reset:
        raise UsageError(f"name a model, such as {BETTER_MODEL}, or give --reset to go back to {DEFAULT_MODEL}")
    if name is None:
        note(f"{DEFAULT_MODEL} is the default again; {forget_default()} names no other")
        return
    model, file = use_model(*split_name(name, None), offline=offline)
    note(f"{model} is the default now: {file} says so, and zeroshot models use --reset goes back to {DEFAULT_MODEL}")
    if variable := os.environ.get(MODEL_VARIABLE):
        note(f"warning: {MODEL_VARIABLE} is set, and {variable} goes before it")


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
    from zeroshot_cli.models.download import download_model

    name, tag = split_name(name, pretrained)
    where = download_model(name, tag, to, offline=offline)
    note(f"{where} is ready{f': --model {to} loads it' if to else ''}")


@app.command("remove")
def remove(name: Name, pretrained: o.Pretrained = None, debug: o.Debug = False) -> None:
    """Remove a downloaded model from the cache."""
    from zeroshot_cli.models.download import remove_model

    name, tag = split_name(name, pretrained)
    freed, others = remove_model(name, tag)
    also = f"; {', '.join(others)} shared its repository and were removed too" if others else ""
    nothing = f"{name} was not in the cache; nothing was removed"
    note(f"{size_text(freed)} freed{also}" if freed else nothing)


@app.command("export")
def export(
    name: Loadable,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write, for --model DIR unless ONNX.")],
    layout: Annotated[
        Layout | None,
        typer.Option(
            "--layout",
            show_default=False,
            help="The program that is to load it. Default: open_clip, for a folder named onnx that.",
        ),
    ] = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    debug: o.Debug = False,
) -> None:
    """Write a model in the layout of open_clip or of Transformers, or as ONNX."""
    from zeroshot_cli.models.download import check_target
    from zeroshot_cli.models.export import export_model
    from zeroshot_cli.models.load import load

    check_target(to)
    name, tag = split_name(name, pretrained)
    layout = layout or (Layout.ONNX if to.name == Layout.ONNX else Layout.OPEN_CLIP)
    checked = export_model(load(name, tag, device="cpu", precision="fp32", offline=offline), to, layout=layout)
    note(f"{to} is ready for {layout}{checked}")


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
