"""Command lines that were spoiled on their way: typographic quotes and dashes, empty values, a backslash too many.

A word processor, a chat or a web page makes — of --, and “ of ", and the Windows prompt knows no single quotes.
"""

import os
import re
from collections.abc import Sequence
from itertools import pairwise

from zeroshot_cli.errors import UsageError

_DASHED = re.compile(r"(?=-?[‐-―−])[-‐-―−]{1,2}(?P<name>[A-Za-z][\w-]*)(?P<rest>(=.*)?)", re.DOTALL)
# Of arguments joined by NUL; an option begins within none of them
_QUOTED = re.compile(
    r"(?:^|(?<=[\0=]))(?:[“„](?P<double>[^“”„]+)[“”]|[‘‚](?P<single>[^‘’‚]+)[‘’]|«(?P<french>[^«»]+)»"
    r"|'(?P<straight>[^'\0]+(?:\0[^'\0]+)+)')(?=\0|$)"
)
_OPTION_WITHIN = re.compile(r"\0[-‐-―−]")
_AFTER_BACKSLASH = re.compile(r'(?P<path>[^"]+)"(?P<rest>\s.*)?', re.DOTALL)
_MAY_BE_EMPTY = ("--parent",)


def check_spoiled(arguments: Sequence[str]) -> None:
    """Raise UsageError, with what to type, for what no one types on purpose; names of files that exist stay."""
    for word in arguments:
        _check_word(word)
    for before, word in pairwise(("", *arguments)):
        option = before if word == "" else word[:-1] if word.endswith("=") else ""
        if re.fullmatch(r"--?[A-Za-z][\w-]*", option) and option not in _MAY_BE_EMPTY:
            raise UsageError(f"{option} has an empty value; give one, or omit {option}")
    for quoted in _QUOTED.finditer("\0".join(arguments)):
        text = quoted[0].replace("\0", " ")
        if not _OPTION_WITHIN.search(quoted[0]) and not os.path.lexists(text):
            why = "is in single quotes, which this shell does not know" if quoted["straight"] else "is in curly quotes"
            raise UsageError(f'{text} {why}; type straight double ones: "{text[1:-1].strip()}"')


def _check_word(word: str) -> None:
    if os.path.lexists(word):
        return
    if dashed := _DASHED.fullmatch(word):
        meant = ("-" if len(dashed["name"]) == 1 else "--") + dashed["name"]
        raise UsageError(f"{word} begins with a long dash, as word processors write it; type {meant}{dashed['rest']}")
    after = _AFTER_BACKSLASH.fullmatch(word)
    if after and (os.path.lexists(after["path"]) or " --" in (after["rest"] or "")):
        raise UsageError(
            f"{after['path']}\\ ends with a backslash, so its closing quote did not count; omit the backslash: "
            f'"{after["path"]}"'
        )
