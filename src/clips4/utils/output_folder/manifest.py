"""The manifest of an output folder: what a command wrote there, with which settings.

``OUT/.clips4/KEY.json`` is the entry of an input. It is written before the input's files, without kinds, and again when
all of them exist: an entry is valid at any moment. ``OUT/.clips4/clips4.json`` lists the files that cover the folder.
Files that a manifest lists are never inputs (``without_outputs``). An entry that a changed byte made odd, or that names
files outside the folder, counts as none; one whose facts alone are odd keeps its files and has no kinds, so that the
input is done again.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from clips4.errors import UserError
from clips4.utils.atomic_io import write_atomically
from clips4.utils.text import read_json

FOLDER = ".clips4"
WHOLE = "clips4"  # key of the entry of the folder's own files; no input has this name


def _inside(name: str) -> str:
    path = PurePath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise ValueError("leads out of the folder")
    return name


Inside = Annotated[str, AfterValidator(_inside)]


class ManifestEntry(TypedDict):
    """What is known of one input, or of the folder as a whole.

    Attributes:
        command: that wrote the files; empty in folders of earlier versions.
        settings_hash: of all settings that its outputs depend on.
        source: absolute path of the input; ``stamp`` its size in bytes and modification time in nanoseconds.
        stem: the entry's key: the name of an image's outputs, of a video with its suffix.
        kinds: what was saved; empty while the files are being written.
        files: names of the outputs within the folder; one that ends in "/" is a folder.
        facts: see ``outputs.encode.image_facts``.
    """

    command: str
    settings_hash: str
    source: str
    stamp: list[int]
    stem: Inside
    kinds: list[str]
    files: list[Inside]
    facts: dict[str, Any]


_ENTRY = TypeAdapter(ManifestEntry)

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Side = Annotated[int, Field(gt=0, lt=2**31)]
_Id = Annotated[int, Field(ge=0, lt=2**24)]  # 0 is unknown in panoptic files
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Box = Annotated[list[_Count], Field(min_length=4, max_length=4)]
_Sides = Annotated[list[_Side], Field(min_length=2, max_length=2)]


class _Area(TypedDict):
    name: str
    color: Annotated[str, Field(pattern="^#[0-9a-f]{6}$")]
    share: Annotated[float, Field(ge=0, le=1)]


class _Mask(TypedDict):
    size: _Sides
    counts: Annotated[str, Field(pattern="^[0-o]*$")]


class _Annotation(TypedDict):
    category_id: _Id
    bbox: _Box
    area: _Number
    segmentation: _Mask


class _Segment(TypedDict):
    id: _Id
    category_id: _Id


class _Facts(TypedDict, total=False):
    width: _Side
    height: _Side
    areas: list[_Area]
    annotations: list[_Annotation]
    segments_info: list[_Segment]
    grid: Annotated[str, Field(pattern=r"^\d+x\d+:[\dx ]*$")]


_FACTS = TypeAdapter(_Facts)
_NEEDED = {"gallery": ["areas", "grid"], "panoptic": ["segments_info"]}
_NEEDED |= {kind: ["annotations"] for kind in ("coco", "coco-polygons", "cvat")}


def _has_sound_facts(entry: ManifestEntry) -> bool:
    """Whether the facts of an entry have what the files of a whole folder need for its kinds, in the right types."""
    needed = {key for kind in entry["kinds"] for key in _NEEDED.get(kind, [])}
    try:
        facts = _FACTS.validate_python(entry["facts"], strict=True)
    except ValidationError:
        return False
    sides = [facts.get("height"), facts.get("width")]
    masks = [each["segmentation"]["size"] for each in facts.get("annotations", [])]
    return not needed or (needed | {"width", "height"} <= facts.keys() and all(size == sides for size in masks))


def is_current(entry: ManifestEntry) -> bool:
    """Whether the input of an entry exists and was not edited since."""
    return bool(entry["stamp"]) and file_stamp(Path(entry["source"])) == entry["stamp"]


def file_stamp(path: Path) -> list[int]:
    """Size and modification time: a file that was edited is another input. Empty if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def entry_path(out: Path, key: str) -> Path:
    """The file of an entry."""
    return out / FOLDER / f"{key}.json"


def read_entry(path: Path) -> ManifestEntry | None:
    """An entry; None if there is none, or one that is not sound."""
    try:
        values = read_json(path)
    except UserError:
        return None
    if "made_by" in values:  # the key in folders of earlier versions
        values["settings_hash"] = values.pop("made_by")
    values.setdefault("command", "")
    try:
        if older := values.pop("older", []):  # earlier versions kept files of other settings: done again, and removed
            values |= {"kinds": [], "files": [*values["files"], *older]}
        entry = _ENTRY.validate_python(values, strict=True)
    except (ValidationError, KeyError, TypeError):
        return None
    return entry if _has_sound_facts(entry) else ManifestEntry(**{**entry, "kinds": [], "facts": {}})


def write_entry(out: Path, entry: ManifestEntry) -> None:
    """Write an entry atomically."""
    write_atomically(entry_path(out, entry["stem"]), json.dumps(entry, separators=(",", ":")).encode())


def all_entries(out: Path, settings_hash: str | None = None, kind: str | None = None) -> Iterator[ManifestEntry]:
    """Entries of the inputs of a folder by key, read one at a time.

    Args:
        out: the folder of outputs.
        settings_hash: only those of these settings.
        kind: only those that saved this kind, of inputs that are unchanged.
    """
    for path in sorted((out / FOLDER).rglob("*.json")):
        entry = read_entry(path)
        if (
            entry
            and entry["stem"] != WHOLE
            and (settings_hash is None or entry["settings_hash"] == settings_hash)
            and (kind is None or (kind in entry["kinds"] and is_current(entry)))
        ):
            yield entry


def without_outputs(paths: Iterable[Path]) -> list[Path]:
    """The files that no manifest in a folder above them lists."""
    manifests: dict[Path, frozenset[str]] = {}

    def is_output(path: Path) -> bool:
        place = Path(os.path.abspath(path))  # noqa: PTH100  # links stay
        for folder in place.parents:
            if folder not in manifests:
                manifests[folder] = _outputs_of(folder)
            if manifests[folder]:
                name = place.relative_to(folder)
                names = {name.as_posix(), *(f"{parent.as_posix()}/" for parent in name.parents)}
                if names & manifests[folder]:
                    return True
        return False

    return [path for path in paths if not is_output(path)]


def _outputs_of(folder: Path) -> frozenset[str]:
    if not (folder / FOLDER).is_dir():
        return frozenset()
    entries = filter(None, map(read_entry, (folder / FOLDER).rglob("*.json")))
    return frozenset(name for entry in entries for name in entry["files"])
