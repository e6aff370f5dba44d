import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clips4.errors import UserError, lacks_handles
from clips4.utils.image_file import read_array
from clips4.utils.tensors import read_tensors
from clips4.utils.text import (
    first_columns,
    has_controls,
    markdown_text,
    parse_json,
    plural,
    printable,
    read_bytes,
    read_json,
    read_text,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, Größe 大きい 🐈", "plain, Größe 大きい 🐈"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("nul\0", r"nul\x00"),
        ("\x9b2J", r"\x9b2J"),  # the one-byte form of ESC [
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("line\u2028two", r"line\u2028two"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        (Path("p") / "x\n", r"p/x\n"),
    ],
)
def test_printable_hostile_text_shows_escapes_on_one_line(text: object, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).encode()
    assert has_controls(str(text)) == (shown != str(text))


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:y)", "![i](u)", "a | b", "`code`", "# head", "*b*", "$x$"]
)
def test_markdown_text_hostile_name_keeps_no_active_sign(text: str) -> None:
    shown = markdown_text(text)
    plain = shown.replace("&lt;", "").replace("&gt;", "")
    for place, sign in enumerate(plain):
        if sign in "`*[]()#!|$_":
            assert plain[place - 1] == "\\"
    assert "<" not in shown


def test_read_bytes_file_within_the_limit_is_returned(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    assert read_bytes(tmp_path / "a", 4) == b"1234"


def test_read_bytes_pipe_folder_device_giant_or_nothing_raises(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    for path, words in {
        tmp_path / "a": "larger than",
        tmp_path / "pipe": "not a regular file",
        tmp_path: "not a regular file",
        Path("/dev/zero"): "not a regular file",
        tmp_path / "nothing": "cannot be read",
        Path("nul\0"): "cannot be read",
    }.items():
        with pytest.raises(UserError, match=words):
            read_bytes(path, 4)


def test_read_text_endless_device_raises_and_a_pipe_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clips4.utils.text.TEXT_BYTES", 2**20)
    with pytest.raises(UserError, match="/dev/zero: larger than 1 MiB"):
        read_text(Path("/dev/zero"))
    reader, writer = os.pipe()
    os.write(writer, b"cat\r\ndog")
    os.close(writer)
    assert read_text(Path(f"/dev/fd/{reader}")) == "cat\ndog"
    os.close(reader)


@pytest.mark.parametrize(
    "read", [lambda path: read_bytes(path, 4), read_text, read_tensors, lambda path: read_array(path, "map")]
)
def test_read_without_handles_left_is_no_fault_of_the_file(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1234")

    def open_none(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "a")

    for place in ("pathlib.Path.open", "numpy.lib.format.open_memmap"):
        monkeypatch.setattr(place, open_none)
    with pytest.raises(OSError, match="Too many open files") as raised:
        read(tmp_path / "a")
    assert lacks_handles(raised.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"3", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_parse_json_no_object_raises(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="copy or download it again"):
        parse_json(data, "card")
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, "image"), "0 images"),
        ((1, "image"), "1 image"),
        ((2, "image"), "2 images"),
        ((1, "class", "classes"), "1 class"),
        ((5, "class", "classes"), "5 classes"),
    ],
)
def test_plural_of_a_count_agrees_with_it(arguments: tuple[int, str], expected: str) -> None:
    assert plural(*arguments) == expected
