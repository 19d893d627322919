"""`zeroshot prompts`: built-in sets of templates and labels, and faults in files of your own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import completion
from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import Commands, Panel, check_cosine, command
from zeroshot_cli.cli.commands.build import LabelsFile, PromptsName
from zeroshot_cli.cli.list_options import AsJson, Form, list_format
from zeroshot_cli.console.terminal import ListFormat, print_list
from zeroshot_cli.errors import InputError, UnavailableError, UsageError

app = Commands()


@app.callback(invoke_without_command=True)
def prompts(context: typer.Context) -> None:
    """List, show and check sets of templates and labels."""
    if context.invoked_subcommand is None:
        list_sets()


@app.command("list")
def list_sets(form: Form = ListFormat.TABLE, as_json: AsJson = False, debug: o.Debug = False) -> None:
    """List the built-in sets of templates (for --prompts) and of labels (for --labels)."""
    from zeroshot_cli.words.labels import list_labels
    from zeroshot_cli.words.prompts import list_prompts

    templates = {each.name: each for each in list_prompts()}
    labels = list_labels()
    sets: list[dict[str, object]] = [
        {
            "name": name,
            "templates": len(templates[name].templates) if name in templates else None,
            "labels": labels[name].count if name in labels else None,
            "description": labels[name].description if name in labels else templates[name].description,
        }
        for name in sorted(templates.keys() | labels)
    ]
    rows = [["" if value is None else str(value) for value in each.values()] for each in sets]
    print_list((*sets[0],), rows, sets, list_format(form, as_json))


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", autocompletion=completion.sets, help="A listed set, or a template file."),
    ],
    labels: LabelsFile = None,
    debug: o.Debug = False,
) -> None:
    """Show the templates of a set, one a line; with --labels, filled with each label in turn.

    A set that has labels only, such as imagenet, shows those; prompts show plain --labels NAME shows any set's labels.
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


@dataclass(frozen=True, kw_only=True)
class LintOptions(o.ModelOptions):
    """The options of `zeroshot prompts lint`."""

    names: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="FILE|NAME", autocompletion=completion.sets, help="Label or template files, or built-in sets."
        ),
    ]
    prompts: PromptsName = None
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="X",
            callback=check_cosine,
            rich_help_panel=Panel.LABELS,
            help="The cosine at which two labels are too alike. Default: 0.999.",
        ),
    ] = None
    precision: o.PrecisionOption = o.Precision.FP32
    quiet: o.Quiet = False
    debug: o.Debug = False


@app.command("lint")
@command
def lint(options: LintOptions) -> None:
    """Find faults in label and template files.

    These are duplicates, blanks, stray white space, invisible characters, missing placeholders, labels that look like a
    path or a number; and, with the model, texts that it would truncate and labels that it can hardly tell apart.
    Exits with 3 if a file has a fault.
    """
    from zeroshot_cli.classify.lint import NEARLY_EQUAL, check_inputs, lint
    from zeroshot_cli.console.terminal import note, print_rows, progress_bar
    from zeroshot_cli.display import counted
    from zeroshot_cli.embed.texts import TextCache

    check_inputs(options.names)
    try:
        model = options.load(options.model, options.pretrained)
    except UnavailableError as error:
        if options.model is not None:
            raise
        model = None
        note(f"no model, so lengths and similarity of texts were not checked: {error}", quiet=options.quiet)
    if model is not None and not model.counts_tokens:
        note(f"lengths of texts were not checked: the tokenizer of {model.name} is not ours", quiet=options.quiet)
    with progress_bar(quiet=options.quiet) as bar:
        faults = lint(
            options.names,
            model,
            options.prompts,
            threshold=NEARLY_EQUAL if options.threshold is None else options.threshold,
            cache=TextCache() if options.cache else None,
            on_progress=bar.counter("encoding labels", "texts"),
        )
    in_files = [fault for fault in faults if fault.in_file]
    if in_files:
        rows = [(fault.file, str(fault.line or ""), fault.kind, fault.text, fault.what) for fault in in_files]
        print_rows(("file", "line", "fault", "text", "what"), rows)
    for fault in faults:
        note(f"{fault.file}, line {fault.line}: {fault.text!r} {fault.what}", quiet=options.quiet or fault.in_file)
    note(f"{counted(len(in_files), 'fault')} in {counted(len(options.names), 'input')}.", quiet=options.quiet)
    raise typer.Exit(InputError.exit_code if in_files else 0)
