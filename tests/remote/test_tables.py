"""Tables with a column of addresses: eval, train, and what refuses images that are on no disk."""

import json
from pathlib import Path

import pytest
from faulty_web import Web

from zeroshot_cli.cli import app as entry
from zeroshot_cli.errors import DataError, UsageError
from zeroshot_cli.images.augment import Augment
from zeroshot_cli.images.preprocess import PreprocessConfig
from zeroshot_cli.pairs.read import read_pairs
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import EvalBatches, TrainBatches, batches_of, decoding_of, shuffled

MODEL = ["--model", "tiny", "--precision", "fp32", "--batch-size", "4"]
WORDS = {"red.png": "red", "lime.png": "green", "blue.png": "blue", "gray.png": "gray"}
pytestmark = pytest.mark.usefixtures("photos_here")


def table(path: str, column: str, names: list[str], other: str = "label") -> Path:
    rows = [f"{name},{WORDS.get(Path(name).name.partition('?')[0], 'red')}" for name in names]
    Path(path).write_text("\n".join([f"{column},{other}", *rows, ""]))
    return Path(path)


def test_eval_gets_the_figures_of_the_files(web: Web) -> None:
    table("disk.csv", "image", [f"photos/{name}" for name in WORDS])
    table("web.csv", "url", [web.at(name) for name in WORDS])
    for name in ("disk", "web"):
        assert entry.run(["eval", f"{name}.csv", *MODEL, "-o", f"{name}.json"]) == 0
    disk, there = (json.loads(Path(f"{name}.json").read_text()) for name in ("disk", "web"))
    assert there["metrics"] == disk["metrics"]
    assert there["n"] == 4


