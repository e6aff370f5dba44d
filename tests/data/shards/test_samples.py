import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import webdataset

from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import ImageShards
from clips4.data.shards.files import expand_shards
from clips4.data.shards.members import IMAGE_SUFFIXES
from clips4.data.shards.samples import Sample, count_images, read_shard
from clips4.data.shards.stream import read_forever, read_once
from clips4.errors import UserError
from tests.data.shards.helpers import everything, header, no_skips, write_shards, write_tar


def test_images_are_what_tarfile_finds(paths: list[str]) -> None:
    assert list(read_once(paths, 0, 1, no_skips)) == everything(paths)
    assert len(everything(paths)) == 21


def test_shards_written_by_webdataset_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "own.tar")
    with webdataset.TarWriter(path) as writer:
        for index in range(5):
            writer.write({"__key__": f"dir/{index}", "png": bytes([index]) * 600, "json": {"index": index}})
    assert list(read_once([path], 0, 1, no_skips)) == [
        Sample(f"{path}/dir/{index}.png", bytes([index]) * 600) for index in range(5)
    ]


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, "JPG", "Png"])
def test_every_kind_of_image_is_taken(tmp_path: Path, suffix: str) -> None:
    path = write_tar(tmp_path / "a.tar", [("7.json", b"{}"), (f"7.{suffix}", b"picture")])
    assert list(read_once([path], 0, 1, no_skips)) == [Sample(f"{path}/7.{suffix}", b"picture")]


def test_photograph_is_taken_before_the_mask(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("7.png", b"mask"), ("7.seg.png", b"other"), ("7.jpg", b"photograph")])
    assert [sample.data for sample in read_once([path], 0, 1, no_skips)] == [b"photograph"]


def test_compressed_shard_is_read_and_counted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{index}.jpg", bytes([index])) for index in range(9)], "w:gz")
    assert [sample.data for sample in read_once([path], 0, 1, no_skips)] == [bytes([index]) for index in range(9)]
    assert count_images(path) == 9


def test_what_is_no_sample_is_left_out(tmp_path: Path) -> None:
    members = [("README", b"read me"), ("__meta__/info.json", b"{}"), ("._7.jpg", b"of a Mac"), ("7.jpg", b"picture")]
    path = write_tar(tmp_path / "a.tar", members)
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("folder.jpg/"))
    assert list(read_once([path], 0, 1, no_skips)) == [Sample(f"{path}/7.jpg", b"picture")]
    assert count_images(path) == 1


GOOD = header("1.jpg", 3) + b"one" + bytes(509)
END = bytes(1024)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (header("2.jpg", 0, tarfile.SYMTYPE, "/etc/passwd"), "a link or a device; it is skipped"),
        (header("2.jpg", 0, tarfile.LNKTYPE, "../../x"), "a link or a device; it is skipped"),
        (header("2.jpg", 0, tarfile.CHRTYPE), "a link or a device; it is skipped"),
        (header("2.jpg", 0, tarfile.FIFOTYPE), "a link or a device; it is skipped"),
        (header("../2.jpg", 0), "its name leads out"),
        (header("a/../../2.jpg", 0), "its name leads out"),
        (header("/etc/2.jpg", 0), "its name leads out"),
        (header("2.jpg", 0, b"S", sparse=3 << 30), "a sparse file; it is skipped"),
    ],
)
def test_read_shard_hostile_member_is_skipped_and_the_rest_read(tmp_path: Path, member: bytes, message: str) -> None:
    path, skipped = tmp_path / "a.tar", list[SkippedImage]()
    path.write_bytes(GOOD + member + GOOD.replace(b"1.jpg", b"3.jpg", 1) + END)
    content = bytearray(path.read_bytes())  # the changed name needs its own checksum
    content[-1024 - 1024 : -1024 - 512] = header("3.jpg", 3)
    path.write_bytes(content)
    assert [sample.data for sample in read_shard(str(path), skipped.append)] == [b"one", b"one"]
    assert count_images(str(path)) == 2
    assert len(skipped) == 1
    assert message in skipped[0].reason


