import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import zeroshot_cli.prompts
from zeroshot_cli.errors import PromptsError, UsageError
from zeroshot_cli.labels import Label, Labels
from zeroshot_cli.prompts import DEFAULT_PROMPTS, Prompts, list_prompts, prompts_dir, read_prompts


@pytest.fixture(scope="module")
def open_clip_metadata() -> ModuleType:
    """open_clip's lists of templates, without the seconds that importing all of open_clip takes."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0], "zero_shot_metadata.py")
    spec = importlib.util.spec_from_file_location("zero_shot_metadata", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "theirs", "count"),
    [("imagenet-7", "SIMPLE_IMAGENET_TEMPLATES", 7), ("imagenet-80", "OPENAI_IMAGENET_TEMPLATES", 80)],
)
def test_templates_of_clips_authors(open_clip_metadata: ModuleType, name: str, theirs: str, count: int) -> None:
    expected = tuple(template("tench") for template in getattr(open_clip_metadata, theirs))
    assert len(expected) == count
    assert read_prompts(name).fill(Labels.of(["tench"])) == (expected,)


def test_built_in_sets() -> None:
    sets = {prompts.name: prompts for prompts in list_prompts()}
    assert list(sets) == ["drawings", "imagenet-7", "imagenet-80", "photo", "plain"]
    assert DEFAULT_PROMPTS == "imagenet-7"
    assert sets["plain"].templates == ("{}",)
    assert sets["photo"].templates == ("a photo of a {}.",)
    for name, prompts in sets.items():
        assert prompts == read_prompts(name)
        assert prompts.description
        assert prompts.source
        assert len(set(prompts.templates)) == len(prompts.templates)


def test_fill_takes_names_synonyms_and_whole_prompts() -> None:
    prompts = Prompts("mine", "", "", ("a {}.", "{label}, {"))
    labels = Labels((Label("cat", ("kit{}ten",)), Label("dog", ("hound",), ("my dog",)), Label(r"\g<0>")))
    assert prompts.fill(labels) == (
        ("a cat.", "cat, {", "a kit{}ten.", "kit{}ten, {"),
        ("my dog",),
        (r"a \g<0>.", r"\g<0>, {"),
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.yaml", "templates: ['{}', 'a big {}']", Prompts("a", "", "", ("{}", "a big {}"))),
        (
            "b.yml",
            "name: mine\ndescription: 'yes'\nsource: 1.0\ntemplates:\n  - a {label}\n",
            Prompts("mine", "yes", "1.0", ("a {label}",)),
        ),
        ("one.yaml", "templates: a {}\n", Prompts("one", "", "", ("a {}",))),
        ("c.txt", "# mine\na {}.  # good\n\n{}#1\n", Prompts("c", "", "", ("a {}.", "{}#1"))),
    ],
)
def test_a_users_file(tmp_path: Path, name: str, content: str, expected: Prompts) -> None:
    (tmp_path / name).write_text(content)
    assert read_prompts(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.txt", "a {}\n\na photo\n", 3, "'a photo' has no placeholder; write {}"),
        ("b.txt", "a {} or {label}\n", 1, "'a {} or {label}' has 2 placeholders"),
        ("c.txt", "a {c}\n", 1, "{c} is not a placeholder; write {} or {label}"),
        ("d.txt", "{} {name}\n", 1, "{name} is not a placeholder"),
        ("a.yaml", "templates:\n  - a {}\n  - a photo\n", 3, "'a photo' has no placeholder"),
        ("bare.yaml", "templates:\n  - {}\n", 2, "in quotes"),
        ("brace.yaml", "templates:\n  - {} on white\n", 2, "put a text that starts with { in quotes"),
        ("key.yaml", "template: a {}\n", 1, "unknown key 'template'"),
        ("twice.yaml", "templates: a {}\nname: a\ntemplates: b {}\n", 3, "'templates' is given twice"),
        ("list.yaml", "name: [a]\ntemplates: a {}\n", 1, "a list stands where a text belongs"),
    ],
)
def test_errors_name_file_line_and_value(tmp_path: Path, name: str, content: str, line: int, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(PromptsError) as caught:
        read_prompts(str(path))
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "# none\n"), ("a.yaml", "name: a\n"), ("b.yaml", "templates: []")]
)
def test_a_file_without_templates_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PromptsError, match="holds no templates"):
        read_prompts(str(tmp_path / name))


@pytest.mark.parametrize("content", ["", "- a {}\n", "a {}\n"])
def test_a_yaml_file_must_be_a_mapping(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(PromptsError, match="is not a mapping of name, description, source, templates"):
        read_prompts(str(tmp_path / "a.yaml"))


def test_unknown_names_and_files(tmp_path: Path) -> None:
    known = "known are drawings, imagenet-7, imagenet-80, photo, plain"
    with pytest.raises(UsageError, match=f"no prompt set 'imagenet-81'; {known}; did you mean imagenet-80"):
        read_prompts("imagenet-81")
    with pytest.raises(UsageError, match=f"no prompt set 'zzz'; {known}; or give a file"):
        read_prompts("zzz")
    with pytest.raises(UsageError, match=r"none\.yaml: No such file"):
        read_prompts(str(tmp_path / "none.yaml"))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UsageError, match=r"a\.json is not a prompt file; its name must end in \.yaml"):
        read_prompts(str(tmp_path / "a.json"))


def test_a_checkout_reads_its_own_prompts_and_a_wheel_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "src" / "zeroshot_cli" / "prompts.py"
    (tmp_path / "prompts").mkdir()
    monkeypatch.setattr(zeroshot_cli.prompts, "__file__", str(module))
    assert prompts_dir() == module.parent / "prompts_data"  # a stray folder beside an installed package
    (tmp_path / "pyproject.toml").touch()
    assert prompts_dir() == tmp_path / "prompts"
