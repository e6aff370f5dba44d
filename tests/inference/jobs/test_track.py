"""Tracking from files into files: what is written, several objects, late ones, and what is told."""

import json
import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.data.label_maps import read_labels
from clips4.data.masks import davis_palette
from clips4.errors import UserError
from clips4.inference.jobs.track import Tracked, painted, read_masks, track_files
from clips4.inference.video.label_propagation import Recipe
from clips4.utils.images import RGB
from clips4.utils.progress import NoProgress
from clips4.utils.tensors import to_tensor
from clips4.utils.video import VideoWriter, open_frames
from tests.cli.test_app import Fails, clips4, fails  # noqa: F401  # a fixture
from tests.inference.video.test_label_propagation import color_encoder, colors

PLACES = [(8, 8), (8, 16), (12, 24), (16, 32), (16, 40)]


def scene(index: int) -> tuple[RGB, NDArray[np.uint8]]:
    """A red square that moves, and from the third frame on a green one; blue ground."""
    frame, truth = np.zeros((64, 80, 3), np.uint8), np.zeros((64, 80), np.uint8)
    frame[..., 2] = 255
    y, x = PLACES[index]
    frame[y : y + 16, x : x + 16], truth[y : y + 16, x : x + 16] = (255, 0, 0), 7
    if index >= 2:
        frame[44:60, 60:76], truth[44:60, 60:76] = (0, 255, 0), 3
    return frame, truth


