"""Links from pages to source files work in a checkout; on the site, which has no sources, only their text remains."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace links to files outside docs/ by their text; mkdocs calls this for each page.

    Raises:
        FileNotFoundError: a linked file is missing.
    """
    root = Path(__file__).parent

    def text_of(link: re.Match[str]) -> str:
        if not (root / link[2]).exists():
            raise FileNotFoundError(f"a page links to {link[2]}, which does not exist")
        return link[1]

    return _LINK.sub(text_of, markdown)
