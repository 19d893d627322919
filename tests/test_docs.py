"""The pages: their links lead somewhere, their commands can be typed, and no command or option is left out.

That what they paste is current, `make check` finds out, by cog.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from zeroshot_cli.cli.app import ParserError, app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CARD = ROOT / "src/zeroshot_cli/models/bundled/tiny/README.md"
INDEX = DOCS / "README.md"
REFERENCE = sorted(DOCS.rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "examples")),
    *REFERENCE,
    *sorted(ROOT.glob("recipes/**/*.md")),
    CARD,
]
FAILED = "$ echo $?"  # which pages paste under a command that ends with an error
TASK = re.compile(r"\$SLURM_ARRAY_TASK_ID")  # a number
ENDS_COMMAND = {"|", "||", "&&", ";", ">", ">>", "2>", "<"}

Command = tuple[str, Any]  # "models list", and the parser's command


def by_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tokens(page: Path) -> tuple[Token, ...]:
    """The tokens of a page, with those inside of paragraphs after these."""
    parsed = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return tuple(token for block in parsed for token in (block, *(block.children or ())))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What #fragments a page has, as GitHub makes them from headings."""
    found: Counter[str] = Counter()
    names = set()
    for heading, content in zip(tokens(page), tokens(page)[1:], strict=False):
        if heading.type == "heading_open":
            text = "".join(child.content for child in content.children or ())
            name = slug(text)
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return frozenset(names)


def slug(heading: str) -> str:
    """A heading's anchor: lower case, a hyphen for a blank, and nothing for what is no letter, number, - or _."""
    kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
    return "".join(kept).strip().replace(" ", "-")


def links(page: Path) -> list[str]:
    """The addresses of a page's links and images, in Markdown and in HTML."""
    markdown = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(page)]
    html = [token.content for token in tokens(page) if token.type in ("html_block", "html_inline")]
    written = [each for text in html for each in re.findall(r'\b(?:href|src|srcset)="([^"\s]+)', text)]
    return [str(each) for each in markdown if each] + written


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    nowhere = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
            nowhere.append(link)
    return nowhere


@cache
def commands() -> dict[str, Any]:
    """Every command that help shows, such as `models list`, and the parser's object for it."""
    return dict(below("", typer.main.get_command(app)))


def below(name: str, command: Any) -> Iterator[Command]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, each in children.items():
        if not each.hidden:
            yield from below(f"{name} {child}".strip(), each)


def options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}


def typed(page: Path) -> list[list[str]]:
    """The command lines of zeroshot in a page's code blocks, as words without the program's name."""
    blocks = [token for token in tokens(page) if token.type in ("fence", "code_block")]
    lines = [line for token in blocks for line in lines_to_type(token.content, pasted=token.info == "text")]
    return [words for line in lines for words in in_line(line)]


