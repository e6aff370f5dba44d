"""Segmenting a video: label PNGs of its frames and an overlay video, labels steady over time.

What `clips4 segment` does with a video file. A video is one piece of work: its record is written when all is, and an
interrupted one begins anew.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from clips4.data.image_folder import JobOutcome, SkippedImage
from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.jobs.manifest import (
    UNFINISHED,
    ManifestEntry,
    entry_path,
    file_stamp,
    is_done,
    read_entry,
    succeeding,
    write_entry,
)
from clips4.inference.segmenter import Segmentation, Segmenter
from clips4.inference.video.temporal_smoothing import Steadiness, SteadyEmbeddings, flicker
from clips4.outputs.render import Kind, draw_legend, label_png, legend_entries, overlay
from clips4.utils.atomic_io import atomic_text_file, write_atomically
from clips4.utils.images import RGB
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import Frames, VideoWriter, open_frames

KINDS: tuple[Kind, ...] = ("png", "overlay", "json")
_NAMED, _LINES = 8, 2  # classes named below a frame, in so many lines


def check_kinds(kinds: Sequence[Kind]) -> None:
    """See that all kinds are there for videos.

    Raises:
        UserError: one that is for pictures alone.
    """
    if others := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--save {others[0]}: not for video files; give {', '.join(KINDS)}, or frames as pictures")


def segment_videos(
    segmenter: Segmenter,
    query: Query,
    videos: Sequence[tuple[Path, str]],
    out: Path,
    kinds: Sequence[Kind],
    unknown: bool,
    steadiness: Steadiness,
    settings_hash: str,
    force: bool,
    progress: ProgressReporter,
) -> JobOutcome:
    """Segment videos one after the other.

    ``STEM/00000.png``, ...: labels of the frames as ``outputs`` writes them; ``STEM.mp4``: the overlay with a legend;
    ``STEM.jsonl``: a line for each frame, its shares by class and the share of its pixels that changed their label.

    Args:
        videos: files and the stems of their outputs.
        settings_hash: key of all settings that answers depend on, ``steadiness`` included.

    Returns:
        A video that cannot be read to its end is skipped with the reason; the labels before it stay.

    Raises:
        UserError: an output would overwrite one of the videos.
    """
    for path, stem in videos:
        if path.resolve() == (out / f"{stem}.mp4").resolve():
            raise UserError(f"{path}: this video would be overwritten by an output; give another --out")
    outcome = JobOutcome()
    for path, stem in videos:
        before = read_entry(entry_path(out, stem))
        if is_done(out, before, path, settings_hash, kinds) and not force:
            outcome.kept.append(path)
            continue
        try:
            whole = _segment_one(
                segmenter, query, open_frames(path), stem, out, kinds, unknown, steadiness, settings_hash, progress
            )
        except UserError as error:
            outcome.skipped.append(SkippedImage(path, str(error)))
            continue
        if not whole:
            outcome.interrupted = True
            break
        outcome.done.append(path)
    return outcome


def _segment_one(
    segmenter: Segmenter,
    query: Query,
    frames: Frames,
    stem: str,
    out: Path,
    kinds: Sequence[Kind],
    unknown: bool,
    steadiness: Steadiness,
    settings_hash: str,
    progress: ProgressReporter,
) -> bool:
    """Whether it came to the end, rather than to Ctrl-C; then there is neither an overlay nor a list of frames."""
    path, steady = frames.source, SteadyEmbeddings(steadiness)
    record = ManifestEntry(
        settings_hash=settings_hash,
        source=str(path.resolve()),
        stamp=file_stamp(path),
        stem=stem,
        kinds=list(kinds),
        files=[],
        older=[],
        facts={},
    )
    record = succeeding(read_entry(entry_path(out, stem)), record)
    write_entry(out, {**record, "settings_hash": UNFINISHED})
    labels: NDArray[np.int16] | None = None
    progress.stage(path.name, frames.count)
    with deferred_interrupt() as interrupted, _Outputs(out, stem, kinds, frames) as outputs:
        for name, image in frames:
            read = segmenter.read(image)
            result = segmenter.answer(read._replace(z=steady(read.z)), query, unknown)
            known = labels is not None and labels.shape == result.labels.shape
            outputs.write(name, result, flicker(labels, result.labels) if known and labels is not None else None)
            labels = result.labels
            progress.advance({})
            if interrupted():
                outputs.give_up()
                return False
    files = dict.fromkeys((*record["files"], *outputs.files))
    write_entry(out, {**record, "files": list(files)})
    return True


class _Outputs:
    """The files of one video, each written frame by frame; the overlay and the list of frames appear at the end."""

    def __init__(self, out: Path, stem: str, kinds: Sequence[Kind], frames: Frames):
        self._out, self._stem, self._kinds, self._frames = out, stem, kinds, frames
        self._stack = ExitStack()
        self._video: VideoWriter | None = None
        self._lines: TextIO | None = None
        self.files: list[str] = []

    def __enter__(self) -> "_Outputs":
        if "overlay" in self._kinds:
            self.files.append(f"{self._stem}.mp4")
            self._video = self._stack.enter_context(VideoWriter(self._out / self.files[-1], self._frames.rate))
        if "json" in self._kinds:
            self.files.append(f"{self._stem}.jsonl")
            self._lines = self._stack.enter_context(atomic_text_file(self._out / self.files[-1]))
        return self

    def write(self, name: str, result: Segmentation, changed: float | None) -> None:
        """One more frame."""
        if "png" in self._kinds:
            self.files.append(f"{self._stem}/{name}.png")
            write_atomically(self._out / self.files[-1], label_png(result))
        if self._video is not None:
            self._video.write(with_legend(result))
        if self._lines is not None:
            shares = {area.name: round(area.share, 5) for area in result.areas()}
            line = {"frame": name, "flicker": None if changed is None else round(changed, 5), "shares": shares}
            self._lines.write(json.dumps(line) + "\n")

    def give_up(self) -> None:
        """Leave no half video and no half list."""
        self._stack.pop_all().__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def with_legend(result: Segmentation) -> RGB:
    """The overlay above a strip with its largest classes and the unknown; as high for every frame of one size."""
    shown = overlay(result)
    width = shown.shape[1]
    size = int(np.clip(width / 40, 10, 32))
    *known, last = legend_entries(result)
    panel = draw_legend([*known[:_NAMED], last], width, beside=False, size=size)
    strip = np.full((round(1.6 * size) * _LINES + size, width, 3), 255, np.uint8)
    rows = min(len(strip), len(panel))
    strip[:rows] = panel[:rows, :width]
    return np.concatenate([shown, strip])
