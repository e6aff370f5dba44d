"""Files of two folders that belong together: by their paths below the folders, without suffix. No torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clips4.data.label_maps import find_label_maps
from clips4.errors import UserError
from clips4.utils.output_folder.manifest import all_entries
from clips4.utils.output_folder.names import output_names, safe_name


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """The files of a folder, not of its subfolders, with one of the suffixes in upper or lower case; sorted."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file() and path.name[0] != ".")


def by_name(files: Iterable[Path], folder: Path, ending: str = "") -> dict[str, Path]:
    """Files by their paths below a folder, without suffix.

    Args:
        files: in the folder.
        folder: a folder.
        ending: only files whose names have this ending, such as ``_labelTrainIds.png``, which the names then lack.

    Raises:
        UserError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files:
        if path.name.endswith(ending):
            name = path.relative_to(folder)
            key = (name.with_suffix("") if not ending else name.with_name(name.name.removesuffix(ending))).as_posix()
            if found.setdefault(key, path) != path:
                raise UserError(f"{path}: has the same name as {found[key]}; keep only one of them")
    return found


def label_maps_by_name(folder: Path, ending: str = "") -> dict[str, Path]:
    """The label maps in a folder and its subfolders by name, see ``by_name``.

    Of an output folder of clips4 those that its manifest lists, and not overlays and other images.

    Raises:
        UserError: two files have one name.
    """
    listed = {}
    for entry in all_entries(folder):
        frames = next((name for name in entry["files"] if name.endswith("/")), None)  # of a video
        if "png" in entry["kinds"]:
            for name in entry["files"]:
                if name == f"{entry['stem']}.png" or (frames and name.startswith(frames) and name != frames):
                    listed[name] = folder / name
    return by_name(sorted(listed.values()) or find_label_maps(folder), folder, ending)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of files by their paths below the deepest folder that contains all of them."""
    return tuple(output_names(paths, paths, safe=False))


def match(names: Sequence[str], found: Mapping[str, Path], folder: Path, hint: str = "") -> list[Path]:
    """The file of each name: that of the same path, or else the only one whose path ends in the name or is its end.

    Args:
        names: such as ``a/0001``.
        found: files by name; an output of clips4 may have its safe name, see ``output_names``.
        folder: of the files, for messages.
        hint: what to do about a name without a file.

    Raises:
        UserError: a name has no file, or it is not certain which.
    """
    files: dict[str, list[str]] = {}
    for name in found:
        files.setdefault(_last(name), []).append(name)
    wanted = Counter(map(_last, names))
    matched: list[Path] = []
    missing: list[str] = []
    for name in names:
        others = [each for each in files.get(_last(name), []) if _ends_in(name, each) or _ends_in(each, name)]
        exact = next((each for each in (name, safe_name(name)) if each in found), None)
        if exact is None and others and max(len(others), wanted[_last(name)]) > 1:
            raise UserError(
                f"{folder}: no file is called {name}, and {others[0]} may be meant or not; keep the files of both "
                "folders in the same subfolders"
            )
        if exact is not None or others:
            matched.append(found[exact or others[0]])
        else:
            missing.append(name)
    if missing:
        raise UserError(f"{folder}: {len(missing)} of {len(names)} files are missing, the first {missing[0]}{hint}")
    return matched


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _ends_in(name: str, end: str) -> bool:
    return f"/{name}".endswith(f"/{end}")
