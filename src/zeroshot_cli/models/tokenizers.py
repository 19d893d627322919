"""The tokenizer of a model: CLIP's own, whole or cut, or the one that a model of open_clip names."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from zeroshot_cli.clip.config import CONTEXT_LENGTH, VOCAB_SIZE, CLIPConfig
from zeroshot_cli.clip.tokenizer import Tokenizer, TruncatedTextWarning
from zeroshot_cli.errors import CheckpointError, UnavailableError, UsageError
from zeroshot_cli.hub.settings import hub_settings
from zeroshot_cli.models.registry import CONFIG_FILE, open_clip_folder

SYMBOLS = 2 * 256 + 2  # bytes, bytes that end a word, start and end of text
_MERGES = "bpe_simple_vocab_16e6.txt.gz"
# What a folder may hold of a tokenizer besides config.json, special_tokens_map.json and merges.txt.
_VOCABULARIES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
)
# All else that stands in `tokenizer_kwargs` would reach Transformers, which runs a folder's code if told to.
_SETTINGS = {"clean", "strip_sep_token", "language"}
_CLIP_SETTINGS = {"clean", "reduction_mask"}
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@\w[\w./-]*)?")

Fetch = Callable[[str], Path]


def check_vocabulary(vocab_size: int) -> None:
    """Raise ValueError where the size is under 514 or over CLIP's 49,408."""
    if not SYMBOLS <= vocab_size <= VOCAB_SIZE:
        raise ValueError(f"a vocabulary has {SYMBOLS} to {VOCAB_SIZE} tokens, not {vocab_size}")


def tokenizer_for(*, vocab_size: int, context_length: int) -> Tokenizer:
    """Return the tokenizer of a model with `vocab_size` tokens: CLIP's own, or cut to its first merges.

    Raises ValueError as `check_vocabulary` does.
    """
    check_vocabulary(vocab_size)
    return Tokenizer(_merges()[: vocab_size - SYMBOLS], context_length=context_length)


def tokenizer_of(config: CLIPConfig) -> Tokenizer:
    """Return the tokenizer of the model's vocabulary and context length."""
    return tokenizer_for(vocab_size=config.text.vocab_size, context_length=config.text.context_length)


@lru_cache
def _merges() -> tuple[tuple[str, str], ...]:
    """Return CLIP's list of merges, as the installed open_clip_torch package ships it."""
    text = gzip.decompress((open_clip_folder() / _MERGES).read_bytes()).decode("utf-8")
    end = VOCAB_SIZE - SYMBOLS + 1  # five times as many lines follow
    lines = text.split("\n", end)[1:end]  # the first line is a comment
    return tuple(map(tuple, map(str.split, lines)))  # type: ignore[arg-type]  # pairs; in Python it takes thrice as long


def transformers_files(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the files, by name, from which Transformers' `CLIPTokenizer` makes the same tokens of plain texts."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    symbols = [*tokenizer.vocabulary[:-2], start, end]
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.context_length, **special}
    return {
        "vocab.json": json.dumps({symbol: index for index, symbol in enumerate(symbols)}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, tokenizer.merges), ""]),
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }


# Tokenizers of models of open_clip


class WarningTokenizer:
    """A tokenizer of open_clip that warns of each text that it cuts.

    `tokenize(texts, n)` gives ids of shape `(batch, n)`, cut or padded. A text was cut where room for one token more
    changes what was there, or is filled with something else than padding.
    """

    def __init__(self, tokenize: Callable[[list[str], int], Tensor], *, context_length: int) -> None:
        self.context_length = context_length
        self._tokenize = tokenize
        self._padding = int(tokenize([""], context_length)[0, -1])

    def __call__(self, texts: list[str]) -> Tensor:
        """Return token ids `(batch, context length)`."""
        tokens = self._tokenize(texts, self.context_length)
        longer = self._tokenize(texts, self.context_length + 1)
        cut = (longer[:, :-1] != tokens).any(dim=1) | (longer[:, -1] != self._padding)
        for index in cut.nonzero().flatten().tolist():
            warnings.warn(
                f"this text was cut to {self.context_length} tokens: {texts[index]!r}",
                TruncatedTextWarning,
                stacklevel=3,
            )
        return tokens


