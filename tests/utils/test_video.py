"""Frames from folders and video files: order, names, sizes, rotation, and everything that can be wrong with a file."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from clips4.errors import UserError
from clips4.utils.images import RGB
from clips4.utils.video import VideoWriter, is_video, natural_key, open_frames
from tests.helpers import noise_image


def moving(count: int, height: int = 48, width: int = 64) -> list[RGB]:
    """Smooth frames, each brighter than the one before."""
    base = noise_image(height, width).astype(int) // 2
    return [np.clip(base + 100 * i // count, 0, 255).astype(np.uint8) for i in range(count)]


def write_video(path: Path, frames: list[RGB], codec: str = "libx264", **options: str) -> Path:
    """By PyAV alone, not by the code under test."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_of_a_folder_are_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.png", "F1.png", ".hidden.png", "notes.txt"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    frames = open_frames(tmp_path)
    assert [name for name, _ in frames] == ["F1", "f9", "f10"]
    assert (frames.count, frames.rate) == (3, Fraction(24))
    assert open_frames(tmp_path, 29.97).rate == Fraction(2997, 100)
    assert sorted(["a2b10", "a2b9", "a10"], key=natural_key) == ["a2b9", "a2b10", "a10"]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_what_is_written_is_read_back(tmp_path: Path, size: tuple[int, int]) -> None:
    path, frames = tmp_path / "out.mp4", moving(6, *size)
    with VideoWriter(path, Fraction(30000, 1001)) as writer:
        for frame in frames:
            writer.write(frame)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == (48, 64), "sides are made even"
        assert stream.average_rate == Fraction(30000, 1001)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 6
    for given, read in zip(frames, decoded, strict=True):
        assert np.abs(given.astype(int) - read[: size[0], : size[1]]).mean() < 4
    ours = list(open_frames(path))
    assert [name for name, _ in ours] == [f"{i:05d}" for i in range(6)]
    np.testing.assert_array_equal([image for _, image in ours], decoded)
    assert (open_frames(path).count, open_frames(path).rate) == (6, Fraction(30000, 1001))
    assert is_video(path)


def test_video_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"the old one")

    def fails() -> None:
        with VideoWriter(path, Fraction(24)) as writer:
            writer.write(moving(1)[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    with VideoWriter(path, Fraction(24)):
        pass  # no frame came
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"the old one"


def test_video_that_is_shown_turned(tmp_path: Path) -> None:
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:20] = 255  # bright above
    path = write_video(tmp_path / "a.mp4", [np.ascontiguousarray(np.rot90(upright, -1))] * 3)
    data = path.read_bytes()  # the track header's matrix says how to turn it; players obey
    at = data.index(b"tkhd") + 4 + 40
    straight = b"".join(v.to_bytes(4, "big", signed=True) for v in (65536, 0, 0, 0, 65536, 0, 0, 0, 1073741824))
    assert data[at : at + 36] == straight
    turn = b"".join(v.to_bytes(4, "big", signed=True) for v in (0, -65536, 0, 65536, 0, 0, 0, 0, 1073741824))
    path.write_bytes(data[:at] + turn + data[at + 36 :])
    _, image = next(iter(open_frames(path)))
    assert image.shape == (64, 48, 3)
    assert image[:16].mean() > 200
    assert image[24:].mean() < 60


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_video_that_was_cut_off_yields_its_frames_then_raises(tmp_path: Path, name: str, codec: str) -> None:
    options = {"movflags": "faststart"} if name.endswith(".mp4") else {}
    noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(40)]
    path = write_video(tmp_path / name, noise, codec, **options)
    assert len(list(open_frames(path))) == 40
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    read: list[str] = []
    with pytest.raises(UserError, match=rf"{name}: (cut off|damaged) after frame \d+.*copy it again"):
        read.extend(frame_name for frame_name, _ in open_frames(path))
    assert 10 < len(read) < 40


def no_video(path: Path) -> Path:
    path = path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def without_head(path: Path) -> Path:
    path = write_video(path / "cut.mp4", moving(20))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path


def a_letter(path: Path) -> Path:
    path = path / "letter.mp4"
    path.write_text("Dear reader, this is no video.")
    return path


def an_empty_file(path: Path) -> Path:
    path = path / "empty.webm"
    path.touch()
    return path


def twins(path: Path) -> Path:
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (4, 4)).save(path / name)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_letter, "letter.mp4: not a readable video"),
        (an_empty_file, "empty.webm: not a readable video"),
        (without_head, "cut.mp4: not a readable video, or cut off"),
        (no_video, "sound.mp4: has no video stream"),
        (twins, "several frames are called a"),
        (lambda path: path, "no frames in this folder"),
        (lambda path: path / "nowhere", "no such file or folder"),
    ],
)
def test_what_is_wrong_raises_at_once(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_frames(make(tmp_path))


def test_video_without_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(3))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(UserError, match=r"a video without frames|not a readable video"):
        list(open_frames(path))


def test_open_frames_name_with_a_colon_is_a_local_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "http:a.mp4", "concat:a.mp4", "100%.mp4"):
        with VideoWriter(Path(name), Fraction(25)) as writer:
            for frame in moving(3):
                writer.write(frame)
        assert len(list(open_frames(Path(name)))) == 3
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'secret.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    ],
)
def test_open_frames_playlist_named_as_a_video_raises_and_opens_nothing(tmp_path: Path, text: str) -> None:
    write_video(tmp_path / "secret.mp4", moving(3))
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(UserError, match=r"a\.mp4: not a readable video"):
        list(open_frames(tmp_path / "a.mp4"))


def test_open_frames_frames_beyond_the_limit_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", moving(3))
    monkeypatch.setenv("CLIPS4_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(UserError, match=r"a\.mp4: 64 x 48 pixels are too many"):
        open_frames(path)
