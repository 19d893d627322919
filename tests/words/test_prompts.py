import hashlib
import importlib.util
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

import zeroshot_cli.words.textfiles
from zeroshot_cli.errors import PromptsError, UsageError
from zeroshot_cli.words.labels import Label, Labels, read_labels
from zeroshot_cli.words.prompts import DEFAULT_PROMPTS, Prompts, list_prompts, prompts_for, read_prompts
from zeroshot_cli.words.textfiles import label_files, prompts_dir


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


# Name, classes, templates, and SHA-256 (16 digits) of the labels and of the templates, one a line,
# computed from CLIP's data/prompts.md by a parser that is not ours; runs of spaces are one.
CLIPS_OWN = [
    ("birdsnap", 500, 1, "b03d9d481162fd11", "f3126b8375a9e07a"),
    ("caltech101", 102, 34, "5fc74dfb21dc46ad", "90561580b7ea5dba"),
    ("cifar10", 10, 18, "bb3914949cecedee", "9bbf912e1144ca4c"),
    ("cifar100", 100, 18, "60ae3a3ac1355fcf", "9bbf912e1144ca4c"),
    ("clevr-counts", 8, 1, "3c9410fd14f4550f", "da3770f103c74310"),
    ("country211", 211, 5, "027b30d283f3a153", "038d0d5e084b6ee1"),
    ("dtd", 47, 8, "681d23b9cd3c2ede", "1f6888d2130f62a4"),
    ("eurosat", 10, 3, "989b723c02a72997", "9bc85d9f1798d03b"),
    ("fer2013", 7, 6, "5321324323b81d88", "ae805dccc6d01c6a"),
    ("fgvc-aircraft", 100, 2, "e1c9e72060e63d52", "91522de75ad44711"),
    ("flowers102", 102, 1, "5429e1ef6e0e5aa3", "bfcd4bbb214d5015"),
    ("food101", 101, 1, "9c0eeb5a368baacb", "77a79bac7d9cf25b"),
    ("gtsrb", 43, 3, "953036bc5aedbe6b", "a6794061485dcfa2"),
    ("hateful-memes", 2, 1, "62a880e9ac288c0e", "16a7fa63385bbf56"),
    ("kinetics700", 700, 28, "a34c9fed41f5f9ed", "820c23cc30bda2e5"),
    ("kitti", 4, 1, "ecc16a4f92ee9fb1", "44136fa355b3678a"),
    ("mnist", 10, 1, "29dd21f55e4611d4", "c0341e0a1fdfd8fb"),
    ("oxford-pets", 37, 1, "c6f4365ced9dc96f", "16a0790f0e45e97e"),
    ("pcam", 2, 1, "27352df7ede1fd87", "7c7758b084ef77fa"),
    ("resisc45", 45, 18, "3c2177013901f0ef", "8f390b8578e5c3bf"),
    ("sst2", 2, 1, "2e61aa7558046c2c", "9034019e8a14384c"),
    ("stanford-cars", 196, 8, "93d089469409bbd0", "255ecc632c41182c"),
    ("stl10", 10, 2, "08b234ce7b11dbd3", "c97a3d1ad5819800"),
    ("sun397", 397, 2, "dd1277b1cfcf09ba", "c97a3d1ad5819800"),
    ("ucf101", 101, 48, "4c5f54cb419a8393", "d1fceafd76c54a5f"),
    ("voc2007", 20, 1, "b8c3f06eeba384ca", "e8e367e769f86c27"),
]


@pytest.mark.parametrize(("name", "classes", "templates", "labels_digest", "templates_digest"), CLIPS_OWN)
def test_sets_of_clips_authors(
    name: str, classes: int, templates: int, labels_digest: str, templates_digest: str
) -> None:
    def digest(rows: Iterable[str]) -> str:
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]

    labels, prompts = read_labels(name), read_prompts(name)
    assert (len(labels), len(prompts.templates)) == (classes, templates)
    assert digest(" | ".join((label.name, *label.synonyms)) for label in labels) == labels_digest
    assert digest(prompts.templates) == templates_digest
    assert prompts_for(name) == name


def test_imagenet_has_two_names_that_stand_for_two_classes_each(open_clip_metadata: ModuleType) -> None:
    names = read_labels("imagenet").names
    assert names == tuple(open_clip_metadata.IMAGENET_CLASSNAMES)
    assert [name for name, count in Counter(names).items() if count > 1] == ["missile", "sunglasses"]
    assert (names.index("missile"), names.index("sunglasses")) == (657, 836)
    assert prompts_for("imagenet") == prompts_for(None) == prompts_for("my/imagenet.txt") == DEFAULT_PROMPTS


def test_built_in_sets() -> None:
    sets = {prompts.name: prompts for prompts in list_prompts()}
    own = {row[0] for row in CLIPS_OWN}
    assert set(sets) == {"drawings", "imagenet-7", "imagenet-80", "photo", "plain"} | own
    assert set(label_files()) == {"imagenet"} | own
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
        ("brace.yaml", "templates:\n  - {} on white\n", 2, "put text that starts with { in quotes"),
        ("key.yaml", "template: a {}\n", 1, "unknown key 'template'"),
        ("twice.yaml", "templates: a {}\nname: a\ntemplates: b {}\n", 3, "'templates' is given twice"),
        ("list.yaml", "name: [a]\ntemplates: a {}\n", 1, "expected text, found a list"),
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
    with pytest.raises(
        UsageError, match=r"no prompt set 'imagenet-81'; did you mean imagenet-80\? zeroshot prompts list"
    ):
        read_prompts("imagenet-81")
    with pytest.raises(UsageError, match=r"no prompt set 'pets'; did you mean oxford-pets\? "):
        read_prompts("pets")
    with pytest.raises(UsageError, match=r"no prompt set 'zzz'; a file needs the extension .* list shows all"):
        read_prompts("zzz")
    with pytest.raises(UsageError, match=r"none\.yaml: No such file"):
        read_prompts(str(tmp_path / "none.yaml"))
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UsageError, match=r"a\.json is not a prompt file; its extension must be \.yaml"):
        read_prompts(str(tmp_path / "a.json"))


def test_a_checkout_reads_its_own_prompts_and_a_wheel_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "src" / "zeroshot_cli" / "words" / "textfiles.py"
    (tmp_path / "prompts").mkdir()
    monkeypatch.setattr(zeroshot_cli.words.textfiles, "__file__", str(module))
    assert prompts_dir() == module.parents[1] / "prompts_data"  # a stray folder beside an installed package
    (tmp_path / "pyproject.toml").touch()
    assert prompts_dir() == tmp_path / "prompts"
