"""Records of answered pictures: what was done, by what, so that the same command goes on where it stopped.

``OUT/.clips4/STEM.json`` is written before the files of a picture, as ``UNFINISHED``, and again when all are there: a
record vouches for its files at any moment. The folder's own files are made of records alone, one after the other.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from clips4.utils.atomic_io import write_atomically

FOLDER = ".clips4"
UNFINISHED = ""  # settings_hash of a record whose files are being written


class ManifestEntry(TypedDict):
    """What is known of an answered picture.

    Attributes:
        settings_hash: key of all settings that its files depend on.
        source: absolute path of the picture; ``stamp`` its size in bytes and time of change in nanoseconds.
        stem: of its outputs' names; ``kinds`` what was saved; ``files`` names of the outputs within the folder.
        older: names of outputs of earlier settings that were not written again.
        facts: see ``answers.image_facts``.
    """

    settings_hash: str
    source: str
    stamp: list[int]
    stem: str
    kinds: list[str]
    files: list[str]
    older: list[str]
    facts: dict[str, Any]


def file_stamp(path: Path) -> list[int]:
    """Size and time of change: a picture that was edited is another picture."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def entry_path(out: Path, stem: str) -> Path:
    """Where the record of a picture lies."""
    return out / FOLDER / f"{stem}.json"


def read_entry(path: Path) -> ManifestEntry | None:
    """A record; None where there is none, or not a whole one."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) and values.keys() >= ManifestEntry.__annotations__.keys() else None  # type: ignore[return-value]


def succeeding(before: ManifestEntry | None, record: ManifestEntry) -> ManifestEntry:
    """A record that takes the place of another: what the same settings saved of the same picture still counts."""
    if before is None:
        return record
    if all(before[key] == record[key] for key in ("settings_hash", "source", "stamp")):
        kinds, files = ([*before[key], *record[key]] for key in ("kinds", "files"))
        return {
            **record,
            "kinds": list(dict.fromkeys(kinds)),
            "files": list(dict.fromkeys(files)),
            "older": before["older"],
            "facts": {**before["facts"], **record["facts"]},
        }
    older = dict.fromkeys((*before["older"], *before["files"]))
    return {**record, "older": [name for name in older if name not in record["files"]]}


def write_entry(out: Path, record: ManifestEntry) -> None:
    """Vouch for a picture's files."""
    write_atomically(entry_path(out, record["stem"]), json.dumps(record, separators=(",", ":")).encode())


def is_done(out: Path, record: ManifestEntry | None, source: Path, settings_hash: str, kinds: Sequence[str]) -> bool:
    """Whether a record says that nothing is left to do: same picture, same settings, all kinds, all files there."""
    return (
        record is not None
        and record["settings_hash"] == settings_hash
        and record["source"] == str(source.resolve())
        and record["stamp"] == file_stamp(source)
        and set(kinds) <= set(record["kinds"])
        and all((out / name).exists() for name in record["files"])
    )


def all_entries(out: Path, settings_hash: str | None = None, kind: str | None = None) -> Iterator[ManifestEntry]:
    """Records of a folder by name, read one at a time.

    Args:
        settings_hash, kind: only those made by these settings, only those that saved this kind.
    """
    for path in sorted((out / FOLDER).glob("*.json")):
        record = read_entry(path)
        if (
            record
            and (settings_hash is None or record["settings_hash"] == settings_hash)
            and (kind is None or kind in record["kinds"])
        ):
            yield record
