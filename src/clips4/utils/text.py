"""Text: counts in messages, names shown on one line, files and JSON read in bounded memory."""

import codecs
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clips4.errors import UserError, lacks_handles

JSON_BYTES = 2**26  # of one document; the card of a run has a few KiB
TEXT_BYTES = 2**30  # a list of a million images has less than a tenth of that
# control characters, line and paragraph separators, marks of direction, halves of characters (undecodable file names)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_MARKS = {  # byte order marks; the longer of two that begin alike comes first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def printable(text: object) -> str:
    r"""Text on one line without anything that a terminal obeys: such characters become escapes.

    Example:
        >>> printable("a\x1b[31m\nb")
        'a\\x1b[31m\\nb'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def listing(names: Sequence[object], limit: int = 6) -> str:
    """Names parted by commas, the first ``limit`` of them and how many more there are.

    Example:
        >>> listing(["cat", "dog", "grass"], 2)
        'cat, dog and 1 more'
    """
    more = len(names) - limit
    return ", ".join(map(str, names[:limit])) + (f" and {more} more" if more > 0 else "")


def percent(share: float) -> str:
    """A share in [0, 1] as readers see it: "12.3 %"."""
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def has_controls(text: str) -> bool:
    """Whether ``printable`` would change this text."""
    return _UNSAFE.search(text) is not None


def markdown_text(text: object) -> str:
    r"""Text that Markdown shows as it is: no link, image, code, table cell or HTML element.

    Example:
        >>> markdown_text("<b>*a*</b> | [x](y)")
        '&lt;b&gt;\\*a\\*&lt;/b&gt; \\| \\[x\\]\\(y\\)'
    """
    return _MARKDOWN.sub(r"\\\1", html.escape(printable(text), quote=False))


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, at most ``limit`` of them.

    Raises:
        UserError: not a regular file (a pipe or device would never end), larger than that, or not readable.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file; give a file, no folder, pipe or device")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, UserError) or lacks_handles(error):
            raise
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check this path")
    return _within(limit, data, path)


def _within(limit: int, data: bytes, path: Path) -> bytes:
    if len(data) > limit:
        raise UserError(f"{path}: larger than {limit / 2**20:.3g} MiB, too large for a file of its kind")
    return data


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        UserError: see ``read_bytes`` and ``parse_json``.
    """
    return parse_json(read_bytes(path, limit), str(path))


def parse_json(data: bytes | str, source: str) -> dict[str, Any]:
    """The object of a JSON document.

    Raises:
        UserError: not JSON, nested too deeply, or not an object.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not readable as JSON ({type(error).__name__}); copy or download it again")
    if not isinstance(values, dict):
        raise UserError(f"{source}: not an object of JSON; copy or download it again")
    return values


def read_text(path: Path, errors: str = "strict") -> str:
    r"""The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark; lines end in ``\n``.

    Args:
        path: of the file.
        errors: as ``bytes.decode`` has them, such as "surrogateescape".

    Raises:
        UserError: the file cannot be read, is above ``TEXT_BYTES``, or is no such text.
    """
    try:
        with path.open("rb") as file:  # also a pipe, such as a shell makes of <(...)
            data = _within(TEXT_BYTES, file.read(TEXT_BYTES + 1), path)
    except OSError as error:
        if lacks_handles(error):
            raise
        raise UserError(f"{path}: cannot be read ({error.strerror}); check this path")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{path}: not a text file in UTF-8; save it in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def first_columns(path: Path) -> list[str]:
    """The first column (up to a space) of each line that has one.

    Raises:
        UserError: see ``read_text``.
    """
    return [line.split()[0] for line in read_text(path).split("\n") if line.strip()]


def plural(count: int, singular: str, several: str = "") -> str:
    """A number with its noun.

    Example:
        >>> plural(1, "image"), plural(2, "image"), plural(3, "class", "classes")
        ('1 image', '2 images', '3 classes')
    """
    return f"{count} {singular if count == 1 else several or singular + 's'}"
