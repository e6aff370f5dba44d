"""The stream of training batches, a pure function of seed and position.

Position p of the stream is image p mod N of epoch p div N, in the epoch's own random order, with augmentations drawn
from a generator seeded by (seed, p). So neither the number of loader processes, nor that of ranks, nor an interruption
changes what is trained on.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from clips4.config import Config
from clips4.data.image_folder import load_training_image
from clips4.data.image_source import ImageFiles, ImageShards, Source, decode_sample
from clips4.data.label_maps import IGNORED
from clips4.data.rng import ORDER, seeded
from clips4.data.shards.stream import read_forever
from clips4.data.views import Item, ItemMaker, Views, warp_map
from clips4.errors import UserError
from clips4.utils.interrupts import ignore_stopping
from clips4.utils.parallel import allow_open_files

_TENSORS = 64  # shared at once for a collated batch or an image, each an open file: two batches ahead, some to spare
_CAUGHT = re.compile(
    r"Caught \w+ in DataLoader worker process .*\n"
    r"[\w.]+: (\[Errno (?P<number>\d+)\] [^:]*(: '(?P<path>.*?)'.*)?|(?P<text>[^\n]*))",
    re.DOTALL,
)
_HOPELESS = 1000  # images in a row that cannot be read


class Batch(NamedTuple):
    """Views of B images, the V views of an image side by side.

    Attributes:
        images: (B * V, 3, H, W) in [0, 1].
        regions: (B * V, h, w) numbered through over the images, so that two images never share a number.
        pixel_map: (B * V, D, h, w) unit along D.
        drawn: (N,) indices of the batch's B * V * h * w pixels that L_t is averaged over.
        names: (B,) the images.
    """

    images: Tensor
    regions: Tensor
    pixel_map: Tensor
    drawn: Tensor
    names: tuple[str, ...]


class ViewStream(Dataset[Item]):
    """Maps positions of the stream to items.

    Args:
        paths: usable images.
        make_item: turns an image into its part of a batch.
    """

    def __init__(self, paths: Sequence[Path], make_item: ItemMaker):
        self._paths, self._make_item = paths, make_item
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)  # drawn once per epoch, not per image

    def image(self, position: int) -> Path:
        """The image at a position."""
        epoch, index = divmod(position, len(self._paths))
        if epoch != self._epoch:
            order = torch.randperm(len(self._paths), generator=seeded(self._make_item.seed, ORDER, epoch))
            self._epoch, self._order = epoch, order
        return self._paths[int(self._order[index])]

    def __getitem__(self, position: int) -> Item:
        path = self.image(position)
        image = load_training_image(path, self._make_item.config.long_side)
        return self._make_item(image, str(path), position)


class ShardStream(IterableDataset[Item]):
    """The items of one rank from tar shards, from a batch of the run on.

    Loader process w of W reads lane ``rank * W + w`` of ``world * W``; loaders take turns batch by batch. So the stream
    is a function of seed, ranks and loader processes, and resumes anywhere without reading earlier samples.

    Args:
        shards: see ``data.shards.stream``.
        make_item: turns an image into its part of a batch.
        batch: images per batch.
        first_batch: number of batches that this rank has consumed.
        rank, world: this rank's place among how many.
    """

    def __init__(
        self, shards: Sequence[str], make_item: ItemMaker, batch: int, first_batch: int, rank: int = 0, world: int = 1
    ):
        self._shards, self._make_item, self._batch = shards, make_item, batch
        self._first_batch, self._rank, self._world = first_batch, rank, world

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        # the loader starts with process 0, also in a resumed run where it was another's turn
        turn = (number + self._first_batch) % workers
        lane, lanes = self._rank * workers + turn, self._world * workers
        had = len(range(turn, self._first_batch, workers)) * self._batch
        samples = read_forever(self._shards, self._make_item.seed, lane, lanes, had, on_skip=lambda _: None)
        waiting: list[int] = []
        for index, sample in enumerate(samples, had):
            waiting.append(index * lanes + lane)
            try:
                image = decode_sample(sample, self._make_item.config.long_side)
            except UserError:  # reported during the prototype search; the next image takes its place
                if len(waiting) > _HOPELESS:
                    raise
                continue
            for place in waiting:
                yield self._make_item(image, sample.name, place)
            waiting.clear()


class MapEncoder(Protocol):
    """Computes the teacher's map now: (3, H, W) in [0, 1] -> (D, h, w), on the teacher's device."""

    def __call__(self, image: Tensor) -> Tensor: ...


def encode_views(item: Item, encode: MapEncoder) -> Item:
    """The item with the teacher's map added to its views."""
    if isinstance(item.views, Views):
        return item
    images, regions, image, crops = item.views
    pixel_map = encode(image)
    warped = [warp_map(pixel_map, crop, regions.shape[-1]) for crop in crops.to(pixel_map.device)]
    return item._replace(views=Views(images, regions, torch.stack(warped)))


