"""Links from pages to source files work in a checkout; on the site, which has no sources, only their text remains."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside docs/ by their text; mkdocs calls this for each page.

    Raises:
        FileNotFoundError: a linked file is missing.
    """
    docs, source = Path(config.docs_dir), Path(page.file.abs_src_path)

    def text_of(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            raise FileNotFoundError(f"{source.name} links to {link[2]}, which does not exist")
        return link[1]

    return _LINK.sub(text_of, markdown)
