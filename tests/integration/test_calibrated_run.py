"""A calibrated run: offsets in its checkpoint, later names in its space, a residual student that starts as its map."""

from pathlib import Path

import pytest
import torch

from clips4.config import load_config
from clips4.data.class_names import load_classes
from clips4.inference.segmenter import Segmenter
from clips4.models.calibrated_teacher import CalibratedTeacher
from clips4.models.checkpoint import load_checkpoint
from clips4.models.residual_student import build_residual_student
from clips4.training.loop import train
from tests.helpers import TINY, conse, photograph


@pytest.fixture(scope="module")
def calibrated(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "calibrated"
    config = load_config("cpu", [*TINY, "teacher.calibrate=true"])
    train(sorted(images.iterdir()), load_classes("cat,cup,grass"), config, run, device="cpu")
    return run


def test_calibrated_run_keeps_offsets_and_resumes(calibrated: Path, images: Path) -> None:
    prototypes = load_checkpoint(calibrated).prototypes
    assert prototypes.space is not None
    config = load_config("cpu", [*TINY, "teacher.calibrate=true"])
    result = train(
        sorted(images.iterdir()), load_classes("cat,cup,grass"), config, calibrated, resume=True, device="cpu"
    )
    assert result.steps == config.train.steps


def test_calibrated_run_encodes_new_names_in_its_space(calibrated: Path) -> None:
    segmenter = Segmenter.load(calibrated, "cpu")
    _, vectors = segmenter.class_vectors(["cat", "zebra"], "text")
    space = load_checkpoint(calibrated).prototypes.space
    assert space is not None
    teacher = CalibratedTeacher(conse(), space)
    torch.testing.assert_close(vectors[1:], teacher.encode_text(["a photo of a zebra."]), rtol=0, atol=1e-5)
    assert segmenter.segment(photograph(), ["cat", "zebra"]).labels.shape == (72, 96)


def test_residual_student_of_a_calibrated_teacher_starts_as_its_map(calibrated: Path) -> None:
    space = load_checkpoint(calibrated).prototypes.space
    assert space is not None
    teacher = CalibratedTeacher(conse(), space)
    config = load_config("recommended", ["extensions.affinity_temperature=0", "student.stride=32"])
    student = build_residual_student(config, teacher).eval()
    student.pixel_offset = space.pixel_offset
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(student(image), teacher.encode_pixels(image), rtol=0, atol=1e-4)
    assert not torch.equal(teacher.encode_pixels(image), conse().encode_pixels(image))
