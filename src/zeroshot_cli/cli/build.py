"""`zeroshot build`: labels, templates and a model as one classifier file."""

from pathlib import Path
from typing import Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import Classes, read_classes
from zeroshot_cli.console.terminal import note
from zeroshot_cli.disk import check_output
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError

ENDING = ".safetensors"
Target = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE.safetensors", help="The file to write.", show_default=False)
]


def build(
    output: Target,
    labels: o.LabelsFile = None,
    label: o.LabelTexts = None,
    prompts: o.PromptsName = None,
    min_score: o.MinScore = None,
    min_probability: o.MinProbability = None,
    min_margin: o.MinMargin = None,
    overwrite: o.Overwrite = False,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
    model: o.Model = o.DEFAULT_MODEL,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.FP32,
) -> None:
    """Put the embeddings of labels into one file, for classify --classifier and eval --classifier.

    The file belongs to the model that it is built with. It is plain safetensors; thresholds are kept in it as given.
    """
    if output.suffix.lower() != ENDING:
        raise UsageError(f"cannot write {output}: a classifier file is safetensors; give a name that ends in {ENDING}")
    check_output(output, overwrite=overwrite)
    classes = read_classes(labels, label or [], prompts)

    from zeroshot_cli.models.load import load

    loaded = load(model, pretrained, device=device, precision=precision.value, offline=offline)
    note(f"{loaded.name} on {loaded.device} in {loaded.precision}", quiet=quiet or not verbose)
    given = {"min_score": min_score, "min_probability": min_probability, "min_margin": min_margin}
    thresholds = {name: value for name, value in given.items() if value is not None}
    classes.classifier(loaded, cache=cache, quiet=quiet).save(output, thresholds=thresholds)
    note(f"wrote {output}: {_content(classes)}, model {loaded.name}.", quiet=quiet)


def _content(classes: Classes) -> str:
    texts = sum(map(len, classes.prompts.fill(classes.labels)))
    return f"{counted(len(classes.labels), 'label')}, {counted(texts, 'text')}, prompts {classes.prompts.name}"
