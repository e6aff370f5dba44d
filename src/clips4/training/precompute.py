"""What a run computes once, before its first step: teacher maps, regions and class prototypes.

    RUN/prepared/pictures.json            number of training images, and those that were skipped
    RUN/prepared/prototypes.safetensors   text vectors, initial known and unknown prototypes, bank of segments

A resumed run loads both, so that it does not depend on a second pass.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from clips4.config import Config, PerClass
from clips4.data.class_names import ClassList
from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import ImageFiles, Source
from clips4.data.rng import UNKNOWN, seeded
from clips4.errors import UserError
from clips4.method.calibration import SpaceCalibration
from clips4.method.prototype_search import PrototypeSearch, teacher_segments
from clips4.method.prototypes import sample_unknown
from clips4.models.checkpoint import Prototypes
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.regions.cache import RegionCache
from clips4.regions.workers import ImageWithRegions, images_with_regions
from clips4.utils import distributed
from clips4.utils.atomic_io import atomic_folder
from clips4.utils.cache import content_key, is_sealed, sealed, settings_key
from clips4.utils.progress import ProgressReporter
from clips4.utils.tensors import read_tensors, write_tensors
from clips4.utils.text import plural, read_json

BANK_SEGMENTS = 4096  # kept with the run, of the ``prototypes.sample`` segments drawn at random
_WAITING = 4  # batches of images that wait in memory for others of their size
FOLDER, IMAGES, VECTORS = "prepared", "pictures.json", "prototypes.safetensors"


class Prepared(NamedTuple):
    """The stored result of the pass.

    Attributes:
        images: number of usable images.
        skipped: the others with the reason, by their numbers in the source.
        prototypes: their initial values.
    """

    images: int
    skipped: dict[int, SkippedImage]
    prototypes: Prototypes


def prepare(
    source: Source,
    classes: ClassList,
    config: Config,
    text: Tensor,
    regions: RegionCache,
    teacher_maps: TeacherMaps,
    run: Path,
    progress: ProgressReporter,
    space: SpaceCalibration | None = None,
) -> Prepared:
    """One pass over the images, or the stored result of an earlier one in the same folder.

    Regions and teacher maps go to their caches, segments to the prototype search; memory does not grow with the number
    of images. Ranks split the images among themselves. MaskCLIP+ has no prototypes: its classifier is the text, and it
    has no unknown classes.

    ``text`` and ``teacher_maps`` lie in ``space``, which is stored with the prototypes.

    Raises:
        UserError: no image is usable.
    """
    # what the result depends on, so that a run with other settings in the same folder is not reused
    decisive = config.decisive()
    settings = {section: decisive[section] for section in ("regions", "teacher", "segments", "prototypes")}
    extensions = ("unknown_share", "exclusive_prototypes", "reference_share")
    settings |= {"extensions": {name: getattr(config.extensions, name) for name in extensions}}
    settings |= {"long_side": config.data.long_side, "mode": config.objective.mode, "seed": config.train.seed}
    key = settings_key({"pictures": source.digest, "words": classes.aliases, **settings})
    if (found := _read(run / FOLDER, key, classes, config.prototypes.per_class, progress.log)) is not None:
        return found

    sample = max(config.prototypes.sample, config.prototypes.unknown)
    exclusive = config.extensions.exclusive_prototypes
    per_class = config.prototypes.per_class
    search = PrototypeSearch(text, config.prototypes.m, sample, config.train.seed, exclusive, per_class)
    skipped: list[tuple[int, str, str]] = []
    with_prototypes = config.objective.mode == "clips4"
    usable, rank, world = 0, distributed.rank(), distributed.world_size()
    progress.stage("encoding images", source.count(rank, world))
    with teacher_maps.shared_pass():
        for group in by_size(_read_images(source, regions, config, rank, world), config.teacher.batch):
            usable += len(group) if group[0].regions is not None else 0
            skipped += [(number, str(path), image) for number, path, image, _ in group if isinstance(image, str)]
            if group[0].regions is not None and (with_prototypes or teacher_maps.sharded):
                maps = teacher_maps.many([each.image for each in group if not isinstance(each.image, str)])
                if with_prototypes:
                    _add_segments(search, group, maps, config)
            for _ in group:
                progress.advance({})
    usable = sum(distributed.gather_objects(usable))
    left_out = sorted(part for share in distributed.gather_objects(skipped) for part in share)
    if not usable:
        raise UserError(f"none of {plural(len(left_out), 'image')} can be used; the first: {left_out[0][2]}")
    known, unknown, bank = text.clone(), text[:0], None
    if with_prototypes:
        known, drawn = search.result()
        random = seeded(config.train.seed, UNKNOWN)
        unknown = sample_unknown(drawn, config.prototypes.unknown, random, known, config.extensions.unknown_share)
        bank = drawn[:BANK_SEGMENTS].half()
    reasons = {number: SkippedImage(Path(path), reason) for number, path, reason in left_out}
    found = Prepared(usable, reasons, Prototypes(classes, text, known, unknown, bank, space=space, per_class=per_class))
    if rank == 0:
        _write(run / FOLDER, key, found)
    return found


def _add_segments(
    search: PrototypeSearch, group: list[ImageWithRegions], maps: Sequence[Tensor], config: Config
) -> None:
    for each, pixel_map in zip(group, maps, strict=True):
        assert each.regions is not None
        search.add(each.number, teacher_segments(pixel_map, torch.from_numpy(each.regions), config.segments)[0])


def _read_images(
    source: Source, regions: RegionCache, config: Config, rank: int, world: int
) -> Iterator[ImageWithRegions]:
    """This rank's images with their regions: of files in ``data.workers`` processes, of shards in this one."""
    side = config.data.long_side
    if isinstance(source, ImageFiles):
        numbered = ((number, source.paths[number]) for number in range(rank, len(source.paths), world))
        yield from images_with_regions(numbered, regions, side, config.data.workers)
        return
    for number, path, image in source.iterate(side, rank, world):
        yield ImageWithRegions(number, path, image, None if isinstance(image, str) else regions(image, path))


