"""Propagating masks through frames, from files into files: what `clips4 track` does."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clips4.data.masks import Mask, davis_palette, first_masks
from clips4.data.pairs import files_in
from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, blend, boundaries, encode_png
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_folder.names import check_out_folder, file_location, refuse_overwriting
from clips4.utils.output_folder.output import Output
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import Frames, VideoWriter, natural_key

OVERLAY = "overlay.mp4"


@dataclass
class Tracked:
    """The outcome of tracking.

    Attributes:
        objects: numbers of the objects in the given masks.
        frames: the name of each frame and the number of pixels of each object.
        interrupted: whether Ctrl-C came before the last frame.
    """

    objects: list[int]
    frames: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True)
class GivenMasks:
    """The masks to propagate.

    Attributes:
        by_frame: name of a frame -> (H, W) numbers of the objects that appear there, 0 elsewhere.
        files: name of a frame -> file.
    """

    by_frame: Mapping[str, Mask]
    files: Mapping[str, Path]


def read_masks(path: Path, first_frame: str) -> GivenMasks:
    """Read the first frame's mask, or a folder of masks named as their frames, whose objects may appear later.

    In a folder, an object is read from the first mask that has it and ignored in later ones, so that full annotations
    give no more than first frames.

    Args:
        path: a mask (palette, gray, or colors of DAVIS), or a folder of them; 0 and 255 alone in all are one object.
        first_frame: name of the first frame, to which a mask file belongs.

    Raises:
        UserError: no mask, an unreadable one, none for the first frame, or no object in it.
    """
    if path.is_dir():
        found = {p.stem: p for p in sorted(files_in(path, ".png"), key=lambda p: natural_key(p.name))}
        if first_frame not in found:
            raise UserError(f"{path}: no {first_frame}.png in this folder; name the mask of the first frame so")
        files = {first_frame: found[first_frame], **found}
    elif path.is_file():
        files = {first_frame: path}
    else:
        raise UserError(f"{path}: no such mask; give a PNG of the first frame's objects, or a folder of masks")
    names = list(files)
    by_frame = {names[index]: mask for index, mask in first_masks(list(files.values())).items()}
    if first_frame not in by_frame:
        raise UserError(f"{files[first_frame]}: no object in this mask; mark each with its own number, 1 to 254")
    return GivenMasks(by_frame, files)


def track_files(
    frames: Frames,
    masks: Path,
    out: Path,
    encoder: Encoder,
    recipe: Recipe,
    video: bool,
    progress: ProgressReporter,
) -> Tracked:
    """Propagate masks through frames and write ``FRAME.png`` and ``overlay.mp4``.

    Masks are indexed, with DAVIS's palette; gray with 16 bits if an object's number is above 255.

    Frames are read and masks written one at a time; after an unreadable frame, the masks before it remain.

    Args:
        frames: a folder of images or a video.
        masks: see ``read_masks``.
        out: folder to write to.
        encoder: of the features that are compared.
        recipe: how labels propagate.
        video: whether to write the overlay video.
        progress: advances by frame.

    Raises:
        UserError: invalid masks or frames (see ``read_masks``, ``Frames``), or an output would overwrite an input
            or a file that clips4 did not write, or the outputs of other frames.
    """
    check_out_folder(out)
    first_frame = frames.files[0].stem if frames.files else "00000"
    given = read_masks(masks, first_frame)
    # the frames of a video have numbers for names: any mask in the output folder could be overwritten
    names = [path.stem for path in frames.files] or [path.stem for path in given.files.values()]
    inputs = [*frames.files, *given.files.values(), frames.source]
    refuse_overwriting(inputs, [*(out / f"{name}.png" for name in names), out / OVERLAY])
    later = _masks_by_index(frames, given, first_frame)
    output, overlay = Output(out, "track", [], ""), [OVERLAY] if video else []
    planned = (
        [f"{name}.png" for name in names] if frames.files else [f"{index:05d}.png" for index in range(frames.count)]
    )
    output.begin_whole([*planned, *overlay], file_location(frames.source))
    first, sequence = given.by_frame[first_frame], _of_one_size(frames, given, first_frame)
    tracked = Tracked(sorted({int(n) for mask in given.by_frame.values() for n in np.unique(mask) if n}))
    progress.stage("tracking", frames.count)
    with (
        VideoWriter(out / OVERLAY, frames.rate) if video else nullcontext() as writer,
        deferred_interrupt() as interrupted,
    ):
        for name, image, mask in track(sequence, first, encoder, recipe, later):
            if frames.count <= len(tracked.frames) and not frames.files:  # more frames than the video's header says
                output.record_own([f"{name}.png"], file_location(frames.source))
            colors = davis_palette().tolist() if mask.dtype == np.uint8 else None
            write_atomically(out / f"{name}.png", encode_png(mask, colors))
            if writer is not None:
                writer.write(painted(image, mask))
            areas = {str(number): int((mask == number).sum()) for number in tracked.objects}
            tracked.frames.append({"frame": name, "areas": areas})
            progress.advance({})
            if interrupted():
                tracked.interrupted = True
                break
    return tracked


def painted(image: RGB, numbered: Mask) -> RGB:
    """(H, W, 3) the image with its objects in DAVIS's colors and white outlines, unchanged elsewhere."""
    colors = davis_palette()[np.where(numbered < 256, numbered, 1 + numbered % 255)]
    shown = blend(image, colors, 0.5, boundaries(numbered))
    return np.where((numbered > 0)[..., None] | boundaries(numbered)[..., None], shown, image)


def _masks_by_index(frames: Frames, given: GivenMasks, first_frame: str) -> dict[int, Mask]:
    """Masks of later frames by the frame's index."""
    index = {path.stem: place for place, path in enumerate(frames.files)}
    places: dict[int, Mask] = {}
    for name, mask in given.by_frame.items():
        if name == first_frame:
            continue
        place = index.get(name) if frames.files else (int(name) if name.isdigit() else None)
        if place is None:
            raise UserError(f"{given.files[name]}: no frame has the name {name}; name masks as their frames")
        places[place] = mask
    return places


def _of_one_size(frames: Frames, given: GivenMasks, first_frame: str) -> Iterator[tuple[str, RGB]]:
    """The frames; an error says whether the first mask or a later frame has the wrong size."""
    shape = given.by_frame[first_frame].shape
    for number, (name, image) in enumerate(frames):
        if image.shape[:2] != shape:
            expected, actual = (f"{width} x {height}" for height, width in (shape, image.shape[:2]))
            if number == 0:
                raise UserError(
                    f"{given.files[first_frame]}: {expected} pixels, but the frames of {frames.source} have {actual}; "
                    "give a mask of that size"
                )
            raise UserError(
                f"{frames.source}, frame {name}: {actual} pixels, but those before have {expected}; "
                "give frames of one size"
            )
        yield name, image
