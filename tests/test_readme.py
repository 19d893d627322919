"""README does what it says: its commands run as written, its names stand where it says, its figures were printed."""

import csv
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.models.default import BETTER_DOWNLOAD, BETTER_MODEL, DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NOT_RUN = ("make demo", "pipx install", "PIP_EXTRA_INDEX_URL")  # the tests run in an environment that has it
RUN = ("--sort-into", "--background", "zeroshot search", "zeroshot review", "zeroshot train")


def block(word: str) -> str:
    """The one block of commands that holds `word`."""
    (found,) = [text for text in BLOCKS if word in text]
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the commands need of a clone of the repository."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def typed(commands: str, folder: Path, **changes: str) -> str:
    """What `commands` write to stdout when typed in `folder`, without a network; an empty change unsets a variable."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ZEROSHOT_OFFLINE": "1", **changes}
    environment = {name: value for name, value in environment.items() if value}
    shell = ["bash", "-e", "-o", "pipefail", "-c", commands]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def labels(rows: str) -> dict[str, str]:
    return {Path(row["path"]).stem: row["label"] for row in csv.DictReader(rows.splitlines())}


def test_every_block_is_run_by_a_test_here() -> None:
    assert sorted(BLOCKS) == sorted(map(block, NOT_RUN + RUN))


def test_it_takes_two_minutes_to_read() -> None:
    assert len(README.split()) <= 700
    assert README.count("|---") == README.count("\n|---") + 5  # one table, of six columns
    assert not re.search(r"\b(awk|grep|sed|xargs)\b", "".join(BLOCKS))


# Without --offline: a download would be tried, where nobody listens, and end the command.
FRESH = {"ZEROSHOT_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "ZEROSHOT_CACHE_DIR": "", "ZEROSHOT_CONFIG": ""}
HOMELESS = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"HF_HUB_OFFLINE": "1"}, HOMELESS], ids=["no network", "HF_HUB_OFFLINE", "no home folder"]
)
def test_the_first_recipe_names_nine_of_ten_examples_on_a_fresh_machine(
    changes: dict[str, str], clone: Path, tmp_path: Path
) -> None:
    home = {"HOME": str(tmp_path / "home")}
    typed(block("--sort-into"), clone, **{**FRESH, **home, **changes})
    answers = labels((clone / "answers.csv").read_text(encoding="utf-8"))
    assert answers.keys() == {image.stem for image in (clone / "examples/images").iterdir()}
    wrong = {name: label for name, label in answers.items() if label != name.replace("_", " ")}
    assert len(wrong) <= 0.1 * len(answers), wrong
    assert 'id="about-run"' in (clone / "answers.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_demo_needs_no_network(clone: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    assert "36 of 39 right, 39 labels to choose from" in typed("python examples/demo.py", clone, **{**FRESH, **home})


def test_sorting_files_every_image_and_is_taken_back(clone: Path) -> None:
    before = {path: path.read_bytes() for path in (clone / "examples/images").iterdir()}
    answers = labels(typed(block("--sort-into"), clone))
    filed = {path.stem: path.parent.name for path in (clone / "sorted").glob("*/*")}
    assert filed == answers
    assert "`zeroshot unsort sorted`" in README
    typed("zeroshot unsort sorted", clone)
    assert not list((clone / "sorted").glob("*/*"))
    assert {path: path.read_bytes() for path in (clone / "examples/images").iterdir()} == before


@pytest.mark.slow
def test_the_unknown_is_found(clone: Path) -> None:
    answers = labels(typed(block("--background"), clone))
    known = {name: label for name, label in answers.items() if label != "unknown"}
    assert known == {
        **dict.fromkeys(("cat", "dog", "panda", "parrot"), "animal"),
        "castle": "building",
        "pagoda": "building",
    }
    assert 'id="about-run"' in (clone / "found.html").read_text(encoding="utf-8")


def test_the_boat_and_the_cat_are_found_first(clone: Path) -> None:
    words, image = block("zeroshot search").splitlines()
    assert typed(words, clone).splitlines()[0] == "examples/images/sailboat.jpg"
    assert typed(image, clone).splitlines()[0] == "examples/images/cat.jpg"


def test_corrections_teach_a_classifier(clone: Path) -> None:
    """What `review` writes stands in for it: it runs until Ctrl-C, and has tests of its own."""
    review, tune, classify = block("zeroshot review").splitlines()
    assert review == "zeroshot review answers.csv"
    names = [path.name for path in sorted((clone / "examples/images").iterdir())]
    rows = "".join(f"examples/images/{name},{Path(name).stem.replace('_', ' ')},,\n" for name in names)
    (clone / "corrections.csv").write_text(f"path,label,was,when\n{rows}", encoding="utf-8")
    typed(tune, clone)
    answers = labels(typed(classify, clone))
    assert len(answers) == 39
    assert answers["rocket"] == "rocket"  # without corrections an anchor


@pytest.mark.slow
def test_training_makes_a_model_that_classifies(clone: Path) -> None:
    typed(block("--sort-into"), clone)
    answers = labels(typed(block("zeroshot train"), clone))
    assert len(answers) == 39
    assert (clone / "run/report.html").is_file()


def test_the_names_beside_the_paper_stand_in_those_files() -> None:
    page = (ROOT / "docs/how-it-works.md").read_text(encoding="utf-8")
    table = page.partition("| the paper |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == 6
    for row in table:
        _, here, where = row.strip("| ").split(" | ")
        code = "".join((ROOT / path).read_text(encoding="utf-8") for path in re.findall(r"\(\.\./(src/[^)]+)\)", where))
        for name in re.findall(r"\w+", " ".join(re.findall(r"`([\w.()]+)`", here))):
            assert re.search(rf"\b{name}\b", code), (name, where)


def test_the_sizes_of_models_are_those_of_their_files_and_of_the_table() -> None:
    folder = ROOT / "src/zeroshot_cli/models/bundled" / DEFAULT_MODEL
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert f"- `{DEFAULT_MODEL}` is the default: {size / 1e6:.0f} MB, in the package" in README
    assert f"- `--model {BETTER_MODEL}` answers far better ({BETTER_DOWNLOAD}, downloaded once)" in README


@pytest.mark.parametrize("image", re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README))
def test_images_are_there_and_small(image: str) -> None:
    assert 5_000 < (ROOT / image).stat().st_size < 300_000


# Lines as the scripts print them, with what stands in the table then.
PRINTED = {
    "precision": (
        "                          images/s   ratio    cosine\n"
        "open_clip fp32                 4.7    1.00  1.000000\n"
        "zeroshot fp32                  5.0    1.06  1.000000\n",
        {"fp32": "1.06 ×"},
    ),
    "folder": (
        "0.2 megapixels: 96 images of 0.1 MB, ViT-B-32 in bf16\n"
        "  script          2.1 × as fast as it (at least 2): 2.0, 2.1; open_clip: 30.0 images/s\n"
        "12 megapixels: 96 images of 6.0 MB, ViT-B-32 in bf16\n"
        "  script          3.8 × as fast as it (at least 4): 3.7, 3.8; open_clip: 9.0 images/s\n"
        "  import torch 1.63 s, so 0.89 s more (at most 1): 0.59, 1.09\n"
        "2000 pictures of 128 pixels, 5 labels, tiny, on one core\n"
        "  start and all 215 images/s (at least 100): 225, 215, 214\n"
        "500 images of 500 × 375 pixels, 5 labels, small in bf16, on one core\n"
        "  once it runs 83 images/s (at least 60): 81, 83, 84\n"
        "500 images of 500 × 375 pixels, 5 labels, small in fp32, on one core\n"
        "  once it runs 41 images/s (at least 30): 40, 41, 42\n",
        {
            "folder small": "2.1 ×",
            "folder large": "3.8 ×",
            "cached": "0.89 s",
            "tiny": "215 a second",
            "small bf16": "83 a second",
            "small fp32": "41 a second",
        },
    ),
    "train": (
        "fp32, the median of 1 rounds:\n  ratio               1.83 × (at least 1.35): 1.83\n"
        "bf16, the median of 1 rounds:\n  ratio               1.80 × (at least 1.35): 1.80\n"
        "  mean of the loss: ours 0.5279, open_clip_train 0.5251; ours is +0.0028 (at most 0)\n"
        "memory of batches of 1024, above the 500 MiB of batches of 2\n  ratio        0.11 (at most 0.33)\n",
        {"train fp32": "1.83 ×", "train bf16": "1.80 ×", "quality": "+0.0028", "memory": "0.11 ×"},
    ),
}


@pytest.fixture(scope="module")
def table() -> Any:
    return runpy.run_path(str(ROOT / "benchmarks/table.py"))


@pytest.mark.parametrize("script", PRINTED)
def test_figures_are_found_in_what_benchmarks_print(script: str, table: Any, tmp_path: Path) -> None:
    output, expected = PRINTED[script]
    (tmp_path / "results").mkdir()
    header = "date: 2026-01-02\nmachine: a\ncommand: python b.py\n\n"
    (tmp_path / f"results/{script}.txt").write_text(header + output, encoding="utf-8")
    (tmp_path / "earlier.csv").write_text("key,figure,date,machine,command\n", encoding="utf-8")
    found = {claim.key: table["find"](claim, tmp_path) for claim in table["CLAIMS"]}
    assert {key: measured.figure for key, measured in found.items() if measured} == expected
    assert {measured.date for measured in found.values() if measured} == {"2026-01-02"}


def test_a_figure_that_was_not_measured_again_is_the_earlier_one(table: Any, tmp_path: Path) -> None:
    earlier = "key,figure,date,machine,command\nmemory,0.5 ×,2025-01-01,there,python t.py\n"
    (tmp_path / "earlier.csv").write_text(earlier, encoding="utf-8")
    found = {claim.key: table["find"](claim, tmp_path) for claim in table["CLAIMS"]}
    assert found["memory"].figure == "0.5 ×"
    assert found["fp32"] is None


def write_result(folder: Path, name: str, date: str, output: str, *options: str) -> None:
    (folder / "results").mkdir(exist_ok=True)
    header = f"date: {date}\nmachine: a\ncommand: {' '.join(('python', name, *options))}\n\n"
    (folder / f"results/{name}.txt").write_text(header + output, encoding="utf-8")


def test_a_figure_is_not_taken_from_another_section(table: Any, tmp_path: Path) -> None:
    (tmp_path / "earlier.csv").write_text("key,figure,date,machine,command\n", encoding="utf-8")
    output = (
        "12 megapixels: 2 images, ViT-B-32 in bf16\n  limit 90%\n"
        "0.2 megapixels: 2 images, ViT-B-32 in bf16\n  script          2.1 × as fast\n"
    )
    write_result(tmp_path, "folder", "2026-01-02", output)
    output = (
        "bf16: not in this processor\nfp32: ViT, 1000 names × 80 templates\n  ours 1\n  ratio  3.0 ×\n"
        "bf16: ViT, 1000 names × 80 templates\n  ratio\n  4 MiB\n"
    )
    write_result(tmp_path, "class_embeddings", "2026-01-02", output)
    found = {claim.key: table["find"](claim, tmp_path) for claim in table["CLAIMS"]}
    figures = {key: measured.figure for key, measured in found.items() if measured}
    assert figures == {"folder small": "2.1 ×", "classes fp32": "3.0 ×"}


def test_a_run_that_measured_something_else_is_not_taken(table: Any, tmp_path: Path) -> None:
    (tmp_path / "earlier.csv").write_text("key,figure,date,machine,command\n", encoding="utf-8")
    small = "0.2 megapixels: 2 images, ViT-B-32 in fp32\n  script          2.1 × as fast\n"
    write_result(tmp_path, "folder", "2026-01-02", small)  # where the processor has no bf16
    fast = "fp32, the median of 1 rounds:\n  ratio               9.83 × (at least 1.35): 9.83\n"
    write_result(tmp_path, "train", "2026-01-02", fast, "--model", "small.yaml")
    write_result(tmp_path, "class_embeddings", "2026-01-02", "fp32: ViT, 10 names × 80 templates\n  ratio  3.0 ×\n")
    assert not any(table["find"](claim, tmp_path) for claim in table["CLAIMS"])


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (("2026-01-02", "2026-01-03"), {"fp32": "1.20 ×", "bf16": "1.90 ×"}),
        (("2026-01-03", "2026-01-03"), {"fp32": "1.10 ×", "bf16": "1.90 ×"}),
    ],
)
def test_the_newest_run_counts_and_a_part_hides_nothing(
    dates: tuple[str, str], expected: dict[str, str], table: Any, tmp_path: Path
) -> None:
    (tmp_path / "earlier.csv").write_text("key,figure,date,machine,command\n", encoding="utf-8")
    write_result(tmp_path, "precision", dates[0], "zeroshot fp32  5.0  1.10\nzeroshot bf16  9.0  1.90\n")
    write_result(tmp_path, "precision.only-fp32", dates[1], "zeroshot fp32  6.0  1.20\n")
    found = {claim.key: table["find"](claim, tmp_path) for claim in table["CLAIMS"]}
    assert {key: measured.figure for key, measured in found.items() if measured} == expected


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A copy of record.py, so that results/ is another, and a script to run, which fails on demand."""
    shutil.copy(ROOT / "benchmarks/record.py", tmp_path)
    (tmp_path / "b.py").write_text("import sys\nprint('ran', *sys.argv[1:])\nsys.exit('--fail' in sys.argv)\n")
    return tmp_path


