"""Tracking masks through frames, from files into files: what `clips4 track` does."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.masks import davis_palette, guess_rules, read_mask
from clips4.errors import UserError
from clips4.inference.video.label_propagation import Recipe, track
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import RGB, blend, boundaries, encode_png
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import ProgressReporter
from clips4.utils.video import Frames, VideoWriter, natural_key

OVERLAY = "overlay.mp4"
_MOST = 254  # objects; 255 means "not scored" in masks

Mask = NDArray[np.uint8]


@dataclass
class Tracked:
    """What was tracked.

    Attributes:
        objects: their numbers, as in the given masks.
        frames: of each frame its name and the pixels of each object.
        interrupted: Ctrl-C came before the last frame.
    """

    objects: list[int]
    frames: list[dict[str, Any]] = field(default_factory=list)
    interrupted: bool = False


@dataclass(frozen=True)
class GivenMasks:
    """Masks to begin with, objects numbered 1, 2, ... without gaps.

    Attributes:
        by_frame: name of a frame -> (H, W) objects that appear there.
        files: name of a frame -> file.
        numbers: (N + 1,) uint8, the number that each object has in the files; 0 stays 0.
    """

    by_frame: Mapping[str, Mask]
    files: Mapping[str, Path]
    numbers: Mask


def read_masks(path: Path, first_frame: str) -> GivenMasks:
    """The first frame's mask; or a folder of masks, named as their frames, whose objects may appear later.

    In a folder, an object counts in the first mask that has it; what later masks say of it is not read, so that a
    folder of full annotations gives no more than first frames.

    Args:
        path: a mask (palette, grey, or colours of DAVIS; 0 and 255 alone are one object), or a folder of them.
        first_frame: name of the first frame; what a mask file is taken for.

    Raises:
        UserError: no or an unreadable mask, none of the first frame, or no object in it.
    """
    if path.is_dir():
        files = {p.stem: p for p in sorted(path.glob("*.png"), key=lambda p: natural_key(p.name))}
        if first_frame not in files:
            raise UserError(f"{path}: no {first_frame}.png there; give the mask of the first frame that name")
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
            raise UserError(f"{file}: no object in this mask; mark each with a number of 1 to {_MOST} of its own")
        seen |= new
    numbers = np.array([0, *sorted(seen)], np.uint8)
    dense = {name: np.searchsorted(numbers, mask).astype(np.uint8) for name, mask in by_frame.items()}
    return GivenMasks(dense, files, numbers)


def track_files(
    frames: Frames,
    masks: Path,
    out: Path,
    features: Callable[[RGB], Tensor],
    recipe: Recipe,
    video: bool,
    progress: ProgressReporter,
) -> Tracked:
    """Follow objects through frames and write ``FRAME.png`` (indexed, DAVIS's palette) and ``overlay.mp4``.

    Frames are read, and masks written, one at a time; where a frame cannot be read, what was written before it stays.

    Args:
        masks: see ``read_masks``.
        video: write the overlay video, too.

    Raises:
        UserError: masks or frames are wrong (see ``read_masks``, ``Frames``), or something would be overwritten.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    first_frame = frames.files[0].stem if frames.files else "00000"
    given = read_masks(masks, first_frame)
    _refuse_overwriting_inputs(frames, given, out)
    later = _places(frames, given, first_frame)
    first = given.by_frame[first_frame]
    tracked = Tracked([int(number) for number in given.numbers[1:]])
    current: list[tuple[str, RGB]] = []  # the frame that is tracked now: the tracker takes one, and gives its mask

    def images() -> Iterator[RGB]:
        for name, image in frames:
            if image.shape[:2] != first.shape:
                _tell_sizes(frames, given.files[first_frame], name, image, first, not tracked.frames)
            current[:] = [(name, image)]
            yield image

    progress.stage("tracking", frames.count)
    with (
        VideoWriter(out / OVERLAY, frames.rate) if video else nullcontext() as writer,
        deferred_interrupt() as interrupted,
    ):
        for mask in track(images(), first, features, recipe, later):
            name, image = current[0]
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
    """(H, W, 3) the picture with its objects in DAVIS's colours and white outlines; the rest as it is."""
    colors = davis_palette()[numbered]
    shown = blend(image, colors, 0.5, boundaries(numbered))
    return np.where((numbered > 0)[..., None] | boundaries(numbered)[..., None], shown, image)


def _places(frames: Frames, given: GivenMasks, first_frame: str) -> dict[int, Mask]:
    """Masks of later frames by the frame's index."""
    index = {path.stem: place for place, path in enumerate(frames.files)}
    places: dict[int, Mask] = {}
    for name, mask in given.by_frame.items():
        if name == first_frame:
            continue
        place = index.get(name) if frames.files else (int(name) if name.isdigit() else None)
        if place is None:
            raise UserError(f"{given.files[name]}: no frame is called {name}; name masks as their frames")
        places[place] = mask
    return places


def _refuse_overwriting_inputs(frames: Frames, given: GivenMasks, out: Path) -> None:
    """Refuse to write over frames, masks or the video."""
    here = out.resolve()
    read = [*frames.files, *given.files.values(), frames.source]
    written = {f"{path.stem}.png" for path in frames.files} | {OVERLAY}
    for path in read:
        place = path.resolve()
        if place.parent == here and (place.name in written or (not frames.files and place.suffix == ".png")):
            raise UserError(f"{path}: would be overwritten by an output; give another --out")


def _tell_sizes(frames: Frames, mask: Path, name: str, image: RGB, first: Mask, at_first: bool) -> None:
    """Say which of mask and frame has another size."""
    theirs, ours = (f"{each.shape[1]} x {each.shape[0]}" for each in (image, first))
    if at_first:
        raise UserError(
            f"{mask}: {ours} pixels, but the frames of {frames.source} have {theirs}; give one of that size"
        )
    raise UserError(f"{frames.source}, frame {name}: {theirs} pixels, but those before have {ours}; give one sequence")