def by_size(images: Iterable[ImageWithRegions], batch: int) -> Iterator[list[ImageWithRegions]]:
    """Groups of ``batch`` images of one size; smaller ones at the end, and where too many images wait.

    An image that cannot be used is a group of its own.
    """
    waiting: dict[tuple[int, ...], list[ImageWithRegions]] = {}
    for each in images:
        if isinstance(each.image, str):
            yield [each]
            continue
        group = waiting.setdefault(each.image.shape, [])
        group.append(each)
        if len(group) == batch:
            yield waiting.pop(each.image.shape)
        elif sum(map(len, waiting.values())) >= _WAITING * batch:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def _write(folder: Path, key: str, prepared: Prepared) -> None:
    with atomic_folder(folder) as beside:
        prototypes = prepared.prototypes
        vectors = {"text": prototypes.text, "known": prototypes.known, "unknown": prototypes.unknown}
        vectors |= {"bank": prototypes.bank} if prototypes.bank is not None else {}
        vectors |= prototypes.space.tensors() if prototypes.space is not None else {}
        write_tensors(beside / VECTORS, vectors)
        skipped = [[number, str(path), reason] for number, (path, reason) in prepared.skipped.items()]
        digest = content_key((beside / VECTORS).read_bytes())
        facts = sealed({"key": key, "pictures": prepared.images, "skipped": skipped, "vectors": digest})
        (beside / IMAGES).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _read(
    folder: Path, key: str, classes: ClassList, per_class: PerClass, log: Callable[[str], None]
) -> Prepared | None:
    """What was prepared with the same key; None where there is nothing, or a byte of it has changed."""
    if not (folder / IMAGES).exists():
        return None
    try:
        found = read_json(folder / IMAGES)
        vectors = read_tensors(folder / VECTORS)
        if not is_sealed(found, ("key", "pictures", "skipped")) or (
            "vectors" in found and found["vectors"] != content_key((folder / VECTORS).read_bytes())
        ):
            raise ValueError("a digest differs")
        skipped = {int(number): SkippedImage(Path(path), str(reason)) for number, path, reason in found["skipped"]}
        prototypes = Prototypes(
            classes,
            vectors["text"],
            vectors["known"],
            vectors["unknown"],
            vectors.get("bank"),
            space=SpaceCalibration.from_tensors(vectors),
            per_class=per_class,
        )
        return Prepared(int(found["pictures"]), skipped, prototypes) if found["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(f"{folder}: damaged or changed ({error}); made again")
        return None