def collate(items: Sequence[Item]) -> Batch:
    """Join the views of B images; regions and pixels are numbered through."""
    regions, drawn, first_region, first_pixel = [], [], 0, 0
    for views, chosen, _ in items:
        assert isinstance(views, Views), "encode_views comes first"
        regions.append(torch.where(views.regions == IGNORED, IGNORED, views.regions + first_region))
        drawn.append(chosen + first_pixel)
        first_region += int(views.regions.max()) + 1
        first_pixel += views.regions.numel()
    return Batch(
        torch.cat([item.views.images for item in items]),
        torch.cat(regions),
        torch.cat([views.pixel_map for views, _, _ in items if isinstance(views, Views)]),
        torch.cat(drawn),
        tuple(item.name for item in items),
    )


class Positions(Sampler[int]):
    """Positions of the stream that a rank trains on, in order.

    A step takes ``parts`` batches (gradient accumulation) one after the other; each batch of ``world * batch`` images
    is split among the ranks as one process with that batch would have them in a row.

    Args:
        steps: the steps, e.g. from the one resumed to the last.
        parts: batches per step.
        batch: images per batch and rank.
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
    stream: Dataset[Item],
    places: Positions | None,
    batch: int,
    workers: int = 0,
    pin: bool = False,
    encode: MapEncoder | None = None,
) -> Iterator[Batch]:
    """Batches of ``batch`` images.

    Args:
        stream: of images.
        places: positions of a ``ViewStream``; None for a ``ShardStream``, which knows its own.
        batch: images per batch.
        workers: loader processes; 0 loads in this one.
        pin: use page-locked memory, from which CUDA copies while it computes.
        encode: computes teacher maps in this process, for items without them.
    """
    allow_open_files(workers, _TENSORS * (batch if encode else 1))
    loader = DataLoader(
        stream,
        batch_size=batch,
        sampler=places,
        num_workers=workers,
        collate_fn=list if encode else collate,
        pin_memory=pin,
        worker_init_fn=ignore_stopping,
    )
    others = set(active_children())
    try:
        iterator = iter(loader)
    except BaseException:
        _end(set(active_children()) - others)
        raise
    started = set(active_children()) - others  # none of later ones, which are not the loader's
    try:
        for loaded in iterator:
            yield collate([encode_views(Item(*item), encode) for item in loaded]) if encode else loaded
    except BaseException:
        _end(started)
        raise


def _end(workers: Collection[BaseProcess]) -> None:
    """End processes that ignore SIGTERM; Python would wait for them when it ends, since an error keeps their loader."""
    for worker in workers:
        with suppress(RuntimeError):  # PyTorch raises one wherever the program is when a loader process dies
            worker.kill()
            worker.join()


def loader_error(error: Exception) -> Exception | None:
    """What happened in a loader process, if this is PyTorch's report of it; it raises one in any line of the loop.

    An error of the process itself comes as text with its traceback, and without an error number.
    """
    if str(error).startswith("DataLoader worker"):
        return UserError(f"{error}; it may have run out of memory: lower data.workers, then resume the run")
    if not (found := _CAUGHT.fullmatch(str(error).strip())):
        return None
    if number := found["number"]:
        return OSError(int(number), os.strerror(int(number)), found["path"])
    return UserError(found["text"]) if isinstance(error, UserError) else None


def training_batches(
    source: Source,
    skipped: Collection[int],
    make_item: ItemMaker,
    config: Config,
    first_step: int,
    rank: int,
    world: int,
    pin: bool,
    encode: MapEncoder | None = None,
) -> Iterator[Batch]:
    """The batches of a rank from a step on: ``train.accumulate`` for each step.

    Args:
        source: the training images.
        skipped: numbers of those that cannot be used.
        make_item: turns an image into its part of a batch.
        config: of the run.
        first_step: the step to start from.
        rank, world: this rank's place among how many.
        pin, encode: see ``batches``.
    """
    batch, parts, workers = config.train.batch, config.train.accumulate, config.data.workers
    if isinstance(source, ImageShards):
        shards = ShardStream(source.shards, make_item, batch, first_step * parts, rank, world)
        return batches(shards, None, batch, workers, pin, encode)
    assert isinstance(source, ImageFiles)
    usable = [path for number, path in enumerate(source.paths) if number not in skipped]
    places = Positions(range(first_step, config.train.steps), parts, batch, rank, world)
    return batches(ViewStream(usable, make_item), places, batch, workers, pin, encode)
