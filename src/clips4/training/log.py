"""The log of a run: one JSON line per step, and TensorBoard where it is installed."""

import json
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clips4.utils.atomic_io import path_in_errors, write_atomically

LOG, BOARD = "log.jsonl", "tensorboard"

Line = dict[str, float]


class RunLog:
    """The log, truncated after ``first_step``: lines of steps that will be repeated are dropped.

    Args:
        path: the JSONL file.
        first_step: the step to continue from, 0 at the start.
        enabled: False writes nothing (ranks other than the first).
    """

    def __init__(self, path: Path, first_step: int, enabled: bool = True):
        self._path, self._first_step, self._enabled = path, first_step, enabled

    def __enter__(self) -> Callable[[Mapping[str, float]], None]:
        if not self._enabled:
            return lambda values: None
        kept = [line for line in read_log(self._path) if line["step"] <= self._first_step]
        write_atomically(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._path.parent / BOARD), purge_step=self._first_step + 1)
        return self._write

    def _write(self, values: Mapping[str, float]) -> None:
        # JSON cannot express NaN and infinity
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with path_in_errors(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board:
            for name in line.keys() - {"step"}:
                self._board.add_scalar(name, values[name], int(values["step"]))

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            self._file.close()
            if self._board:
                self._board.close()


def read_log(path: Path) -> list[Line]:
    """Lines of a run's log; an unfinished last line is left out, as are values that were not finite."""
    lines = []
    for text in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            line = {name: value for name, value in json.loads(text).items() if isinstance(value, int | float)}
        except (ValueError, AttributeError, RecursionError):
            break
        if "step" not in line:
            break
        lines.append(line)
    return lines
