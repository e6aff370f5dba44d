"""Video object segmentation: track the sequences of a set and score them, frame by frame, without saving masks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from clips4.data.benchmarks.davis import Sequence as Video
from clips4.data.benchmarks.davis import load_davis
from clips4.data.masks import Mask, Rules, find_objects, first_masks, read_mask
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import ObjectTrack, TrackingScores, score_objects, summarize
from clips4.evaluation.record import describe_tracking, provenance
from clips4.evaluation.run import Record, about_run
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.encoding.features import load_features
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.images import load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter

Tracker = Callable[[Sequence[Path], Mapping[int, Mask]], Iterator[Mask]]


def by_features(encoder: Encoder, recipe: Recipe | None = None) -> Tracker:
    """A tracker by label propagation."""

    def tracker(frames: Sequence[Path], given: Mapping[int, Mask]) -> Iterator[Mask]:
        named = ((path.stem, load_rgb(path)) for path in frames)
        later = {index: mask for index, mask in given.items() if index}
        return (each.mask for each in track(named, given[0], encoder, recipe, later))

    return tracker


def first_mask_tracker(frames: Sequence[Path], given: Mapping[int, Mask]) -> Iterator[Mask]:
    """A baseline that tracks nothing: the first mask of each object for every later frame."""
    mask = given[0]
    for index in range(len(frames)):
        new = given.get(index, mask)
        mask = np.where(new > 0, new, mask)
        yield mask


def score_videos(
    tracker: Tracker, videos: Sequence[Video], rules: Rules, progress: ProgressReporter | None = None
) -> TrackingScores:
    """Track the objects of each sequence from their first masks and score all later frames but the last.

    Args:
        tracker: frames and given masks by index (see ``data.masks.first_masks``) -> the mask of every frame.
        videos: frames and true masks.
        rules: how DAVIS counts objects, see ``data.masks.read_mask``.
        progress: advances once a frame.

    Raises:
        UserError: a mask cannot be read, or a sequence has no object in its first frame.
    """
    progress = progress or NoProgress()
    progress.stage("tracking", sum(len(video.frames) for video in videos))
    tracks: list[ObjectTrack] = []
    for video in videos:
        if 0 not in (given := first_masks(video.masks, rules)):
            raise UserError(f"{video.masks[0]}: no object by the rules {rules}; copy the masks of {video.name} again")
        frames = _predicted_frames(tracker, video, given, rules, progress)
        tracks += score_objects(video.name, find_objects(video.masks, rules).first, frames)
    return summarize(tracks)


def _predicted_frames(
    tracker: Tracker, video: Video, given: Mapping[int, Mask], rules: Rules, progress: ProgressReporter
) -> Iterator[tuple[str, Mask, Mask]]:
    """Name, true and predicted mask of every scored frame."""
    for index, prediction in enumerate(tracker(video.frames, given)):
        progress.advance({})
        if 0 < index < len(video.frames) - 1:
            yield video.frames[index].stem, read_mask(video.masks[index], rules), prediction


def evaluate_tracking(
    run: Path | None,
    kinds: list[str],
    dataset_name: str,
    root: Path,
    split: str | None,
    side: int,
    recipe: Recipe,
    device: str,
    progress: ProgressReporter,
) -> Record:
    """Rows by features; "still" is the baseline that repeats the first mask.

    Raises:
        UserError: not a set of videos, or an unknown kind of features.
    """
    if dataset_name not in ("davis16", "davis17"):
        raise UserError(f"--dataset {dataset_name!r}: tracking is scored on davis16 or davis17")
    videos = load_davis(root, dataset_name, split or "val")
    rows = []
    for kind in kinds:
        tracker = first_mask_tracker if kind == "still" else by_features(load_features(kind, run, side, device), recipe)
        found = score_videos(tracker, videos, dataset_name, progress)  # type: ignore[arg-type]
        rows.append({"row": kind, **describe_tracking(found)})
    return {
        "task": "tracking",
        "dataset": dataset_name,
        "split": split or "val",
        "sequences": len(videos),
        "protocol": {
            "id": "clips4-tracking-v1",
            "long_side": side,
            **asdict(recipe),
            "frames": "all but first and last",
        },
        **(about_run(run) if run else {}),
        **provenance(),
        "rows": rows,
    }
