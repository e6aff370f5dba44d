"""Class files in the forms that people have: text, CSV, YAML, JSON; understood, or refused with the reason.

Text holds one class per line: ``name`` or ``name: alias, alias``. A number before every name is its id. A single line
may hold all names, parted by commas. CSV has a column of names and perhaps one of ids. YAML and JSON hold a list of
names, ids and names, names and aliases, or any of these under ``names`` (Ultralytics), ``categories`` (COCO),
``classes`` or ``id2label``.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import yaml

from clips4.errors import UserError

STRUCTURED = {".yaml", ".yml", ".json"}
TABLES = {".csv", ".tsv"}

_KEYS = ("names", "categories", "classes", "id2label")  # of a document that holds more than names
_NAME_COLUMNS = ("name", "class_name", "class", "label", "category", "names", "classes", "label_name", "category_name")
_ID_COLUMNS = {"id", "idx", "index", "value", "class_id", "label_id", "category_id", "class_index", "number", ""}
_ALIAS_COLUMNS = {"alias", "aliases", "synonyms"}
_LARGEST = 2**23  # characters; label maps hold 32,767 classes
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_ID_FIRST = re.compile(r"(?P<id>\d+)(?:\s*[:,=\t]\s*|[.)]\s+|(?P<space>\s+))(?P<name>\S.*)")
_ID_LAST = re.compile(r"(?P<name>.*[^\s:,=])(?:\s*[:,=\t]\s*|(?P<space>\s+))(?P<id>\d+)")
_BULLET = re.compile(r"[-*]\s+(?=\S)")
_QUOTED = re.compile(r"""(["'])(.*)\1""")
_MORE = "write one class per line, 'name' or 'name: alias, alias'; quotes keep a name as it is"


class ClassEntry(NamedTuple):
    """One class of a file.

    Attributes:
        where: for messages: the line, or the key.
        name: may be empty.
        aliases: that replace the name in prompts; none for the name itself.
        id: that the file gives it.
    """

    where: str
    name: str
    aliases: tuple[str, ...] = ()
    id: int | None = None


def parse_class_file(text: str, suffix: str, source: str) -> list[ClassEntry]:
    """The classes of a file with this content and suffix, in the file's order.

    Raises:
        UserError: a form that is not understood.
    """
    if suffix != ".json" and len(text) > _LARGEST:  # a JSON file of COCO holds more than names, and is fast to parse
        raise UserError(
            f"{source}: larger than {_LARGEST >> 20} MiB, no list of class names; give one with names alone"
        )
    if suffix in STRUCTURED or text.lstrip()[:1] in ("[", "{"):
        document = _load_json(text, source) if suffix == ".json" else _load_yaml(text, source)
        if not isinstance(document, str):
            return _of_document(document, source)
    if suffix in TABLES:
        return _of_table(text, "\t" if suffix == ".tsv" else None, source)
    return parse_class_lines(text.split("\n"), source, one_line=True)


# --------------------------------------------------------------------------------------------------------------- text


def parse_class_lines(lines: Sequence[str], source: str, one_line: bool = False) -> list[ClassEntry]:
    """The classes of lines ``name`` or ``name: alias, alias``, ids and bullets removed; ``#`` starts a comment.

    Args:
        lines: of text.
        source: for messages.
        one_line: whether a single line may hold all names, parted by commas.

    Raises:
        UserError: several names in a line, an open quote, a ``#`` that may be part of a name, or brackets.
    """
    kept = [(number, _without_comment(line, f"{source}, line {number}")) for number, line in enumerate(lines, 1)]
    found = [(f"line {number}", line) for number, line in kept if line]
    if one_line and len(found) == 1 and "," in found[0][1] and ":" not in found[0][1]:
        found = [(f"name {place}", name) for place, name in enumerate(split_list(found[0][1]), 1)]
    elif found and all(_BULLET.match(line) for _, line in found):
        found = [(where, _BULLET.sub("", line, count=1)) for where, line in found]
    parts = _split_ids([line for _, line in found], source)
    return [_entry(where, line, number, source) for (where, _), (line, number) in zip(found, parts, strict=True)]


def _split_ids(lines: list[str], source: str) -> list[tuple[str, int | None]]:
    """Lines "0: cat", "0 cat", "0. cat" or "cat, 0" -> ("cat", 0); others as they are, without an id."""
    first, last = ([match for line in lines if (match := form.fullmatch(line))] for form in (_ID_FIRST, _ID_LAST))
    for found in (first, last):
        numbers, names = [int(match["id"]) for match in found], {match["name"] for match in found}
        counted = found is first or sorted(numbers) in (list(range(len(lines))), list(range(1, len(lines) + 1)))
        by_space = any(match["space"] for match in found)  # 4 wheeler, boeing 747: the number may be part of the name
        if lines and len(found) == len(lines) and (not by_space or (counted and 1 < len(lines) == len(names))):
            return [(match["name"], int(match["id"])) for match in found]
    if 1 < len(first) < len(lines) < 2 * len(first):
        raise UserError(f"{source}: a number is before {len(first)} of {len(lines)} names; give one to all, or to none")
    return [(line, None) for line in lines]


def split_names(line: str) -> list[str]:
    """Names parted by commas; double quotes keep a comma within a name."""
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))] or [""]


