"""Maps on disk, on disk with fewer dimensions, or on the fly; what is decided is said."""

import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from clips4.config import Config, parse_config
from clips4.data.image_source import ImageFiles, ImageShards, evenly_spaced, open_source
from clips4.errors import UserError
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.training.teacher_cache import estimate_bytes, plan_teacher_maps
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress
from tests.helpers import FakeTeacher, unit, write_images

CPU = torch.device("cpu")


class Ear(NoProgress):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def log(self, line: str) -> None:
        self.heard.append(line)


def config(**teacher: float) -> Config:
    return parse_config({"teacher": teacher, "data": {"long_side": 64}}, "test")


def plan(paths: list[Path], settings: Config, classes: int = 2) -> tuple[TeacherMaps, FakeTeacher, str]:
    # a name of its own, so that no other test has filled its cache
    teacher, ear = FakeTeacher(str(paths[0].parent)), Ear()
    maps = plan_teacher_maps(teacher, open_source(paths), unit(classes, 4, dtype=torch.float32), settings, CPU, ear)
    (line,) = ear.heard
    return maps, teacher, line


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 5)  # 48 x 64, a map of 6 x 8
    files = ImageFiles(paths)
    assert estimate_bytes(*files.sizes(), 64, 8, 4) == 5 * 6 * 8 * 4 * 2
    assert estimate_bytes(*files.sizes(), 32, 8, 4) == 5 * 3 * 4 * 4 * 2, "pictures are reduced first"
    (tmp_path / "0.png").write_text("no picture")
    assert estimate_bytes(*files.sizes(), 64, 8, 4) == 5 * 6 * 8 * 4 * 2, "what cannot be sized counts as the others"
    assert estimate_bytes(*ImageFiles([tmp_path / "0.png"]).sizes(), 64, 8, 4) == 0


def test_images_in_shards_are_counted_by_their_bytes(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "pictures", 40)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.name)
    count, sizes = ImageShards([str(tmp_path / "0.tar")]).sizes()
    assert 40 <= count <= 60, "longer headers count as pictures, the more the smaller pictures are"
    assert set(sizes) == {(64, 48)}


def test_sample_is_spread_over_all() -> None:
    paths = [Path(str(index)) for index in range(1000)]
    some = evenly_spaced(paths, 30)
    assert len(some) <= 30
    assert some[0] == paths[0]
    assert int(some[-1].name) > 900
    assert evenly_spaced(paths[:3], 30) == paths[:3]


def test_maps_that_fit_are_kept(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    maps, teacher, line = plan(paths, config())
    assert maps.keep
    assert "2 images need about 1 MiB" in line
    assert f"kept in {maps.folder}" in line
    for _ in range(2):
        maps(load_rgb(paths[0]))
    assert teacher.calls == 1


def test_maps_that_do_not_fit_are_computed_on_the_fly_and_the_same(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    image = load_rgb(paths[0])
    maps, teacher, line = plan(paths, config(cache_gib=0))
    assert not maps.keep
    assert "more than teacher.cache_gib = 0: computed in every step" in line
    first, second = maps(image), maps(image)
    assert teacher.calls == 2
    assert torch.equal(first, second)
    assert torch.equal(first, plan(paths, config())[0](image))


def test_fewer_dimensions_are_kept_and_classes_see_no_difference(tmp_path: Path) -> None:
    paths, text = write_images(tmp_path, 3), unit(2, 4, dtype=torch.float32)
    whole, less = plan(paths, config())[0], plan(paths, config(cache_dims=3))[0]
    assert whole.folder != less.folder
    assert "3 of 4 dimensions" in plan(paths, config(cache_dims=3))[2]
    for path in paths:
        image = load_rgb(path)
        exact, kept = whole(image).float(), less(image).float()
        assert kept.shape == exact.shape
        cosines = [torch.einsum("dhw,kd->khw", each, text) for each in (exact, kept)]
        torch.testing.assert_close(*cosines, rtol=0, atol=2e-3)
    assert less.path(image).stat().st_size < whole.path(image).stat().st_size
    assert torch.equal(plan(paths, config(cache_dims=3))[0](image).float(), kept), "the basis is the same every time"


@pytest.mark.parametrize("dims", [2, 5])
def test_dimensions_that_cannot_be_are_refused(tmp_path: Path, dims: int) -> None:
    with pytest.raises(UserError, match=f"teacher.cache_dims = {dims}: give 3, the number of classes, to 4"):
        plan(write_images(tmp_path, 1), config(cache_dims=dims), classes=3)


def test_broken_image_among_the_sample_is_skipped(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 2)
    (tmp_path / "0.png").write_text("no picture")
    Image.new("RGB", (3, 3)).save(tmp_path / "1.png")
    maps, _, _ = plan([*paths, *write_images_beside(tmp_path)], config(cache_dims=3))
    assert maps.keep


def test_maps_in_shards_are_announced(tmp_path: Path) -> None:
    maps, _, line = plan(write_images(tmp_path, 2), parse_config({"teacher": {"cache_files": "shards"}}, "test"))
    assert maps.sharded
    assert line.endswith(", in shards")


def test_full_disk_is_refused_before_the_first_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_images(tmp_path, 3)
    needed = estimate_bytes(*ImageFiles(paths).sizes(), 64, 8, 4)
    full = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(
        UserError, match=r"teacher maps need about 1 MiB, and the disk has 1.1e-06 GiB for them; set CL"
    ):
        plan(paths, config())
    assert not plan(paths, config(cache_gib=0))[0].keep
    full.free = needed
    maps, _, _ = plan(paths, config())
    for path in paths:
        maps(load_rgb(path))
    full.free = 0
    assert plan(paths, config())[0].keep, "they are there already"


def write_images_beside(folder: Path) -> list[Path]:
    (folder / "more").mkdir()
    return write_images(folder / "more", 2)
