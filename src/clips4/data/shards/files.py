"""Files of shards: their names, which may have braces, and the package that knows the layout."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from clips4.data.shards.remote import address_of, is_remote, missing_objects
from clips4.errors import UserError
from clips4.utils.extras import install_command

TABLES = (".parquet", ".arrow")
_RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(\.\.-?\d+)?\}")
_MAX_NAMES = 2**20  # of one pattern with braces


def is_shard(text: str | Path) -> bool:
    """Whether this names shards: ``*.tar``, ``*.parquet`` or ``*.arrow``, with or without braces, paths or addresses.

    ``pipe:`` commands count, so that ``expand_shards`` can explain why they are not read.
    """
    return str(text).lower().endswith((".tar", *TABLES)) or str(text).startswith("pipe:")


def import_webdataset() -> Any:
    """The package ``webdataset``, an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import webdataset
    except ImportError:
        raise UserError(f"shards need the package webdataset: {install_command('webdataset')}")
    return webdataset


def expand_shards(specs: str | Path | Iterable[str | Path]) -> list[str]:
    """The sorted, distinct shards of names, with braces expanded (``shards/{000..031}.tar``); ``file://`` is a path.

    Raises:
        UserError: a shard is missing, a name is a command, braces do not close, or webdataset is not installed.
    """
    import_webdataset()
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

    shards: set[str] = set()
    for spec in [specs] if isinstance(specs, (str, Path)) else specs:
        text = address_of(spec)
        if text.startswith("pipe:"):
            raise UserError(f"{text}: commands are not run; give paths, or addresses such as s3://BUCKET/0000.tar")
        try:
            names = [text] if Path(text).is_file() else _expand_braces(text, braceexpand)
        except UnbalancedBracesError:
            raise UserError(f"{text}: the braces do not close; write e.g. shards/{{000..031}}.tar")
        among = f", one of {len(names)} of {text}" if len(names) > 1 else ""
        if is_remote(text):
            if missing := next(missing_objects(names), None):
                raise UserError(f"{missing}: no such object{among}")
            shards.update(names)
            continue
        for path in (Path(name).expanduser() for name in names):
            if not path.is_file():
                raise UserError(f"{path}: {'not a file' if path.exists() else 'no such shard'}{among}")
            shards.add(str(path))
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