def save_mask(path: Path, mask: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(mask).convert("L")
    image.putpalette(davis_palette().ravel().tolist())
    image.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(scene(index)[0]).save(folder / f"f{index + 8}.png")
    return folder


def run(frames: Path, masks: Path, out: Path, video: bool = False) -> Tracked:
    return track_files(open_frames(frames), masks, out, color_encoder(), Recipe(radius=4), video, NoProgress())


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette() == davis_palette().ravel().tolist()
        return np.array(image)


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_track_files_objects_keep_their_numbers_and_one_appears_later(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for index in range(5):  # full annotations: only where an object is new do they count
        wrong_later = scene(index)[1] if index < 3 else np.full((64, 80), 7, np.uint8)
        save_mask(masks / f"f{index + 8}.png", wrong_later)
    tracked = run(folder, masks, tmp_path / "out", video=True)
    assert tracked.objects == [3, 7]
    assert [frame["frame"] for frame in tracked.frames] == [f"f{index}" for index in range(8, 13)]
    for index, frame in enumerate(tracked.frames):
        mask, truth = read(tmp_path / f"out/{frame['frame']}.png"), scene(index)[1]
        assert frame["areas"] == {"3": (mask == 3).sum(), "7": (mask == 7).sum()}
        assert set(np.unique(mask)) <= {0, 3, 7}
        assert overlap(mask == 7, truth == 7) > 0.7
        assert not (mask == 3).any() if index < 2 else overlap(mask == 3, truth == 3) > 0.7
    np.testing.assert_array_equal(read(tmp_path / "out/f8.png"), scene(0)[1])
    with av.open(str(tmp_path / "out/overlay.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 5
    expected = painted(scene(4)[0], read(tmp_path / "out/f12.png"))
    assert np.abs(shown[4].astype(int) - expected).mean() < 6


def test_track_files_video_and_mask_of_0_and_255_is_one_object(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(10)) as writer:
        for index in range(5):
            writer.write(scene(index)[0])
    mask = save_mask(tmp_path / "first.png", np.where(scene(0)[1] > 0, 255, 0).astype(np.uint8))
    tracked = run(tmp_path / "clip.mp4", mask, tmp_path / "out", video=True)
    assert tracked.objects == [1]
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == [
        *(f"{i:05d}.png" for i in range(5)),
        "overlay.mp4",
    ]
    assert overlap(read(tmp_path / "out/00004.png") == 1, scene(4)[1] == 7) > 0.7
    assert open_frames(tmp_path / "out/overlay.mp4").rate == 10


def test_painted_outside_objects_is_unchanged() -> None:
    frame, truth = scene(0)
    shown = painted(frame, truth)
    outside = np.ones_like(truth, bool)
    outside[7:25, 7:25] = False
    np.testing.assert_array_equal(shown[outside], frame[outside])
    inside = (frame[16, 16].astype(int) + davis_palette()[7]) / 2
    assert np.abs(shown[16, 16] - inside).max() <= 1


def _mask_of_another_size(tmp: Path, folder: Path) -> tuple[Path, Path]:
    return folder, save_mask(tmp / "m.png", np.ones((32, 40), np.uint8))


def _empty_mask(tmp: Path, folder: Path) -> tuple[Path, Path]:
    return folder, save_mask(tmp / "m.png", np.zeros((64, 80), np.uint8))


def _no_mask(tmp: Path, folder: Path) -> tuple[Path, Path]:
    return folder, tmp / "nowhere.png"


def _broken_mask(tmp: Path, folder: Path) -> tuple[Path, Path]:
    (tmp / "m.png").write_text("no mask")
    return folder, tmp / "m.png"


def _masks_without_the_first(tmp: Path, folder: Path) -> tuple[Path, Path]:
    save_mask(tmp / "masks/f9.png", scene(1)[1])
    return folder, tmp / "masks"


def _mask_of_no_frame(tmp: Path, folder: Path) -> tuple[Path, Path]:
    save_mask(tmp / "masks/f8.png", scene(0)[1])
    save_mask(tmp / "masks/f99.png", scene(2)[1])
    return folder, tmp / "masks"


def _broken_frame(tmp: Path, folder: Path) -> tuple[Path, Path]:
    (folder / "f10.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder, save_mask(tmp / "m.png", scene(0)[1])


def _frame_of_another_size(tmp: Path, folder: Path) -> tuple[Path, Path]:
    Image.new("RGB", (40, 40)).save(folder / "f10.png")
    return folder, save_mask(tmp / "m.png", scene(0)[1])


@pytest.mark.parametrize(
    ("make", "message", "written"),
    [
        (_mask_of_another_size, r"m\.png: 40 x 32 pixels, but the frames of .* have 80 x 64", 0),
        (_empty_mask, r"m\.png: no object in this mask", 0),
        (_no_mask, r"nowhere\.png: no such mask", 0),
        (_broken_mask, r"m\.png: not a label map", 0),
        (_masks_without_the_first, r"masks: no f8\.png in this folder", 0),
        (_mask_of_no_frame, r"f99\.png: no frame has the name f99", 0),
        (_broken_frame, r"f10\.png: (damaged|not an) image", 2),
        (_frame_of_another_size, r"frame f10: 40 x 40 pixels, but those before have 80 x 64", 2),
    ],
)
def test_track_files_invalid_input_fails_and_earlier_masks_remain(
    folder: Path, tmp_path: Path, make: Callable[[Path, Path], tuple[Path, Path]], message: str, written: int
) -> None:
    frames, masks = make(tmp_path, folder)
    with pytest.raises(UserError, match=message):
        run(frames, masks, tmp_path / "out", video=True)
    assert len(list((tmp_path / "out").glob("[!.]*"))) == written, "masks before it; no half video"


def test_track_files_output_over_input_is_refused(folder: Path, tmp_path: Path) -> None:
    mask = save_mask(tmp_path / "out/f8.png", scene(0)[1])
    for out in (folder, tmp_path / "out"):
        with pytest.raises(UserError, match="would be overwritten"):
            run(folder, mask, out)
    with pytest.raises(UserError, match="is a file; give a folder"):
        run(folder, mask, mask)


def test_track_files_ctrl_c_finishes_the_frame(folder: Path, tmp_path: Path) -> None:
    second = to_tensor(scene(1)[0])[None]

    def interrupting(images: Tensor) -> Tensor:
        if torch.equal(images, second):
            os.kill(os.getpid(), signal.SIGINT)
        return colors(images)

    mask = save_mask(tmp_path / "m.png", scene(0)[1])
    encoder = color_encoder(interrupting)
    tracked = track_files(open_frames(folder), mask, tmp_path / "out", encoder, Recipe(radius=4), True, NoProgress())
    assert tracked.interrupted
    assert len(tracked.frames) == 2
    assert len(list(open_frames(tmp_path / "out/overlay.mp4"))) == 2


@pytest.mark.parametrize("numbers", [(200, 5), (3, 250), (1000, 300)])
def test_track_files_numbers_with_gaps_are_kept(folder: Path, tmp_path: Path, numbers: tuple[int, int]) -> None:
    mask = np.zeros((64, 80), np.uint8 if max(numbers) < 256 else np.uint16)
    mask[8:24, 8:24], mask[40:60, 50:70] = numbers
    Image.fromarray(mask).save(tmp_path / "m.png")
    tracked = run(folder, tmp_path / "m.png", tmp_path / "out", video=True)
    assert tracked.objects == sorted(numbers)
    np.testing.assert_array_equal(read_labels(tmp_path / "out/f8.png"), mask)
    assert set(np.unique(read_labels(tmp_path / "out/f12.png")).tolist()) <= {0, *numbers}


def test_read_masks_folder_one_rule_for_all_masks(tmp_path: Path) -> None:
    """0 and 255 alone in one mask are no object if another mask numbers its objects."""
    first, second = np.zeros((64, 80), np.uint8), np.zeros((64, 80), np.uint8)
    first[:9], second[:9], second[20:30] = 1, 255, 2  # 255 is void in the second
    save_mask(tmp_path / "masks/f8.png", first)
    save_mask(tmp_path / "masks/f9.png", np.where(second == 2, 0, second))
    save_mask(tmp_path / "masks/f10.png", second)
    given = read_masks(tmp_path / "masks", "f8").by_frame
    assert {name: np.unique(mask).tolist() for name, mask in given.items()} == {"f8": [0, 1], "f10": [0, 2]}


def test_track_command_prints_outcome_and_errors(tiny_run: Path, folder: Path, tmp_path: Path, fails: Fails) -> None:  # noqa: F811
    mask = save_mask(tmp_path / "m.png", scene(0)[1])
    out, record = tmp_path / "out", tmp_path / "areas.json"
    options = ("--side", "80", "--radius", "4", "--device", "cpu", "--record", record)
    done = clips4("track", tiny_run, folder, "--mask", mask, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Tracked 1 object in 5 frames into {out}.\n"
    areas = json.loads(record.read_text())
    assert areas["objects"] == [7]
    assert areas["frames"][0] == {"frame": "f8", "areas": {"7": 256}}
    assert len(list(out.glob("*.png"))) == 5

    letter = tmp_path / "letter.mp4"
    letter.write_text("no video")
    track = ("--mask", mask, "--out", tmp_path / "none")
    assert "not a readable video" in fails("track", tiny_run, letter, *track)
    assert "no such file or folder" in fails("track", tiny_run, tmp_path / "nowhere", *track)
    assert "holds no checkpoint" in fails("track", folder, folder, *track)
    assert "features 'hog'" in fails("track", tiny_run, folder, *track, "--features", "hog")
    assert not (tmp_path / "none").exists()


def test_track_files_of_other_frames_into_the_same_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    mask, out = save_mask(tmp_path / "m.png", scene(0)[1]), tmp_path / "out"
    run(folder, mask, out)
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(scene(0)[0]).save(other / "f8.png")
    with pytest.raises(UserError, match=r"out: has the outputs of .*frames; give another folder"):
        run(other, mask, out)
    (folder / "f12.png").unlink()
    run(folder, mask, out)
    assert sorted(p.name for p in out.glob("[!.]*")) == ["f10.png", "f11.png", "f8.png", "f9.png"], "no stale mask"
    with pytest.raises(UserError, match="no frames in this folder"):
        open_frames(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/f9.png").write_text("drawn by hand")
    with pytest.raises(UserError, match=r"f9\.png: exists, and clips4 did not write it"):
        run(folder, mask, tmp_path / "mine")
