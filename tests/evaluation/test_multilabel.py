"""Images with several labels: the figures are scikit-learn's, the tables those that people have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from zeroshot_cli.classify.classifier import Classifier
from zeroshot_cli.cli.app import run
from zeroshot_cli.datasets.multilabel import MultiLabelImages, read_multilabel
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.evaluation.classification import Pipeline, blank_result
from zeroshot_cli.evaluation.multilabel import (
    Judged,
    average_precision,
    judge_labels,
    result_of_labels,
    threshold_metrics,
)
from zeroshot_cli.records import EvalResult
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import Prompts

BLANK = EvalResult(dataset="", n=0, model="m", pretrained=None, prompts=None, metrics={})
WORDS = ("apple", "pear", "plum", "fig")


def random_judged(seed: int, n: int = 60, c: int = 4, *, ties: bool = False) -> Judged:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, c)) < rng.random(c)
    truth[0] = True
    probabilities = rng.random((n, c))
    return Judged(tuple(map(str, range(n))), truth, probabilities.round(1) if ties else probabilities)


def images_of(judged: Judged) -> MultiLabelImages:
    targets = tuple(tuple(np.flatnonzero(row).tolist()) for row in judged.truth)
    return MultiLabelImages("set", judged.items, targets, Labels.of(WORDS[: judged.truth.shape[1]]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.95])
def test_figures_are_those_of_scikit_learn(seed: int, ties: bool, threshold: float) -> None:
    judged = random_judged(seed, ties=ties)
    result = result_of_labels(judged, images_of(judged), threshold, BLANK)
    chosen = judged.probabilities >= threshold
    expected = {"map": average_precision_score(judged.truth, judged.probabilities, average="macro")}
    for average in ("micro", "macro"):
        figures = precision_recall_fscore_support(judged.truth, chosen, average=average, zero_division=0)
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        expected |= dict(zip(names, figures, strict=False))
    assert result.metrics == pytest.approx(expected)
    each = precision_recall_fscore_support(judged.truth, chosen, average=None, zero_division=np.nan)
    for place, row in enumerate(result.per_class):
        truth, probabilities = judged.truth[:, place], judged.probabilities[:, place]
        assert row["average_precision"] == pytest.approx(average_precision_score(truth, probabilities))
        assert row["recall"] == pytest.approx(each[1][place])
        assert row["n"] == truth.sum()
        if chosen[:, place].any():
            assert row["precision"] == pytest.approx(each[0][place])
    assert set(result.intervals) == set(result.metrics)
    assert all(low <= high for low, high in result.intervals.values())
    assert (result.task, result.main_metric, result.threshold) == ("multi-label", "map", threshold)


def test_weights_count_as_repeated_images() -> None:
    judged = random_judged(3, ties=True)
    weights = np.random.default_rng(1).integers(0, 4, (3, len(judged.truth)))
    chosen = judged.probabilities >= 0.5
    found = threshold_metrics(judged.truth, chosen, weights.astype(float))
    for place, row in enumerate(weights):
        truth, scores = (np.repeat(each, row, axis=0) for each in (judged.truth, judged.probabilities))
        precisions = average_precision(judged.truth[:, 0], judged.probabilities[:, 0], weights.astype(float))
        assert precisions[place] == pytest.approx(average_precision_score(truth[:, 0], scores[:, 0]))
        figures = precision_recall_fscore_support(truth, scores >= 0.5, average="macro", zero_division=0)
        assert [found[f"{name}_macro"][place] for name in ("precision", "recall", "f1")] == pytest.approx(figures[:3])


def test_a_label_without_images_is_not_in_the_mean_of_precision() -> None:
    judged = random_judged(2)
    judged.truth[:, 1] = False
    result = result_of_labels(judged, images_of(judged), 0.5, BLANK)
    kept = [0, 2, 3]
    expected = average_precision_score(judged.truth[:, kept], judged.probabilities[:, kept], average="macro")
    assert result.metrics["map"] == pytest.approx(expected)
    assert [result.per_class[1][name] for name in ("n", "recall", "average_precision")] == [0, None, None]


def test_probabilities_are_the_sigmoid_of_a_model_with_a_bias(
    tmp_path: Path, angle_model: Any, draw_angle: Callable[[Path, int], Path]
) -> None:
    """Images of 0 and 90 degrees, labels of 0 and 90: cosines 1 and 0, scale 10, bias -5."""
    angle_model.logit_bias = -5.0
    paths = tuple(str(draw_angle(tmp_path / f"{degrees}.png", degrees)) for degrees in (0, 90))
    images = MultiLabelImages("set", paths, ((0, 1), ()), Labels.of(["0", "90"]))
    classifier = Classifier(angle_model, images.labels, Prompts("bare", "", "", ("{}",)))
    pipeline = Pipeline(workers=1, batch_size=2)
    judged = judge_labels(angle_model, images, classifier, pipeline)
    assert judged.truth.tolist() == [[True, True], [False, False]]
    high, low = 1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))
    assert judged.probabilities == pytest.approx(np.array([[high, low], [low, high]]), abs=1e-4)
    metrics = result_of_labels(judged, images, 0.5, blank_result(angle_model, pipeline)).metrics
    assert metrics == pytest.approx(
        {
            "map": (1 + 0.5) / 2,
            **{f"{name}_micro": 0.5 for name in ("precision", "recall", "f1")},
            **{f"{name}_macro": 0.5 for name in ("precision", "recall", "f1")},
        }
    )


# tables


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    return tmp_path / "set.csv"


def labels_of(images: MultiLabelImages) -> list[set[str]]:
    return [{images.labels.names[target] for target in targets} for targets in images.targets]


WANTED = [{"apple", "red pear"}, {"fig"}, set()]


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na.png,apple|red pear\nb.png,fig\nc.png,\n",
        "image,tags\na.png,apple ; red pear\nb.png,fig\nc.png,\n",
        'image,labels\na.png,"apple, red pear"\nb.png,fig\nc.png,NaN\n',
        'image,label\na.png,"[""apple"", ""red pear""]"\nb.png,"[""fig""]"\nc.png,[]\n',
        "image,label\na.png,\"['apple', 'red pear']\"\nb.png,fig\nc.png,\n",
        "image,label\na.png,\"{'apple', 'red pear'}\"\nb.png,{'fig'}\nc.png,{}\n",
        "image,label\na.png,\"('apple', 'red pear')\"\nb.png,\"('fig',)\"\nc.png,()\n",
        'image,label\na.png,"[apple, red pear]"\nb.png,[fig]\nc.png,[]\n',
        "image,label\na.png,apple\nb.png,fig\na.png,red pear\nc.png,\n",
        "image,apple,fig,red_pear\na.png,1,0,1\nb.png,0,1,0\nc.png,0,0,0\n",
        "image;split;apple;fig;red_pear\na.png;val;TRUE;FALSE;TRUE\nb.png;val;FALSE;TRUE;FALSE\nc.png;test;;;\n",
        "image,apple,fig,red_pear\na.png,1,-1,1\nb.png,-1,1,-1\nc.png,-1,-1,-1\n",
    ],
)
def test_lists_rows_and_columns_of_labels(table: Path, text: str) -> None:
    table.write_text(text)
    found = read_multilabel(table)
    assert [Path(str(item)).name for item in found.items] == ["a.png", "b.png", "c.png"]
    assert labels_of(found) == WANTED
    assert any("1 of 3 images have none of the labels" in note for note in found.notes)
    chosen = read_multilabel(table, Labels.of(["fig", "red pear", "apple", "plum"]))
    assert labels_of(chosen) == WANTED
    assert chosen.labels.names[3] == "plum"
    assert chosen.narrowed().labels.names == ("fig", "red pear", "apple")
    assert labels_of(chosen.narrowed()) == WANTED


@pytest.mark.parametrize("cell", ["[1, 0, 0]", "[1 0 0]", "[0. 1. 1.]"])
def test_a_0_or_1_for_each_label_in_one_cell(table: Path, cell: str) -> None:
    table.write_text(f'image,label\na.png,"{cell}"\n')
    with pytest.raises(DataError, match="a 0 or 1 for each, without names; write a column of 0 and 1 for each label"):
        read_multilabel(table)
    path = table.with_suffix(".jsonl")
    path.write_text(json.dumps({"image": "a.png", "label": [1, 0, 0]}))
    with pytest.raises(DataError, match="a 0 or 1 for each, without names"):
        read_multilabel(path)


def test_json_lines_and_parquet(table: Path) -> None:
    rows = [
        {"image": "a.png", "labels": ["apple", "red pear"]},
        {"image": "b.png", "labels": "fig"},
        {"image": "c.png", "labels": []},
    ]
    path = table.with_suffix(".jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels_of(read_multilabel(path)) == WANTED
    path = table.with_suffix(".parquet")
    lists = {"image": ["a.png", "b.png", "c.png"], "labels": [["apple", "red pear"], ["fig"], None]}
    pq.write_table(pa.table(lists), path)
    assert labels_of(read_multilabel(path)) == WANTED
    columns = {"apple": [True, False, False], "fig": [False, True, False], "red pear": [True, False, False]}
    pq.write_table(pa.table({"image": ["a.png", "b.png", "c.png"], **columns}), path)
    assert labels_of(read_multilabel(path)) == WANTED


def test_annotations_of_coco(table: Path) -> None:
    (table.parent / "val2017").mkdir()
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        (table.parent / "val2017" / name).touch()
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)],
        "categories": [{"id": 7, "name": "apple"}, {"id": 9, "name": "red pear"}, {"id": 4, "name": "fig"}],
        "annotations": [{"image_id": image, "category_id": kind} for image, kind in ((1, 7), (1, 7), (1, 9), (2, 4))],
    }
    path = table.with_name("instances_val2017.json")
    path.write_text(json.dumps(content))
    found = read_multilabel(path)
    assert labels_of(found) == WANTED
    assert found.labels.names == ("apple", "red pear", "fig")
    assert found.items[0] == str(table.parent / "val2017" / "1.jpg")
    del content["images"][0]["file_name"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="its annotations lack 'file_name'"):
        read_multilabel(path)


def test_what_was_assumed_is_said(table: Path) -> None:
    table.write_text("image,label\na.png,apple|fig\nb.png,fig\n")
    assert f"{table}: the labels in a cell are separated by '|'" in read_multilabel(table).notes
    table.write_text("image,split,apple,fig\na.png,val,1,1\nb.png,val,0,1\n")
    notes = " ".join(read_multilabel(table).notes)
    assert "labels from 2 columns of 0 and 1, 'apple' to 'fig'" in notes
    assert "columns left out: 'split'" in notes
    table.write_text("image,label\na.png,apple\nb.png,fig\n")
    assert "no image has several labels" in read_multilabel(table).warnings[0]


def test_a_label_that_has_a_separator_in_it(table: Path) -> None:
    table.write_text('image,label\na.png,"tench, Tinca tinca"\nb.png,fig\n')
    labels = Labels.of(["tench, Tinca tinca", "fig"])
    assert labels_of(read_multilabel(table, labels)) == [{"tench, Tinca tinca"}, {"fig"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,apple|figg\n", "label 'figg' is not one of the 4 labels"),
        ("image,label\na.png,\nb.png,\n", "none of its 2 images has a label"),
        (
            "image,colour,size\na.png,red,2\n",
            "nor a column of 0 and 1 for each label, its columns are 'image', 'colour'",
        ),
        ("image,apple\na.png,1\n", "nor a column of 0 and 1 for each label"),
        ("image,label\nx.png,apple|fig\n", "none of its 1 images exists"),
    ],
)
def test_tables_that_are_wrong(table: Path, text: str, message: str) -> None:
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        read_multilabel(table, Labels.of(WORDS))


def test_class_folders_have_one_label_an_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class folders have one label per image"):
        read_multilabel(tmp_path)


# the command


def drawings(tmp_path: Path) -> Path:
    images = Path(__file__).parents[2] / "examples" / "images"
    path = tmp_path / "set.csv"
    path.write_text(f"image,label\n{images}/apple.jpg,apple|drawing\n{images}/pizza.png,pizza|drawing\n")
    return path


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output, page = drawings(tmp_path), tmp_path / "result.json", tmp_path / "report.html"
    command = ["eval", str(path), "--multi-label", "--min-probability", "0.4", "--model", "tiny", "--workers", "1"]
    assert run([*command, "--output", str(output), "--report", str(page)]) == 0
    out, err = capsys.readouterr()
    result = json.loads(output.read_text())
    assert (result["task"], result["n"], result["main_metric"], result["threshold"]) == ("multi-label", 2, "map", 0.4)
    assert {"map", "f1_micro", "precision_macro", "intervals"} <= result["metrics"].keys()
    assert [row["label"] for row in result["per_class"]] == ["apple", "drawing", "pizza"]
    assert "mean average precision" in out
    assert "F1, micro" in out
    assert "the labels in a cell are separated by '|'" in err
    assert "average precision" in page.read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--multi-label", "--probe", "train"), "--probe is not for images with several labels"),
        (("--multi-label", "--task", "retrieval"), "--task retrieval is not for images with several labels"),
        (("--min-probability", "0.5"), "--min-probability is for --multi-label"),
        (("--multi-label", "--predictions", "x.csv"), "is for one label per image"),
    ],
)
def test_options_that_contradict_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    assert run(["eval", str(drawings(tmp_path)), *more, "--model", "tiny"]) == 2
    assert message in capsys.readouterr().err


def test_known_sets_have_one_label_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "imagenet-v2", "--multi-label", "--offline"]) == 2
    assert "imagenet-v2 has one label per image; omit --multi-label" in capsys.readouterr().err
