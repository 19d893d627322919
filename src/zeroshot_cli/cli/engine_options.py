"""The options of where a command computes: in this process, or on a cluster of Ray."""

import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot_cli.cli import options as o
from zeroshot_cli.cli.command import AUTO, Panel, check_actors
from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.engines.choose import resolve_engine

if TYPE_CHECKING:
    from zeroshot_cli.classify.classifier import Classifier
    from zeroshot_cli.cluster.ray_engine import RayEngine
    from zeroshot_cli.cluster.worker import Question
    from zeroshot_cli.embed.images import Outcome
    from zeroshot_cli.embed.parts import EmbeddingParts
    from zeroshot_cli.images.given import ImageItem
    from zeroshot_cli.models.loaded import LoadedModel
    from zeroshot_cli.records import Counts, Result, SkippedImage
    from zeroshot_cli.results.shards.parts import ResultParts

TERMINATED = 143
_DELAY = 60.0  # seconds until a network disk shows what another machine wrote
_LEAST = 0.01  # of a CPU or GPU; Ray counts in ten-thousandths


class Engine(StrEnum):
    """What encodes the images."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    RAY = "ray"


@dataclass(frozen=True, kw_only=True)
class EngineOptions(o.BatchOptions, o.ModelOptions, o.ImageOptions):
    """Where the model runs, for commands that do the same to every image."""

    engine: Annotated[
        Engine,
        typer.Option(
            "--engine",
            envvar="ZEROSHOT_ENGINE",
            rich_help_panel=Panel.MACHINE,
            help="What encodes the images: a program in this process (see docs/speed.md), or actors on the Ray cluster "
            "that RAY_ADDRESS names, else on one of this machine (see docs/scale.md). auto is torch, for int8 OpenVINO "
            "or ONNX Runtime.",
        ),
    ] = Engine.AUTO
    actors: Annotated[
        str | None,
        typer.Option(
            "--actors",
            metavar="N|auto",
            callback=check_actors,
            show_default=False,
            rich_help_panel=Panel.MACHINE,
            help="How many actors of Ray there are, each with a model. Default: auto, as many as fit.",
        ),
    ] = None
    actor_cpus: Annotated[
        float | None,
        typer.Option(
            "--actor-cpus",
            metavar="N",
            show_default=False,
            rich_help_panel=Panel.MACHINE,
            help="The CPUs of an actor of Ray, which are its threads and decoding processes. Default: 1.",
        ),
    ] = None
    actor_gpus: Annotated[
        float | None,
        typer.Option(
            "--actor-gpus",
            metavar="N",
            show_default=False,
            rich_help_panel=Panel.MACHINE,
            help="The GPUs of an actor of Ray; 0.5 lets two share one. Default: 1 where nodes have GPUs.",
        ),
    ] = None
    task_images: Annotated[
        int | None,
        typer.Option(
            "--task-images",
            metavar="N",
            min=1,
            show_default=False,
            rich_help_panel=Panel.MACHINE,
            help="How many images an actor of Ray gets at once, and a part has where --output is a folder. Default: "
            "512.",
        ),
    ] = None

    def check_engine(self, *, parts: bool = False) -> None:
        """Raise UsageError for options of an engine that is not used, and for an engine that is not there."""
        given = {"actors": self.actors, "actor-cpus": self.actor_cpus, "actor-gpus": self.actor_gpus}
        given["task-images"] = None if parts else self.task_images
        if self.engine is not Engine.RAY:
            for name in (name for name, value in given.items() if value is not None):
                raise UsageError(f"--{name} needs --engine ray; add it, or omit --{name}")
            resolve_engine(self.engine, self.precision, self.device.partition(":")[0])
            return
        if self.actor_cpus is not None and self.actor_cpus < _LEAST:
            raise UsageError(f"--actor-cpus is {self.actor_cpus:g}; give a number of at least {_LEAST:g}")
        if self.actor_gpus is not None and not (self.actor_gpus == 0 or self.actor_gpus >= _LEAST):
            raise UsageError(f"--actor-gpus is {self.actor_gpus:g}; give 0, or a number of at least {_LEAST:g}")
        if self.actor_gpus is not None and self.actor_gpus > 1 and not self.actor_gpus.is_integer():
            raise UsageError(f"--actor-gpus is {self.actor_gpus:g}; give a whole number, or a part of one GPU")
        if self.actor_gpus and self.device == "cpu":
            raise UsageError("--actor-gpus is for a GPU, and --device cpu uses none; omit one of them")
        from zeroshot_cli.cluster.ray_cluster import check_ray

        check_ray()

    @property
    def runner(self) -> str:
        """Return what runs the image tower in a process."""
        return AUTO if self.engine is Engine.RAY else self.engine.value

    def load_for(
        self, cluster: "OnRay | None", name: str | None, pretrained: str | None, images: int
    ) -> "tuple[LoadedModel, LoadedModel]":
        """Return the model of this process, and as those that encode so many images have it: on their device."""
        if cluster is not None:
            return cluster.load(name, pretrained, images)
        model = self.load(name, pretrained)
        return model, model

    @contextmanager
    def cluster(self, task_images: int | None = None) -> "Iterator[OnRay | None]":
        """Begin to start the engine, and end it; None is this process. SIGTERM ends it too, with exit code 143."""
        if self.engine is not Engine.RAY:
            yield None
            return
        from zeroshot_cli.cluster.ray_engine import TASK_IMAGES, Actors, RayEngine

        number = o.as_count(self.actors or AUTO)
        actors = Actors(number, self.actor_cpus or 1.0, self.actor_gpus, task_images or self.task_images or TASK_IMAGES)
        sigterm = _Sigterm()
        with sigterm.heeded():
            engine = RayEngine(actors, device=self.device, precision=str(self.precision))
            with closing(engine):
                yield OnRay(self, engine, actors.threads, sigterm)


class OnRay:
    """A command's work on Ray: this process has the model for texts only, the actors for images."""

    def __init__(self, options: EngineOptions, engine: "RayEngine", threads: int, sigterm: "_Sigterm") -> None:
        self._options, self._threads, self._sigterm = options, threads, sigterm
        self.engine = engine

    def load(self, name: str | None, pretrained: str | None, images: int) -> "tuple[LoadedModel, LoadedModel]":
        """Return the model of this process, and the same as the actors have it, which load theirs meanwhile."""
        self.engine.start(images)  # before torch is imported, which takes a core from all that Ray starts

        import torch

        from zeroshot_cli.cluster.worker import ModelAt
        from zeroshot_cli.models.default import choose

        options, machine = self._options, self.engine.machine()
        self._sigterm.heed()  # as it starts, Ray has taken the signal for a crash of its own
        device = torch.device(machine.device)
        chosen = choose(name, pretrained)
        at = ModelAt.absolute(chosen.name, chosen.pretrained)
        self.engine.load(
            ModelAt(
                name=at[0],
                pretrained=at[1],
                image_size=options.image_size,
                offline=options.offline,
                device=machine.device,
                precision=machine.precision,
                threads=self._threads,
            )
        )
        here = machine.device if device.type != "cuda" or torch.cuda.is_available() else "cpu"
        precision = "fp32" if here == "cpu" and machine.precision == "fp16" else machine.precision
        own = replace(options, device=here, precision=o.Precision(precision))
        model = own.load(name, pretrained)
        return model, replace(model, device=device, precision=machine.precision)

    def embedded(
        self, model: "LoadedModel", items: "Sequence[ImageItem]", batch_size: int
    ) -> "Generator[list[Outcome]]":
        """Yield the embeddings of the images, or why there is none, in order."""
        from zeroshot_cli.cluster.worker import outcomes_of

        for asked, answers in self.engine.run(self._question(model, items, batch_size), items):
            yield list(outcomes_of(answers, [item for _, item in asked]))

    def labelled(
        self, classifier: "Classifier", items: "Sequence[ImageItem]", batch_size: int, **how: Any
    ) -> "Generator[list[Result]]":
        """Yield the labels of the images in order; `how` is as for `Classifier.answers`.

        What looks at all images together is done here, with the actors' embeddings.
        """
        from zeroshot_cli.cluster.worker import results_of

        adapting = how.pop("adapting")
        if adapting is not None:
            encode = partial(self.embedded, classifier.model, items, batch_size)
            yield from classifier.answers(encode, adapting=adapting, **how)
            return
        question = self._question(classifier.model, items, batch_size, classifier=classifier.without_model(), **how)
        for _, answers in self.engine.run(question, items):
            yield results_of(answers)

    def filled(
        self,
        parts: "ResultParts | EmbeddingParts",
        model: "LoadedModel",
        items: "Sequence[str | SkippedImage]",
        batch_size: int,
        **how: Any,
    ) -> "Generator[Counts]":
        """Let the actors write the parts of a folder that have these images, and yield what became of them.

        `how` is as for `labelled`. Raises UsageError where this process does not see what the actors wrote.
        """
        from zeroshot_cli.cluster.worker import shown_path
        from zeroshot_cli.results.shards.parts import part_name, read_part

        how.pop("adapting", None)
        question = self._question(model, items, batch_size, parts=parts, **how)
        for asked, _ in self.engine.run(question, items):
            path = parts.folder / part_name(range(asked[0][0], asked[-1][0] + 1))
            names, until = [shown_path(item) for _, item in asked], time.monotonic() + _DELAY
            while (counts := read_part(path, names)) is None:
                if time.monotonic() > until:
                    raise UsageError(
                        f"{path} was written by an actor, and this machine does not see it; name a folder that all "
                        "nodes share"
                    )
                time.sleep(1)
            yield counts

    def _question(
        self, model: "LoadedModel", items: "Iterable[ImageItem]", batch_size: int, **asked: Any
    ) -> "Question":
        from zeroshot_cli.cluster.worker import Question, folder_seen

        folder = os.getcwd()  # noqa: PTH109
        return Question(
            fingerprint=model.fingerprint,
            batch_size=batch_size,
            workers=o.as_count(self._options.workers) or self._threads,
            decoding=self._options.decoding(),
            cache=self._options.cache,
            folder=folder,
            seen=folder_seen(folder, items),
            **asked,
        )


class _Sigterm:
    """Lets SIGTERM end the command as an error does: files are closed, and no process is left."""

    def __init__(self) -> None:
        self._came = False
        self._before = signal.getsignal(signal.SIGTERM)

    def heed(self) -> None:
        """Listen to the signal, whoever does so by now."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._end)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Listen meanwhile, and raise SystemExit in the end if the signal came."""
        self.heed()
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if not self._came:
                raise
            raise SystemExit(TERMINATED) from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, self._before)

    def _end(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt  # in Ray's C code, SystemExit loses its code
