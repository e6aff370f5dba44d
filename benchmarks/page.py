"""How fast the page of `clips4 export --web` is in Chromium, how large its folder is, and screenshots of it.

    clips4 export runs/demo --web page
    python benchmarks/page.py page
    python benchmarks/page.py page --shots docs

Images have 640 x 480 pixels. Times are those of the page itself: from the event in which a file is chosen or names are
added until the canvas shows their labels.
"""

import argparse
import functools
import http.server
import io
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from serve import NAMES, photograph

from clips4.cli.demo import sample_photographs

_SHOWN = ("#canvas[data-ready]:not([data-ready=''])", "body[data-ready]")
_PAUSE = 1500  # milliseconds in which segments are found, and other images predicted
# resolves to milliseconds once the canvas has been cleared and drawn anew
_TIMED = """(act) => new Promise((resolve) => {
    const canvas = document.querySelector("#canvas");
    const observer = new MutationObserver(() => {
        if (!canvas.dataset.ready) return;
        observer.disconnect();
        resolve(performance.now() - start);
    });
    observer.observe(canvas, { attributeFilter: ["data-ready"] });
    const start = performance.now();
    act();
})"""
_OPEN = f"""async (bytes) => ({_TIMED})(() => {{
    const list = new DataTransfer(), files = document.querySelector("#files");
    list.items.add(new File([Uint8Array.from(bytes)], "a.jpg", {{ type: "image/jpeg" }}));
    files.files = list.files;
    files.dispatchEvent(new Event("change"));
}})"""
_ADD = f"""async (text) => ({_TIMED})(() => {{
    document.querySelector("#name").value = text;
    document.querySelector("#add").click();
}})"""

# milliseconds a frame to follow an object of a quarter of the first one
_TRACK = """async (files) => {
    const { session, video } = await import("./browser/session.js");
    const ids = [];
    for (const bytes of files) ids.push((await session.open(new Blob([Uint8Array.from(bytes)]), "frame.jpg")).id);
    const { id, width, height } = await video.openImages(ids);
    const runs = [0, (height / 4) * width];
    for (let y = 0; y < height / 2; y++) runs.push(0, width / 4, 1, width / 2, 0, width / 4);
    const start = performance.now();
    await video.track(id, 0, [...runs, 0, (height / 4) * width]);
    while ((await video.facts(id)).state === "tracking") await new Promise((resolve) => setTimeout(resolve, 10));
    return (performance.now() - start) / (ids.length - 1);
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def report(name: str, milliseconds: list[float]) -> None:
    middle, high = np.percentile(milliseconds, [50, 95])
    print(f"{name}: median {middle:.0f} ms, p95 {high:.0f} ms, {len(milliseconds)} times", flush=True)


def measure(page: Any, address: str) -> None:
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_selector(_SHOWN[1])
    print(f"page ready after {time.perf_counter() - start:.1f} s")
    opening = []
    for seed in range(6):
        opening.append(page.evaluate(_OPEN, list(photograph(seed))))
        page.wait_for_timeout(_PAUSE)
    print(f"first labels of the first image, which waits for the network to load: {opening[0]:.0f} ms")
    report("first labels after opening", opening[1:])
    listed = page.locator("#legend .called").all_inner_texts()
    adding = []
    for name in NAMES:
        if name not in listed:
            adding.append(page.evaluate(_ADD, name))
            page.wait_for_timeout(_PAUSE)
    report("labels of other names", adding)
    frames = [list(photograph(seed)) for seed in (0, 0, 0, 0, 0)]
    print(f"tracking: {page.evaluate(_TRACK, frames):.0f} ms a frame")


def screenshots(browser: Any, address: str, folder: Path) -> None:
    photographs = {path.stem: path for path in sample_photographs()}
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    show(page, address, photographs["motorcycle_left"])
    for name in ("rocket", "person", "flower"):
        page.click(f"button[aria-label='more about {name}']")
        page.get_by_role("button", name="Remove").locator("visible=true").click()
        page.wait_for_selector(_SHOWN[0])
    page.fill("#name", "wheel, shelf")
    page.click("#add")
    page.wait_for_selector(_SHOWN[0])
    for name in ("chelsea", "coffee", "china"):
        page.set_input_files("#files", photographs[name])
        page.wait_for_selector(f".thumb[aria-current='true'][title='{photographs[name].name}']")
        page.wait_for_selector(_SHOWN[0])
    page.click(f".thumb[title='{photographs['motorcycle_left'].name}']")
    page.wait_for_selector(_SHOWN[0])
    page.wait_for_timeout(2000)
    page.fill("#opacity", "55")
    box = page.locator("#marks").bounding_box()
    page.mouse.move(box["x"] + 0.86 * box["width"], box["y"] + 0.74 * box["height"])
    page.wait_for_selector("#why meter")
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 0)")
    save(page, folder / "page-browser.webp", 1000)
    phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=1)
    show(phone, address, photographs["coffee"])
    phone.wait_for_timeout(1500)
    save(phone, folder / "page-browser-phone.webp", 390)


def show(page: Any, address: str, path: Path) -> None:
    page.goto(address)
    page.wait_for_selector(_SHOWN[1])
    page.set_input_files("#files", path)
    page.wait_for_selector(_SHOWN[0])


def save(page: Any, path: Path, width: int) -> None:
    image = Image.open(io.BytesIO(page.screenshot()))
    image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS).save(path, quality=80)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="folder that `clips4 export --web` wrote")
    parser.add_argument("--shots", type=Path, help="folder for screenshots, instead of measuring")
    given = parser.parse_args()
    size = sum(path.stat().st_size for path in given.page.rglob("*") if path.is_file())
    print(f"folder: {size / 1e6:.1f} MB")
    handler = functools.partial(Quiet, directory=str(given.page))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if not given.shots:
            measure(browser.new_page(), address)
        else:
            screenshots(browser, address, given.shots)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
