"""HTML pages from the templates in ``assets/pages``: values in, text out.

Every page is one file that loads nothing from elsewhere; a page whose images are too many shows files beside it. All
pages share a base template and one style: light and dark, phones, print. Every value is escaped.
"""

import base64
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clips4.utils.images import RGB, encode_jpeg, reduce_to
from clips4.utils.text import percent, plural, printable

if TYPE_CHECKING:
    from jinja2 import Environment


_GRID_SIDE = 128


class PageImage(NamedTuple):
    """An image that a page carries: a ``data:`` address, and its size in pixels."""

    src: str
    width: int
    height: int


def page_image(image: RGB, long_side: int, quality: int = 84) -> PageImage:
    """(H, W, 3) uint8, reduced to ``long_side``, as JPEG inside the page."""
    image = reduce_to(image, long_side)
    data = base64.b64encode(encode_jpeg(image, quality)).decode()
    return PageImage(f"data:image/jpeg;base64,{data}", image.shape[1], image.shape[0])


def css_color(color: Sequence[int] | NDArray[np.uint8]) -> str:
    """(red, green, blue) in 0..255 -> "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in color))


def page_grid(numbers: NDArray[np.integer]) -> str:
    """Numbers of pixels (H, W) for a page's script, at a long side of at most 128: "WxH:NUMBERxCOUNT ...", in rows.

    Example:
        >>> page_grid(np.array([[0, 0, 2], [2, 2, 1]]))
        '3x2:0x2 2x3 1x1'
    """
    height, width = numbers.shape
    factor = max(1.0, max(height, width) / _GRID_SIDE)
    rows, columns = (
        ((np.arange(max(1, round(n / factor))) + 0.5) * n / max(1, round(n / factor))) for n in (height, width)
    )
    small = numbers[rows.astype(int)[:, None], columns.astype(int)[None]]
    starts = np.r_[0, np.flatnonzero(np.diff(small.ravel())) + 1, small.size]
    runs = zip(small.ravel()[starts[:-1]].tolist(), np.diff(starts).tolist(), strict=True)
    return f"{small.shape[1]}x{small.shape[0]}:" + " ".join(f"{number}x{count}" for number, count in runs)


def render_page(template: str, **values: object) -> str:
    """The page of ``assets/pages/TEMPLATE.html.j2``.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given.
    """
    return "".join(stream_page(template, **values))


def stream_page(template: str, **values: object) -> Iterator[str]:
    """The page in parts, so that a value may be an iterator over more items than fit in memory."""
    stream = _templates().get_template(f"{template}.html.j2").stream(values)
    stream.enable_buffering(64)
    return stream


def _shown(value: object) -> object:
    """Text without control characters but line breaks: names of files may hold them, and bytes that are no text."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value  # not what is escaped already


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("clips4", "assets/pages")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.finalize = _shown
    found.filters["percent"] = percent
    found.filters["counted"] = plural
    return found
