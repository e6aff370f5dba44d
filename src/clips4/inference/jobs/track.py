"""Propagating masks through frames, from files into files: what `clips4 track` does."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clips4.data.masks import davis_palette, guess_rules, read_mask
from clips4.errors import UserError
from clips4.inference.encoder import Encoder
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, blend, boundaries, encode_png
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_names import check_out_folder, refuse_overwriting
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import Frames, VideoWriter, natural_key

OVERLAY = "overlay.mp4"
_MAX_OBJECTS = 254  # 255 means "not scored" in masks

Mask = NDArray[np.uint8]


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
    """The masks to propagate, objects numbered 1, 2, ... without gaps.

    Attributes:
        by_frame: name of a frame -> (H, W) objects that appear there.
        files: name of a frame -> file.
        numbers: (N + 1,) uint8, the number that each object has in the files; 0 stays 0.
    """

    by_frame: Mapping[str, Mask]
    files: Mapping[str, Path]
    numbers: Mask


def read_masks(path: Path, first_frame: str) -> GivenMasks:
    """Read the first frame's mask, or a folder of masks named as their frames, whose objects may appear later.

    In a folder, an object is read from the first mask that has it and ignored in later ones, so that full annotations
    give no more than first frames.

    Args:
        path: a mask (palette, gray, or colors of DAVIS; 0 and 255 alone are one object), or a folder of them.
        first_frame: name of the first frame, to which a mask file belongs.

    Raises:
        UserError: no mask, an unreadable one, none for the first frame, or no object in it.
    """
    if path.is_dir():
        files = {p.stem: p for p in sorted(path.glob("*.png"), key=lambda p: natural_key(p.name))}
        if first_frame not in files:
            raise UserError(f"{path}: no {first_frame}.png in this folder; name the mask of the first frame so")
    elif path.is_file():
        files = {first_frame: path}
    else:
        raise UserError(f"{path}: no such mask; give a PNG of the first frame's objects, or a folder of masks")
    by_frame: dict[str, Mask] = {}
    seen: set[int] = set()
    for name, file in files.items():
        mask = read_mask(file, guess_rules(file))
        new = set(np.unique(mask[mask > 0]).tolist()) - seen
        if new:
            by_frame[name] = np.where(np.isin(mask, list(new)), mask, 0)
        elif not seen:
            raise UserError(f"{file}: no object in this mask; mark each with its own number, 1 to {_MAX_OBJECTS}")
        seen |= new
    numbers = np.array([0, *sorted(seen)], np.uint8)
    dense = {name: np.searchsorted(numbers, mask).astype(np.uint8) for name, mask in by_frame.items()}
    return GivenMasks(dense, files, numbers)


def track_files(
    frames: Frames,
    masks: Path,
    out: Path,
    encoder: Encoder,
    recipe: Recipe,
    video: bool,
    progress: ProgressReporter,
) -> Tracked:
    """Propagate masks through frames and write ``FRAME.png`` (indexed, with DAVIS's palette) and ``overlay.mp4``.

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
        UserError: invalid masks or frames (see ``read_masks``, ``Frames``), or an output would overwrite an input.
    """
    check_out_folder(out)
    first_frame = frames.files[0].stem if frames.files else "00000"
    given = read_masks(masks, first_frame)
    # the frames of a video have numbers for names: any mask in the output folder could be overwritten
    names = [path.stem for path in frames.files] or [path.stem for path in given.files.values()]
    inputs = [*frames.files, *given.files.values(), frames.source]
    refuse_overwriting(inputs, [*(out / f"{name}.png" for name in names), out / OVERLAY])
    later = _masks_by_index(frames, given, first_frame)
    first, sequence = given.by_frame[first_frame], _of_one_size(frames, given, first_frame)
    tracked = Tracked([int(number) for number in given.numbers[1:]])
    progress.stage("tracking", frames.count)
    with (
        VideoWriter(out / OVERLAY, frames.rate) if video else nullcontext() as writer,
        deferred_interrupt() as interrupted,
    ):
        for name, image, mask in track(sequence, first, encoder, recipe, later):
            numbered = given.numbers[mask]
            write_atomically(out / f"{name}.png", encode_png(numbered, davis_palette().tolist()))
            if writer is not None:
                writer.write(painted(image, numbered))
            counts = np.bincount(mask.ravel(), minlength=len(given.numbers))[1:]
            areas = {str(number): int(n) for number, n in zip(tracked.objects, counts, strict=True)}
            tracked.frames.append({"frame": name, "areas": areas})
            progress.advance({})
            if interrupted():
                tracked.interrupted = True
                break
    return tracked


def painted(image: RGB, numbered: Mask) -> RGB:
    """(H, W, 3) the image with its objects in DAVIS's colors and white outlines, unchanged elsewhere."""
    colors = davis_palette()[numbered]
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
