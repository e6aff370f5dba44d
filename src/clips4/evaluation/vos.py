"""Tracking a set of sequences and scoring it, frame by frame, without saving masks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.benchmarks.davis import Sequence as Video
from clips4.evaluation.metrics.davis import contour_accuracy, region_similarity
from clips4.evaluation.saved_masks import ObjectTrack, Rules, TrackingScores, read_mask, summarise
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.images import RGB, load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter

Tracker = Callable[[Sequence[Path], NDArray[np.uint8]], Iterator[NDArray[np.uint8]]]


def by_features(features: Callable[[RGB], Tensor], recipe: Recipe | None = None) -> Tracker:
    """A tracker by label propagation."""
    return lambda frames, first: track(map(load_rgb, frames), first, features, recipe)


def held_still(frames: Sequence[Path], first: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The tracker that knows nothing: the first mask for every frame."""
    for _ in frames:
        yield first


def score_videos(
    tracker: Tracker, videos: Sequence[Video], rules: Rules, progress: ProgressReporter | None = None
) -> TrackingScores:
    """Track each sequence from its first mask and score all frames but the first and the last.

    Args:
        rules: see ``tracking.score_sequence``.
    """
    progress = progress or NoProgress()
    progress.stage("tracking", sum(len(video.frames) for video in videos))
    tracks: list[ObjectTrack] = []
    for video in videos:
        first = read_mask(video.masks[0], rules)
        count = int(first.max())
        j, f = np.zeros((count, len(video.frames))), np.zeros((count, len(video.frames)))
        for index, prediction in enumerate(tracker(video.frames, first)):
            progress.advance({})
            if index in (0, len(video.frames) - 1):
                continue
            truth = read_mask(video.masks[index], rules)
            for number in range(count):
                true, predicted = truth == number + 1, prediction == number + 1
                j[number, index] = region_similarity(true, predicted)
                f[number, index] = contour_accuracy(true, predicted)
        names = tuple(path.stem for path in video.frames[1:-1])
        tracks += [ObjectTrack(video.name, n + 1, names, j[n, 1:-1], f[n, 1:-1]) for n in range(count)]
    return summarise(tracks)
