"""Run-length encoding against COCO's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from clips4.outputs.rle import counts_of, counts_of_text, decode, encode, text_of
from tests.helpers import provable, seeds


def random_mask(height: int, width: int, seed: int, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((height, width)) < share


@provable
@given(seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
def test_rle_equals_pycocotools_and_decodes(seed: int, height: int, width: int, share: float) -> None:
    mask = random_mask(height, width, seed, share)
    rle = encode(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle["counts"] == theirs["counts"].decode()
    assert rle["size"] == theirs["size"]
    np.testing.assert_array_equal(decode(rle), mask)
    np.testing.assert_array_equal(coco.decode({**rle, "counts": rle["counts"].encode()}).astype(bool), mask)


@provable
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3))
def test_rle_of_a_box_equals_rle_of_the_image(
    seed: int, height: int, width: int, top: int, left: int, more: int
) -> None:
    """Boxes that fill the image's height are among them: there runs go on from one column to the next."""
    box = random_mask(height, width, seed, 0.7)
    whole = np.zeros((top + height + more, left + width + more), bool)
    whole[top : top + height, left : left + width] = box
    assert encode(box, whole.shape, (top, left)) == encode(whole)


@provable
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_rle_counts_survive_as_text(counts: list[int]) -> None:
    assert counts_of_text(text_of(counts)) == counts


@pytest.mark.parametrize(("value", "counts"), [(False, [12]), (True, [0, 12])])
def test_rle_empty_and_full_masks(value: bool, counts: list[int]) -> None:
    assert counts_of(np.full((3, 4), value), (3, 4), (0, 0)) == counts
