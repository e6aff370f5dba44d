"""`clips4 segment` on video files: labels, overlay and list of frames agree; what is done is kept; what is told."""

import json
import os
import signal
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from clips4.data.image_folder import JobOutcome
from clips4.errors import UserError
from clips4.inference.jobs.load import Loaded, TeacherOptions, load_segmenter
from clips4.inference.jobs.segment import segment_files
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.temporal_smoothing import Steadiness, flicker
from clips4.models.checkpoint import load_checkpoint
from clips4.utils.progress import NoProgress
from clips4.utils.video import VideoWriter
from tests.cli.test_app import Fails, clips4, fails  # noqa: F401  # a fixture
from tests.helpers import photograph


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of a photograph that moves."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    wide = np.array(photograph(72, 140))
    with VideoWriter(path, Fraction(12)) as writer:
        for index in range(6):
            writer.write(wide[:, 6 * index : 6 * index + 96])
    return path


@pytest.fixture(scope="module")
def loaded(tiny_run: Path, video: Path) -> Loaded:
    found = load_segmenter([tiny_run, video], None, "cpu", TeacherOptions())
    # the teacher's own prototypes: what was fitted to a student of two steps gives every pixel the same class
    of_run = load_checkpoint(tiny_run)
    prototypes = replace(of_run.prototypes, fitted=None, student_bank=None)
    side = of_run.config.data.inference_side
    segmenter = Segmenter(of_run.student, of_run.config.teacher, side, torch.device("cpu"), prototypes)
    return found._replace(segmenter=segmenter)


def run(
    loaded: Loaded, out: Path, save: str = "png,overlay,json", steady: float = 0.8, force: bool = False
) -> JobOutcome:
    how = Steadiness(steady)
    return segment_files(loaded, out, None, save, "prototypes", True, None, how, force, NoProgress())


def labels_in(folder: Path) -> list[np.ndarray]:
    found = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            found.append(np.array(image))
    return found


def test_segment_video_without_smoothing_equals_images(loaded: Loaded, tmp_path: Path, video: Path) -> None:
    assert run(loaded, tmp_path / "out", steady=0).done == [video]
    found = labels_in(tmp_path / "out/clip")
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == len(frames) == 6
    for labels, frame in zip(found, frames, strict=True):
        expected = loaded.segmenter.segment(frame).labels
        np.testing.assert_array_equal(np.where(labels == 255, -1, labels.astype(int)), expected)
    lines = [json.loads(line) for line in (tmp_path / "out/clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [f"{i:05d}" for i in range(6)]
    assert lines[0]["flicker"] is None
    for before, after, line in zip(found, found[1:], lines[1:], strict=False):
        assert line["flicker"] == pytest.approx(flicker(before, after), abs=1e-5)
    for labels, line in zip(found, lines, strict=True):
        assert line["shares"].get("unknown", 0) == pytest.approx((labels == 255).mean(), abs=1e-5)
        assert sum(line["shares"].values()) == pytest.approx(1, abs=1e-3)
    with av.open(str(tmp_path / "out/clip.mp4")) as container:
        stream = container.streams.video[0]
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == 12
    assert len(shown) == 6
    assert shown[0].shape[1] == 96
    assert shown[0].shape[0] > 72, "a legend below"


def test_segment_video_with_smoothing_flickers_less(loaded: Loaded, tmp_path: Path) -> None:
    run(loaded, tmp_path / "alone", "png", steady=0)
    run(loaded, tmp_path / "steady", "png", steady=0.9)

    def changes(folder: Path) -> float:
        found = labels_in(folder)
        return float(np.mean([flicker(a, b) for a, b in pairwise(found)]))

    assert changes(tmp_path / "steady/clip") < changes(tmp_path / "alone/clip")


def test_segment_videos_repeated_keeps_what_is_done(loaded: Loaded, tmp_path: Path, video: Path) -> None:
    assert run(loaded, tmp_path, "png").done == [video]
    assert run(loaded, tmp_path, "png").kept == [video]
    assert run(loaded, tmp_path, "png", steady=0.5).done == [video], "other settings"
    assert run(loaded, tmp_path, "png", steady=0.5, force=True).done == [video]
    (tmp_path / "clip/00003.png").unlink()
    assert run(loaded, tmp_path, "png", steady=0.5).done == [video]


def test_segment_video_ctrl_c_leaves_labels_but_no_partial_video(
    loaded: Loaded, tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loaded.segmenter.predict
    asked: list[int] = []

    def pressing(*arguments: object) -> object:
        asked.append(1)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loaded.segmenter, "predict", pressing)
        assert run(loaded, tmp_path).interrupted
    assert len(labels_in(tmp_path / "clip")) == 3
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["clip"]
    assert not list(tmp_path.glob("*.part*"))
    assert run(loaded, tmp_path).done == [video]


def test_segment_videos_truncated_video_is_skipped(loaded: Loaded, tmp_path: Path, video: Path) -> None:
    whole = tmp_path / "in/whole.mp4"
    whole.parent.mkdir()
    whole.write_bytes(video.read_bytes())
    cut = tmp_path / "in/cut.mp4"
    cut.write_bytes(video.read_bytes()[:-300])
    outcome = run(loaded._replace(videos=[cut, whole]), tmp_path / "out")
    assert [each.path for each in outcome.skipped] == [cut]
    assert outcome.done == [whole]
    assert not (tmp_path / "out/cut.mp4").exists()


def test_segment_command_image_and_video_of_one_name_have_distinct_outputs(
    tiny_run: Path, video: Path, tmp_path: Path
) -> None:
    photograph().save(tmp_path / "clip.png")
    (tmp_path / "clip.mp4").write_bytes(video.read_bytes())
    given = (tmp_path / "clip.mp4", tmp_path / "clip.png")
    done = clips4("segment", tiny_run, *given, "--out", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Segmented 2 files (0 skipped) into {tmp_path / 'out'}.\n"
    names = ["clip", "clip.json", "clip.jsonl", "clip.mp4", "clip.png", "clip_overlay.png"]
    assert sorted(p.name for p in (tmp_path / "out").glob("[!.]*")) == names
    assert len(list((tmp_path / "out/clip").iterdir())) == 6


def test_segment_command_invalid_video_fails(tiny_run: Path, video: Path, tmp_path: Path, fails: Fails) -> None:  # noqa: F811
    out = ("--out", tmp_path / "out")
    before = video.read_bytes()
    assert "would be overwritten" in fails("segment", tiny_run, video, "--out", video.parent)
    assert video.read_bytes() == before
    assert "--save coco: not for video" in fails("segment", tiny_run, video, "--save", "png,coco", *out)
    assert "weight of 0 to below 1" in fails("segment", tiny_run, video, "--steady", "1", *out)
    letter = tmp_path / "letter.mp4"
    letter.write_text("no video")
    assert "none of 1 video could be read" in fails("segment", tiny_run, letter, *out)
    assert "--scales 'big'" in fails("segment", tiny_run, video, "--scales", "big", *out)
    assert "window of 8 pixels is too small" in fails("segment", tiny_run, video, "--window", "8", *out)
    assert "choose one of pamr, regions" in fails("segment", tiny_run, video, "--refine", "crf", *out)
    assert "give a probability" in fails("segment", tiny_run, video, "--background", "1.5", *out)
    assert not list((tmp_path / "out").glob("[!.]*"))
    with pytest.raises(UserError, match="no such file"):
        load_segmenter([tiny_run, tmp_path / "none.mp4"], None, "cpu", TeacherOptions())
