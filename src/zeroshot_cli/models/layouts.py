"""The layouts that a model can be exported to."""

from enum import StrEnum


class Layout(StrEnum):
    """The program that reads an exported folder."""

    OPEN_CLIP = "open_clip"
    TRANSFORMERS = "transformers"
