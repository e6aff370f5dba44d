"""The stream of training batches, a pure function of seed and position.

Position p of the stream is picture p mod N of epoch p div N, in the epoch's own random order, with augmentations drawn
from a generator seeded by (seed, p). So neither the number of loader processes, nor that of ranks, nor an interruption
changes what is trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from clips4.config import DataConfig
from clips4.data.folders import load_photograph
from clips4.data.streams import ORDER, PIXELS, VIEW, seeded
from clips4.data.views import Views, make_views
from clips4.images import RGB, to_tensor
from clips4.segments import IGNORED


class Batch(NamedTuple):
    """Views of B images, the V views of an image side by side.

    Attributes:
        images: (B * V, 3, H, W) in [0, 1].
        regions: (B * V, h, w) numbered through over the images, so that two images never share a number.
        pixel_map: (B * V, D, h, w) unit along D.
        drawn: (N,) indices of the batch's B * V * h * w pixels that L_t is averaged over.
        names: (B,) the pictures.
    """

    images: Tensor
    regions: Tensor
    pixel_map: Tensor
    drawn: Tensor
    names: tuple[str, ...]


class Item(NamedTuple):
    """One picture's part of a batch: its views, the pixels drawn for L_t (indices into V * h * w), its name."""

    views: Views
    drawn: Tensor
    name: str


class ViewStream(Dataset[Item]):
    """Maps positions of the stream to views.

    Args:
        paths: usable pictures.
        regions: gives the region map (H, W) of a picture.
        teacher_maps: gives the teacher's map (D, h, w) of a picture.
        config: how pictures are loaded and views drawn.
        stride: the student's stride.
        seed: of the stream.
        draw: pixels of each picture's views that L_t is averaged over; 0 takes all.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        regions: Callable[[RGB], NDArray[np.integer]],
        teacher_maps: Callable[[RGB], Tensor],
        config: DataConfig,
        stride: int,
        seed: int,
        draw: int = 0,
    ):
        self._draw = draw
        self._paths, self._regions, self._teacher_maps = paths, regions, teacher_maps
        self._config, self._stride, self._seed = config, stride, seed

    def picture(self, position: int) -> Path:
        """The picture at a position."""
        epoch, index = divmod(position, len(self._paths))
        order = torch.randperm(len(self._paths), generator=seeded(self._seed, ORDER, epoch))
        return self._paths[int(order[index])]

    def __getitem__(self, position: int) -> Item:
        path = self.picture(position)
        image = load_photograph(path, self._config.long_side)
        views = make_views(
            to_tensor(image),
            torch.from_numpy(self._regions(image)),
            self._teacher_maps(image),
            self._config,
            self._stride,
            seeded(self._seed, VIEW, position),
        )
        return Item(views, draw_pixels(views.regions.numel(), self._draw, seeded(self._seed, PIXELS, position)), str(path))


def draw_pixels(pixels: int, limit: int, generator: torch.Generator) -> Tensor:
    """Indices of the pixels that L_t is averaged over: all, or ``limit`` different ones, each as likely as another."""
    if not limit or limit >= pixels:
        return torch.arange(pixels)
    return torch.randperm(pixels, generator=generator)[:limit]


def collate(items: Sequence[Item]) -> Batch:
    """Join the views of B images; regions and pixels are numbered through."""
    regions, drawn, first_region, first_pixel = [], [], 0, 0
    for views, chosen, _ in items:
        regions.append(torch.where(views.regions == IGNORED, IGNORED, views.regions + first_region))
        drawn.append(chosen + first_pixel)
        first_region += int(views.regions.max()) + 1
        first_pixel += views.regions.numel()
    return Batch(
        torch.cat([item.views.images for item in items]),
        torch.cat(regions),
        torch.cat([item.views.pixel_map for item in items]),
        torch.cat(drawn),
        tuple(item.name for item in items),
    )


class Positions(Sampler[int]):
    """Positions of the stream that a rank trains on, in order.

    A step takes ``parts`` batches (gradient accumulation) one after the other; each batch of ``world * batch`` pictures
    is split among the ranks as one process with that batch would have them in a row.

    Args:
        steps: the steps, e.g. from the one resumed to the last.
        parts: batches per step.
        batch: pictures per batch and rank.
        rank, world: this rank's place among how many.
    """

    def __init__(self, steps: range, parts: int, batch: int, rank: int = 0, world: int = 1):
        self._parts = range(steps.start * parts, steps.stop * parts)
        self._batch, self._rank, self._world = batch, rank, world

    def __len__(self) -> int:
        return len(self._parts) * self._batch

    def __iter__(self) -> Iterator[int]:
        for part in self._parts:
            first = (part * self._world + self._rank) * self._batch
            yield from range(first, first + self._batch)


def batches(
    stream: ViewStream, places: Sampler[int], batch: int, workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """Batches of ``batch`` pictures at the given positions of the stream.

    Args:
        workers: loader processes; 0 loads in this one.
        pin: put them into page-locked memory, from which CUDA copies them while it computes.
    """
    yield from DataLoader(
        stream,
        batch_size=batch,
        sampler=places,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
    )
