"""Groups of labels: nested files, the column of a table, mappings of Python, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from zeroshot_cli.errors import LabelsError
from zeroshot_cli.words.faults import Kind, lint_labels
from zeroshot_cli.words.labels import Labels, read_labels
from zeroshot_cli.words.prompts import BARE


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def paths(labels: Labels) -> dict[str, str]:
    return {label.name: "/".join(label.group) for label in labels}


PETS = {"cat": "animal/mammal", "dog": "animal/mammal", "sparrow": "animal/bird", "car": ""}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "animal: {mammal: [cat, dog], bird: [sparrow]}\ncar:\n"),
        ("b.yaml", "groups:\n  animal:\n    mammal: [cat, dog]\n    bird:\n    - sparrow\n  car:\n"),
        ("c.json", '{"groups": {"animal": {"mammal": ["cat", "dog"], "bird": ["sparrow"]}, "car": null}}'),
        ("d.json", '{"animal": {"mammal": ["cat", "dog"], "bird": ["sparrow"]}, "car": []}'),
        ("e.yaml", "labels:\n  animal: {mammal: {cat: , dog: }, bird: [sparrow]}\n  car:\n"),
        (
            "f.yaml",
            "name: x\ngroups: {animal: [{mammal: [cat, dog]}, {bird: [sparrow]}], car: {synonyms: [auto]}}\n",
        ),
        ("g.csv", "label,group\ncat,animal/mammal\ndog,animal / mammal\nsparrow,animal/bird\ncar,\n"),
        ("h.csv", "group;label\nanimal/mammal;cat\nanimal/mammal;dog\nanimal/bird;sparrow\n;car\n"),
        ("i.tsv", "species\tgroup\ncat\tanimal/mammal\ndog\tanimal/mammal\nsparrow\tanimal/bird\ncar\t\n"),
    ],
)
def test_a_label_has_the_path_of_its_groups(tmp_path: Path, name: str, content: str) -> None:
    if name == "d.json":
        with pytest.raises(LabelsError, match="no labels"):
            read_labels(write(tmp_path, "groups.json", '{"groups": ' + content + "}"))
    assert paths(read_labels(write(tmp_path, name, content))) == PETS


def test_leaves_are_labels_as_ever(tmp_path: Path) -> None:
    content = """
    bird:
      owl: {synonyms: [barn owl], prompts: ["a {} at night"]}
      hawks: [kestrel, {name: buzzard, synonyms: [Buteo]}, {kite: {synonyms: [Milvus]}}, {eagles: [osprey]}]
    """
    labels = read_labels(write(tmp_path, "a.yaml", content))
    assert [(each.name, each.synonyms, each.group) for each in labels] == [
        ("owl", ("barn owl",), ("bird",)),
        ("kestrel", (), ("bird", "hawks")),
        ("buzzard", ("Buteo",), ("bird", "hawks")),
        ("kite", ("Milvus",), ("bird", "hawks")),
        ("osprey", (), ("bird", "hawks", "eagles")),
    ]
    assert labels.items[0].prompts == ("a owl at night", "a barn owl at night")
    assert labels.notes == ("nested keys are groups, and the lists in them are labels; synonyms are under `synonyms:`",)


@pytest.mark.parametrize(
    "content",
    ["cat: [kitten]\ndog: [puppy]\n", "cat: {synonyms: [kitten]}\ndog:\n", "groups: [crowd]\nperson: [man]\n"],
)
def test_a_mapping_of_synonyms_stays_one(tmp_path: Path, content: str) -> None:
    labels = read_labels(write(tmp_path, "a.yaml", content))
    assert not labels.grouped
    assert labels.items[0].synonyms in {("kitten",), ("crowd",)}


def test_the_rows_of_a_label_need_its_group_once(tmp_path: Path) -> None:
    content = "label,prompt,group\ncat,a cat.,pet\ncat,the cat.,\ndog,a dog.,pet\n"
    labels = read_labels(write(tmp_path, "a.csv", content))
    assert [(each.name, each.prompts, each.group) for each in labels] == [
        ("cat", ("a cat.", "the cat."), ("pet",)),
        ("dog", ("a dog.",), ("pet",)),
    ]


DEEP = "/".join(f"g{number}" for number in range(13))


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        (
            "a.yaml",
            "plant: [tulip]\nanimal: {bird: [owl]}\n",
            1,
            "write `groups:` above all groups, or `plant: {syn",
        ),
        ("a.yaml", "animal: {bird: owl}\nplant: {tree: [oak]}\n", 1, "'owl' may be a label in the group 'bird'"),
        (
            "a.yaml",
            "groups:\n  bird: owl\n  tree: [oak]\n",
            2,
            "`bird: [owl]` for a group, or `bird: {synonyms: ",
        ),
        (
            "a.yaml",
            "groups: {bird: [owl]}\nlabels: [car]\n",
            2,
            "'labels' is beside `groups:`; write it below",
        ),
        ("a.yaml", "groups: {bird: []}\n", 1, "the group 'bird' has no labels; add one, or write `bird:` for a label"),
        ("a.yaml", "groups: {bird: {}, tree: [oak]}\n", 1, "the group 'bird' has no labels"),
        ("a.yaml", "groups:\n  bird: [owl]\n  owl:\n", 3, "label 'owl' is already on line 2; remove one"),
        ("a.yaml", "groups:\n  bird: [owl]\n  pet: [cat, owl]\n", 3, "is in two groups, 'bird' and 'pet'; keep one"),
        (
            "a.yaml",
            "groups:\n  bird: [owl]\n  pet: [Bird]\n",
            3,
            "'Bird' is a label, and 'bird' is a group",
        ),
        ("a.yaml", "groups:\n  bird: [bird, owl]\n", 2, "'bird' is a label, and 'bird' is a group"),
        (
            "a.yaml",
            "groups:\n  a: {other: [x]}\n  b: {other: [y]}\n",
            3,
            "'a/other' and 'b/other' end in the same",
        ),
        ("a.yaml", "groups: {unknown: [x]}\n", 1, "the group 'unknown' is reserved for rejected images; rename it"),
        ("a.yaml", "groups: {a/b: [x]}\n", 1, "group 'a/b' has a slash, which separates groups in answers"),
        ("a.yaml", "groups: {'': [x], b: [y]}\n", 1, "a group is blank; fill it in or remove it"),
        ("a.yaml", "groups: &x {a: *x}\n", 1, "the alias *x stands for nothing, or for itself"),
        ("a.yaml", f"groups: {'{a: ' * 20}[x]{'}' * 20}\n", 1, "nested too deeply"),
        ("a.yaml", f"groups: {'{a: ' * 13}[x]{'}' * 13}\n", 1, "more than 12 groups are inside each other"),
        ("a.yaml", "groups: {cat: {synonyms: [kitten], colour: [red]}}\n", 1, "unknown key 'colour'"),
        ("a.yaml", "cat: {synonym: [kitten]}\ndog:\n", 1, "unknown key 'synonym'"),
        ("a.csv", "label,group\nowl,bird\nowl,pet\n", 3, "label 'owl' is in two groups, 'bird' and 'pet'; keep one"),
        ("a.csv", "label,group\nowl,bird//night\n", 2, "a group is blank"),
        ("a.csv", "label,group\nowl,Animalia|Aves\n", 2, "write a path with slashes, as 'Animalia/Aves'"),
        ("a.csv", "label,group\nowl,Animalia > Aves\n", 2, "write a path with slashes, as 'Animalia/Aves'"),
        ("a.csv", "label,group\nowl,Unknown\n", 2, "the group 'Unknown' is reserved"),
        ("a.csv", f"label,group\nowl,{DEEP}\n", 2, "more than 12 groups are inside each other"),
        ("a.csv", "label,group\nowl,bird\nfinch,Bird\n", 3, "the groups 'bird' and 'Bird' end in the same"),
        ("a.csv", "label,group\nowl,bird\nfinch,bird/bird\n", 3, "the groups 'bird' and 'bird/bird' end in the same"),
    ],
)
def test_what_is_unclear_or_twice_is_refused_with_the_way_out(
    tmp_path: Path, name: str, content: str, line: int, words: str
) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(LabelsError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert words in str(caught.value)


def test_a_mapping_of_python_names_groups() -> None:
    labels = Labels.of_user({"animal": {"mammal": ["cat", "dog"], "bird": ("sparrow",)}, "vehicle": ["car"]})
    assert paths(labels) == PETS | {"car": "vehicle"}


def itself() -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    mapping["a"] = mapping
    return mapping


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({}, "there are no labels"),
        ({"bird": "owl"}, "the group 'bird' has 'owl'; give a list of labels, or a mapping of groups"),
        ({"bird": None}, "the group 'bird' has None"),
        ({"bird": []}, "the group 'bird' has no labels"),
        ({"bird": {}}, "the group 'bird' has no labels"),
        ({7: ["owl"]}, "the group 7 is not a string"),
        ({"bird": [7]}, "label 1, 7, is not a string"),
        ({"bird": ["bird"]}, "'bird' is a label, and 'bird' is a group"),
        ({"bird": ["owl"], "pet": ["owl"]}, "is already label 1"),
        ({"a/b": ["owl"]}, "has a slash"),
        (itself(), "more than 12 groups"),
    ],
)
def test_mappings_that_are_no_groups(groups: dict[str, Any], words: str) -> None:
    with pytest.raises(LabelsError, match=words):
        Labels.of_user(groups)


def test_lint_finds_names_that_stand_for_two_things(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "groups:\n  a: [x]\n  b: [a]\n")
    (fault,), _ = lint_labels(path, BARE)
    assert (fault.kind, fault.line) == (Kind.DUPLICATE, 3)
    assert fault.what == "'a' is a label, and 'a' is a group; rename one"
    assert lint_labels(write(tmp_path, "b.yaml", "groups:\n  a: [x]\n  b: [y]\n"), BARE)[0] == []
