"""Command lines that were spoiled on their way: typographic quotes and dashes, empty values, names without quotes.

A word processor, a chat or a web page makes — of --, and “ of ", and the Windows prompt knows no single quotes. Without
quotes, a shell takes each word of a name for an argument.
"""

import os
import re
from collections.abc import Iterator, Sequence
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
_MOST_WORDS = 12  # of a name whose quotes are missing


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
    if names := list(_names_apart(arguments, certain=True)):
        raise UsageError(_put_in_quotes(names))


def unquoted_names(sentence: str, arguments: Sequence[str]) -> str | None:
    """Return a better sentence for an error that names a part of a name with spaces, None if it names none.

    `search boat photos` may mean what it says although there is a folder `boat photos`; only its error tells.
    """
    names = list(_names_apart(arguments, certain=False))
    named = "unexpected extra argument" in sentence or any(part in sentence for part, _ in names)
    return _put_in_quotes(names) if names and named else None


def _names_apart(arguments: Sequence[str], *, certain: bool) -> Iterator[tuple[str, str]]:
    """Yield each file or folder whose name is several arguments, the longest first, after a part that is no file.

    If `certain`, the last part is none: it cannot be images that follow a text or the value of an option.
    """
    words = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in arguments]
    missing = [not os.path.lexists(word) for word in words]
    start = 1  # after the command
    while start < len(words) - 1:
        for end in range(min(len(words), start + _MOST_WORDS), start + 1, -1):
            parts, absent = words[start:end], missing[start:end]
            if (absent[-1] if certain else any(absent)) and os.path.lexists(" ".join(parts)):
                yield parts[absent.index(True)], " ".join(parts)
                start = end - 1
                break
        start += 1


def _put_in_quotes(names: Sequence[tuple[str, str]]) -> str:
    quoted = " and ".join(f'"{name}"' for _, name in names)
    them = "it" if len(names) == 1 else "each"
    return f"{names[0][0]}: no such file or folder; did you mean {quoted}? put {them} in quotes"


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
