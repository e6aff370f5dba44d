"""What a run computes once, before its first step: each picture read by the teacher, and the class prototypes.

    RUN/prepared/pictures.json            which pictures are trained on, and which were left out
    RUN/prepared/prototypes.safetensors   text vectors, known and unknown prototypes as they start

A resumed run takes both from there, so that it never depends on a second reading.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clips4 import ranks
from clips4.caching import settings_key
from clips4.checkpoints import Prototypes
from clips4.config import Config, SegmentConfig
from clips4.data.folders import Skipped, load_photograph
from clips4.data.streams import UNKNOWN, seeded
from clips4.errors import UserError
from clips4.listening import Listener
from clips4.prototype_search import PrototypeSearch
from clips4.prototypes import known_prototypes, sample_unknown, teacher_segments
from clips4.regions import RegionCache
from clips4.teachers import Teacher
from clips4.teachers.cache import TeacherMaps
from clips4.vocabulary import ClassList, class_vectors, load_templates

FOLDER, PICTURES, VECTORS = "prepared", "pictures.json", "prototypes.safetensors"


class Prepared(NamedTuple):
    """What the loop needs that is computed once.

    Attributes:
        pictures: those trained on.
        skipped: those left out, with the reason.
        prototypes: as they start.
        digest: of the pictures that were given, by name and size: a run is resumed with the same.
    """

    pictures: list[Path]
    skipped: list[Skipped]
    prototypes: Prototypes
    digest: str


def prepare(
    paths: Sequence[Path],
    classes: ClassList,
    config: Config,
    teacher: Teacher,
    regions: RegionCache,
    teacher_maps: TeacherMaps,
    run: Path,
    listener: Listener,
) -> Prepared:
    """Read each usable picture once, or take what a run that stands there already has found.

    Regions and teacher maps go to their caches, segments to the search for prototypes, in one pass whose memory does not
    grow with the number of pictures. Ranks share the pictures among themselves.

    Raises:
        UserError: no picture is usable.
    """
    if not paths:
        raise UserError("no picture was given to train on")
    pictures = settings_key({"pictures": [(path.name, path.stat().st_size) for path in paths]})
    # what the result depends on; a run of other settings in the same folder is not mistaken for this one
    parts = {"data": {"long_side"}, "regions": True, "teacher": True, "segments": True, "prototypes": True}
    settings = config.model_dump(mode="json", include=parts)
    key = settings_key({"pictures": pictures, "words": classes.words, "seed": config.train.seed, **settings})
    if (found := _read(run / FOLDER, key, paths, classes, pictures)) is not None:
        return found

    text = class_vectors(teacher, classes, load_templates(config.teacher.templates)).cpu()
    sample = max(config.prototypes.sample, config.prototypes.unknown)
    search, skipped = PrototypeSearch(text, config.prototypes.m, sample, config.train.seed), []
    mine = range(ranks.rank(), len(paths), ranks.world_size())
    listener.stage("reading pictures", len(mine))
    for number in mine:
        try:
            image = load_photograph(paths[number], config.data.long_side)
        except UserError as error:
            skipped.append((number, str(error)))
        else:
            at_picture = torch.from_numpy(regions(image))
            search.add(picture_segments(teacher_maps(image), at_picture, config.segments), number)
        listener.advance({})
    reasons = dict(sorted(pair for part in ranks.gather_objects(skipped) for pair in part))
    if len(reasons) == len(paths):
        raise UserError(f"none of {len(paths)} pictures can be used; the first: {reasons[0]}")
    near, drawn = search.candidates()
    known = known_prototypes(text, near, config.prototypes.m)
    random = seeded(config.train.seed, UNKNOWN)
    unknown = sample_unknown(drawn, config.prototypes.unknown, random, known, config.prototypes.unknown_share)
    prepared = _assemble(paths, reasons, Prototypes(classes, text, known, unknown), pictures)
    if ranks.rank() == 0:
        _write(run / FOLDER, key, reasons, prepared.prototypes)
    return prepared


def picture_segments(pixel_map: Tensor, regions: Tensor, config: SegmentConfig) -> Tensor:
    """The teacher segments (S, D) of one picture, its (H, W) regions brought to the map's (D, h, w) resolution."""
    pixel_map = F.normalize(pixel_map.float(), dim=0)
    at_map = F.interpolate(regions[None, None].double(), pixel_map.shape[1:], mode="nearest-exact")[0, 0].long()
    return teacher_segments(pixel_map, at_map, config.clusters, config.iterations, config.location_weight)


def _assemble(paths: Sequence[Path], reasons: dict[int, str], prototypes: Prototypes, digest: str) -> Prepared:
    return Prepared(
        [path for number, path in enumerate(paths) if number not in reasons],
        [Skipped(paths[number], reason) for number, reason in reasons.items()],
        prototypes,
        digest,
    )


def _write(folder: Path, key: str, reasons: dict[int, str], prototypes: Prototypes) -> None:
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        vectors = {"text": prototypes.text, "known": prototypes.known, "unknown": prototypes.unknown}
        save_file({name: value.contiguous() for name, value in vectors.items()}, beside / VECTORS)
        text = json.dumps({"key": key, "skipped": reasons}, indent=2)
        (beside / PICTURES).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _read(folder: Path, key: str, paths: Sequence[Path], classes: ClassList, digest: str) -> Prepared | None:
    """What was prepared with the same key; None where there is nothing whole."""
    try:
        found = json.loads((folder / PICTURES).read_text(encoding="utf-8"))
        if found["key"] != key:
            return None
        reasons = {int(number): str(reason) for number, reason in found["skipped"].items()}
        vectors = load_file(folder / VECTORS)
        prototypes = Prototypes(classes, vectors["text"], vectors["known"], vectors["unknown"])
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError):
        return None
    return _assemble(paths, reasons, prototypes, digest)
