"""Scoring saved tracks: folders of predicted masks against folders of true ones, J and F by the rules of DAVIS."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import IGNORE
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import Statistics, contour_accuracy, region_similarity, statistics

Rules = Literal["davis16", "davis17"]


@dataclass(frozen=True)
class ObjectTrack:
    """Scores of one object of one sequence.

    Attributes:
        sequence, object: its name and number (1 where all objects are merged).
        frames: (N,) names of the scored frames, the first and last of the sequence left out.
        j, f: (N,) of each frame, in [0, 1].
    """

    sequence: str
    object: int
    frames: tuple[str, ...]
    j: NDArray[np.float64]
    f: NDArray[np.float64]


@dataclass(frozen=True)
class TrackingScores:
    """J and F over all objects of all sequences; each statistic is the mean over objects.

    Attributes:
        j, f: mean, recall, decay.
        j_and_f: mean of the two means.
        tracks: one per object.
    """

    j: Statistics
    f: Statistics
    j_and_f: float
    tracks: tuple[ObjectTrack, ...]


def summarise(tracks: Sequence[ObjectTrack]) -> TrackingScores:
    """The scores of a set, as the official scorer averages: over objects, whatever the length of their sequences.

    Raises:
        ValueError: there is no track.
    """
    if not tracks:
        raise ValueError("no track to score")
    j, f = (
        Statistics(*(float(np.mean(column)) for column in zip(*(statistics(values) for values in part), strict=True)))
        for part in ([track.j for track in tracks], [track.f for track in tracks])
    )
    return TrackingScores(j, f, (j.mean + f.mean) / 2, tuple(tracks))


def score_sequence(
    name: str, truths: Sequence[Path], predictions: Path, rules: Rules, objects: int | None = None
) -> list[ObjectTrack]:
    """Score one sequence from its files.

    Args:
        name: of the sequence.
        truths: all label maps of the sequence, in order; the first and last are not scored.
        predictions: folder with a PNG of the same name for each scored frame; others there are not read.
        rules: "davis16" (all objects are one) or "davis17" (each object for itself, 255 is no object).
        objects: their number; by default the largest value of the first true frame.

    Raises:
        UserError: fewer than three frames, a frame that is missing or of another size, or more objects than the truth.
    """
    if len(truths) < 3:
        raise UserError(f"{name}: {len(truths)} true frames; the first and last are not scored, so give three or more")
    if missing := [path.name for path in truths[1:-1] if not (predictions / path.name).is_file()]:
        raise UserError(f"{predictions}: {len(missing)} frames missing, the first {missing[0]}; predict every frame")
    first = read_mask(truths[0], rules)
    count = objects if objects is not None else int(first.max())
    if count < 1:
        raise UserError(f"{truths[0]}: no object in the first frame; is this a folder of DAVIS annotations?")
    j, f = np.zeros((count, len(truths) - 2)), np.zeros((count, len(truths) - 2))
    for index, path in enumerate(truths[1:-1]):
        truth, prediction = read_mask(path, rules), read_mask(predictions / path.name, rules)
        if truth.shape != prediction.shape:
            raise UserError(
                f"{predictions / path.name}: {prediction.shape[1]} x {prediction.shape[0]} pixels, the truth has "
                f"{truth.shape[1]} x {truth.shape[0]}; save predictions at the size of the truth"
            )
        if prediction.max() > count:
            raise UserError(f"{predictions / path.name}: object {prediction.max()}, but the sequence has {count}")
        for number in range(count):
            true, predicted = truth == number + 1, prediction == number + 1
            j[number, index] = region_similarity(true, predicted)
            f[number, index] = contour_accuracy(true, predicted)
    frames = tuple(path.stem for path in truths[1:-1])
    return [ObjectTrack(name, number + 1, frames, j[number], f[number]) for number in range(count)]


def guess_rules(first: Path) -> Rules:
    """The rules that fit the first true frame: values 0 and 255 alone are those of DAVIS-2016."""
    values = set(np.unique(_read(first)).tolist())
    return "davis16" if values <= {0, IGNORE} and IGNORE in values else "davis17"


def read_mask(path: Path, rules: Rules) -> NDArray[np.uint8]:
    """(H, W) objects 1, 2, ... and 0 for none.

    Palette and grey PNGs are read as stored. Pictures in RGB are taken where they are grey or hold nothing but
    colours of the DAVIS palette.

    Raises:
        UserError: not readable, or of other colours.
    """
    values = _read(path)
    if rules == "davis16":
        return (values != 0).astype(np.uint8)
    return np.where(values == IGNORE, 0, values).astype(np.uint8)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            if image.mode in {"L", "P", "1"}:
                return np.array(image).astype(np.uint8) * (IGNORE if image.mode == "1" else 1)
            if image.mode not in {"RGB", "RGBA"}:
                raise UserError(f"{path}: mode {image.mode}; masks are grey, palette or RGB pictures of 8 bits")
            return _objects_of_colors(np.array(image.convert("RGB")), path)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a readable mask ({error}); copy it again from its source")


def _objects_of_colors(rgb: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0]
    codes = rgb.astype(np.int32) @ np.array([65536, 256, 1])
    known = davis_palette().astype(np.int32) @ np.array([65536, 256, 1])
    found, inverse = np.unique(codes, return_inverse=True)
    if strange := [code for code in found.tolist() if code not in set(known.tolist())]:
        raise UserError(f"{path}: the colour #{strange[0]:06x} is none of DAVIS's palette; save masks as palette PNGs")
    numbers = np.array([int(np.flatnonzero(known == code)[0]) for code in found], np.uint8)
    return numbers[inverse.reshape(codes.shape)]


def davis_palette() -> NDArray[np.uint8]:
    """(256, 3) the palette of Pascal VOC and DAVIS: the bits of a number, dealt to red, green and blue."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors
