"""Video object segmentation: track the sequences of a set and score them, frame by frame, without saving masks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.data.benchmarks.davis import Sequence as Video
from clips4.data.masks import Rules, read_mask
from clips4.evaluation.metrics.davis import ObjectTrack, TrackingScores, score_objects, summarize
from clips4.inference.encoder import Encoder
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter

Tracker = Callable[[Sequence[Path], NDArray[np.uint8]], Iterator[NDArray[np.uint8]]]


def by_features(encoder: Encoder, recipe: Recipe | None = None) -> Tracker:
    """A tracker by label propagation."""

    def tracker(frames: Sequence[Path], first: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        named = ((path.stem, load_rgb(path)) for path in frames)
        return (each.mask for each in track(named, first, encoder, recipe))

    return tracker


def first_mask_tracker(frames: Sequence[Path], first: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """A baseline that tracks nothing: the first mask for every frame."""
    for _ in frames:
        yield first


def score_videos(
    tracker: Tracker, videos: Sequence[Video], rules: Rules, progress: ProgressReporter | None = None
) -> TrackingScores:
    """Track each sequence from its first mask and score all frames but the first and the last.

    Args:
        tracker: frames and first mask -> the mask of every frame.
        videos: frames and true masks.
        rules: how DAVIS counts objects, see ``data.masks.read_mask``.
        progress: advances once a frame.
    """
    progress = progress or NoProgress()
    progress.stage("tracking", sum(len(video.frames) for video in videos))
    tracks: list[ObjectTrack] = []
    for video in videos:
        first = read_mask(video.masks[0], rules)
        frames = _predicted_frames(tracker, video, first, rules, progress)
        tracks += score_objects(video.name, int(first.max()), frames)
    return summarize(tracks)


def _predicted_frames(
    tracker: Tracker, video: Video, first: NDArray[np.uint8], rules: Rules, progress: ProgressReporter
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Name, true and predicted mask of every scored frame."""
    for index, prediction in enumerate(tracker(video.frames, first)):
        progress.advance({})
        if 0 < index < len(video.frames) - 1:
            yield video.frames[index].stem, read_mask(video.masks[index], rules), prediction
