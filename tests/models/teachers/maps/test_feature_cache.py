from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clips4.models.teachers.maps.feature_cache import TeacherMaps
from tests.helpers import FakeTeacher, noise_image


def maps(root: Path, teacher: FakeTeacher) -> TeacherMaps:
    return TeacherMaps(teacher, root=root)


def test_first_call_runs_the_teacher_second_reads_the_disk(tmp_path: Path) -> None:
    teacher = FakeTeacher()
    first = maps(tmp_path, teacher)(noise_image(48, 64))
    second = maps(tmp_path, teacher)(noise_image(48, 64))
    assert teacher.calls == 1
    assert torch.equal(first, second)


def test_many_maps_are_those_of_each_image_alone_and_encoded_together(tmp_path: Path) -> None:
    images = [noise_image(48, 64, seed) for seed in range(4)]
    alone = [maps(tmp_path / "alone", FakeTeacher())(image) for image in images]
    teacher = FakeTeacher()
    cache = maps(tmp_path / "together", teacher)
    cache(images[2])
    together = cache.many(images)
    assert teacher.calls == 2, "the three that are missing in one call"
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    for image in images:
        assert cache.path(image).read_bytes() == maps(tmp_path / "alone", FakeTeacher()).path(image).read_bytes()
    now = TeacherMaps(FakeTeacher(), root=tmp_path / "none", keep=False).many(images)
    assert all(torch.equal(one, other) for one, other in zip(alone, now, strict=True))


def test_map_is_the_teachers_in_half_precision(tmp_path: Path) -> None:
    image = noise_image(48, 64)
    pixel_map = maps(tmp_path, FakeTeacher())(image)
    images = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    assert pixel_map.dtype == torch.float16
    assert torch.equal(pixel_map, FakeTeacher().encode_pixels(images)[0].half())
    torch.testing.assert_close(pixel_map.float().norm(dim=0), torch.ones(6, 8), rtol=0, atol=2e-3)


def test_another_image_has_another_file(tmp_path: Path) -> None:
    teacher = FakeTeacher()
    cache = maps(tmp_path, teacher)
    image = noise_image(48, 64)
    changed = image.copy()
    changed[10, 10, 0] ^= 1
    paths = {cache.path(picture) for picture in (image, changed, image.reshape(64, 48, 3))}
    assert len(paths) == 3
    cache(image)
    cache(changed)
    assert teacher.calls == 2


def test_image_in_another_memory_order_has_the_same_file(tmp_path: Path) -> None:
    image, cache = noise_image(48, 64), maps(tmp_path, FakeTeacher())
    assert cache.path(image) == cache.path(np.asfortranarray(image))


@pytest.mark.parametrize(
    "other",
    [
        FakeTeacher("other", {"top_k": 10}),
        FakeTeacher("fake", {"top_k": 11}),
        FakeTeacher("fake", {"top_k": 10, "upsample": 1.5}),
        FakeTeacher("fake"),
    ],
)
def test_another_teacher_or_setting_has_another_folder(tmp_path: Path, other: FakeTeacher) -> None:
    teacher = FakeTeacher("fake", {"top_k": 10})
    assert maps(tmp_path, teacher).folder != maps(tmp_path, other).folder
    maps(tmp_path, teacher)(noise_image(48, 64))
    maps(tmp_path, other)(noise_image(48, 64))
    assert other.calls == 1


@pytest.mark.parametrize("damage", ["empty", "text", "half", "other tensors", "other width", "other rank"])
def test_damaged_file_is_recomputed(tmp_path: Path, damage: str) -> None:
    teacher, image = FakeTeacher(), noise_image(48, 64)
    cache = maps(tmp_path, teacher)
    whole = cache(image)
    path = cache.path(image)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a tensor")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "other tensors":
        save_file({"other": whole}, path)
    elif damage == "other width":
        save_file({"map": whole[:3].contiguous()}, path)
    else:
        save_file({"map": whole[..., None]}, path)
    assert torch.equal(cache(image), whole)
    assert teacher.calls == 2
    assert torch.equal(load_file(path)["map"], whole)


def test_file_cut_at_any_byte_is_recomputed(tmp_path: Path) -> None:
    teacher, image = FakeTeacher(), noise_image(16, 16)
    cache = maps(tmp_path, teacher)
    whole = cache(image)
    path = cache.path(image)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert torch.equal(cache(image), whole), f"cut at byte {length}"
    assert teacher.calls == 1 + len(data)


def test_file_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        maps(tmp_path, FakeTeacher())(noise_image(48, 64))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_default_folder_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPS4_CACHE", str(tmp_path / "own"))
    assert TeacherMaps(FakeTeacher()).folder.is_relative_to(tmp_path / "own")
    monkeypatch.delenv("CLIPS4_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert TeacherMaps(FakeTeacher()).folder.is_relative_to(tmp_path / "xdg" / "clips4")


def test_shared_pass_writes_shards_that_hold_the_same_maps(tmp_path: Path) -> None:
    images = [noise_image(48, 64, seed) for seed in range(6)]
    files = maps(tmp_path / "files", FakeTeacher())
    teacher = FakeTeacher()
    cache = TeacherMaps(teacher, root=tmp_path / "shards", shard_bytes=1000)
    with cache.shared_pass():
        for image in images:
            cache(image)
    assert teacher.calls == 6
    assert list(cache.folder.glob("*.safetensors")) == []
    assert len(list((cache.folder / "shards").iterdir())) == 2 + 1, "of three maps of 384 bytes, and the index"
    for other in (cache, cache.in_space(None), maps(tmp_path / "shards", teacher)):
        for image in images:
            assert torch.equal(other(image), files(image))
    assert teacher.calls == 6, "whoever reads them needs no teacher"


def test_shared_pass_takes_maps_of_earlier_files_and_shards(tmp_path: Path) -> None:
    images = [noise_image(48, 64, seed) for seed in range(4)]
    maps(tmp_path, FakeTeacher())(images[0])
    with (cache := TeacherMaps(FakeTeacher(), root=tmp_path, shard_bytes=1)).shared_pass():
        cache(images[1])
    teacher = FakeTeacher()
    with (cache := TeacherMaps(teacher, root=tmp_path, shard_bytes=1)).shared_pass():
        cache.many(images)
        assert teacher.calls == 1
    assert sorted(path.name for path in cache.folder.glob("*.safetensors")) == [cache.path(images[0]).name]


def test_damaged_shard_is_encoded_again_and_kept_as_a_file(tmp_path: Path) -> None:
    image, teacher = noise_image(48, 64), FakeTeacher()
    with (cache := TeacherMaps(teacher, root=tmp_path, shard_bytes=1)).shared_pass():
        before = cache(image)
    (shard,) = (path for path in (cache.folder / "shards").iterdir() if path.stem != "index")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    for _ in range(2):
        assert torch.equal(cache(image), before)
    assert teacher.calls == 2
    assert cache.path(image).is_file()
