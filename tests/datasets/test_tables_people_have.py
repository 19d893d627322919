"""Tables of labels as people have them: what is read, what is doubted, and what is refused with the way out."""

import json
from pathlib import Path

import pytest

from zeroshot_cli import read_dataset
from zeroshot_cli.errors import DataError
from zeroshot_cli.words.labels import Labels


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table to write, beside which a.png and b.png are."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    return tmp_path / "set.csv"


def notes(path: Path) -> str:
    found = read_dataset(path)
    return " ".join((*found.notes, *found.warnings))


@pytest.mark.parametrize(
    "header",
    [
        "path,rank,label,score,probability,error",
        "path,rank,label,score,probability",
        "Path,Rank,Label,Score,Probability,group",
    ],
)
def test_what_classify_wrote(table: Path, header: str) -> None:
    row = ",".join({"path": "a.png", "label": "cat"}.get(name.lower(), "1") for name in header.split(","))
    table.write_text(f"{header}\n{row}\n")
    with pytest.raises(DataError, match="is what zeroshot classify wrote, so its labels are a model's own answers"):
        read_dataset(table)
    assert read_dataset(table, label_column=header.split(",")[2]).labels.names == ("cat",)


def test_what_classify_wrote_as_json_lines(table: Path) -> None:
    row = {"path": "a.png", "label": "cat", "score": 0.2, "probability": 0.9, "margin": 0.1, "predictions": []}
    path = table.with_suffix(".jsonl")
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match="is what zeroshot classify wrote"):
        read_dataset(path)


def test_what_eval_wrote_has_the_true_labels(table: Path) -> None:
    table.write_text(
        "path,label,predicted,correct,rank,score,probability\na.png,cat,dog,false,2,0.1,0.2\nb.png,dog,dog,true,1,1,1\n"
    )
    assert read_dataset(table).labels.names == ("cat", "dog")


def test_paths_from_the_working_directory(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables").mkdir()
    moved = tmp_path / "tables" / "set.csv"
    moved.write_text("image,label\na.png,cat\nb.png,dog\n")
    monkeypatch.chdir(tmp_path)
    found = read_dataset(moved)
    assert found.items == ("./a.png", "./b.png")
    assert found.notes[-1].endswith("images are relative to the working directory")


@pytest.mark.parametrize(
    ("name", "folder"), [("train.csv", "train"), ("train_labels.csv", "train"), ("labels.csv", "train")]
)
def test_kaggles_ids_of_images_in_a_folder(tmp_path: Path, name: str, folder: str) -> None:
    (tmp_path / folder).mkdir()
    for each in ("000bec.jpg", "00133.JPG"):
        (tmp_path / folder / each).touch()
    if name != "labels.csv":
        (tmp_path / "test").mkdir()
        (tmp_path / "test" / "000bec.jpg").touch()
    (tmp_path / name).write_text("id,breed\n000bec,dingo\n00133,pug\n")
    found = read_dataset(tmp_path / name)
    assert found.items == (str(tmp_path / folder / "000bec.jpg"), str(tmp_path / folder / "00133.JPG"))
    assert "images from the column 'id', labels from 'breed'" in notes(tmp_path / name)
    assert f"images are relative to {tmp_path / folder}" in notes(tmp_path / name)


def test_ids_that_are_in_two_folders(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
    (tmp_path / "labels.csv").write_text("id,label\n1,cat\n")
    with pytest.raises(DataError, match=r"its image '1' may be in .*test or in .*train; name the folder"):
        read_dataset(tmp_path / "labels.csv")


def test_absolute_paths_of_another_machine(table: Path) -> None:
    table.write_text("image,label\n" + "".join(f"/data/other/{number}.jpg,cat\n" for number in range(10_000)))
    with pytest.raises(DataError, match=r"none of its 10,000 images exists, the first is /data/other/0.jpg; "):
        read_dataset(table)


@pytest.mark.parametrize("scheme", ["https://x.org", "s3://bucket", "gs://bucket"])
def test_images_that_are_all_at_addresses(table: Path, scheme: str) -> None:
    table.write_text(f"image_url,label\n{scheme}/a.png,cat\n{scheme}/b.png,dog\n")
    assert read_dataset(table).items == (f"{scheme}/a.png", f"{scheme}/b.png")


@pytest.mark.parametrize("label", ["NaN", "nan", "<NA>", "#N/A", "", " "])
def test_labels_that_are_missing(table: Path, label: str) -> None:
    table.write_text(f"image,label\na.png,cat\nb.png,{label}\n")
    with pytest.raises(DataError, match=r"set.csv line 3: the label is empty.*; fill it in or delete the row"):
        read_dataset(table)


def test_a_label_that_is_called_nan(table: Path) -> None:
    table.write_text("image,label\na.png,nan\n")
    assert read_dataset(table, Labels.of(["naan", "nan"])).targets == (1,)


def test_an_image_with_several_labels_and_a_row_twice(table: Path) -> None:
    table.write_text("image,label\na.png,cat\na.png,dog\nb.png,cat\nb.png,cat\n")
    assert "1 image with several labels, such as a.png with 'cat' and 'dog'" in notes(table)
    assert "1 row with the image and label of another" in notes(table)


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("utf-8-sig", ";"), ("utf-16", "\t"), ("utf-8", "|"), ("utf-8", ",")]
)
def test_tables_as_spreadsheets_save_them(table: Path, encoding: str, delimiter: str) -> None:
    rows = [["id", "image", "label", "note"], ["1", "a.png", "Café", "x"], ["2", "b.png", "dog", ""]]
    text = "".join(delimiter.join(row) + "\r\n" for row in rows)
    table.write_bytes((f"sep={delimiter}\r\n" + text if delimiter == ";" else text).encode(encoding))
    found = read_dataset(table)
    assert found.labels.names == ("Café", "dog")
    assert ("read as UTF-16" in notes(table)) is (encoding == "utf-16")
    assert (f"its columns are separated by {delimiter!r}" in notes(table)) is (delimiter != ",")


