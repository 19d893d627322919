"""The errors, and where exit codes are decided: one tree, one exit code per branch.

ZeroshotError
├── UsageError          2  wrong options or arguments, a named file that does not exist
├── InputError          3  an input file is wrong
│   ├── LabelsError        label file
│   ├── PromptsError       template file
│   ├── DataError          pairs, data set, or no image at all
│   ├── CheckpointError    weights or their configuration
│   └── ConfigError        the config file
├── UnavailableError    5  neither on this machine nor available for download
└── UnreadableImage     4  one image could not be read; it becomes a SkippedImage and never ends a run
"""

import errno
import re

_NO_MEMORY = re.compile(
    r"(cannot|can.t|unable to|not enough) (memory|mmap|allocate|start new thread)|out of memory|failed to map segment"
    r"|not enough memory|cannot allocate",
    re.IGNORECASE,
)


class ZeroshotError(Exception):
    """Base of every error that zeroshot raises on purpose; its text is one sentence for the user.

    `see` is a command that helps; `{command}` in it stands for the one that the user ran.
    """

    exit_code = 1
    see = "{command} --help"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, in any library's words, means that memory ran out."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, kinds) and _NO_MEMORY.search(str(error)) is not None


class UsageError(ZeroshotError):
    """Options or arguments are wrong, or name a file that does not exist."""

    exit_code = 2


class InputError(ZeroshotError):
    """An input file is wrong; the text names the file, the line if there is one, and the value."""

    exit_code = 3


class LabelsError(InputError):
    """A label file is wrong."""

    see = "zeroshot prompts lint FILE"


class PromptsError(InputError):
    """A template file is wrong."""

    see = "zeroshot prompts lint FILE"


class DataError(InputError):
    """A data set, a file of pairs or a list of images is wrong or empty."""


class CheckpointError(InputError):
    """A checkpoint or its configuration is wrong."""

    see = "zeroshot models list"


class ConfigError(InputError):
    """The config file is wrong, or is not zeroshot's."""

    see = "zeroshot doctor"


class UnavailableError(ZeroshotError):
    """A model or data set is not on this machine and cannot be downloaded."""

    exit_code = 5
    see = "zeroshot doctor"


class UnreadableImage(ZeroshotError):
    """One image could not be read; the text is the reason, without the path."""

    exit_code = 4
