"""What a job may write to a folder: names of the outputs of each input, and only over what the same command wrote."""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from clips4.errors import UserError
from clips4.utils.atomic_io import remove_leftovers
from clips4.utils.output_folder.manifest import (
    FOLDER,
    WHOLE,
    ManifestEntry,
    all_entries,
    entry_path,
    file_stamp,
    is_current,
    read_entry,
    write_entry,
)
from clips4.utils.output_folder.names import (
    check_out_folder,
    file_location,
    folded,
    output_names,
    refuse_overwriting,
)
from clips4.utils.output_folder.ranks import take_turn
from clips4.utils.text import plural

# of an image's outputs that could be inputs; earlier versions wrote overlays as PNG
_ENDINGS = (".png", "_overlay.png", ".json", ".npz", ".html")


class Item(NamedTuple):
    """An input, the name of its outputs, and the key of its entry."""

    path: Path
    stem: str
    key: str
    is_video: bool = False


@dataclass(frozen=True)
class Output:
    """Where a job writes what.

    Attributes:
        folder: of the outputs.
        command: that writes, such as "segment".
        kinds: what to save.
        settings_hash: of all settings that the outputs depend on; what follows a "-" may differ within a folder.
        force: whether to redo what is done, and to replace outputs of other settings.
        own_files: files of the folder as a whole.
        rank: this process's number if several write to it, see ``ranks``.
    """

    folder: Path
    command: str
    kinds: Sequence[str]
    settings_hash: str
    force: bool = False
    own_files: Sequence[str] = ()
    rank: int | None = None

    def turn(self) -> AbstractContextManager[None]:
        """For work on the folder as a whole: one rank at a time does it."""
        return nullcontext() if self.rank is None else take_turn(self.folder)

    def has_settings(self, entry: ManifestEntry) -> bool:
        """Whether an entry has the settings of this folder, or none that is known."""
        return entry["settings_hash"].partition("-")[0] in ("", self.settings_hash.partition("-")[0])

    def is_done(self, item: Item) -> bool:
        """Whether nothing is left to do: same input, same settings, all kinds, all files exist, and no ``force``."""
        entry = read_entry(entry_path(self.folder, item.key))
        return (
            not self.force
            and entry is not None
            and entry["settings_hash"] == self.settings_hash
            and is_current(entry)
            and entry["source"] == file_location(item.path)
            and set(self.kinds) <= set(entry["kinds"])
            and all((self.folder / name).exists() for name in entry["files"])
        )

    def kinds_of(self, item: Item) -> list[str]:
        """What to save of an input: the kinds of this job, and those that the same settings saved of it before."""
        entry = read_entry(entry_path(self.folder, item.key))
        same = entry is not None and entry["settings_hash"] == self.settings_hash
        return list(dict.fromkeys([*self.kinds, *(entry["kinds"] if same and entry else ())]))

    def begin(self, item: Item, kinds: Sequence[str], files: Sequence[str], facts: dict[str, Any]) -> ManifestEntry:
        """Write an entry without kinds, before the outputs of an input, and remove files that will not be replaced.

        Returns:
            The entry to write when the files exist.

        Raises:
            UserError: a file is there that no command wrote.
        """
        before = read_entry(entry_path(self.folder, item.key))
        listed = set(before["files"]) if before else set()
        for name in files:
            ours = any(each.startswith(name) for each in listed)  # or files in it, for a folder of frames
            if not ours and os.path.lexists(self.folder / name):
                raise UserError(
                    f"{self.folder / name}: exists, and clips4 did not write it; move it, or give another --out"
                )
        entry = ManifestEntry(
            command=self.command,
            settings_hash=self.settings_hash,
            source=file_location(item.path),
            stamp=file_stamp(item.path),
            stem=item.key,
            kinds=list(kinds),
            files=list(files),
            facts=facts,
        )
        write_entry(self.folder, {**entry, "kinds": []})
        _remove_files(self.folder, listed - set(files))
        return entry

    def begin_whole(self, files: Sequence[str], source: str = "") -> None:
        """List the outputs of a command that belong to the folder as a whole, before they are written.

        Files that an earlier command listed, and that will not be written again, are removed.

        Args:
            files: names within the folder.
            source: absolute path of what they are made from.

        Raises:
            UserError: the folder has outputs of another command or source, or a file is there that no command wrote.
        """
        check_command(self)
        before = read_entry(entry_path(self.folder, WHOLE))
        if before and before["source"] != source:
            raise UserError(f"{self.folder}: has the outputs of {before['source']}; give another folder")
        listed = set(before["files"]) if before else set()
        for name in files:
            if name not in listed and os.path.lexists(self.folder / name):
                raise UserError(f"{self.folder / name}: exists, and clips4 did not write it; give another folder")
        self.record_own(files, source)
        _remove_files(self.folder, listed - set(files))

    def record_own(self, files: Iterable[str], source: str = "") -> None:
        """List files of the folder as a whole, besides those that are listed, before they are written."""
        names = dict.fromkeys([*_own_files(self.folder), *files])
        entry = ManifestEntry(
            command=self.command,
            settings_hash=self.settings_hash,
            source=source,
            stamp=[],
            stem=WHOLE,
            kinds=[],
            files=list(names),
            facts={},
        )
        write_entry(self.folder, entry)