def test_tables_in_other_encodings_are_refused(table: Path) -> None:
    table.write_bytes("image,label\na.png,Café\n".encode("cp1252"))
    with pytest.raises(DataError, match="byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_dataset(table)
    table.write_bytes("image,label\na.png,Café\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="NUL byte"):
        read_dataset(table)


@pytest.mark.parametrize("hard", ["[" * 100_000, '{"image": "a.png", "label": ' + "9" * 5_000 + "}"])
def test_json_that_is_deep_or_has_a_huge_number(table: Path, hard: str) -> None:
    path = table.with_suffix(".jsonl")
    path.write_text(hard)
    with pytest.raises(DataError, match="JSON"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("export.json", [{"id": 1, "data": {"image": "a.png"}, "annotations": []}], "tasks of Label Studio"),
        ("a.json", {"shapes": [], "imagePath": "a.png", "version": "5"}, "an annotation of LabelMe"),
        ("via.json", {"_via_img_metadata": {}, "_via_settings": {}}, "a project of the VGG Image Annotator"),
        ("createml.json", [{"image": "a.png", "annotations": []}], "annotations of CreateML"),
        ("a.xml", "<annotation>\n<folder>x</folder></annotation>", "an annotation of Pascal VOC"),
        ("a.xml", "<?xml version='1.0'?>\n<annotations>\n<meta></meta></annotations>", "annotations of CVAT"),
        ("data.yaml", "train: images/train\nnc: 2\nnames: [a, b]\n", "the description of a YOLO data set"),
        ("a.txt", "0 0.5 0.5 0.1 0.1\n1 0.25 0.5 0.1 0.1\n", "boxes of YOLO"),
    ],
)
def test_files_of_annotation_tools(tmp_path: Path, name: str, content: object, what: str) -> None:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    with pytest.raises(DataError, match=f"is {what}, which eval does not read; write a table with"):
        read_dataset(path)


def test_annotations_of_coco_have_several_labels_an_image(tmp_path: Path) -> None:
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(DataError, match=r"is COCO annotations, which has several labels per image; add --multi-label"):
        read_dataset(path)


@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_workbooks_of_excel(table: Path, magic: bytes) -> None:
    table.with_suffix(".xlsx").write_bytes(magic + bytes(600))
    with pytest.raises(DataError, match="Excel workbook; save it as CSV"):
        read_dataset(table.with_suffix(".xlsx"))


@pytest.mark.parametrize("column", ["score", "confidence", "Prob"])
def test_answers_of_another_tool_are_doubted(table: Path, column: str) -> None:
    table.write_text(f"image,label,{column}\na.png,cat,0.9\nb.png,dog,0.8\n")
    assert f"has a column {column!r}, so its labels may be a model's own answers" in notes(table)
    assert not read_dataset(table, label_column="label").warnings


def test_answers_beside_the_truth(table: Path) -> None:
    table.write_text("image,label,prediction,score\na.png,cat,dog,0.9\nb.png,dog,dog,0.8\n")
    assert "own answers" not in notes(table)


def test_a_label_beside_a_true_label_is_to_be_chosen(table: Path) -> None:
    table.write_text("image,true_label,label,prob\na.png,cat,dog,0.9\nb.png,dog,dog,0.8\n")
    with pytest.raises(DataError, match="has both 'true_label' and 'label'; name the true labels with --label-column"):
        read_dataset(table)
    assert read_dataset(table, label_column="true_label").labels.names == ("cat", "dog")


def test_a_column_of_splits_and_another_of_labels_are_named(table: Path) -> None:
    table.write_text("image,label,class_name,split\na.png,0,cat,train\nb.png,1,dog,test\n")
    said = notes(table)
    assert "labels are not taken from 'class_name'" in said
    assert "rows are taken whatever their 'split' is" in said


@pytest.mark.parametrize("separator", [", ", ";", "|"])
def test_several_labels_in_a_cell_without_multi_label(table: Path, separator: str) -> None:
    cells = [f"cat{separator}dog", "cat", "dog", f"cat{separator}fox"]
    table.write_text("image,label\n" + "".join(f'a.png,"{cell}"\n' for cell in cells))
    assert f"2 labels such as {cells[0]!r} may be several labels" in notes(table)


def test_commas_in_class_names_are_no_lists(table: Path) -> None:
    table.write_text('image,label\na.png,"tench, Tinca tinca"\nb.png,"hen, Gallus"\n')
    assert "may be several labels" not in notes(table)
