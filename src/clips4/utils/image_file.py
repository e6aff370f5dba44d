"""The one door for image files: which formats, how large, how long, and what a damaged file raises. Imports no torch.

Images, label maps, masks, edge maps and arrays from files enter here. The declared size is checked before any pixel is
decoded, and whatever a decoder raises becomes a ``UserError`` that names the file.
"""

import contextlib
import ctypes
import importlib
import io
import math
import os
import re
import stat
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging
from PIL.JpegImagePlugin import JpegImageFile

from clips4.errors import UserError, lacks_handles
from clips4.utils.extras import install_command

for _name in ("Png", "WebP", "Tiff", "Bmp", "Gif", "Ppm", "Jpeg2K", "Avif"):  # each registers its format
    with contextlib.suppress(ImportError):  # Pillow before 11.3 reads no AVIF
        importlib.import_module(f"PIL.{_name}ImagePlugin")
with contextlib.suppress(ImportError):
    import pillow_heif

    pillow_heif.register_heif_opener()

with contextlib.suppress(AttributeError, OSError):  # where libtiff is no library of its own, it cannot be reached
    _pillow = ctypes.CDLL(_imaging.__file__)  # finds functions of the libraries that Pillow loaded, too
    for _set in (_pillow.TIFFSetErrorHandler, _pillow.TIFFSetWarningHandler):
        _set.argtypes, _set.restype = [ctypes.c_void_p], ctypes.c_void_p
        _set(None)  # else it prints file names and damage on the terminal; Pillow raises as well

ORIENTATION = 0x0112  # the EXIF tag: how stored pixels are turned and mirrored to be displayed, 1 to 8
MEGAPIXELS, SECONDS = "CLIPS4_MAX_MEGAPIXELS", "CLIPS4_MAX_SECONDS"  # environment variables, so that workers have them
_PIXELS, _SECONDS = 64 * 2**20, 8.0

_FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
    if name in Image.OPEN
)
_BYTES_A_PIXEL = 24  # the most that decoding takes (JPEG 2000, WebP), and the array
_MEMORY = 2 << 30  # bytes, file and pixels together, with the default number of pixels
_SCANS = 100  # of a JPEG with the most pixels; each scan visits all of them
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")


def max_pixels() -> int:
    """The most pixels of an image: 64 megapixels of 2^20, or ``$CLIPS4_MAX_MEGAPIXELS``.

    Raises:
        UserError: the variable is not a positive number.
    """
    return int(positive_setting(MEGAPIXELS, _PIXELS / 2**20) * 2**20)


def positive_setting(variable: str, default: float) -> float:
    """A number from the environment.

    Raises:
        UserError: it is not a positive number.
    """
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"{variable}={text}: not a positive number; unset it, or give one such as {default:g}")
    return value


def check_pixels(name: str, width: int, height: int) -> None:
    """Refuse an image that is larger than the limit.

    Raises:
        UserError: it is.
    """
    if width * height > max_pixels():
        raise too_large(name, f"{width} x {height} pixels")


def too_large(name: str, what: str) -> UserError:
    """The error of an image that is larger than the limit."""
    limit = f"limit: {max_pixels() / 2**20:g} megapixels"
    return UserError(f"{name}: {what} are too many ({limit}); resize it, or raise the limit {MEGAPIXELS}")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


@contextlib.contextmanager
def open_image(
    source: Path | bytes, name: str, kind: str = "image", formats: Sequence[str] = _FORMATS
) -> Iterator[Image.Image]:
    """Open an image at its first frame, its size checked and its pixels not yet decoded.

    Args:
        source: the file, or its bytes.
        name: of the file in messages; ``kind`` is what it should be.
        formats: Pillow's names of those to accept; the content decides, not the suffix.

    Raises:
        UserError: the file is missing, of another format, damaged, or larger than the limits. Whatever is raised in the
            block counts as damage, so it should do no more than read the image.
    """
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))  # of large images and odd tags
            stack.enter_context(_pillow_limit(max_pixels()))
            file = stack.enter_context(_BudgetedFile(source, name))
            image = stack.enter_context(_identified(file, formats))
            check_pixels(name, *image.size)
            if image.width * image.height * _BYTES_A_PIXEL + file.size > _MEMORY * max(1, max_pixels() / _PIXELS):
                raise too_large(name, f"{image.width} x {image.height} pixels in {file.size >> 20} MiB")
            if image.format == "JPEG":
                _check_scans(file, image.width * image.height, name)
            if image.format == "TIFF":  # turn the pixels, leave the other tags alone
                image.load_end = lambda: ImageOps.exif_transpose(image, in_place=True)  # type: ignore[attr-defined]
            image.seek(0)
            if not image.width * image.height:
                raise ValueError("no pixels")
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file")
    except UnidentifiedImageError:
        save = "open it and save it as JPEG or PNG" if "JPEG" in formats else "JPEG changes values: create it as a PNG"
        heic = f", or {install_command('pillow-heif')}" if name.lower().endswith((".heic", ".heif")) else ""
        raise UserError(f"{name}: not {_a(kind)}, or of an unsupported format; {save}{heic}")
    except Image.DecompressionBombError:
        raise too_large(name, "its pixels")
    except MemoryError:
        raise UserError(f"{name}: not enough memory for this {kind}; resize it")
    except Exception as error:  # decoders raise almost anything at damaged files
        if isinstance(error, OSError) and error.errno is not None:
            if lacks_handles(error):
                raise
            raise UserError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions")
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged {kind} ({reason}); copy it again from its source")


