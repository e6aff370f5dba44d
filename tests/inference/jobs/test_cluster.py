"""Clustering a folder: one set of centers for all images, the same again when repeated, one line for mistakes."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.errors import UserError
from clips4.inference.jobs import cluster as module
from clips4.inference.jobs.cluster import CENTERS, cluster_files, read_centers, write_centers
from clips4.inference.jobs.load import Loaded, TeacherOptions, load_segmenter
from clips4.inference.upsample import nearest_class
from clips4.utils.progress import NoProgress
from tests.cli.test_app import Fails, clips4, fails  # noqa: F401  # a fixture
from tests.helpers import write_broken_images


@pytest.fixture(scope="module")
def loaded(tiny_run: Path, images: Path) -> Loaded:
    return load_segmenter([tiny_run, images], None, "cpu", TeacherOptions())


def test_cluster_files_every_pixel_has_its_nearest_center(loaded: Loaded, tmp_path: Path) -> None:
    outcome = cluster_files(loaded, 3, tmp_path, "png,json,gallery,coco", 1, 0, False, NoProgress())
    assert outcome.done == loaded.images
    with np.load(tmp_path / CENTERS) as saved:
        centers = torch.from_numpy(saved["centres"])
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(3))
    for path in loaded.images:
        expected, _ = nearest_class(loaded.segmenter.embed(path), centers, (72, 96))
        with Image.open(tmp_path / f"{path.stem}.png") as image:
            np.testing.assert_array_equal(np.array(image), expected.numpy())
        report = json.loads((tmp_path / f"{path.stem}.json").read_text())
        assert {area["name"] for area in report["areas"]} <= {"cluster 1", "cluster 2", "cluster 3"}


def test_cluster_files_repeated_keeps_everything(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_files(loaded, 2, tmp_path / "a", "png", 1, 5, False, NoProgress())
    cluster_files(loaded, 2, tmp_path / "b", "png", 1, 5, False, NoProgress())
    for path in loaded.images:
        assert (tmp_path / f"a/{path.stem}.png").read_bytes() == (tmp_path / f"b/{path.stem}.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "find_centers", None)  # not to be called
        assert cluster_files(loaded, 2, tmp_path / "a", "png", 1, 5, False, NoProgress()).kept == loaded.images
    assert cluster_files(loaded, 3, tmp_path / "a", "png", 1, 5, False, NoProgress()).done == loaded.images


def _saved(compressed: bool = False, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"PK not a whole file",
        lambda data: data[:-30],
        lambda data: data.replace(np.float32(1).tobytes(), np.float32(2).tobytes()),
        lambda data: data.replace(b"(2, ", b"(9, "),
        lambda data: _saved(centres=np.zeros((2, 4), np.float32)),
        lambda data: _saved(centres=np.zeros((3, 4), np.float32), question="key"),
        lambda data: _saved(centres=np.full((2, 4), np.nan, np.float32), question="key"),
        lambda data: _saved(centres=np.array([["a"], ["b"]]), question="key"),
        lambda data: _saved(True, centres=np.zeros((2, 4), np.float32), question="key"),  # may unpack to any size
    ],
)
def test_read_centers_damaged_count_as_none(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    write_centers(tmp_path / CENTERS, torch.eye(4)[:2], "key")
    whole = read_centers(tmp_path / CENTERS, "key", 2)
    assert whole is not None
    assert torch.equal(whole, torch.eye(4)[:2])
    assert read_centers(tmp_path / CENTERS, "other", 2) is None
    (tmp_path / CENTERS).write_bytes(damage((tmp_path / CENTERS).read_bytes()))
    assert read_centers(tmp_path / CENTERS, "key", 2) is None


def test_cluster_files_with_damaged_centers_finds_the_same_again(loaded: Loaded, tmp_path: Path) -> None:
    cluster_files(loaded, 2, tmp_path, "png", 1, 5, False, NoProgress())
    whole = (tmp_path / CENTERS).read_bytes()
    (tmp_path / CENTERS).write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert cluster_files(loaded, 2, tmp_path, "png", 1, 5, False, NoProgress()).kept == loaded.images
    assert (tmp_path / CENTERS).read_bytes() == whole


def test_cluster_files_broken_images_or_too_many_clusters_are_refused(loaded: Loaded, tmp_path: Path) -> None:
    broken = list(write_broken_images(tmp_path / "broken").values())
    mixed = loaded._replace(images=[*broken[:1], *loaded.images])
    outcome = cluster_files(mixed, 2, tmp_path / "out", "png", 1, 0, False, NoProgress())
    assert [each.path for each in outcome.skipped] == broken[:1]
    with pytest.raises(UserError, match=r"none of 3 images could be read; the first: .*letter"):
        cluster_files(loaded._replace(images=broken), 2, tmp_path / "none", "png", 1, 0, False, NoProgress())
    with pytest.raises(UserError, match=r"--k 4000: the images have \d+ pixel embeddings in all"):
        cluster_files(loaded, 4000, tmp_path / "none", "png", 1, 0, False, NoProgress())
    assert not list((tmp_path / "none").glob("[!.]*"))


def test_cluster_command_prints_outcome_and_errors(tiny_run: Path, images: Path, tmp_path: Path, fails: Fails) -> None:  # noqa: F811
    out = ("--out", tmp_path / "out")
    done = clips4("cluster", tiny_run, images, "--k", "2", *out, "--save", "png,gallery", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Clustered 3 images (0 skipped) into {tmp_path / 'out'}.\n"
    assert (tmp_path / "out/gallery.html").is_file()
    wrong = ("--out", tmp_path / "none")
    assert "holds no checkpoint" in fails("cluster", images, images, "--k", "2", *wrong)
    assert "no such file or folder" in fails("cluster", tiny_run, tmp_path / "nowhere", "--k", "2", *wrong)
    assert "kind of output 'gif'" in fails("cluster", tiny_run, images, "--k", "2", "--save", "gif", *wrong)
    assert "is a file" in fails("cluster", tiny_run, images, "--k", "2", "--out", images / "photo0.png")
    assert "would be overwritten" in fails("cluster", tiny_run, images, "--k", "2", "--out", images)
    assert not (tmp_path / "none").exists()
    assert sorted(path.name for path in images.iterdir()) == ["photo0.png", "photo1.png", "photo2.png"]
