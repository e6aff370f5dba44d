import pytest
import torch
from torch import Tensor, nn

from clips4.config import StudentConfig
from clips4.models.backbones.registry import CONVOLUTIONAL
from clips4.models.student import Embedder, build_student, empty_student
from tests.helpers import generator


def make_student(stride: int = 8, name: str = "efficientnet-lite0", output_stride: int = 32) -> Embedder:
    torch.manual_seed(0)
    return Embedder(CONVOLUTIONAL[name](output_stride), embed_dim=12, stride=stride, width=16)


def random_images(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=generator(seed))


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (71, 40), (33, 100)])
@torch.no_grad()
def test_embeddings_are_unit_at_the_stride_on_any_size(stride: int, height: int, width: int) -> None:
    z = make_student(stride).eval()(random_images(2, height, width))
    assert z.shape == (2, 12, -(-height // stride), -(-width // stride))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones_like(z[:, 0]))


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_every_output_stride_embeds_at_the_same_stride(output_stride: int) -> None:
    assert make_student(output_stride=output_stride).eval()(random_images(1)).shape == (1, 12, 8, 8)


@torch.no_grad()
def test_student_with_resnet50_gives_unit_embeddings() -> None:
    z = make_student(name="resnet50", output_stride=16).eval()(random_images(1, 48, 64))
    assert z.shape == (1, 12, 6, 8)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(1, 6, 8))


@torch.no_grad()
def test_hypercolumn_is_z_next_to_a_level_each_half_of_a_cosine() -> None:
    student, images = make_student().eval(), random_images(2, 64, 96)
    both = student.hypercolumn(images)
    assert both.shape == (2, 12 + 112, 8, 12)
    level = student.backbone((images - 0.498) / 0.502)[2]
    level = nn.functional.normalize(nn.functional.interpolate(level, (8, 12), mode="bilinear"), dim=1)
    z = student(images)
    cosine = (both[0, :, 1, 2] * both[1, :, 5, 7]).sum()
    expected = ((z[0, :, 1, 2] * z[1, :, 5, 7]).sum() + (level[0, :, 1, 2] * level[1, :, 5, 7]).sum()) / 2
    torch.testing.assert_close(cosine, expected)


@torch.no_grad()
def test_hypercolumn_takes_its_parts_in_the_given_order() -> None:
    student, images = make_student().eval(), random_images(2, 64, 96)
    assert torch.equal(student.hypercolumn(images, ["z"]), nn.functional.normalize(student(images), dim=1))
    three = student.hypercolumn(images, ["c2", "z", "c3"])
    assert three.shape == (2, 24 + 12 + 40, 8, 12)
    torch.testing.assert_close(three[:, 24:36], student(images) / 3**0.5)


def test_hypercolumn_of_images_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \(3, 64, 96\)"):
        make_student().hypercolumn(torch.rand(3, 64, 96))


def test_gradient_reaches_every_parameter() -> None:
    student = make_student().train()
    (student(random_images(2)) * torch.randn(2, 12, 8, 8, generator=generator(1))).sum().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    first = next(student.backbone.parameters()).grad
    assert first is not None
    assert first.abs().max() > 0


def test_batch_norms_of_the_backbone_keep_their_statistics_in_train_mode() -> None:
    student = make_student().train()
    norms = [module for module in student.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    student(random_images(2))
    assert student.training
    assert student.head.training
    assert not any(norm.training for norm in norms)
    assert all(torch.equal(a, b.running_mean) for a, b in zip(before, norms, strict=True))  # type: ignore[arg-type]


def test_train_and_eval_modes_embed_alike() -> None:
    student = make_student()
    torch.testing.assert_close(student.train()(random_images(2)), student.eval()(random_images(2)))


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_embedding_does_not_depend_on_its_batch(training: bool) -> None:
    student = make_student().train(training)
    batch = random_images(3)
    together, alone = student(batch), torch.cat([student(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


@torch.no_grad()
def test_images_are_normalized_by_the_backbones_own_statistics() -> None:
    student = make_student().eval()
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            seen.append(images)
            return tuple(torch.zeros(1, c, 8, 8) for c in (24, 40, 112, 320))

    student.backbone = Spy()  # type: ignore[assignment]
    student(torch.full((1, 3, 64, 64), 0.498))
    assert seen[0].abs().max() < 1e-6
    student(torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(seen[1], torch.ones(1, 3, 64, 64))


def test_checkpoints_hold_no_constants() -> None:
    assert not [key for key in make_student().state_dict() if not key.startswith(("backbone.", "head."))]


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 1, 64, 64), (1, 1, 3, 64, 64)])
def test_other_than_rgb_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        make_student()(torch.zeros(shape))


@torch.no_grad()
def test_built_student_and_an_empty_one_with_its_weights_are_the_same() -> None:
    config = StudentConfig(width=16)
    built, empty = build_student(config, 12).eval(), empty_student(config, 12).eval()
    assert not torch.equal(built(random_images(1)), empty(random_images(1)))
    empty.load_state_dict(built.state_dict())
    assert torch.equal(built(random_images(1)), empty(random_images(1)))


def test_built_student_begins_with_the_builtin_weights() -> None:
    from clips4.models.pretrained import load_lite0_classifier

    built = build_student(StudentConfig(width=16), 12).backbone.state_dict()
    theirs = load_lite0_classifier().backbone.state_dict()
    assert all(torch.equal(built[key], theirs[key]) for key in theirs)
