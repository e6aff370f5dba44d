import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
import webdataset

from clips4.data import shard_stream as shards_module
from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import ImageShards
from clips4.data.shard_reader import IMAGE_SUFFIXES, OnSkip, Sample, count_images, expand_shards, is_shard, read_shard
from clips4.data.shard_stream import read_forever, read_once
from clips4.errors import UserError

Members = Sequence[tuple[str, bytes]]


def write_tar(path: Path, members: Members, mode: str = "w") -> str:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def write_shards(folder: Path, sizes: Sequence[int]) -> list[str]:
    """Shards of samples with a picture, a label and a caption; all names and contents differ."""
    paths = []
    for number, size in enumerate(sizes):
        members: list[tuple[str, bytes]] = []
        for index in range(size):
            key = f"{number:02d}{index:03d}"
            members += [(f"{key}.cls", b"7"), (f"{key}.jpg", f"picture {key}".encode()), (f"{key}.txt", b"a cat")]
        paths.append(write_tar(folder / f"{number:02d}.tar", members))
    return paths


def everything(paths: Sequence[str]) -> list[Sample]:
    """The pictures by tarfile alone."""
    samples = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    file = tar.extractfile(member)
                    assert file is not None
                    samples.append(Sample(f"{path}/{member.name}", file.read()))
    return samples


def no_skips(skipped: SkippedImage) -> None:
    raise AssertionError(skipped.reason)


def forever(
    paths: Sequence[str], seed: int = 0, lane: int = 0, lanes: int = 1, skip: int = 0, shuffle: int = 4
) -> Iterator[Sample]:
    return read_forever(paths, seed, lane, lanes, skip, shuffle, no_skips)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five shards of odd sizes, one of them empty; 21 samples."""
    return write_shards(tmp_path_factory.mktemp("shards"), [7, 3, 0, 10, 1])


# ----------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "text", ["a.tar", "a/b.tar", "a/{000..031}.tar", "A.TAR", Path("a.tar"), "http://x/a.tar", "pipe:cat a"]
)
def test_is_shard_of_tar_names_is_true(text: str | Path) -> None:
    assert is_shard(text)


@pytest.mark.parametrize("text", ["a.jpg", "tar", "a.tar.jpg", "folder/", "a.tar/000.jpg", "{a,b}.png", ""])
def test_is_shard_of_other_names_is_false(text: str) -> None:
    assert not is_shard(text)


def test_braces_are_expanded_and_each_file_comes_once_in_order(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [1] * 12)
    assert expand_shards(str(tmp_path / "{00..11}.tar")) == paths
    assert expand_shards([tmp_path / "{09,01}.tar", paths[1], paths[5]]) == [paths[1], paths[5], paths[9]]
    assert expand_shards(Path(paths[3])) == [paths[3]]
    assert expand_shards(reversed(paths)) == paths


def test_braces_in_a_files_own_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "{a,b}.tar", [("0.jpg", b"x")])
    assert expand_shards(path) == [path]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1])
    with pytest.raises(UserError, match=r"02\.tar: no such shard, one of 4 of .*00\.\.03"):
        expand_shards(str(tmp_path / "{00..03}.tar"))
    with pytest.raises(UserError, match=r"gone\.tar: no such shard$"):
        expand_shards(str(tmp_path / "gone.tar"))
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(UserError, match=r"folder\.tar: not a file"):
        expand_shards(str(tmp_path / "folder.tar"))


@pytest.mark.parametrize(
    "address", ["http://x.y/a.tar", "https://x.y/{0..9}.tar", "s3://b/a.tar", "pipe:cat a.tar", "file:/a.tar"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses_and_commands_are_refused(address: str, kind: type) -> None:
    with pytest.raises(UserError, match="shards are read from files only; copy or mount them"):
        expand_shards(kind(address))


def test_open_braces_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="the braces do not close"):
        expand_shards("a/{00..03.tar")
    with pytest.raises(UserError, match="no shards; give"):
        expand_shards([])
    for read in (read_once([], 0, 1), read_forever([], 0, 0, 1)):
        with pytest.raises(UserError, match="no shards; give"):
            next(read)


def test_missing_package_is_one_line_with_what_to_install(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"pip install 'clips4\[shards\]'"):
        expand_shards(paths)


# -------------------------------------------------------------------------------------------------------- one shard


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


# --------------------------------------------------------------------------------------------------------- hostile


def header(name: str, size: int, kind: bytes = b"0", link: str = "", sparse: int | None = None) -> bytes:
    """A tar header with a size that may be a lie."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (
        (b"\xff" + (size % 256**11).to_bytes(11, "big")) if size < 0 else b"\x80" + size.to_bytes(11, "big")
    )
    if sparse is not None:
        for start, value in ((386, sparse), (398, 0), (483, sparse)):
            block[start : start + 12] = b"\x80" + value.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


