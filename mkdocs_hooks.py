"""Links from pages to source files work in a checkout; on the site, which holds no sources, their text stays."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with each page.

    Raises:
        FileNotFoundError: a linked file is not in the checkout.
    """
    root = Path(__file__).parent

    def text_of(link: re.Match[str]) -> str:
        if not (root / link[2]).exists():
            raise FileNotFoundError(f"a page links to {link[2]}, which is not there")
        return link[1]

    return _LINK.sub(text_of, markdown)
