"""The teacher reads each image once: two ranks write shards that both read, also after one of them was killed."""

import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.data.image_source import open_source
from clips4.models.checkpoint import load_checkpoint
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.training.loop import train
from clips4.training.precompute import prepare
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress
from tests.helpers import TINY, FakeTeacher, unit, write_images
from tests.two_ranks import on_two_ranks

IMAGES = 11
SHARD = 800  # bytes: three maps of 4 x 6 x 8


class FatalTeacher(FakeTeacher):
    """Kills its process when it is asked for a map too many."""

    def __init__(self, last: int):
        super().__init__()
        self.last = last

    def encode_pixels(self, images: Tensor) -> Tensor:
        if self.calls == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_pixels(images)


def a_pass(rank: int, paths: list[str], root: str, last: int = -1, mode: str = "clips4") -> dict[str, Any]:
    """Prepare a run; then read the maps of all images."""
    teacher = FatalTeacher(last if rank else -1)
    config = load_config("cpu", [*TINY, f"objective.mode={mode}"])
    maps = TeacherMaps(teacher, root=Path(root), shard_bytes=SHARD)
    regions, run = RegionCache(config.regions, Path(root)), Path(root) / "run"
    classes, text = load_classes("cat,cup,grass"), unit(3, 4, dtype=torch.float32)
    source = open_source([Path(path) for path in paths])
    found = prepare(source, classes, config, text, regions, maps, run, NoProgress())
    calls = teacher.calls
    images = [image for _, image in source.sample(IMAGES, config.data.long_side)]
    return {
        "calls": calls,
        "known": found.prototypes.known,
        "maps": [maps(image) for image in images],
        "later calls": teacher.calls - calls,
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    pairs = [(one["known"], other["known"]), *zip(one["maps"], other["maps"], strict=True)]
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.slow
def test_two_ranks_read_each_image_once_also_after_a_kill(tmp_path: Path) -> None:
    paths = list(map(str, write_images(tmp_path / "images", IMAGES)))
    alone = a_pass(0, paths, str(tmp_path / "alone"))
    assert (alone["calls"], alone["later calls"]) == (IMAGES, 0)
    assert all(
        torch.equal(kept, TeacherMaps(FakeTeacher(), keep=False)(load_rgb(path)))
        for kept, path in zip(alone["maps"], paths, strict=True)
    )

    root = tmp_path / "two"
    with pytest.raises(ProcessExitedException):  # rank 1 dies after its first shard
        on_two_ranks(a_pass, tmp_path / "killed", paths, str(root), 4)
    done = len([path for path in root.glob("teacher/*/shards/*.safetensors") if path.stem != "index"])
    assert 1 <= done <= 3
    shares = on_two_ranks(a_pass, tmp_path / "resumed", paths, str(root))
    assert sum(share["calls"] for share in shares) <= IMAGES - 3, "those of finished shards are not encoded again"
    for share in shares:
        assert share["later calls"] == 0, "each rank reads what the other wrote"
        assert same(share, alone)
    assert list(root.glob("teacher/*/*.safetensors")) == []


def test_images_of_tar_shards_are_kept_too(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", IMAGES)
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for path in paths:
            tar.add(path, path.name)
    found = a_pass(0, [str(tmp_path / "0.tar")], str(tmp_path / "out"))
    assert (found["calls"], found["later calls"]) == (IMAGES, 0)
    again = a_pass(0, list(map(str, paths)), str(tmp_path / "out"))
    assert again["calls"] == 0, "an image has one map, wherever it comes from"


def test_maps_are_made_for_maskclip_plus_too(tmp_path: Path) -> None:
    paths = list(map(str, write_images(tmp_path / "images", 3)))
    found = a_pass(0, paths, str(tmp_path / "out"), mode="maskclip-plus")
    assert (found["calls"], found["later calls"]) == (3, 0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_training_with_shards_gives_the_weights_of_files(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    weights = {}
    for kind in ("images", "shards"):
        monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / kind))
        config = load_config(
            "cpu", [*TINY, f"teacher.cache_files={kind}", f"data.workers={workers}", "teacher.cache_dims=64"]
        )
        train(
            sorted(images.iterdir()),
            load_classes("cat,cup,grass"),
            config,
            tmp_path / f"run {kind}",
            device="cpu",
            report=False,
        )
        weights[kind] = load_checkpoint(tmp_path / f"run {kind}").student.state_dict()
    assert all(torch.equal(value, weights["shards"][name]) for name, value in weights["images"].items())
    assert len(list(tmp_path.glob("shards/teacher/*/shards/*.safetensors"))) == 2, "one shard and the index"
