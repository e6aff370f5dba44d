"""Gallery and region pages in a real browser: the name under a pointer, a finger and the arrow keys; the slider."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clips4.config import RegionConfig
from clips4.inference.jobs.gallery import write_gallery
from clips4.outputs.encode import image_facts, image_files
from clips4.outputs.labeled_image import LabeledImage
from clips4.regions.contour_map import from_strength
from clips4.regions.hierarchy_page import LEVELS, hierarchy_page
from clips4.regions.ucm import Hierarchy, owt_ucm
from clips4.utils.output_folder.manifest import ManifestEntry
from tests.helpers import noise_image
from tests.integration.pages import Page, Visit, in_a_browser, watched

pytestmark = in_a_browser
NAMES = ("cat", 'cup & "saucer" <b>', "grass")


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    with watched(browser) as opened:
        yield lambda path, **options: opened(path.absolute().parent.as_uri(), f"/{path.name}", **options)


def blocks(seed: int) -> LabeledImage:
    """300 x 200 pixels of 50 x 50 blocks; of the unknown ones some belong to a discovered class."""
    labels = np.kron(np.random.default_rng(seed).integers(-1, 3, (4, 6)), np.ones((50, 50))).astype(np.int16)
    labels[:50, :100] = -1
    unknown = np.where(labels < 0, 1, -1).astype(np.int16)
    unknown[:50, :50] = -1
    return LabeledImage(noise_image(200, 300, seed), labels, np.zeros(labels.shape, np.float32), NAMES, unknown)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    entries = []
    for seed in range(2):
        result, name = blocks(seed), f"photo {seed}"
        for file, content in image_files(result, f"{name}.jpg", name, ["gallery"]).items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)
        facts = image_facts(result, ["gallery"])
        entry = {"source": f"/{name}.jpg", "stem": name, "files": [], "kinds": ["gallery"], "facts": facts}
        entries.append(ManifestEntry(**entry, command="segment", settings_hash="", stamp=[]))  # type: ignore[typeddict-item]
    write_gallery(folder / "gallery.html", lambda: entries, NAMES)
    return folder / "gallery.html"


def expected(result: LabeledImage, x: float, y: float) -> str:
    row, column = int(y * result.labels.shape[0]), int(x * result.labels.shape[1])
    label, unknown = int(result.labels[row, column]), -1
    if result.unknown_labels is not None:
        unknown = int(result.unknown_labels[row, column])
    return NAMES[label] if label >= 0 else f"unknown {unknown + 1}" if unknown >= 0 else "unknown"


def place(page: Page, image: Any, x: float, y: float) -> tuple[float, float]:
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_gallery_shows_the_class_under_the_pointer(visit: Visit, gallery: Path) -> None:
    page, seen = visit(gallery, viewport={"width": 900, "height": 900}), set()
    for seed in range(2):
        image = page.locator("figure").nth(seed).locator("img.prediction")
        for y in (0.1, 0.4, 0.6, 0.9):
            for x in (0.08, 0.25, 0.42, 0.58, 0.75, 0.92):
                page.mouse.move(*place(page, image, x, y))
                assert page.locator("#place").inner_text() == expected(blocks(seed), x, y), (seed, x, y)
                seen.add(page.locator("#place").inner_text())
    assert seen == {*NAMES, "unknown", "unknown 2"}
    page.mouse.move(1, 1)
    assert page.locator("#place").is_hidden()


def test_gallery_arrow_keys_move_a_point_that_names_its_class(visit: Visit, gallery: Path) -> None:
    page = visit(gallery)
    page.locator("figure > a").first.focus()
    x = y = 0.5
    for key, dx, dy in [("ArrowLeft", -1, 0)] * 7 + [("ArrowUp", 0, -1)] * 9 + [("ArrowRight", 1, 0)] * 5:
        page.keyboard.press(key)
        x, y = x + dx / 24, y + dy / 24
        if min(abs(6 * x - round(6 * x)), abs(4 * y - round(4 * y))) > 0.1:  # not on the border of two blocks
            assert page.locator("#place").inner_text() == expected(blocks(0), x, y)
        box = page.locator("#spot").bounding_box()
        at = place(page, page.locator("figure img.prediction").first, x, y)
        assert abs(box["x"] + box["width"] / 2 - at[0]) + abs(box["y"] + box["height"] / 2 - at[1]) < 2
    page.keyboard.press("Escape")
    assert page.locator("#place").is_hidden()
    assert page.locator("#spot").is_hidden()


def test_gallery_finger_looks_and_the_name_below_is_the_link(visit: Visit, gallery: Path) -> None:
    page = visit(gallery, has_touch=True, viewport={"width": 390, "height": 800})
    image = page.locator("figure img.prediction").nth(1)
    for x, y in ((0.08, 0.1), (0.75, 0.6)):
        page.touchscreen.tap(*place(page, image, x, y))
        assert page.locator("#place").inner_text() == expected(blocks(1), x, y)
        assert page.url.endswith("gallery.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("link", name="photo 1.jpg", exact=True).click()
    page.wait_for_url("**/photo%201_overlay.jpg")


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hierarchy]:
    image = noise_image(60, 80, 3)
    strength = np.random.default_rng(0).random((60, 80)).astype(np.float32)
    hierarchy = owt_ucm(from_strength(strength), 0.002)
    path = tmp_path_factory.mktemp("regions") / "a.html"
    path.write_text(
        hierarchy_page(image, hierarchy, hierarchy.at_count(4), "a.jpg", RegionConfig(method="gradient-ucm"))
    )
    return path, hierarchy


def test_regions_slider_shows_one_level_after_another(visit: Visit, regions: tuple[Path, Hierarchy]) -> None:
    path, hierarchy = regions
    page = visit(path)
    levels = [level for level in LEVELS if level <= hierarchy.count]
    assert len(levels) >= 4
    slider = page.locator("#level")
    slider.focus()
    page.keyboard.press("Home")
    for level in levels:
        assert page.locator(".level:visible").count() == 1
        text = page.locator(".slider output").inner_text()
        assert text.startswith(f"{level} region")
        assert slider.get_attribute("aria-valuetext") == text
        assert page.locator(".level:visible figcaption").inner_text() == text
        page.keyboard.press("ArrowRight")


def test_regions_page_names_the_region_under_pointer_and_keys(visit: Visit, regions: tuple[Path, Hierarchy]) -> None:
    path, hierarchy = regions
    page = visit(path)
    page.locator("#level").fill("2")
    labels = hierarchy.at_count([level for level in LEVELS if level <= hierarchy.count][2])
    number, share = labels[15, 20] + 1, 100 * (labels == labels[15, 20]).mean()
    text = f"region {number}, {share:.{1 if share < 10 else 0}f} % of the image"
    page.mouse.move(*place(page, page.locator(".level:visible img").nth(1), 20.5 / 80, 15.5 / 60))
    assert page.locator("#place").inner_text() == text
    page.locator(".level:visible .pair").focus()
    for key in [*["ArrowLeft"] * 6, *["ArrowUp"] * 6]:  # from the middle, by 1/24 of a side each
        page.keyboard.press(key)
    assert page.locator("#place").inner_text() == text
