"""Retrieval by k-NN: segment labels, votes, and the index with and without faiss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.unsupervised.knn import Index, RetrievalRecipe, score_retrieval, segment_labels
from tests.evaluation.painted import CLASSES, colors, painted_set
from tests.helpers import unit


def test_segment_labels_take_the_class_most_of_their_pixels_have() -> None:
    segments = torch.tensor([[0, 0, 1, 1], [2, 2, 1, 1]])
    truth: NDArray[np.uint8] = np.zeros((4, 8), np.uint8)
    truth[:2, :4] = 1
    truth[:, 4:] = IGNORE
    truth[:, 7] = 2
    assert segment_labels(segments, truth, 3, 3).tolist() == [1, -1, 0]


def test_score_retrieval_more_wrong_neighbors_outvote_the_right(tmp_path: Path) -> None:
    """Neighbors that call red green outvote the few that name it right."""
    right, wrong, val = (
        painted_set(tmp_path / "r", 1),
        painted_set(tmp_path / "w", 3, shift=2),
        painted_set(tmp_path / "v", 1),
    )
    mixed = LabeledFolder((*right.images, *wrong.images), (*right.masks, *wrong.masks), CLASSES, right.table)
    few, many = RetrievalRecipe(segments=9, neighbors=2), RetrievalRecipe(segments=9, neighbors=12)
    assert score_retrieval(colors, right, val, few).scores.pixel_accuracy > 0.9
    assert score_retrieval(colors, mixed, val, many).scores.pixel_accuracy < 0.3


def test_index_with_or_without_faiss_gives_the_largest_cosines() -> None:
    rows, queries = unit(300, 7, dtype=torch.float32), unit(40, 7, seed=1, dtype=torch.float32)
    expected = (queries @ rows.T).argsort(1, descending=True)[:, :5]
    assert torch.equal(Index(rows, use_faiss=False).nearest(queries, 5), expected)
    assert Index(rows, use_faiss=False).nearest(queries, 500).shape == (40, 300)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        Index(rows[:0])
    pytest.importorskip("faiss", reason="faiss is not installed: not tested")
    assert torch.equal(Index(rows, use_faiss=True).nearest(queries, 5), expected)


def test_index_queries_in_chunks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = unit(50, 4, dtype=torch.float32), unit(30, 4, seed=1, dtype=torch.float32)
    whole = Index(rows, use_faiss=False).nearest(queries, 3)
    monkeypatch.setattr("clips4.evaluation.unsupervised.knn.COSINE_BUDGET", 100)
    assert torch.equal(Index(rows, use_faiss=False).nearest(queries, 3), whole)
