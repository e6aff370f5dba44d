"""What tests of pages in a real browser share: the browser, and what one does on the page and sees there."""

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Page = Any
Visit = Callable[..., Page]
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CLIPS4_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the page is not tested in a browser")
PATIENCE = 60_000  # milliseconds


@contextmanager
def watched(browser: Any) -> Iterator[Visit]:
    """Opens addresses, each in a context of its own; in the end none may have complained, or asked another origin."""
    contexts, problems = [], []

    def opened(origin: str, place: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: problems.append(str(error)))
        context.on("request", lambda r: None if r.url.startswith((origin, "blob:")) else problems.append(r.url))
        page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else None)
        page.goto(origin + place)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def add(page: Page, path: Path) -> None:
    page.set_input_files("#files", path)
    page.wait_for_selector(f'.thumb[aria-current="true"][title="{path.name}"]')
    settled(page)


def settled(page: Page) -> None:
    page.wait_for_selector('#canvas[data-ready]:not([data-ready=""])')


def plain(page: Page) -> None:
    """Colors alone: no image below, no outlines."""
    page.uncheck("#outlines")
    page.fill("#opacity", "100")


def pixels(page: Page) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(H, W, 3) of the canvas."""
    data = page.evaluate("document.querySelector('#canvas').toDataURL('image/png').split(',')[1]")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def legend(page: Page) -> list[str]:
    return list(page.locator("#legend .called").all_inner_texts())


def at(page: Page, x: float, y: float) -> dict[str, float]:
    """A place of the image, by its share of width and height, for a click."""
    box = page.locator("#marks").bounding_box()
    return {"x": x * box["width"], "y": y * box["height"]}


def check_20_megapixels_are_shown_reduced(page: Page, image: Path, folder: Path) -> None:
    path = folder / "large.jpg"
    Image.open(image).convert("RGB").resize((5000, 4000), Image.Resampling.NEAREST).save(path)
    add(page, path)
    assert pixels(page).shape == (1280, 1600, 3)
    assert "5000" in page.locator("#caption").inner_text()


def check_object_is_tracked_through_three_frames(page: Page, images: Path) -> None:
    for number in range(3):
        add(page, images / f"photo{number}.png")
    page.click("#as-frames")
    page.wait_for_selector("#video[data-objects='0']")
    page.locator("#video .marks").click()
    page.wait_for_selector("#video[data-objects='1']")
    page.get_by_role("button", name="Track from here").click()
    page.wait_for_selector("#video[data-state='done']")
    page.locator("#video input[aria-label='frame']").fill("2")
    page.wait_for_selector("#video[data-frame='2']")
    assert "3 of 3, tracked" in page.locator("#video").inner_text()
