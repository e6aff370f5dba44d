"""Text files that others wrote."""

import codecs
from pathlib import Path

from clips4.errors import UserError

_MARKS = {  # byte order marks; the longer of two that begin alike comes first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, errors: str = "strict") -> str:
    r"""The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark; lines end in ``\n``.

    Args:
        path: of the file.
        errors: as ``bytes.decode`` has them, such as "surrogateescape".

    Raises:
        UserError: the file cannot be read, or is no such text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
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
