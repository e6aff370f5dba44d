"""Segmenting a video: label PNGs of its frames and an overlay video, labels steady over time.

What `clips4 segment` does with a video file. A video is done as a whole: the manifest has its entry when all of it is
written, and an interrupted one starts again.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from clips4.data.image_folder import JobOutcome, SkippedImage, reason_to_skip
from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.temporal_smoothing import Steadiness, SteadyEmbeddings, flicker
from clips4.outputs.encode import Kind, label_png
from clips4.outputs.render import draw_legend, legend_entries, overlay
from clips4.utils.atomic_io import atomic_text_file, write_atomically
from clips4.utils.images import RGB
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_folder.manifest import write_entry
from clips4.utils.output_folder.output import Item, Output
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import Frames, VideoWriter, open_frames

KINDS: tuple[Kind, ...] = ("png", "overlay", "json")
_LEGEND_NAMES, _LEGEND_LINES = 8, 2  # below a frame


def check_kinds(kinds: Sequence[Kind]) -> None:
    """Check that videos can be saved as all of these kinds.

    Raises:
        UserError: one is for images only.
    """
    if others := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"--save {others[0]}: not for video files; give {', '.join(KINDS)}, or frames as images")


def segment_videos(
    segmenter: Segmenter,
    query: Query,
    items: Sequence[Item],
    output: Output,
    unknown: bool,
    steadiness: Steadiness,
    progress: ProgressReporter,
) -> JobOutcome:
    """Segment videos one after the other.

    ``STEM/00000.png``, ...: labels of the frames, see ``outputs.encode.label_png``; ``STEM.mp4``: the overlay with a
    legend; ``STEM.jsonl``: for each frame, its shares by class and the share of pixels that changed their label.

    Returns:
        A video that cannot be read to its end is skipped, with the reason; the labels before that remain.
    """
    outcome = JobOutcome()
    for item in items:
        if output.is_done(item):
            outcome.kept.append(item.path)
            continue
        try:
            complete = segment_video(segmenter, query, item, output, unknown, steadiness, progress)
        except Exception as error:
            outcome.skipped.append(SkippedImage(item.path, reason_to_skip(error)))
            continue
        if not complete:
            outcome.interrupted = True
            break
        outcome.done.append(item.path)
    return outcome


def segment_video(
    segmenter: Segmenter,
    query: Query,
    item: Item,
    output: Output,
    unknown: bool,
    steadiness: Steadiness,
    progress: ProgressReporter,
) -> bool:
    """Segment one video.

    Returns:
        False after Ctrl-C: then there is neither an overlay nor a list of frames.

    Raises:
        UserError: not a video, or one that cannot be read to its end.
    """
    frames, smooth = open_frames(item.path), SteadyEmbeddings(steadiness)
    output = replace(output, kinds=output.kinds_of(item))
    names = {"png": f"{item.stem}/", "overlay": f"{item.stem}.mp4", "json": f"{item.stem}.jsonl"}
    entry = output.begin(item, output.kinds, [names[kind] for kind in output.kinds], {})
    before: NDArray[np.int16] | None = None
    progress.stage(item.path.name, frames.count)
    with deferred_interrupt() as interrupted, _VideoFiles(item.stem, output, frames) as files:
        for name, image in frames:
            (encoded,) = segmenter.encode_images([image], keep=False)
            result = segmenter.predict(encoded._replace(z=smooth(encoded.z)), query, unknown)
            comparable = before is not None and before.shape == result.labels.shape
            files.write(name, result, flicker(before, result.labels) if comparable and before is not None else None)
            before = result.labels
            progress.advance({})
            if interrupted():
                files.discard()
                return False
    write_entry(output.folder, {**entry, "files": list(dict.fromkeys((*entry["files"], *files.names)))})
    return True


class _VideoFiles:
    """The outputs of one video, written frame by frame; the overlay and the list of frames appear at the end."""

    def __init__(self, stem: str, output: Output, frames: Frames):
        self._stem, self._output, self._frames = stem, output, frames
        self._stack = ExitStack()
        self._video: VideoWriter | None = None
        self._lines: TextIO | None = None
        self.names: list[str] = []

    def __enter__(self) -> "_VideoFiles":
        out, kinds = self._output.folder, self._output.kinds
        if "overlay" in kinds:
            self.names.append(f"{self._stem}.mp4")
            self._video = self._stack.enter_context(VideoWriter(out / self.names[-1], self._frames.rate))
        if "json" in kinds:
            self.names.append(f"{self._stem}.jsonl")
            self._lines = self._stack.enter_context(atomic_text_file(out / self.names[-1]))
        return self

    def write(self, name: str, result: Segmentation, changed: float | None) -> None:
        """Write the next frame."""
        if "png" in self._output.kinds:
            self.names.append(f"{self._stem}/{name}.png")
            write_atomically(self._output.folder / self.names[-1], label_png(result))
        if self._video is not None:
            self._video.write(with_legend(result))
        if self._lines is not None:
            shares = {area.name: round(area.share, 5) for area in result.areas()}
            line = {"frame": name, "flicker": None if changed is None else round(changed, 5), "shares": shares}
            self._lines.write(json.dumps(line) + "\n")

    def discard(self) -> None:
        """Remove the unfinished overlay and list."""
        self._stack.pop_all().__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def with_legend(result: Segmentation) -> RGB:
    """The overlay above a strip with its largest classes and unknown; of one height for all frames of one size."""
    shown = overlay(result)
    width = shown.shape[1]
    size = int(np.clip(width / 40, 10, 32))
    entries = legend_entries(result)
    panel = draw_legend(entries[:_LEGEND_NAMES] + entries[_LEGEND_NAMES:][-1:], width, beside=False, size=size)
    strip = np.full((round(1.6 * size) * _LEGEND_LINES + size, width, 3), 255, np.uint8)
    rows = min(len(strip), len(panel))
    strip[:rows] = panel[:rows, :width]
    return np.concatenate([shown, strip])
