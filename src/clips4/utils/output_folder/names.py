"""Names of output files: those of the inputs, by their place below the folder that the command was given."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from clips4.errors import UserError

_RESERVED = frozenset(
    {
        "coco",
        "coco_polygons",
        "panoptic",
        "yolo",
        "labelme",
        "label_studio",
        "voc",
        "cityscapes",
        "fiftyone",
        "gallery",
        "clusters",
        "clips4",
    }
)  # a folder's own files


def output_names(paths: Sequence[Path], inputs: Sequence[Path], safe: bool = True) -> list[str]:
    """Where the outputs of each file go: its path below the common folder of all inputs, without suffix.

    A name depends on nothing else that lies in the folders. An underscore is added to a name that could be taken for
    another output: one of ``_RESERVED``, or one that ends in ``_overlay``.

    Args:
        paths: files.
        inputs: the folders and files that were given, and ``paths`` found in them.
        safe: whether to add underscores.

    Example:
        >>> output_names([Path("photos/cat.jpg"), Path("photos/a/dog.png")], [Path("photos")])
        ['cat', 'a/dog']
    """
    folders = {os.path.abspath(path) for path in inputs if path.is_dir()}  # noqa: PTH100  # links stay
    parents = {os.path.abspath(path.parent) for path in paths}  # noqa: PTH100
    outside = {parent for parent in parents if not any(PurePath(parent).is_relative_to(each) for each in folders)}
    base = os.path.commonpath([*folders, *outside]) if paths else ""
    relative = (os.path.relpath(os.path.abspath(path), base) for path in paths)  # noqa: PTH100
    names = [PurePath(path).with_suffix("").as_posix() for path in relative]
    return [safe_name(name) for name in names] if safe else names


def safe_name(name: str) -> str:
    """The name of the outputs of an input: with an underscore where another output could have it.

    Example:
        >>> safe_name("coco"), safe_name("a/cat_overlay"), safe_name("a/coco")
        ('coco_', 'a/cat_overlay_', 'a/coco')
    """
    first, *rest = name.split("/")
    parts = [f"{first}_" if first.rstrip("_").casefold() in _RESERVED else first, *rest]
    if parts[-1].rstrip("_").casefold().endswith("_overlay"):
        parts[-1] += "_"
    return "/".join(parts)


def folded(name: str) -> str:
    """The same for names that some file systems do not tell apart: upper and lower case, composed and decomposed."""
    return unicodedata.normalize("NFC", name).casefold()


def check_out_folder(out: Path) -> None:
    """Refuse an output folder that is a file.

    Raises:
        UserError: it is one.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder")


def refuse_overwriting(inputs: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse to write over an input, whatever its folder is called and whether it is a link.

    Args:
        inputs: files that are read.
        targets: files that will be written.

    Raises:
        UserError: a target is an input; the message names it.
    """
    read = {place for path in inputs for place in (file_location(path), os.path.realpath(path))}
    for target in targets:
        if file_location(target) in read:
            raise UserError(f"{target}: this input would be overwritten by an output; give another folder")


def file_location(path: Path) -> str:
    """Absolute path of a file by its folder's real path; a link is not followed."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # Path.resolve is ten times slower
