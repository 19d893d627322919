"""`zeroshot embed` from the arguments to the file, with a small random model and pictures made here."""

import io
import json
import os
import tarfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from zeroshot_cli import load
from zeroshot_cli.cli import app as entry
from zeroshot_cli.embed import images as pipeline
from zeroshot_cli.embed import texts as texts_module
from zeroshot_cli.models.formats.open_clip import save_model
from zeroshot_cli.models.load import new_model

MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8},
    "text_cfg": {"width": 16, "heads": 2, "layers": 1, "context_length": 77, "vocab_size": 49408},
}
COLOURS = {"blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0)}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.yaml").write_text(yaml.safe_dump(MODEL))
    model, config, preprocess, _ = new_model(str(folder / "config.yaml"), seed=0)
    save_model(folder / "model", model, config, preprocess)
    return folder / "model"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROSHOT_MODEL", str(model_folder))
    monkeypatch.setenv("ZEROSHOT_PRECISION", "fp32")
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(Path("pictures", f"{name}.png"))
    Path("pictures", "notes.txt").write_text("no picture")


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded: the mistake shows before."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("zeroshot_cli.models.load.load", refuse)


def embed(*arguments: object) -> int:
    return entry.run(["embed", *map(str, arguments)])


def stdin_of(data: bytes) -> SimpleNamespace:
    return SimpleNamespace(buffer=io.BytesIO(data))


def of_images(folder: Path, paths: list[str]) -> np.ndarray:
    """The embeddings (n, e) that the model gives by itself."""
    model = load(str(folder), device="cpu", precision="fp32")
    rows = []
    for path in paths:
        with Image.open(path) as image, torch.inference_mode():
            embedding = model.model.encode_image(model.preprocess(image.convert("RGB"))[None])
        rows.append((embedding / embedding.norm()).numpy()[0])
    return np.array(rows)


def of_texts(folder: Path, texts: list[str]) -> np.ndarray:
    model = load(str(folder), device="cpu", precision="fp32")
    with torch.inference_mode():
        embeddings = model.model.encode_text(model.tokenizer(texts))
    return (embeddings / embeddings.norm(dim=-1, keepdim=True)).numpy()


# Images