def foreign_tokenizer(
    name: str, text_cfg: Mapping[str, Any], folder: Path, fetch: Fetch | None
) -> tuple[Tokenizer | WarningTokenizer, str | None]:
    """Return the tokenizer that open_clip's `text_cfg` names, and a hash of its vocabulary if that is its own file.

    One that is not CLIP's comes from `folder` if it holds one, else from `fetch`, which returns the folder of a
    hub repository. Raises CheckpointError, UnavailableError, or UsageError where Transformers is not installed.
    """
    context_length = text_cfg.get("context_length", CONTEXT_LENGTH)
    repo = text_cfg.get("hf_tokenizer_name")
    options = _settings(name, text_cfg, _SETTINGS if repo else _CLIP_SETTINGS)
    if not repo and (text_cfg.get("vocab_size", VOCAB_SIZE) != VOCAB_SIZE or text_cfg.get("hf_model_name")):
        raise CheckpointError(f"{name}: its text_cfg names no tokenizer (hf_tokenizer_name)")
    try:
        if not repo and not options:
            return tokenizer_for(vocab_size=VOCAB_SIZE, context_length=context_length), None
        theirs = import_open_clip().tokenizer
        if not repo:
            plain = theirs.SimpleTokenizer(context_length=context_length, **options)
            return WarningTokenizer(plain, context_length=context_length), None
        require_transformers(name)
        where = _tokenizer_folder(name, repo, folder, fetch)
        hugging_face = theirs.HFTokenizer(
            str(where),
            context_length=context_length,
            tokenizer_mode=text_cfg.get("tokenizer_mode"),
            trust_remote_code=False,
            **options,
        )
    except ImportError as error:
        raise needs_transformers(name) from error
    except (OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{name}: its tokenizer cannot be read: {first_line(error)}") from error
    return WarningTokenizer(hugging_face, context_length=context_length), _hash_of(where)


def _settings(name: str, text_cfg: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    options = text_cfg.get("tokenizer_kwargs") or {}
    if not isinstance(options, Mapping):
        raise CheckpointError(f"{name}: its text_cfg.tokenizer_kwargs is {options!r} and not a mapping")
    unknown = [key for key in options if key not in known]
    if unknown:
        raise CheckpointError(
            f"{name} is refused: its text_cfg.tokenizer_kwargs has {unknown[0]!r}, and only "
            f"{', '.join(sorted(known))} are followed"
        )
    return dict(options)


def _tokenizer_folder(name: str, repo: str, folder: Path, fetch: Fetch | None) -> Path:
    if is_one_model(folder) and any((folder / file).is_file() for file in _VOCABULARIES):
        return folder
    return fetched(name, repo, "tokenizer", fetch)


def _hash_of(folder: Path) -> str:
    """Return a SHA-256 of the tokenizer's files; JSON is hashed as it is, so another spelling is another tokenizer."""
    digest = hashlib.sha256()
    for file in sorted((*_VOCABULARIES, "merges.txt")):
        if (folder / file).is_file():
            digest.update(file.encode() + b"\0" + (folder / file).read_bytes())
    return digest.hexdigest()


# What tokenizers and text towers of models of open_clip share


def is_one_model(folder: Path) -> bool:
    """Return whether the files in `folder` belong together: a model folder of open_clip, or a snapshot of the hub."""
    return (folder / CONFIG_FILE).is_file() or folder.parent.name == "snapshots"


def fetched(name: str, repo: str, what: str, fetch: Fetch | None) -> Path:
    """Return a folder of the user's, or what `fetch` returns for a repository. Raises CheckpointError for neither."""
    if isinstance(repo, str) and Path(repo).is_dir():
        return Path(repo)
    if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo):
        raise CheckpointError(
            f"{name}: its {what} is to come from {repo!r}, which is not a repository such as org/name"
        )
    if fetch is None:
        raise UnavailableError(f"{name}: its {what} is that of {repo}, which is not on this machine")
    return fetch(repo)


def import_open_clip() -> Any:
    """Import open_clip, which takes seconds."""
    hub_settings()  # it imports huggingface_hub, which fails for a wrong variable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports: nothing that a user could act on
        import open_clip
        import open_clip.hf_configs
        import open_clip.tokenizer
    return open_clip


def require_transformers(name: str) -> None:
    """Raise UsageError where the optional package is not installed."""
    if find_spec("transformers") is None:
        raise needs_transformers(name)


def needs_transformers(name: str) -> UsageError:
    """Return the error of a model that cannot do without the optional package."""
    return UsageError(f"{name} needs the package transformers: pip install 'zeroshot-cli[hf]'")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
