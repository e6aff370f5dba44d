"""Scoring saved tracks: rules, averages, and every way that files may be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import read_labels
from clips4.data.masks import davis_palette
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import statistics, summarize
from clips4.evaluation.predictions import score_tracking
from clips4.evaluation.record import describe_tracking_report
from tests.evaluation.metrics.test_davis import blob, shifted
from tests.reference import davis as literal


def save(mask: NDArray[np.number], path: Path, kind: str = "palette") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = mask.astype(np.uint8)
    if kind == "rgb":
        Image.fromarray(davis_palette()[values]).save(path)
        return
    image = Image.fromarray(values)
    if kind == "palette":
        image.putpalette(davis_palette().ravel().tolist())
    image.save(path)


def sequences(root: Path, objects: int = 2, frames: int = 6) -> Path:
    """Two sequences of moving blobs."""
    for name in ("ants", "bees"):
        shapes = [blob(seed + 7 * len(name), 45, 60) for seed in range(objects)]
        for frame in range(frames):
            mask = np.zeros((45, 60), np.uint8)
            for number, shape in enumerate(shapes, 1):
                mask[shifted(shape, frame, 2 * frame)] = number
            save(mask, root / name / f"{frame:05d}.png")
    return root


def predicted(truth: Path, root: Path, move: int = 3, kind: str = "palette") -> Path:
    for path in sorted(truth.rglob("*.png")):
        save(shifted(read_labels(path), 0, move), root / path.relative_to(truth), kind)
    return root


@pytest.mark.parametrize("kind", ["palette", "gray", "rgb"])
def test_score_tracking_any_mask_format_equals_literal_rules(tmp_path: Path, kind: str) -> None:
    truth = sequences(tmp_path / "gt")
    report = score_tracking(truth, predicted(truth, tmp_path / "pred", kind=kind))
    assert set(report.rules.values()) == {"davis17"}
    j, f = [], []
    for name in ("ants", "bees"):
        for number in (1, 2):
            pairs = [(read_labels(p), shifted(read_labels(p), 0, 3)) for p in sorted((truth / name).iterdir())[1:-1]]
            j.append([literal.jaccard(t == number, p == number) for t, p in pairs])
            f.append([literal.f_measure(t == number, p == number) for t, p in pairs])
    for values, found in ((j, report.scores.j), (f, report.scores.f)):
        expected = np.mean([literal.mean_recall_decay(each) for each in values], axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert report.scores.j_and_f == pytest.approx((report.scores.j.mean + report.scores.f.mean) / 2)
    assert len(report.scores.tracks) == 4
    json.dumps(describe_tracking_report(report))


def test_score_tracking_first_and_last_frame_are_not_scored(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred", move=0)
    for name in ("ants", "bees"):  # what is wrong there does not count, nor is it asked for
        (prediction / name / "00005.png").unlink()
        save(np.zeros((3, 3)), prediction / name / "00000.png")
    scores = score_tracking(truth, prediction).scores
    assert scores.j_and_f == 1
    assert scores.tracks[0].frames == ("00001", "00002", "00003", "00004")
    save(np.zeros((45, 60)), prediction / "ants/00001.png")
    assert score_tracking(truth, prediction).scores.j_and_f < 1


def test_score_tracking_davis16_merges_objects_davis17_scores_each(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = tmp_path / "pred"
    for path in truth.rglob("*.png"):
        save((read_labels(path) > 0).astype(np.uint8) * 2, prediction / path.relative_to(truth))  # all named 2
    assert score_tracking(truth, prediction, "davis16").scores.j_and_f == 1
    assert score_tracking(truth, prediction, "davis17").scores.j_and_f < 0.8


def test_score_tracking_unusable_files_raise_user_error(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred")
    target = prediction / "ants/00002.png"
    save(np.zeros((44, 60)), target)
    with pytest.raises(UserError, match="60 x 44 pixels, the truth has 60 x 45"):
        score_tracking(truth, prediction)
    save(np.full((45, 60), 3), target)
    with pytest.raises(UserError, match="object 3, but the truth of the sequence has 1, 2"):
        score_tracking(truth, prediction)
    Image.new("RGB", (60, 45), (1, 2, 3)).save(target)
    with pytest.raises(UserError, match="color #010203 is not in the DAVIS palette"):
        score_tracking(truth, prediction)
    target.write_text("no")
    with pytest.raises(UserError, match="not a label map"):
        score_tracking(truth, prediction)
    target.unlink()
    with pytest.raises(UserError, match=r"1 frame missing, first 00002\.png"):
        score_tracking(truth, prediction)
    with pytest.raises(UserError, match="1 of 2 sequences are missing, the first bees"):
        score_tracking(truth, _only_ants(prediction))
    with pytest.raises(UserError, match="no sequence 'wasps'"):
        score_tracking(truth, prediction, sequences=["wasps"])
    with pytest.raises(UserError, match="give the folder that holds"):
        score_tracking(tmp_path / "nowhere", prediction)


def _only_ants(prediction: Path) -> Path:
    for path in (prediction / "bees").iterdir():
        path.unlink()
    (prediction / "bees").rmdir()
    return prediction


def test_score_tracking_extra_frames_and_sequences_are_counted_not_scored(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred", move=0)
    save(np.zeros((45, 60)), prediction / "ants/00099.png")
    save(np.zeros((45, 60)), prediction / "wasps/00000.png")
    report = score_tracking(truth, prediction)
    assert (report.extra_frames, report.extra_sequences, report.scores.j_and_f) == (1, ("wasps",), 1)


def test_score_tracking_several_processes_give_same_scores(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred")
    one, two = (describe_tracking_report(score_tracking(truth, prediction, workers=n)) for n in (1, 2))
    assert one == two
    with pytest.raises(UserError, match="1 or more processes"):
        score_tracking(truth, prediction, workers=0)


def test_score_tracking_longer_sequence_first_keeps_the_order_of_names(tmp_path: Path) -> None:
    save_sequence(tmp_path / "gt/a", *[row_of(1, 0)] * 3)
    save_sequence(tmp_path / "gt/b", *[row_of(1, 2)] * 5)
    report = score_tracking(tmp_path / "gt", tmp_path / "gt")
    assert list(report.rules) == ["a", "b"]
    assert [(track.sequence, len(track.frames)) for track in report.scores.tracks] == [("a", 1), ("b", 3), ("b", 3)]


def test_summarize_tracks_averages_over_objects(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    tracks = score_tracking(truth, predicted(truth, tmp_path / "pred")).scores.tracks
    assert summarize(tracks).j.mean == pytest.approx(np.mean([statistics(track.j).mean for track in tracks]))
    with pytest.raises(ValueError, match="no track"):
        summarize([])


def row_of(*objects: int) -> NDArray[np.integer]:
    """A mask with a square for each object, in a row; 0 leaves a place empty."""
    mask = np.zeros((20, 20 * len(objects)), np.uint16 if max(objects) > 255 else np.uint8)
    for place, number in enumerate(objects):
        mask[4:16, 20 * place + 4 : 20 * place + 16] = number
    return mask


def save_sequence(folder: Path, *masks: NDArray[np.integer]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / f"{index:05d}.png")


@pytest.mark.parametrize("numbers", [(5, 9), (1, 3), (2, 254), (300, 1000)])
def test_score_tracking_numbers_with_gaps_are_the_objects(tmp_path: Path, numbers: tuple[int, int]) -> None:
    save_sequence(tmp_path / "gt/s", *[row_of(*numbers)] * 5)
    save_sequence(tmp_path / "empty/s", *[row_of(0, 0)] * 5)
    save_sequence(tmp_path / "half/s", *[row_of(numbers[0], 0)] * 5)
    tracks = score_tracking(tmp_path / "gt", tmp_path / "gt").scores.tracks
    assert [track.object for track in tracks] == sorted(numbers)
    assert score_tracking(tmp_path / "gt", tmp_path / "empty").scores.j_and_f == 0
    assert score_tracking(tmp_path / "gt", tmp_path / "half").scores.j_and_f == 0.5


@pytest.mark.parametrize("first", [1, 2, 3])
def test_score_tracking_late_object_counts_from_the_frame_after_its_first(tmp_path: Path, first: int) -> None:
    truth = [row_of(1, 0 if index < first else 4) for index in range(6)]
    save_sequence(tmp_path / "gt/s", *truth)
    save_sequence(tmp_path / "missed/s", *[row_of(1, 0)] * 6)
    report = score_tracking(tmp_path / "gt", tmp_path / "gt")
    assert (report.late, report.scores.j_and_f) == (1, 1)
    assert report.scores.tracks[1].frames == tuple(f"{index:05d}" for index in range(first + 1, 5))
    assert score_tracking(tmp_path / "gt", tmp_path / "missed").scores.j_and_f == 0.5


@pytest.mark.parametrize("first", [4, 5])
def test_score_tracking_object_without_a_later_frame_is_reported(tmp_path: Path, first: int) -> None:
    save_sequence(tmp_path / "gt/s", *[row_of(1, 0 if index < first else 2) for index in range(6)])
    report = score_tracking(tmp_path / "gt", tmp_path / "gt")
    assert report.unscored == ("s: object 2",)
    assert [track.object for track in report.scores.tracks] == [1]


def test_score_tracking_each_sequence_has_its_own_rules(tmp_path: Path) -> None:
    save_sequence(tmp_path / "gt/a", *[row_of(255, 0)] * 4)
    save_sequence(tmp_path / "gt/b", *[row_of(1, 2)] * 4)
    save_sequence(tmp_path / "gt/c", row_of(0, 255), *[row_of(3, 255)] * 3)  # void alone in the first frame
    save_sequence(tmp_path / "pred/a", *[row_of(1, 0)] * 4)
    save_sequence(tmp_path / "pred/b", *[row_of(2, 1)] * 4)
    save_sequence(tmp_path / "pred/c", *[row_of(3, 0)] * 4)
    report = score_tracking(tmp_path / "gt", tmp_path / "pred")
    assert report.rules == {"a": "davis16", "b": "davis17", "c": "davis17"}
    scored = {(track.sequence, track.object): track.j.mean() for track in report.scores.tracks}
    assert scored == {("a", 1): 1, ("b", 1): 0, ("b", 2): 0, ("c", 3): 1}
    assert describe_tracking_report(report)["rules"] == report.rules


def test_score_tracking_binary_prediction_of_numbered_objects_raises(tmp_path: Path) -> None:
    save_sequence(tmp_path / "gt/s", *[row_of(1, 2)] * 4)
    save_sequence(tmp_path / "pred/s", *[row_of(255, 255)] * 4)
    with pytest.raises(UserError, match="holds 0 and 255 alone, but the truth numbers its objects"):
        score_tracking(tmp_path / "gt", tmp_path / "pred")
    save_sequence(tmp_path / "none/s", *[row_of(0, 0)] * 4)
    with pytest.raises(UserError, match="no object in any mask"):
        score_tracking(tmp_path / "none", tmp_path / "none")
