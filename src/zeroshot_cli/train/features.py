"""Features in place of images where what is below them is locked: encoded once, and kept in a file of the run.

Or made up, so that the head goes on with what it knows.

views-<digest>.npy holds float16 (views, images, *feature), one view after the other. It is written from front to back,
so its length says how far it came; the digest is of all that the features depend on. Where an image cannot be read they
are NaN.
"""

import hashlib
import io
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from zeroshot_cli.clip.efficientnet import EfficientNet
from zeroshot_cli.disk import open_own
from zeroshot_cli.errors import UnreadableImage, UsageError, ZeroshotError
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.records import SkippedImage
from zeroshot_cli.train.data import Batch, Pixels, Plan, TrainBatches, batch_of, batches_of
from zeroshot_cli.train.files.folder import RunFolder
from zeroshot_cli.train.learner import Learner
from zeroshot_cli.words.labels import Labels

TEMPLATES = ("{}", "a photo of a {}.", "a picture of a {}.", "a photo of the {}.")  # of what is rehearsed
_BATCH = {"cpu": 32}  # images; elsewhere 128
_LARGEST = 65504.0  # in float16

Features = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Encoded:
    """So many views of so many were encoded, before the first step."""

    done: int
    total: int


class Views:
    """The features of random views of all images, in a file of the run's folder.

    View v of an image is that which epoch v draws of its first row; rows with one image share their views.
    """

    def __init__(self, learner: Learner, pairs: Pairs, folder: RunFolder) -> None:
        assert learner.config.views is not None
        self.learner, self.pairs, self.folder = learner, pairs, folder
        first: dict[str, int] = {}
        for row, image in enumerate(pairs.images):
            first.setdefault(image, row)
        self.rows = list(first.values())  # the first of each image
        places = {image: place for place, image in enumerate(first)}
        self._places = [places[image] for image in pairs.images]
        height, width = learner.start.preprocess.height_width
        feature = learner.features(torch.zeros(1, 3, height, width, device=learner.device))
        self.shape = (learner.config.views, len(first), *feature.shape[1:])
        self.file = folder.path / f"views-{self._digest()}.npy"
        self._array: Features | None = None

    def _digest(self) -> str:
        config, visual = self.learner.config, self.learner.model.visual
        settings = [getattr(config, name) for name in ("seed", "augment", "min_scale", "max_pixels", "truncated")]
        settings += [self.shape, self.learner.precision, self.learner.start.preprocess, self.pairs.fingerprint()]
        settings += [self._state(row) for row in self.rows]
        digest = hashlib.sha256(repr(settings).encode())
        for tensor in (*visual.parameters(), *visual.buffers()):
            if not tensor.requires_grad:
                digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _state(self, row: int) -> tuple[int, int] | None:
        """Return size and time of the last change of a row's image, or of its tar; None where it is not there."""
        image = self.pairs.images[row]
        member = self.pairs.members.get(image)
        try:
            status = Path(image if member is None else member.tar).stat()
        except (OSError, ValueError):
            return None
        return status.st_size, status.st_mtime_ns

    def find(self, row: int, view: int) -> Features | None:
        """Return the features of a row's image in a view, of which there may be fewer; None if it cannot be read."""
        if self._array is None:
            self._array = np.load(self.file, mmap_mode="r")
        found = self._array[view % self.shape[0], self._places[row]]
        return None if np.isnan(found.flat[0]) else found

    def encode(self, batches: TrainBatches, *, workers: int) -> Iterator[Encoded]:
        """Encode what the file lacks, and yield the progress. Raises UsageError where it cannot be written."""
        remove_views(self.folder, but=self.file.name)
        size = _BATCH.get(self.learner.device.type, 128)
        starts = range(0, len(self.rows), size)
        plans = [Plan(view, tuple(self.rows[i : i + size])) for view in range(self.shape[0]) for i in starts]
        ends = list(accumulate(len(plan.rows) for plan in plans))
        header, each = _header(self.shape), 2 * math.prod(self.shape[2:])
        with self.folder.writing(), open(self.file, "ab", opener=open_own) as file:
            there = (file.tell() - len(header)) // each
            done = max([0, *(end for end in ends if end <= there)])  # whole batches, so that the rest is as it was
            self._check_room(len(header) + (ends[-1] - done) * each)
            file.truncate(len(header) + done * each if done else 0)
            file.write(b"" if done else header)
            left = plans[len([end for end in ends if end <= done]) :]
            for plan, batch in zip(left, batches_of(_ViewBatches(batches), left, workers=workers), strict=True):
                self.folder.skip(batch.skipped)
                file.write(self._encoded(plan, batch).tobytes())
                file.flush()
                done += len(plan.rows)
                yield Encoded(done, ends[-1])

    def _encoded(self, plan: Plan, batch: Batch) -> Features:
        out = np.full((len(plan.rows), *self.shape[2:]), np.nan, "<f2")
        read = set(batch.images)
        if read:
            features = self.learner.features(self.learner.inputs.images(batch.pixels)).clamp(-_LARGEST, _LARGEST)
            out[[self.pairs.images[row] in read for row in plan.rows]] = features.cpu().numpy()
        return out

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.file.parent).free
        if needed > free:
            raise UsageError(
                f"--views {self.shape[0]} needs {needed / 1e9:,.1f} GB in {self.file.parent}, which has "
                f"{free / 1e9:,.1f} GB free; make room, use fewer views or another --output"
            )


