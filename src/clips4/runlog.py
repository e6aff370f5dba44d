"""The JSONL log of a run: one line per step."""

import json
from collections.abc import Callable
from pathlib import Path

LOG = "log.jsonl"


class RunLog:
    """The JSONL log, cut off after ``first_step``: lines of steps that will be repeated are dropped."""

    def __init__(self, path: Path, first_step: int):
        self._path, self._first_step = path, first_step

    def __enter__(self) -> Callable[[dict[str, float]], None]:
        kept = [line for line in read_log(self._path) if line["step"] <= self._first_step] if self._first_step else []
        self._file = self._path.open("w", encoding="utf-8")
        for line in kept:
            self._write(line)
        return self._write

    def _write(self, values: dict[str, float]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Lines of a run's log; an unfinished last line is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
