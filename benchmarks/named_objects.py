"""The moving objects of DAVIS by name: language-driven segmentation of video frames, without tracking.

Every frame is segmented by all names with protocol clips4-v1; a pixel belongs to the object if its class is one of the
object's names. IoU is averaged over the frames of a sequence, then over sequences, so that long ones do not
count more. Frames whose truth has no object are left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.benchmarks.davis import Sequence as VideoSequence
from clips4.data.class_names import ClassList, data_lines
from clips4.data.masks import read_mask
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import region_similarity
from clips4.inference.segmenter import Segmenter
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter

FramePredictions = Callable[[Path, tuple[int, ...]], Iterable[tuple[str, NDArray[np.integer]]]]
"""A frame and the (H, W) of its truth -> the label map (H, W) of each row."""


def object_names(classes: ClassList, table: str = "davis16-objects") -> dict[str, tuple[int, ...]]:
    """Sequence -> indices of the classes that its object has as names, from ``assets/labels/TABLE.txt``.

    Raises:
        UserError: a name that is not among the classes.
    """
    found = {}
    for line in data_lines(f"labels/{table}.txt"):
        sequence, names = line.split(" ", 1)
        own = [name.strip() for name in names.split(",")]
        if missing := [name for name in own if name not in classes.names]:
            raise UserError(f"labels {table}: {sequence} is named {missing[0]!r}, which is not among the classes")
        found[sequence] = tuple(classes.names.index(name) for name in own)
    return found


def score_named_objects(
    segmenter: Segmenter,
    videos: Sequence[VideoSequence],
    objects: Mapping[str, tuple[int, ...]],
    vectors: Mapping[str, Tensor],
    every: int = 1,
    progress: ProgressReporter | None = None,
) -> dict[str, dict[str, float]]:
    """``score_predictions`` of a segmenter.

    Args:
        segmenter: a student or a teacher alone.
        vectors: (L, D) class vectors by the name of their row, those of unknown classes, if any, after the
            known ones.
        videos, objects, every, progress: see ``score_predictions``.
    """

    def predict(frame: Path, size: tuple[int, ...]) -> Iterable[tuple[str, NDArray[np.integer]]]:
        encoded = segmenter.encode_image(load_rgb(frame))
        for row, matrix in vectors.items():
            yield row, segmenter.classify(encoded, matrix)[0].cpu().numpy()

    return score_predictions(predict, videos, objects, every, progress)


def score_predictions(
    predict: FramePredictions,
    videos: Sequence[VideoSequence],
    objects: Mapping[str, tuple[int, ...]],
    every: int = 1,
    progress: ProgressReporter | None = None,
) -> dict[str, dict[str, float]]:
    """Mean IoU of each sequence's object by name.

    Args:
        predict: gives the label maps of a frame, by row.
        videos: frames and masks; any value but 0 is the object.
        objects: sequence -> the classes its object has as names, see ``object_names``.
        every: frames are taken at this step.

    Returns:
        Row -> sequence -> IoU in [0, 1].

    Raises:
        UserError: a sequence whose object has no names.
    """
    progress = progress or NoProgress()
    if nameless := [video.name for video in videos if video.name not in objects]:
        raise UserError(f"sequence {nameless[0]}: there are no names for its object")
    progress.stage("scoring", sum(len(video.frames[::every]) for video in videos))
    scores: dict[str, dict[str, float]] = {}
    for video in videos:
        ious: dict[str, list[float]] = {}
        for frame, mask in zip(video.frames[::every], video.masks[::every], strict=True):
            truth: NDArray[np.bool_] = read_mask(mask, "davis16") > 0
            if truth.any():
                for row, labels in predict(frame, truth.shape):
                    iou = region_similarity(truth, np.isin(labels, objects[video.name]))
                    ious.setdefault(row, []).append(iou)
            progress.advance({})
        for row, values in ious.items():
            scores.setdefault(row, {})[video.name] = float(np.mean(values))
    return scores
