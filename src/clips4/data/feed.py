"""The batches that a rank trains on, whatever the pictures come from."""

from collections.abc import Collection, Iterator

from clips4.config import Config
from clips4.data.image_source import ImageFiles, ImageShards, Source
from clips4.data.loader import Batch, ItemMaker, MapReader, Positions, ShardStream, ViewStream, batches


def training_batches(
    source: Source,
    skipped: Collection[int],
    make_item: ItemMaker,
    config: Config,
    first_step: int,
    rank: int,
    world: int,
    pin: bool,
    read: MapReader | None = None,
) -> Iterator[Batch]:
    """The batches of a rank from a step on: ``train.accumulate`` for each step.

    Args:
        source: of the pictures.
        skipped: numbers of those that cannot be used.
        make_item: what is made of each.
        config: of the run.
        first_step: the step begun or gone on with.
        rank, world: this rank's place among how many.
        pin, read: see ``loader.batches``.
    """
    batch, parts, workers = config.train.batch, config.train.accumulate, config.data.workers
    if isinstance(source, ImageShards):
        shards = ShardStream(source.shards, make_item, batch, first_step * parts, rank, world)
        return batches(shards, None, batch, workers, pin, read)
    assert isinstance(source, ImageFiles)
    usable = [path for number, path in enumerate(source.paths) if number not in skipped]
    places = Positions(range(first_step, config.train.steps), parts, batch, rank, world)
    return batches(ViewStream(usable, make_item), places, batch, workers, pin, read)
