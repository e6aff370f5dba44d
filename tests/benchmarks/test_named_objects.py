from pathlib import Path

import numpy as np
import pytest
import torch
from named_objects import object_names, score_named_objects
from PIL import Image
from torch import Tensor

from clips4.config import TeacherConfig
from clips4.data.benchmarks.davis import Sequence
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter


def encode_color(images: Tensor) -> Tensor:
    """An encoder whose pixel vector is the pixel's color."""
    return torch.nn.functional.normalize(images + 1e-6, dim=1)


def make_video(root: Path, name: str, reds: list[int]) -> Sequence:
    """Frames of 32 x 40, green but for a red left part of so many columns; truth: the left half, none in frame 0."""
    frames: list[Path] = []
    masks: list[Path] = []
    for number, columns in enumerate(reds):
        image, truth = np.zeros((32, 40, 3), np.uint8), np.zeros((32, 40), np.uint8)
        image[..., 1] = 255
        image[:, :columns] = (255, 0, 0)
        truth[:, :20] = 255 if number else 0
        for folder, array, found in (("frames", image, frames), ("masks", truth, masks)):
            path = root / name / folder / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
            found.append(path)
    return Sequence(name, tuple(frames), tuple(masks))


def test_score_named_objects_small_videos_equal_scores_by_hand(tmp_path: Path) -> None:
    segmenter = Segmenter(encode_color, TeacherConfig(), 64, torch.device("cpu"))
    videos = [make_video(tmp_path, "half", [0, 20, 10]), make_video(tmp_path, "whole", [40, 40])]
    red, green, blue = torch.eye(3)
    rows = {"right": torch.stack([red, green, blue]), "swapped": torch.stack([green, red, blue])}
    found = score_named_objects(segmenter, videos, {"half": (0,), "whole": (0, 2)}, rows)
    assert found["right"] == pytest.approx({"half": (1 + 0.5) / 2, "whole": 0.5})
    assert found["swapped"] == pytest.approx({"half": (0 + 10 / 40) / 2, "whole": 0})
    only = score_named_objects(segmenter, videos[:1], {"half": (0,)}, rows, every=2)
    assert only["right"] == pytest.approx({"half": 0.5})


def test_object_without_names_is_refused(tmp_path: Path) -> None:
    segmenter = Segmenter(encode_color, TeacherConfig(), 64, torch.device("cpu"))
    with pytest.raises(UserError, match="dance: there are no names"):
        score_named_objects(segmenter, [make_video(tmp_path, "dance", [1, 1])], {}, {"text": torch.eye(3)})


def test_shipped_names_go_together() -> None:
    classes = load_classes("davis16-names")
    objects = object_names(classes)
    assert len(classes) == 17
    assert len(objects) == 10
    assert [classes.names[index] for index in objects["bmx-trees"]] == ["person", "bicycle"]
    with pytest.raises(UserError, match="not among the classes"):
        object_names(load_classes("cat,dog"))
