from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.errors import UserError
from clips4.evaluation.callbacks import SAMPLES, LabeledScores, SampleImages, all_of, open_labeled
from clips4.models.checkpoint import load_checkpoint


def test_sheet_shows_each_image_its_embedding_and_the_prediction(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    checkpoint, paths = load_checkpoint(tiny_run), sorted(images.iterdir())[:2]
    watch = SampleImages(tmp_path, paths, checkpoint.config)
    assert watch(12, checkpoint.student, checkpoint.prototypes) == {}
    (sheet,) = (tmp_path / SAMPLES).iterdir()
    assert sheet.name == "step-00000012.jpg"
    image = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    assert image.shape == (2 * 240, 3 * 320, 3)
    for row, path in enumerate(paths):
        shown = image[row * 240 : row * 240 + 240, :320]
        original = np.asarray(Image.open(path).convert("RGB").resize((320, 240), Image.Resampling.BICUBIC)).astype(int)
        assert abs(shown - original).mean() < 4
        middle = image[row * 240 : row * 240 + 240, 320:640]
        assert abs(middle - shown).mean() > 10


def test_scores_on_a_labeled_set(images: Path, tiny_run: Path, tmp_path: Path) -> None:
    checkpoint, paths = load_checkpoint(tiny_run), sorted(images.iterdir())
    from clips4.inference.segmenter import Segmenter

    # the student's own answers as truth, but for a corner that counts as wrong
    masks = []
    for path in paths:
        labels = Segmenter.load(tiny_run, device="cpu").segment(path, unknown=False).labels.astype(np.uint8)
        labels[:10, :10] = (labels[:10, :10] + 1) % 3
        masks.append(tmp_path / f"{path.stem}.png")
        Image.fromarray(labels).save(masks[-1])
    table = np.full(256, IGNORE, np.uint8)
    table[:3] = range(3)
    dataset = LabeledFolder(tuple(paths), tuple(masks), load_classes("cat,cup,grass"), table)
    watch = all_of([LabeledScores(dataset, checkpoint.config), SampleImages(tmp_path, paths, checkpoint.config)])
    figures = watch(1, checkpoint.student.eval(), checkpoint.prototypes)
    assert figures["pixel_accuracy"] == pytest.approx(1 - 100 / (72 * 96))
    assert 0 < figures["miou"] < 1


def test_labeled_set_is_opened_by_name_and_path(tmp_path: Path) -> None:
    watched = load_config("cpu", ["train.eval_every=5"])
    with pytest.raises(UserError, match="write NAME=DIR"):
        open_labeled("coco128", watched)
    with pytest.raises(UserError, match=r"give one of .*coco128"):
        open_labeled(f"coco={tmp_path}", watched)
    with pytest.raises(UserError, match="background class"):
        open_labeled(f"voc21={tmp_path}", watched)
    with pytest.raises(UserError, match=r"train\.eval_every"):
        open_labeled(f"coco128={tmp_path}", load_config("cpu", ["train.eval_every=0"]))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "a.jpg")
    Image.new("L", (8, 6)).save(tmp_path / "masks" / "a.png")
    assert len(open_labeled(f"coco128={tmp_path}", watched)) == 1
