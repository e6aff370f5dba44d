"""Tracking and scoring a sequence equals saving its masks and scoring them."""

from pathlib import Path

import numpy as np
from PIL import Image

from clips4.data.benchmarks.davis import load_davis
from clips4.data.masks import first_masks
from clips4.evaluation.predictions import score_tracking
from clips4.evaluation.vos import by_features, first_mask_tracker, score_videos
from clips4.inference.video.label_propagation import Recipe
from tests.data.benchmarks import miniatures
from tests.inference.video.test_label_propagation import PLACES, color_encoder, moving


def sequence(root: Path) -> Path:
    for index, (frame, (y, x)) in enumerate(zip(moving(PLACES, second=True), PLACES, strict=True)):
        mask = np.zeros((64, 80), np.uint8)
        mask[y : y + 16, x : x + 16], mask[44:56, 60:72] = 1, 2
        for folder, image, suffix in (("JPEGImages", frame, "jpg"), ("Annotations", mask, "png")):
            path = root / folder / "480p/square" / f"{index:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)
    return root


def test_score_videos_without_saving_equals_scoring_saved_masks(tmp_path: Path) -> None:
    root = sequence(tmp_path / "davis")
    (video,) = load_davis(root, "davis17")
    tracker = by_features(color_encoder(), Recipe(radius=4))
    for index, mask in enumerate(tracker(video.frames, first_masks(video.masks))):
        path = tmp_path / "pred/square" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    direct = score_videos(tracker, [video], "davis17")
    saved = score_tracking(root / "Annotations/480p", tmp_path / "pred").scores
    assert (direct.j, direct.f, direct.j_and_f) == (saved.j, saved.f, saved.j_and_f)
    assert direct.j.mean > 0.75
    assert score_videos(first_mask_tracker, [video], "davis17").j.mean < direct.j.mean - 0.2


def test_first_mask_tracker_static_object_scores_one(tmp_path: Path) -> None:
    videos = load_davis(miniatures.davis(tmp_path))
    assert score_videos(first_mask_tracker, videos, "davis16").j_and_f == 1