def plan(output: Output, images: Sequence[Path], inputs: Sequence[Path], videos: Sequence[Path] = ()) -> list[Item]:
    """Name the outputs of each input, and check that they can be written; ``open_folder`` then makes room for them.

    An input that the folder has outputs of keeps its name; see ``output_names`` for others.

    Args:
        output: where to write.
        images, videos: files.
        inputs: the folders and files in which they were found.

    Returns:
        The images, then the videos.

    Raises:
        UserError: the folder is a file, or has outputs of another command, or with other settings of other inputs; two
            inputs would have the same outputs; or an output would overwrite an input.
        OSError: the folder cannot be created.
    """
    out = output.folder
    check_out_folder(out)
    paths = [*images, *videos]
    names = output_names(paths, inputs)
    entries = [ManifestEntry(**{**entry, "facts": {}}) for entry in all_entries(out)]  # facts are large
    check_command(output)
    for name in output.own_files if not entries else ():  # earlier versions did not list them
        if name not in _own_files(out) and os.path.lexists(out / name):
            raise UserError(f"{out / name}: exists, and clips4 did not write it; give another folder")
    keys = {entry["source"]: entry["stem"] for entry in entries}
    items = []
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        suffix = path.suffix if number >= len(images) else ""  # a video and an image may have one name
        key = keys.get(file_location(path), name + suffix)
        items.append(Item(path, key.removesuffix(suffix), key, bool(suffix)))
    _refuse_duplicates(out, items, entries)
    targets = (f"{item.stem}{end}" for item in items for end in ([".mp4"] if item.is_video else _ENDINGS))
    refuse_overwriting(paths, (out / target for target in targets))
    planned = {item.key for item in items}
    left = [entry for entry in entries if not output.has_settings(entry) and entry["stem"] not in planned]
    if left and not output.force:
        raise UserError(
            f"{out}: has outputs with other settings (model, classes or options) of {plural(len(left), 'input')} that "
            f"this command does not have, the first {left[0]['source']}; give another --out, or --force to remove them"
        )
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    return items


def check_command(output: Output) -> None:
    """Check that a folder has no outputs of another command.

    Raises:
        UserError: it has.
    """
    for path in (output.folder / FOLDER).rglob("*.json"):
        entry = read_entry(path)
        if entry is not None:
            if entry["command"] not in ("", output.command):
                raise UserError(f"{output.folder}: has the outputs of clips4 {entry['command']}; give another folder")
            return


def open_folder(output: Output) -> None:
    """Remove outputs with other settings, files of the whole folder included, and what killed processes left."""
    whole = read_entry(entry_path(output.folder, WHOLE))
    for entry in [*all_entries(output.folder), *([whole] if whole else [])]:
        if not output.has_settings(entry):
            _remove_files(output.folder, entry["files"])
            entry_path(output.folder, entry["stem"]).unlink(missing_ok=True)
    if output.rank is None:  # other ranks write; the first of them removed what was left
        remove_leftovers(output.folder, spare_living=True)


def _own_files(out: Path) -> list[str]:
    entry = read_entry(entry_path(out, WHOLE))
    return entry["files"] if entry else []


def _refuse_duplicates(out: Path, items: Sequence[Item], entries: Sequence[ManifestEntry]) -> None:
    """Raise UserError if two inputs would have the same outputs."""
    fold = folded if (out / FOLDER.upper()).is_dir() else str  # this file system ignores case
    owners: dict[str, str] = {}
    for entry in entries:
        if os.path.lexists(entry["source"]):
            owners |= {fold(name): entry["source"] for name in entry["files"] if name.endswith("/")}
            owners[fold(entry["stem"])] = entry["source"]
    for item in reversed(items):  # videos first: the folders of their frames are not for images
        place = file_location(item.path)
        own = [item.key, f"{item.stem}/"] if item.is_video else [item.key]
        inside = [] if item.is_video else [f"{parent}/" for parent in PurePath(item.stem).parents]
        claims = [owners.setdefault(fold(name), place) for name in own]
        for owner in (*claims, *(owners.get(fold(name), place) for name in inside)):
            if owner != place:
                raise UserError(
                    f"{item.path}: would have the same outputs in {out} as {owner}; rename one of them, give only one, "
                    "or give another --out"
                )


def _remove_files(out: Path, names: Iterable[str]) -> None:
    """Remove outputs, and the folders that become empty."""
    for name in names:
        if not name.endswith("/"):
            (out / name).unlink(missing_ok=True)
        for folder in (out / parent for parent in PurePath(name, "_").parents if parent != PurePath()):
            with suppress(OSError):  # it holds something, perhaps since just now
                folder.rmdir()