def split_list(line: str) -> list[str]:
    """Lines for ``parse_class_lines`` of names parted by commas; a comma at the end is dropped."""
    cells = split_names(line)
    return [f'"{cell}"' if "," in cell else cell for cell in (cells[:-1] if not cells[-1] else cells)]


def _without_comment(line: str, where: str) -> str:
    line = line.strip()
    if line.startswith("#"):
        return ""
    if _QUOTED.fullmatch(line):
        return line
    mark = re.search(r"\s#", line)
    if mark and line[mark.end() : mark.end() + 1].strip():
        raise UserError(f"{where}: is '#' in {line!r} part of the name? Quote the name, or write '# ' before a comment")
    return line[: mark.start()].rstrip() if mark else line


def _entry(where: str, line: str, id: int | None, source: str) -> ClassEntry:
    if ":" not in line:
        line = line.removesuffix(",").rstrip()
    if (quoted := _QUOTED.fullmatch(line)) and quoted[1] not in quoted[2]:
        return ClassEntry(where, quoted[2].strip(), (), id)
    name, colon, rest = line.partition(":")
    aliases = split_names(rest) if colon else []
    if colon and re.fullmatch(r"\s*\d+\s*,\s*\d+\s*,\s*\d+.*", rest):
        raise UserError(f"{source}, {where}: {line!r} looks like a name with a color; {_MORE}")
    parts = [_unquoted(part, f"{source}, {where}") for part in (name, *aliases)]
    if not parts[0] or not all(parts):
        raise UserError(f"{source}, {where}: empty name in {line!r}; {_MORE}")
    if separator := next((mark for mark in ",;\t|" if mark in parts[0]), None):
        what = "a tab" if separator == "\t" else repr(separator)
        raise UserError(f"{source}, {where}: {what} in {line!r}: one name, or several? {_MORE}")
    return ClassEntry(where, parts[0], tuple(parts[1:]), id)


def _unquoted(part: str, where: str) -> str:
    part = part.strip()
    if quoted := _QUOTED.fullmatch(part):
        return quoted[2].strip()
    if part[:1] in ("'", '"'):
        raise UserError(f"{where}: an open quote in {part!r}; {_MORE}")
    if set("[]{}<>") & set(part):
        raise UserError(f"{where}: brackets in {part!r}; is this a list of class names? {_MORE}")
    return part


# -------------------------------------------------------------------------------------------------------------- tables


def _of_table(text: str, delimiter: str | None, source: str) -> list[ClassEntry]:
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if delimiter is None:
        first = lines[0] if lines else ""
        delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    if not rows:
        return []
    header = [cell.casefold() for cell in rows[0]]
    name = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    id = aliases = None
    if name is not None and len(rows) > 1:
        id = next((place for place, cell in enumerate(header) if cell in _ID_COLUMNS), None)
        aliases = next((place for place, cell in enumerate(header) if cell in _ALIAS_COLUMNS), None)
        rows = rows[1:]
    elif len(rows) == 1 and not _NUMBER.fullmatch(rows[0][0]):
        cells = rows[0][:-1] if not rows[0][-1] else rows[0]
        return [ClassEntry(f"name {place}", cell) for place, cell in enumerate(cells, 1)]
    elif len({len(row) for row in rows}) == 1:
        words = [place for place in range(len(rows[0])) if not all(_NUMBER.fullmatch(row[place]) for row in rows)]
        name = words[0] if len(words) == 1 else 0 if len(rows[0]) == 1 else None
        id = 0 if name else len(rows[0]) - 1 if name == 0 and len(rows[0]) == 2 else None
    if name is None:
        raise UserError(f"{source}: several columns; write 'name' (and 'id') above those of names and ids")
    entries = []
    for number, row in enumerate(rows, 1):
        row += [""] * (max(name, id or 0, aliases or 0) + 1 - len(row))
        others = tuple(cell for cell in split_names(row[aliases])) if aliases is not None and row[aliases] else ()
        where = f"row {number}"
        entries.append(ClassEntry(where, row[name], others, None if id is None else _id(row[id], source, where)))
    return entries


