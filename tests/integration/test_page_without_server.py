"""The page of clips4 export --web in a real browser: it predicts what the segmenter does, and sends nothing."""

import base64
import functools
import http.server
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from clips4.cli.app import app
from clips4.cli.shell import run as run_command
from clips4.config import with_overrides
from clips4.inference.classifier import Query
from clips4.inference.clustering import cluster_centers
from clips4.inference.encoding.encoder import EncodedImage, Encoder
from clips4.inference.predict import predict
from clips4.inference.refine.maskclip import Refinement
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.label_propagation import Recipe, track
from clips4.method.prediction_context import PredictionContext
from clips4.models.checkpoint import load_checkpoint, save_checkpoint
from clips4.models.class_set import ClassSet, load_class_set, save_class_set
from clips4.models.sliding_window import InferenceSize
from clips4.outputs.formats.coco import coco_document
from clips4.outputs.formats.labelme import labelme_document
from clips4.serve.page.folder import PageReport, export_page
from clips4.utils.images import reduce_to
from tests.helpers import generator, noise_image, unit
from tests.integration.pages import (
    Page,
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

PACKAGE = Path(__file__).parents[2] / "node_modules" / "onnxruntime-web"
pytestmark = [
    in_a_browser,
    pytest.mark.skipif(
        not PACKAGE.is_dir(), reason="no onnxruntime-web, the page is not tested without a server: npm ci"
    ),
]
NAMES = ["dog", "house", "sofa"]
AGREEMENT = 0.99  # share of pixels


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A folder behind the plainest of servers, which can be stopped."""

    def __init__(self, folder: Path):
        handler = functools.partial(Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def varied_run(tiny_run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with prototypes that each have a part of its images; as it is, one class has all."""
    checkpoint, run = load_checkpoint(tiny_run), tmp_path_factory.mktemp("runs") / "varied"
    z = Segmenter.load(tiny_run).embed(sorted(images.iterdir()))
    known, unknown = cluster_centers(z, 5).split([3, 2])
    prototypes = replace(checkpoint.prototypes, known=known, unknown=unknown, fitted=None)
    save_checkpoint(run, 1, checkpoint.config, checkpoint.student, prototypes, {}, keep=1)
    return run


@pytest.fixture(scope="module")
def page_folder(varied_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PageReport]:
    folder = tmp_path_factory.mktemp("web") / "page"
    return folder, export_page(varied_run, folder, PACKAGE, vocabulary=NAMES)


@pytest.fixture(scope="module")
def site(page_folder: tuple[Path, PageReport]) -> Iterator[Site]:
    site = Site(page_folder[0])
    yield site
    site.stop()


@pytest.fixture
def visit(site: Site, browser: Any) -> Iterator[Visit]:
    """Opens the page; at the end nothing may have been complained of or asked elsewhere."""
    with watched(browser) as opened:
        yield lambda address=site.address, **options: opened(address, **options)


def typed(page: Page, name: str) -> None:
    page.fill("#name", name)
    page.press("#name", "Enter")
    page.wait_for_selector(f"input[aria-label='look for {name}']")
    settled(page)


def downloaded(page: Page, button: str) -> tuple[str, bytes]:
    with page.expect_download() as event:
        page.click(button)
    return event.value.suggested_filename, Path(event.value.path()).read_bytes()


def test_folder_is_small_and_has_a_policy(page_folder: tuple[Path, PageReport]) -> None:
    folder, report = page_folder
    assert report.page_bytes < 300_000
    assert report.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert report.bytes < 40_000_000
    assert "default-src 'none'" in (folder / "index.html").read_text()
    assert "MIT License" in (folder / "runtime" / "LICENSE.txt").read_text()


def test_canvas_agrees_with_the_label_png(visit: Visit, varied_run: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    photo = Image.open(images / "photo1.png").convert("RGB")
    photo.save(folder / "plain.png")
    photo.resize((700, 501)).save(folder / "large.jpg", quality=95)
    photo.resize((90, 21)).save(folder / "small.png")  # smaller than what the network takes
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif, quality=95)
    names = ["cat", "cup", "grass", "dog"]
    command = ["segment", str(varied_run), str(folder), "--classes", ",".join(names), "--out", str(tmp_path / "out")]
    assert run_command(app, command) == 0
    page = visit()
    for path in sorted(folder.iterdir()):
        add(page, path)
        if path.name == "large.jpg":  # the first
            typed(page, "dog")
            plain(page)
        expected = np.array(Image.open(tmp_path / "out" / f"{path.stem}.png").convert("RGB"))
        assert (pixels(page) == expected).all(2).mean() >= AGREEMENT, path.name
        assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 2, path.name  # or anything agrees
    assert legend(page) == names


def test_nearest_of_several_prototypes_counts_as_in_the_command(
    page_folder: tuple[Path, PageReport],
    varied_run: Path,
    visit: Visit,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the context of the image, too, where classes compete. The graph is that of the other page."""
    checkpoint, run, folder = load_checkpoint(varied_run), tmp_path / "run", tmp_path / "page"
    centers = cluster_centers(Segmenter.load(varied_run).embed(sorted(images.iterdir())), 11)
    known, unknown = centers.split([9, 2])
    prototypes = replace(checkpoint.prototypes, known=known, unknown=unknown, per_class="nearest")
    config = with_overrides(checkpoint.config, ["prototypes.per_class=nearest", "extensions.prediction_context=1"])
    save_checkpoint(run, 1, config, checkpoint.student, prototypes, {}, keep=1)
    graph = (page_folder[0] / "model" / "student.onnx").read_bytes()
    same_graph = SimpleNamespace(SerializeToString=lambda: graph)
    monkeypatch.setattr("clips4.serve.page.folder.checked_graph", lambda checkpoint: (same_graph, 0.0))
    export_page(run, folder, PACKAGE, vocabulary=NAMES)
    photo = images / "photo1.png"
    command = ["segment", str(run), str(photo), "--classes", "cat,cup,grass,dog", "--out", str(tmp_path / "out")]
    assert run_command(app, command) == 0
    own = Site(folder)
    page = visit(own.address)
    add(page, photo)
    typed(page, "dog")
    plain(page)
    expected = np.array(Image.open(tmp_path / "out" / "photo1.png").convert("RGB"))
    assert (pixels(page) == expected).all(2).mean() >= AGREEMENT
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 2
    own.stop()


def test_page_works_without_its_server_and_opens_again(
    page_folder: tuple[Path, PageReport], visit: Visit, images: Path
) -> None:
    own = Site(page_folder[0])
    page = visit(own.address)
    add(page, images / "photo0.png")  # the network has arrived
    own.stop()
    add(page, images / "photo1.png")
    typed(page, "house")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    add(page, images / "photo2.png")
    typed(page, "sofa")
    assert page.locator("#problem").inner_text() == ""


def test_example_by_click_changes_its_pixel_and_undo_restores(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo2.png")
    plain(page)
    before = pixels(page)
    height, width = before.shape[:2]
    colors = {
        name: page.locator(f"input[aria-label='color of {name}']").input_value() for name in ("cat", "cup", "grass")
    }

    def color(of: np.ndarray[Any, Any]) -> str:
        return "#" + "".join(f"{value:02x}" for value in of[height // 2, width // 2])

    name = next(each for each, its in colors.items() if its != color(before))
    page.select_option("#target", name)
    page.locator("#modes").get_by_text("Is", exact=True).click()
    page.click("#marks", position=at(page, 0.5, 0.5))
    page.wait_for_selector("#undo:not([disabled])")
    settled(page)
    assert color(pixels(page)) == colors[name]
    page.click("#undo")
    page.wait_for_selector("#undo[disabled]")
    settled(page)
    assert np.array_equal(pixels(page), before)


def test_name_that_the_page_lacks_is_reported_and_gets_examples(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo0.png")
    typed(page, "gizmo")
    page.wait_for_selector("#problem:has-text('gizmo')")
    page.select_option("#target", "gizmo")
    page.locator("#modes").get_by_text("Is", exact=True).click()
    page.click("#marks", position=at(page, 0.5, 0.5))
    page.wait_for_selector("#undo:not([disabled])")
    settled(page)
    assert page.locator("#problem").inner_text() == ""
    share = page.locator("#legend li", has_text="gizmo").locator(".share")
    assert share.inner_text() not in ("", "0%")


def test_class_set_of_the_page_segments_as_the_page_does(
    visit: Visit, varied_run: Path, images: Path, tmp_path: Path
) -> None:
    page = visit()
    add(page, images / "photo0.png")
    typed(page, "gizmo")
    page.select_option("#target", "gizmo")
    page.locator("#modes").get_by_text("Is", exact=True).click()
    page.click("#marks", position=at(page, 0.3, 0.6))
    page.wait_for_selector("#undo:not([disabled])")
    settled(page)
    plain(page)
    shown, names = pixels(page), legend(page)
    page.fill("#set-name", "with gizmo")
    name, content = downloaded(page, "#save-set")
    assert name == "with gizmo.safetensors"
    assert "segment" in page.locator("#command").inner_text()
    saved = tmp_path / name
    saved.write_bytes(content)

    segmenter, prototypes = Segmenter.load(varied_run), load_checkpoint(varied_run).prototypes
    found = load_class_set(saved, prototypes)
    assert found.names[-1] == "gizmo"
    assert found.examples.tolist() == [name == "gizmo" for name in np.array(found.names)[found.owner]]
    result = segmenter.segment(images / "photo0.png", classes=saved)
    colors = [page.locator(f"input[aria-label='color of {name}']").input_value() for name in found.names]
    painted = np.array([[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in colors], np.uint8)
    known = result.labels >= 0
    assert known.mean() > 0.5
    assert np.mean((painted[result.labels] == shown).all(2)[known]) >= AGREEMENT

    other = visit()
    add(other, images / "photo0.png")
    other.set_input_files("#set-file", saved)
    other.wait_for_selector("#legend li:has-text('gizmo')")
    settled(other)
    plain(other)
    assert legend(other) == names
    assert np.array_equal(pixels(other), shown)


def test_class_set_of_another_run_or_damaged_is_reported(visit: Visit, varied_run: Path, tmp_path: Path) -> None:
    prototypes = load_checkpoint(varied_run).prototypes
    rows = prototypes.known
    given = ClassSet(
        ("a", "b", "c"), (("a",), ("b",), ("c",)), ("text",) * 3, rows, torch.arange(3), torch.zeros(3).bool()
    )
    save_class_set(tmp_path / "own.safetensors", given, prototypes)
    save_class_set(tmp_path / "other.safetensors", given, replace(prototypes, known=-rows))
    content = (tmp_path / "own.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-5])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    page = visit()
    for name, problem in (("other", "another run"), ("cut", "damaged"), ("empty", "damaged")):
        page.set_input_files("#set-file", tmp_path / f"{name}.safetensors")
        page.wait_for_selector(f"#problem:has-text('{problem}')")
    page.set_input_files("#set-file", tmp_path / "own.safetensors")
    page.wait_for_selector("input[aria-label='look for b']")
    assert page.locator("#problem").inner_text() == ""


def test_keyboard_alone_points_clicks_and_undoes(visit: Visit, images: Path) -> None:
    page = visit()
    add(page, images / "photo0.png")
    page.focus("input[name='mode']")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.focus("#marks")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#why meter")
    assert page.locator("#why meter").count() == 3
    page.keyboard.press("Enter")
    page.wait_for_selector("#undo:not([disabled])")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#undo[disabled]")


def test_another_network_predicts_the_open_images_anew(
    page_folder: tuple[Path, PageReport], visit: Visit, images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(page_folder[0], tmp_path / "page")
    facts = json.loads((folder / "model" / "run.json").read_text())
    facts["networks"].append({**facts["networks"][0], "name": "int8"})
    (folder / "model" / "run.json").write_text(json.dumps(facts))
    own = Site(folder)
    page = visit(own.address)
    add(page, images / "photo0.png")
    before = pixels(page)
    drawn = page.locator("#canvas").get_attribute("data-ready")
    page.select_option("#network", "int8")
    page.wait_for_selector(f"#canvas:not([data-ready='{drawn}']):not([data-ready=''])")
    assert np.array_equal(pixels(page), before)  # the same file here
    assert page.locator("#problem").inner_text() == ""
    own.stop()


def test_image_of_20_megapixels_is_shown_reduced(visit: Visit, images: Path, tmp_path: Path) -> None:
    check_20_megapixels_are_shown_reduced(visit(), images / "photo0.png", tmp_path)


def test_look_shows_similar_segments_of_other_images(visit: Visit, images: Path) -> None:
    page = visit()
    for number in range(2):
        add(page, images / f"photo{number}.png")
    page.click("#marks", position=at(page, 0.4, 0.4))
    page.wait_for_selector("#similar button")
    titles = {each.get_attribute("title") for each in page.locator("#similar button").all()}
    assert titles == {"photo0.png", "photo1.png"}


def test_page_on_a_phone_in_the_dark_fits_its_width(visit: Visit, images: Path) -> None:
    page = visit(viewport={"width": 390, "height": 800}, color_scheme="dark", has_touch=True)
    add(page, images / "photo0.png")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 200
    for hidden in ("#invite", "#beside-label", "#network-label"):
        assert page.locator(hidden).is_hidden()  # what needs a server


def test_object_marked_in_a_frame_is_tracked_to_the_last(visit: Visit, images: Path) -> None:
    page = visit()
    check_object_is_tracked_through_three_frames(page, images)
    name, content = downloaded(page, "#video button:has-text('Export masks')")
    assert name == "masks.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [f"{number:05d}.png" for number in range(3)]
        masks = [np.array(Image.open(io.BytesIO(archive.read(each)))) for each in archive.namelist()]
    assert masks[0].any()
    assert {mask.shape for mask in masks} == {Image.open(images / "photo0.png").size[::-1]}


def test_video_file_is_opened_frame_by_frame_and_tracked(visit: Visit, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path, side = tmp_path / "clip.webm", 96
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width = stream.height = side
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for number in range(6):
            frame = np.full((side, side, 3), 40 * number, np.uint8)
            frame[20:60, 20:60] = (200, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    page = visit()
    page.set_input_files("#video-file", path)
    page.wait_for_selector("#video[data-objects='0']")
    assert "1 of 6" in page.locator("#video").inner_text()
    for number in range(6):
        page.locator("#video input[aria-label='frame']").fill(str(number))
        page.wait_for_selector(f"#video[data-frame='{number}']")
        corner = page.evaluate(
            "[...document.querySelector('#video canvas').getContext('2d').getImageData(5, 5, 1, 1).data]"
        )
        assert abs(corner[0] - 40 * number) < 12, f"frame {number}"
    page.locator("#video input[aria-label='frame']").fill("0")
    page.wait_for_selector("#video[data-frame='0']")
    page.locator("#video .marks").click()
    page.wait_for_selector("#video[data-objects='1']")
    page.get_by_role("button", name="Track from here").click()
    page.wait_for_selector("#video[data-state='done']")
    with zipfile.ZipFile(io.BytesIO(downloaded(page, "#video button:has-text('Export masks')")[1])) as archive:
        assert archive.namelist() == [f"{number:05d}.png" for number in range(6)]


def test_file_that_is_no_video_is_reported(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video" * 100)
    page = visit()
    page.set_input_files("#video-file", tmp_path / "clip.mp4")
    page.wait_for_selector("#problem:has-text('clip.mp4: no video that this browser can play')")


def test_objects_are_tracked_as_in_python(visit: Visit) -> None:
    dims, rows, columns, height, width = 12, 9, 17, 35, 66
    maps = [F.normalize(torch.randn(dims, rows, columns, generator=generator(seed)), dim=0) for seed in range(6)]
    mask = np.zeros((height, width), np.uint8)
    mask[4:20, 5:20], mask[18:30, 40:44] = 1, 2

    class Maps(Encoder):
        def __init__(self) -> None:
            pass

        def embed(self, image: Any, options: Any = None) -> torch.Tensor:
            return maps[int(image[0, 0, 0])]

    frames = ((str(number), np.full((height, width, 3), number, np.uint8)) for number in range(len(maps)))
    expected = [each.mask for each in track(frames, mask, Maps(), Recipe(before=3, radius=6))][1:]
    found = visit().evaluate(
        """async ([maps, dims, rows, columns, mask, width, height]) => {
            const { Tracker } = await import("./browser/tracking.js");
            const frames = maps.map((z) => ({ z: Float32Array.from(z), dims, rows, columns }));
            const tracker = new Tracker(frames[0], Int32Array.from(mask), { width, height });
            return frames.slice(1).map((frame) => [...tracker.next(frame)]);
        }""",
        [[z.flatten().tolist() for z in maps], dims, rows, columns, mask.flatten().tolist(), width, height],
    )
    for one, other in zip(found, expected, strict=True):
        assert (np.array(one).reshape(height, width) == other).mean() > 0.995  # ties to a rounding error
        assert len(np.unique(other)) == 3


def test_damaged_image_and_bomb_are_reported_and_the_page_works_on(visit: Visit, images: Path, tmp_path: Path) -> None:
    page = visit()
    (tmp_path / "letter.jpg").write_text("no image")
    page.set_input_files("#files", tmp_path / "letter.jpg")
    page.wait_for_selector("#problem:has-text('letter.jpg')")
    (tmp_path / "bomb.png").write_bytes(bomb(60_000, 60_000))
    page.set_input_files("#files", tmp_path / "bomb.png")
    page.wait_for_selector("#problem:has-text('too many')")
    add(page, images / "photo0.png")
    assert page.locator("#problem").inner_text() == ""


def test_exports_equal_those_of_the_segmenter(visit: Visit, varied_run: Path, images: Path) -> None:
    page = visit()
    for number in range(2):
        add(page, images / f"photo{number}.png")
    results = [Segmenter.load(varied_run).segment(images / f"photo{number}.png") for number in range(2)]
    name, content = downloaded(page, "#export-all")
    assert name == "clips4-png.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["photo0.png", "photo1.png"]
        assert archive.testzip() is None
        for result, file in zip(results, archive.namelist(), strict=True):
            values = np.array(Image.open(io.BytesIO(archive.read(file))))
            assert np.array_equal(values, np.where(result.labels < 0, 255, result.labels))
    page.select_option("#format", "coco")
    name, content = downloaded(page, "#export-all")
    assert sum(result.unknown_share for result in results) > 0
    found, expected = json.loads(content), coco_document(results, ["photo0.png", "photo1.png"])
    assert name == "coco.json"
    for document in (found, expected):
        for annotation in document["annotations"]:
            annotation["score"] = round(annotation["score"], 2)
    assert found == expected
    page.select_option("#format", "labelme")
    name, content = downloaded(page, "#export-one")
    shapes, others = json.loads(content)["shapes"], labelme_document(results[1], "photo1.png")["shapes"]
    assert name == "photo1.json"
    assert [each["label"] for each in shapes] == [each["label"] for each in others]
    for one, other in zip(shapes, others, strict=True):
        assert area(one["points"]) == pytest.approx(area(other["points"]), rel=0.1, abs=4)


def area(points: list[list[float]]) -> float:
    x, y = np.array(points).T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2))


def test_images_are_reduced_as_pillow_does(visit: Visit) -> None:
    page = visit()
    for height, width, side in ((72, 96, 50), (211, 333, 96), (40, 1000, 96), (31, 17, 96), (9, 300, 33)):
        image = noise_image(height, width)
        rgba = np.concatenate([image, np.full((height, width, 1), 255, np.uint8)], 2)
        found = page.evaluate(
            """async ([text, width, height, side]) => {
                const { reduceTo } = await import("./browser/resize.js");
                const data = Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
                const small = reduceTo({ width, height, data }, side);
                return [small.width, small.height, btoa(String.fromCharCode(...small.data))];
            }""",
            [base64.b64encode(rgba.tobytes()).decode(), width, height, side],
        )
        values = np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[1], found[0], 4)
        assert np.array_equal(values[..., :3], reduce_to(image, side))


def test_images_of_any_shape_enter_the_network_at_the_size_of_the_run(visit: Visit) -> None:
    size = InferenceSize(416, 312)
    sides = [(480, 640), (640, 480), (480, 854), (100, 1000), (1000, 90), (31, 17)]
    found = visit().evaluate(
        """async ([sides, size]) => {
            const { inferenceSide } = await import("./browser/resize.js");
            return sides.map(([height, width]) => inferenceSide({ width, height }, size));
        }""",
        [sides, {"longSide": size.long_side, "shortSide": size.short_side, "largestSide": size.largest}],
    )
    assert found == [size.side_of(height, width) for height, width in sides]


def test_rules_of_the_run_decide_as_in_python(visit: Visit) -> None:
    page = visit()
    for separates in (False, True):
        for weight in (0.0, 1.0):
            check_rules(page, separates, weight)


def check_rules(page: Page, separates: bool, weight: float) -> None:
    dims, rows, columns, height, width = 12, 5, 7, 33, 41
    z = F.normalize(torch.randn(dims, rows, columns, generator=generator(0)), dim=0)
    vectors, unknown = unit(5, dims, seed=1).float(), unit(3, dims, seed=2).float()
    owner = torch.tensor([0, 1, 1, 2, 3])
    query = Query(vectors, owner, tuple("abcd"), ("bank",) * 4, pixel_vectors=vectors if separates else None)
    context = PredictionContext(weight, 0.05, 0.08)
    encoded = EncodedImage(np.zeros((height, width, 3), np.uint8), z, None)
    expected = predict(encoded, query, unknown, Refinement(), None, 0.1, context)
    rules = {
        "separatesUnknown": separates,
        "margin": 0.1,
        "context": {"weight": weight, "textTemperature": 0.05, "pixelTemperature": 0.08},
    }
    found = page.evaluate(
        """async ([z, dims, rows, columns, vectors, owner, unknown, rules, width, height]) => {
            const { predict } = await import("./browser/predict.js");
            const encoded = { z: Float32Array.from(z), dims, rows, columns };
            const sources = ["bank", "bank", "bank", "bank"];
            const query = { vectors: Float32Array.from(vectors), owner, names: [..."abcd"], sources };
            const { labels, scores } = predict(encoded, query, Float32Array.from(unknown), rules, { width, height });
            return [[...labels], [...scores]];
        }""",
        [
            z.flatten().tolist(),
            dims,
            rows,
            columns,
            vectors.flatten().tolist(),
            owner.tolist(),
            unknown.flatten().tolist(),
            rules,
            width,
            height,
        ],
    )
    labels, scores = (np.array(each).reshape(height, width) for each in found)
    assert expected.unknown_labels is not None
    numbered = np.where(expected.unknown_labels >= 0, -2 - expected.unknown_labels, expected.labels)
    assert (labels == numbered).mean() > 0.995  # ties to a rounding error
    assert len(np.unique(labels)) > 3
    assert np.abs(scores - expected.similarity)[labels == numbered].max() < 1e-5
