import shutil
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import Config, load_config
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.method.calibration import SpaceCalibration
from clips4.models.affinity import upsample_by_affinity
from clips4.models.calibrated_teacher import CalibratedTeacher
from clips4.models.checkpoint import load_checkpoint
from clips4.models.hub import save_pretrained
from clips4.models.onnx.export import TOLERANCE, StudentWithClassifier, compare, export_onnx, to_proto
from clips4.models.residual_student import (
    ResidualHead,
    ResidualStudent,
    affinity_network,
    build_residual_student,
    empty_student_of,
    whole_cells,
)
from clips4.models.teacher_trunk import ConseTrunk
from clips4.training.loop import Interrupted, train
from tests.helpers import TINY, FakeTeacher, Recorder, conse, generator, photograph, unit
from tests.models.teachers.models import write_clip

RESIDUAL = ["extensions.residual=true", "student.stride=16"]
CLASSES = load_classes("cat,cup")


def random_images(count: int, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=generator(seed))


def settings(*more: str) -> Config:
    return load_config("cpu", [*TINY, *RESIDUAL, *more])


def small_student(**more: float) -> ResidualStudent:
    """A residual student on random weights whose head has learned something."""
    torch.manual_seed(0)
    trunk = ConseTrunk(torch.randn(20, 12), top_k=5, temperature=1.0, confidence_dim=False)
    student = ResidualStudent(trunk, width=16, **more).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(student.head.get_parameter("project.weight"), std=0.3)
    return student


# ---------------------------------------------------------------------------------------------------------- network


@torch.no_grad()
@pytest.mark.parametrize("calibrated_space", [False, True])
def test_affinity_network_is_the_teachers_map_upsampled_along_its_c4(calibrated_space: bool) -> None:
    raw, images = conse(), random_images(2)
    space = SpaceCalibration(0.3 * unit(384, dtype=torch.float32), torch.zeros(384))
    teacher = CalibratedTeacher(raw, space) if calibrated_space else raw
    c4 = raw.trunk((images - torch.tensor(raw.trunk.mean).view(3, 1, 1)) / torch.tensor(raw.trunk.std).view(3, 1, 1))[2]
    wanted = upsample_by_affinity(teacher.encode_pixels(images), c4, (4, 6))
    torch.testing.assert_close(affinity_network(teacher)(images), wanted, rtol=0, atol=1e-5)


def test_affinity_network_of_a_teacher_without_a_trunk_raises() -> None:
    with pytest.raises(UserError, match="the network of teacher fake"):
        affinity_network(FakeTeacher())


@torch.no_grad()
def test_head_scale_of_zero_is_the_untrained_student() -> None:
    student, images = small_student(), random_images(1)
    learned = student(images)
    student.head_scale = 0.0
    teacher = student(images)
    student.head_scale = 1.0
    torch.nn.init.zeros_(student.head.get_parameter("project.weight"))
    torch.testing.assert_close(teacher, student(images), rtol=0, atol=0)
    assert not torch.allclose(teacher, learned, atol=1e-3)


@torch.no_grad()
def test_untrained_student_is_its_teacher() -> None:
    plain = build_residual_student(settings("student.stride=32", "extensions.affinity_temperature=0"), conse()).eval()
    images = random_images(2)
    torch.testing.assert_close(plain(images), conse().encode_pixels(images), rtol=0, atol=1e-6)
    smooth = build_residual_student(settings(), conse()).eval()
    c4 = smooth.levels(images)[2]
    expected = upsample_by_affinity(conse().encode_pixels(images), c4, (4, 6), 0.2, 2)
    torch.testing.assert_close(smooth(images), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.2])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (71, 40), (33, 100)])
@torch.no_grad()
def test_embeddings_are_unit_at_the_stride_on_any_size(temperature: float, height: int, width: int) -> None:
    z = small_student(affinity_temperature=temperature)(random_images(2, height, width))
    assert z.shape == (2, 12, -(-height // 16), -(-width // 16))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones_like(z[:, 0]))


def test_whole_cells_rounds_as_the_teacher_does() -> None:
    for cell in (14, 16, 32):
        for side in range(1, 400):
            assert whole_cells(side, cell) == max(1, round(side / cell)) * cell


@torch.no_grad()
def test_images_embedding_does_not_depend_on_its_batch() -> None:
    student, images = small_student().train(), random_images(3)
    torch.testing.assert_close(student(images)[1:2], student(images[1:2]), rtol=0, atol=1e-5)


def test_gradients_reach_the_head_alone() -> None:
    student = small_student().train()
    (student(random_images(2)) * torch.randn(2, 12, 4, 6, generator=generator(1))).sum().backward()
    for name, parameter in student.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert all(parameter.grad is None for parameter in student.backbone.parameters())
    assert not student.backbone.training


def test_head_learns_from_zero() -> None:
    head = ResidualHead((5, 6, 7), 16, 4)
    c5, c4, context = torch.randn(2, 5, 3, 4), torch.randn(2, 6, 3, 4), torch.randn(2, 7)
    h = head(c5, c4, context)
    assert torch.equal(h, torch.zeros(2, 4, 3, 4))
    (h * torch.randn(h.shape)).sum().backward()
    assert head.project.weight.grad is not None
    assert head.project.weight.grad.abs().max() > 0


@torch.no_grad()
def test_head_equals_the_equation_at_one_position() -> None:
    head = ResidualHead((5, 6, 7), 16, 4)
    torch.nn.init.normal_(head.project.weight)
    c5, c4, context = torch.randn(2, 5, 3, 4), torch.randn(2, 6, 3, 4), torch.randn(2, 7)

    def standard(x: Tensor) -> Tensor:
        return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()

    inputs = standard(c5[1, :, 2, 3]), standard(c4[1, :, 2, 3]), standard(context[1])
    hidden = sum(layer(x) for layer, x in zip(head.inputs, inputs, strict=True))
    expected = head.project(F.relu(head.norm(hidden)))
    torch.testing.assert_close(head(c5, c4, context)[1, :, 2, 3], expected)


@torch.no_grad()
def test_hypercolumn_is_z_next_to_a_level() -> None:
    student, images = small_student(), random_images(2)
    both = student.hypercolumn(images)
    assert both.shape == (2, 12 + 112, 4, 6)
    torch.testing.assert_close(both[:, :12], student(images) / 2**0.5)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(3, 64, 96\)"):
        small_student()(torch.rand(3, 64, 96))


def test_teacher_without_trunk_is_refused() -> None:
    with pytest.raises(UserError, match=r"extensions\.residual.*teacher fake"):
        build_residual_student(settings(), FakeTeacher())


def test_empty_student_needs_its_architecture() -> None:
    with pytest.raises(KeyError):
        empty_student_of(settings(), 384)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["extensions.residual=true"], "student.stride = 8 is finer than the teacher's; set it to 16"),
        (["student.stride=16"], "student.stride = 16 needs extensions.residual"),
    ],
)
def test_stride_that_does_not_fit_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("cpu", overrides)


