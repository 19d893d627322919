"""Texts of every reader, mutated: each is read or refused, soon and in little memory; nothing is a bug of ours."""

import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import peak_memory

from zeroshot_cli.classify.classifier_file import FORMAT, read_classifier
from zeroshot_cli.documents import load_json, load_yaml
from zeroshot_cli.errors import CheckpointError, LabelsError, PromptsError, UsageError
from zeroshot_cli.results.run_record import read_record
from zeroshot_cli.words.faults import holds_templates, lint_labels, lint_templates
from zeroshot_cli.words.labels import read_labels
from zeroshot_cli.words.prompts import read_prompts

pytestmark = pytest.mark.slow

TEXTS = 5000
SECONDS = 10
BYTES = 500_000_000
SEEDS = {
    ".txt": [
        "apple | fruit\npizza # round\n",
        "0: apple\n1: pizza\n",
        "n07739125\tapple\n",
        '- "apple",\n',
        "a {}\n{label}.\n",
    ],
    ".yaml": [
        "cat: [kitten, tabby]\ndog: {prompts: [a {}, 'my {label}'], synonyms: x, folder: 7}\n",
        "names:\n  0: apple\n  1: &a pizza\n  2: *a\n",
        "name: mine\ndescription: x\ntemplates:\n- 'a {}'\n- \"my {label}\"\n",
        "a: &x [b, c]\nd: *x\ne: !!int 3\nf: 2024-01-01\n<<: {g: h}\n",
    ],
    ".json": [
        '{"cat": ["kitten", null, 1e3], "dog": {"synonyms": ["hound"]}}',
        '[{"id": 1, "name": "apple"}, ["n01440764", "tench"], "caf\\u00e9"]',
        '{"id2label": {"0": "apple"}, "label2id": {"apple": 0}}',
        '{"dataset_info": {"features": [{"name": "label", "dtype": {"class_label": {"names": {"0": "a"}}}}]}}',
    ],
    ".csv": [
        "label,synonyms,prompt\ncat,kitten | tabby,my {}\ndog,,\n",
        "sep=;\nid;name\n0;apple\n",
        'class\t"x"\n"a ""b"""\t1\n',
    ],
}
PIECES = [
    *(
        "{}",
        "[",
        "]",
        "{",
        "}",
        ":",
        "&a ",
        "*a",
        "!!bool ",
        "!!python/name:os ",
        "---\n",
        "- ",
        "|",
        ",",
        ";",
        "\t",
        '"',
        "'",
    ),
    *(
        "#",
        "\0",
        "\ufeff",
        "\u2028",
        "\u200b",
        "&amp;",
        "&#0;",
        "n01440764",
        "0",
        "1" * 5000,
        "a" * 3000,
        "[" * 500,
        "\\ud800",
    ),
    *(
        "a: " * 60,
        "\n" * 50,
        " " * 2000,
        "!" * 3000,
        ". " * 2000,
        "null",
        "~",
        "NaN",
        "-",
        "{label}",
        "{x}",
        "é",
        "e\u0301",
        "😀",
    ),
]


def mutated(seed: int) -> tuple[str, bytes]:
    """Return an extension and a text of that seed."""
    chance = random.Random(seed)
    extension = chance.choice(list(SEEDS))
    text = chance.choice(SEEDS[extension if chance.random() < 0.9 else chance.choice(list(SEEDS))])
    for _ in range(chance.randint(1, 6)):
        place, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        match chance.randrange(5):
            case 0:
                text = text[:place] + chance.choice(PIECES) + text[place:]
            case 1:
                text = text[:place] + text[end:]
            case 2:
                text = text[:end] + text[place:end] * chance.choice((1, 1, 2, 2, 2, 300)) + text[end:]
            case 3:
                text = text[:place] + text[place:end][::-1] + text[end:]
            case _:
                text = (
                    text[:place] + chr(chance.choice((chance.randrange(128), chance.randrange(0xD800)))) + text[place:]
                )
        text = text[:40_000]
    encoding = chance.choice(["utf-8"] * 8 + ["utf-16", "utf-16-le", "latin-1", "utf-8-sig"])
    data = bytearray(text.encode(encoding, "replace"))
    if data and chance.random() < 0.1:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return extension, bytes(data)


def read_all(path: Path) -> Iterator[Callable[[], object]]:
    """Yield every reader of a text in words/."""
    yield lambda: read_labels(path)
    yield lambda: lint_labels(path, read_prompts("photo"))
    if path.suffix in (".txt", ".yaml"):
        yield lambda: read_prompts(str(path))
        yield lambda: lint_templates(path)
        yield lambda: holds_templates(path)


def ends_well(path: Path) -> None:
    for read in read_all(path):
        try:
            read()
        except (UsageError, LabelsError, PromptsError) as error:
            assert "\n" not in str(error) or "\n" in str(path)  # noqa: PT017
            assert error.exit_code in (2, 3)  # noqa: PT017


def test_five_thousand_mutated_texts(tmp_path: Path) -> None:
    for seed in range(TEXTS):
        extension, data = mutated(seed)
        path = tmp_path / f"a{extension}"
        path.write_bytes(data)
        start = time.process_time()
        try:
            ends_well(path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {data[:300]!r}") from error
        assert time.process_time() - start < SECONDS, f"seed {seed}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 3 * BYTES  # with torch, which other tests import, in the same process


@pytest.mark.parametrize("seed", range(0, TEXTS, 500))
def test_a_mutated_text_needs_little_memory(seed: int, tmp_path: Path) -> None:
    extension, data = mutated(seed)
    (tmp_path / f"a{extension}").write_bytes(data)
    assert peak_memory(lambda: ends_well(tmp_path / f"a{extension}")) < BYTES / 10


@pytest.mark.parametrize("extension", [".txt", ".yaml", ".json", ".csv"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_as_labels_and_templates(extension: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(data)
    ends_well(path)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=400))
def test_any_text_as_yaml_and_json(text: str) -> None:
    for load in (load_yaml, load_json):
        try:
            load(text)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "labels",
    "synonyms",
    "class_prompts",
    "prompts",
    "templates",
    "model",
    "pretrained",
    "precision",
    "fingerprint",
)
KEYS += ("temperature", "thresholds", "versions")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(KEYS), JSON.map(json.dumps) | st.text(max_size=20), min_size=1))
def test_any_metadata_as_a_classifier_file(changes: dict[str, str], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    good = dict.fromkeys(KEYS, "x") | {"labels": '["a"]', "synonyms": "[[]]", "class_prompts": "[[]]", "versions": "{}"}
    good |= {"templates": '["{}"]', "temperature": "0.1", "thresholds": "{}", "format": FORMAT}
    path = tmp_path / "c.safetensors"
    metadata = {key: value.encode("utf-8", "replace").decode() for key, value in (good | changes).items()}
    save_file({"embeddings": torch.ones(1, 2)}, path, metadata=metadata)
    try:
        saved = read_classifier(path)
    except CheckpointError:
        return
    assert all(isinstance(name, str) and name.strip() for name in saved.labels.names)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from(("settings", "resolved", "counts", "to_make", "complete", "x")), JSON))
def test_any_json_as_a_run_record(changes: dict[str, object], tmp_path: Path) -> None:
    good = {
        "started": "",
        "settings": {},
        "resolved": {},
        "versions": {},
        "complete": False,
        "counts": None,
        "to_make": [],
    }
    path = tmp_path / "a.run.json"
    path.write_text(json.dumps(good | changes))
    try:
        record = read_record(path)
    except UsageError:
        return
    assert record is not None
    assert isinstance(record.settings, dict)
