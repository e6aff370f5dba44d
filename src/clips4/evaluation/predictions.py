"""`clips4 score`: the saved predictions of any system against the truth, in several processes, without torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clips4.data.label_maps import (
    apply_table,
    check_depth,
    distinct,
    ignore_value,
    ignore_wide,
    read_labels,
)
from clips4.data.masks import KeptMasks, Mask, Rules, are_binary, find_objects, read_mask
from clips4.data.pairs import files_in, label_maps_by_name, match
from clips4.data.segmentation_dataset import as_displayed, value_table
from clips4.errors import UserError
from clips4.evaluation.metrics.boundary_f import boundary_f
from clips4.evaluation.metrics.confusion import ImageScore, Scores, Tally, confusion_matrix, scores
from clips4.evaluation.metrics.davis import ObjectTrack, TrackingScores, score_objects, summarize
from clips4.utils.output_folder.manifest import FOLDER
from clips4.utils.parallel import map_items, workers_for
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.text import plural

_HINT = "; predictions have the names of the images (endings such as _leftImg8bit.png: --pred-ending, --gt-ending)"


@dataclass(frozen=True)
class Truth:
    """The label maps of a set, and how to read them.

    Attributes:
        masks: (N,) label maps.
        names: (N,) name of each image and of its prediction: its path below the set's folder, without suffix.
        table: value of a label map -> 0..K-1 or ``ignore_value(K)``; None where the values are that already.
        classes: K.
        read: how a label map is read.
        images: (N,) what they show, where that is known; EXIF may turn it.
    """

    masks: tuple[Path, ...]
    names: tuple[str, ...]
    table: NDArray[np.integer] | None
    classes: int
    read: Callable[[Path], NDArray[np.integer]] = read_labels
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ScoredImage:
    """Of one image: the (K, K + 1) confusion matrix, and the boundary F if it is computed."""

    name: str
    confusion: NDArray[np.int64]
    boundary_f: float | None


@dataclass(frozen=True)
class SemanticScores:
    """Of a set of saved predictions.

    Attributes:
        scores: from the one confusion matrix of the set.
        confusion: (K, K + 1) that matrix.
        boundary_f: mean over the images; None if it is not computed.
        names, images, outlines: name, score and boundary F of each image.
        extra: number of predictions without a truth.
    """

    scores: Scores
    confusion: NDArray[np.int64]
    boundary_f: float | None
    names: tuple[str, ...]
    images: tuple[ImageScore, ...]
    outlines: tuple[float | None, ...]
    extra: int


def score_semantic(
    truth: Truth,
    predictions: Path,
    with_boundary: bool = True,
    workers: int | None = 1,
    progress: ProgressReporter | None = None,
    ending: str = "",
) -> SemanticScores:
    """Score a folder of label PNGs (0..K-1; any other value is wrong wherever the truth counts).

    The result does not depend on the number of processes. Predictions are found by name, see ``pairs.match``; with
    ``ending`` only those whose names end so, without it.

    Raises:
        UserError: a prediction is missing, unreadable or of another size, or a truth has values that are no class.
    """
    found = label_maps_by_name(predictions, ending)
    if not found:
        raise UserError(f"{predictions}: no PNG, TIFF or NPY there; give the folder of predicted label maps")
    paths = match(truth.names, found, predictions, _HINT)
    images = truth.images or (None,) * len(truth.names)
    jobs = list(zip(truth.names, truth.masks, paths, images, strict=True))
    plain = replace(truth, masks=(), names=(), images=())  # small enough to be sent with every job
    work = partial(_score_image, truth_of_set=plain, with_boundary=with_boundary)
    counts, outlines = Tally(truth.classes), []
    for _, image in counted(
        progress,
        "scoring",
        map_items(work, jobs, workers_for(len(jobs)) if workers is None else workers, preload=[__name__]),
        len(jobs),
    ):
        counts.add(image.confusion)
        outlines.append(image.boundary_f)
    drawn = [value for value in outlines if value is not None]
    return SemanticScores(
        scores=scores(counts.total),
        confusion=counts.total,
        boundary_f=float(np.mean(drawn)) if drawn else None,
        names=truth.names,
        images=tuple(counts.images),
        outlines=tuple(outlines),
        extra=len(found) - len(jobs),
    )


def _score_image(job: tuple[str, Path, Path, Path | None], truth_of_set: Truth, with_boundary: bool) -> ScoredImage:
    name, mask, path, image = job
    table, classes = truth_of_set.table, truth_of_set.classes
    truth, prediction = truth_of_set.read(mask), read_labels(path)
    check_depth(truth, classes, mask)
    check_depth(prediction, classes, path)
    truth = ignore_wide(truth, classes) if table is None else apply_table(table, truth, mask)
    if truth.shape != prediction.shape and image is not None:
        truth = as_displayed(truth, image)
    if truth.shape != prediction.shape:
        swapped = ", and sides are swapped: does EXIF turn the image?" if truth.shape == prediction.shape[::-1] else ""
        raise UserError(
            f"{path}: {prediction.shape[1]} x {prediction.shape[0]} pixels, the truth has {truth.shape[1]} x "
            f"{truth.shape[0]}; predictions are scored at the truth's own size, which is never changed{swapped}"
        )
    try:
        confusion = confusion_matrix(truth, prediction, classes)
    except ValueError as error:
        raise UserError(f"{mask}: {error}; is this the right set, or the right list of classes?")
    return ScoredImage(name, confusion, boundary_f(truth, prediction, classes) if with_boundary else None)


def folder_truth(masks: Path, classes: int, reduce_zero: bool = False, ending: str = "") -> Truth:
    """Label maps of a folder whose values are 0..K-1 or ignored; with ``reduce_zero`` 0 is ignored and 1..K are 0..K-1.

    Ignored are 255 and, in maps of 16 bits, 65535; of more than 255 classes 65535 alone. With ``ending`` only files
    count whose names end so, such as ``_labelTrainIds.png``.
    """
    found = label_maps_by_name(masks, ending)
    if not found:
        kind = f"*{ending}" if ending else "PNG, TIFF or NPY"
        raise UserError(f"{masks}: no {kind} there; give the folder of true label maps")
    table = value_table(range(1, classes + 1), {0, ignore_value(classes)}) if reduce_zero else None
    return Truth(tuple(found.values()), tuple(found), table, classes)


# -------------------------------------------------------------------------------------------------------- tracking


@dataclass(frozen=True)
class TrackingReport:
    """Scores of a folder of sequences.

    Attributes:
        scores: J and F.
        rules: by which each sequence was scored.
        late: number of objects that appear after the first frame; each is scored from the frame after.
        unscored: "SEQUENCE: object N" of objects that no scored frame follows.
        extra_frames: predicted frames that no truth has (not scored).
        extra_sequences: predicted sequences that no truth has (not scored).
    """

    scores: TrackingScores
    rules: dict[str, Rules]
    late: int
    unscored: tuple[str, ...]
    extra_frames: int
    extra_sequences: tuple[str, ...]


def score_tracking(
    truth: Path,
    predictions: Path,
    rules: Rules | None = None,
    sequences: Sequence[str] | None = None,
    workers: int | None = 1,
    progress: ProgressReporter | None = None,
) -> TrackingReport:
    """Score predicted masks ``predictions/SEQUENCE/FRAME.png`` against ``truth/SEQUENCE/FRAME.png``.

    Args:
        rules: by default of each sequence by its own masks, see ``data.masks.find_objects``.
        sequences: those to score; all of the truth's by default.

    Raises:
        UserError: a sequence or frame is missing, has another size, or has more objects than the truth.
    """
    available = sorted(path.name for path in truth.iterdir() if path.is_dir()) if truth.is_dir() else []
    available = [name for name in available if files_in(truth / name, ".png")]
    names = list(sequences) if sequences is not None else available
    if not names or (unknown := [name for name in names if name not in available]):
        problem = f"no sequence {unknown[0]!r} there" if names else "no folder with PNGs there"
        raise UserError(f"{truth}: {problem}; give the folder that holds a folder of masks for each sequence")
    if missing := [name for name in names if not (predictions / name).is_dir()]:
        raise UserError(f"{predictions}: {len(missing)} of {len(names)} sequences are missing, the first {missing[0]}")
    frames = {name: files_in(truth / name, ".png") for name in names}
    longest_first = sorted(names, key=lambda name: -len(frames[name]))  # so that processes end at the same time
    jobs = [(name, frames[name], predictions / name) for name in longest_first]
    if workers is None:
        workers = min(len(jobs), workers_for(sum(map(len, frames.values()))))
    results = map_items(partial(_score_sequence, rules=rules), jobs, workers, preload=[__name__])
    by_name = {job[0]: sequence for job, sequence in counted(progress, "scoring", results, len(jobs))}
    scored = [by_name[name] for name in names]
    extra = sum(
        len({path.name for path in files_in(predictions / name, ".png")} - {path.name for path in frames[name]})
        for name in names
    )
    others = sorted(
        path.name for path in predictions.iterdir() if path.is_dir() and path.name not in (*available, FOLDER)
    )
    tracks = [track for each in scored for track in each.tracks]
    if not tracks:
        raise UserError(f"{truth}: no object has a scored frame; objects must appear before the last but one")
    return TrackingReport(
        summarize(tracks),
        {name: each.rules for name, each in zip(names, scored, strict=True)},
        sum(each.late for each in scored),
        tuple(text for each in scored for text in each.unscored),
        extra,
        tuple(others),
    )


class _ScoredSequence(NamedTuple):
    tracks: list[ObjectTrack]
    rules: Rules
    late: int
    unscored: list[str]


def _score_sequence(job: tuple[str, list[Path], Path], rules: Rules | None) -> _ScoredSequence:
    """The tracks of one sequence: its name, its true masks in order, the folder of its predictions."""
    name, truths, predictions = job
    scored = truths[1:-1]  # DAVIS scores neither the first frame nor the last
    if not scored:
        raise UserError(f"{name}: {len(truths)} true frames; the first and last are not scored, so give three or more")
    if missing := [path.name for path in scored if not (predictions / path.name).is_file()]:
        raise UserError(
            f"{predictions}: {plural(len(missing), 'frame')} missing, first {missing[0]}; predict every frame"
        )
    kept = KeptMasks()
    found = find_objects(truths, rules, kept)
    objects = found.first
    if not objects:
        raise UserError(f"{truths[0].parent}: no object in any mask; is this a folder of DAVIS annotations?")
    if found.rules == "davis17" and are_binary([predictions / path.name for path in scored]):
        raise UserError(
            f"{predictions}: holds 0 and 255 alone, but the truth numbers its objects ({_listed(objects)}); save these "
            "numbers"
        )

    def frames() -> Iterator[tuple[str, Mask, Mask]]:
        for path in scored:
            truth, prediction = read_mask(path, found.rules, kept), read_mask(predictions / path.name, found.rules)
            if truth.shape != prediction.shape:
                raise UserError(
                    f"{predictions / path.name}: {prediction.shape[1]} x {prediction.shape[0]} pixels, the truth has "
                    f"{truth.shape[1]} x {truth.shape[0]}; save predictions at the size of the truth"
                )
            if found.rules == "davis17" and (strange := set(distinct(prediction)) - {0, *objects}):
                raise UserError(
                    f"{predictions / path.name}: object {min(strange)}, but the truth of the sequence has "
                    f"{_listed(objects)}"
                )
            yield path.stem, truth, prediction

    tracks = score_objects(name, objects, frames())
    unscored = sorted(set(objects) - {track.object for track in tracks})
    late = sum(index > 0 for index in objects.values())
    return _ScoredSequence(tracks, found.rules, late, [f"{name}: object {number}" for number in unscored])


def _listed(numbers: Iterable[int]) -> str:
    some = sorted(numbers)
    return ", ".join(map(str, some[:8])) + (", ..." if len(some) > 8 else "")
