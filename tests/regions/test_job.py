"""What `clips4 regions` writes, and that an interrupted run goes on."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips4.config import RegionConfig
from clips4.errors import UserError
from clips4.regions.cache import RegionCache
from clips4.regions.contour_map import ContourMap
from clips4.regions.contours import find_contours
from clips4.regions.job import parse_kinds, region_files, region_settings
from clips4.utils.images import RGB, load_rgb
from clips4.utils.progress import NoProgress
from tests.helpers import Recorder, write_broken_images

NESTED = RegionConfig(method="gradient-ucm", count=5)


def make(paths: list[Path], out: Path | None, settings: RegionConfig = NESTED, **options: object) -> object:
    chosen = {
        "save": "png,overlay,page",
        "workers": 1,
        "long_side": 0,
        "device": "cpu",
        "force": False,
        "progress": NoProgress(),
        **options,
    }
    return region_files(paths, settings, out, **chosen)  # type: ignore[arg-type]


def test_label_png_overlay_and_page(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.iterdir())
    make(paths, tmp_path)
    assert len(list(tmp_path.glob("[!.]*"))) == 9
    for path in paths:
        image = load_rgb(path)
        with Image.open(tmp_path / f"{path.stem}.png") as labels:
            assert labels.mode.startswith("I")
            assert np.array_equal(np.array(labels), RegionCache(NESTED)(image))
        with Image.open(tmp_path / f"{path.stem}_overlay.png") as overlay:
            assert overlay.size == (image.shape[1], 2 * image.shape[0] + 4)
        page = (tmp_path / f"{path.stem}.html").read_text()
        assert "2 regions: thresholds" in page
        assert not re.search(r'(src|href)="(?!data:)', page), "the page loads nothing"


def test_levels_of_the_page_are_those_of_the_hierarchy(images: Path, tmp_path: Path) -> None:
    path = sorted(images.iterdir())[0]
    make([path], tmp_path, save="page")
    found = re.findall(r"(\d+) regions: thresholds ([\d.]+) to ([\d.]+)", (tmp_path / f"{path.stem}.html").read_text())
    hierarchy = RegionCache(NESTED).hierarchy(load_rgb(path))
    assert found
    for count, low, high in found:
        middle = (float(low) + float(high)) / 2
        assert hierarchy.at_threshold(middle).max() + 1 == int(count)


def test_without_out_only_the_cache_is_filled_as_training_reads_it(images: Path, tmp_path: Path) -> None:
    from clips4.data.image_folder import load_training_image

    settings = RegionConfig(method="gradient-ucm", small_share=0.0123)
    make(sorted(images.iterdir()), None, settings, long_side=64)
    for path in images.iterdir():
        assert RegionCache(settings).path(load_training_image(path, 64)).is_file()


def test_interrupted_run_resumes_from_the_cache(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, paths = RegionConfig(method="gradient-ucm", small_share=0.0456), sorted(images.iterdir())
    first = make(paths, tmp_path, settings, progress=Recorder(interrupt_after=2))
    assert (len(first.done), first.interrupted) == (2, True)  # type: ignore[attr-defined]
    calls: list[Path] = []

    def counted(image: RGB, settings: RegionConfig, *others: Any) -> ContourMap:
        calls.append(Path())
        return find_contours(image, settings, *others)

    monkeypatch.setattr("clips4.regions.cache.find_contours", counted)
    second = make(paths, tmp_path, settings)
    assert (len(second.done), second.interrupted, len(calls)) == (3, False, 1)  # type: ignore[attr-defined]


def test_broken_images_are_reported(images: Path, tmp_path: Path) -> None:
    broken = write_broken_images(tmp_path / "broken")
    outcome = make([*sorted(images.iterdir()), *broken.values()], tmp_path / "out", save="png", workers=2)
    assert sorted(s.path for s in outcome.skipped) == sorted(broken.values())  # type: ignore[attr-defined]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_images_of_one_name_have_files_of_their_own(images: Path, tmp_path: Path) -> None:
    source = sorted(images.iterdir())[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(source.read_bytes())
    make([tmp_path / "a", tmp_path / "b"], tmp_path / "out", save="png")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("out/*/*.png")) == [
        "out/a/same.png",
        "out/b/same.png",
    ]
    make([tmp_path / "a"], tmp_path / "other", save="png")
    with pytest.raises(UserError, match=r"b/same\.png: would have the same outputs in .* as .*a/same\.png"):
        make([tmp_path / "b"], tmp_path / "other", save="png")


def test_regions_with_other_settings_leave_no_earlier_files(images: Path, tmp_path: Path) -> None:
    make([images], tmp_path / "out")
    make([images], tmp_path / "out", RegionConfig(method="gradient-ucm", count=3), save="png")
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == ["photo0.png", "photo1.png", "photo2.png"]
    with pytest.raises(UserError, match=r"outputs with other settings .* of 2 inputs"):
        make([images / "photo0.png"], tmp_path / "out")
    assert len(make([images / "photo0.png"], tmp_path / "out", force=True).done) == 1  # type: ignore[attr-defined]
    assert len(list((tmp_path / "out").glob("[!.]*"))) == 3, "three kinds of one image"


def test_regions_of_an_unwritable_image_are_skipped(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out/photo1.png").mkdir(parents=True)
    outcome = make([images], tmp_path / "out", save="png")
    assert [s.path.name for s in outcome.skipped] == ["photo1.png"]  # type: ignore[attr-defined]
    assert "clips4 did not write it" in outcome.skipped[0].reason  # type: ignore[attr-defined]


def test_edge_maps_of_images_that_are_ambiguous(images: Path, tmp_path: Path) -> None:
    twins = [tmp_path / "x/p/same.png", tmp_path / "y/p/same.png"]
    for twin in twins:
        twin.parent.mkdir(parents=True)
        twin.write_bytes(sorted(images.iterdir())[0].read_bytes())
    edges = tmp_path / "edges"
    edges.mkdir()
    Image.fromarray(np.zeros((72, 96), np.uint8)).save(edges / "same.png")
    settings = RegionConfig(method="edges-ucm", edges=str(edges))
    with pytest.raises(UserError, match=r"same\.png: would be the edge map of .*x/p/same\.png and of .*y/p/same\.png"):
        make(twins, tmp_path / "out", settings)
    (edges / "y/p").mkdir(parents=True)
    (edges / "y/p/same.png").write_bytes((edges / "same.png").read_bytes())
    assert len(make(twins, tmp_path / "out", settings, save="png").done) == 2  # type: ignore[attr-defined]


def test_settings_are_those_of_the_options() -> None:
    settings = region_settings("hed-ucm", 20, 0.4, None, ["regions.scales=[1.0]"])
    assert settings == RegionConfig(method="hed-ucm", count=20, threshold=0.4, scales=(1.0,))
    edges = region_settings("edges-ucm", 48, None, Path("maps"), [])
    assert edges == RegionConfig(method="edges-ucm", edges="maps")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("edges-ucm", 48, None, None, []), "give their folder with --edges DIR"),
        (("slic", 48, None, Path("maps"), []), "--edges is for --method edges-ucm"),
        (("slic", 48, 0.3, None, []), "--threshold cuts a hierarchy"),
        (("watershed", 48, None, None, []), "regions.method = 'watershed'"),
        (("slic", 0, None, None, []), "regions.count = 0"),
        (("hed-ucm", 48, 1.5, None, []), "regions.threshold = 1.5"),
        (("slic", 48, None, None, ["train.steps=3"]), "give a key of section regions"),
        (("slic", 48, None, None, ["regions.cuont=3"]), "did you mean regions.count"),
    ],
)
def test_options_that_do_not_go_together_raise(options: tuple, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UserError, match=re.escape(message)):
        region_settings(*options)


@pytest.mark.parametrize(("save", "method"), [("jpeg", "hed-ucm"), ("", "hed-ucm"), ("png,page", "slic")])
def test_wrong_kinds_of_output_raise(save: str, method: str) -> None:
    with pytest.raises(UserError, match="--save"):
        parse_kinds(save, RegionConfig(method=method))


def test_worker_that_cuts_superpixels_does_without_pytorch(images: Path, tmp_path: Path) -> None:
    # importing it takes a worker seconds, as long as the regions of a small folder
    image = sorted(images.iterdir())[0]
    program = (
        "import sys; from pathlib import Path; from clips4.config import RegionConfig\n"
        "from clips4.regions.job import RegionWork; from clips4.utils.output_folder.output import Item\n"
        f"work = RegionWork(RegionConfig(method='gradient-ucm'), None, Path({str(tmp_path)!r}))\n"
        f"work(Item(Path({str(image)!r}), 'a', 'a'))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert list(tmp_path.rglob("*.png"))
