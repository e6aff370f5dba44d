"""Folders of predictions: every format by an independent reader, what is redone, interruptions, the gallery."""

import errno
import importlib.util
import json
import os
import signal
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from clips4.annotations.folder import open_labels
from clips4.data.image_folder import JobOutcome
from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.encoding.encoder import EncodedImage
from clips4.inference.jobs import segment as module
from clips4.inference.jobs.folder import folder_files
from clips4.inference.jobs.segment import segment_images
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import KINDS, Kind
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, load_rgb
from clips4.utils.output_folder.manifest import FOLDER, all_entries, entry_path, read_entry
from clips4.utils.output_folder.output import Output, open_folder, plan
from clips4.utils.progress import NoProgress
from tests.helpers import photograph, write_broken_images

NAMES = ("cat", "tea cup & <saucer>", "grass")
INSTALLED = [kind for kind in KINDS if kind != "geotiff" or importlib.util.find_spec("rasterio")]


class FakeSegmenter:
    """Labels from an image's brightness."""

    batch = 1

    def __init__(self) -> None:
        self.encoded = 0

    def encode_images(self, images: list[RGB], keep: bool = True) -> Iterator[EncodedImage]:
        for image in images:
            self.encoded += 1
            yield EncodedImage(image, torch.arange(24.0).view(2, 3, 4) / 7, None)

    def predict(self, encoded: EncodedImage, query: Query, unknown: bool) -> Segmentation:
        gray = encoded.image.mean(2)
        labels = np.digitize(gray, np.quantile(gray, [0.3, 0.5, 0.8])).astype(np.int16) - 1
        similarity = np.full(labels.shape, 0.25, np.float32)
        return Segmentation(
            encoded.image, labels, similarity, query.names, z=encoded.z, vectors=query.vectors, owner=query.owner
        )


QUERY = Query.one_per_class(torch.eye(3, 2), NAMES)


def labels_of(path: Path) -> NDArray[np.int16]:
    fake = FakeSegmenter()
    return fake.predict(next(fake.encode_images([load_rgb(path)])), QUERY, True).labels