def remove_views(folder: RunFolder, *, but: str = "") -> None:
    """Remove the files of views in a run's folder, except one."""
    with folder.writing():
        for file in folder.path.glob("views-*.npy"):
            if file.name != but:
                file.unlink()


def _header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return header.getvalue()


class _ViewBatches(Dataset[Batch | ZeroshotError]):
    """Plan → Batch with the views that `batches` draws, without the images that cannot be read."""

    def __init__(self, batches: TrainBatches) -> None:
        self.batches = batches

    def __getitem__(self, plan: Plan) -> Batch | ZeroshotError:
        views: list[tuple[Pixels, int]] = []
        skipped: list[SkippedImage] = []
        for place, row in enumerate(plan.rows):
            self.batches.prefetch(plan.rows[place : place + 2])
            try:
                views.append((self.batches.drawn(row, self.batches.rng(row, plan.epoch)), row))
            except UnreadableImage as error:
                skipped.append(SkippedImage(self.batches.pairs.shown(row), str(error)))
            except ZeroshotError as error:
                return error
        return batch_of(self.batches.pairs, views, skipped)


class Rehearsal:
    """Made-up features of the classes that the image tower's own classifier knows, which join every batch.

    So the head does not forget them: pseudo-rehearsal, A. Robins, Connection Science 7 (1995).
    """

    def __init__(self, learner: Learner, labels: Labels) -> None:
        visual = learner.model.visual
        assert isinstance(visual, EfficientNet)
        self.learner, self.labels = learner, labels
        rows = visual.classifier.weight.detach().float().cpu()
        self._towards = (rows - rows.mean(dim=0)).numpy()  # (classes, feature)
        self._mean = visual.gated_head.mean.float().cpu().numpy()
        share = learner.config.rehearse_share
        self._more = share / (1 - share)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the words for each class."""
        words = [(label.name, *label.synonyms) for label in self.labels]
        return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).hexdigest()

    def joined(self, batch: Batch, *, step: int) -> Batch:
        """Return the features of a batch's images, followed by those made up for a step.

        Those of class c are mean + a · (row c of the classifier - mean row), a from 1.2 to 3, plus half of what sets an
        image of the batch apart from the mean. Rows of a class are no negatives of each other.
        """
        features = self._features(batch)
        rng = np.random.default_rng([self.learner.config.seed, step, len(self.labels)])
        n = round(self._more * len(features))
        classes = rng.integers(len(self.labels), size=n).tolist()
        strength = rng.uniform(1.2, 3, size=(n, 1)).astype(np.float32)
        others = features[rng.integers(len(features), size=n)]
        made_up = self._mean + strength * self._towards[classes] + (others - self._mean) / 2
        labels = [self.labels.items[c] for c in classes]
        texts = [rng.choice(TEMPLATES).replace("{}", rng.choice((label.name, *label.synonyms))) for label in labels]
        return replace(
            batch,
            pixels=np.concatenate([features, made_up]),
            captions=(*batch.captions, *map(str, texts)),
            images=(*batch.images, *(f"class {c} of the classifier" for c in classes)),
            meanings=(*(batch.meanings or batch.captions), *(label.name for label in labels)),
        )

    def _features(self, batch: Batch) -> npt.NDArray[np.float32]:
        if batch.pixels.dtype != np.uint8:
            return batch.pixels.astype(np.float32)
        size = self.learner.config.chunk_size or len(batch.pixels)
        starts = range(0, len(batch.pixels), size)
        parts = [self.learner.features(self.learner.inputs.images(batch.pixels[i : i + size])) for i in starts]
        features: npt.NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return features
