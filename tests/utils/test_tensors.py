import numpy as np
import torch

from clips4.utils.tensors import resize_map, to_tensor


def test_to_tensor_is_channels_first_from_black_0_to_white_1() -> None:
    image = np.array([[[0, 51, 255], [255, 0, 0]]], np.uint8)
    expected = torch.tensor([[[0.0, 1.0]], [[0.2, 0.0]], [[1.0, 0.0]]])
    torch.testing.assert_close(to_tensor(image), expected)
    assert torch.equal(to_tensor(image[:, ::-1]), to_tensor(image).flip(2))


def test_resize_map_samples_at_pixel_centers() -> None:
    ramp = torch.tensor([[[[0.0, 1.0]]]])
    assert resize_map(ramp, (1, 4)).flatten().tolist() == [0, 0.25, 0.75, 1]
