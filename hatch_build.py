"""Turn README.md's relative links into absolute ones, which a package index can follow, when a package is built."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")
IN_TAGS = re.compile(r"""(<[^<>]*\b(?:src|srcset|(href))=")(?![a-z]+:|#)([^"\s]+)""")


def with_absolute_links(text: str, repository: str) -> str:
    """Return the Markdown `text` with links to files of the repository, images as raw files."""
    text = RELATIVE.sub(
        lambda link: f"{link[1]}{link[2]}({repository}/{'raw' if link[1] else 'blob'}/HEAD/{link[3]})", text
    )
    return IN_TAGS.sub(lambda tag: f"{tag[1]}{repository}/{'blob' if tag[2] else 'raw'}/HEAD/{tag[3]}", text)


class ReadmeHook(MetadataHookInterface):
    """Set the project's readme from README.md and the repository's address in `[project.urls]`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the readme to `metadata`, the `[project]` table."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = with_absolute_links(text, metadata["urls"]["Repository"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
