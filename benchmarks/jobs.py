"""The 24 small jobs of ``small_jobs.py``: what a user with a few images and a few names brings, drawn by a fixed rule.

12 of COCO photographs (6 from the images of even, 6 from those of odd number; the images show the names), 6 of street
scenes (CamVid) and 6 of video frames (DAVIS-2016; early frames train, late frames are scored). 12 to 142 images and 3
to 17 names; no image that is scored is trained on. Jobs of half A may choose settings, those of half B report them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from named_objects import object_names
from numpy.typing import NDArray

from clips4.data.benchmarks.registry import semantic_spec
from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_folder import find_images
from clips4.data.label_maps import IGNORE, read_labels
from clips4.data.segmentation_dataset import LabeledFolder

STUFF = ("grass", "water", "road", "tree", "building", "sky", "sand")  # of DAVIS, not scored
COCO = ((3, 12), (5, 12), (6, 24), (8, 24), (10, 40), (15, 40))  # names, images
CAMVID = ((3, 12), (5, 24), (6, 48), (8, 96), (11, 24), (11, 120))
DAVIS = ((2, 1, 12), (2, 3, 24), (3, 3, 24), (4, 4, 40), (6, 5, 80), (10, 7, 136))  # sequences, stuff, images
VISIBLE = 0.005  # share of an image that a class covers before the image counts as showing it
SCORED = 12  # images, about
Prediction = Callable[[Path], NDArray[np.integer]]


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: set, half, number of names and of images.
        half: "A" or "B".
        train: unlabeled images.
        score: labeled images, none of them in ``train``.
        classes: the K names.
        truth: image -> (H, W) of 0..K-1, K for what no name is for, or ``IGNORE``.
        groups: classes whose pixels together are one scored object, by the name of the images' folder; empty where
            every class is scored.
    """

    name: str
    half: str
    train: tuple[Path, ...]
    score: tuple[Path, ...]
    classes: ClassList
    truth: Prediction
    groups: dict[str, tuple[int, ...]]


def make_jobs(data: Path) -> list[Job]:
    """All 24, in a fixed order."""
    return _coco_jobs(data) + _camvid_jobs(data) + _davis_jobs(data)


def _named(classes: ClassList, rows: list[int]) -> ClassList:
    return ClassList(tuple(classes.names[i] for i in rows), tuple(classes.aliases[i] for i in rows))


def _truth(dataset: LabeledFolder, rows: list[int]) -> Prediction:
    """Truth maps in the job's own numbers."""
    number = {path: index for index, path in enumerate(dataset.images)}
    table = np.full(256, len(rows), np.uint8)
    table[IGNORE], table[rows] = IGNORE, np.arange(len(rows))
    return lambda path: table[dataset.truth(number[path])]


def _coco_jobs(data: Path) -> list[Job]:
    dataset, jobs = semantic_spec("coco128").load(data / "coco128"), []
    images = find_images(data / "coco128/images")
    labeled = {path: dataset.truth(index) for index, path in enumerate(dataset.images)}
    for half in (0, 1):
        pool = images[half::2]
        shows: dict[int, set[Path]] = {}
        for path in (path for path in pool if path in labeled):
            truth = labeled[path]
            for label in np.unique(truth[truth != IGNORE]).tolist():
                if (truth == label).mean() > VISIBLE:
                    shows.setdefault(label, set()).add(path)
        twice = sorted(label for label, paths in shows.items() if len(paths) >= 2)
        for number, (names, count) in enumerate(COCO):
            draw = random.Random(f"coco-{half}-{number}")
            rows = sorted(draw.sample(twice, min(names, len(twice))))
            train, score = _split(pool, {row: shows[row] for row in rows}, count, draw)
            job = f"coco-{half}-{len(rows)}-names-{len(train)}-images"
            jobs.append(Job(job, "AB"[half], train, score, _named(dataset.classes, rows), _truth(dataset, rows), {}))
    return jobs


