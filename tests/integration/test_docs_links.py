"""Links of README, docs and other pages: each file is there, with its heading; images of docs are shown and small."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
IMAGES = sorted((ROOT / "docs/images").iterdir())
_LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and the site make them; a heading given again gets a number."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.+)$", without_code(page), re.M):
        name = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
        name = re.sub(r"\s+", "-", name)
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(page: Path) -> list[tuple[Path, str]]:
    """File and heading of each relative link; the heading is empty where none is named."""
    found = [(match[1], match[2] or "") for match in _LINK.finditer(without_code(page))]
    local = [(target, heading) for target, heading in found if not re.match(r"[a-z]+:", target)]
    return [((page.parent / target) if target else page, heading) for target, heading in local]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_page_resolve(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), f"{target} is not there"
        assert not heading or heading in anchors(target), f"{target} has no heading {heading}"


def test_links_of_all_pages_are_many() -> None:
    assert sum(len(links(page)) for page in PAGES) > 150


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_image_of_docs_is_small_and_shown(image: Path) -> None:
    assert image.stat().st_size < 150_000
    assert any(target.resolve() == image for page in PAGES for target, _ in links(page)), "no page shows it"
