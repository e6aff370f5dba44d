import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.models.affinity import affinity_weights, upsample_by_affinity
from tests.helpers import generator, unit

TAU, SIGMA = 0.3, 1.5


def random_keys(height: int = 6, width: int = 8, batch: int = 2, channels: int = 5) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=generator(1))


def random_values(height: int = 3, width: int = 4, batch: int = 2, dims: int = 7) -> Tensor:
    return unit(batch, dims, height, width, dim=1, dtype=torch.float32)


def slow_upsampling(values: Tensor, keys: Tensor, temperature: float, radius: float) -> Tensor:
    """The equation of the module for one image, position by position; the size is that of the keys."""
    height, width = keys.shape[1:]
    h, w = values.shape[1:]
    standard = torch.stack([(k - k.mean()) / math.sqrt(k.var(unbiased=False) + 1e-5) for k in keys])
    f = {(y, x): standard[:, y, x] / standard[:, y, x].norm() for y in range(height) for x in range(width)}
    step_y, step_x = height // h, width // w
    found = torch.zeros(len(values), height, width)
    for y in range(height):
        for x in range(width):
            logits = []
            for qy in range(h):
                for qx in range(w):
                    cell = [f[qy * step_y + j, qx * step_x + i] for j in range(step_y) for i in range(step_x)]
                    f_q = torch.stack(cell).mean(0)
                    cosine = float(f[y, x] @ f_q / f_q.norm())
                    apart = ((y + 0.5) / step_y - qy - 0.5) ** 2 + ((x + 0.5) / step_x - qx - 0.5) ** 2
                    logits.append(cosine / temperature - apart / (2 * radius**2))
            weights = [math.exp(logit) for logit in logits]
            mixed = sum(a / sum(weights) * v for a, v in zip(weights, values.flatten(1).T, strict=True))
            found[:, y, x] = mixed / mixed.norm()
    return found


@pytest.mark.parametrize("coarse", [(3, 4), (6, 8)], ids=["half", "same size"])
def test_upsampling_equals_the_equation_by_loops(coarse: tuple[int, int]) -> None:
    values, keys = random_values(*coarse), random_keys()
    fast = upsample_by_affinity(values, keys, (6, 8), TAU, SIGMA)
    for image in range(2):
        slow = slow_upsampling(values[image], keys[image], TAU, SIGMA)
        torch.testing.assert_close(fast[image], slow, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (12, 16)])
def test_weights_are_positive_with_sum_1_at_any_size(size: tuple[int, int]) -> None:
    weights = affinity_weights(random_keys(), (3, 4), size, TAU, SIGMA)
    assert weights.shape == (2, size[0] * size[1], 12)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(2, size[0] * size[1]))


def test_constant_map_stays() -> None:
    values = random_values()[:, :, :1, :1].expand(-1, -1, 3, 4)
    found = upsample_by_affinity(values, random_keys(), (6, 8), TAU, SIGMA)
    torch.testing.assert_close(found, values[:, :, :1, :1].expand(-1, -1, 6, 8))


def test_scale_and_offset_of_each_key_channel_change_nothing() -> None:
    values, keys = random_values(), random_keys()
    scale, offset = (torch.rand(2, 5, 1, 1, generator=generator(s)) for s in (2, 3))
    moved = upsample_by_affinity(values, (1 + 5 * scale) * keys + 9 * offset, (6, 8), TAU, SIGMA)
    torch.testing.assert_close(moved, upsample_by_affinity(values, keys, (6, 8), TAU, SIGMA), rtol=0, atol=1e-3)


def test_mirrored_image_gives_the_mirrored_map() -> None:
    values, keys = random_values(), random_keys()
    mirrored = upsample_by_affinity(values.flip(3), keys.flip(3), (6, 8), TAU, SIGMA)
    torch.testing.assert_close(mirrored.flip(3), upsample_by_affinity(values, keys, (6, 8), TAU, SIGMA))


def test_images_of_a_batch_do_not_touch() -> None:
    values, keys = random_values(), random_keys()
    both = upsample_by_affinity(values, keys, (6, 8), TAU, SIGMA)
    torch.testing.assert_close(upsample_by_affinity(values[1:], keys[1:], (6, 8), TAU, SIGMA), both[1:])


def test_outlines_of_the_keys_are_followed_within_a_cell() -> None:
    """Two halves that part in the middle of a coarse cell: each fine position takes its own half's vector."""
    keys = torch.ones(1, 1, 4, 8)
    keys[..., 3:] = -1
    values = F.normalize(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]), dim=1).T[None, :, None]
    found = upsample_by_affinity(values.expand(1, 2, 2, 4).contiguous(), keys, (4, 8), 0.05, 1.0)
    assert (found[0, 0, :, 2] > 0.9).all()
    assert (found[0, 1, :, 3] > 0.9).all()


def test_gradients_reach_the_values() -> None:
    values = random_values(batch=1).double().requires_grad_()
    upsample_by_affinity(values, random_keys(batch=1), (6, 8), TAU, SIGMA).square()[:, 0].sum().backward()
    assert values.grad is not None
    assert (values.grad != 0).any(1).all()


@pytest.mark.parametrize(("temperature", "radius"), [(0, 1), (1, 0), (-1, 1)])
def test_temperature_or_radius_that_is_not_positive_is_refused(temperature: float, radius: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        upsample_by_affinity(random_values(), random_keys(), (6, 8), temperature, radius)