@pytest.mark.parametrize(
    "member",
    [
        header("2.jpg", 3 << 30),  # larger than the file
        header("2.jpg", -5),
        header("2.jpg", -(2**40)),
        header("2.jpg", 2**80),
        header("2.jpg", 2**30, tarfile.GNUTYPE_LONGNAME),
        header("2.jpg", 2**30, tarfile.XHDTYPE),
        header("2.jpg", -512, tarfile.XHDTYPE),
        (header("x", 512, tarfile.GNUTYPE_LONGNAME) + b"n" * 512) * 3000,  # headers of headers of headers
        b"\xff" * 512,
    ],
    ids=["large", "minus", "far", "huge", "long-name", "pax", "pax-minus", "headers", "bytes"],
)
def test_read_shard_hostile_header_ends_it_with_a_reason(tmp_path: Path, member: bytes) -> None:
    path, skipped = tmp_path / "a.tar", list[SkippedImage]()
    path.write_bytes(GOOD + member + END)
    tracemalloc.start()
    assert [sample.data for sample in read_shard(str(path), skipped.append)] == [b"one"]
    assert count_images(str(path)) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    assert [skip.path for skip in skipped] == [path]
    assert "damaged shard" in skipped[0].reason


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_read_shard_bomb_ends_within_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("clips4.data.shards.members.FREE", 2**20)
    path, skipped = tmp_path / "a.tar", list[SkippedImage]()
    path.write_bytes(pack(GOOD + header("2.jpg", 2**24) + bytes(2**24) + header("3.jpg", 2**24) + bytes(2**24) + END))
    read = [len(sample.data) for sample in read_shard(str(path), skipped.append)]
    assert read in ([3], [3, 2**24])
    assert count_images(str(path)) == len(read)
    assert "unpacks to more than 100 times its size" in skipped[0].reason


def test_read_shard_pipe_or_damaged_archive_is_reported(tmp_path: Path) -> None:
    packed = gzip.compress(GOOD * 50 + END)
    for name, data in {"cut": packed[:-40], "crc": packed[:-8] + b"12345678", "gz": packed[:12], "empty": b""}.items():
        path, skipped = tmp_path / f"{name}.tar", list[SkippedImage]()
        path.write_bytes(data)
        assert sum(1 for _ in read_shard(str(path), skipped.append)) == count_images(str(path))
        assert len(skipped) >= 1, name


@pytest.mark.parametrize("spec", ["{0..999999999}.tar", "{0..99999}{0..99999}.tar", "{0..-999999999}.tar"])
def test_expand_shards_too_many_names_raises(spec: str) -> None:
    with pytest.raises(UserError, match="more than 1048576 names"):
        expand_shards(spec)


def test_read_shard_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1") as tar:
        info = tarfile.TarInfo("caf\xe9.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    source = ImageShards([str(tmp_path / "a.tar")])
    assert [item.path.suffix for item in source.iterate(64, 0, 1)] == [".jpg"]


def test_sample_without_an_image_is_reported_once_and_skipped(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"one"), ("2.json", b"{}"), ("2.txt", b"two"), ("3.jpg", b"three")])
    skipped: list[SkippedImage] = []
    samples = list(islice(read_forever([path], 0, 0, 1, on_skip=skipped.append), 6))
    assert {sample.data for sample in samples} == {b"one", b"three"}
    assert [skip.path for skip in skipped] == [Path(f"{path}/2")]
    assert skipped[0].reason.startswith(f"{path}/2: no image in this sample, only .json, .txt; ")


@pytest.mark.parametrize(
    "names",
    [
        ("DSC.1.jpg", "DSC.2.jpg", "3.jpg"),
        ("frame_0.5.jpg", "frame_0.6.JPG", "v1.0_c.png"),
        ("cat.jpg", "cat.1.jpg", "cat.2.jpg"),
        ("a.1/x.jpg", "a.1/x.10.5.webp", "b.0.jpg"),
    ],
)
def test_read_shard_numbers_after_dots_are_images_of_their_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = write_tar(tmp_path / "a.tar", [(name, name.encode()) for name in names])
    skipped: list[SkippedImage] = []
    samples = list(read_once([path], 0, 1, skipped.append))
    assert [sample.data for sample in samples] == [name.encode() for name in names]
    assert [sample.name for sample in samples] == [f"{path}/{name}" for name in names]
    assert not skipped
    assert count_images(path) == 3


