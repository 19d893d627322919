"""What `small` is trained with: its tables, ImageNet's names, its teacher, and the model that it starts from."""

import csv
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scripts import script_module
from torch.nn import functional as F

from zeroshot_cli.clip.config import EfficientNetConfig
from zeroshot_cli.clip.efficientnet import EfficientNet, GatedHead
from zeroshot_cli.images.preprocess import Preprocess, PreprocessConfig
from zeroshot_cli.models.load import load
from zeroshot_cli.train.step import trimmed
from zeroshot_cli.words.labels import read_labels

Tables = dict[str, list[tuple[str, str]]]  # image and text by the table


def run(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", [recipe.__name__, *arguments])
    recipe.main()


def write_table(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """With several, a busy machine makes each of the small steps wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- prepare.py -----------------------------------------------------------------------------------------------------

PHOTOGRAPHS = (
    "fluent/otter.webp,otter,river|fish,fluent-render,MIT",
    "p/shop.jpg,a clothing Store,shop|clothes,scratch-photo,CC0-1.0",
    'p/cow.jpg,"the cow, lying (asleep)",,gnome-photo,CC-BY-4.0',
    "p/alike.jpg,a chair,chair,furniture-render,CC-BY-SA-3.0",
    "p/nature.jpg,a lake,lake,mate-photo,GPL-2.0-or-later",
    "p/animals-panda.webp,a panda,panda,gcompris-photo,CC0-1.0",  # of examples/images
    'stamps/ant.png,"An ant, black",animals,stamps-photo,GPL-2.0',
    "stamps/theatre.png,theatre,town,stamps-photo,GPL-2.0",
    "stamps/bee.png,a bee,animals,stamps-drawing,GPL-2.0",
)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tables]:
    """Run prepare.py on forty emoji, five icons, a photograph and packages' images; returns the rows it wrote."""
    emoji = [f"d/{n}.webp,thing {n},one|two|three|four,noto" for n in range(40)]
    icons = [f"d/{source}.webp,{source} icon,,{source}" for source in ("mdi", "tabler", "lucide", "ph", "streamline")]
    drawings = write_table(tmp_path / "drawings.csv", "image,caption,keywords,source", *emoji, *icons)
    apples = [f'apple-{n}.jpg,"royal gala, a kind of apple",royal gala' for n in range(20)]
    photos = write_table(tmp_path / "photos.csv", "image,caption,label", *apples)
    columns = "image,caption,keywords,source,license"
    photographs = write_table(tmp_path / "photographs.csv", columns, *PHOTOGRAPHS)
    recipe = script_module("recipes/small/prepare.py")

    def prepare(seed: int = 0) -> dict[str, list[tuple[str, str]]]:
        to = tmp_path / "data"
        given = {"drawings": drawings, "photos": photos, "photographs": photographs}
        run(recipe, monkeypatch, **given, to=to, seed=seed)
        found = {}
        for path in to.iterdir():
            with path.open(newline="", encoding="utf-8") as file:
                columns, *rows = csv.reader(file)
            assert columns == ["image", "label" if path.stem in ("chosen", "shop") else "caption"]
            found[path.stem] = [(Path(image).relative_to(tmp_path).as_posix(), text) for image, text in rows]
        return found

    return prepare


def test_each_image_is_in_its_table(tables: Callable[..., Tables]) -> None:
    found = tables()
    assert {*found} == {"emoji", "icons", "photos", "photographs", "val", "chosen", "shop"}
    validation = {image for image, _ in found["val"]}
    assert len(validation) == 2  # five in a hundred
    emoji = [image for image, _ in found["emoji"]]
    assert {*emoji} == {f"d/{n}.webp" for n in range(40)} - validation | {"fluent/otter.webp"}
    assert len(emoji) == 3 * 39
    otter = [text for image, text in found["emoji"] if image == "fluent/otter.webp"]
    assert otter[0] == "otter"
    assert "otter" in otter[1]
    assert sorted(otter[2].split(", ")) == ["fish", "river"]
    assert [image for image, _ in found["icons"]] == ["d/streamline.webp"]
    assert "streamline icon" in found["icons"][0][1]
    ((kept_back, label),) = found["shop"]  # five in a hundred
    assert label == "royal gala"
    apples = [f"apple-{n}.jpg" for n in range(20) if f"apple-{n}.jpg" != kept_back]
    assert [image for image, _ in found["photos"]] == [image for image in apples for _ in range(3)]
    caption, label, kind = (text for _, text in found["photos"][:3])
    assert caption == "royal gala, a kind of apple"
    assert "royal gala" in label
    assert "apple" in kind
    assert "gala" not in kind
    assert found["photographs"] == [
        ("p/shop.jpg", "a clothing Store"),
        ("p/shop.jpg", "a photo of a clothing Store."),
        ("p/shop.jpg", "clothing store, shop, clothes"),
        ("p/cow.jpg", "the cow, lying (asleep)"),
        ("p/cow.jpg", "a photo of the cow, lying (asleep)."),
    ]
    assert found["chosen"] == [("stamps/ant.png", "ant"), ("stamps/theatre.png", "theatre")]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_both_trained_on_and_measured_on(tables: Callable[..., Tables], seed: int) -> None:
    found = tables(seed)
    trained = {image for name in ("emoji", "icons", "photos", "photographs") for image, _ in found[name]}
    assert not trained & {image for name in ("val", "chosen", "shop") for image, _ in found[name]}
    assert not trained & {"p/alike.jpg", "p/nature.jpg", "p/animals-panda.webp", "stamps/bee.png"}
    assert tables(seed) == found


# --- class_names.py -------------------------------------------------------------------------------------------------

SYNSETS = (
    "  1 This software and database is being provided to you",
    "00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | that which exists",
    "00000002 05 n 02 animal 0 beast 0 002 @ 00000001 n 0000 + 00000777 v 0101 | a living thing",
    "00000003 05 n 0b bird 0 b1 0 b2 0 b3 0 b4 0 b5 0 b6 0 b7 0 b8 0 b9 0 fledged_animal 0 001 @ 00000002 n 0000 | x",
    "00000004 05 n 02 crane 0 wading_bird 0 002 #m 00000001 n 0000 @ 00000003 n 0000 | a wader",
    "00000005 06 n 02 machine 0 artifact 0 001 @ 00000001 n 0000 | a device",
    "00000006 06 n 02 crane 0 derrick 0 001 @ 00000005 n 0000 | lifts",
    "00000007 18 n 01 Big_Bird 0 002 @i 00000004 n 0000 -c 00000005 n 0000 | a character | and a bar",
)


def test_wordnet_is_read(tmp_path: Path) -> None:
    recipe = script_module("recipes/small/class_names.py")
    found = recipe.read_synsets(write_table(tmp_path / "data.noun", *SYNSETS))
    assert {*found} == {*range(1, 8)}
    assert found[1] == (["entity"], [])
    assert found[2] == (["animal", "beast"], [1])
    assert found[3] == (["bird", *(f"b{n}" for n in range(1, 10)), "fledged animal"], [2])
    assert found[7] == (["Big Bird"], [4])
    assert list(recipe.ancestors(found, 4)) == [*found[3][0], "animal", "beast", "entity"]


def test_a_class_has_other_words_and_common_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = script_module("recipes/small/class_names.py")
    folder = tmp_path / "usr/share/wordnet"
    folder.mkdir(parents=True)
    write_table(folder / "data.noun", *SYNSETS)
    write_table(tmp_path / "vocab.txt", "crane", "entity", "bird", "beast", "machine", "animal", "b3", "b1")
    monkeypatch.setattr(recipe, "COMMON", 7)  # without b1
    monkeypatch.setattr(recipe, "fetch_debian", lambda spec, checksum, to: tmp_path)
    monkeypatch.setattr(recipe, "teacher_folder", lambda: tmp_path)
    monkeypatch.setattr(recipe, "read_labels", lambda name: SimpleNamespace(names=("crane", "crane", "yellow bird")))
    monkeypatch.setattr(recipe, "wnids", lambda: ("n00000004", "n00000006", "n00000007"))
    run(recipe, monkeypatch, to=tmp_path / "names.txt")
    assert (tmp_path / "names.txt").read_text(encoding="utf-8").splitlines() == [
        "crane | wading bird | bird | b3",  # the nearest two
        "derrick | crane",  # machine, artifact and entity are broad
        "yellow bird | Big Bird | crane | bird",
    ]


# --- teach.py -------------------------------------------------------------------------------------------------------


class FakeTeacher:
    """Embeddings that all lie to one side; stops at a text named in `stop_at`, and keeps what it was asked."""

    asked: list[str]
    stop_at = ""

    def __call__(self, texts: list[str]) -> np.ndarray:
        if self.stop_at in texts:
            raise KeyboardInterrupt
        self.asked.extend(texts)
        return np.stack([embedding(text) for text in texts])


def embedding(text: str) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=6).astype(np.float32) + 5


@pytest.fixture
def teach(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    recipe = script_module("recipes/small/teach.py")
    monkeypatch.setattr(recipe, "PART", 400)
    monkeypatch.setattr(recipe, "Teacher", FakeTeacher)
    monkeypatch.setattr(FakeTeacher, "asked", [], raising=False)
    return recipe


def test_embeddings_are_centred_and_have_length_1(
    teach: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = write_table(tmp_path / "texts.txt", "an otter", "tench", "een otter — 水獺", "not this one")
    run(teach, monkeypatch, texts=texts, to=tmp_path / "runs/teacher.npz", count=3)
    with np.load(tmp_path / "runs/teacher.npz") as teacher:
        found, embeddings = teacher["texts"].tolist(), teacher["embeddings"]
    assert sorted(found) == sorted({*read_labels("imagenet").names, "an otter", "een otter — 水獺"})
    given = np.stack([embedding(text) for text in found]).astype(np.float64)
    expected = given - given.mean(axis=0)
    expected /= np.sqrt((expected**2).sum(axis=1))[:, None]
    np.testing.assert_allclose(embeddings, expected, atol=1e-4)
    assert embeddings.dtype == np.float32
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["teacher.npz"]


def test_an_interrupted_run_continues(teach: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = "an otter " * 9  # in the last part
    texts = write_table(tmp_path / "texts.txt", longest, "an otter")
    with monkeypatch.context() as patch:
        patch.setattr(FakeTeacher, "stop_at", longest)
        with pytest.raises(KeyboardInterrupt):
            run(teach, monkeypatch, texts=texts, to=tmp_path / "teacher.npz")
    assert len(FakeTeacher.asked) == 800
    run(teach, monkeypatch, texts=texts, to=tmp_path / "teacher.npz")
    run(teach, monkeypatch, texts=texts, to=tmp_path / "whole.npz")
    with np.load(tmp_path / "teacher.npz") as teacher, np.load(tmp_path / "whole.npz") as whole:
        count = len(teacher["texts"])
        np.testing.assert_array_equal(teacher["texts"], whole["texts"])
        np.testing.assert_array_equal(teacher["embeddings"], whole["embeddings"])
    assert len(FakeTeacher.asked) == 2 * count  # none twice for the interrupted run


def test_an_interrupted_run_on_other_texts_is_not_continued(
    teach: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = "an otter " * 9
    before, after = (write_table(tmp_path / f"{name}.txt", name, longest) for name in ("ox", "emu"))
    with monkeypatch.context() as patch:
        patch.setattr(FakeTeacher, "stop_at", longest)
        with pytest.raises(KeyboardInterrupt):
            run(teach, monkeypatch, texts=before, to=tmp_path / "teacher.npz")
    run(teach, monkeypatch, texts=after, to=tmp_path / "teacher.npz")
    run(teach, monkeypatch, texts=after, to=tmp_path / "whole.npz")
    with np.load(tmp_path / "teacher.npz") as teacher, np.load(tmp_path / "whole.npz") as whole:
        np.testing.assert_array_equal(teacher["embeddings"], whole["embeddings"])


# --- start.py -------------------------------------------------------------------------------------------------------


class Grey(torch.nn.Module):
    """The image's first value times 0, 1, 2, ... as its features."""

    def __init__(self) -> None:
        super().__init__()
        self.gated_head = GatedHead(EfficientNetConfig(image_size=8, hidden=2, gate=0.5), embed_dim=3)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :1] * torch.arange(1280)


def training_tables(folder: Path, *levels: int) -> Path:
    """Grey images, one in each table and the rest in the last; none is there of other tables."""
    for level in levels:
        Image.new("RGB", (8, 8), (level, level, level)).save(folder / f"{level}.png")
    rows = [f"{folder / str(level)}.png,grey" for level in levels]
    for name, some in {"emoji": [*rows[:1], *rows[:1]], "icons": rows[1:2], "photos": rows[2:]}.items():
        write_table(folder / f"{name}.csv", "image,caption", *some)
    for name in ("photographs", "val", "chosen"):
        write_table(folder / f"{name}.csv", "image,caption", "missing.png,otter")
    return folder


def test_the_head_starts_with_names_and_statistics_of_features(tmp_path: Path) -> None:
    recipe = script_module("recipes/small/start.py")
    names = read_labels("imagenet").names
    teacher = {name: torch.from_numpy(embedding(name)[:3]) for name in (*names, "an otter")}
    levels = (0, 51, 102, 255)
    visual = Grey()
    preprocess = Preprocess(PreprocessConfig(size=8, mean=(0.0,) * 3, std=(1.0,) * 3))
    recipe.start_head(visual, teacher, training_tables(tmp_path, *levels), preprocess)
    head = visual.gated_head
    np.testing.assert_array_equal(head.class_embedding.detach(), np.stack([embedding(name)[:3] for name in names]))
    features = np.array(levels)[:, None] / 255 * np.arange(1280)
    np.testing.assert_allclose(head.mean, features.mean(axis=0), rtol=1e-5)
    deviation = features.std(axis=0, ddof=1)
    assert head.deviation[0] == pytest.approx(1e-3)  # of a feature that never changes
    np.testing.assert_allclose(head.deviation[1:], deviation[1:], rtol=1e-5)


def test_a_model_is_built_that_knows_the_classifier_and_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = script_module("recipes/small/start.py")
    model_yaml = recipe.MODEL.read_text(encoding="utf-8")
    for size, less in {"384": "6", "224": "32", "hidden: 512": "hidden: 2", "hidden: 1024": "hidden: 64"}.items():
        assert size in model_yaml
        model_yaml = model_yaml.replace(size, less)
    (tmp_path / "model.yaml").write_text(model_yaml, encoding="utf-8")
    tower = EfficientNet(EfficientNetConfig(image_size=32, hidden=2, gate=0.5), embed_dim=6).state_dict()
    tower = {name: tensor for name, tensor in tower.items() if not name.startswith("gated_head")}
    settings = {"MODEL": tmp_path / "model.yaml", "STEPS": 60, "BATCH": 256, "LR": 0.03, "HELD_OUT": 100, "IMAGES": 2}
    for name, value in settings.items():
        monkeypatch.setattr(recipe, name, value)
    monkeypatch.setattr(recipe, "weights_file", lambda: tmp_path)
    monkeypatch.setattr(recipe, "tower_weights", lambda path: tower)
    names = list(dict.fromkeys(read_labels("imagenet").names))
    targets = np.stack([embedding(name) - 5 for name in names])
    np.savez(tmp_path / "teacher.npz", texts=np.array(names), embeddings=targets)
    data = training_tables(tmp_path, 0, 90, 180)
    run(recipe, monkeypatch, teacher=tmp_path / "teacher.npz", data=data, to=tmp_path / "model")

    loaded = load(str(tmp_path / "model"), device="cpu", precision="fp32")
    saved = loaded.model.visual.state_dict()
    for name, tensor in tower.items():
        torch.testing.assert_close(saved[name], tensor, rtol=0, atol=0)
    expected = [embedding(name) - 5 for name in read_labels("imagenet").names]
    np.testing.assert_allclose(saved["gated_head.class_embedding"], expected)
    assert not saved["gated_head.c_proj.weight"].any()
    with torch.inference_mode():
        learned = loaded.model.encode_text(trimmed(loaded.tokenizer, names))
    cosines = F.cosine_similarity(learned, torch.from_numpy(targets))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    assert cosines[order[100:]].mean() > 0.8
    assert cosines[order[:100]].mean() < 0.5  # random embeddings, not learned
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith("step 60: mean cosine 0.")
    assert float(printed.rpartition(" ")[2]) == pytest.approx(cosines[order[:100]].mean().item(), abs=2e-3)
