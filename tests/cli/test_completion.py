"""Tab in a shell: typer's scripts with the words that we add, asked as shells ask, without torch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zeroshot_cli.cli import completion

SCRIPT = Path(sys.executable).with_name("zeroshot")


def as_bash_asks(line: str) -> dict[str, str]:
    """The variables of a line with the cursor at its end: bash breaks words at colons and equals signs, too."""
    parts = [part for word in line.split(" ") for part in re.findall("[:=]+|[^:=]+", word) or [""]]
    return {"COMP_WORDS": "\n".join(parts), "COMP_CWORD": str(len(parts) - 1)}


def words(line: str, shell: str = "bash", **options: object) -> list[str]:
    """What completes the last word of a line."""
    asked = {"_ZEROSHOT_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        asked |= as_bash_asks(line)
    else:
        asked |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [SCRIPT], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, **{"cwd": "/", **options}
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zeroshot cla", ["classify"]),
        ("zeroshot models ex", ["export"]),
        ("zeroshot classify x --preci", ["--precision"]),
        ("zeroshot classify x --precision fp", ["fp32", "fp16"]),
        ("zeroshot classify x --device m", ["mps"]),
        ("zeroshot classify x --model ti", ["tiny"]),
        ("zeroshot classify x -m rn101", ["RN101", "RN101-quickgelu"]),
        ("zeroshot classify x --model RN50x4 --pretrained ", ["openai"]),
        ("zeroshot classify x --labels oxford", ["oxford-pets"]),
        ("zeroshot classify x --prompts imagenet-", ["imagenet-7", "imagenet-80"]),
        ("zeroshot classify x --background au", ["auto"]),
        ("zeroshot eval imagenet-sk", ["imagenet-sketch"]),
        ("zeroshot eval cifar10 cifar100 --prompts cifar10", ["cifar10", "cifar100"]),
        ("zeroshot models show RN50x1", ["RN50x16", "RN50x16-quickgelu"]),
        ("zeroshot models download tin", ["tiny"]),
        ("zeroshot prompts show mnis", ["mnist"]),
        ("zeroshot classify pho", [""]),  # the shell's own turn: files
        ("zeroshot classify x --device gpu --label ca", [""]),
        ("zeroshot nonsense x", [""]),
        ("zeroshot classify --model nonsense --pretrained o", [""]),
        # bash replaces what is after the last colon or equals sign only
        ("zeroshot eval imagenet-v2:thr", ["threshold0.7"]),
        ("zeroshot eval imagenet-v2:", ["threshold0.7", "top-images"]),
        ("zeroshot eval imagenet-v2:threshold0.7 dt", ["dtd"]),
        ("zeroshot classify x --model RN50x4:o", ["openai"]),
        ("zeroshot classify x --model rn50x4:", ["openai"]),
        ("zeroshot classify x --model=RN50x6", ["RN50x64", "RN50x64-quickgelu"]),
        ("zeroshot classify x --model=RN50x4:o", ["openai"]),
        ("zeroshot classify x --model=RN50x4 --pretrained=", ["openai"]),
        ("zeroshot classify x --precision=fp", ["fp32", "fp16"]),
        ("zeroshot classify s3://bucket/pho", [""]),
        ("zeroshot nonsense:", [""]),
    ],
)
def test_bash_gets_the_words_that_fit(line: str, expected: list[str]) -> None:
    assert words(line) == expected


def test_files_that_may_be_meant_stand_beside_the_names(tmp_path: Path) -> None:
    for name in ("cars.txt", "cats.yaml", "cats.png"):
        (tmp_path / name).touch()
    (tmp_path / "camels").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("my cats.txt", "q'uote.txt", "ka:tzen.txt", "кот.txt"):
        (tmp_path / name).touch()
    assert words("zeroshot classify x --labels ca", cwd=tmp_path) == ["caltech101", "camels/", "cars.txt", "cats.yaml"]
    assert words("zeroshot classify x --prompts cat", cwd=tmp_path) == ["cats.yaml"]
    assert words("zeroshot classify x --labels к", cwd=tmp_path) == ["кот.txt"]
    for begun in ("my", "q", "ka"):  # what needs quotes is the shell's own turn
        assert words(f"zeroshot classify x --labels {begun}", cwd=tmp_path) == [""]

    for begun in ("cam", ".c", "camels/"):  # folders alone are, too: it puts no space after them
        assert words(f"zeroshot classify x --labels {begun}", cwd=tmp_path) == [""]
    assert words("zeroshot eval camel", cwd=tmp_path) == [""]
    assert words("zeroshot eval ca", cwd=tmp_path) == ["caltech101", "camels/"]


@pytest.mark.parametrize(
    "begun", ["", "V", "v", "vit", "ViT-B", "vit-b", "ViT-b-3", "r", "RN", "eva", "m", "coca", "c"]
)
def test_nothing_that_was_typed_is_shortened_or_replaced(begun: str) -> None:
    """A shell replaces it by what all words have in common, unless that is nothing."""
    found = completion.models(None, begun)
    common = os.path.commonprefix(found)  # noqa: RUF071
    assert found
    assert not common or common.casefold().startswith(begun.casefold()), found


def test_words_that_would_shorten_it_are_left_out() -> None:
    assert {"vit-b-32", "vit-bigG-14"} < set(completion.models(None, "vit-b"))  # not ViT-, which they have in common
    assert completion._fitting(["abC-1", "aBc-2", "abc-3"], "abC") == ["abC-1"]  # all three have but "a" in common
    assert completion._fitting(["abC-1", "aBc-2"], "ABC") == []
    assert completion._fitting(["abC-1", "Abc-2"], "abC") == ["abC-1", "Abc-2"]


def test_what_follows_the_cursor_is_not_asked_for() -> None:
    line = {"COMP_WORDS": "zeroshot\nclassify\n--model\ntin\n--offline", "COMP_CWORD": "3"}
    asked = {**os.environ, **line, "_ZEROSHOT_COMPLETE": "complete_bash"}
    done = subprocess.run([SCRIPT], env=asked, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("tiny\n", "")


def test_fish_and_zsh_get_them_too() -> None:
    assert words("zeroshot classify x --labels oxford", "fish") == ["oxford-pets"]
    assert words("zeroshot classify x --labels oxford", "zsh") == ["_arguments '*: :((\"oxford-pets\"))'"]


def test_a_real_bash_completes(tmp_path: Path) -> None:
    line = "zeroshot classify x --model ti"
    script = (
        'eval "$(zeroshot --show-completion bash)"\n'
        "complete -p zeroshot\n"
        f"COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1} COMP_LINE={line!r}\n"
        "_zeroshot_completion zeroshot\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc"],
        input=script,
        env={**os.environ, "PATH": path, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("complete -o default -F _zeroshot_completion zeroshot\ntiny\n", "")


def test_installing_writes_what_the_shell_reads(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [SCRIPT, "--install-completion", "bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "_ZEROSHOT_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "zeroshot.sh").read_text()
    assert "zeroshot.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    "line",
    ["zeroshot classify x --model V", "zeroshot classify x --labels i", "zeroshot eval c", "zeroshot models show V"],
)
def test_no_word_takes_an_import_of_torch(line: str) -> None:
    code = (
        "import os, sys\nfrom zeroshot_cli.cli.app import run\n"
        f"os.environ.update(_ZEROSHOT_COMPLETE='complete_bash', **{as_bash_asks(line)!r})\n"
        "assert run([]) == 0\n"
        "found = {'torch', 'numpy', 'PIL', 'huggingface_hub', 'open_clip'} & set(sys.modules)\nassert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_help_has_one_line_more() -> None:
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, timeout=60)
    assert done.stdout.count("completion") == 2  # the option and what it does
    assert "--show-completion" not in done.stdout