GOOD = header("1.jpg", 3) + b"one" + bytes(509)
END = bytes(1024)


@pytest.mark.parametrize(
    ("member", "words"),
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
def test_read_shard_hostile_member_is_skipped_and_the_rest_read(tmp_path: Path, member: bytes, words: str) -> None:
    path, skipped = tmp_path / "a.tar", list[SkippedImage]()
    path.write_bytes(GOOD + member + GOOD.replace(b"1.jpg", b"3.jpg", 1) + END)
    content = bytearray(path.read_bytes())  # the changed name needs its own checksum
    content[-1024 - 1024 : -1024 - 512] = header("3.jpg", 3)
    path.write_bytes(content)
    assert [sample.data for sample in read_shard(str(path), skipped.append)] == [b"one", b"one"]
    assert count_images(str(path)) == 2
    assert len(skipped) == 1
    assert words in skipped[0].reason


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
    monkeypatch.setattr("clips4.data.shard_reader.FREE", 2**20)
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


# ---------------------------------------------------------------------------------------------------------- damage


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
        f"{path}: 2 images such as b.final.jpg are not used",
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


@pytest.mark.parametrize("lanes", [1, 2, 5])
@pytest.mark.parametrize("skip", [0, 3])
def test_set_without_an_image_is_an_error_not_an_endless_loop(tmp_path: Path, lanes: int, skip: int) -> None:
    paths = [write_tar(tmp_path / "a.tar", [("1.json", b"{}")]), write_tar(tmp_path / "b.tar", [])]
    for lane in range(lanes):
        with pytest.raises(UserError, match=r"none of 2 shards, .* holds an image; .*a\.tar/1: no image"):
            list(read_once(paths, lane, lanes, lambda _: None))
        with pytest.raises(UserError, match="none of 2 shards"):
            next(read_forever(paths, 0, lane, lanes, skip, on_skip=lambda _: None))


def test_fewer_images_than_readers_is_an_error_for_those_that_get_none(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [2])
    assert len(list(islice(forever(paths, lane=1, lanes=3), 5))) == 5
    assert list(read_once(paths, 2, 3, no_skips)) == []
    for skip in (0, 1):
        with pytest.raises(UserError, match="fewer images than there are readers, 3"):
            next(forever(paths, lane=2, lanes=3, skip=skip))


# ----------------------------------------------------------------------------------------------------------- lanes


@pytest.mark.parametrize("lanes", [1, 2, 3, 5, 6, 9, 30])
def test_readers_share_the_set_without_overlap(paths: list[str], lanes: int) -> None:
    parts = [list(read_once(paths, lane, lanes, no_skips)) for lane in range(lanes)]
    joined = [sample for part in parts for sample in part]
    assert len(joined) == 21
    assert sorted(joined) == sorted(everything(paths))
    if lanes > len(paths):  # by turns: as even as can be
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("lanes", [1, 2, 3, 7])
def test_readers_share_each_epoch_without_overlap(tmp_path: Path, lanes: int) -> None:
    paths = write_shards(tmp_path, [4] * 6)
    size = 24 // lanes if 24 % lanes == 0 else None
    for epoch in range(3):
        joined = []
        for lane in range(lanes):
            mine = size or len(range(lane, 24, lanes))
            joined += list(islice(forever(paths, lane=lane, lanes=lanes), epoch * mine, (epoch + 1) * mine))
        assert sorted(joined) == sorted(everything(paths)), epoch


def test_damage_is_reported_once_over_interleaved_readers(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.jpg", b"1"), ("2.json", b"{}"), ("3.jpg", b"3"), ("4.jpg", b"4")])
    skipped: list[SkippedImage] = []
    for lane in range(3):
        list(read_once([path], lane, 3, skipped.append))
    assert len(skipped) == 1


@pytest.mark.parametrize("lane", [-1, 2, 5])
def test_readers_are_numbered_from_zero(paths: list[str], lane: int) -> None:
    for read in (read_once(paths, lane, 2), read_forever(paths, 0, lane, 2)):
        with pytest.raises(ValueError, match=f"reader {lane} of 2"):
            next(read)


# ----------------------------------------------------------------------------------------------------------- order


def take(samples: Iterator[Sample], count: int) -> list[str]:
    return [sample.name for sample in islice(samples, count)]


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_same_seed_gives_the_same_order_and_another_another(paths: list[str], lanes: int) -> None:
    order = take(forever(paths, seed=3, lanes=lanes), 40)
    random.seed(99)
    assert take(forever(paths, seed=3, lanes=lanes), 40) == order
    assert take(forever(paths, seed=4, lanes=lanes), 40) != order


def test_epochs_and_readers_differ_in_order(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [40])
    order = take(forever(paths, shuffle=40), 120)
    epochs = [order[:40], order[40:80], order[80:]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    # two lanes by turns draw from the same shards, but mix differently
    positions = [
        [int(name[-7:-4]) // 2 for name in take(forever(paths, lane=lane, lanes=2, shuffle=40), 20)] for lane in (0, 1)
    ]
    assert sorted(positions[0]) == sorted(positions[1])
    assert positions[0] != positions[1]


def test_full_buffer_mixes_well(tmp_path: Path) -> None:
    """Over seeds, where a sample comes has nothing to do with where it stood."""
    paths = write_shards(tmp_path, [20])
    places = [0.0] * 20
    for seed in range(200):
        for place, name in enumerate(take(forever(paths, seed=seed, shuffle=100), 20)):
            places[int(name[-7:-4])] += place / 200
    assert all(abs(place - 9.5) < 1.8 for place in places)  # 4 standard errors of a uniform mean


def test_without_a_buffer_shards_keep_their_own_order(paths: list[str]) -> None:
    by_shard: dict[str, list[str]] = {}
    for name in take(forever(paths, shuffle=0), 21):
        by_shard.setdefault(name.rsplit("/", 1)[0], []).append(name)
    assert len(by_shard) == 4
    assert all(names == sorted(names) for names in by_shard.values())


@pytest.mark.parametrize(("lane", "lanes"), [(0, 1), (1, 2), (0, 5), (2, 8)])
@pytest.mark.parametrize("shuffle", [0, 1, 4, 1000])
def test_skip_resumes_where_an_uninterrupted_run_would_be(
    paths: list[str], lane: int, lanes: int, shuffle: int
) -> None:
    """For every place in the first epochs, and far ahead."""
    unbroken = take(forever(paths, 5, lane, lanes, shuffle=shuffle), 140)
    for skip in [*range(0, 50, 1 if shuffle == 4 else 7), 100, 126]:
        assert take(forever(paths, 5, lane, lanes, skip, shuffle), 14) == unbroken[skip : skip + 14], skip


def test_skip_holds_on_damaged_sets(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [5, 6, 7])
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:9000])
    paths.append(write_tar(tmp_path / "x.tar", [("1.jpg", b"1"), ("2.json", b"2"), ("3.jpg", b"3"), ("3.jpg", b"3")]))

    def read(skip: int) -> list[str]:
        return take(read_forever(paths, 1, 0, 1, skip, 4, on_skip=lambda _: None), 20)

    unbroken = take(read_forever(paths, 1, 0, 1, 0, 4, on_skip=lambda _: None), 80)
    for skip in range(0, 60, 3):
        assert read(skip) == unbroken[skip : skip + 20]


def test_skip_reads_only_the_shards_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_shards(tmp_path, [10] * 20)
    unbroken = take(forever(paths), 600)
    used: list[str] = []

    def read(shard: str, on_skip: OnSkip | None) -> Iterator[Sample]:
        used.append(shard)
        yield from read_shard(shard, on_skip)

    monkeypatch.setattr(shards_module, "read_shard", read)
    assert take(forever(paths, skip=400), 1) == unbroken[400:401]
    assert len(used) == 1, "two whole epochs are passed over by their headers"
    used.clear()
    assert take(forever(paths, skip=590), 10) == unbroken[590:]
    assert 1 <= len(used) <= 4, "and of the last, what its buffer of 4 was not filled from"


def test_shard_replaced_while_it_is_skipped_raises(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "count_images", lambda shard: count_images(shard) + 1)
    with pytest.raises(UserError, match=r"has \d+ images, and had \d+ before"):
        list(islice(forever(paths, skip=2), 30))


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four shards of 100 pictures of 50 kB: 20 MB."""
    folder = tmp_path_factory.mktemp("large")
    return [
        write_tar(folder / f"{shard}.tar", [(f"{shard}{index:03d}.jpg", bytes(50_000)) for index in range(100)])
        for shard in range(4)
    ]


@pytest.mark.parametrize(("reader", "bound"), [("once", 1.5e6), ("forever", 2.5e6), ("skip", 2.5e6)])
def test_shard_stream_over_many_images_memory_stays_flat(large: list[str], reader: str, bound: float) -> None:
    """A few pictures in hand, and the buffer's 20 of 50 kB; never a shard's 5 MB."""
    readers = {
        "once": lambda: read_once(large, 0, 1, no_skips),
        "forever": lambda: islice(forever(large, shuffle=20), 1000),
        "skip": lambda: islice(forever(large, skip=650, shuffle=20), 350),
    }
    list(islice(readers[reader](), 1))  # imports
    tracemalloc.start()
    seen = sum(1 for _ in readers[reader]())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen >= 350
    assert peak < bound