def record(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "record.py", *words], cwd=folder, capture_output=True, text=True)


def test_a_part_of_a_benchmark_is_kept_beside_the_whole(bench: Path) -> None:
    for options in ((), ("--only", "zeroshot fp32"), ("--fail",)):
        record(bench, "b.py", *options)
    results = {path.name: path.read_text(encoding="utf-8").splitlines() for path in (bench / "results").iterdir()}
    assert {name: (lines[2], lines[-1]) for name, lines in results.items()} == {
        "b.txt": ("command: python benchmarks/b.py", "ran"),
        "b.only-zeroshot-fp32.txt": (
            "command: python benchmarks/b.py --only 'zeroshot fp32'",
            "ran --only zeroshot fp32",
        ),
    }


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--help"], 0, "python benchmarks/record.py SCRIPT.py"),
        ([], 2, "python benchmarks/record.py SCRIPT.py"),
        (["b.py", "--help"], 0, "ran --help"),
        (["none.py"], 1, "none.py is no script"),
    ],
)
def test_nothing_is_kept_of_what_is_no_measurement(words: list[str], code: int, says: str, bench: Path) -> None:
    done = record(bench, *words)
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True)
    assert not (bench / "results").exists()


def test_a_reader_that_goes_away_gets_no_traceback(bench: Path) -> None:
    (bench / "b.py").write_text("print('line\\n' * 100_000)\n")
    command = f"{sys.executable} record.py b.py | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=bench, capture_output=True, text=True)
    assert (done.stdout[:6], done.stderr) == ("date: ", "")
