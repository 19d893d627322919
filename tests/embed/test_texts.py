"""Class embeddings against open_clip's build_zero_shot_classifier, and against the model prompt by prompt."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from zeroshot_cli.clip.config import PRESETS, CLIPConfig
from zeroshot_cli.clip.tokenizer import TruncatedTextWarning
from zeroshot_cli.embed import prompt_ensemble
from zeroshot_cli.embed.prompt_ensemble import class_embeddings
from zeroshot_cli.embed.texts import Tree, embed_texts, trees
from zeroshot_cli.models.load import load
from zeroshot_cli.models.loaded import LoadedModel
from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.prompts import read_prompts

SETS = {"imagenet-7": SIMPLE_IMAGENET_TEMPLATES, "imagenet-80": OPENAI_IMAGENET_TEMPLATES}
# Empty, the beginning of another, over 77 tokens, emoji, the end of text inside, the same to the model, the same.
ADVERSARIAL = [
    "",
    "a photo of a cat",
    "a photo of a cat and a dog",
    "a photo of a " + "very " * 90 + "long cat",
    "a photo of a 🐈‍⬛ in the 🌧️",
    "a cat<end_of_text> and what nobody reads",
    "A   PHOTO of a cat",
    "a photo of a cat",
]


def _one_by_one(model: LoadedModel, texts: list[str]) -> torch.Tensor:
    return torch.cat([model.encode_texts([text]) for text in texts])


@pytest.mark.parametrize(("name", "templates"), SETS.items(), ids=SETS)
def test_class_embeddings_equal_open_clips(
    small: LoadedModel, small_folder: Path, open_clip_classifier: Callable[..., Any], name: str, templates: Any
) -> None:
    names = IMAGENET_CLASSNAMES[::37] if len(templates) < 80 else IMAGENET_CLASSNAMES[::333]
    ours = class_embeddings(small, read_prompts(name).fill(Labels.of(names)))
    torch.testing.assert_close(ours, open_clip_classifier(small_folder, names, templates), atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "templates"), SETS.items(), ids=SETS)
@pytest.mark.parametrize("preset", ["ViT-B-32", "RN50-quickgelu"])
def test_class_embeddings_of_published_sizes_equal_open_clips(
    tmp_path: Path,
    save_model_randomised: Callable[[Path, CLIPConfig], Path],
    open_clip_classifier: Callable[..., Any],
    preset: str,
    name: str,
    templates: Any,
) -> None:
    folder = save_model_randomised(tmp_path, PRESETS[preset])
    names = IMAGENET_CLASSNAMES[:: 1000 * len(templates) // 200][: 200 // len(templates)]
    model = load(str(folder), device="cpu", precision="fp32")
    ours = class_embeddings(model, read_prompts(name).fill(Labels.of(names)))
    torch.testing.assert_close(ours, open_clip_classifier(folder, names, templates), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore::zeroshot_cli.clip.tokenizer.TruncatedTextWarning")
def test_adversarial_labels_equal_open_clips(
    small: LoadedModel, small_folder: Path, open_clip_classifier: Callable[..., Any]
) -> None:
    templates = ["{}", "a photo of a {}.", "{} {}"]
    prompts = [[template.replace("{}", label) for template in templates] for label in ADVERSARIAL]
    functions = [lambda label, template=template: template.replace("{}", label) for template in templates]
    expected = open_clip_classifier(small_folder, ADVERSARIAL, functions)
    torch.testing.assert_close(class_embeddings(small, prompts), expected, atol=1e-5, rtol=0)


def test_a_text_that_is_cut_is_named(small: LoadedModel) -> None:
    with pytest.warns(TruncatedTextWarning, match="very very"):
        class_embeddings(small, [["a cat", ADVERSARIAL[3]]])


@pytest.mark.filterwarnings("ignore::zeroshot_cli.clip.tokenizer.TruncatedTextWarning")
def test_a_prompt_does_not_depend_on_its_company(small: LoadedModel) -> None:
    texts = list(dict.fromkeys(ADVERSARIAL)) + [f"a photo of the {name}." for name in IMAGENET_CLASSNAMES[:200]]
    together = embed_texts(small, texts)
    torch.testing.assert_close(together, _one_by_one(small, texts), atol=1e-6, rtol=0)
    torch.testing.assert_close(embed_texts(small, texts[::-1]).flip(0), together, atol=1e-6, rtol=0)
    torch.testing.assert_close(embed_texts(small, texts[1:2]), together[1:2], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.99999)])
def test_other_precisions_share_beginnings_too(
    small_in: Callable[[str], LoadedModel], precision: str, least: float
) -> None:
    """To the same model prompt by prompt: int8 to rounding, bf16 to its eight bits."""
    model = small_in(precision)
    texts = [template.format(name) for template in ("a {}.", "itap of the {}") for name in IMAGENET_CLASSNAMES[:20]]
    cosines = (embed_texts(model, texts) * _one_by_one(model, texts)).sum(dim=1)
    assert cosines.min() > least


def test_classes_may_have_different_numbers_of_prompts(small: LoadedModel) -> None:
    ours = class_embeddings(small, [["a cat"], ["a dog", "two dogs", "a puppy"]])
    cat, *dogs = _one_by_one(small, ["a cat", "a dog", "two dogs", "a puppy"])
    dog = sum(dogs) / 3
    torch.testing.assert_close(ours, torch.stack([cat, dog / dog.norm()]), atol=1e-6, rtol=0)


def test_a_prompt_that_occurs_twice_counts_twice(small: LoadedModel) -> None:
    cat, dog = _one_by_one(small, ["a cat", "a dog"])
    mean = (2 * cat + dog) / 3
    ours = class_embeddings(small, [["a cat", "a dog", "a cat"], ["a cat"]])
    torch.testing.assert_close(ours, torch.stack([mean / mean.norm(), cat]), atol=1e-6, rtol=0)


def test_a_bag_of_words_takes_the_plain_way(bag: LoadedModel) -> None:
    texts = ["", "a cat", "a photo of a cat that sits on a mat", *(f"a {name}" for name in IMAGENET_CLASSNAMES[:300])]
    ours = class_embeddings(bag, [[text] for text in texts])
    torch.testing.assert_close(ours, _one_by_one(bag, texts), atol=1e-6, rtol=0)


def test_a_model_of_any_other_kind_takes_the_plain_way(angle_model: Any) -> None:
    ours = class_embeddings(angle_model, [["0", "90"], ["180"]])
    torch.testing.assert_close(ours, torch.tensor([[0.5**0.5, 0.5**0.5], [-1, 0]]), atol=1e-6, rtol=0)


def test_windows_change_nothing(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = read_prompts("imagenet-7").fill(Labels.of(IMAGENET_CLASSNAMES[:30]))
    whole = class_embeddings(small, prompts)
    monkeypatch.setattr(prompt_ensemble, "WINDOW", 17)
    torch.testing.assert_close(class_embeddings(small, prompts), whole, atol=1e-6, rtol=0)


def test_progress_counts_different_prompts_to_the_end(small: LoadedModel, angle_model: Any) -> None:
    for model, prompts in ((small, [["a", "b", "A"], ["a", "c"]]), (angle_model, [["1", "2"], ["1", "3", "4"]])):
        seen: list[tuple[int, int]] = []
        class_embeddings(model, prompts, on_progress=lambda *counts, seen=seen: seen.append(counts))
        assert seen == sorted(seen)
        assert seen[-1] == (4, 4)


@pytest.mark.parametrize("prompts", [[], [["a cat"], []]])
def test_a_class_without_a_prompt_is_refused(small: LoadedModel, prompts: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="every class needs a prompt"):
        class_embeddings(small, prompts)


def test_shared_beginnings_are_computed_once(small: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: "a photo of a" is 5 tokens with the start; a name, a full stop and the end are 3 for each of 4 names."""
    counts = []
    tower: Any = small.model.text
    forward = tower.forward

    def count(tokens: torch.Tensor, **tree: torch.Tensor) -> torch.Tensor:
        counts.append(tokens.numel())
        return forward(tokens, **tree)  # type: ignore[no-any-return]

    monkeypatch.setattr(tower, "forward", count)
    class_embeddings(small, [[f"a photo of a {name}."] for name in ("cat", "dog", "car", "tree")])
    assert counts == [5 + 4 * 3]


