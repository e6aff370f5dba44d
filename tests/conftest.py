"""Fixtures: small pictures, every kind of bad one, and a run trained for two steps."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.config import Config, load_config
from clips4.data.class_names import load_classes
from clips4.training.loop import train

TINY = [
    "data.crop=64",
    "data.long_side=96",
    "regions.count=6",
    "student.width=16",
    "segments.clusters=4",
    "prototypes.unknown=2",
    "prototypes.m=8",
    "student.frozen=false",
    "train.batch=2",
    "train.steps=2",
    "train.warmup=1",
    "train.save_every=1",
]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests never read or write the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("CLIPS4_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and test processes run side by side."""
    torch.set_num_threads(1)


def photograph(height: int = 72, width: int = 96, seed: int = 0) -> Image.Image:
    """A smooth picture with a bright disc, so that regions and segments have something to follow."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 160, (3, 4, 3), np.uint8))
    image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    image[disc] = draw.integers(160, 256, 3)
    return Image.fromarray(image)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three good pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(3):
        photograph(seed=index).save(folder / f"photo{index}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    return load_config("cpu", TINY)


@pytest.fixture(scope="session")
def tiny_run(images: Path, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on three small pictures; read only."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    train(sorted(images.iterdir()), load_classes("cat,cup,grass"), tiny_config, run, device="cpu")
    return run


@pytest.fixture
def copied_run(tiny_run: Path, tmp_path: Path) -> Path:
    """The same run, to be spoilt."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def _jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def write_odd_pictures(folder: Path) -> dict[str, Path]:
    """Pictures that are unusual, but can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    image = photograph()
    odd = {name: folder / name for name in ("sixteen.png", "cmyk.jpg", "moving.gif", "dot.png", "turned.jpg")}
    ramp = np.linspace(0, 65535, 72 * 96).reshape(72, 96).astype(np.uint16)
    Image.fromarray(ramp).save(odd["sixteen.png"])
    odd["cmyk.jpg"].write_bytes(_jpeg(image.convert("CMYK")))
    frames = [photograph(seed=seed).convert("P") for seed in (1, 2)]
    frames[0].save(odd["moving.gif"], save_all=True, append_images=frames[1:])
    image.resize((1, 1)).save(odd["dot.png"])
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    odd["turned.jpg"].write_bytes(_jpeg(image, exif=exif))
    return odd


def write_broken_pictures(folder: Path) -> dict[str, Path]:
    """Files that are no pictures, or no longer."""
    folder.mkdir(parents=True, exist_ok=True)
    broken = {name: folder / name for name in ("letter.jpg", "cut.jpg", "empty.png")}
    broken["letter.jpg"].write_text("Dear reader, this is no picture.")
    broken["cut.jpg"].write_bytes(_jpeg(photograph(200, 300))[:2500])
    broken["empty.png"].write_bytes(b"")
    return broken
