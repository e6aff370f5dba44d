"""Maps in shards: what was added is read, by whoever opens the folder; damage is found, and nothing is read twice."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from clips4.models.teachers.maps.map_shards import MapShards
from tests.helpers import generator


def some_maps(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Maps of three sizes by keys in no order."""
    random = generator(seed)
    keys = [f"{(index + 97 * seed) * 7919 % 1009:032x}" for index in range(count)]
    return {key: torch.randn((4, 3, 5 + index % 3), generator=random).half() for index, key in enumerate(keys)}


def filled(folder: Path, maps: dict[str, Tensor], limit: int = 1000) -> MapShards:
    shards = MapShards(folder, limit)
    for key, pixel_map in maps.items():
        shards.add(key, pixel_map)
    shards.flush()
    shards.update_index()
    return shards


def all_read(shards: MapShards, maps: dict[str, Tensor]) -> bool:
    return all(
        (found := shards.read(key)) is not None and torch.equal(found, pixel_map) for key, pixel_map in maps.items()
    )


def test_read_every_map_in_any_process(tmp_path: Path) -> None:
    maps = some_maps(60)
    shards = filled(tmp_path, maps)
    assert len(list(tmp_path.iterdir())) > 6, "many shards, and the index"
    for each in (shards, MapShards(tmp_path), pickle.loads(pickle.dumps(shards))):
        assert all_read(each, maps)
        assert each.read("f" * 32) is None
    files = [load_file(path) for path in tmp_path.iterdir() if path.stem != "index"]
    stored = {key: pixel_map for file in files for key, pixel_map in file.items()}
    assert stored.keys() == maps.keys(), "shards are plain safetensors files"


def test_read_map_that_waits_for_its_shard(tmp_path: Path) -> None:
    shards, maps = MapShards(tmp_path / "new"), some_maps(2)
    for key, pixel_map in maps.items():
        shards.add(key, pixel_map)
    assert all_read(shards, maps)
    assert not (tmp_path / "new").exists()


def test_update_index_takes_the_shards_of_others_and_forgets_removed_ones(tmp_path: Path) -> None:
    first, second = some_maps(20, 1), some_maps(20, 2)
    shards, other = filled(tmp_path, first), MapShards(tmp_path, 1000)
    mine = set(tmp_path.iterdir())
    for key, pixel_map in second.items():
        other.add(key, pixel_map)
    other.flush()
    shards.update_index()
    assert all_read(shards, first | second)
    for path in mine - {tmp_path / "index.safetensors"}:
        path.unlink()
    assert shards.read(next(iter(first))) is None
    shards.update_index()
    assert all_read(shards, second)
    assert all(shards.read(key) is None for key in first)


def test_flush_order_of_maps_does_not_change_a_byte(tmp_path: Path) -> None:
    maps = some_maps(10)
    filled(tmp_path / "a", maps, 10**6)
    filled(tmp_path / "b", dict(reversed(maps.items())), 10**6)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert first == second


@pytest.mark.parametrize("part", ["map", "header", "index", "no index"])
def test_read_damaged_files_gives_none_or_the_map(tmp_path: Path, part: str) -> None:
    maps = some_maps(30)
    shards = filled(tmp_path, maps)
    index = tmp_path / "index.safetensors"
    path = index if part == "index" else next(each for each in tmp_path.iterdir() if each != index)
    data = bytearray(path.read_bytes())
    data[{"map": -1, "header": 12, "index": len(data) // 2, "no index": 0}[part]] ^= 255
    if part in ("no index", "header"):  # a header is read where the index is made
        index.unlink()
    if part != "no index":
        path.write_bytes(data)
    for each in (shards, MapShards(tmp_path)):
        each.update_index()
        found = {key: each.read(key) for key in maps}
        right = {key for key, pixel_map in found.items() if pixel_map is not None and torch.equal(pixel_map, maps[key])}
        assert all(found[key] is None for key in maps.keys() - right), "never another map"
        assert 0 < len(right) < 30 or part == "no index"
        assert len(right) == 30 or part != "no index"


def test_read_any_changed_byte_of_the_index_gives_none_or_the_map(tmp_path: Path) -> None:
    maps = some_maps(3)
    filled(tmp_path, maps)
    index = tmp_path / "index.safetensors"
    whole = index.read_bytes()
    for place in range(len(whole)):
        index.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        shards = MapShards(tmp_path)
        for key, pixel_map in maps.items():
            found = shards.read(key)
            assert found is None or torch.equal(found, pixel_map)
        shards.update_index()
