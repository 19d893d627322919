"""A cache of the test's own, a hub on loopback, and a model whose answers are known by hand."""

import csv
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from bad_files import make_bad_files
from loopback_hub import hub, hub_at
from PIL import Image, ImageDraw

# These need a pseudo-terminal, signals or a file-size limit, which Windows does not have.
POSIX_ONLY = [
    "cli/test_classify_command.py",
    "cli/test_classify_kills.py",
    "cli/test_default_model.py",
    "cli/test_train_command.py",
    "embed/test_files.py",
    "pages/test_classification.py",
    "review/test_page.py",
]
collect_ignore = POSIX_ONLY if sys.platform == "win32" else []

__all__ = ["hub", "hub_at"]

# A shell without job control starts what is in its background deaf to Ctrl-C, and so would be the programs of tests.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "gray")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache, or the user's choice of a model.

    Commands decode in one process: the tests keep the other cores busy, and each process takes a while to start.
    """
    own = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ZEROSHOT_CACHE_DIR", str(own))
    monkeypatch.setenv("ZEROSHOT_CONFIG", str(own / "config.yaml"))
    monkeypatch.setenv("ZEROSHOT_WORKERS", "1")


class AngleModel:
    """Pictures and texts are angles in degrees: embeddings are [cos x, sin x], so the nearest angle wins.

    A picture's angle is its red channel; a text's is the text itself. Rounded, so that equal distances tie exactly.
    """

    name, pretrained, precision, fingerprint = "angles", None, "fp32", "f" * 64
    model, config, logit_scale, logit_bias, embed_dim = None, None, 10.0, None, 2
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name}:{self.pretrained}" if self.pretrained else self.name

    @property
    def computing(self) -> str:
        return self.precision

    @property
    def text_precision(self) -> str:
        return self.precision

    def __init__(self) -> None:
        import torch

        from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig

        self.device = torch.device("cpu")
        self.preprocess = Preprocess(PreprocessConfig(size=1))
        self.batches: list[tuple[int, ...]] = []

    def encode_pixels(self, batch: Any) -> Any:
        """Pixels bhw3, h and w are 1."""
        self.batches.append(tuple(batch.shape))
        return self._embed(batch[:, 0, 0, 0])

    def encode_texts(self, texts: Sequence[str]) -> Any:
        import torch

        return self._embed(torch.tensor([float(text) for text in texts]))

    @staticmethod
    def _embed(degrees: Any) -> Any:
        import torch

        angles = torch.deg2rad(degrees.double())
        return torch.stack([angles.cos(), angles.sin()], dim=1).round(decimals=6).float()


@pytest.fixture
def angle_model() -> AngleModel:
    return AngleModel()


@pytest.fixture
def draw_angle() -> Callable[[Path, int], Path]:
    """`draw_angle(path, degrees)` writes a picture (0 to 255 degrees) that the angle model reads as that angle."""

    def draw(path: Path, degrees: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (degrees, 0, 0)).save(path)
        return path

    return draw


@pytest.fixture
def angle_folder(tmp_path: Path, draw_angle: Callable[[Path, int], Path]) -> Path:
    """Six classes, 0 to 300 degrees, and six pictures.

    By hand, the rank of the true class: 10° 0, 40° 1 (60 is nearer), 70° 0, 250° 4 (before it 240, 300, 180, 0),
    0° 5 (opposite), 200° 1 (180 is nearer). So top-1 is 2/6, top-5 5/6, the recalls 1/2, 1, 0, 0, 0 and none.
    """
    root = tmp_path / "angles"
    for folder, degrees in ((0, 10), (0, 40), (60, 70), (120, 250), (180, 0), (240, 200)):
        draw_angle(root / str(folder) / f"{degrees}.png", degrees)
    (root / "300").mkdir()
    return root


@pytest.fixture
def bad_files() -> Callable[[Path], dict[str, str]]:
    """`bad_files(folder)` makes one hundred bad image files there: path → a part of the reason that each has."""
    return make_bad_files


@pytest.fixture
def draw_pairs(tmp_path: Path) -> Callable[..., Path]:
    """`draw_pairs(n)` writes n pictures, each of two colours, and the CSV that names them."""

    def draw(n: int, name: str = "pairs.csv", columns: tuple[str, str] = ("image", "caption")) -> Path:
        (tmp_path / "pictures").mkdir(exist_ok=True)
        rows = []
        for i in range(n):
            outer, inner = COLOURS[i % 8], COLOURS[(i // 8 + i + 1) % 8]
            image = Image.new("RGB", (20, 20), outer)
            ImageDraw.Draw(image).rectangle((5, 5, 14, 14), fill=inner)
            image.save(tmp_path / "pictures" / f"{i}.png")
            rows.append((f"pictures/{i}.png", f"{inner} on {outer}"))
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
        return path

    return draw


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Let the kernel refuse to make files longer than so many bytes, as a full disk does: EFBIG, after a part."""

    import resource  # not on Windows

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit
