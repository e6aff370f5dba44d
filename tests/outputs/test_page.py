"""Pages of hostile names."""

import os

import pytest

from clips4.outputs.page import render_page
from clips4.utils.text import has_controls

NAMES = ["a\x1b[31m.png", "b\r\nc.png", "c\u202egpj.png", "<script>alert(1)</script>", "\"'><img src=x>", "${x}"]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"caf\xe9\x9b2J.png")])
def test_render_page_hostile_name_leaves_no_markup_and_no_control_character(name: str) -> None:
    page = render_page("regions", name=name, method=name, leaves=2, top=[], levels=[])
    assert page.encode()
    assert not [line for line in page.split("\n") if has_controls(line)]
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert render_page("regions", name="plain", method="m", leaves=2, top=[], levels=[]).count("plain")
