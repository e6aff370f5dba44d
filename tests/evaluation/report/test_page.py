import base64
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.config import SegmentConfig
from clips4.data.class_names import ClassList
from clips4.errors import UserError
from clips4.evaluation.report.collect import RunReport, fine_segments, gather
from clips4.evaluation.report.page import legend, render, write_report
from clips4.inference.segmenter import Segmenter
from clips4.outputs import charts
from clips4.outputs.labeled_image import UNKNOWN_LABEL
from clips4.utils.progress import NoProgress
from clips4.utils.tensors import resize_map
from tests.helpers import conse, unit, write_broken_images

VOID = {"meta", "img", "br", "link", "input", "hr"}
NASTY = '<b>&"'


class Page(HTMLParser):
    """Reads a page and fails where tags are not balanced."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]


class Counting(NoProgress):
    """A listener that counts."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.parts = 0

    def stage(self, name: str, total: int) -> None:
        self.told.append((name, total))

    def advance(self, values: dict[str, float]) -> None:
        self.parts += 1


@pytest.fixture(scope="module", autouse=True)
def one_teacher() -> Iterator[None]:
    """The teacher is loaded once for all tests."""
    patch = pytest.MonkeyPatch()
    patch.setattr("clips4.inference.opening.load_teacher", lambda name: conse())
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def quick_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of single tests have no t-SNE; that of the fixture ``html`` has."""
    monkeypatch.setattr(charts, "tsne", lambda vectors, seed: np.linspace(0, 1, 2 * len(vectors)).reshape(-1, 2))


@pytest.fixture(scope="module")
def report(tiny_run: Path, images: Path) -> RunReport:
    return gather(tiny_run, sorted(images.iterdir()), "cpu", NoProgress())


@pytest.fixture(scope="module")
def html(report: RunReport) -> str:
    return render(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_page_is_one_whole_file(tiny_run: Path, images: Path, tmp_path: Path) -> None:
    broken = write_broken_images(tmp_path / "broken")["cut.jpg"]
    first, progress = sorted(images.iterdir())[0], Counting()
    out = tmp_path / "out" / "index.html"
    write_report(out, tiny_run, [first, broken], "cpu", progress)
    assert list(out.parent.iterdir()) == [out]
    page = Page(out.read_text("utf-8"))
    assert "Left out" in page.text
    assert "cut.jpg" in page.text
    assert progress.told == [("drawing the page", 2)]
    assert progress.parts == 1


def test_run_without_a_checkpoint_leaves_the_old_page(images: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("old")
    with pytest.raises(UserError, match="no checkpoint"):
        write_report(page, tmp_path / "none", sorted(images.iterdir()), "cpu", NoProgress())
    assert page.read_text() == "old"


def test_page_of_no_usable_image_is_refused_with_the_first_reason(tiny_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no picture")
    with pytest.raises(UserError, match=r"none of 1 image can be shown; the first: .*broken\.jpg"):
        gather(tiny_run, [broken], "cpu", NoProgress())


def test_every_photograph_has_its_six_images(report: RunReport, page: Page) -> None:
    alts = [image["alt"] for image in page.all("img")]
    for title in ("photo0", "photo1", "photo2"):
        for name in ("Image", "Regions", "Embedding", "Segments", "Teacher", "Student"):
            assert alts.count(f"{name}: {title}") == 1
    assert len(alts) == 3 * 6 + len(report.found)


def test_images_decode_at_their_declared_size(report: RunReport, page: Page) -> None:
    decoded = {}
    for image in page.all("img"):
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        picture.load()
        assert picture.size == (int(image["width"]), int(image["height"]))
        decoded[image["alt"]] = np.array(picture).astype(int)
    for shown in report.images:
        assert np.abs(decoded[f"Image: {shown.title}"] - shown.image).mean() < 6


def test_nothing_is_loaded_from_elsewhere(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), (tag, name, value[:80])
    assert not page.all("script", "link", "iframe", "object", "embed")
    assert not re.search(r"url\(|@import|https?:", html)


def test_page_is_well_made(html: str, page: Page) -> None:
    assert html.startswith("<!DOCTYPE html>")
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert "$" not in page.text


def test_stand_in_is_labeled_before_any_image(html: str) -> None:
    assert "stand-in" in html
    assert html.index("stand-in, not CLIP") < html.index("<img")


def test_another_teacher_is_no_substitute(report: RunReport) -> None:
    config = report.checkpoint.config
    other = config.model_copy(update={"teacher": config.teacher.model_copy(update={"name": NASTY})})
    html = render(replace(report, checkpoint=replace(report.checkpoint, config=other)))
    assert "stand-in" not in html
    assert NASTY not in html


def test_given_strings_are_escaped(report: RunReport) -> None:
    names = (NASTY, "$cup", "gräs & hö")  # as of a run: class files cannot hold such a name
    prototypes = replace(report.checkpoint.prototypes, classes=ClassList(names, tuple((name,) for name in names)))
    photograph = replace(report.images[0], title=f"{NASTY} $title")
    changed = replace(
        report,
        checkpoint=replace(report.checkpoint, prototypes=prototypes),
        images=[photograph, *report.images[1:]],
    )
    html = render(changed)
    page = Page(html)
    assert NASTY not in html
    assert f"{NASTY} $title" in page.text
    assert f"Student: {NASTY} $title" in [image["alt"] for image in page.all("img")]
    assert page.text.count(NASTY) >= 4  # heading, plane (label and legend), table
    assert "gräs & hö" in page.text


def test_same_report_give_the_same_page(report: RunReport) -> None:
    assert render(report) == render(replace(report))


def test_predictions_are_those_of_the_segmenter(report: RunReport, tiny_run: Path) -> None:
    student = Segmenter.load(tiny_run, "cpu")
    teacher = Segmenter.from_teacher("conse", report.checkpoint.config, "cpu")
    for image in report.images:
        answer = student.segment(image.image)
        shown = np.where(image.student >= report.known, UNKNOWN_LABEL, image.student)
        np.testing.assert_array_equal(shown, answer.labels)
        by_text = teacher.segment(image.image, "cat,cup,grass")
        np.testing.assert_array_equal(image.teacher, by_text.labels)


def test_shares_and_legends_match_the_labels(report: RunReport) -> None:
    assert report.names == ("cat", "cup", "grass", "u0", "u1")
    assert report.shares.sum() == pytest.approx(1)
    labels = np.repeat([0, 0, 2, 3], 25).reshape(10, 10)
    known, grass, unknown = legend(report, labels)
    assert [(each["name"], each["share"]) for each in (known, grass, unknown)] == [
        ("cat", 0.5),
        ("grass", 0.25),
        ("unknown", 0.25),
    ]
    assert unknown["parts"] == [("u0", 0.25)]
    nothing = legend(report, np.zeros((4, 4), np.int64))
    assert [(each["name"], each["share"], each["parts"]) for each in nothing] == [("cat", 1, []), ("unknown", 0, [])]
    assert [(each["name"], each["share"]) for each in legend(report, labels // 3, unknown=False)] == [
        ("cat", 0.75),
        ("cup", 0.25),
    ]


def test_class_has_one_color(report: RunReport, html: str) -> None:
    rows = re.findall(r"background:(#[0-9a-f]{6})\"></span>(cat|cup|grass)\b", html)
    assert len({color for color, _ in rows}) == len({name for _, name in rows}) == len(set(rows)) == 3
    assert len(rows) > 6


def test_page_of_several_prototypes_shows_classes(nearest_run: Path, images: Path) -> None:
    found = gather(nearest_run, sorted(images.iterdir())[:1], "cpu", NoProgress())
    prototypes, labels = found.checkpoint.prototypes, found.images[0].student
    assert found.names == ("cat", "cup", "grass", "u0", "u1")
    large = resize_map(torch.einsum("dhw,ld->lhw", found.images[0].z, prototypes.queries())[None], labels.shape)[0]
    assert prototypes.groups is not None
    expected = torch.stack([large[prototypes.groups == label].amax(0) for label in range(5)]).argmax(0).numpy()
    assert (labels == expected).mean() > 0.999
    assert Page(render(found)).text.count("unknown") >= 1


def test_page_without_unknown_prototypes_or_log(report: RunReport) -> None:
    prototypes = replace(report.checkpoint.prototypes, unknown=report.checkpoint.prototypes.unknown[:0])
    photographs = [replace(each, student=each.student % report.known) for each in report.images]
    bare = replace(report, checkpoint=replace(report.checkpoint, prototypes=prototypes), images=photographs, log=[])
    text = Page(render(bare)).text
    assert "The run has no log" in text
    assert "u0" not in text.split("beside regions")[-1]


def test_settings_and_losses_are_shown(report: RunReport, page: Page) -> None:
    assert "contrast_pixels" in page.text
    assert report.checkpoint.card["versions"]["torch"] in page.text
    charts = [svg["aria-label"] for svg in page.all("svg") if svg.get("class") == "chart"]
    assert [label.split(":")[0] for label in charts] == ["loss", "contrast", "embedding", "semantic"]
    untimed = replace(
        report, log=[{key: value for key, value in line.items() if key != "seconds"} for line in report.log]
    )
    assert "minutes" not in Page(render(untimed)).text.split("Settings")[-1]
    timed = replace(report, log=[{**line, "seconds": 60.0} for line in report.log])
    assert "2.0 minutes" in Page(render(timed)).text


def test_fine_segments_lie_within_one_region_each() -> None:
    z = unit(8, 6, 9, dim=0, dtype=torch.float32)
    regions = np.repeat(np.arange(3, dtype=np.int32), 24)[None].repeat(48, 0)
    segments = fine_segments(z, regions, SegmentConfig(clusters=4, iterations=3))
    assert segments.shape == (48, 72)
    assert set(np.unique(segments)) == set(range(segments.max() + 1))
    assert 3 <= segments.max() + 1 <= 12
    for segment in range(segments.max() + 1):
        assert len(np.unique(regions[segments == segment])) == 1


def test_fine_segments_follow_a_plain_border() -> None:
    z = torch.zeros(2, 8, 8)
    z[0, :, :4] = 1
    z[1, :, 4:] = 1
    segments = fine_segments(z, np.zeros((64, 64), np.int32), SegmentConfig(clusters=(1, 2)))
    np.testing.assert_array_equal(segments, np.repeat([[0, 1]], 32, 1).repeat(64, 0))
