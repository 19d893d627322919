"""The examples are what examples/draw.py draws and photographs with a licence; their names are the answers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scripts import script_module

from zeroshot_cli.images.decode import decode
from zeroshot_cli.words.labels import read_labels

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "classify.ipynb"
IMAGES = sorted((EXAMPLES / "images").iterdir())


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    return script_module("examples/draw.py")


def test_the_notebook_shows_what_every_cell_does() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))  # from top to bottom, once
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert len(kinds) == len(cells)
    assert {*kinds} == {"stream", "execute_result"}
    assert len(text) < 100_000
    assert not re.search(r"/home/|/root/|/tmp/|Traceback|Warning", text)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    bare = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in bare["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    (tmp_path / "examples" / NOTEBOOK.name).write_text(json.dumps(bare), encoding="utf-8")
    subprocess.run([sys.executable, "examples/notebook.py"], cwd=tmp_path, check=True, timeout=300)
    kept, again = (json.loads((each / NOTEBOOK.name).read_text()) for each in (EXAMPLES, tmp_path / "examples"))
    for before, after in zip(kept["cells"], again["cells"], strict=True):
        assert before["source"] == after["source"]
        assert [each["output_type"] for each in before.get("outputs", [])] == [
            each["output_type"] for each in after.get("outputs", [])
        ]


def drawings(draw: ModuleType) -> set[str]:
    names = {f"{each.__name__}.png" for each in draw.PNG} | {f"{each.__name__}.jpg" for each in draw.JPEG}
    assert len(names) == len(draw.PNG + draw.JPEG)
    return names


def test_file_names_and_labels_agree() -> None:
    names = [image.stem.replace("_", " ") for image in IMAGES]
    assert list(read_labels(EXAMPLES / "labels.txt").names) == sorted(names)
    assert len(names) == 39


def test_images_are_small_and_read(draw: ModuleType) -> None:
    drawn = drawings(draw)
    for image in IMAGES:
        size = decode(str(image)).size
        assert size == (256, 256) if image.name in drawn else max(size) == 320, image
        assert image.stat().st_size < (15_000 if image.name in drawn else 30_000), image
    assert sum(image.stat().st_size for image in IMAGES) < 400_000


def test_every_photograph_has_its_author_and_a_free_licence(draw: ModuleType) -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.jpg)` \| (.+) \|$", page, re.MULTILINE)
    assert [name for name, _ in rows] == sorted({image.name for image in IMAGES} - drawings(draw))
    for name, row in rows:
        _, author, licence, original, package = row.split(" | ")
        assert author, name
        assert licence in ("public domain", "[CC0]", "[CC BY 2.0]"), name
        assert package in ("scikit-image", "scikit-learn", "GCompris"), name
        assert "https://" in author + original or licence == "[CC0]", name  # CC BY asks for a link
    assert len(rows) == 12
    assert f"{len(IMAGES)} images" in page
    assert f"The {len(drawings(draw))} drawings" in page


@pytest.mark.parametrize("name", ["red_heart", "umbrella"])  # a PNG and a JPEG
def test_the_script_draws_the_images(draw: ModuleType, name: str) -> None:
    drawn = draw.drawing(getattr(draw, name))
    on_white = Image.new("RGB", drawn.size, "white")
    on_white.paste(drawn, mask=drawn.getchannel("A"))
    stored = decode(str(next(EXAMPLES.glob(f"images/{name}.*"))))
    difference = np.abs(np.asarray(on_white, dtype=float) - np.asarray(stored, dtype=float))
    assert difference.mean() < 2  # of 255: what a palette or JPEG loses
