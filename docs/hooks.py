"""What the site makes of a page: cog's comments go, and links that leave docs/ lead to the repository on the web."""

import os
import re
from typing import Any

REPOSITORY = "https://github.com/zeroshot-cli/zeroshot-cli/blob/HEAD"
COG = re.compile(r"^<!-- \[\[\[(?:cog.*?\]\]\]|end\]\]\]) -->$", re.MULTILINE | re.DOTALL)
UP = re.compile(r"(?<=\]\()((?:\.\./)+[^)\s]+)(?=\))")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the Markdown of a page as the site renders it; MkDocs calls this for every page."""
    folder = os.path.dirname(f"docs/{page.file.src_uri}")  # noqa: PTH120 - a path of links, with / on every system

    def absolute(link: re.Match[str]) -> str:
        path = os.path.normpath(f"{folder}/{link[1]}").replace(os.sep, "/")
        return link[1] if path.startswith("docs/") else f"{REPOSITORY}/{path}"

    return UP.sub(absolute, COG.sub("", markdown))
