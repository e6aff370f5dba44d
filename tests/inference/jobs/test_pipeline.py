"""The pipeline: order, errors, bounded queues, interruption, and the same bytes as one image after the other."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clips4.data.image_folder import find_images
from clips4.inference.jobs.folder import write_folder_files
from clips4.inference.jobs.pipeline import process_images
from clips4.inference.jobs.segment import segment_images, write_image
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import KINDS
from clips4.utils.output_folder.output import Item, Output, open_folder, plan
from clips4.utils.progress import NoProgress
from tests.helpers import photograph


def double(many: list[int]) -> list[int]:
    return [2 * each for each in many]


def test_process_images_slow_stages_keep_the_order() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item

    def finish(item: int, result: int) -> str:
        slow_at_first(item)
        return f"{item}: {result}"

    found = [(item, future.result()) for item, future in process_images(range(30), slow_at_first, double, finish)]
    assert found == [(item, f"{item}: {2 * item}") for item in range(30)]


def test_process_images_left_out_and_failed_items_stay_in_order() -> None:
    def read(item: int) -> int | None:
        if item == 2:
            raise OSError("unreadable")
        return None if item == 4 else item

    def finish(item: int, result: int) -> int:
        if item == 6:
            raise OSError("disk full")
        return result

    steps = process_images(range(8), read, double, finish, batch=3)
    found = [(item, str(future.exception() or future.result())) for item, future in steps]
    assert [item for item, _ in found] == list(range(8))
    assert [outcome for _, outcome in found] == [*("0", "2", "unreadable", "6", "None", "10", "disk full", "14")]


def test_process_images_error_of_one_in_a_batch_fails_that_one() -> None:
    sizes = []

    def predict(many: list[int]) -> Iterator[int]:
        sizes.append(len(many))
        return (10 // each for each in many)  # one of them is 0

    steps = process_images([1, 2, 0, 5], int, predict, lambda _, result: result, batch=4)
    assert [str(future.exception() or future.result()) for _, future in steps] == [
        *("10", "5", "integer division or modulo by zero", "2")
    ]
    assert sizes == [4, 1, 1, 1, 1]


def test_process_images_endless_stream_is_read_only_as_far_as_the_queues() -> None:
    taken: list[int] = []

    def stream() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    held, release = [], threading.Event()

    def finish(item: int, result: int) -> int:
        held.append(item)
        release.wait(5)
        return result

    steps = process_images(stream(), int, double, finish)
    threading.Timer(0.2, release.set).start()
    next(steps)
    assert len(taken) < 25, "reading waits for what is not finished"
    del steps
    assert not [each for each in threading.enumerate() if each.name.startswith(("ahead", "finish"))]


def test_process_images_interrupted_finishes_what_was_predicted() -> None:
    predicted: list[int] = []

    def predict(many: list[int]) -> list[int]:
        predicted.extend(many)
        return many

    steps = process_images(range(100), int, predict, lambda _, result: result, interrupted=lambda: len(predicted) == 3)
    assert [future.result() for _, future in steps] == predicted == [0, 1, 2]


@pytest.mark.parametrize("batch", [1, 4])
def test_segment_images_writes_the_bytes_of_one_by_one(
    tiny_run: Path, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for seed in range(7):
        photograph(40 + 8 * (seed % 3), 64, seed).save(folder / ("more" if seed % 2 else "") / f"{seed}.png")
    images = find_images([folder])
    segmenter = Segmenter.load(tiny_run, "cpu")
    query = segmenter.query()

    def prepare() -> tuple[Output, list[Item]]:
        output = Output(tmp_path / "out", "segment", KINDS, "settings", force=True)
        items = plan(output, images, [folder])
        open_folder(output)
        return output, items

    def contents() -> dict[str, bytes]:
        out = tmp_path / "out"
        return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    output, items = prepare()
    for item in items:
        write_image(item, segmenter.predict(segmenter.encode_image(item.path), query), output)
    write_folder_files(output, query.names)
    one = contents()
    shutil.rmtree(tmp_path / "out")
    output, items = prepare()
    monkeypatch.setattr(Segmenter, "batch", batch)
    assert segment_images(segmenter, query, items, output, True, NoProgress()).done == images
    many = contents()
    assert len(one) > 7 * len(KINDS)
    assert one == many