def _identified(file: "_BudgetedFile", formats: Sequence[str]) -> Image.Image:
    start = file.read(3)
    file.seek(0)
    stream = cast("IO[bytes]", file)
    if start == b"\xff\xd8\xff" and "JPEG" in formats:  # the first image alone; Pillow would open those behind it, too
        return JpegImageFile(stream)
    return Image.open(stream, formats=tuple(formats))


@contextlib.contextmanager
def _pillow_limit(pixels: int) -> Iterator[None]:
    """Pillow refuses images of twice its own limit: raise it where ours is higher."""
    before = Image.MAX_IMAGE_PIXELS
    if before is not None and pixels > before:
        Image.MAX_IMAGE_PIXELS = pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


class _BudgetedFile:
    """A file for Pillow, which reads in blocks: each read checks the time, and none asks for more than there is."""

    def __init__(self, source: Path | bytes, name: str):
        self._name = name
        if isinstance(source, bytes):
            self._file: IO[bytes] = io.BytesIO(source)
        else:
            mode = source.stat().st_mode
            if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
                raise UserError(f"{name}: {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; give a file")
            self._file = source.open("rb")
        self.size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        self._seconds = positive_setting(SECONDS, _SECONDS)
        self._end = time.thread_time() + self._seconds  # of the processor: a slow disk or a busy machine is no fault

    def __enter__(self) -> "_BudgetedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        if time.thread_time() > self._end:
            raise UserError(
                f"{self._name}: decoding takes more than {self._seconds:g} seconds; save it anew, or set {SECONDS}"
            )
        left = max(0, self.size - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def _check_scans(file: _BudgetedFile, pixels: int, name: str) -> None:
    """Refuse a JPEG of so many scans that decoding takes minutes: kilobytes can hold thousands."""
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    most = max(1, _SCANS * _PIXELS // max(pixels, 1))
    if data.count(b"\xff\xda") <= most:  # more than there are: metadata may hold these bytes
        return
    scans = at = 0
    while match := _MARKER.search(data, at):
        at, kind = match.end(), match[1][0]
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        if scans > most:
            raise UserError(f"{name}: more than {most:.0f} scans in a progressive JPEG; save it anew, with few scans")
        if kind not in (0xD8, 0x01):
            at += int.from_bytes(data[at : at + 2], "big")


def orientation(image: Image.Image) -> int:
    """How the stored pixels of an image are turned to be displayed, 1 to 8; 1 if its tags cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the pixels are whole
        return 1
    return int(value) if value in range(1, 9) else 1


def image_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """(width, height) of an image as displayed; no pixel is decoded.

    Raises:
        UserError: see ``open_image``.
    """
    with open_image(source, name) as image:
        turn = 1 if image.format == "TIFF" else orientation(image)  # Pillow swaps the sides of a TIFF itself
        return image.size if turn < 5 else image.size[::-1]


def image_orientation(source: Path | bytes, name: str) -> int:
    """How the stored pixels of an image file are turned to be displayed, see ``images.turned``; no pixel is decoded.

    Raises:
        UserError: see ``open_image``.
    """
    with open_image(source, name) as image:
        return orientation(image)


def read_array(path: Path, kind: str) -> NDArray[Any]:
    """An array of numbers from a ``.npy`` file; nothing in it is ever run, and its header is checked first.

    Args:
        kind: what it should be, for messages.

    Raises:
        UserError: the file is unreadable, not an array of numbers, or larger than the limit.
    """
    try:
        with np.errstate(all="ignore"):  # of sizes that overflow
            stored = np.lib.format.open_memmap(path, mode="r") if path.is_file() else None
    except Exception as error:  # of damaged headers, almost anything
        if lacks_handles(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: not a readable {kind} ({reason}); create it again with numpy.save")
    if stored is None:
        raise UserError(f"{path}: no such file")
    if stored.dtype.kind not in "biuf":
        raise UserError(f"{path}: {stored.dtype}; {_a(kind)} holds numbers: create it again with numpy.save")
    if not 0 < stored.size <= max_pixels():
        raise too_large(str(path), f"{stored.shape} values") if stored.size else UserError(f"{path}: an empty array")
    return np.array(stored)
