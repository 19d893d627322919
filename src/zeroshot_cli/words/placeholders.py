"""The placeholder of a template, `{}` or `{label}`: count it, fill it."""

import re

_BRACED = re.compile(r"\{([^{}]*)\}")
_NAMES = ("", "label")


def count_placeholders(text: str) -> int:
    """How many placeholders `text` has; lone braces are plain text.

    Raises ValueError, with the reason, for a name in braces that is not `label`.
    """
    names = _BRACED.findall(text)
    for name in names:
        if name not in _NAMES:
            raise ValueError(f"{{{name}}} is not a placeholder; write {{}} or {{label}} where the label goes")
    return len(names)


def fill(template: str, name: str) -> str:
    """`template` with its placeholder replaced by `name`, whatever characters that has."""
    return _BRACED.sub(lambda _: name, template)
