"""The build's hook: the README as PyPI shows it, with absolute links.

The address of the repository is in ``[project.urls]`` of ``pyproject.toml`` and nowhere else.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# `](docs/x.md)` and `src="docs/x.svg"`, but neither `](#part)` nor an address
RELATIVE = re.compile(r'(\]\(|\b(?:src|srcset|href)=")(?![a-z]+:|#)([^)"]+)')


class ReadmeHook(MetadataHookInterface):
    """Sets the field ``readme`` of the metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the README, whose links lead to the files of this version."""
        files = f"{metadata['urls']['Repository']}/raw/v{metadata['version']}"
        pages = f"{metadata['urls']['Repository']}/blob/v{metadata['version']}"

        def absolute(link: re.Match[str]) -> str:
            base = files if re.search(r"\.(svg|png|gif)$", link[2]) else pages
            return f"{link[1]}{base}/{link[2]}"

        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": RELATIVE.sub(absolute, text)}