def test_read_shard_files_beside_a_numbered_image_are_not_reported(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "a.tar", [("f.1.jpg", b"1"), ("f.1.json", b"{}"), ("f.2.jpg", b"2"), ("f.2.json", b"{}")]
    )
    skipped: list[SkippedImage] = []
    assert [sample.data for sample in read_once([path], 0, 1, skipped.append)] == [b"1", b"2"]
    assert not skipped


def test_read_shard_other_dots_are_reported_with_the_reason(tmp_path: Path) -> None:
    members = [("a.final.jpg", b"a"), ("b.jpg", b"b"), ("b.final.jpg", b"b2"), ("b.seg.png", b"mask"), ("c.jpg", b"c")]
    path = write_tar(tmp_path / "a.tar", [*members, ("c.old.jpg", b"c2")])
    skipped: list[SkippedImage] = []
    assert [sample.data for sample in read_once([path], 0, 1, skipped.append)] == [b"b", b"c"]
    assert [skip.reason.split(";")[0] for skip in skipped] == [
        f"{path}/a: no image in this sample, only .final.jpg",
        f"{path}: not used: 2 images, the first b.final.jpg",
    ]
    assert all("ends at its first dot" in skip.reason for skip in skipped)


def test_of_two_members_of_one_name_the_first_is_taken(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"first"), ("1.jpg", b"second"), ("2.jpg", b"two")])
    skipped: list[SkippedImage] = []
    assert [sample.data for sample in read_once([path], 0, 1, skipped.append)] == [b"first", b"two"]
    assert len(skipped) == 1
    assert "duplicate file name" in skipped[0].reason
    assert count_images(path) == 2


def test_shard_cut_anywhere_yields_what_is_complete_and_is_reported_once(tmp_path: Path) -> None:
    """At every block and between: what is read is a beginning of the whole, the headers count as many, and the damage
    is reported by the shard's name unless nothing but padding is gone."""
    whole = write_tar(
        tmp_path / "whole.tar", [(f"{index}.jpg", bytes([65 + index]) * (700 * index)) for index in range(6)]
    )
    content = Path(whole).read_bytes()
    expected = [data for _, data in read_shard(whole)]
    end = len(content.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    told = 0
    for size in sorted({*range(0, len(content), 512), *range(300, len(content), 1031)}):
        cut.write_bytes(content[:size])
        skipped: list[SkippedImage] = []
        data = [sample.data for sample in read_shard(str(cut), skipped.append)]
        assert data == expected[: len(data)]
        assert count_images(str(cut)) == len(data)
        assert [skip.path for skip in skipped] in ([], [cut])
        assert all("\n" not in skip.reason and "damaged shard" in skip.reason for skip in skipped)
        if size < end:
            assert skipped, size
        told += len(skipped)
        if size >= end + 1024 + 512:
            assert not skipped, size
    assert told > 20


def test_damaged_header_inside_raises(tmp_path: Path) -> None:
    """tarfile takes it for the end, and says nothing."""
    path = Path(write_tar(tmp_path / "a.tar", [(f"{index}.jpg", b"x" * 9000) for index in range(10)]))
    content = bytearray(path.read_bytes())
    start = content.index(b"4.jpg")
    content[start : start + 512] = b"\xff" * 512
    path.write_bytes(content)
    skipped: list[SkippedImage] = []
    assert len(list(read_once([str(path)], 0, 1, skipped.append))) == 4 == count_images(str(path))
    assert [skip.path for skip in skipped] == [path]
    assert "a damaged header" in skipped[0].reason


def test_damaged_or_missing_shard_among_good_ones_is_reported_once_and_skipped(tmp_path: Path) -> None:
    good = write_shards(tmp_path, [3, 3])
    text = tmp_path / "text.tar"
    text.write_text("no tar\n" * 300)
    damaged = [str(text), str(tmp_path / "gone.tar")]
    skipped: list[SkippedImage] = []
    samples = islice(read_forever([*good, *damaged], 0, 0, 1, on_skip=skipped.append), 60)
    assert set(samples) == set(everything(good))
    assert sorted(str(skip.path) for skip in skipped) == sorted(damaged)


def test_without_a_callback_it_is_a_warning(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"one"), ("2.json", b"{}")])
    with pytest.warns(UserWarning, match=r"a\.tar/2: no image"):
        assert len(list(read_once([path], 0, 1))) == 1
