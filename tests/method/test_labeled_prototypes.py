"""Prototypes from labeled images: literal means, all images together, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.annotations.folder import open_labels
from clips4.data.class_names import load_classes
from clips4.errors import UserError
from clips4.method.labeled_prototypes import labeled_prototypes, with_labeled
from clips4.utils.images import RGB
from tests.annotations.test_folder import EXPECTED, write_masks
from tests.helpers import generator, unit


def embed(image: RGB) -> Tensor:
    """(5, H, W) unit vectors of whatever the pixel shows."""
    weights = torch.randn(5, 3, generator=generator(0))
    return F.normalize(torch.einsum("dc,hwc->dhw", weights, torch.from_numpy(image.copy()).float() - 100), dim=0)


def test_labeled_prototypes_are_normalized_means_over_pixels(tmp_path: Path) -> None:
    write_masks(tmp_path)
    labeled = open_labels(tmp_path)
    found = labeled_prototypes(embed, labeled)
    totals: dict[int, Tensor] = {}
    for _, image, truth in labeled:
        z = embed(image)
        for y, x in np.argwhere(truth < len(labeled.classes)).tolist():
            label = int(truth[y, x])
            totals[label] = totals.get(label, torch.zeros(5)) + z[:, y, x]
    assert list(found) == sorted(totals)
    for label, total in totals.items():
        torch.testing.assert_close(found[label], total / total.norm())


def test_labeled_prototypes_of_classes_without_pixels_are_left_out(tmp_path: Path) -> None:
    write_masks(tmp_path)
    assert list(labeled_prototypes(embed, open_labels(tmp_path, load_classes("cat,cup,zebra")))) == [0, 1]


def test_labeled_prototypes_of_an_unlabeled_folder_are_refused(tmp_path: Path) -> None:
    write_masks(tmp_path)
    Image.fromarray(np.full_like(EXPECTED, 255)).save(tmp_path / "A.png")
    with pytest.raises(UserError, match="no pixel has a class"):
        labeled_prototypes(embed, open_labels(tmp_path))


def test_with_labeled_replaces_their_rows_alone() -> None:
    before = F.normalize(torch.randn(4, 5, generator=generator(1)), dim=1)
    after = with_labeled(before, {2: before[0]})
    assert torch.equal(after[2], before[0])
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])


def test_with_labeled_replaces_all_prototypes_of_a_class() -> None:
    rows, vector = unit(7, 4), unit(4, seed=1)
    found = with_labeled(rows, {1: vector}, 3)
    assert torch.equal(found[3:6], vector.expand(3, -1))
    assert torch.equal(found[[0, 1, 2, 6]], rows[[0, 1, 2, 6]])
