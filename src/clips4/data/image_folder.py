"""Images of a folder: finding them, loading them for training, and what became of them in a job."""

import errno
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clips4.errors import UserError
from clips4.utils.images import RGB, SUFFIXES, load_rgb, reduce_to
from clips4.utils.output_folder.manifest import FOLDER, without_outputs
from clips4.utils.text import plural, read_text
from clips4.utils.video import VIDEO_SUFFIXES

MIN_SIDE = 32  # pixels; smaller images have no useful crop
_OTHER_IMAGES = re.compile(r"\.(jxl|tga|dng|cr[23]|nef|arw|svg|psd|exr|hdr)")
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}  # no later image would fare better
_LISTED = 3  # names in a warning


class SkippedImage(NamedTuple):
    """An image that could not be used, and why."""

    path: Path
    reason: str


@dataclass
class JobOutcome:
    """What became of the images of a job.

    Attributes:
        done: those worked on.
        kept: those done before with the same settings.
        skipped: those that could not be used, with the reason.
        gone: number of inputs done before that no longer exist, or were edited and not done again.
        interrupted: whether Ctrl-C came before the last image.
    """

    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    skipped: list[SkippedImage] = field(default_factory=list)
    gone: int = 0
    interrupted: bool = False

    @property
    def count(self) -> int:
        """Number of images that are done, kept or skipped."""
        return len(self.done) + len(self.kept) + len(self.skipped)

    def joined(self, other: "JobOutcome") -> "JobOutcome":
        """What became of these images and of others."""
        return JobOutcome(
            self.done + other.done,
            self.kept + other.kept,
            self.skipped + other.skipped,
            self.gone + other.gone,
            self.interrupted or other.interrupted,
        )


def reason_to_skip(error: Exception) -> str:
    """Why an image is skipped after an error.

    Args:
        error: raised while the image was read, worked on or written.

    Raises:
        Exception: the error, if it does not concern this image alone.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno not in _FATAL:
        where = f"{error.filename2 or error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    memory = "not enough memory" in str(error) or "t allocate memory" in str(error)  # PyTorch on a CPU
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or memory:
        return "out of memory; use a smaller image, or another device"
    raise error


def find_images(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """Image files in files, folders and lists; folders are searched recursively, by suffix, in sorted order.

    A list is a .txt file with one path per line; a relative path starts at the list's folder. Links to folders are
    followed, each folder once; a link to nothing counts as an image, so that jobs report it. Files that a manifest
    lists as outputs are left out. Warnings name what is left out.

    Raises:
        UserError: a path does not exist, or there is no image.
    """
    paths = [Path(inputs)] if isinstance(inputs, (str, Path)) else [Path(path) for path in inputs]
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += _images_below(path)
        elif path.is_file() and path.suffix.lower() == ".txt":
            found += _read_list(path)
        elif path.exists() or path.is_symlink():  # a pipe or device, too: jobs say that it is none
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder; give images, or a folder of them")
    if not found:
        where = ", ".join(map(str, paths)) or "nothing"
        raise UserError(f"{where}: no image found; files end in {', '.join(sorted(SUFFIXES))}")
    return drop_outputs(dict.fromkeys(found))


def drop_outputs(paths: Collection[Path]) -> list[Path]:
    """The files that no manifest lists as outputs; a warning counts the others.

    Raises:
        UserError: all are outputs.
    """
    kept = without_outputs(paths)
    if paths and not kept:
        raise UserError(f"{next(iter(paths))}: clips4 wrote it, and its outputs are never inputs; copy it to use it")
    if len(kept) < len(paths):
        _warn(f"not taken as images: {plural(len(paths) - len(kept), 'file')} that clips4 wrote")
    return kept


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    others: Counter[str] = Counter()
    for path in files_below(folder):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            found.append(path)
        elif suffix in VIDEO_SUFFIXES or _OTHER_IMAGES.fullmatch(suffix):
            others[suffix] += 1
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        _warn(f"{folder}: left out what is no image of a supported format ({kinds}); convert it, or name each video")
    return found


def files_below(folder: Path) -> list[Path]:
    """The visible files in a folder and its subfolders, sorted; none if there is no such folder.

    Links to folders are followed, each folder once; links to nothing are included. Warnings name linked folders, those
    that cannot be searched, and what is left out: pipes, sockets and devices.
    """
    found: list[Path] = []
    seen: set[str] = set()
    links, followed, left, pipes = [folder], list[Path](), list[Path](), list[Path]()
    while links:
        start = links.pop(0)
        if os.path.realpath(start) in seen:
            left.append(start)
            continue
        followed.append(start)
        for path, is_folder in _walk(start, seen):
            (links if is_folder else found if path.is_file() or path.is_symlink() else pipes).append(path)
    if followed[1:]:
        _warn(f"linked folders are searched, too: {_few(followed[1:])}")
    if left:
        _warn(f"links to folders that are searched already are left out: {_few(left)}")
    if pipes:
        _warn(f"left out what is no regular file, but a pipe, socket or device: {_few(pipes)}")
    return sorted(found)


def _walk(start: Path, seen: set[str]) -> Iterator[tuple[Path, bool]]:
    """Visible files below a folder, and links to folders (True); ``seen`` has the real paths of searched folders."""

    def report(error: OSError) -> None:
        _warn(f"{error.filename}: left out, cannot be searched ({error.strerror})")

    for parent, folders, files in os.walk(start, onerror=report) if start.is_dir() else ():
        seen.add(os.path.realpath(parent))
        paths = sorted(Path(parent, name) for name in folders if name != FOLDER)
        yield from ((path, True) for path in paths if path.is_symlink())
        folders[:] = [path.name for path in paths if not path.is_symlink() and os.path.realpath(path) not in seen]
        yield from ((Path(parent, name), False) for name in files if not name.startswith("."))


def _few(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(map(str, paths[:_LISTED])) + more


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def _read_list(path: Path) -> list[Path]:
    """The images in a list.

    Raises:
        UserError: the list is not text, or a line names no file.
    """
    lines = read_text(path, "surrogateescape").split("\n")  # names of files need not be text
    images = [(number, path.parent / line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, image in images:
        if not image.is_file():
            raise UserError(f"{path}, line {number}: {image}: {'not a regular' if image.exists() else 'no such'} file")
    return [image for _, image in images]


def load_training_image(path: Path, long_side: int) -> RGB:
    """Load an image for training, scaled down to ``long_side``.

    Raises:
        UserError: the image cannot be read, or a side is shorter than ``MIN_SIDE``.
    """
    return fit_training_image(load_rgb(path), long_side, str(path))


def fit_training_image(image: RGB, long_side: int, name: str) -> RGB:
    """Scale a decoded image (H, W, 3) down to ``long_side`` for training; see ``load_training_image``."""
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"{name}: {width} x {height} pixels are too few to train on; give at least {MIN_SIDE} a side")
    image = reduce_to(image, long_side)
    if min(image.shape[:2]) < MIN_SIDE:
        raise UserError(f"{name}: {width} x {height} pixels are too narrow to train on; crop it")
    return image
