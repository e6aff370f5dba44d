from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clips4.errors import UserError
from clips4.serve.clips import MAX_FRAMES, clip_of_images, clip_of_video
from clips4.utils.video import VideoWriter


@pytest.fixture
def video(tmp_path: Path) -> bytes:
    pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, Fraction(12)) as writer:
        for number in range(5):
            writer.write(np.full((32, 48, 3), 40 * number, np.uint8))
    return path.read_bytes()


def test_clip_of_a_video_file_has_its_frames_and_rate(video: bytes) -> None:
    clip = clip_of_video(video, "holiday.mp4")
    facts = clip.facts()
    assert (facts["frames"], facts["width"], facts["height"], facts["rate"]) == (5, 48, 32, 12.0)
    assert [round(float(clip.frame(number).mean()) / 40) for number in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["holiday.txt", "holiday", ".mp4"])
def test_clip_of_another_suffix_is_refused(video: bytes, name: str) -> None:
    with pytest.raises(UserError, match="not a video"):
        clip_of_video(video, name)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_clip_of_a_damaged_video_names_the_upload_alone(video: bytes, share: float) -> None:
    with pytest.raises(UserError, match=r"^holiday\.mp4") as error:
        clip_of_video(video[: int(share * len(video))], "holiday.mp4")
    assert "clips4-" not in str(error.value)


def test_clip_of_images_of_two_sizes_or_too_many_is_refused() -> None:
    small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)
    with pytest.raises(UserError, match="b: 9 x 8 pixels"):
        clip_of_images([small, large], ["a", "b"])
    with pytest.raises(UserError, match=f"more than {MAX_FRAMES} frames"):
        clip_of_images([small] * (MAX_FRAMES + 1), ["a"] * (MAX_FRAMES + 1))


def test_clip_with_runs_of_no_object_or_too_many_is_refused() -> None:
    clip = clip_of_images([np.zeros((8, 8, 3), np.uint8)] * 2, ["a", "b"])
    for runs in ([0, 64], [255, 64], [1, 63], []):
        with pytest.raises(UserError):
            clip.start(0, runs, None)  # type: ignore[arg-type]  # refused before it is used
    assert clip.facts()["state"] == "ready"
