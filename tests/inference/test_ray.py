"""Batches of Ray Data: what a segmenter predicts, with the bytes of `clips4 segment`."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clips4.errors import UserError
from clips4.inference.ray import PredictBatch
from clips4.inference.segmenter import Segmenter
from clips4.outputs.encode import image_files
from tests.helpers import photograph


def png(seed: int, height: int = 40) -> bytes:
    buffer = io.BytesIO()
    photograph(height, 64, seed).save(buffer, "PNG")
    return buffer.getvalue()


def column(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def labels_of(data: bytes) -> np.ndarray[Any, Any]:
    labels = np.array(Image.open(io.BytesIO(data))).astype(int)
    return np.where(labels == 255, -1, labels)


def test_predict_batch_columns_are_the_files_of_segment(tiny_run: Path) -> None:
    batch = {"image": column([np.array(photograph(40, 64, 0)), png(1, 48), {"bytes": png(2), "path": None}])}
    batch |= {"path": np.array(["0.png", "1.png", "2.png"]), "label": np.arange(3)}
    found = PredictBatch(tiny_run, save="png,json,npz", device="cpu")(batch)
    assert sorted(found) == ["error", "image", "json", "label", "npz", "path", "png"]
    assert list(found["error"]) == [""] * 3
    segmenter = Segmenter.load(tiny_run, "cpu")
    for row, height in enumerate((40, 48, 40)):
        result = segmenter.segment(photograph(height, 64, row))
        expected = image_files(result, f"{row}.png", "image", ["png", "json", "npz"], result.embeddings())
        assert [found[kind][row] for kind in ("png", "json", "npz")] == list(expected.values())


def test_predict_batch_unreadable_rows_have_an_error(tiny_run: Path) -> None:
    batch = {"data": column([png(0), b"no image", {"bytes": None}, np.zeros((4, 4), np.uint8)])}
    found = PredictBatch(tiny_run, column="data", device="cpu")(batch)
    assert [bool(data) for data in found["png"]] == [True, False, False, False]
    assert [bool(error) for error in found["error"]] == [False, True, True, True]
    assert "row 1" in found["error"][1]
    assert "row 3: no image; give arrays" in found["error"][3]


def test_predict_batch_wrong_arguments_raise(tiny_run: Path) -> None:
    with pytest.raises(UserError, match="save=coco: not for batches; give some of png, overlay, json, npz"):
        PredictBatch(tiny_run, save="png,coco", device="cpu")
    with pytest.raises(UserError, match="no column 'image', only picture; give column=NAME"):
        PredictBatch(tiny_run, device="cpu")({"picture": column([png(0)])})


@pytest.mark.slow
def test_predict_batch_two_ray_workers_predict_as_a_segmenter(tiny_run: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed, so that its workers are not tested: pip install it")
    for seed in range(8):
        photograph(40 + 8 * (seed % 2), 64, seed).save(tmp_path / f"{seed}.png")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        images = ray.data.read_images(str(tmp_path), include_paths=True)
        predicted = images.map_batches(
            PredictBatch,
            fn_constructor_kwargs={"run": str(tiny_run.resolve()), "device": "cpu"},
            concurrency=2,
            batch_size=3,
            num_cpus=0.5,
        )
        rows = predicted.take_all()
    finally:
        ray.shutdown()
    segmenter = Segmenter.load(tiny_run, "cpu")
    assert sorted(Path(row["path"]).name for row in rows) == [f"{seed}.png" for seed in range(8)]
    for row in rows:
        np.testing.assert_array_equal(labels_of(row["png"]), segmenter.segment(row["path"]).labels)