def polygons_of_lines(text: str, size: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """Class and polygon (N, 2) x, y in pixels of each line of a label file, for an image of ``size`` (H, W)."""
    found = []
    for line in text.splitlines():
        number, *values = line.split()
        found.append((int(number), np.array(values, float).reshape(-1, 2) * (size[1], size[0])))
    return found


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b #1?.jpg", "c.png")):
        photograph(72 + seed, 96, seed).save(folder / name)
    return sorted(folder.iterdir())


def run(
    paths: Sequence[Path],
    out: Path,
    kinds: Sequence[Kind] = INSTALLED,
    settings_hash: str = "one",
    force: bool = False,
    segmenter: FakeSegmenter | None = None,
    inputs: Sequence[Path] = (),
) -> tuple[JobOutcome, list[str]]:
    fake = segmenter or FakeSegmenter()
    output = Output(out, "segment", kinds, settings_hash, force, folder_files(kinds))
    items = plan(output, paths, inputs or paths)
    open_folder(output)
    outcome = segment_images(cast(Segmenter, fake), QUERY, items, output, True, NoProgress())
    return outcome, [path.name for path in outcome.done]


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_folder_every_format_holds_the_same_labels(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome, _ = run(images, out)
    assert outcome.done == images
    coco = COCO(str(out / "coco.json"))
    panoptic = json.loads((out / "panoptic.json").read_text())
    data = yaml.safe_load((out / "yolo/data.yaml").read_text())
    assert list(data["names"].items()) == list(enumerate(NAMES))
    for number, path in enumerate(images, 1):
        expected = labels_of(path)
        with Image.open(out / f"{path.stem}.png") as image:
            values = np.array(image)
        np.testing.assert_array_equal(np.where(values == 255, -1, values.astype(int)), expected)

        assert coco.loadImgs(number)[0]["file_name"] == str(path)
        canvas = np.full(expected.shape, -1)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=number)):
            canvas[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
        assert (canvas == expected).mean() > 0.995, "all but parts too small"

        (entry,) = [each for each in panoptic["annotations"] if each["image_id"] == number]
        with Image.open(out / "panoptic" / entry["file_name"]) as image:
            rgb = np.array(image).astype(int)
        ids = rgb @ [1, 256, 65536]
        np.testing.assert_array_equal(ids, expected + 1)
        assert {s["id"] for s in entry["segments_info"]} == set(np.unique(ids).tolist()) - {0}

        filled = np.full(expected.shape, -1)
        text = (out / f"yolo/labels/{path.stem}.txt").read_text()
        for label, polygon in polygons_of_lines(text, expected.shape):
            layer = np.zeros(expected.shape, np.uint8)
            cv2.fillPoly(layer, [np.trunc(polygon).astype(np.int32)], 1)
            filled[layer.astype(bool)] = label
        for label in range(3):
            both, either = (
                ((filled == label) & (expected == label)).sum(),
                ((filled == label) | (expected == label)).sum(),
            )
            assert both / either > 0.9
        link = out / f"yolo/images/{path.name}"
        assert link.resolve() == path.resolve()

        with np.load(out / f"{path.stem}.npz", allow_pickle=False) as saved:
            assert saved["z"].dtype == np.float16
            np.testing.assert_allclose(saved["z"], np.arange(24).reshape(2, 3, 4) / 7, atol=2e-3)
            assert tuple(saved["names"]) == NAMES
            np.testing.assert_array_equal(saved["vectors"], np.eye(3, 2))
            np.testing.assert_array_equal(saved["owner"], np.arange(3))
            np.testing.assert_array_equal(saved["labels"], expected)
    assert not [name for name in contents(out) if name.endswith(".part")]


class Page(HTMLParser):
    """Sources of images, links, and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.figures: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag == "a":
            self.links.append(str(dict(attrs)["href"]))
        elif tag == "figure":
            self.figures.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_gallery_of_a_folder_shows_every_image(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images, out, ("gallery",))
    page = Page((out / "gallery.html").read_text())
    assert len(page.figures) == 3
    assert len(page.images) == 6
    for picture in page.images:
        assert picture["loading"] == "lazy"
        with Image.open(out / unquote(str(picture["src"]))) as image:
            assert image.format == "JPEG"
            assert image.size == (int(str(picture["width"])), int(str(picture["height"])))
    assert all((out / unquote(link)).is_file() for link in page.links)
    for figure, record in zip(page.figures, all_entries(out), strict=True):
        shares = {area["name"]: area["share"] for area in record["facts"]["areas"]}
        assert float(str(figure["data-unknown"])) == pytest.approx(shares["unknown"], abs=1e-4)
        listed = dict(pair.split(":") for pair in str(figure["data-classes"]).split())
        assert {NAMES[int(i)]: float(s) for i, s in listed.items()} == {
            name: pytest.approx(share, abs=1e-4) for name, share in shares.items() if name != "unknown"
        }
    assert "b #1?.jpg" in page.words
    assert any("tea cup & <saucer>" in word for word in page.words)


def test_segment_images_repeated_redoes_only_what_changed(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images, out, ("png", "coco"))
    before = contents(out)
    outcome, asked = run(images, out, ("coco", "png"))
    assert (outcome.kept, asked) == (images, [])
    assert contents(out) == before
    (out / "a.png").unlink()
    assert run(images, out, ("png",))[1] == ["a.png"], "its file is gone"
    assert run(images, out, ("png", "yolo"))[1] == [p.name for p in images], "another kind"
    assert run(images, out, ("png", "coco", "yolo"))[1] == [], "kinds of the same settings add up"
    assert run(images, out, ("png",), settings_hash="two")[1] == [p.name for p in images], "other settings"
    assert run(images, out, ("png",), settings_hash="two", force=True)[1] == [p.name for p in images]
    photograph(80, 50, 9).save(images[1])
    assert run(images, out, ("png",), settings_hash="two")[1] == [images[1].name], "another image by the same name"
    (out / FOLDER / "c.json").write_text("{ half a rec")
    skipped = run(images, out, ("png",), settings_hash="two")[0].skipped
    assert [each.path.name for each in skipped] == ["c.png"], "without an entry its files count as foreign"


def test_segment_images_folder_of_an_earlier_version_is_kept(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images, out, ("png",))
    for path in (out / FOLDER).iterdir():
        path.write_text(path.read_text().replace('"settings_hash"', '"made_by"'))
    assert run(images, out, ("png",))[0].kept == images


def test_segment_images_in_several_commands_gives_one_document(images: list[Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    for path in images:
        run([path], out)
    run(images, whole)
    same, other = contents(out), contents(whole)
    for name in ("coco.json", "panoptic.json", "gallery.html"):
        assert same[name] == other[name]
    with pytest.raises(UserError, match=r"with other settings .* of 2 inputs .*b #1\?\.jpg; give another --out"):
        run(images[:1], out, settings_hash="two")
    run(images[:1], out, settings_hash="two", force=True)
    assert len(COCO(str(out / "coco.json")).getImgIds()) == 1, "predictions of other settings do not mix"
    assert not list(out.glob("c*.png")), "nor do their files"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_segment_images_interrupted_and_repeated_gives_the_same_files(
    images: list[Path], tmp_path: Path, stop: BaseException | type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hard way: something is raised between two files of an image."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    run(images, whole)
    run(images, out, settings_hash="earlier settings")
    real = write_atomically

    def failing(path: Path, data: bytes) -> None:
        if path == out / "c.json":
            raise stop
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", failing)
        with pytest.raises(stop if isinstance(stop, type) else type(stop)):
            run(images, out)
    outcome, asked = run(images, out)
    assert asked == ["c.png"]
    assert len(outcome.kept) == 2
    assert {n: b for n, b in contents(out).items() if n != "yolo/data.yaml" and FOLDER not in n} == {
        n: b for n, b in contents(whole).items() if n != "yolo/data.yaml" and FOLDER not in n
    }


def test_segment_images_ctrl_c_finishes_the_image(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"

    class Interrupting(FakeSegmenter):
        def encode_images(self, images: list[RGB], keep: bool = True) -> Iterator[EncodedImage]:
            if self.encoded == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return super().encode_images(images)

    outcome, _ = run(images, out, segmenter=Interrupting())
    assert outcome.interrupted
    assert outcome.done == images[:2]
    assert len(COCO(str(out / "coco.json")).getImgIds()) == 2, "the document is whole, of what is done"
    assert run(images, out)[1] == ["c.png"]


def test_segment_images_broken_image_is_skipped_and_old_files_remain_out_of_the_documents(
    images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(images, out)
    before = (out / "a.png").read_bytes()
    images[0].write_bytes(images[0].read_bytes()[:100])
    broken = write_broken_images(tmp_path / "in/broken")
    outcome, _ = run([*images, *broken.values()], out, inputs=[tmp_path / "in"])
    assert [each.path for each in outcome.skipped] == [images[0], *broken.values()]
    assert (out / "a.png").read_bytes() == before
    assert outcome.gone == 1
    assert len(COCO(str(out / "coco.json")).getImgIds()) == 2
    run([*images, *broken.values()], out, settings_hash="two", inputs=[tmp_path / "in"])
    assert not (out / "a.png").exists(), "outputs of other settings are gone"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        PermissionError(errno.EACCES, "Permission denied", "b.jpg"),
        OSError(errno.ENAMETOOLONG, "File name too long", "b.jpg"),
    ],
)
def test_segment_images_error_of_one_image_skips_it(images: list[Path], tmp_path: Path, error: Exception) -> None:
    class Failing(FakeSegmenter):
        def encode_images(self, images: list[RGB], keep: bool = True) -> Iterator[EncodedImage]:
            self.encoded += 1
            if self.encoded == 2:
                raise error
            return iter([EncodedImage(images[0], torch.ones(2, 3, 4), None)])

    outcome, _ = run(images, tmp_path / "out", segmenter=Failing())
    assert (outcome.done, [each.path for each in outcome.skipped]) == ([images[0], images[2]], [images[1]])
    assert len(COCO(str(tmp_path / "out/coco.json")).getImgIds()) == 2
    error = ZeroDivisionError()  # a mistake of the program, not of the image
    with pytest.raises(ZeroDivisionError):
        run(images, tmp_path / "mistakes", segmenter=Failing())


def test_segment_images_files_that_are_not_ours_are_kept(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "c.json").mkdir(parents=True)
    (out / "a.png").write_text("a mask drawn by hand")
    outcome, _ = run(images, out, ("png", "json", "coco"))
    assert [each.path for each in outcome.skipped] == [images[0], images[2]]
    assert "a.png: exists, and clips4 did not write it" in outcome.skipped[0].reason
    assert (out / "a.png").read_text() == "a mask drawn by hand"
    other = tmp_path / "other"
    other.mkdir()
    (other / "coco.json").write_text("{}")
    with pytest.raises(UserError, match=r"coco\.json: exists, and clips4 did not write it"):
        run(images, other)


def test_segment_images_vanished_and_edited_images_leave_the_documents(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images, out)
    images[0].unlink()
    photograph(50, 60, 7).save(images[2])
    outcome, asked = run(images[1:], out, ("png",))
    assert (asked, outcome.gone) == (["c.png"], 1)
    coco = COCO(str(out / "coco.json"))
    listed = {Path(each["file_name"]).name: each["width"] for each in coco.loadImgs(coco.getImgIds())}
    assert listed == {"b #1?.jpg": 96, "c.png": 60}, "an edited image is done again in all its kinds"
    assert (out / "a.png").is_file(), "nothing is lost"
    assert sorted(p.name for p in (out / "yolo/images").iterdir()) == ["b #1?.jpg", "c.png"]
    page = Page((out / "gallery.html").read_text())
    assert len(page.figures) == 2


def test_segment_images_with_other_settings_replaces_all_kinds(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(images, out)
    run(images, out, ("png",), settings_hash="two")
    assert sorted(name for name in contents(out) if FOLDER not in name) == ["a.png", "b #1?.png", "c.png"]


def test_segment_images_names_that_are_not_text_or_long(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    long = "n" * 240
    for name in (b"a.png", b"caf\xe9.png", long.encode() + b".png"):
        photograph(40, 50).save(folder / "plain.png")
        (folder / "plain.png").rename(folder / os.fsdecode(name))
    paths = sorted(folder.iterdir())
    kinds = [kind for kind in KINDS if kind != "cityscapes"]  # its names are 18 characters longer
    outcome, _ = run(paths, tmp_path / "out", kinds, inputs=[folder])
    assert outcome.done == paths
    images = json.loads((tmp_path / "out/coco.json").read_text())["images"]
    assert [os.fsencode(Path(each["file_name"]).name) for each in images] == [
        b"a.png",
        b"caf\xe9.png",
        long.encode() + b".png",
    ]
    assert "caf%E9.jpg" in (tmp_path / "out/gallery.html").read_text()
    (folder / f"{'m' * 248}.png").write_bytes((folder / "a.png").read_bytes())
    outcome, _ = run(sorted(folder.iterdir()), tmp_path / "out", kinds, inputs=[folder])
    assert [each.reason.endswith("File name too long") for each in outcome.skipped] == [True]


def test_segment_images_keep_subfolders_in_every_kind(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a/1.png", "b/1.png", "coco.png", "1_overlay.png", "1.png", "panoptic/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(40, 50).save(folder / name)
    outcome, _ = run(sorted(folder.rglob("*.png")), out, inputs=[folder])
    assert len(outcome.done) == 6
    names = ["1", "1_overlay_", "a/1", "b/1", "coco_", "panoptic_/1"]
    kinds = [("", ".png"), ("", "_overlay.png"), ("", ".json"), ("", ".npz"), ("yolo/labels/", ".txt")]
    kinds += [("voc/SegmentationClass/", ".png"), ("cityscapes/", "_gtFine_labelIds.png"), ("label_studio/", ".json")]
    for start, end in (*kinds, ("labelme/", ".json")):
        assert all((out / f"{start}{name}{end}").is_file() for name in names)
    for entry in json.loads((out / "panoptic.json").read_text())["annotations"]:
        assert (out / "panoptic" / entry["file_name"]).is_file()
    page = Page((out / "gallery.html").read_text())
    assert all((out / unquote(str(picture["src"]))).is_file() for picture in page.images)
    listed = sum(len(entry["files"]) for entry in all_entries(out))
    assert listed == 6 * 19, "no file has two owners"


def test_plan_images_output_over_input_is_refused(images: list[Path], tmp_path: Path) -> None:
    before = contents(tmp_path / "in")
    with pytest.raises(UserError, match=r"a\.png: this input would be overwritten"):
        run(images, tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UserError, match="would be overwritten"):
        run(images, tmp_path / "link", ("png",))
    assert contents(tmp_path / "in") == before


@pytest.mark.filterwarnings("ignore:.*not taken as images")
def test_plan_images_outputs_inside_the_input_folder_are_left_out(images: list[Path], tmp_path: Path) -> None:
    from clips4.data.image_folder import find_images

    out = tmp_path / "in/out"
    run(images, out)
    outcome, asked = run(find_images(tmp_path / "in"), out)
    assert (asked, outcome.kept) == ([], images)
    outcome, asked = run(find_images(tmp_path / "in"), out, ("png",), settings_hash="two")
    assert asked == [path.name for path in images]
    assert run(find_images(tmp_path / "in"), out, ("png",), settings_hash="two")[1] == [], (
        "nor are those of earlier settings"
    )


def places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where values stand in a JSON document, containers included; of each list only the first element."""
    inside: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value[:1]))
    return [at, *(place for key, each in inside for place in places(each, (*at, key)))]


