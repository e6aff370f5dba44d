"""A real browser, for the tests of pages."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.pages import CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; no longer than a module, since playwright keeps an event loop running in this thread."""
    why = "no playwright: the page is not tested in a browser"
    sync_api = pytest.importorskip("playwright.sync_api", reason=why)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
