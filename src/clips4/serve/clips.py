"""Videos of a session: frames in memory, masks that are followed frame by frame, one call of the model a frame."""

import io
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clips4.data.masks import davis_palette
from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.video.label_propagation import FrameMask, track
from clips4.serve.exports import zipped
from clips4.serve.runs import from_runs, to_runs
from clips4.utils.images import RGB, encode_png, reduce_to
from clips4.utils.video import VIDEO_SUFFIXES, open_frames

SIDE = 854  # long side of frames
MAX_FRAMES = 300
_QUALITY = 92


@dataclass(eq=False)
class Clip:
    """Frames of one size and their masks.

    Attributes:
        id: chosen at random.
        frames: JPEG of each.
        size: (H, W).
        rate: frames a second.
        masks: (H, W) objects by frame, as far as they are followed.
        state: "ready", "tracking", "stopped" or "done".
        problem: why tracking ended early.
    """

    id: str
    frames: list[bytes]
    size: tuple[int, int]
    rate: float
    masks: dict[int, NDArray[np.integer]] = field(default_factory=dict)
    state: str = "ready"
    problem: str = ""
    job: Iterator[FrameMask] | None = None

    @property
    def memory(self) -> int:
        """Memory that it takes."""
        return sum(map(len, self.frames)) + sum(mask.nbytes for mask in self.masks.values())

    def check(self, number: int) -> None:
        """Refuse the number of a frame that is not there.

        Raises:
            UserError: it is.
        """
        if not 0 <= number < len(self.frames):
            raise UserError(f"frame {number}: the video has frames 0 to {len(self.frames) - 1}")

    def frame(self, number: int) -> RGB:
        """(H, W, 3) a frame."""
        return np.array(Image.open(io.BytesIO(self.frames[number])))

    def start(self, first: int, runs: list[int], encoder: Encoder) -> Iterator[FrameMask]:
        """Begin to follow the objects of a frame's mask; later masks are dropped. Returns the job for ``step``.

        Raises:
            UserError: no such frame, or no object in the mask.
        """
        self.check(first)
        mask = from_runs(runs, self.size)
        if not 0 < mask.max() <= 254 or mask.min() < 0:
            raise UserError("the mask has no object, or one beyond 254; mark at least one")
        self.masks = {number: each for number, each in self.masks.items() if number < first}
        frames = ((str(number), self.frame(number)) for number in range(first, len(self.frames)))
        self.job, self.state, self.problem = track(frames, mask.astype(np.uint8), encoder), "tracking", ""
        return self.job

    def step(self, job: Iterator[FrameMask]) -> bool:
        """Follow the objects by one frame, unless another job has begun; whether there is more to do."""
        if self.job is not job or self.state != "tracking":
            return False
        try:
            found = next(job, None)
        except UserError as error:
            self.state, self.problem = "stopped", str(error)
            return False
        if found is None:
            self.state = "done"
            return False
        self.masks[int(found.name)] = found.mask
        return True

    def stop(self) -> None:
        """End tracking; the masks so far stay."""
        if self.state == "tracking":
            self.state = "stopped"
        self.job = None

    def facts(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "id": self.id,
            "frames": len(self.frames),
            "width": self.size[1],
            "height": self.size[0],
            "rate": self.rate,
            "state": self.state,
            "problem": self.problem,
            "tracked": sorted(self.masks),
        }

    def mask_runs(self, number: int) -> list[int]:
        """The mask of a frame as runs.

        Raises:
            UserError: it has none yet.
        """
        if number not in self.masks:
            raise UserError(f"frame {number} has no mask yet; track first")
        return to_runs(self.masks[number])

    def export(self) -> bytes:
        """A ZIP of the masks so far, indexed PNGs as DAVIS has them: ``00000.png`` and so on."""
        colors = davis_palette().tolist()
        masks = sorted(self.masks.items())
        return zipped({f"{number:05d}.png": encode_png(mask.astype(np.uint8), colors) for number, mask in masks})


def clip_of_video(data: bytes, name: str) -> Clip:
    """The frames of a video file.

    Raises:
        UserError: not a readable video, or PyAV is not installed.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        raise UserError(f"{name}: not a video; give one of {', '.join(sorted(VIDEO_SUFFIXES))}")
    with tempfile.TemporaryDirectory(prefix="clips4-") as folder:
        path = Path(folder) / f"video{suffix}"
        path.write_bytes(data)
        try:
            frames = open_frames(path)
            return _clip((image for _, image in frames), float(frames.rate), name)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name))


def clip_of_images(images: list[RGB], names: list[str]) -> Clip:
    """Images of one size as frames.

    Raises:
        UserError: their sizes differ.
    """
    for image, name in zip(images, names, strict=True):
        if image.shape != images[0].shape:
            size, first = (f"{each.shape[1]} x {each.shape[0]}" for each in (image, images[0]))
            raise UserError(f"{name}: {size} pixels, but the first frame has {first}; give frames of one size")
    return _clip(iter(images), 24.0, names[0])


def _clip(images: Iterator[RGB], rate: float, name: str) -> Clip:
    frames: list[bytes] = []
    size = (0, 0)
    for image in images:
        if len(frames) == MAX_FRAMES:
            raise UserError(f"{name}: more than {MAX_FRAMES} frames; cut it, or use clips4 track")
        small = reduce_to(image, SIDE)
        size = size if frames else small.shape[:2]
        if small.shape[:2] != size:
            raise UserError(f"{name}: the size of its frames changes")
        buffer = io.BytesIO()
        Image.fromarray(small).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
        frames.append(buffer.getvalue())
    return Clip(secrets.token_urlsafe(8), frames, size, rate)