def replaced(value: Any, at: tuple[str | int, ...], new: object) -> Any:
    """The document with another value at a place."""
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


def test_segment_images_any_field_of_a_manifest_damaged_is_done_again_or_one_error(tmp_path: Path) -> None:
    photograph(24, 32, 0).save(tmp_path / "a.png")
    out = tmp_path / "out"
    kinds: list[Kind] = ["coco", "coco-polygons", "panoptic", "cvat", "gallery"]
    run([tmp_path / "a.png"], out, kinds)
    whole, path = contents(out), entry_path(out, "a")
    sound = json.loads(path.read_text())
    hostile: tuple[object, ...] = (None, -1, 2**70, 1e308, "<b>", "", [], {}, ["x"], True)
    again = 0
    for number, place in enumerate(place for place in places(sound) if place):
        for new in hostile[number % 7 :: 7]:
            path.write_text(json.dumps(replaced(sound, place, new)))
            known = read_entry(path) is not None
            try:
                run([tmp_path / "a.png"], out, kinds)
                again += contents(out) == whole
            except UserError:
                if known and place[0] == "facts":
                    run([tmp_path / "a.png"], out, kinds, force=True)
                    assert contents(out) == whole, (place, new)
            for name, data in whole.items():
                (out / name).write_bytes(data)
    assert again > 20, "most damage is seen, and mended"


