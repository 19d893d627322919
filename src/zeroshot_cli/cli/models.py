"""`zeroshot models`: the models that zeroshot builds itself."""

import json
from typing import Annotated, Any

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.errors import UsageError

app = typer.Typer(help="List and show models.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(debug: o.Debug = False) -> None:
    """List the models that --model knows by name."""
    from zeroshot_cli.clip.config import PRESETS, config_to_dict
    from zeroshot_cli.report.console import print_rows

    rows = [(o.DEFAULT_MODEL, "", "", "comes with zeroshot: small, needs no network")]
    rows += [_summary(name, config_to_dict(config)) for name, config in PRESETS.items() if name != o.DEFAULT_MODEL]
    print_rows(("name", "pixels", "embedding", "image encoder"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model that is listed.")], debug: o.Debug = False
) -> None:
    """Show what a model is made of, as JSON in open_clip's spelling."""
    typer.echo(json.dumps(_config(name), indent=2))


def _config(name: str) -> dict[str, Any]:
    from zeroshot_cli.clip.config import PRESETS, config_to_dict

    if name in PRESETS:
        return config_to_dict(PRESETS[name])
    if name == o.DEFAULT_MODEL:
        from zeroshot_cli.weights.load import load

        return config_to_dict(load(name, device="cpu").config)
    raise UsageError(f"there is no model {name!r}; zeroshot models lists the names")


def _summary(name: str, config: dict[str, Any]) -> tuple[str, str, str, str]:
    vision = config["vision_cfg"]
    layers = vision["layers"]
    if isinstance(layers, list):
        encoder = f"ResNet, blocks {'-'.join(map(str, layers))}, width {vision['width']}"
    else:
        encoder = f"Transformer, {layers} layers, width {vision['width']}, patches of {vision['patch_size']}"
    return name, str(vision["image_size"]), str(config["embed_dim"]), encoder
