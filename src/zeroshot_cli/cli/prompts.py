"""`zeroshot prompts`: the built-in sets of templates and labels, and faults of your own."""

from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.errors import InputError, UnavailableError, UsageError

app = typer.Typer(help="List, show and check sets of templates and labels.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def prompts(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sets()


@app.command("list")
def list_sets(debug: o.Debug = False) -> None:
    """List the sets of templates (for --prompts) and of labels (for --labels) that come with zeroshot."""
    from zeroshot_cli.console.terminal import print_rows
    from zeroshot_cli.words.labels import list_labels
    from zeroshot_cli.words.prompts import list_prompts

    templates = {each.name: each for each in list_prompts()}
    labels = list_labels()
    rows = []
    for name in sorted(templates.keys() | labels):
        count = str(len(templates[name].templates)) if name in templates else ""
        described = labels[name].description if name in labels else templates[name].description
        rows.append((name, count, str(labels[name].count) if name in labels else "", described))
    print_rows(("name", "templates", "labels", "description"), rows)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A set that is listed, or a file of templates.")],
    labels: o.LabelsFile = None,
    debug: o.Debug = False,
) -> None:
    """Show the templates of a set, one a line; with --labels filled with them, class by class.

    A set that holds labels only, such as imagenet, shows these; zeroshot prompts show plain --labels NAME any other's.
    """
    from zeroshot_cli.console.terminal import note
    from zeroshot_cli.display import shown
    from zeroshot_cli.words.labels import read_labels
    from zeroshot_cli.words.prompts import read_prompts
    from zeroshot_cli.words.textfiles import did_you_mean, label_files, template_files

    if labels is None and name not in template_files():
        if name in label_files():
            name, labels = "plain", Path(name)
        elif not Path(name).suffix and not Path(name).exists():
            sets = template_files() | label_files()
            hint = did_you_mean(name, sets, ".yaml or .txt")
            raise UsageError(f"there is no set {name!r}; {hint}")
    found = read_prompts(name)
    lines = found.templates
    if labels is not None:
        lines = tuple(text for texts in found.fill(read_labels(labels)) for text in texts)
    note(". ".join(part.rstrip(".") for part in (found.name, found.description, found.source) if part) + ".")
    for line in lines:
        typer.echo(shown(line))


@app.command("lint")
def lint(
    names: Annotated[
        list[str], typer.Argument(metavar="FILE|NAME...", help="Label or template files, or built-in sets.")
    ],
    prompts: o.PromptsName = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="X", help="The cosine from which two labels are too alike, 0.999."),
    ] = None,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    model: o.ModelIfAny = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.FP32,
) -> None:
    """Find faults: duplicates, blanks, stray white space, characters that cannot be seen, placeholders that are
    missing, labels that look like a path or a number; and with the model, texts that it would cut short and labels that
    it can hardly tell apart. Exits with 3 where a file has a fault.
    """
    from zeroshot_cli.classify.lint import NEARLY_EQUAL, check_inputs, lint
    from zeroshot_cli.console.terminal import note, print_rows, progress_bar
    from zeroshot_cli.display import counted
    from zeroshot_cli.embed.texts import TextCache
    from zeroshot_cli.models.load import load

    check_inputs(names)
    try:
        loaded = load(model or o.DEFAULT_MODEL, pretrained, device=device, precision=precision.value, offline=offline)
    except UnavailableError as error:
        if model is not None:
            raise
        loaded = None
        note(f"how long texts are and how alike was not checked, for want of a model: {error}", quiet=quiet)
    if loaded is not None and not loaded.counts_tokens:
        note(f"how long texts are was not checked: the tokenizer of {loaded.name} is not ours", quiet=quiet)
    with progress_bar(quiet=quiet) as bar:
        faults = lint(
            names,
            loaded,
            prompts,
            threshold=NEARLY_EQUAL if threshold is None else threshold,
            cache=TextCache() if cache else None,
            on_progress=bar.counter("encoding labels", "texts"),
        )
    mine = [fault for fault in faults if fault.in_file]
    if mine:
        rows = [(fault.file, str(fault.line or ""), fault.kind, fault.text, fault.what) for fault in mine]
        print_rows(("file", "line", "fault", "text", "what"), rows)
    for fault in faults:
        note(f"{fault.file}, line {fault.line}: {fault.text!r} {fault.what}", quiet=quiet or fault.in_file)
    note(f"{counted(len(mine), 'fault')} in {counted(len(names), 'input')}.", quiet=quiet)
    raise typer.Exit(InputError.exit_code if mine else 0)
