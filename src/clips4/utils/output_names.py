"""Names of output files: one for each input, and never the name of an input."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from clips4.errors import UserError


def output_stems(paths: Sequence[Path]) -> list[str]:
    """A file name without suffix for each input, all different even if case is ignored.

    The stem; where stems collide, with the suffix, and if necessary the name of the folder.
    """
    stems = [path.stem for path in paths]
    for longer in (lambda p: f"{p.stem}_{p.suffix[1:]}", lambda p: f"{p.parent.name}_{p.stem}_{p.suffix[1:]}"):
        counts = Counter(stem.casefold() for stem in stems)
        stems = [longer(p) if counts[s.casefold()] > 1 else s for p, s in zip(paths, stems, strict=True)]
    counts = Counter(stem.casefold() for stem in stems)
    return [f"{s}_{n}" if counts[s.casefold()] > 1 else s for n, s in enumerate(stems)]


def check_out_folder(out: Path) -> None:
    """Refuse an output folder that is a file.

    Raises:
        UserError: it is one.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")


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
            raise UserError(f"{target}: this input would be overwritten by an output; give another --out")


def file_location(path: Path) -> str:
    """Absolute path of a file by its folder's real path; a link is not followed."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # Path.resolve is ten times slower
