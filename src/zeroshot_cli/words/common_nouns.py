"""Common nouns for what an image can show, from WordNet; recipes/words makes the list."""

from functools import cache
from pathlib import Path

from zeroshot_cli.words.labels import Labels
from zeroshot_cli.words.textfiles import content_lines


@cache
def common_nouns() -> Labels:
    """Return the nouns, a few thousand, in alphabetical order."""
    text = Path(__file__).with_name("common_nouns.txt").read_text(encoding="utf-8")
    return Labels.of(line.text for line in content_lines(text))