def test_images_become_the_embeddings_of_the_model(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("pictures", "-o", "out.npz") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    wrote = f"wrote out.npz: 3 embeddings of 8 numbers, model {model_folder}."
    assert captured.err == f"assumed: 1 file left out: .txt 1\n{wrote}\n"
    arrays = np.load("out.npz")
    paths = [f"pictures/{name}.png" for name in COLOURS]
    assert arrays["paths"].tolist() == paths
    np.testing.assert_allclose(arrays["embeddings"], of_images(model_folder, paths), atol=1e-6)
    assert arrays["errors"].shape == (0, 2)


def test_the_three_forms_hold_the_same_bits() -> None:
    Path("pictures", "broken.png").write_bytes(b"\x89PNG")
    for ending in ("npz", "parquet", "safetensors"):
        assert embed("pictures", "-o", f"out.{ending}") == 4
    arrays = np.load("out.npz")
    with safe_open("out.safetensors", framework="np") as file:
        embeddings, metadata = file.get_tensor("embeddings"), file.metadata()
    table = pq.read_table("out.parquet").to_pylist()
    assert arrays["embeddings"].shape == (3, 8)
    assert embeddings.tobytes() == arrays["embeddings"].tobytes()
    assert [row["embedding"] for row in table if row["error"] is None] == embeddings.tolist()
    assert [row["path"] for row in table] == [f"pictures/{name}.png" for name in ("blue", "broken", "green", "red")]
    assert json.loads(metadata["paths"]) == arrays["paths"].tolist()
    reason = table[1]["error"]
    assert json.loads(metadata["errors"]) == {"pictures/broken.png": reason}
    assert arrays["errors"].tolist() == [["pictures/broken.png", reason]]


def test_the_file_says_what_it_came_from(model_folder: Path) -> None:
    assert embed("pictures", "-o", "out.safetensors", "--batch-size", "2", "--exact-decode") == 0
    with safe_open("out.safetensors", framework="np") as file:
        metadata = file.metadata()
    loaded = load(str(model_folder), device="cpu", precision="fp32")
    assert metadata["model"] == loaded.name
    assert metadata["fingerprint"] == loaded.fingerprint
    assert json.loads(metadata["preprocess"])["size"] == 16
    assert json.loads(metadata["versions"])["torch"] == version("torch")
    kept = {key: metadata[key] for key in ("pretrained", "precision", "device", "decoding", "batch_size")}
    assert kept == {"pretrained": "", "precision": "fp32", "device": "cpu", "decoding": "exact", "batch_size": "2"}


def test_unreadable_images_are_in_the_file_and_end_it_with_4(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"b\xff<img onerror>\n.png")
    Path(odd).write_bytes(b"")
    arguments = (odd, "pictures/red.png", "missing.png", "-o", "out.npz")
    assert embed(*arguments) == 4
    sentence = f"wrote out.npz: 1 embedding of 8 numbers, 2 images could not be read, model {model_folder}.\n"
    assert capsys.readouterr().err == sentence
    assert np.load("out.npz")["errors"].tolist() == [[odd, "the file is empty"], ["missing.png", "no such file"]]
    assert embed(*arguments, "--overwrite", "--ignore-errors") == 0
    assert capsys.readouterr().err == sentence


def test_no_readable_image_is_an_empty_matrix() -> None:
    Path("empty.png").touch()
    assert embed("empty.png", "-o", "out.npz") == 4
    assert np.load("out.npz")["embeddings"].shape == (0, 8)


def test_paths_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", stdin_of(b"pictures/red.png\npictures/blue.png\n"))
    assert embed("-", "-o", "lines.npz") == 0
    monkeypatch.setattr("sys.stdin", stdin_of(b"pictures/red.png\0pictures/blue.png\0"))
    assert embed("-0", "-", "-o", "nulls.npz") == 0
    for name in ("lines.npz", "nulls.npz"):
        assert np.load(name)["paths"].tolist() == ["pictures/red.png", "pictures/blue.png"]


def test_a_second_run_takes_the_cache_and_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path("pictures").iterdir():
        os.utime(path, (1, 1))
    assert embed("pictures", "-o", "first.npz") == 0

    def refuse(*arguments: object) -> None:
        raise AssertionError("the model is asked")

    with monkeypatch.context() as patch:
        patch.setattr("zeroshot_cli.models.loaded.LoadedModel.encode_pixels", refuse)
        assert embed("pictures", "-o", "second.npz") == 0
        assert embed("pictures", "-o", "third.npz", "--no-cache") == 1
    assert embed("pictures", "-o", "fourth.npz", "--no-cache") == 0
    first = np.load("first.npz")["embeddings"].tobytes()
    assert np.load("second.npz")["embeddings"].tobytes() == np.load("fourth.npz")["embeddings"].tobytes() == first
    assert not Path("third.npz").exists()


# Texts


def test_texts_become_the_embeddings_of_the_model(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts.txt").write_bytes("\ufeffa photo of a cat\r\n\n # é 😀\na photo of a cat\n   \n".encode())
    assert embed("--texts", "texts.txt", "-o", "out.npz") == 0
    captured = capsys.readouterr()
    assert captured.err == f"2 blank lines ignored\nwrote out.npz: 3 embeddings of 8 numbers, model {model_folder}.\n"
    arrays = np.load("out.npz")
    texts = ["a photo of a cat", " # é 😀", "a photo of a cat"]
    assert arrays["texts"].tolist() == texts
    np.testing.assert_allclose(arrays["embeddings"], of_texts(model_folder, texts), atol=1e-6)
    assert json.loads(str(arrays["metadata"]))["precision"] == "fp32"


@pytest.mark.parametrize("ending", ["npz", "parquet", "safetensors"])
def test_windows_of_texts_keep_their_order(ending: str, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "WINDOW", 2)
    texts = [f"a {word}" for word in ["cat", "dog", "cow", "hen", "pig"]]
    monkeypatch.setattr("sys.stdin", stdin_of("\n".join(texts).encode()))
    assert embed("--texts", "-", "-o", f"out.{ending}") == 0
    if ending == "npz":
        found, embeddings = np.load("out.npz")["texts"].tolist(), np.load("out.npz")["embeddings"]
    elif ending == "parquet":
        table = pq.read_table("out.parquet")
        assert table.column_names == ["text", "embedding", "error"]
        found, embeddings = table["text"].to_pylist(), np.array(table["embedding"].to_pylist())
    else:
        with safe_open("out.safetensors", framework="np") as file:
            found, embeddings = json.loads(file.metadata()["texts"]), file.get_tensor("embeddings")
    assert found == texts
    np.testing.assert_allclose(embeddings, of_texts(model_folder, texts), atol=1e-6)


@pytest.mark.filterwarnings("always")
def test_a_text_that_is_cut_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("texts.txt").write_text("cat " * 100)
    assert embed("--texts", "texts.txt", "-o", "out.npz") == 0
    assert "warning: this text has 102 tokens and was cut to 77: 'cat cat " in capsys.readouterr().err


# What is wrong shows before the model is loaded


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "out.npz"], 2, "nothing to embed; give either IMAGES, files or folders, or --texts FILE"),
        (["pictures"], 2, "--output"),
        (["pictures", "--texts", "t.txt", "-o", "out.npz"], 2, "IMAGES and --texts t.txt are both given"),
        (["-0", "--texts", "t.txt", "-o", "out.npz"], 2, "-0 is for images, and --texts t.txt names texts"),
        (["--exact-decode", "--texts", "t.txt", "-o", "out.npz"], 2, "--exact-decode is for images"),
        (["pictures", "-o", "out.csv"], 2, "unknown extension '.csv'; expected one of .parquet, .npz, .safetensors"),
        (["pictures", "-o", "there.npz"], 2, "there.npz already exists; add --overwrite"),
        (["pictures", "-o", "missing/out.npz"], 2, "there is no folder missing"),
        (
            ["pictures", "-o", "picture"],
            2,
            "it has no extension; expected one of .parquet, .npz, .safetensors, as in picture.parquet",
        ),
        (["pictures", "-o", "pictures"], 2, "pictures is not empty, and zeroshot did not write blue.png in it"),
        (["empty", "-o", "out.npz"], 3, "no image found in empty"),
        (["--texts", "missing.txt", "-o", "out.npz"], 2, "cannot read missing.txt"),
        (["--texts", "pictures", "-o", "out.npz"], 2, "cannot read pictures"),
        (["--texts", "blank.txt", "-o", "out.npz"], 3, "no text in blank.txt; give one text a line"),
        (["--texts", "latin.txt", "-o", "out.npz"], 3, "latin.txt, line 2: byte 0xe9 is not UTF-8"),
        (["pictures", "-o", "out.npz", "--batch-size", "0"], 2, "'0' is neither a whole number"),
        (["pictures", "-o", "out.npz", "--device", "abacus"], 2, "'abacus' is not a device"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there.npz").write_text("precious")
    Path("empty").mkdir()
    Path("t.txt").write_text("a cat\n")
    Path("blank.txt").write_text("\n \n\n")
    Path("latin.txt").write_bytes("ein Hund\ncaf\xe9\n".encode("latin-1"))
    before = sorted(path.name for path in Path.cwd().iterdir())
    assert embed(*arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert Path("there.npz").read_text() == "precious"
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "no text in standard input; give one text a line"), (b"a\nb\n\xff", "standard input, line 3: byte 0xff")],
)
def test_texts_on_standard_input_that_are_none(
    data: bytes, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", stdin_of(data))
    assert embed("--texts", "-", "-o", "out.npz") == 3
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_a_wrong_cache_size_shows_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZEROSHOT_CACHE_SIZE", "much")
    assert embed("pictures", "-o", "out.npz") == 2
    assert "ZEROSHOT_CACHE_SIZE=much is not a size" in capsys.readouterr().err


def test_ctrl_c_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out.npz").write_text("old")

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_finish", interrupted)
    before = sorted(path.name for path in Path.cwd().iterdir())
    assert embed("pictures", "-o", "out.npz", "--overwrite", "--no-cache") == 130
    assert capsys.readouterr().err == "assumed: 1 file left out: .txt 1\ninterrupted\n"
    assert Path("out.npz").read_text() == "old"
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_a_model_that_is_not_there_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in Path.cwd().iterdir())
    assert embed("pictures", "-o", "out.npz", "--model", "./nowhere") == 2
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("pictures", "-o", "quiet.npz", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert embed("pictures", "-o", "verbose.npz", "--verbose") == 0
    assert " on cpu in fp32; 3 images\n" in capsys.readouterr().err


# Tables and tars


TABLES = {
    "pairs.csv": 'image,caption\na.png,a cat\nb.png,"a dog, asleep"\nc.png,\n',
    "pairs.tsv": "text\tn\na cat\t1\na dog, asleep\t2\n\t3\n",
    "one.csv": 'words\na cat\n"a dog, asleep"\n',
    "pairs.jsonl": '{"caption": ["a cat", "a dog, asleep"]}\n{"caption": null}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_texts_gives_a_column(name: str, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).write_text(TABLES[name])
    assert embed("--texts", name, "-o", "out.npz") == 0
    arrays = np.load("out.npz")
    assert arrays["texts"].tolist() == ["a cat", "a dog, asleep"]
    np.testing.assert_allclose(arrays["embeddings"], of_texts(model_folder, arrays["texts"].tolist()), atol=1e-6)
    assert f"{name}: texts from the column" in capsys.readouterr().err


def test_a_column_of_parquet_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"caption": ["x", "y"], "n": [1, 2], "German": ["eine Katze", "ein Hund"]}), "t.parquet")
    assert embed("--texts", "t.parquet", "--text-column", "german", "-o", "out.npz") == 0
    assert np.load("out.npz")["texts"].tolist() == ["eine Katze", "ein Hund"]
    assert embed("--texts", "t.parquet", "--text-column", "French", "-o", "other.npz") == 3
    assert (
        "has no column 'French', its columns are 'caption', 'n', 'German'; name the right one with --text-column"
        in (capsys.readouterr().err)
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pictures", "--text-column", "x"), 2, "--text-column is for --texts"),
        (("--texts", "numbers.csv"), 3, "name the right one with --text-column"),
        (("--texts", "empty.csv"), 3, "has no text under its header"),
        (("--texts", "missing.csv"), 2, "cannot read missing.csv"),
        (("plain.tar",), 3, "plain.tar: has no images"),
        (("evil.tar",), 3, "leads out of it"),
        (("cut.tar",), 3, "cut.tar is truncated"),
        (("x-{0..99999999}.tar",), 2, "stands for more than 1,000,000 files"),
    ],
)
def test_tables_and_tars_that_cannot_be_read(
    arguments: tuple[str, ...], code: int, message: str, no_model: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("numbers.csv").write_text("a,b\n1,2\n")
    Path("empty.csv").write_text("caption,b\n,2\n")
    for tar, member in (("plain.tar", "notes.txt"), ("evil.tar", "../../red.png"), ("cut.tar", "red.png")):
        with tarfile.open(tar, "w") as file:
            file.add("pictures/notes.txt" if member == "notes.txt" else "pictures/red.png", member)
    Path("cut.tar").write_bytes(Path("cut.tar").read_bytes()[:600])
    assert embed(*arguments, "-o", "out.npz") == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("out.npz").exists()


@pytest.mark.parametrize("given", [("one.tar", "two.tar"), ("*.tar",), ("{one,two}.tar",)])
def test_images_of_tars(given: tuple[str, ...], model_folder: Path) -> None:
    for tar, names in (("one.tar", ("blue", "green")), ("two.tar", ("red",))):
        with tarfile.open(tar, "w") as file:
            for name in names:
                file.add(f"pictures/{name}.png", f"deep/{name}.png")
            file.add("pictures/notes.txt", "deep/notes.txt")
    assert embed(*given, "pictures", "-o", "out.npz") == 0
    arrays = np.load("out.npz")
    inside = ["one.tar/deep/blue.png", "one.tar/deep/green.png", "two.tar/deep/red.png"]
    outside = ["pictures/blue.png", "pictures/green.png", "pictures/red.png"]
    assert arrays["paths"].tolist() == inside + outside
    np.testing.assert_array_equal(arrays["embeddings"][:3], arrays["embeddings"][3:])


def test_an_unreadable_image_in_a_tar_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pictures", "bad.png").write_bytes(b"")
    with tarfile.open("x.tar", "w") as file:
        file.add("pictures/bad.png", "bad.png")
        file.add("pictures/red.png", "red.png")
    assert embed("x.tar", "-o", "out.npz") == 4
    assert "x.tar/bad.png" in str(np.load("out.npz")["errors"])