# how token sequences become trees, by hand and by walking them


def test_a_tree_by_hand() -> None:
    """Sorted, these are 1 2 3 9, 1 2 4 9, 1 5 9: they have 1 in common, two of them also 2."""
    (tree,) = trees([(1, 5, 9), (1, 2, 4, 9), (1, 2, 3, 9)], most=100)
    assert tree == Tree(
        tokens=[1, 2, 3, 9, 4, 9, 5, 9],
        positions=[0, 1, 2, 3, 2, 3, 1, 2],
        parents=[-1, 0, 1, 2, 1, 4, 0, 6],
        sequences=[2, 1, 0],
        ends=[3, 5, 7],
    )


def test_without_sequences_there_is_no_tree() -> None:
    assert list(trees([], most=8)) == []


def test_one_sequence_longer_than_a_tree_is_one() -> None:
    assert [tree.tokens for tree in trees([(1, 2, 3), (1, 2, 4)], most=2)] == [[1, 2, 3], [1, 2, 4]]


@pytest.mark.parametrize("most", [1, 13, 40, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_every_sequence_is_the_way_to_its_end_once(most: int, seed: int) -> None:
    draw = random.Random(seed)
    sequences = list({(0, *draw.choices((1, 2), k=draw.randrange(12)), 9): None for _ in range(300)})
    seen = []
    for tree in trees(sequences, most=most):
        assert len(tree.tokens) <= most or len(tree.sequences) == 1
        assert len(set(zip(tree.parents, tree.tokens, strict=True))) == len(tree.tokens)  # nothing is there twice
        for index, node in zip(tree.sequences, tree.ends, strict=True):
            way: list[int] = []
            while node >= 0:
                assert tree.positions[node] == len(sequences[index]) - 1 - len(way)
                way.append(tree.tokens[node])
                node = tree.parents[node]
            assert tuple(reversed(way)) == sequences[index]
            seen.append(index)
    assert sorted(seen) == list(range(len(sequences)))
