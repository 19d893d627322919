"""YAML and JSON that never end, or are not what they say: a ValueError, at once."""

import re
import time
from pathlib import Path

import pytest

from zeroshot_cli.documents import load_json, load_yaml
from zeroshot_cli.errors import CheckpointError, UsageError
from zeroshot_cli.models.formats.open_clip import read_document
from zeroshot_cli.results.run_record import read_record

LAUGHS = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a: &a0 {x: 1}\n" + "".join(f"b{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "its aliases stand for more than 10,000 values; write them out"),
        (MERGES, "its aliases stand for more than 10,000 values"),
        ("a: &a [*a]", "the alias *a stands for nothing, or for itself"),
        ("a: *b", "the alias *b stands for nothing"),
        ("[" * 900, "nested too deeply"),
        ("{a: " * 900, "nested too deeply"),
        ("- " * 100_000, "deeply"),
        ("a: !!bool x", "a value is not what its tag says (KeyError: 'x')"),
        ("a: !!int ''", "a value is not what its tag says"),
        ("a: !!timestamp x", "a value is not what its tag says"),
        ("a: !!float x", "a value is not what its tag says"),
        ("a: 2024-99-99", "a value is not what its tag says"),
        (f"a: {'1' * 5000}", "a value is not what its tag says (ValueError"),
        ("a: " + ":".join(["1"] * 20_000), "a value has 39,999 characters; at most 10,000 are read"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("? [a]\n: b\n? {c: d}\n: e", "unhashable"),
        ("a: [", "did not find expected"),
        ("a: \x01", "control characters are not allowed"),
    ],
)
def test_yaml_of_any_kind_is_a_value_or_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="is not a model configuration"):
        read_document(tmp_path / "model.yaml")
    assert time.monotonic() - start < 5


def test_yaml_that_repeats_a_little_is_read() -> None:
    assert load_yaml("a: &x {y: 1}\nb: *x\nc: {<<: *x, z: 2}") == {"a": {"y": 1}, "b": {"y": 1}, "c": {"y": 1, "z": 2}}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "[1", b"\xff"])
def test_json_of_any_kind(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"deeply|digits|Expecting|decode"):
        load_json(text)


@pytest.mark.parametrize(
    "change",
    [
        '"settings": []',
        '"resolved": {"batch_size": "4"}',
        '"resolved": {"batch_size": 0}',
        '"resolved": {"batch_size": true}',
        '"counts": {"classified": "1"}',
        '"counts": {"classified": -1}',
        '"counts": [1]',
        '"to_make": "a.html"',
        '"to_make": [1]',
        '"complete": "yes"',
        '"started": 1',
        '"versions": []',
        '"settings": ' + "[" * 100_000,
        '"more": ' + "1" * 5000,
    ],
)
def test_a_run_record_with_other_types(change: str, tmp_path: Path) -> None:
    good = '{"started": "", "settings": {}, "resolved": {}, "versions": {}, "complete": false, "counts": null'
    path = tmp_path / "out.csv.run.json"
    path.write_text(good + ', "to_make": []}')
    assert read_record(path) is not None
    path.write_text(good + f', "to_make": [], {change}}}')
    with pytest.raises(UsageError, match="is not the record of a run"):
        read_record(path)
