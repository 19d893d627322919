"""`zeroshot eval`: how often a model is right on labelled images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.classes import Classes, read_classes
from zeroshot_cli.errors import UnreadableImage
from zeroshot_cli.report.console import console_for, note, progress_bar

if TYPE_CHECKING:
    from zeroshot_cli.evaluate.datasets import LabelledImages
    from zeroshot_cli.weights.loaded import LoadedModel

Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        show_default=False,
        help="A folder of class folders, or a CSV with the columns image and label.",
    ),
]
JsonOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE.json", help="Write all figures as JSON.", rich_help_panel="Output"),
]


def evaluate(
    dataset: Dataset,
    labels: o.LabelsFile = None,
    prompts: o.PromptsName = None,
    classifier: o.ClassifierFile = None,
    output: JsonOutput = None,
    max_pixels: o.MaxPixels = None,
    decode_timeout: o.DecodeTimeout = None,
    overwrite: o.Overwrite = False,
    ignore_errors: o.IgnoreErrors = False,
    cache: o.Cache = True,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    debug: o.Debug = False,
    model: o.ModelIfAny = None,
    pretrained: o.Pretrained = None,
    offline: o.Offline = False,
    device: o.Device = o.AUTO,
    precision: o.PrecisionOption = o.Precision.FP32,
    batch_size: o.BatchSize = o.AUTO,
    workers: o.Workers = o.AUTO,
) -> None:
    """Say how often a model is right on labelled images: top-1, top-5, mean per-class recall.

    The classes are the folder names or the values of the label column, unless --labels gives them. Images that
    cannot be read are listed and not counted.
    """
    from zeroshot_cli.report.eval_console import print_eval
    from zeroshot_cli.report.eval_json import check_json_target, write_eval_json

    # What takes no time comes first: a mistake shows before the model is loaded.
    if output is not None:
        check_json_target(output, overwrite=overwrite)
    o.check_cache(cache)
    images, classes = _read(dataset, labels, prompts, classifier, quiet=quiet)

    from zeroshot_cli.encode.image_cache import ImageCache
    from zeroshot_cli.evaluate.run import evaluate as run
    from zeroshot_cli.weights.load import load

    name, weights = classes.model(model, pretrained)
    loaded = load(name, weights, device=device, precision=precision.value, offline=offline)
    size = _batch_size(batch_size, images, loaded)
    note(_setting(loaded, images, classes, size), quiet=quiet or not verbose)
    chooser = classes.classifier(loaded, cache=cache, quiet=quiet)
    with progress_bar(quiet=quiet) as bar:
        result = run(
            loaded,
            images,
            classifier=chooser,
            batch_size=size,
            workers=o.as_count(workers),
            cache=ImageCache() if cache else None,
            decoding=o.decoding(exact=True, max_pixels=max_pixels, timeout=decode_timeout),
            track=lambda outcomes: bar.track(outcomes, len(images), "evaluating"),
        )
    if output is not None:
        write_eval_json(result, output)
    print_eval(result, console_for(sys.stdout))
    for image in result.skipped:
        note(f"{image.path}: {image.reason}", quiet=quiet)
    raise typer.Exit(UnreadableImage.exit_code if result.skipped and not ignore_errors else 0)


def _read(
    dataset: Path, labels: Path | None, prompts: str | None, classifier: Path | None, *, quiet: bool
) -> "tuple[LabelledImages, Classes]":
    """Return the images and the classes, which are the images' own where no option names any."""
    from zeroshot_cli.evaluate.datasets import read_dataset
    from zeroshot_cli.prompts import prompts_for, read_prompts

    classes = None
    if labels is not None or classifier is not None:
        classes = read_classes(labels, (), prompts, classifier)
    templates = read_prompts(prompts or prompts_for(None)) if classes is None else classes.prompts
    images = read_dataset(dataset, None if classes is None else classes.labels)
    if images.ignored:
        passed = "1 file that is no image" if images.ignored == 1 else f"{images.ignored} files that are no images"
        note(f"{dataset}: passed over {passed} in a class folder", quiet=quiet)
    return images, classes or Classes(images.labels, templates)


def _batch_size(option: str, images: "LabelledImages", model: "LoadedModel") -> int:
    from zeroshot_cli.encode.images import auto_batch_size

    return o.as_count(option) or auto_batch_size(sum(isinstance(item, str) for item in images.items), model)


def _setting(model: "LoadedModel", images: "LabelledImages", classes: "Classes", batch_size: int) -> str:
    return (
        f"{model.name} on {model.device} in {model.precision}, batches of {batch_size}; {len(images)} images, "
        f"{len(images.labels)} labels, prompts {classes.prompts.name}"
    )
