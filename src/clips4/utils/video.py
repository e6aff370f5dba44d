"""Streams of frames: read from a folder of images or a video file, written to a video file.

Video files need PyAV (``pip install 'clips4[video]'``), which includes FFmpeg's libraries.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from clips4.errors import UserError
from clips4.utils.atomic_io import temporary_path
from clips4.utils.extras import install_command
from clips4.utils.image_file import check_pixels, max_pixels
from clips4.utils.images import RGB, SUFFIXES, load_rgb
from clips4.utils.output_folder.manifest import without_outputs

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts"})
DEFAULT_RATE = Fraction(24)  # frames a second of a folder of images; DAVIS's own
# containers alone: a playlist would open whatever it names; and local files alone, whatever a name looks like
_OPTIONS = {"format_whitelist": "mov,matroska,avi,mpeg,mpegvideo,mpegts,asf,flv,ogg", "protocol_whitelist": "file"}
_LOST = 0.02  # share of the announced frames that may be missing before a file counts as cut off


@dataclass(frozen=True)
class Frames:
    """A sequence of frames; every iteration reads the source again, one frame at a time.

    Attributes:
        source: a folder or a video file.
        files: the folder's images in natural order; empty for a video.
        rate: frames a second.
        count: number of frames; of a video the number in its header, 0 if there is none.
    """

    source: Path
    files: tuple[Path, ...]
    rate: Fraction
    count: int

    def __iter__(self) -> Iterator[tuple[str, RGB]]:
        """Name (the stem of the file; 00000, 00001, ... in a video) and image of each frame.

        Raises:
            UserError: a frame is unreadable, or the video has none or was cut off; earlier frames are yielded before.
        """
        return ((path.stem, load_rgb(path)) for path in self.files) if self.files else _decoded(self.source)


def is_video(path: Path) -> bool:
    """Whether a path is a file with the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts ``frame2`` before ``frame10``."""
    return [(int(part), "") if part.isdigit() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def open_frames(path: Path, rate: float | None = None) -> Frames:
    """The frames of a folder or a video file.

    Args:
        rate: frames a second; by default a video's own, or ``DEFAULT_RATE`` for a folder.

    Raises:
        UserError: the path does not exist, the folder has no image or two of one stem, the file is not a video, or
            PyAV is not installed.
    """
    given = None if rate is None else Fraction(rate).limit_denominator(1001)
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != "."]
        files = tuple(sorted(without_outputs(found), key=lambda p: natural_key(p.name)))
        if not files:
            suffixes = ", ".join(sorted(SUFFIXES))
            raise UserError(f"{path}: no frames in this folder; give images ({suffixes}) that clips4 did not write")
        stems = [p.stem.casefold() for p in files]
        if len(set(stems)) < len(stems):
            twice = next(p.stem for p in files if stems.count(p.stem.casefold()) > 1)
            raise UserError(f"{path}: several frames are called {twice}.*; give each its own name")
        return Frames(path, files, given or DEFAULT_RATE, len(files))
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; give a folder of frames, or a video file")
    with _opened(path) as stream:
        return Frames(path, (), given or Fraction(stream.average_rate or DEFAULT_RATE), stream.frames)


def require_av() -> Any:
    """PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(f"video files need PyAV; {install_command('av')}, or use folders of frames")
    return av


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The first video stream of a file; whatever PyAV raises in the block counts as damage."""
    av = require_av()
    try:
        with av.open(f"file:{path}", options=_OPTIONS) as container:
            if not container.streams.video:
                raise UserError(f"{path}: has no video stream; give a folder of frames, or a video file")
            stream = container.streams.video[0]
            check_pixels(str(path), stream.width, stream.height)
            stream.codec_context.options = {"max_pixels": str(max_pixels())}  # a later frame may be larger
            yield stream
    except UserError:
        raise
    except Exception as error:  # FFmpeg's errors, and of damaged metadata almost anything
        raise UserError(f"{path}: not a readable video, or cut off ({_reason(error)}); copy it again from its source")


def _decoded(path: Path) -> Iterator[tuple[str, RGB]]:
    number, end = 0, 0.0
    with _opened(path) as stream:
        stream.thread_type = "AUTO"
        frame_seconds = float(1 / (stream.average_rate or DEFAULT_RATE))
        try:
            for frame in stream.container.decode(stream):
                yield f"{number:05d}", _upright(frame)
                number += 1
                end = max(end, (frame.time or 0.0) + frame_seconds)
        except Exception as error:  # as in ``_opened``
            raise UserError(f"{path}: damaged after frame {number} ({_reason(error)}); copy it again from its source")
        if number == 0:
            raise UserError(f"{path}: a video without frames; copy it again from its source")
        seconds = _seconds(stream.metadata.get("DURATION", ""))  # Matroska stores it, but not the count
        if number < (1 - _LOST) * stream.frames - 1 or end < (1 - _LOST) * seconds - 2 * frame_seconds:
            total = f"{stream.frames} frames" if stream.frames else f"{seconds:.1f} seconds"
            raise UserError(f"{path}: cut off after frame {number} of {total}; copy it again from its source")


def _seconds(text: str) -> float:
    """``00:01:02.5`` -> 62.5; 0 for anything else."""
    match = re.fullmatch(r"(\d+):(\d+):([\d.]+)", text.strip())
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) if match else 0.0


def _upright(frame: Any) -> RGB:
    """(H, W, 3) as a player shows it: phones store the rotation apart from the pixels."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4)) if frame.rotation else image


def _reason(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


class VideoWriter:
    """Writes frames to an MP4 file that appears complete or not at all; use as a context manager.

    The codec is H.264 if FFmpeg's libraries include x264, else MPEG-4. Both need even sides, so the last row or column
    is repeated where needed.

    Raises:
        UserError: PyAV is not installed.
    """

    def __init__(self, path: Path, rate: Fraction):
        self._av = require_av()
        self._path, self._rate = path, rate
        self._temporary = temporary_path(path)
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> "VideoWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._container = self._av.open(f"file:{self._temporary}", "w", format="mp4", options={"movflags": "faststart"})
        return self

    def write(self, image: RGB) -> None:
        """Append a frame (H, W, 3) uint8; all frames have one size."""
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            x264 = "libx264" in self._av.codec.codecs_available
            options = {"crf": "20", "preset": "veryfast"} if x264 else {"q": "4"}
            self._stream = self._container.add_stream("libx264" if x264 else "mpeg4", rate=self._rate, options=options)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        for packet in self._stream.encode(self._av.VideoFrame.from_ndarray(image, format="rgb24")):
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
            self._container.close()
            if kind is None and self._stream is not None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
