"""Whether labels look English, for models that were trained on English and answer at random in other languages."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from unicodedata import name as name_of
from unicodedata import normalize

from zeroshot_cli.clip.config import VOCAB_SIZE
from zeroshot_cli.clip.tokenizer import Tokenizer
from zeroshot_cli.models.tokenizers import tokenizer_for

KNOW_OTHERS = ("ViT-B-16-SigLIP2-256", "xlm-roberta-base-ViT-B-32")  # of open_clip's, the smallest of each kind

_MULTILINGUAL = re.compile(
    r"xlm|siglip-?2|i18n|nllb|worldwide|multiling|m-?clip|mt5|jina|altclip|chinese|japan|korea|german|french|spanish|"
    r"italian|russian|arabic",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_LATIN_NAME = re.compile(r"(×\s?)?[A-Z][a-z]+( [a-z]{2,}\.?| ×)+")  # Tinca tinca, Parus major
_ENGLISH_END = re.compile(r"(ed|ing|ly|y|ish|less|ness|ous|like|oid|ship|able)$")
# Letters and ends that few English words have. é and ñ are in what English takes from menus.
_MARKED = re.compile(r"[äöüßàâèêëîïôûùœæøåãõçąćęłńśźżčďěňřšťůžáíóúýőűğışțșđñ]")
_FOREIGN_PART = re.compile(
    r"sch|pf[aeiou]|tz|zw|ahr|uhl|ie[rg]e|ung$|keit$|heit$|chen$|zeug|lein$|mpe$|aa[rnkps]|oe[imn]|ij|uis|eeuw|"
    r"eau|eux$|oiss|ois$|oir|oul|eur$|ette$|eille|ch[ei]en|ci[oó]n$|dad$|rr[oa]|ill[ao]|llo$|j[ao]$|izz|cch|gli|"
    r"zz|tt[oai]$|ell[oai]$|zion|rz|sz|cz|dz|[bcdfgkmnpsvw]ka$|ów$|lı|ğ|nh[oa]|lh[oa]"
)
_VOWEL = re.compile(r"[rstmvpdl][oai]$")  # of words in small letters; brands end so, too


@cache
def _common() -> frozenset[str]:
    """Return common words of other languages."""
    lines = Path(__file__).with_name("not_english.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def warning_of_language(names: Sequence[str], model: str) -> str | None:
    """Return what to tell a user whose labels are at least half foreign, if the model of that name knows only English.

    A model of one's own, in a file or folder, may have been trained on any language.
    """
    if _MULTILINGUAL.search(model) or not names or _is_local(model):
        return None
    foreign = not_english(names)
    if foreign is None:
        return None
    return (
        f"half of the labels or more, such as {foreign!r}, do not look English, and {model} learned from English "
        "captions; write them in English, or use a model that knows other languages, such as "
        f"{KNOW_OTHERS[0]} or {KNOW_OTHERS[1]}"
    )


def not_english(names: Sequence[str]) -> str | None:
    """Return one of the labels that are not English if at least half and two, or most, are not, else None.

    A label is foreign by its script, its letters or a common word of another language; or where none of its words is
    one token of CLIP, whose vocabulary is that of English captions, and a part of it is unlike English. Names of
    species in Latin are not.
    """
    tokenizer = tokenizer_for(vocab_size=VOCAB_SIZE, context_length=77)
    kinds = [_foreignness(name, tokenizer) for name in names]
    foreign = [name for name, kind in zip(names, kinds, strict=True) if kind == 1]
    half = 2 * len(foreign) >= len(names) and len(foreign) > 1
    if not half and (4 * len(foreign) < len(names) or 2 * sum(kinds) <= len(names)):
        return None
    return foreign[0]


def _foreignness(name: str, tokenizer: Tokenizer) -> float:
    """Return 1 for a label that is not English, 0.5 where nothing tells, 0 for one that may be."""
    text = normalize("NFC", name)
    if any(not name_of(letter, "LATIN").startswith("LATIN") for letter in text if letter.isalpha()):
        return 1
    if _LATIN_NAME.fullmatch(text):
        return 0
    words = _WORD.findall(text.lower())
    if any(word in _common() for word in words) or (
        words and 2 * sum(map(bool, map(_MARKED.search, words))) > len(words)
    ):
        return 1
    if not words or any(len(tokenizer.encode(word)) == 1 or _ENGLISH_END.search(word) for word in words):
        return 0
    parts = (_FOREIGN_PART, _VOWEL) if text.islower() else (_FOREIGN_PART,)
    return 1 if any(part.search(word) for part in parts for word in words) else 0.5


def _is_local(model: str) -> bool:
    try:
        return Path(model).exists()
    except OSError:
        return False
