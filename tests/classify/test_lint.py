"""What a model shows: embeddings that are known by hand, and CLIP's own tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zeroshot_cli.classify.lint import _nearest_before, lint
from zeroshot_cli.clip.config import CBOWConfig
from zeroshot_cli.clip.text import CBOW
from zeroshot_cli.models.tokenizers import tokenizer_for


class Told:
    """A model whose embeddings are told: angles in degrees by text, 90° where a text has none."""

    name, precision, fingerprint = "told", "fp32", "f" * 64

    def __init__(self, angles: dict[str, float], context_length: int = 77) -> None:
        self.angles, self.device = angles, torch.device("cpu")
        self.tokenizer = tokenizer_for(vocab_size=49408, context_length=context_length)
        self.model = SimpleNamespace()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        radians = torch.deg2rad(torch.tensor([self.angles.get(text, 90.0) for text in texts]))
        return torch.stack([radians.cos(), radians.sin()], dim=1)


def found(model: Any, path: Path, **options: Any) -> list[tuple[int, str, str, str]]:
    return [(fault.line, str(fault.kind), fault.text, fault.what) for fault in lint([str(path)], model, **options)]


def test_labels_that_nearly_coincide(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nfeline\nhorse\n")
    model = Told({"cat": 0, "dog": 30, "feline": 2, "horse": 60})
    # cos 2° = 0.9994, cos 28° = 0.8829, cos 30° = 0.8660
    assert found(model, path) == [
        (3, "alike", "feline", "is nearly identical to 'cat' on line 1: cosine 0.9994"),
    ]
    assert found(model, path, threshold=0.9999) == []
    assert [row[0] for row in found(model, path, threshold=0.86)] == [2, 3, 4]


def test_the_nearest_before_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeroshot_cli.classify.lint._BLOCK", 4)
    rows = torch.nn.functional.normalize(torch.randn(11, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    expected = [(i, max((float(rows[i] @ rows[j]), j) for j in range(i))) for i in range(1, 11)]
    got = list(_nearest_before(rows))
    assert [(index, nearest) for index, _, nearest in got] == [(index, pair[1]) for index, pair in expected]
    assert [cosine for _, cosine, _ in got] == pytest.approx([pair[0] for _, pair in expected], abs=1e-6)


def test_the_words_that_a_short_context_loses(tmp_path: Path) -> None:
    # "a photo of a big red cat on a mat." is ten words and a full stop, one token each; with start and end 13 of them.
    path = tmp_path / "labels.txt"
    path.write_text("cat\nbig red cat on a mat\n")
    wide, narrow = Told({"cat": 0}, context_length=13), Told({"cat": 0}, context_length=11)
    assert found(wide, path, prompts="photo") == []
    assert found(narrow, path, prompts="photo") == [
        (2, "too long", "big red cat on a mat", "has 13 tokens, but the model reads 11; it would lose: mat."),
    ]
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of a {}.\na picture of one big red {} on the wall\n")
    assert [(row[0], row[1]) for row in found(Told({}, context_length=9), templates)] == [(2, "too long")]


def test_over_77_tokens(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\n" + " ".join(["dog"] * 74) + " wolf\n" + " ".join(["dog"] * 76) + " wolf\n")
    model = Told({"cat": 0, " ".join(["dog"] * 74) + " wolf": 40})
    rows = found(model, path, prompts="plain")
    assert [(row[0], row[1]) for row in rows] == [(3, "too long")]
    assert rows[0][3] == "has 79 tokens, but the model reads 77; it would lose: dog wolf"


def test_word_order_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("737-400\n747-300\n")
    model = Told({})
    assert [row[1] for row in found(model, path, prompts="mnist")] == ["alike"]
    model.model.text = CBOW(CBOWConfig(width=2), embed_dim=2)
    (fault,) = lint([str(path)], model)  # type: ignore[arg-type]
    assert (fault.kind, fault.in_file) == ("word order", False)
    path.write_text("cat\ndog\n")
    assert [row[1] for row in found(model, path)] == ["alike"]


def test_a_built_in_name_is_both_its_files(tmp_path: Path) -> None:
    faults = lint(["mnist"], Told({}), threshold=0.5)  # type: ignore[arg-type]
    assert {Path(fault.file).name for fault in faults} == {"mnist.txt"}
    assert len(faults) == 9
    assert lint(["imagenet-80"], Told({})) == []  # type: ignore[arg-type]
