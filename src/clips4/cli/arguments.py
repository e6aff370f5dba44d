"""Arguments and options that several commands share; paths as a shell passes them."""

import glob
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from clips4.cli import command
from clips4.config_reference import preset_summaries
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


def local_out(out: Path) -> Path:
    """A callback for output folders: a store holds outputs of shards alone.

    Raises:
        UserError: it is an address, and no pattern of shards.
    """
    from clips4.data.shards.remote import address_of, is_remote

    if is_remote(out) and "{shard}" not in out.name:
        raise UserError(
            f"--out {address_of(out)}: give a folder; only shards go to a store, e.g. to s3://a/{{shard}}.tar"
        )
    return out


def option(name: str, text: str, completes: command.Completion | None = None, metavar: str = "NAME") -> Any:
    """An option whose values a shell completes."""
    return typer.Option(name, help=text, autocompletion=completes, metavar=metavar)


def check_run_first(arguments: Sequence[Path], usage: str) -> None:
    """Recognize a run that is given after the images.

    Raises:
        UserError: the first argument is no run, but a later one is.
    """
    if arguments and not _is_run(arguments[0]) and (runs := [path for path in arguments[1:] if _is_run(path)]):
        others = [path for path in arguments if path != runs[0]]
        raise UserError(
            f"the first argument is the run, but {others[0]} is none and {runs[0]} is: "
            f"{usage} {runs[0]} {' '.join(map(str, others[:3]))}{' ...' if len(others) > 3 else ''}"
        )


def _is_run(path: Path) -> bool:
    """Whether a path is a run, one of its checkpoints, or an exported student."""
    from clips4.models.checkpoint import checkpoints_at

    return (path.suffix == ".onnx" and path.is_file()) or bool(checkpoints_at(path))


Run = Annotated[Path, typer.Argument(help="Folder of a run.")]
Images = Annotated[
    list[Path],
    typer.Argument(help="Images, or folders of them; - for a list on standard input.", callback=expand_paths),
]
Out = Annotated[Path, typer.Option("--out", help="Output folder.", callback=local_out)]
Save = Annotated[
    str,
    option(
        "--save",
        "Some of png, overlay, json, coco, coco-polygons, panoptic, yolo, yolo-copies, yolo-labels, labelme, "
        "label-studio, label-studio-brush, cvat, voc, cityscapes, fiftyone, geotiff, npz, gallery; with commas.",
        command.some_of(command.file_kinds),
        "KINDS",
    ),
]
Classes = Annotated[
    str | None,
    option(
        "--classes",
        "Class names: a file, a shipped list or a,b,c; by default those of the run.",
        command.one_of(command.class_lists),
        "NAMES",
    ),
]
TeacherOnly = Annotated[
    str | None,
    option(
        "--teacher-only",
        "Use this teacher without a run; all arguments are images.",
        command.one_of(command.teachers),
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        help="Folder of labeled images (labelme, CVAT, COCO, VOC, label maps): their pixels stand for their classes.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Redo what was done with the same settings.")]
PRESETS = "\n\n".join(["Presets:", *(f"{name}: {about}." for name, about in preset_summaries().items())])
Preset = Annotated[
    str,
    option("--preset", "A shipped preset (see clips4 train --help), or a YAML file.", command.one_of(command.presets)),
]
Overrides = Annotated[
    list[str] | None,
    option("--set", "A setting, see clips4 config; may be repeated, later ones win.", command.settings, "KEY=VALUE"),
]
TeacherOverrides = Annotated[
    list[str] | None,
    option(
        "--set",
        "Teacher only: a setting, e.g. teacher.hypernyms=.25; see clips4 config.",
        command.settings,
        "KEY=VALUE",
    ),
]
Device = Annotated[str, option("--device", "auto, cpu, cuda or mps.", command.one_of(("auto", "cpu", "cuda", "mps")))]
Use = Annotated[
    str,
    option(
        "--use",
        "student, teacher, or auto: the teacher where RUN/quality.json says so.",
        command.one_of(("auto", "student", "teacher")),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Record = Annotated[
    Path | None, typer.Option("--record", help="File for the full record, which --json prints.", metavar="FILE")
]
Split = Annotated[
    str | None,
    option("--split", "Split to score; by default the validation split.", command.one_of(command.splits)),
]
Protocol = Annotated[
    str, option("--protocol", "clips4-v1, sclip or tcl.", command.one_of(("clips4-v1", "sclip", "tcl")))
]
Dataset = Annotated[
    str,
    option(
        "--dataset", "Name of the set, e.g. voc21; see clips4 doctor --dataset.", command.one_of(command.semantic_sets)
    ),
]
Fold = Annotated[int | None, typer.Option("--fold", help="Fold of unknown classes; adds known and unknown mIoU.")]
