"""What `tiny` is trained and measured with: its tables, its teacher's directions, its baseline."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import script_module


def module(name: str) -> ModuleType:
    return script_module(f"recipes/tiny/{name}.py")


def write_table(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run prepare.py on forty emoji, two icons, a photograph and two test images; returns the folder it wrote."""
    emoji = [f"train/noto/{n}.webp,thing {n},one|two|three|four,noto,objects" for n in range(40)]
    icons = ["train/mdi/a.webp,an icon,,mdi,", "train/mdi/b.webp,b icon,,mdi,"]
    drawings = write_table(tmp_path / "train.csv", "image,caption,keywords,source,group", *emoji, *icons)
    photos = write_table(tmp_path / "photos.csv", "image,caption,label", 'p.jpg,"an apple, red",apple')
    rows = ["t/otter.webp,otter,animals-nature", "t/grin.webp,grin,smileys-emotion"]
    test = write_table(tmp_path / "test.csv", "image,caption,group", *rows)
    main = module("prepare").main

    def run(name: str, *options: str) -> Path:
        arguments = ["--drawings", drawings, "--photos", photos, "--test", test, "--to", tmp_path / name, *options]
        monkeypatch.setattr(sys, "argv", ["prepare.py", *map(str, arguments)])
        main()
        return tmp_path / name

    return run


def test_validation_images_are_not_trained_on(prepare: Callable[..., Path], tmp_path: Path) -> None:
    tables = {path.stem: read_table(path) for path in prepare("data").iterdir()}
    validation = {row["image"] for row in tables["val"]}
    trained = [row["image"] for row in tables["emoji"]]
    assert len(validation) == 2  # five in a hundred
    assert not validation & {*trained}
    assert sorted(trained) == sorted(3 * [*{*trained}])
    assert len({*trained}) == 38
    assert [row["caption"] for row in tables["icons"]] == ["an icon", "b icon"]
    assert "apple" in tables["photos"][0]["caption"]
    assert [row["label"] for row in tables["test"]] == ["otter", "grin"]
    assert [row["label"] for row in tables["test-objects"]] == ["otter"]
    assert tables["test"][0]["image"] == str(tmp_path / "t/otter.webp")


def test_a_seed_gives_the_same_tables_and_shuffling_moves_captions_only(prepare: Callable[..., Path]) -> None:
    first, again, shuffled = prepare("a"), prepare("b"), prepare("c", "--shuffle")
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    assert (shuffled / "val.csv").read_bytes() == (first / "val.csv").read_bytes()
    plain, moved = read_table(first / "emoji.csv"), read_table(shuffled / "emoji.csv")
    assert [row["image"] for row in plain] == [row["image"] for row in moved]
    assert sorted(row["caption"] for row in plain) == sorted(row["caption"] for row in moved)
    assert sum(a["caption"] != b["caption"] for a, b in zip(plain, moved, strict=True)) > len(plain) / 2


def test_a_test_table_without_groups_is_refused(prepare: Callable[..., Path], tmp_path: Path) -> None:
    prepare("data")
    write_table(tmp_path / "test.csv", "image,caption", "t/otter.webp,otter")
    with pytest.raises(SystemExit, match=r"test\.csv has no column `group`"):
        prepare("data")


def test_the_teachers_directions_are_the_principal_ones() -> None:
    embeddings = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)
    ours = module("distil_text").principal(embeddings, 4)
    centred = embeddings.numpy().astype(np.float64) - embeddings.numpy().mean(axis=0)
    theirs = centred @ np.linalg.svd(centred)[2][:4].T
    np.testing.assert_allclose(np.abs(ours.numpy()), np.abs(theirs[:, ::-1]), rtol=1e-3, atol=1e-3)
    directions = np.linalg.lstsq(centred, ours.numpy().astype(np.float64), rcond=None)[0]
    assert (directions.sum(axis=0) > 0).all()  # on every machine the same of two


def test_the_baseline_answers_with_the_nearest_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, colour, place in (("red", "red", 2), ("blue", "blue", 30), ("rose", "pink", 9), ("navy", "navy", 0)):
        picture = Image.new("RGBA", (60, 60))
        picture.paste(colour, (place, place, place + 20, place + 20))  # a margin of its own
        picture.save(tmp_path / f"{name}.png")
    train = write_table(tmp_path / "train.csv", "image,caption", "red.png,reddish", "blue.png,bluish", "red.png,other")
    test = write_table(tmp_path / "test.csv", "image,label", "rose.png,reddish", "navy.png,bluish", "red.png,bluish")
    monkeypatch.setattr(sys, "argv", ["pixel_baseline.py", "--train", str(train), "--test", str(test)])
    module("pixel_baseline").main()
    assert capsys.readouterr().out.splitlines() == [
        "top-1: 0.6667 of 3 images, 2 concepts, 2 known images",
        "top-5: 1.0000 of 3 images, 2 concepts, 2 known images",
    ]
