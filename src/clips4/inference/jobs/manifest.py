"""The manifest of an output folder: what was done, with which settings, so that the same command resumes.

``OUT/.clips4/STEM.json`` is written before the files of an image, as ``UNFINISHED``, and again when all of them exist:
an entry is valid at any moment. The folder's own files are made from entries alone, one after the other.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from clips4.outputs.encode import Kind
from clips4.utils.atomic_io import write_atomically

FOLDER = ".clips4"
UNFINISHED = ""  # settings_hash of an entry whose files are being written


class ManifestEntry(TypedDict):
    """What is known of one input.

    Attributes:
        settings_hash: of all settings that its outputs depend on.
        source: absolute path of the input; ``stamp`` its size in bytes and modification time in nanoseconds.
        stem: of the names of its outputs; ``kinds`` what was saved; ``files`` names of the outputs within the folder.
        older: names of outputs with earlier settings that were not written again.
        facts: see ``outputs.encode.image_facts``.
    """

    settings_hash: str
    source: str
    stamp: list[int]
    stem: str
    kinds: list[str]
    files: list[str]
    older: list[str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Output:
    """Where a job writes what.

    Attributes:
        folder: of the outputs.
        kinds: what to save.
        settings_hash: of all settings that the outputs depend on.
        force: whether to redo what is done.
    """

    folder: Path
    kinds: Sequence[Kind]
    settings_hash: str
    force: bool = False

    def is_done(self, source: Path, stem: str) -> bool:
        """Whether nothing is left to do: same input, same settings, all kinds, all files exist, and no ``force``."""
        entry = read_entry(entry_path(self.folder, stem))
        return (
            not self.force
            and entry is not None
            and source.is_file()
            and entry["settings_hash"] == self.settings_hash
            and entry["source"] == str(source.resolve())
            and entry["stamp"] == file_stamp(source)
            and set(self.kinds) <= set(entry["kinds"])
            and all((self.folder / name).exists() for name in entry["files"])
        )

    def begin(self, source: Path, stem: str, files: Sequence[str], facts: dict[str, Any]) -> ManifestEntry:
        """Write an entry as unfinished, before the outputs of an input.

        Returns:
            The entry to write when they exist; it includes what the same settings saved of this input before.
        """
        entry = ManifestEntry(
            settings_hash=self.settings_hash,
            source=str(source.resolve()),
            stamp=file_stamp(source),
            stem=stem,
            kinds=list(self.kinds),
            files=list(files),
            older=[],
            facts=facts,
        )
        entry = merge_entries(read_entry(entry_path(self.folder, stem)), entry)
        write_entry(self.folder, {**entry, "settings_hash": UNFINISHED})
        return entry


def file_stamp(path: Path) -> list[int]:
    """Size and modification time: a file that was edited is another input."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def entry_path(out: Path, stem: str) -> Path:
    """The file of an entry."""
    return out / FOLDER / f"{stem}.json"


def read_entry(path: Path) -> ManifestEntry | None:
    """An entry; None if there is none, or an incomplete one."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(values, dict) and "made_by" in values:  # the key in folders of earlier versions
        values["settings_hash"] = values.pop("made_by")
    return values if isinstance(values, dict) and values.keys() >= ManifestEntry.__annotations__.keys() else None  # type: ignore[return-value]


def merge_entries(before: ManifestEntry | None, entry: ManifestEntry) -> ManifestEntry:
    """The entry that replaces another: what the same settings saved of the same input remains listed."""
    if before is None:
        return entry
    if all(before[key] == entry[key] for key in ("settings_hash", "source", "stamp")):
        kinds, files = ([*before[key], *entry[key]] for key in ("kinds", "files"))
        return {
            **entry,
            "kinds": list(dict.fromkeys(kinds)),
            "files": list(dict.fromkeys(files)),
            "older": before["older"],
            "facts": {**before["facts"], **entry["facts"]},
        }
    older = dict.fromkeys((*before["older"], *before["files"]))
    return {**entry, "older": [name for name in older if name not in entry["files"]]}


def write_entry(out: Path, entry: ManifestEntry) -> None:
    """Write an entry atomically."""
    write_atomically(entry_path(out, entry["stem"]), json.dumps(entry, separators=(",", ":")).encode())


def all_entries(out: Path, settings_hash: str | None = None, kind: str | None = None) -> Iterator[ManifestEntry]:
    """Entries of a folder by name, read one at a time.

    Args:
        out: the folder of outputs.
        settings_hash: only those of these settings.
        kind: only those that saved this kind.
    """
    for path in sorted((out / FOLDER).glob("*.json")):
        entry = read_entry(path)
        if (
            entry
            and (settings_hash is None or entry["settings_hash"] == settings_hash)
            and (kind is None or kind in entry["kinds"])
        ):
            yield entry
