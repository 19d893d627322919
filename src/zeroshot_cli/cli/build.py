"""`zeroshot build`: labels, templates and a model as one classifier file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import Classes, read_classes
from zeroshot_cli.console.terminal import note
from zeroshot_cli.disk import check_output
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError

EXTENSION = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class BuildOptions(o.ModelOptions, o.ThresholdOptions, o.LabelOptions, o.MessageOptions):
    """The options of `zeroshot build`."""

    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.safetensors",
            show_default=False,
            rich_help_panel=o.Panel.OUTPUT,
            help="The file to write.",
        ),
    ]
    overwrite: o.Overwrite = False
    precision: o.PrecisionOption = o.Precision.FP32


@o.command
def build(options: BuildOptions) -> None:
    """Put the embeddings of labels into one file, for classify --classifier and eval --classifier.

    The file works with the model that it was built with. It is plain safetensors, and holds the thresholds given.
    """
    output = options.output
    if output.suffix.lower() != EXTENSION:
        raise UsageError(f"cannot write {output}: a classifier file is safetensors; give a name ending in {EXTENSION}")
    check_output(output, overwrite=options.overwrite)
    classes = read_classes(options)
    model = options.load(options.model or o.DEFAULT_MODEL, options.pretrained)
    note(f"{model.name} on {model.device} in {model.precision}", quiet=options.quiet or not options.verbose)
    classifier = classes.classifier(model, cache=options.cache, quiet=options.quiet)
    classifier.save(output, thresholds=options.thresholds())
    note(f"wrote {output}: {_content(classes)}, model {model.name}.", quiet=options.quiet)


def _content(classes: Classes) -> str:
    texts = sum(map(len, classes.prompts.fill(classes.labels)))
    return f"{counted(len(classes.labels), 'label')}, {counted(texts, 'text')}, prompts {classes.prompts.name}"
