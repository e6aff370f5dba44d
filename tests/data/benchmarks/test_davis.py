"""Sequences of DAVIS."""

from pathlib import Path

import pytest

from clips4.data.benchmarks.davis import load_davis
from clips4.errors import UserError
from tests.data.benchmarks import miniatures
from tests.helpers import shared


def test_all_sequences_where_there_is_no_list(tmp_path: Path) -> None:
    videos = load_davis(miniatures.davis(tmp_path))
    assert [video.name for video in videos] == ["blackswan", "cows"]
    assert [path.name for path in videos[0].frames] == [f"{n:05d}.jpg" for n in range(4)]
    assert all(f.stem == m.stem for f, m in zip(videos[0].frames, videos[0].masks, strict=True))


def test_lists_of_both_years(tmp_path: Path) -> None:
    assert [video.name for video in load_davis(miniatures.davis(tmp_path, 2017), "davis17")] == ["cows"]
    pairs = [f"/JPEGImages/480p/blackswan/0000{n}.jpg /Annotations/480p/blackswan/0000{n}.png" for n in range(3)]
    miniatures.listing(tmp_path / "ImageSets/480p/val.txt", pairs)
    assert [video.name for video in load_davis(tmp_path, "davis16")] == ["blackswan"]


def test_what_is_wrong_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no JPEGImages/480p"):
        load_davis(tmp_path)
    root = miniatures.davis(tmp_path)
    with pytest.raises(UserError, match="give davis16 or davis17"):
        load_davis(root, "davis18")
    (root / "Annotations/480p/cows/00002.png").unlink()
    with pytest.raises(UserError, match="frame 00002 has no mask in"):
        load_davis(root)
    for path in (root / "JPEGImages/480p/cows").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="0 frames"):
        load_davis(root)


def test_load_davis_real_sequences_have_frames_and_masks() -> None:
    videos = load_davis(shared("davis16"))
    assert len(videos) == 10
    assert sum(len(video.frames) for video in videos) == 708
