"""The stream of training batches, a pure function of seed and position.

Position p of the stream is picture p mod N of epoch p div N, in the epoch's own random order, with augmentations drawn
from a generator seeded by (seed, p). So neither the number of loader processes nor an interruption changes what is
trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clips4.config import DataConfig
from clips4.data.folders import load_photograph
from clips4.data.streams import ORDER, VIEW, seeded
from clips4.data.views import UnreadViews, Views, make_unread_views, make_views, warp_map
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
        regions: gives the region map (H, W) of a picture.
        teacher_maps: gives the teacher's map (D, h, w) of a picture.
        config: how pictures are loaded and views drawn.
        stride: the student's stride.
        seed: of the stream.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        regions: Callable[[RGB], NDArray[np.integer]],
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

    def unread(self, position: int) -> UnreadViews:
        """The views at a position, the teacher's map left out."""
        image = load_photograph(self.picture(position), self._config.long_side)
        regions = torch.from_numpy(self._regions(image))
        return make_unread_views(
            to_tensor(image), regions, self._config, self._stride, seeded(self._seed, VIEW, position)
        )

    def __getitem__(self, position: int) -> Views:
        image = load_photograph(self.picture(position), self._config.long_side)
        return make_views(
            to_tensor(image),
            torch.from_numpy(self._regions(image)),
            self._teacher_maps(image),
            self._config,
            self._stride,
            seeded(self._seed, VIEW, position),
        )


class UnreadStream(Dataset[UnreadViews]):
    """The views of a stream without the teacher's maps; loader processes have no teacher."""

    def __init__(self, stream: ViewStream):
        self._stream = stream

    def __getitem__(self, position: int) -> UnreadViews:
        return self._stream.unread(position)


class MapReader(Protocol):
    """Reads a picture with the teacher now: (3, H, W) in [0, 1] -> (D, h, w), on the teacher's device."""

    def __call__(self, image: Tensor) -> Tensor: ...


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


def batches(
    stream: ViewStream, batch: int, first_step: int, last_step: int, workers: int, read: MapReader | None = None
) -> Iterator[Batch]:
    """Batches of steps ``first_step`` .. ``last_step - 1``, each of ``batch`` images.

    Args:
        stream: of views.
        batch: images per step.
        first_step, last_step: of the run.
        workers: loader processes.
        read: where given, the teacher's maps are not the stream's but read now, in this process, by this.
    """
    positions = range(first_step * batch, last_step * batch)
    views: Dataset[Any] = UnreadStream(stream) if read else stream
    loader = DataLoader(
        views,
        batch_size=batch,
        sampler=positions,  # type: ignore[arg-type]  # any sized iterable of positions will do
        num_workers=workers,
        collate_fn=list if read else collate,
        persistent_workers=False,
    )
    for loaded in loader:
        yield collate([_read(views, read) for views in loaded]) if read else loaded


def _read(views: UnreadViews, read: MapReader) -> Views:
    pixel_map, size = read(views.image), views.regions.shape[-1]
    warped = [warp_map(pixel_map, crop, size) for crop in views.crops.to(pixel_map.device)]
    return Views(views.images, views.regions, torch.stack(warped))
