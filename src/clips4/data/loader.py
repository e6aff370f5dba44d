"""The stream of training batches, a pure function of seed and position.

Position p of the stream is picture p mod N of epoch p div N, in the epoch's own random order, with augmentations drawn
from a generator seeded by (seed, p). So neither the number of loader processes nor an interruption changes what is
trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clips4.config import DataConfig
from clips4.data.folders import load_photograph
from clips4.data.streams import ORDER, VIEW, seeded
from clips4.data.views import Views, make_views
from clips4.images import RGB, to_tensor
from clips4.segments import IGNORED


class Batch(NamedTuple):
    """Views of B images, the V views of an image side by side.

    Attributes:
        images: (B * V, 3, H, W) in [0, 1].
        regions: (B * V, h, w) numbered through over the images, so that two images never share a number.
        pixel_map: (B * V, D, h, w) unit along D.
    """

    images: Tensor
    regions: Tensor
    pixel_map: Tensor


class ViewStream(Dataset[Views]):
    """Maps positions of the stream to views.

    Args:
        paths: usable pictures.
        regions: gives the region map (H, W) of a picture and its file.
        teacher_maps: gives the teacher's map (D, h, w) of a picture.
        config: how pictures are loaded and views drawn.
        stride: the student's stride.
        seed: of the stream.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        regions: Callable[[RGB, Path], NDArray[np.integer]],
        teacher_maps: Callable[[RGB], Tensor],
        config: DataConfig,
        stride: int,
        seed: int,
    ):
        self._paths, self._regions, self._teacher_maps = paths, regions, teacher_maps
        self._config, self._stride, self._seed = config, stride, seed

    def picture(self, position: int) -> Path:
        """The picture at a position."""
        epoch, index = divmod(position, len(self._paths))
        order = torch.randperm(len(self._paths), generator=seeded(self._seed, ORDER, epoch))
        return self._paths[int(order[index])]

    def __getitem__(self, position: int) -> Views:
        path = self.picture(position)
        image = load_photograph(path, self._config.long_side)
        return make_views(
            to_tensor(image),
            torch.from_numpy(self._regions(image, path)),
            self._teacher_maps(image),
            self._config,
            self._stride,
            seeded(self._seed, VIEW, position),
        )


def collate(items: Sequence[Views]) -> Batch:
    """Join the views of B images; regions are numbered through."""
    regions, start = [], 0
    for item in items:
        regions.append(torch.where(item.regions == IGNORED, IGNORED, item.regions + start))
        start += int(item.regions.max()) + 1
    return Batch(
        torch.cat([item.images for item in items]),
        torch.cat(regions),
        torch.cat([item.pixel_map for item in items]),
    )


def batches(stream: ViewStream, batch: int, first_step: int, last_step: int, workers: int) -> Iterator[Batch]:
    """Batches of steps ``first_step`` .. ``last_step - 1``, each of ``batch`` images."""
    positions = range(first_step * batch, last_step * batch)
    yield from DataLoader(
        stream,
        batch_size=batch,
        sampler=positions,  # type: ignore[arg-type]  # any sized iterable of positions will do
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=False,
    )
