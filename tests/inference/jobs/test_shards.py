"""Shards in, shards out: members, order, what is done, what is refused."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset
from PIL import Image

from clips4.data.image_folder import JobOutcome
from clips4.data.image_source import find_training_images
from clips4.data.shards.files import expand_shards
from clips4.errors import UserError
from clips4.inference.jobs.load import Loaded
from clips4.inference.jobs.segment import segment_files
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.temporal_smoothing import Steadiness
from clips4.utils.progress import NoProgress
from tests.helpers import photograph


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.tar" for number in range(2)]
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            for seed in range(3):
                buffer = io.BytesIO()
                photograph(40, 64, 3 * number + seed).save(buffer, "PNG")
                member = tarfile.TarInfo(f"more/{2 - seed}.png")
                data = buffer.getvalue() if (number, seed) != (1, 1) else b"no image"
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return paths


def segment(
    run: Path,
    shards: list[Path],
    out: Path,
    save: str = "png,overlay,json,npz",
    unknown: bool = True,
    force: bool = False,
) -> JobOutcome:
    loaded = Loaded(Segmenter.load(run, "cpu"), shards, {"run": "tiny"}, shards)
    steady = Steadiness(0.8)
    return segment_files(loaded, out, None, save, "prototypes", unknown, None, steady, force, NoProgress())


def test_segment_shards_output_is_a_webdataset_of_the_predictions(
    tiny_run: Path, shards: list[Path], tmp_path: Path
) -> None:
    outcome = segment(tiny_run, shards, tmp_path / "out/{shard}.tar")
    assert outcome.done == shards
    assert [each.path for each in outcome.skipped] == [Path(f"{shards[1]}/more/1.png")]
    dataset = webdataset.WebDataset([str(tmp_path / f"out/{number}.tar") for number in range(2)], shardshuffle=False)
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == ["more/2", "more/1", "more/0", "more/2", "more/0"]
    assert {key for key in samples[0] if not key.startswith("__")} == {"png", "overlay.png", "json", "npz"}
    expected = Segmenter.load(tiny_run, "cpu").segment(photograph(40, 64, 5))
    found = np.array(Image.open(io.BytesIO(samples[-1]["png"]))).astype(int)
    np.testing.assert_array_equal(np.where(found == 255, -1, found), expected.labels)
    assert json.loads(samples[-1]["json"])["file"] == f"{shards[1]}/more/0.png"


def test_segment_shards_one_without_a_readable_image_is_tried_again(
    tiny_run: Path, shards: list[Path], tmp_path: Path
) -> None:
    whole = shards[1].read_bytes()
    shards[1].write_bytes(b"no shard" * 99)
    out = tmp_path / "out/{shard}.tar"
    outcome = segment(tiny_run, shards, out)
    assert outcome.done == shards[:1]
    assert str(shards[1]) in outcome.skipped[0].reason
    assert not (tmp_path / "out/1.tar").exists()
    shards[1].write_bytes(whole)
    outcome = segment(tiny_run, shards, out)
    assert (outcome.done, outcome.kept) == (shards[1:], shards[:1])


def test_segment_shards_repeated_keeps_what_is_done(tiny_run: Path, shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out/{shard}.tar"
    segment(tiny_run, shards[:1], out)
    first = (tmp_path / "out/0.tar").read_bytes()
    outcome = segment(tiny_run, shards, out)
    assert (outcome.kept, outcome.done) == (shards[:1], shards[1:])
    with pytest.raises(UserError, match=r"0\.tar: has outputs with other settings"):
        segment(tiny_run, shards, out, unknown=False)
    with pytest.raises(UserError, match="has outputs with other settings"):
        segment(tiny_run, shards, out, save="png")
    assert segment(tiny_run, shards, out, force=True).done == shards
    assert (tmp_path / "out/0.tar").read_bytes() == first, "the same samples are the same bytes"


def test_segment_shards_what_has_no_place_is_refused(tiny_run: Path, shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"give e\.g\. --out 'out/\{shard\}\.tar'"):
        segment(tiny_run, shards, tmp_path / "out")
    with pytest.raises(UserError, match="--save coco: not for shards"):
        segment(tiny_run, shards, tmp_path / "out/{shard}.tar", save="png,coco")
    with pytest.raises(UserError, match="would be overwritten"):
        segment(tiny_run, shards, tmp_path / "{shard}.tar")
    with pytest.raises(UserError, match="would have the same output as"):
        segment(tiny_run, [shards[0], tmp_path / "other/0.tar"], tmp_path / "out/{shard}.tar")
    foreign = tmp_path / "out/0.tar"
    foreign.parent.mkdir()
    foreign.write_bytes(shards[0].read_bytes())
    with pytest.raises(UserError, match="clips4 did not write it"):
        segment(tiny_run, shards, tmp_path / "out/{shard}.tar", force=True)


def test_segment_shards_in_a_store_are_those_on_disk(tiny_run: Path, shards: list[Path], tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.store.clear()
    segment(tiny_run, shards, tmp_path / "out/{shard}.tar")
    store.put([str(shard) for shard in shards], "/in/")
    far, out = [Path(shard) for shard in expand_shards("memory://in/{0..1}.tar")], Path("memory://out/{shard}.tar")
    outcome = segment(tiny_run, far, out)
    assert outcome.done == far
    assert store.find("/out") == ["/out/0.tar", "/out/1.tar"]
    for number in range(2):
        near, there = (dict(members(data)) for data in _bytes(tmp_path / f"out/{number}.tar", store, number))
        assert near.keys() == there.keys()
        # the header and the description name the shard
        assert all(near[name] == there[name] for name in near if name.endswith((".png", ".npz")))
    assert segment(tiny_run, far, out).kept == far
    store.rm("/out/1.tar")
    assert (outcome := segment(tiny_run, far, out)).done == far[1:]
    assert outcome.kept == far[:1]
    with pytest.raises(UserError, match=r"memory://out/0\.tar: has outputs with other settings"):
        segment(tiny_run, far, out, unknown=False)
    with pytest.raises(UserError, match="would be overwritten"):
        segment(tiny_run, far, Path("memory://in/{shard}.tar"))
    with pytest.raises(UserError, match="http is only read"):
        segment(tiny_run, far, Path("http://x/{shard}.tar"))
    store.store.clear()


def _bytes(path: Path, store: fsspec.AbstractFileSystem, number: int) -> tuple[bytes, bytes]:
    return path.read_bytes(), store.cat(f"/out/{number}.tar")


def members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def test_segment_shards_of_a_table_are_named_by_its_rows(tiny_run: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="tables need pyarrow: pip install 'clips4[parquet]'")
    import pyarrow as pa

    images = []
    for seed in range(3):
        buffer = io.BytesIO()
        photograph(40, 64, seed).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"{seed}.png"})
    parquet.write_table(pa.table({"image": images}), tmp_path / "train-00000-of-00001.parquet")
    segment(tiny_run, find_training_images([tmp_path]), tmp_path / "out/{shard}.tar", save="png")
    found = dict(members((tmp_path / "out/train-00000-of-00001.tar").read_bytes()))
    assert list(found) == ["__clips4__", "00000000.png", "00000001.png", "00000002.png"]
    expected = Segmenter.load(tiny_run, "cpu").segment(photograph(40, 64, 2)).labels
    labels = np.array(Image.open(io.BytesIO(found["00000002.png"]))).astype(int)
    np.testing.assert_array_equal(np.where(labels == 255, -1, labels), expected)