# ----------------------------------------------------------------------------------------------------------- documents


class _Loader(yaml.BaseLoader):
    """YAML whose scalars stay text (``no`` is a name), and whose keys are given once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if (twice := _first_twice(key.value for key, _ in node.value)) is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # of text alone, constructs no objects
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = getattr(error, "problem", None) or type(error).__name__
        mark = getattr(error, "problem_mark", None)
        raise UserError(f"{source}{f', line {mark.line + 1}' if mark else ''}: not readable as YAML ({reason})")


def _load_json(text: str, source: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (twice := _first_twice(key for key, _ in pairs)) is not None:
            raise UserError(f"{source}: {twice!r} is given twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not readable as JSON ({error})")


def _of_document(document: Any, source: str) -> list[ClassEntry]:
    if isinstance(document, list):
        return [_of_item(f"item {place}", item, source) for place, item in enumerate(document, 1)]
    if not isinstance(document, dict):
        raise UserError(f"{source}: no list of names, and no names by id")
    for key in _KEYS:
        if isinstance(inner := document.get(key), (list, dict)):
            entries = _of_document(inner, source)
            count = document.get("nc")
            if count is not None and str(count) != str(len(entries)):
                raise UserError(f"{source}: nc is {count}, but there are {len(entries)} {key}; correct one of them")
            return entries
    names = document.get("names", "0")
    if {"nc", "train", "val", "path", "annotations"} & set(document) or not _is_whole(names):
        raise UserError(f"{source}: has no {' or '.join(_KEYS)}; add the names of its classes")
    keys, values = list(document), list(document.values())
    if keys and all(_is_whole(key) for key in keys):
        return [_of_item(f"id {key}", value, source)._replace(id=int(key)) for key, value in document.items()]
    if keys and all(_is_whole(value) for value in values):
        return [ClassEntry(f"id {value}", str(key), (), int(value)) for key, value in document.items()]
    return [_of_item(f"key {key!r}", {key: value}, source) for key, value in document.items()]


def _of_item(where: str, item: Any, source: str) -> ClassEntry:
    """A name, ``{"id": 1, "name": "cat"}``, or ``{"cat": aliases}``."""
    if isinstance(item, str):
        return ClassEntry(where, item)
    if isinstance(item, dict) and "name" in item:
        if not isinstance(item["name"], str):
            raise UserError(f"{source}, {where}: the name {item['name']!r} is no text")
        return ClassEntry(where, item["name"], (), _id(item["id"], source, where) if "id" in item else None)
    if isinstance(item, dict) and len(item) == 1:
        ((name, aliases),) = item.items()
        aliases = split_names(aliases) if isinstance(aliases, str) and aliases.strip() else aliases or []
        if isinstance(aliases, list) and all(isinstance(alias, str) and alias for alias in aliases):
            return ClassEntry(where, str(name), tuple(aliases))
    raise UserError(f"{source}, {where}: {str(item)[:60]!r} is not understood; give a name, or a name with its aliases")


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"\d+", str(value)) is not None


def _id(value: Any, source: str, where: str) -> int:
    if not _is_whole(value):
        raise UserError(f"{source}, {where}: the id {value!r} is no whole number")
    return int(value)


def in_order_of_ids(entries: Iterable[ClassEntry], source: str) -> list[ClassEntry]:
    """Entries sorted by their ids, if they have any.

    Raises:
        UserError: an id is given twice, or not to all.
    """
    entries = list(entries)
    without = [entry for entry in entries if entry.id is None]
    if len(without) == len(entries):
        return entries
    if without:
        raise UserError(
            f"{source}, {without[0].where}: {without[0].name!r} has no id, but others have; give one to all"
        )
    if (twice := _first_twice(entry.id for entry in entries)) is not None:
        raise UserError(f"{source}: the id {twice} is given twice; give each class its own")
    return sorted(entries, key=lambda entry: entry.id or 0)


def _first_twice(values: Iterable[Any]) -> Any:
    return next((value for value, count in Counter(values).items() if count > 1), None)