def test_eval_has_no_secret_in_its_files(web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    names = [web.at(f"{name}?sig=hunter2").replace("://", "://me:hunter2@") for name in (*WORDS, "nothing.png")]
    table("web.csv", "url", names)
    outputs = ["-o", "a.json", "--predictions", "p.csv", "--report", "r.html"]
    assert entry.run(["eval", "web.csv", *MODEL, *outputs]) == 4
    for name in ("a.json", "p.csv", "r.html"):
        assert b"hunter2" not in Path(name).read_bytes(), name
    said = capfd.readouterr()
    assert "hunter2" not in said.out + said.err
    assert "404 not found" in Path("p.csv").read_text()


@pytest.mark.parametrize("workers", [0, 1])
def test_training_reads_addresses_as_it_reads_files(web: Web, workers: int) -> None:
    names = [*WORDS, "nothing.png"]
    there = read_pairs([table("web.csv", "url", [web.at(name) for name in names], "caption")])
    disk = read_pairs([table("disk.csv", "image", [f"photos/{name}" for name in WORDS], "caption")])
    config = PreprocessConfig(size=(16, 16))
    batches = [
        next(iter(batches_of(EvalBatches(pairs, config), shuffled(len(pairs), 8), workers=workers)))
        for pairs in (there, disk)
    ]
    by_caption = [dict(zip(batch.captions, batch.pixels, strict=True)) for batch in batches]
    assert by_caption[0].keys() == by_caption[1].keys() == set(WORDS.values())
    assert all((by_caption[0][word] == by_caption[1][word]).all() for word in WORDS.values())
    assert [(item.path, item.reason) for item in batches[0].skipped] == [(web.at("nothing.png"), "404 not found")]


def test_training_asks_for_many_at_once(web: Web) -> None:
    pairs = read_pairs(
        [table("web.csv", "url", [web.at(f"soon/{name}?{n}") for n in range(8) for name in WORDS], "text")]
    )
    batches = TrainBatches(pairs, Augment(size=(16, 16)), seed=0)
    batch = next(iter(batches_of(batches, shuffled(len(pairs), 32), workers=0)))
    assert len(batch.captions) == 32
    assert web.most_at_once > 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sort-into", "sorted"], "--sort-into files images on disk, and http://127.0.0.1"),
        (["--frames", "each"], "--frames each is for files on disk, and http://127.0.0.1"),
    ],
)
def test_what_needs_files_refuses_addresses(
    web: Web, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["classify", web.at("red.png"), "--label", "a", "--label", "b", *MODEL, *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("command", ["review", "tag"])
def test_review_and_tag_refuse_results_of_addresses(web: Web, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["classify", web.at("red.png"), "--label", "a", "--label", "b", *MODEL, "-o", "out.csv"]) == 0
    web.asked.clear()
    assert entry.run([command, "out.csv"]) == 2
    assert "red.png is not on this disk; " in capsys.readouterr().err
    assert not web.asked


def test_the_table_may_be_at_an_address_itself(web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    table("disk.csv", "image", [f"photos/{name}" for name in WORDS])
    table("web.csv", "url", [web.at(name) for name in WORDS])
    web.files["sets/web.csv"] = Path("web.csv").read_bytes()
    address = web.at("sets/web.csv?sig=hunter2")
    assert entry.run(["eval", "disk.csv", *MODEL, "-o", "disk.json"]) == 0
    assert entry.run(["eval", address, *MODEL, "-o", "web.json", "--report", "web.html"]) == 0
    disk, there = (json.loads(Path(f"{name}.json").read_text()) for name in ("disk", "web"))
    assert there["metrics"] == disk["metrics"]
    assert there["dataset"] == web.at("sets/web.csv?sig=***")
    assert b"hunter2" not in Path("web.json").read_bytes() + Path("web.html").read_bytes()
    assert "hunter2" not in "".join(capfd.readouterr())


def test_pairs_of_a_table_at_an_address_are_relative_to_it(web: Web) -> None:
    """As img2dataset's and others' metadata.csv beside the images have them."""
    web.files["sets/pairs.csv"] = b"image,caption\nred.png,red\nsub/blue.png,blue\n"
    pairs = read_pairs([web.at("sets/pairs.csv?token=hunter2")])
    assert pairs.images == (web.at("sets/red.png"), web.at("sets/sub/blue.png"))
    assert "hunter2" not in repr(pairs)


def test_a_table_that_is_not_there_is_one_sentence(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["eval", web.at("none.csv?sig=hunter2"), *MODEL]) == 2
    assert f"error: {web.at('none.csv?sig=***')}: 404 not found; check the address" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tar"])
def test_a_table_behind_a_private_redirect_names_the_way_out(web: Web, name: str) -> None:
    """No option permits it: the address that it leads to may be given."""
    web.redirects[name] = f"http://localhost:{web.port}/red.png"
    sentence = r"machine; give the address that it leads to, or download it first and give the file$"
    with pytest.raises((UsageError, DataError), match=sentence):
        read_pairs([web.at(name)])


def test_training_follows_private_redirects_where_it_may(web: Web) -> None:
    web.redirects["old.png"] = f"http://localhost:{web.port}/red.png"
    pairs = read_pairs([table("web.csv", "url", [web.at("old.png"), web.at("blue.png")], "caption")])
    for allowed in (False, True):
        how = decoding_of(TrainConfig(allow_private=allowed))
        batches = TrainBatches(pairs, Augment(size=(16, 16)), seed=0, decoding=how)
        batch = next(iter(batches_of(batches, shuffled(2, 2), workers=0)))
        assert ["redirects to" in item.reason for item in batch.skipped] == ([] if allowed else [True])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a fifth of the images is not there, which preflight says
def test_a_training_run_keeps_no_secret(web: Web, capfd: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(CONFIG)
    names = [web.at(f"{name}?sig=hunter2&n={n}") for n in range(8) for name in (*WORDS, "nothing.png")]
    table("web.csv", "url", names, "caption")
    web.files["web.csv"] = Path("web.csv").read_bytes()
    options = ["--model", "c.yaml", "--epochs", "1", "--batch-size", "8", "--workers", "1", "--output", "run"]
    assert entry.run(["train", "--data", web.at("web.csv?token=hunter2"), *options]) in (0, 4)
    for path in Path("run").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path
    assert "hunter2" not in "".join(capfd.readouterr())


CONFIG = """
embed_dim: 8
vision_cfg: {image_size: 16, patch_size: 8, width: 16, layers: 1, head_width: 8}
text_cfg: {width: 16, heads: 2, layers: 1, context_length: 16, vocab_size: 49408}
"""
