import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clips4.serve.segment_map import segment_map
from tests.helpers import generator, photograph


@pytest.mark.parametrize("size", [(60, 90), (33, 700), (8, 8)])
def test_segment_map_of_image_has_unit_vectors_of_used_segments(size: tuple[int, int]) -> None:
    image = np.array(photograph(1).resize(size[::-1]))
    z = F.normalize(torch.randn(16, 6, 9, generator=generator(0)), dim=0)
    found = segment_map(image, z)
    count = len(found.regions)
    assert np.array_equal(np.unique(found.labels), np.arange(count))
    assert found.vectors.shape == (count, 16)
    assert torch.allclose(found.vectors.norm(dim=1), torch.ones(count), atol=1e-5)
    assert max(found.labels.shape) <= 512
    large = found.resized((100, 120))
    assert large[99, 119] == found.at(119, 99, (100, 120))
    assert large[0, 0] == found.labels[0, 0]


def test_segment_map_of_two_halves_separates_them() -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:] = 255
    z = torch.zeros(4, 8, 16)
    z[0, :, :8] = z[1, :, 8:] = 1
    found = segment_map(image, z)
    left, right = (set(half.ravel().tolist()) for half in (found.labels[:, :60], found.labels[:, 68:]))
    assert not left & right
