"""Scoring saved tracks: rules, averages, and every way that files may be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clips4.data.label_maps import read_labels
from clips4.errors import UserError
from clips4.evaluation.metrics.davis import statistics
from clips4.evaluation.predictions import score_tracking
from clips4.evaluation.record import describe_tracking_report
from clips4.evaluation.saved_masks import davis_palette, guess_rules, read_mask, summarise
from tests.evaluation.metrics.test_davis import blob, shifted
from tests.evaluation.shared import shared
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


@pytest.mark.parametrize("kind", ["palette", "grey", "rgb"])
def test_equal_to_the_literal_rules_however_masks_are_stored(tmp_path: Path, kind: str) -> None:
    truth = sequences(tmp_path / "gt")
    report = score_tracking(truth, predicted(truth, tmp_path / "pred", kind=kind))
    assert report.rules == "davis17"
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


def test_trap_7_first_and_last_frames_are_not_scored(tmp_path: Path) -> None:
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


def test_2016_merges_all_objects_and_2017_scores_each(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = tmp_path / "pred"
    for path in truth.rglob("*.png"):
        save((read_labels(path) > 0).astype(np.uint8) * 2, prediction / path.relative_to(truth))  # all named 2
    assert score_tracking(truth, prediction, "davis16").scores.j_and_f == 1
    assert score_tracking(truth, prediction, "davis17").scores.j_and_f < 0.8


def test_rules_are_guessed_from_the_first_truth(tmp_path: Path) -> None:
    save(np.array([[0, 255]]), tmp_path / "a.png", "grey")
    save(np.array([[0, 1]]), tmp_path / "b.png", "grey")
    assert guess_rules(tmp_path / "a.png") == "davis16"
    assert guess_rules(tmp_path / "b.png") == "davis17"
    assert read_mask(tmp_path / "a.png", "davis16").tolist() == [[0, 1]]
    assert read_mask(tmp_path / "a.png", "davis17").tolist() == [[0, 0]], "255 is void in 2017"


def test_what_cannot_be_scored_is_told(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred")
    target = prediction / "ants/00002.png"
    save(np.zeros((44, 60)), target)
    with pytest.raises(UserError, match="60 x 44 pixels, the truth has 60 x 45"):
        score_tracking(truth, prediction)
    save(np.full((45, 60), 3), target)
    with pytest.raises(UserError, match="object 3, but the sequence has 2"):
        score_tracking(truth, prediction)
    Image.new("RGB", (60, 45), (1, 2, 3)).save(target)
    with pytest.raises(UserError, match="colour #010203 is none of DAVIS's palette"):
        score_tracking(truth, prediction)
    target.write_text("no")
    with pytest.raises(UserError, match="not a readable mask"):
        score_tracking(truth, prediction)
    target.unlink()
    with pytest.raises(UserError, match=r"1 frames missing, the first 00002\.png"):
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


def test_extra_frames_and_sequences_are_counted_not_scored(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred", move=0)
    save(np.zeros((45, 60)), prediction / "ants/00099.png")
    save(np.zeros((45, 60)), prediction / "wasps/00000.png")
    report = score_tracking(truth, prediction)
    assert (report.extra_frames, report.extra_sequences, report.scores.j_and_f) == (1, ("wasps",), 1)


def test_processes_do_not_change_a_digit(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    prediction = predicted(truth, tmp_path / "pred")
    one, two = (describe_tracking_report(score_tracking(truth, prediction, workers=n)) for n in (1, 2))
    assert one == two
    with pytest.raises(UserError, match="1 or more processes"):
        score_tracking(truth, prediction, workers=0)


def test_means_are_over_objects(tmp_path: Path) -> None:
    truth = sequences(tmp_path / "gt")
    tracks = score_tracking(truth, predicted(truth, tmp_path / "pred")).scores.tracks
    assert summarise(tracks).j.mean == pytest.approx(np.mean([statistics(track.j).mean for track in tracks]))
    with pytest.raises(ValueError, match="no track"):
        summarise([])


def test_the_palette_is_that_of_davis() -> None:
    sequence = sorted((shared("davis16") / "Annotations/480p").iterdir())[0]
    assert guess_rules(sorted(sequence.iterdir())[0]) == "davis16"
    assert davis_palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
