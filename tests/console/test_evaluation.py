import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from zeroshot_cli.console.evaluation import print_comparison, print_eval
from zeroshot_cli.evaluation.compare import Comparison
from zeroshot_cli.evaluation.output import write_eval_json
from zeroshot_cli.records import EvalResult, PublishedFigure, SkippedImage

RESULT = EvalResult(
    dataset="birds",
    n=1234,
    model="ViT-B-32",
    pretrained="openai",
    prompts="photo",
    metrics={"top1": 0.5, "top5": 0.75, "mean_per_class_recall": 0.4, "ece": 0.0123, "log_loss": 1.25},
    intervals={"top1": (0.47, 0.53), "top5": (0.72, 0.78), "mean_per_class_recall": (0.3, 0.5), "log_loss": (1.0, 1.5)},
    per_class=(
        {"label": "owl", "n": 3, "recall": 2 / 3, "interval": (0.2, 0.9)},
        {"label": "[red]kite[/red]", "n": 2, "recall": 0.0, "interval": (0.0, 0.7)},
        {"label": "swan", "n": 0, "recall": None, "interval": None},
    ),
    confused=({"label": "owl", "taken_for": "[red]kite[/red]", "n": 7},),
    skipped=(SkippedImage("x\udcff.jpg", "the file is empty"),),
)
RETRIEVAL = EvalResult(
    dataset="pairs",
    n=51,
    texts=255,
    task="retrieval",
    model="tiny",
    pretrained=None,
    prompts=None,
    metrics={f"{way}_recall@{k}": k / 20 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)},
    intervals={},
)


def printed(width: int = 100, results: tuple[EvalResult, ...] = (RESULT,), comparisons: tuple = ()) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    if len(results) == 1:
        print_eval(results[0], console)
    else:
        print_comparison(results, comparisons, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_figures_have_their_intervals() -> None:
    lines = {line.strip() for line in printed().splitlines()}
    assert "birds: ViT-B-32 (openai), prompts photo" in lines
    rows = [" ".join(line.split()) for line in lines]
    assert "top-1 50.00% 47.00% to 53.00%" in rows
    assert "log loss 1.250 1.000 to 1.500" in rows
    assert "calibration error 1.23%" in rows
    assert "images 1,234" in rows
    assert "unreadable 1" in rows
    assert "owl [red]kite[/red] 7" in rows


@pytest.mark.parametrize(("inside", "verdict"), [(True, "inside"), (False, "outside")])
def test_the_published_figure_stands_beside(inside: bool, verdict: str) -> None:
    published = PublishedFigure("top1", 0.52, "open_clip's table", -0.02, inside)
    out = printed(results=(replace(RESULT, published=published),))
    assert f"published top-1: 52.00% (open_clip's table), {verdict} our 95 % interval" in out
    assert "; ours differs by -2.00 points" in out


def test_retrieval_has_texts_in_place_of_classes() -> None:
    rows = [" ".join(line.split()) for line in printed(results=(RETRIEVAL,)).splitlines()]
    assert "texts 255" in rows
    assert "image to text recall@10 50.00%" in rows
    assert not any("class" in row for row in rows)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_comparison_fits_and_names_the_pairs(width: int) -> None:
    other = replace(RESULT, model="ViT-B-16", metrics={**RESULT.metrics, "top1": 0.61})
    pair = Comparison(n=1234, first_only=10, second_only=146, difference=-0.11, interval=(-0.13, -0.09), p=1e-9)
    out = printed(width, (RESULT, other, RETRIEVAL), ((0, 1, pair),))
    assert max(map(len, out.splitlines())) <= width
    squeezed = "".join(out.split())
    for text in ("61.00%", "1-2", "-11.00", "-13.00to-9.00", "<0.0001", "146", "pairs", "ViT-B-16"):
        assert text in squeezed, text


def test_json_has_intervals_among_metrics(tmp_path: Path) -> None:
    write_eval_json([RESULT], [], tmp_path / "one.json")
    one = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert one["metrics"]["top1"] == 0.5
    assert one["metrics"]["intervals"]["top1"] == [0.47, 0.53]
    assert "intervals" not in one
    assert one["skipped"] == [{"path": "x\udcff.jpg", "reason": "the file is empty"}]


def test_json_of_several(tmp_path: Path) -> None:
    pair = Comparison(n=9, first_only=1, second_only=2, difference=-1 / 9, interval=(-0.4, 0.2), p=1.0)
    write_eval_json([RESULT, RETRIEVAL], [(0, 1, pair)], tmp_path / "two.json")
    two = json.loads((tmp_path / "two.json").read_text(encoding="utf-8"))
    assert [each["dataset"] for each in two["results"]] == ["birds", "pairs"]
    assert two["results"][1]["texts"] == 255
    assert two["comparisons"][0] == {
        **{"first": 0, "second": 1, "n": 9, "first_only": 1, "second_only": 2},
        **{"difference": pytest.approx(-1 / 9), "interval": [-0.4, 0.2], "p": 1.0},
    }
