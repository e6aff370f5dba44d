"""Arguments and options that several commands share; paths as a shell passes them."""

import glob
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from clips4.errors import UserError

STDIN = "-"


def expand_paths(paths: list[Path] | None) -> list[Path] | None:
    """A callback for path arguments.

    ``-`` stands for the paths on standard input, one per line, or NUL-separated as ``find -print0`` writes them. A
    pattern with ``*``, ``?`` or ``[`` that is not itself a file stands for its matches, sorted; ``**`` matches any
    number of folders. Everything else is passed on, numbered tar shards (``{000..099}.tar``) included.

    Raises:
        UserError: a pattern without a match, an empty list, or ``-`` given twice.
    """
    if paths is None:
        return None
    if sum(str(path) == STDIN for path in paths) > 1:
        raise UserError("'-' is given twice; standard input holds only one list")
    return [each for path in paths for each in _expand(path)]


def _expand(path: Path) -> Iterable[Path]:
    if str(path) == STDIN:
        return _read_stdin()
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(glob.glob(str(path.expanduser()), recursive=True))  # noqa: PTH207  # absolute patterns too
    if not found:
        raise UserError(f"{path}: matches no file; check the pattern")
    return map(Path, found)


def _read_stdin() -> list[Path]:
    if sys.stdin.isatty():
        raise UserError("'-' reads paths from standard input; pipe them in: find photos -name '*.jpg' | clips4 ... -")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # names of files need not be text
    text = sys.stdin.read()
    lines = text.split("\0") if "\0" in text else text.splitlines()
    paths = [Path(line) for line in lines if line.strip()]
    if not paths:
        raise UserError("standard input: empty; give paths, one per line")
    return paths


Run = Annotated[Path, typer.Argument(help="Folder of a run.")]
Images = Annotated[
    list[Path],
    typer.Argument(help="Images, or folders of them; - for a list on standard input.", callback=expand_paths),
]
Out = Annotated[Path, typer.Option("--out", help="Output folder.")]
Save = Annotated[
    str,
    typer.Option("--save", help="Of png,overlay,json,coco,coco-polygons,panoptic,yolo,labelme,cvat,npz,gallery."),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        help="Folder of labeled images (labelme, CVAT, COCO, VOC, label maps): their pixels stand for their classes.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Redo what was done with the same settings.")]
Preset = Annotated[str, typer.Option("--preset", help="A shipped preset, or a YAML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Use = Annotated[
    str, typer.Option("--use", help="student, teacher, or auto: the teacher where RUN/quality.json says so.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File for the full record.")]
Split = Annotated[str | None, typer.Option("--split", help="Split to score; by default the validation split.")]
Protocol = Annotated[str, typer.Option("--protocol", help="clips4-v1, sclip or tcl.")]
Fold = Annotated[int | None, typer.Option("--fold", help="Fold of unknown classes; adds known and unknown mIoU.")]
