"""What the environment says of the hub, checked: huggingface_hub itself ends with a traceback for a wrong value."""

import os
import re
from functools import cache
from types import ModuleType

from zeroshot_cli.display import shown
from zeroshot_cli.errors import UsageError

ANSWER_SECONDS = 4.0  # for a step of the first answer: to connect, to send, to read
_LONGEST = 3600  # seconds of patience
_SECONDS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
_ADDRESS = re.compile(r"https?://[^\s/\\?#]+(/[^\s\\?#]*)?", re.IGNORECASE)


def hub_settings() -> ModuleType:
    """Return huggingface_hub's `constants`. Raises UsageError for a variable with a value that cannot be used."""
    for name in _SECONDS:
        value = os.environ.get(name, "")
        if value and not (value.isascii() and value.isdigit() and len(value) < 9 and 1 <= int(value) <= _LONGEST):
            raise UsageError(
                f"{name}={_short(value)} is not a number of seconds: give a whole number from 1 to {_LONGEST}"
            )
    constants = _constants()
    if not (_ADDRESS.fullmatch(constants.ENDPOINT) and constants.ENDPOINT.isprintable()):
        raise UsageError(
            f"HF_ENDPOINT={_short(constants.ENDPOINT)} is not the address of a hub: give one such as https://huggingface.co"
        )
    if "\0" in constants.HF_HUB_CACHE:
        raise UsageError(f"HF_HUB_CACHE={_short(constants.HF_HUB_CACHE)} is not a folder: name one")
    return constants


@cache
def _constants() -> ModuleType:
    try:
        from huggingface_hub import constants
    except ValueError as error:
        given = ", ".join(name for name in sorted(os.environ) if name.startswith(("HF_", "HUGGINGFACE_")))
        raise UsageError(f"a variable of huggingface_hub is wrong ({error}): correct one of {given}") from error
    # It would name torch's version and the program around it to the hub, and ask the hub for a list of such programs.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    return constants


def answer_seconds() -> float:
    """Return the patience for one step of an answer; HF_HUB_ETAG_TIMEOUT overrides it."""
    hub_settings()
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_SECONDS)


def _short(value: str) -> str:
    text = shown(value)
    return text if len(text) <= 100 else text[:99] + "…"
