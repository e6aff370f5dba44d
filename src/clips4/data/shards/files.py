"""Files of shards: their names, which may have braces, and the package that knows the layout."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from clips4.errors import UserError
from clips4.utils.extras import install_command

_URL = re.compile(r"pipe:|[A-Za-z][A-Za-z0-9+.-]+:/")  # not a Windows drive, which is one letter
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(\.\.-?\d+)?\}")
_MAX_NAMES = 2**20  # of one pattern with braces


def is_shard(text: str | Path) -> bool:
    """Whether this names shards: ``*.tar``, with or without braces.

    URLs and ``pipe:`` commands count, so that ``expand_shards`` can explain why they are not read.
    """
    return str(text).lower().endswith(".tar") or str(text).startswith("pipe:")


def import_webdataset() -> Any:
    """The package ``webdataset``, an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise UserError(f"tar shards need the package webdataset: {install_command('webdataset')}")
    return webdataset


def expand_shards(specs: str | Path | Iterable[str | Path]) -> list[str]:
    """The sorted, distinct files of ``*.tar`` names, with braces expanded (``shards/{000..031}.tar``).

    Raises:
        UserError: a file is missing, a name is a URL, braces do not close, or webdataset is not installed.
    """
    import_webdataset()
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

    shards: set[str] = set()
    for spec in [specs] if isinstance(specs, (str, Path)) else specs:
        text = str(spec)
        if _URL.match(text):
            raise UserError(f"{text}: shards are read from files only; copy or mount them and give their paths")
        try:
            names = [text] if Path(text).is_file() else _expand_braces(text, braceexpand)
        except UnbalancedBracesError:
            raise UserError(f"{text}: the braces do not close; write e.g. shards/{{000..031}}.tar")
        paths = [Path(name).expanduser() for name in names]
        for path in paths:
            if not path.is_file():
                missing = f"{path}: no such shard" if not path.exists() else f"{path}: not a file"
                raise UserError(missing + (f", one of {len(paths)} of {text}" if len(paths) > 1 else ""))
        shards.update(map(str, paths))
    if not shards:
        raise UserError("no shards; give files that end in .tar")
    return sorted(shards)


def _expand_braces(text: str, expand: Callable[[str], Iterator[str]]) -> list[str]:
    """The names of a pattern.

    Raises:
        UserError: too many of them.
    """
    sizes = [abs(int(found[2]) - int(found[1])) + 1 for found in _RANGE.finditer(text)]
    names = list(islice(expand(text), _MAX_NAMES + 1)) if prod(sizes) <= _MAX_NAMES else []
    if not 0 < len(names) <= _MAX_NAMES:
        raise UserError(f"{text}: more than {_MAX_NAMES} names; give the shards that there are")
    return names
