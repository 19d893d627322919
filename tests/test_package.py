"""The package as users get it: its version, what importing it loads, and what the wheel holds."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import versions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme_renderer import markdown

from zeroshot_cli import __version__

ROOT = Path(__file__).parents[1]
NOT_OF_USERS = {"bench", "dev", "docs"}


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run Python away from the checkout, with `path` ahead of everything installed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    run = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_version_is_that_of_the_newest_changelog_entry() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## \[(.+)\](?: - (.+))?$", changelog, flags=re.MULTILINE)
    released = [(version, date) for version, date in entries if version != "Unreleased"]
    assert released[0][0] == __version__
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version, _ in released)
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) for _, date in released)


def test_version_has_one_home() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version", "readme"]
    assert settings["tool"]["hatch"]["version"]["path"] == "src/zeroshot_cli/__init__.py"


def test_constraints_pin_what_the_project_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines)  # names and versions, no addresses or paths
    named = {canonicalize_name(each.name) for each in versions.requirements()}
    assert {"torch", "pytest", "mypy", "ruff"} <= pins.keys() <= {*named, versions.WITH_TORCH}
    for requirement in versions.requirements():
        name = canonicalize_name(requirement.name)
        assert name in pins or name == "sentencepiece", name  # of the extra hf, which no test needs
        assert name not in pins or requirement.specifier.contains(pins[name]), (str(requirement), pins[name])


def test_the_image_finds_pinned_versions_that_the_index_of_torch_lacks() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"-c constraints.txt (\S+) https://download.pytorch.org", recipe) == ["--extra-index-url"]
    assert " --index-url" not in recipe  # it would be the only one


def test_all_are_the_extras_of_users_but_the_large_ones_for_few() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = settings["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == settings["name"]
    assert extras.keys() - everything.extras - NOT_OF_USERS == {"all", "ray", "wandb"}
    assert everything.extras <= extras.keys()


def test_lowest_versions_are_the_lower_bounds(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\nname = "own"\ndependencies = ["A_b>=1.5,<3", "c>=2"]\n'
        '[project.optional-dependencies]\nx = ["c>=10"]\nbench = ["d"]\nall = ["own[x]"]\n'
    )
    assert versions.lowest(versions.requirements(pyproject)) == {"a-b": "1.5", "c": "10"}
    pyproject.write_text('[project]\ndependencies = ["e"]\noptional-dependencies = {}\n')
    with pytest.raises(ValueError, match=r"e in pyproject\.toml has no lower bound: write e>=VERSION"):
        versions.lowest(versions.requirements(pyproject))


SHARED = {"records", "disk", "display", "documents", "errors", "processes"}  # what every room needs


def rooms_of(file: Path) -> set[str]:
    """Return the rooms and root modules that a file imports, wherever in it."""
    found = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    names = [each.module or "" for each in found if isinstance(each, ast.ImportFrom)]
    return {name.split(".")[1] for name in names if name.startswith("zeroshot_cli.")}


def test_rooms_import_what_contributing_says() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|.*\| (.*) \|$", text, flags=re.MULTILINE)
    allowed = {room: set(re.findall(r"`(\w+)/`", rooms)) for room, rooms in rows}
    homes = {path.parent for path in (ROOT / "src/zeroshot_cli").glob("*/__init__.py")}
    assert allowed.keys() == {home.name for home in homes}
    allowed["cli"] = set(allowed)
    for home in homes:
        used = set().union(*map(rooms_of, home.rglob("*.py"))) - SHARED - {home.name}
        assert used <= allowed[home.name], f"{home.name}/ imports {sorted(used - allowed[home.name])}"


def test_a_package_index_can_follow_every_link_of_the_readme() -> None:
    with_absolute_links = runpy.run_path(str(ROOT / "hatch_build.py"))["with_absolute_links"]
    text = "![a](b/c.svg) [d](e.md#f) [g](#h) [i](https://j.k/l) [m]: n"
    assert with_absolute_links(text, "https://r") == (
        "![a](https://r/raw/HEAD/b/c.svg) [d](https://r/blob/HEAD/e.md#f) [g](#h) [i](https://j.k/l) [m]: n"
    )
    tags = '<a href="b.md"><img alt="c" src="d.svg"></a> <source srcset="e.svg"> <img src="https://f"> <a href="#g">'
    assert with_absolute_links(tags, "https://r") == (
        '<a href="https://r/blob/HEAD/b.md"><img alt="c" src="https://r/raw/HEAD/d.svg"></a> '
        '<source srcset="https://r/raw/HEAD/e.svg"> <img src="https://f"> <a href="#g">'
    )
    readme = with_absolute_links((ROOT / "README.md").read_text(encoding="utf-8"), "https://r")
    assert set(re.findall(r"\]\((https?:|#)?", readme)) <= {"https:", "#"}
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())


def test_a_package_index_renders_the_readme() -> None:
    """By the renderer that PyPI has: it returns None where it cannot, and drops tags that it does not allow."""
    with_absolute_links = runpy.run_path(str(ROOT / "hatch_build.py"))["with_absolute_links"]
    readme = with_absolute_links((ROOT / "README.md").read_text(encoding="utf-8"), "https://r")
    page = markdown.render(readme)
    assert page is not None
    addresses = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert {address.split(":")[0] if address[0] != "#" else "#" for address in addresses} <= {"https", "#"}
    images = re.findall(r"!\[|<img ", readme)
    assert len(re.findall("<img ", page)) == len(images) > 0
    assert "&lt;img" not in page


def test_importing_the_package_imports_no_torch(tmp_path: Path) -> None:
    heavy = "{'torch', 'open_clip', 'huggingface_hub', 'numpy', 'PIL', 'typer', 'rich'}"
    loaded = python("-c", f"import sys, zeroshot_cli; print(sorted({heavy} & set(sys.modules)))", cwd=tmp_path)
    assert loaded == "[]"


def test_importing_the_command_line_imports_no_torch(tmp_path: Path) -> None:
    heavy = "{'torch', 'open_clip', 'huggingface_hub'}"
    loaded = python("-c", f"import sys, zeroshot_cli.cli.app; print(sorted({heavy} & set(sys.modules)))", cwd=tmp_path)
    assert loaded == "[]"


def test_every_public_name_exists() -> None:
    import zeroshot_cli

    missing = [name for name in zeroshot_cli.__all__ if getattr(zeroshot_cli, name, None) is None]
    assert missing == []
    assert set(dir(zeroshot_cli)) >= set(zeroshot_cli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zeroshot_cli.nothing


def test_a_checkout_reads_its_own_prompts() -> None:
    from zeroshot_cli.words.textfiles import prompts_dir

    assert prompts_dir() == ROOT / "prompts"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked by pip in a folder of its own; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index")
    python(*pip, "--target", str(folder), str(wheel), cwd=folder)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_prompts_and_the_model_and_little_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    files = [path.relative_to(ROOT / "prompts") for path in (ROOT / "prompts").rglob("*") if path.is_file()]
    expected = {f"zeroshot_cli/prompts_data/{path.as_posix()}" for path in files}
    assert "zeroshot_cli/prompts_data/labels/imagenet.txt" in expected
    assert expected <= set(sizes)
    assert "zeroshot_cli/py.typed" in sizes
    tops = {name.split("/")[0] for name in sizes}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zeroshot_cli"}
    assert wheel.stat().st_size < 30_000_000


@pytest.mark.slow
def test_an_installed_wheel_finds_its_own_prompts(installed: Path, tmp_path: Path) -> None:
    code = (
        "import zeroshot_cli.words.textfiles as b; print(b.__file__); print(b.prompts_dir());"
        "from zeroshot_cli.words.prompts import list_prompts; "
        "print(','.join(sorted(each.name for each in list_prompts())))"
    )
    module, folder, names = python("-c", code, cwd=tmp_path, path=installed).splitlines()
    assert Path(module) == installed / "zeroshot_cli" / "words" / "textfiles.py"
    assert Path(folder) == installed / "zeroshot_cli" / "prompts_data"
    assert names.split(",") == sorted(path.stem for path in (ROOT / "prompts").glob("*.yaml"))


@pytest.mark.slow
def test_an_installed_wheel_runs(installed: Path, tmp_path: Path) -> None:
    assert python("-m", "zeroshot_cli", "--version", cwd=tmp_path, path=installed) == f"zeroshot {__version__}"
    assert "imagenet-80" in python("-m", "zeroshot_cli", "prompts", "list", cwd=tmp_path, path=installed)


@pytest.mark.slow
def test_an_installed_wheel_classifies_without_a_network(installed: Path, tmp_path: Path) -> None:
    image, labels = ROOT / "examples" / "images" / "red_heart.png", ROOT / "examples" / "labels.txt"
    rows = python(
        *(
            "-m",
            "zeroshot_cli",
            "classify",
            str(image),
            "--labels",
            str(labels),
            "--offline",
            "--format",
            "csv",
        ),
        cwd=tmp_path,
        path=installed,
    ).splitlines()
    assert rows[0] == "path,rank,label,score,probability,error"
    assert rows[1].startswith(f"{image},1,")


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """With nothing there but what the wheel itself asks for, pip's downloads included."""
    environment = tmp_path / "environment"
    try:
        python("-m", "venv", str(environment), cwd=tmp_path)
        fresh = str(environment / "bin" / "python")
        subprocess.run([fresh, "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)], check=True, cwd=tmp_path)
        command = [
            str(environment / "bin" / "zeroshot"),
            "classify",
            str(ROOT / "examples" / "images" / "red_heart.png"),
        ]
        shown = subprocess.run(
            [*command, "--label", "red heart", "--label", "house", "--model", "tiny", "--offline", "--format", "jsonl"],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.defpath, "HOME": str(tmp_path)},
        ).stdout
        assert json.loads(shown)["label"] == "red heart"
    finally:
        shutil.rmtree(environment, ignore_errors=True)  # some gigabytes
