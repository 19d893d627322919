"""CLIP's list of merges, as the installed open_clip_torch package ships it."""

import gzip
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from zeroshot_cli.clip.config import VOCAB_SIZE
from zeroshot_cli.clip.tokenizer import Tokenizer

SYMBOLS = 2 * 256 + 2  # bytes, bytes that end a word, start and end of text
_FILE = "bpe_simple_vocab_16e6.txt.gz"


def check_vocabulary(vocab_size: int) -> None:
    """Raise ValueError where the size is under 514 or over CLIP's 49,408."""
    if not SYMBOLS <= vocab_size <= VOCAB_SIZE:
        raise ValueError(f"a vocabulary has {SYMBOLS} to {VOCAB_SIZE} tokens, not {vocab_size}")


def tokenizer_for(*, vocab_size: int, context_length: int) -> Tokenizer:
    """The tokenizer of a model with `vocab_size` tokens: CLIP's own, or cut to its first merges.

    Raises ValueError as `check_vocabulary` does.
    """
    check_vocabulary(vocab_size)
    return Tokenizer(_merges()[: vocab_size - SYMBOLS], context_length=context_length)


@lru_cache
def _merges() -> tuple[tuple[str, str], ...]:
    spec = find_spec("open_clip")  # finds the folder without importing the package, which takes seconds
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip_torch is not installed, and it carries the tokenizer's merges")
    path = Path(spec.submodule_search_locations[0]) / _FILE
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    pairs = (line.partition(" ") for line in lines[1 : VOCAB_SIZE - SYMBOLS + 1])  # the first line is a comment
    return tuple([(first, second) for first, _, second in pairs])
