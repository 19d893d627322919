"""Model names and tags: where to get the weights and what they are."""

from pathlib import Path

BUNDLED = ("tiny",)


def bundled_folder(name: str) -> Path:
    """The folder of a model that comes with the package."""
    return Path(__file__).parent / "bundled" / name