# -------------------------------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module")
def residual_run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained residual run with prototypes of its own; read only."""
    run = tmp_path_factory.mktemp("residual") / "run"
    train(
        sorted(images.iterdir()),
        CLASSES,
        settings("extensions.student_prototypes=true", "extensions.head_scale=0.5"),
        run,
        device="cpu",
    )
    return run


def test_run_comes_back_without_its_teacher(residual_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the teacher's packages are not needed")

    monkeypatch.setattr("clips4.models.pretrained.load_lite0_classifier", refuse)
    monkeypatch.setattr("clips4.models.teachers.base.load_teacher", refuse)
    checkpoint = load_checkpoint(residual_run)
    assert isinstance(checkpoint.student, ResidualStudent)
    assert checkpoint.student.head.get_parameter("project.weight").abs().max() > 0, "it was trained"
    assert checkpoint.prototypes.fitted is not None
    assert checkpoint.student.head_scale == checkpoint.prototypes.head_scale == 0.5
    result = Segmenter.load(residual_run, "cpu").segment(photograph(), ["cup", "cat"])
    assert result.labels.shape == (72, 96)


def test_trunk_stays_the_teachers(residual_run: Path) -> None:
    trained = load_checkpoint(residual_run).student.backbone.state_dict()
    for key, value in conse().trunk.state_dict().items():
        assert torch.equal(trained[key], value), key


def test_interrupted_run_ends_like_an_unbroken_one(images: Path, tmp_path: Path) -> None:
    config, paths = settings("train.ema=0.5", "train.steps=3"), sorted(images.iterdir())
    train(paths, CLASSES, config, tmp_path / "whole", device="cpu")
    with pytest.raises(Interrupted):
        # the images of the first pass are counted too
        train(paths, CLASSES, config, tmp_path / "broken", device="cpu", progress=Recorder(len(paths) + 1))
    train(paths, CLASSES, config, tmp_path / "broken", resume=True, device="cpu")
    whole, broken = (load_checkpoint(tmp_path / name).student.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(value, broken[key]) for key, value in whole.items())


def test_run_on_a_clip_comes_back(images: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip")
    config = settings(f"teacher.name={tmp_path / 'clip'}", "teacher.dense_attention=naclip")
    with pytest.warns(UserWarning, match="does not know: 'cup'"):  # its small vocabulary
        train(sorted(images.iterdir()), CLASSES, config, tmp_path / "run", device="cpu")
    shutil.rmtree(tmp_path / "clip")
    z = Segmenter.load(tmp_path / "run", "cpu").embed(photograph(64, 96))
    assert z.shape == (24, 4, 6)
    checkpoint = load_checkpoint(tmp_path / "run")
    report = export_onnx(checkpoint, tmp_path / "m.onnx")
    assert report.difference < TOLERANCE


def test_published_run_embeds_alike_and_its_card_describes_it(residual_run: Path, tmp_path: Path) -> None:
    published = save_pretrained(residual_run, tmp_path / "published", "owner/name")
    theirs, own = (Segmenter.load(run, "cpu").embed(photograph()) for run in (published, residual_run))
    assert torch.equal(theirs, own)
    assert "its teacher's network, residual" in (published / "README.md").read_text("utf-8")


@pytest.mark.parametrize(("temperature", "scale"), [(0.0, 1.0), (0.2, 0.5)])
def test_graph_is_torch_on_any_size(temperature: float, scale: float) -> None:
    student = small_student(affinity_temperature=temperature)
    student.head_scale = scale
    model = StudentWithClassifier(student).eval()
    assert compare(model, to_proto(model, 12).SerializeToString(), 12) < TOLERANCE


@pytest.mark.slow
def test_int8_file_of_a_run_reports_its_cost(residual_run: Path, images: Path, tmp_path: Path) -> None:
    report = export_onnx(load_checkpoint(residual_run), tmp_path / "m.onnx", sorted(images.iterdir()))
    assert report.difference < TOLERANCE
    assert report.agreement is not None
    assert report.agreement.cosine > 0.5
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    z = Segmenter.load(tmp_path / "m.onnx", "cpu").embed(photograph(64, 96))
    assert z.shape == (384, 4, 6)
