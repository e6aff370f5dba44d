"""Work on many pictures: workers, broken pictures, Ctrl-C, a worker that dies."""

import os
import signal
from pathlib import Path

import pytest

from clips4.errors import UserError
from clips4.regions.workers import for_each_image
from clips4.utils.progress import NoProgress


class Recorder(NoProgress):
    """A Listener that counts, and may press Ctrl-C after some pictures."""

    def __init__(self, interrupt_after: int = 0):
        self.count, self._after = 0, interrupt_after

    def advance(self, values: dict[str, float]) -> None:
        self.count += 1
        if self.count == self._after:
            os.kill(os.getpid(), signal.SIGINT)


def write_name(path: Path, stem: str) -> None:
    """Work: leaves a file beside the picture; pictures called bad are broken."""
    if "bad" in stem:
        raise UserError(f"{path}: broken")
    (path.parent / f"{stem}.done").write_text(str(os.getpid()))


def die(path: Path, stem: str) -> None:
    os._exit(1)


def fail(path: Path, stem: str) -> None:
    raise OSError(28, "No space left on device", str(path))


def names(folder: Path, count: int) -> tuple[list[Path], list[str]]:
    stems = [f"bad{i}" if i % 4 == 3 else f"good{i}" for i in range(count)]
    return [folder / f"{stem}.png" for stem in stems], stems


@pytest.mark.parametrize("workers", [1, 2])
def test_every_picture_is_done_or_reported(tmp_path: Path, workers: int) -> None:
    paths, stems = names(tmp_path, 9)
    progress = Recorder()
    outcome = for_each_image(write_name, paths, stems, workers, progress)
    assert sorted(outcome.done) == sorted(p for p in paths if "good" in p.stem)
    assert sorted(s.path for s in outcome.skipped) == sorted(p for p in paths if "bad" in p.stem)
    assert all(s.reason == f"{s.path}: broken" for s in outcome.skipped)
    assert not outcome.interrupted
    assert progress.count == 9
    own = {path.read_text() == str(os.getpid()) for path in tmp_path.glob("*.done")}
    assert own == {workers == 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_stops_between_pictures(tmp_path: Path, workers: int) -> None:
    paths, stems = names(tmp_path, 40)
    outcome = for_each_image(write_name, paths, stems, workers, Recorder(interrupt_after=3))
    assert outcome.interrupted
    assert 3 <= len(outcome.done) + len(outcome.skipped) < 40
    assert len(list(tmp_path.glob("*.done"))) == len(outcome.done)


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a worker process died"):
        for_each_image(die, *names(tmp_path, 3), 2, Recorder())


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_picture_s_fault_is_raised(tmp_path: Path, workers: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        for_each_image(fail, *names(tmp_path, 6), workers, Recorder())
