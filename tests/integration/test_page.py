"""The page of clips4 serve in a real browser: what it shows is what the segmenter predicts."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips4.cli.app import app
from clips4.cli.shell import run as run_command
from clips4.inference.segmenter import Segmenter
from clips4.serve.http.api import Api
from clips4.serve.http.app import create_app
from clips4.serve.server import bind, make_api
from tests.integration.pages import (
    Visit,
    add,
    at,
    check_20_megapixels_are_shown_reduced,
    check_object_is_tracked_through_three_frames,
    in_a_browser,
    legend,
    pixels,
    plain,
    settled,
    watched,
)
from tests.serve.http.test_app import bomb

uvicorn = pytest.importorskip("uvicorn")
pytestmark = in_a_browser


@pytest.fixture(scope="module")
def api(tiny_run: Path, images: Path) -> Iterator[Api]:
    """A server of the tiny run in a thread of its own."""
    api = make_api(Segmenter.load(tiny_run), tiny_run, sorted(images.iterdir()), "tiny", 60)
    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    api.address = f"http://127.0.0.1:{port}"
    config = uvicorn.Config(create_app(api, port=port, prepare=False), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield api
    server.should_exit = True
    thread.join()


@pytest.fixture
def visit(api: Api, browser: Any) -> Iterator[Visit]:
    """Opens the page with a session of its own; at the end nothing may have been complained of or asked elsewhere."""
    with watched(browser) as opened:
        yield lambda **options: opened(api.address, f"/?token={api.sessions.new_token()}", **options)


def test_canvas_of_an_upload_equals_the_label_png(visit: Visit, tiny_run: Path, images: Path, tmp_path: Path) -> None:
    page = visit()
    add(page, images / "photo1.png")
    plain(page)
    assert run_command(app, ["segment", str(tiny_run), str(images / "photo1.png"), "--out", str(tmp_path / "out")]) == 0
    expected = np.array(Image.open(tmp_path / "out" / "photo1.png").convert("RGB"))
    assert np.array_equal(pixels(page), expected)
    assert legend(page) == ["cat", "cup", "grass"]


def test_class_switched_off_and_typed_again_changes_the_canvas(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo0.png")
    plain(page)
    before = pixels(page)
    page.click("button[aria-label='more about cat']")
    page.get_by_role("button", name="Remove").locator("visible=true").click()
    settled(page)
    assert legend(page) == ["cup", "grass"]
    page.fill("#name", "ca")
    assert page.locator("#completions li").first.inner_text() == "cat"
    page.press("#name", "ArrowDown")
    page.press("#name", "Enter")
    page.wait_for_selector("input[aria-label='look for cat']")
    settled(page)
    assert legend(page) == ["cup", "grass", "cat"]
    assert np.array_equal(pixels(page), before), "a name has its color wherever it stands in the list"
    page.uncheck("input[aria-label='look for cat']")
    page.wait_for_selector("#legend .off")
    settled(page)
    assert not np.array_equal(pixels(page), before)


def test_example_by_click_changes_its_pixel_and_undo_restores(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo2.png")
    plain(page)
    before = pixels(page)
    height, width = before.shape[:2]
    colors = {
        name: page.locator(f"input[aria-label='color of {name}']").input_value() for name in ("cat", "cup", "grass")
    }
    there = "#" + "".join(f"{value:02x}" for value in before[height // 2, width // 2])
    name = next(each for each, color in colors.items() if color != there)
    page.select_option("#target", name)
    page.locator("#modes").get_by_text("Is", exact=True).click()
    with page.expect_response(lambda r: r.url.endswith("/labels")):
        page.click("#marks", position=at(page, 0.5, 0.5))
    page.wait_for_selector("#undo:not([disabled])")
    settled(page)
    after = "#" + "".join(f"{value:02x}" for value in pixels(page)[height // 2, width // 2])
    assert after == colors[name]
    with page.expect_response(lambda r: r.url.endswith("/labels")):
        page.click("#undo")
    settled(page)
    assert np.array_equal(pixels(page), before)


def test_keyboard_alone_points_clicks_and_undoes(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo0.png")
    page.focus("input[name='mode']")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator("input[name='mode']:checked").get_attribute("value") == "edit"
    page.focus("#marks")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#why meter")
    assert page.locator("#why meter").count() == 3
    page.keyboard.press("Enter")
    page.wait_for_selector("#undo:not([disabled])")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#undo[disabled]")


def test_look_shows_similar_segments_of_other_images(visit: Visit, images: Path) -> None:
    page = visit()
    for number in range(2):
        add(page, images / f"photo{number}.png")
    page.click("#marks", position=at(page, 0.4, 0.4))
    page.wait_for_selector("#similar button")
    titles = {each.get_attribute("title") for each in page.locator("#similar button").all()}
    assert titles <= {"photo0.png", "photo1.png"}
    page.focus("#marks")
    page.keyboard.press("Escape")
    assert page.locator("#similar button").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_on_a_phone_fits_its_width(visit: Visit, images: Path, scheme: str) -> None:
    page = visit(viewport={"width": 390, "height": 800}, color_scheme=scheme, has_touch=True)
    add(page, images / "photo0.png")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    level = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (level < 200) == (scheme == "dark")


def test_two_users_see_their_own_images(visit: Visit, images: Path) -> None:
    first, second = visit(), visit()
    add(first, images / "photo0.png")
    add(second, images / "photo1.png")
    for page, name in ((first, "photo0.png"), (second, "photo1.png")):
        page.reload()
        page.wait_for_selector(".thumb")
        assert [each.get_attribute("title") for each in page.locator(".thumb").all()] == [name]


def test_bomb_is_reported_and_the_page_works_on(visit: Visit, images: Path, tmp_path: Path) -> None:
    page = visit()
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    page.set_input_files("#files", tmp_path / "bomb.png")
    page.wait_for_selector("#problem:has-text('too many')")
    add(page, images / "photo0.png")
    assert page.locator("#problem").inner_text() == ""


def test_image_of_20_megapixels_is_shown_reduced(visit: Visit, images: Path, tmp_path: Path) -> None:
    check_20_megapixels_are_shown_reduced(visit(), images / "photo0.png", tmp_path)


def test_object_marked_in_a_frame_is_tracked_to_the_last(visit: Visit, images: Path) -> None:
    page = visit()
    check_object_is_tracked_through_three_frames(page, images)
