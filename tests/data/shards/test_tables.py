"""Tables of images: parquet and arrow files, as pyarrow and the library datasets write them."""

import io
import json
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import ImageShards, find_training_images, open_source
from clips4.data.shards.samples import count_images, read_shard
from clips4.data.shards.stream import read_forever
from clips4.data.shards.tables import find_tables
from clips4.errors import UserError
from tests.data.shards.helpers import no_skips
from tests.helpers import photograph

pa = pytest.importorskip("pyarrow", reason="tables of images need pyarrow: pip install 'clips4[parquet]'")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    photograph(40, 64, seed).save(buffer, "PNG")
    return buffer.getvalue()


def write_table(
    path: Path, cells: list[Any], name: str = "image", kind: Any = STRUCT, marked: str = "", rows: int = 3
) -> str:
    """A table of images and labels; ``marked`` is the column that the library datasets would call an image."""
    features = {"info": {"features": {marked: {"_type": "Image"}, "label": {"dtype": "int64", "_type": "Value"}}}}
    metadata = {b"huggingface": json.dumps(features).encode()} if marked else None
    schema = pa.schema([("label", pa.int64()), (name, kind)], metadata)
    table = pa.table({"label": list(range(len(cells))), name: pa.array(cells, kind)}, schema=schema)
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            stream.write_table(table, rows)
    return str(path)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("name", "kind", "marked"),
    [("image", STRUCT, "image"), ("photo", STRUCT, "photo"), ("img", pa.large_binary(), ""), ("image", STRUCT, "")],
)
def test_read_shard_rows_of_a_table_are_samples(tmp_path: Path, suffix: str, name: str, kind: Any, marked: str) -> None:
    images = [png(seed) for seed in range(8)]
    cells = images if kind != STRUCT else [{"bytes": each, "path": f"{n}.png"} for n, each in enumerate(images)]
    path = write_table(tmp_path / f"a.{suffix}", cells, name, kind, marked)
    samples = list(read_shard(path, no_skips))
    assert [sample.data for sample in samples] == images
    assert samples[7].name == f"{path}/00000007.{'png' if kind == STRUCT else 'img'}"
    assert count_images(path) == 8


def test_read_shard_row_without_bytes_has_the_image_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "set/more").mkdir(parents=True)
    (tmp_path / "set/more/1.png").write_bytes(png(1))
    (tmp_path / "2.png").write_bytes(png(2))
    cells = [{"bytes": None, "path": path} for path in ("more/1.png", "gone.png", "../2.png", None)]
    path = write_table(tmp_path / "set/a.parquet", [*cells, None])
    assert [sample.data for sample in read_shard(path, no_skips)] == [png(1), b"", b"", b"", b""]
    assert count_images(path) == 5, "each row counts, so that a run resumes at its place"
    broken = [each for each in ImageShards([path]).iterate(64, 0, 1) if isinstance(each.image, str)]
    assert [each.path.name for each in broken] == [f"0000000{n}.{'png' if n < 3 else 'img'}" for n in range(1, 5)]


def test_read_shard_large_table_holds_some_rows_at_a_time(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", [bytes(2**20)] * 200, kind=pa.binary(), rows=20)
    most = 0
    for _ in read_shard(path, no_skips):
        most = max(most, pa.total_allocated_bytes())
    assert most < 90 * 2**20, "less than half of the table"


def test_read_forever_of_tables_resumes(tmp_path: Path) -> None:
    paths = [
        write_table(tmp_path / f"{n}.parquet", [f"{n} {row}".encode() for row in range(7)], kind=pa.binary())
        for n in range(2)
    ]
    whole = [sample.data for _, sample in zip(range(40), read_forever(paths, 0, 0, 1, shuffle=4), strict=False)]
    resumed = read_forever(paths, 0, 0, 1, 23, shuffle=4)
    assert [sample.data for _, sample in zip(range(17), resumed, strict=False)] == whole[23:]
    assert sorted(whole[:14]) == sorted(f"{n} {row}".encode() for n in range(2) for row in range(7))


def test_read_shard_damaged_table_is_reported_and_rows_before_are_used(tmp_path: Path) -> None:
    path = Path(write_table(tmp_path / "a.arrow", [png(seed) for seed in range(6)], kind=pa.binary()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    skipped: list[SkippedImage] = []
    assert [sample.data for sample in read_shard(str(path), skipped.append)] == [png(0), png(1), png(2)]
    assert len(skipped) == 1
    assert "a.arrow: damaged table" in skipped[0].reason
    (tmp_path / "b.parquet").write_bytes(b"no table")
    assert list(read_shard(str(tmp_path / "b.parquet"), skipped.append)) == []
    assert count_images(str(tmp_path / "b.parquet")) == 0
    assert "b.parquet: damaged table" in skipped[1].reason


def test_read_shard_no_column_of_images_is_one_line(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", ["a", "b"], "caption", pa.string(), marked="caption")
    with pytest.raises(UserError, match=r"a\.parquet: no column of images, only label, caption; name it image"):
        next(read_shard(path, no_skips))


def test_missing_pyarrow_is_one_line_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "a.parquet", [png(0)], kind=pa.binary())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'clips4\[parquet\]'"):
        next(read_shard(path, no_skips))


def test_find_training_images_folder_of_tables(tmp_path: Path) -> None:
    names = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    paths = [Path(write_table(tmp_path / name, [png(0)], kind=pa.binary())) for name in names]
    write_table(tmp_path / "data/cache-0123.arrow", [png(0)], kind=pa.binary())
    assert find_training_images([tmp_path]) == paths
    assert open_source(paths).sizes() == (2, [(64, 40)] * 2)
    write_table(tmp_path / "data/test-00000-of-00001.parquet", [png(0)], kind=pa.binary())
    with pytest.raises(UserError, match="holds tables of test, train; give the files or the folder of one"):
        find_training_images([tmp_path])
    photograph().save(tmp_path / "a.png")
    assert find_tables(tmp_path) == [], "images count more"


def test_find_training_images_what_the_library_datasets_saves(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the library datasets, which wrote the format: pip install it")
    images = [photograph(40, 64, seed) for seed in range(5)]
    features = datasets.Features({"photo": datasets.Image(), "label": datasets.Value("int64")})
    made = datasets.Dataset.from_dict({"photo": images, "label": list(range(5))}, features)
    made.save_to_disk(tmp_path / "saved")
    made.to_parquet(tmp_path / "made/train-00000-of-00001.parquet")
    expected = [image.tobytes() for image in images]
    for folder in ("saved", "made"):
        source = open_source(find_training_images([tmp_path / folder]))
        found = [each.image for each in source.iterate(96, 0, 1)]
        assert [image.tobytes() for image in found if not isinstance(image, str)] == expected


def test_read_shard_changed_bytes_of_an_arrow_table_are_a_skip_or_rows(tmp_path: Path) -> None:
    # unchecked, pyarrow ends the whole process at offsets that lie outside a file
    table = pa.table({"image": [{"bytes": b"\x89PNG" * 20, "path": f"{row}.png"} for row in range(4)]})
    path, draw = tmp_path / "a.arrow", random.Random(0)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    whole, skips = path.read_bytes(), 0
    for _ in range(100):
        changed = bytearray(whole)
        for _ in range(3):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        path.write_bytes(changed)
        skipped: list[SkippedImage] = []
        with suppress(UserError):
            list(read_shard(str(path), skipped.append))
        skips += bool(skipped)
    assert skips > 10
