"""The options of `zeroshot classify`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.address_options import OutputsElsewhere
from zeroshot_cli.cli.command import Panel
from zeroshot_cli.cli.commands.build import ClassifierFile, LabelOptions, ThresholdOptions
from zeroshot_cli.cli.engine_options import EngineOptions
from zeroshot_cli.cli.output_folder import OutputPath, folder_among, output_path
from zeroshot_cli.cli.shard_options import ShardOptions
from zeroshot_cli.filing.manifest import SortMode
from zeroshot_cli.results.formats import Format, OutputEncoding

if TYPE_CHECKING:
    from zeroshot_cli.results.targets import Targets


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(EngineOptions, ShardOptions, ThresholdOptions, LabelOptions, OutputsElsewhere, o.MessageOptions):
    """The options of `zeroshot classify`."""

    images: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="IMAGES",
            show_default=False,
            help="Files, folders (searched recursively), globs, addresses, or - for paths on standard input.",
        ),
    ]
    classifier: ClassifierFile = None
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="N",
            min=1,
            show_default=False,
            rich_help_panel=Panel.LABELS,
            help="Keep at most N labels per image. Default: 1; with --multi-label, all that fit.",
        ),
    ] = None
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            rich_help_panel=Panel.LABELS,
            help="Judge every label on its own: an image may have several.",
        ),
    ] = False
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            metavar="N",
            min=1,
            show_default=False,
            rich_help_panel=Panel.LABELS,
            help="Answer with the groups of level N of the label file, 1 for the topmost; a label that is not so deep "
            "answers itself.",
        ),
    ] = None
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            rich_help_panel=Panel.LABELS,
            help="Look at all images together before the first answer, which can be better for it (see docs/adapt.md).",
        ),
    ] = False
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            metavar="FILE",
            rich_help_panel=Panel.LABELS,
            help="Labels that people gave images, which these then have: corrections.csv of zeroshot review, or "
            "a table.",
        ),
    ] = None
    background: Annotated[
        Path | None,
        typer.Option(
            "--background",
            metavar="FILE|auto",
            rich_help_panel=Panel.UNKNOWN,
            help="An image is unknown if a label of this file is nearer; these labels do not affect probabilities. "
            "With auto, common nouns that are far from your labels take the file's place.",
        ),
    ] = None
    output: Annotated[
        tuple[OutputPath, ...],
        typer.Option(
            "--output",
            "-o",
            parser=output_path,
            metavar="FILE|DIR/",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="Write a .csv, .tsv, .jsonl, .parquet, .xlsx or .html file; repeatable. A folder gets a Parquet file "
            "for every 512 images.",
        ),
    ] = ()
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary",
            metavar="FILE",
            show_default=False,
            rich_help_panel=Panel.OUTPUT,
            help="Write how many images have which label in which folder, as .csv, .tsv or .jsonl.",
        ),
    ] = None
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", rich_help_panel=Panel.OUTPUT, help="Show the images in .xlsx files, too."),
    ] = False
    overwrite: o.Overwrite = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=Panel.OUTPUT,
            help="Resume the run that wrote these outputs; start one if there was none.",
        ),
    ] = False
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            rich_help_panel=Panel.OUTPUT,
            help="The format of standard output. Default: a table of the first 50 rows on a terminal, csv in a pipe.",
        ),
    ] = None
    output_encoding: Annotated[
        OutputEncoding,
        typer.Option(
            "--output-encoding",
            rich_help_panel=Panel.OUTPUT,
            help="The encoding of .csv and .tsv files; Excel needs utf-8-sig for umlauts.",
        ),
    ] = OutputEncoding.UTF_8
    excel_safe: o.ExcelSafe = False
    sort_into: Annotated[
        Path | None,
        typer.Option(
            "--sort-into",
            metavar="DIR",
            rich_help_panel=Panel.OUTPUT,
            help="File every image in a folder of its label; zeroshot unsort undoes this.",
        ),
    ] = None
    sort_mode: Annotated[
        SortMode, typer.Option("--sort-mode", rich_help_panel=Panel.OUTPUT, help="How images get there.")
    ] = SortMode.COPY

    def folder(self) -> Path | None:
        """Return the folder that the run fills, None if it writes files; UsageError with options that need files."""
        needs_all = {"--adapt": self.adapt, "--sort-into": self.sort_into, "--summary": self.summary}
        return folder_among(self.output, {**needs_all, "--format": self.form})

    def targets(self) -> "Targets":
        """Return the outputs; a folder to sort into is known by its manifest."""
        from zeroshot_cli.filing.manifest import MANIFEST
        from zeroshot_cli.results.targets import Targets

        return Targets(
            () if self.folder() else self.output,
            None if self.sort_into is None else self.sort_into / MANIFEST,
            self.summary,
        )
