"""Segmenter: any form of picture, any words, the same answers by every way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clips4.config import Config
from clips4.errors import UserError
from clips4.segmenter import UNKNOWN_LABEL, Segmentation, Segmenter, nearest_class
from tests.conftest import photograph


@pytest.fixture(scope="module")
def segmenter(tiny_run: Path) -> Segmenter:
    return Segmenter.load(tiny_run, device="cpu")


def test_one_and_several_pictures(segmenter: Segmenter) -> None:
    pictures = [photograph(seed=0), photograph(60, 40, seed=1)]
    several = segmenter.segment(pictures)
    assert [result.labels.shape for result in several] == [(72, 96), (60, 40)]
    np.testing.assert_array_equal(several[1].labels, segmenter.segment(pictures[1]).labels)
    z = segmenter.embed(pictures[0])
    torch.testing.assert_close(z.norm(dim=0), torch.ones(z.shape[1:]))
    assert torch.equal(segmenter.embed(pictures)[0], z)


def test_the_runs_own_classes_by_prototypes_and_by_text(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    names, known = segmenter.class_vectors()
    assert names == ("cat", "cup", "grass")
    assert torch.equal(known, segmenter.prototypes.known)
    assert torch.equal(segmenter.class_vectors(None, "text")[1], segmenter.prototypes.text)


def test_known_names_by_prototypes_and_new_names_by_text(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    names, vectors = segmenter.class_vectors("grass,sofa", "text")
    assert names == ("grass", "sofa")
    assert torch.equal(vectors[0], segmenter.prototypes.text[2])
    alone = Segmenter.from_teacher("conse", device="cpu").class_vectors("sofa")[1]
    torch.testing.assert_close(vectors[1:], alone)


def test_pixels_nearest_an_unknown_prototype_are_unknown(segmenter: Segmenter) -> None:
    assert segmenter.prototypes is not None
    picture = photograph()
    z = segmenter.embed(picture)
    everything = torch.cat([segmenter.prototypes.known, segmenter.prototypes.unknown])
    labels = nearest_class(z, everything, (72, 96))[0].numpy()
    result = segmenter.segment(picture)
    np.testing.assert_array_equal(result.labels == UNKNOWN_LABEL, labels >= 3)
    assert result.unknown_share == (labels >= 3).mean()
    assert not (segmenter.segment(picture, unknown=False).labels == UNKNOWN_LABEL).any()


def test_areas_are_sorted_and_make_up_the_picture() -> None:
    labels = np.array([[0, 1, 1], [1, -1, -1]], np.int16)
    result = Segmentation(np.zeros((2, 3, 3), np.uint8), labels, np.zeros((2, 3), np.float32), ("cat", "cup"))
    assert [(area.name, area.label, area.pixels) for area in result.areas()] == [
        ("cup", 1, 3),
        ("cat", 0, 1),
        ("unknown", -1, 2),
    ]
    assert sum(area.share for area in result.areas()) == pytest.approx(1)
    assert result.unknown_share == pytest.approx(1 / 3)


def test_a_teacher_alone_needs_words(pictures: Path) -> None:
    teacher = Segmenter.from_teacher("conse", Config(), device="cpu")
    with pytest.raises(UserError, match="give --classes"):
        teacher.segment(photograph())
    assert teacher.segment(photograph(), "cat,cup").unknown_share == 0


def test_very_small_and_very_long_pictures(segmenter: Segmenter) -> None:
    for size in ((1, 1), (1, 700), (3, 2)):
        assert segmenter.segment(Image.new("RGB", size[::-1])).labels.shape == size


def test_a_damaged_checkpoint_is_told(copied_run: Path) -> None:
    newest = sorted((copied_run / "checkpoints").iterdir())[-1] / "student.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged checkpoint.*the checkpoint before is taken"):
        Segmenter.load(copied_run, device="cpu")
    shutil.rmtree(sorted((copied_run / "checkpoints").iterdir())[0])
    with pytest.raises(UserError, match="damaged checkpoint"):
        Segmenter.load(copied_run, device="cpu")
