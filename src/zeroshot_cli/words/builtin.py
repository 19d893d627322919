"""The sets that come with zeroshot: `prompts/NAME.yaml` holds templates, `prompts/labels/NAME.txt` labels.

A name has no ending and a user's file must have one, so that neither ever hides the other.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


def prompts_dir() -> Path:
    """The folder of the built-in sets: the checkout's own `prompts/`, else the copy inside the wheel."""
    root = Path(__file__).parents[3]
    if (root / "prompts").is_dir() and (root / "pyproject.toml").is_file():
        return root / "prompts"
    return Path(__file__).parents[1] / "prompts_data"


def template_files() -> dict[str, Path]:
    """The files of the built-in template sets, by name."""
    return {path.stem: path for path in sorted(prompts_dir().glob("*.yaml"))}


def label_files() -> dict[str, Path]:
    """The files of the built-in label sets, by name."""
    return {path.stem: path for path in sorted((prompts_dir() / "labels").glob("*.txt"))}


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The end of an error about an unknown `name`: the nearest known one, and what lists them all."""
    near = difflib.get_close_matches(name, known, n=1) or [each for each in known if name and name in each][:1]
    return f"{f'did you mean {near[0]}' if near else otherwise}? zeroshot prompts list shows all that there are"
