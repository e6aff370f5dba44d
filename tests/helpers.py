"""Helpers of several test modules: settings, images, teachers, real data."""

import io
import os
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.models.teachers.conse import ConseTeacher
from clips4.utils.progress import NoProgress

# the same examples in every run, and no clock
provable = settings(
    derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
seeds = st.integers(0, 10_000)

# settings of a run that trains in a second
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

# photographs with human segmentations, next to the project; never part of it
BSDS = Path(os.environ.get("CLIPS4_DATA", Path(__file__).parents[2] / "shared/data")) / "bsds500"
COCO = BSDS.parent / "coco128"
with_coco = pytest.mark.skipif(not COCO.is_dir(), reason=f"{COCO} is not there; set CLIPS4_DATA")
with_bsds = pytest.mark.skipif(not BSDS.is_dir(), reason=f"{BSDS} is not there; set CLIPS4_DATA")


def shared(name: str) -> Path:
    """The folder of a real set; the test is skipped with a message if the set is not there."""
    root = BSDS.parent / name
    if not root.is_dir():
        pytest.skip(f"{name} is not there: {root}")
    return root


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, seed: int = 0, dim: int = -1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random unit vectors along ``dim``."""
    values = torch.randn(*shape, generator=generator(seed), dtype=torch.float64)
    return (values / values.norm(dim=dim, keepdim=True)).to(dtype)


def rotation(dimensions: int, seed: int) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(dimensions, dimensions, generator=generator(seed), dtype=torch.float64))[0]


def same_gradients(fast: Callable[..., Tensor], slow: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Values and gradients of two functions agree to 1e-10."""
    results = []
    for function in (fast, slow):
        leaves = [x.clone().requires_grad_() for x in inputs]
        value = function(*leaves)
        results.append((value, torch.autograd.grad(value, leaves)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-10)
    for ours, theirs in zip(results[0][1], results[1][1], strict=True):
        assert theirs.abs().max() > 1e-6, "gradients are too small to compare"
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def noise_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) smooth colored noise, unlike any other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).copy()


def photograph(height: int = 72, width: int = 96, seed: int = 0) -> Image.Image:
    """A smooth image with a bright disc, so that regions and segments have edges to follow."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 160, (3, 4, 3), np.uint8))
    image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:height, :width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    image[disc] = draw.integers(160, 256, 3)
    return Image.fromarray(image)


def touch(folder: Path, *names: str) -> list[Path]:
    """Empty files below a folder."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def write_images(folder: Path, count: int, height: int = 48, width: int = 64) -> list[Path]:
    """``count`` different PNG images."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(noise_image(height, width, index)).save(path)
    return paths


def _jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def write_odd_images(folder: Path) -> dict[str, Path]:
    """Unusual images that can be read."""
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
    exif[0x0112] = 6  # shown rotated by 90 degrees
    odd["turned.jpg"].write_bytes(_jpeg(image, exif=exif))
    return odd


def write_broken_images(folder: Path) -> dict[str, Path]:
    """Files that are not images, or damaged ones."""
    folder.mkdir(parents=True, exist_ok=True)
    broken = {name: folder / name for name in ("letter.jpg", "cut.jpg", "empty.png")}
    broken["letter.jpg"].write_text("Dear reader, this is not an image.")
    broken["cut.jpg"].write_bytes(_jpeg(photograph(200, 300))[:2500])
    broken["empty.png"].write_bytes(b"")
    return broken


@cache
def conse() -> ConseTeacher:
    """The built-in teacher, made once per session: it takes seconds."""
    return ConseTeacher()


class Recorder(NoProgress):
    """A progress reporter that counts items, and presses Ctrl-C after some of them."""

    def __init__(self, interrupt_after: int = 0):
        self.count, self._after = 0, interrupt_after

    def advance(self, values: dict[str, float]) -> None:
        self.count += 1
        if self.count == self._after:
            os.kill(os.getpid(), signal.SIGINT)


class FakeTeacher:
    """A Teacher of 4 dimensions that counts its calls, and encodes the mean color of each 8 x 8 block."""

    embed_dim = 4
    patch_stride = 8

    def __init__(self, name: str = "fake", settings: dict[str, object] | None = None):
        self.name = name
        self.settings: dict[str, object] = settings or {}
        self.calls = 0

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return unit(len(prompts), 4, dtype=torch.float32)

    def encode_pixels(self, images: Tensor) -> Tensor:
        self.calls += 1
        colors = torch.nn.functional.avg_pool2d(images, 8)
        return torch.nn.functional.normalize(torch.cat([colors, torch.ones_like(colors[:, :1])], 1), dim=1)

    def unknown_terms(self, texts: Sequence[str]) -> list[str]:
        return []

    def to(self, device: torch.device) -> "FakeTeacher":
        return self
