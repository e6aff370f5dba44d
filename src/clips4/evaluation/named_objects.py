"""The moving objects of DAVIS by name: language-driven segmentation of video frames, without tracking.

Every frame is asked for all names by protocol clips4-v1; a pixel is the object's where the answer is one of the names
that the object goes by. IoU is averaged over the frames of a sequence, then over sequences, so that long ones do not
weigh more. Frames whose truth has no object are left out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.benchmarks.davis import Sequence as VideoSequence
from clips4.data.class_names import ClassList, data_lines
from clips4.data.label_maps import read_labels
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import region_similarity
from clips4.inference.segmenter import Segmenter
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter

Answers = Callable[[Path, tuple[int, ...]], Iterable[tuple[str, NDArray[np.integer]]]]
"""A frame and the (H, W) of its truth -> the label map (H, W) of each row."""


def object_names(classes: ClassList, table: str = "davis16-objects") -> dict[str, tuple[int, ...]]:
    """Sequence -> indices of the classes that its object goes by, from ``assets/labels/TABLE.txt``.

    Raises:
        UserError: a name that is not among the classes.
    """
    found = {}
    for line in data_lines(f"labels/{table}.txt"):
        sequence, names = line.split(" ", 1)
        own = [name.strip() for name in names.split(",")]
        if missing := [name for name in own if name not in classes.names]:
            raise UserError(f"labels {table}: {sequence} goes by {missing[0]!r}, which is not among the classes")
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
        vectors: (L, D) class vectors by the name of their row, those of unknown classes, if they are asked, after the
            known ones.
        videos, objects, every, listener: see ``score_predictions``.
    """

    def answers(frame: Path, size: tuple[int, ...]) -> Iterable[tuple[str, NDArray[np.integer]]]:
        read = segmenter.encode_image(load_rgb(frame))
        for row, matrix in vectors.items():
            yield row, segmenter.classify(read, matrix)[0].cpu().numpy()

    return score_predictions(answers, videos, objects, every, progress)


def score_predictions(
    answers: Answers,
    videos: Sequence[VideoSequence],
    objects: Mapping[str, tuple[int, ...]],
    every: int = 1,
    progress: ProgressReporter | None = None,
) -> dict[str, dict[str, float]]:
    """Mean IoU of each sequence's object by name.

    Args:
        answers: gives the labels of a frame, by row.
        videos: frames and masks; any value but 0 is the object.
        objects: sequence -> the classes its object goes by, see ``object_names``.
        every: frames are taken at this step.

    Returns:
        Row -> sequence -> IoU in [0, 1].

    Raises:
        UserError: a sequence whose object has no names.
    """
    progress = progress or NoProgress()
    if nameless := [video.name for video in videos if video.name not in objects]:
        raise UserError(f"sequence {nameless[0]}: nothing says what its object is called")
    progress.stage("scoring", sum(len(video.frames[::every]) for video in videos))
    scores: dict[str, dict[str, float]] = {}
    for video in videos:
        ious: dict[str, list[float]] = {}
        for frame, mask in zip(video.frames[::every], video.masks[::every], strict=True):
            truth: NDArray[np.bool_] = read_labels(mask) > 0
            if truth.any():
                for row, labels in answers(frame, truth.shape):
                    iou = region_similarity(truth, np.isin(labels, objects[video.name]))
                    ious.setdefault(row, []).append(iou)
            progress.advance({})
        for row, values in ious.items():
            scores.setdefault(row, {})[video.name] = float(np.mean(values))
    return scores
