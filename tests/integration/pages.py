"""What tests of pages in a real browser share: the browser, and what one does on the page and sees there."""

import base64
import io
import os
import shutil
from collections.abc import Callable
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