def lines_to_type(block: str, *, pasted: bool) -> list[str]:
    """The lines of a block that are commands; of what is pasted those behind a prompt, unless it shows an error."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    if not pasted:
        return [line.strip().removeprefix("$ ") for line in lines]
    return [] if FAILED in lines else [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def in_line(line: str) -> Iterator[list[str]]:
    if not re.search(r"(^|[|;&] *|^(\w+=\S* )+)zeroshot( |$)", line):
        return
    words: list[str] | None = None
    for word in [*shlex.split(line, comments=True), ";"]:
        if word in ENDS_COMMAND:
            if words is not None:
                yield words
            words = None
        elif words is not None:
            words.append(word)
        elif word == "zeroshot":
            words = []


def parse(words: list[str]) -> None:
    """Let the command line's own parser read the words, and run nothing."""
    command, name = typer.main.get_command(app), "zeroshot"
    while words and hasattr(command, "commands"):
        child = command.commands.get(words[0])
        if child is None:
            break
        command, name, words = child, f"{name} {words[0]}", words[1:]
    if hasattr(command, "commands") and words and not words[0].startswith("-"):
        raise LookupError(f"{name} has no command {words[0]!r}")
    with suppress(typer.Exit):  # of --help
        command.make_context(name, list(words))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Options are not taken from the environment of whoever runs the tests, and no file in their home is changed.

    The parser runs an eager option such as --install-completion, which edits what a shell reads when it starts.
    """
    home = str(tmp_path_factory.mktemp("home"))
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, home)
    for name in ("MODEL", "PRETRAINED", "DEVICE", "PRECISION", "BATCH_SIZE", "WORKERS", "OFFLINE"):
        monkeypatch.delenv(f"ZEROSHOT_{name}", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_can_be_typed(page: Path) -> None:
    for words in typed(page):
        try:
            parse([TASK.sub("1", word) for word in words if word != "..."])
        except (ParserError, LookupError) as error:
            pytest.fail(f"zeroshot {shlex.join(words)}: {error}")


@pytest.mark.parametrize("name", commands())
def test_a_command_has_a_page_that_names_its_options(name: str) -> None:
    page = DOCS / f"{name.split()[0]}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# zeroshot {name.split()[0]}\n")
    assert f"Usage: zeroshot {name} [OPTIONS]" in text
    assert {option for option in options(commands()[name]) if not re.search(rf"{option}\b", text)} == set()


def test_the_index_has_every_page() -> None:
    linked = {(DOCS / urlsplit(link).path).resolve() for link in links(INDEX)}
    assert {by_name(page) for page in REFERENCE if page != INDEX and page not in linked} == set()


def test_the_readme_leads_to_the_reference() -> None:
    assert any(urlsplit(link).path in ("docs", "docs/", "docs/README.md") for link in links(ROOT / "README.md"))


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", DOCS / "how-it-works.md"], ids=by_name)
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`([\w./]+(?:\.\w+|/))`", page.read_text(encoding="utf-8"))
    paths = [name for name in named if "NAME" not in name and re.fullmatch(r"[\w./]+(\.(py|yaml|csv|md|toml)|/)", name)]
    homes = (ROOT, ROOT / "src/zeroshot_cli")
    assert len(paths) >= 3
    assert [name for name in paths if not any((home / name).exists() for home in homes)] == []


def examples(page: Path) -> list[tuple[str, str]]:
    """The programs that a page shows, each with the output below it; pasted blocks are not among them."""
    written = re.sub(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```$", written, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("program", "output"), examples(DOCS / "api.md"))
def test_python_examples_print_what_the_page_says(program: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "example.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-W", "error", "example.py"]
    environment = {**os.environ, "ZEROSHOT_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == (output, "")


def test_every_python_example_is_run() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8").partition("<!-- [[[cog")[0]
    assert len(examples(DOCS / "api.md")) == text.count("```python") >= 4


@pytest.mark.parametrize("exit_code", [0, 1, 2, 3, 4, 5, 130])
def test_every_exit_code_is_explained(exit_code: int) -> None:
    assert f"\n| {exit_code} | " in (DOCS / "safety.md").read_text(encoding="utf-8")


# and that these tests would notice


def test_no_command_of_a_page_reaches_the_home_of_who_runs_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    assert not any(home.iterdir())
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = subprocess.run(
        [sys.executable, "-m", "zeroshot_cli", "--install-completion", "bash"], capture_output=True, timeout=60
    )
    assert done.returncode == 0
    assert (home / ".bashrc").is_file()


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Exit codes", "exit-codes"),
        ("What --model takes", "what---model-takes"),
        ("The paper's figure 3, and our names", "the-papers-figure-3-and-our-names"),
        ("Größe: 2 × 3", "größe-2--3"),
        ("read_labels", "read_labels"),
    ],
)
def test_anchors_are_github_s(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n## One\n\n[a](#one) [b](#one-1) [c](#one-2) [d](page.md#one) ![e](none.png)\n\n"
        '<img src="gone.svg"> <https://example.org/none> `[f](no-link)`\n',
        encoding="utf-8",
    )
    assert broken(page) == ["#one-2", "none.png", "gone.svg"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("zeroshot eval ./labelled --list   # all of them", [["eval", "./labelled", "--list"]]),
        ("find . -print0 | zeroshot classify - -0 --label 'a b'", [["classify", "-", "-0", "--label", "a b"]]),
        ("ZEROSHOT_CACHE_SIZE=1MB zeroshot doctor > out.txt", [["doctor"]]),
        ("torchrun -m zeroshot_cli train", []),
        ("label with zeroshot or without", []),
    ],
)
def test_commands_are_found(line: str, expected: list[list[str]]) -> None:
    assert list(in_line(line)) == expected


@pytest.mark.parametrize(
    "line",
    ["classify a.jpg --labls x", "eval a --precision fp33", "model list", "classify", "cache info now", "none"],
)
def test_what_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises((ParserError, LookupError)):
        parse(line.split())


def test_a_run_that_ends_otherwise_than_the_page_says_is_not_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    cog, pasted = ModuleType("cog"), list[str]()
    monkeypatch.setattr(cog, "outl", pasted.append, raising=False)
    monkeypatch.setitem(sys.modules, "cog", cog)
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    module = runpy.run_path(str(DOCS / "pasted.py"))
    show = module["show"]
    for command, code in (("zeroshot prompts show photo", 2), ("zeroshot prompts show none", 0)):
        with pytest.raises(ValueError, match=rf"{command} ended with {2 - code}, not {code}: "):
            show(command, code=code)
    assert pasted == []
    show("zeroshot prompts show none", code=2)
    assert pasted[0].endswith("\n$ echo $?\n2\n```")
    module["FOLDER"].cleanup()