@pytest.mark.parametrize(("kind", "held"), [("yolo", "links"), ("yolo-copies", "files"), ("yolo-labels", "none")])
def test_yolo_has_links_copies_or_no_images(images: list[Path], tmp_path: Path, kind: Kind, held: str) -> None:
    run(images, tmp_path / "out", (kind,))
    found = sorted((tmp_path / "out/yolo/images").glob("*"))
    assert len(found) == (0 if held == "none" else len(images))
    assert all(path.is_symlink() == (held == "links") for path in found)
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in images][: len(found)]
    assert (tmp_path / "out/yolo/data.yaml").is_file()
    assert len(list((tmp_path / "out/yolo/labels").iterdir())) == len(images)


def test_voc_and_label_studio_come_with_their_names(images: list[Path], tmp_path: Path) -> None:
    run(images, tmp_path / "out", ("voc", "label-studio"))
    voc = tmp_path / "out/voc"
    assert "tea cup & <saucer>:" in (voc / "labelmap.txt").read_text()
    assert (voc / "ImageSets/Segmentation/train.txt").read_text().splitlines() == [path.stem for path in images]
    for path in images:
        assert (voc / "JPEGImages" / path.name).resolve() == path.resolve()
    dataset = open_labels(voc)
    assert dataset.classes.names == ("background", *NAMES)
    for index, path in enumerate(dataset.images):
        found = dataset.truth(index).astype(int)
        np.testing.assert_array_equal(np.where(found == 255, -1, found - 1), labels_of(path.resolve()))
    assert "tea cup &amp; &lt;saucer&gt;" in (tmp_path / "out/label_studio/labeling_config.xml").read_text()


def test_fiftyone_has_a_mask_and_a_link_of_each_image_and_names(images: list[Path], tmp_path: Path) -> None:
    """The layout that FiftyOne documents: files of one name in both folders, and values that the targets name."""
    run(images, tmp_path / "out", ("fiftyone", "png"))
    folder = tmp_path / "out/fiftyone"
    targets = json.loads((folder / "mask_targets.json").read_text("utf-8"))
    assert list(targets.values()) == list(NAMES)
    assert {path.stem for path in (folder / "data").iterdir()} == {path.stem for path in (folder / "labels").iterdir()}
    assert {path.resolve() for path in (folder / "data").iterdir()} == {path.resolve() for path in images}
    for mask in (folder / "labels").iterdir():
        labels = np.array(Image.open(tmp_path / "out" / mask.name))
        np.testing.assert_array_equal(np.array(Image.open(mask)), np.where(labels == 255, 0, labels + 1))
        assert {str(value) for value in np.unique(labels[labels < 255]) + 1} <= targets.keys()
