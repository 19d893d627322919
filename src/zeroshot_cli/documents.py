"""YAML and JSON from outside, within limits: reading ends soon, whatever a file holds, with a ValueError if it is bad.

Every YAML file, and JSON that may not be our own, is read here. YAML makes no objects but plain ones.
"""

import hashlib
import json
import re
from typing import Any

MAX_DEPTH = 64  # lists and mappings inside each other
_MAX_REPEATED = 10_000  # values that aliases stand for, beside those that are written out
_MAX_SCALAR = 10_000  # characters of a setting; the time for some kinds grows with their square
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_DEEP = "its lists and mappings are nested too deeply"


class LimitError(ValueError):
    """A document that is too deep, or that repeats itself without end; `line` says where."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def load_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises ValueError for what is invalid, for deep nesting, and for numbers of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def hash_of(value: Any) -> str:
    """Return the SHA-256 of a value, as JSON has it, which tells settings apart in files and caches."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def load_yaml(text: str) -> Any:
    """Return the plain value of a YAML text; raises ValueError, in one line, for all that is wrong with it."""
    import yaml

    try:
        check_yaml(text, max_scalar=_MAX_SCALAR)
        return yaml.load(text, Loader=_loader("SafeLoader", text))
    except LimitError as error:
        raise ValueError(f"line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"line {mark.line + 1 if mark else 1}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:  # !!bool x, !!int ''
        raise ValueError(f"a value is not what its tag says ({type(error).__name__}: {error})") from None


def _loader(name: str, text: str) -> type:
    """Return PyYAML's loader in C if there is one; it cannot read lone surrogates, which stand for bytes in paths."""
    import yaml

    loader: type = getattr(yaml, name if _SURROGATE.search(text) else f"C{name}", getattr(yaml, name))
    return loader


def check_yaml(text: str, *, depth: int = MAX_DEPTH, max_scalar: int | None = None) -> None:
    """Raise LimitError for a YAML text that is nested too deeply, or whose aliases stand for too many values.

    Nothing is composed, so this takes time and memory by what is written and not by what it stands for. Raises
    yaml.YAMLError for invalid YAML.
    """
    import yaml

    sizes: dict[str, int] = {}  # values below an anchor
    unclosed: list[tuple[str | None, int]] = []
    count = repeated = 0
    for event in yaml.parse(text, Loader=_loader("BaseLoader", text)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "")
            if size is None:
                raise LimitError(f"the alias *{event.anchor} stands for nothing, or for itself", line)
            count, repeated = count + size, repeated + size
            if repeated > _MAX_REPEATED:
                raise LimitError(f"its aliases stand for more than {_MAX_REPEATED:,} values; write them out", line)
        elif isinstance(event, yaml.CollectionStartEvent):
            unclosed.append((event.anchor, count))
            count += 1
            if len(unclosed) > depth:
                raise LimitError(_TOO_DEEP, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = unclosed.pop()
            if anchor:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if max_scalar is not None and len(event.value) > max_scalar:
                raise LimitError(f"a value has {len(event.value):,} characters; at most {max_scalar:,} are read", line)
            if event.anchor:
                sizes[event.anchor] = 1