def _split(
    pool: list[Path], shows: dict[int, set[Path]], count: int, draw: random.Random
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Images to train on and to score: each name is in both."""
    mine = sorted(set().union(*shows.values()))
    draw.shuffle(mine)
    score: list[Path] = []
    for paths in shows.values():
        if not any(path in paths for path in score):
            score.append(next(path for path in mine if path in paths))
    for path in mine:
        stays = all(paths - set(score) - {path} for paths in shows.values())
        if len(score) < min(SCORED, len(mine) // 2) and path not in score and stays:
            score.append(path)
    others = [path for path in pool if path not in mine]
    draw.shuffle(others)
    return tuple(([path for path in mine if path not in score] + others)[:count]), tuple(score)


def _camvid_jobs(data: Path) -> list[Job]:
    train, score = find_images(data / "camvid/train")[::3], find_images(data / "camvid/val")[::3]
    dataset, jobs = semantic_spec("camvid11").load(data / "camvid", "val"), []
    for number, (names, count) in enumerate(CAMVID):
        draw = random.Random(f"camvid-{number}")
        rows = sorted(draw.sample(range(len(dataset.classes)), names))
        chosen = tuple(draw.sample(train, count)), tuple(draw.sample(score, SCORED))
        job = f"camvid-{names}-names-{count}-images"
        jobs.append(Job(job, "AB"[number % 2], *chosen, _named(dataset.classes, rows), _truth(dataset, rows), {}))
    return jobs


def _davis_jobs(data: Path) -> list[Job]:
    classes, jobs = load_classes("davis16-names"), []
    objects, frames = object_names(classes), data / "davis16/JPEGImages/480p"
    for number, (sequences, stuff, count) in enumerate(DAVIS):
        draw = random.Random(f"davis-{number}")
        mine = sorted(draw.sample(sorted(objects), sequences))
        drawn = sorted(draw.sample([classes.names.index(name) for name in STUFF], stuff))
        rows = sorted({row for sequence in mine for row in objects[sequence]} | set(drawn))
        train: list[Path] = []
        score: list[Path] = []
        for sequence in mine:
            found = find_images(frames / sequence)
            early = [found[i] for i in range(0, len(found), 3) if i < 0.6 * len(found)]
            late = [found[i] for i in range(0, len(found), 3) if i >= 0.7 * len(found)]
            train += early[:: max(1, len(early) * sequences // count)]
            score += late[:: max(1, len(late) * sequences // SCORED)]
        job = f"davis-{len(rows)}-names-{len(train)}-images"
        groups = {sequence: tuple(rows.index(row) for row in objects[sequence]) for sequence in mine}
        jobs.append(
            Job(job, "AB"[number % 2], tuple(train), tuple(score), _named(classes, rows), _object_truth, groups)
        )
    return jobs


@lru_cache(maxsize=256)
def _object_truth(path: Path) -> NDArray[np.integer]:
    """(H, W) 1 on the object, 0 elsewhere."""
    annotations = path.parents[3] / "Annotations/480p" / path.parent.name
    return (read_labels(annotations / f"{path.stem}.png") > 0).astype(np.uint8)


@dataclass(frozen=True)
class Score:
    """Of one prediction for one job.

    Attributes:
        named: mIoU over the names on pixels that show one of them; of DAVIS the IoU of the object.
        all: the same where naming what no name is for counts as a mistake.
        eaten: share of the pixels of named classes that are called unknown.
    """

    named: float
    all: float
    eaten: float


def score(job: Job, predict: Prediction) -> Score:
    """Score a job.

    Args:
        predict: image -> (H, W) of 0..K-1, negative where unknown.
    """
    return _score_objects(job, predict) if job.groups else _score_classes(job, predict)


def _score_classes(job: Job, predict: Prediction) -> Score:
    count = len(job.classes)
    confusion = np.zeros((count + 1, count + 1), np.int64)
    for path in job.score:
        truth, labels = job.truth(path).astype(np.int64), predict(path).astype(np.int64)
        labels, seen = np.where(labels < 0, count, labels), truth != IGNORE
        confusion += np.bincount(truth[seen] * (count + 1) + labels[seen], minlength=(count + 1) ** 2).reshape(
            count + 1, -1
        )
    hits, named = confusion.diagonal()[:count], confusion[:count]
    present = named.sum(1) > 0

    def miou(counted: NDArray[np.int64]) -> float:
        union = named.sum(1) + counted[:, :count].sum(0) - hits
        return float((hits / np.maximum(union, 1))[present].mean())

    return Score(miou(named), miou(confusion), float(named[:, count].sum() / named.sum()))


def _score_objects(job: Job, predict: Prediction) -> Score:
    found: dict[str, list[float]] = {}
    eaten = []
    for path in job.score:
        truth, labels = job.truth(path) > 0, predict(path)
        if truth.any():
            own = np.isin(labels, job.groups[path.parent.name])
            found.setdefault(path.parent.name, []).append(float((own & truth).sum() / (own | truth).sum()))
            eaten.append(float((labels[truth] < 0).mean()))
    iou = float(np.mean([np.mean(values) for values in found.values()]))
    return Score(iou, iou, float(np.mean(eaten)))
