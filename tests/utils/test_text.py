"""Text files that others wrote."""

from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.utils.text import first_columns, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_read_text_marks_and_line_endings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("é one\r\n\rtwo three\n".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "é one\n\ntwo three\n"
    assert first_columns(tmp_path / "a.txt") == ["é", "two"]


@pytest.mark.parametrize("data", [b"caf\xe9", b"a\0b", b"\xff\xfea"])
def test_read_text_other_bytes_raise(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        read_text(tmp_path / "a.txt")


def test_read_text_names_that_are_not_utf8_are_kept_on_request(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9.jpg\n")
    assert read_text(tmp_path / "a.txt", "surrogateescape").encode("utf-8", "surrogateescape") == b"caf\xe9.jpg\n"
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path)
