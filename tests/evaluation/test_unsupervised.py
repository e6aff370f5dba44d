"""Clusters, neighbours and the probe (trap 5: three different numbers), on sets whose answers are known."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder, value_table
from clips4.evaluation.knn import Index, RetrievalRecipe, score_retrieval, segment_labels
from clips4.evaluation.linear_probe import LinearProbeRecipe, fit_linear_probe, labeled_pixels, score_linear_probe
from clips4.evaluation.unsupervised import ClusterRecipe, match_clusters, regroup, score_clusters
from clips4.utils.images import RGB
from tests.helpers import generator, provable, seeds, unit

CLASSES = load_classes("red,green,blue")


def colors(image: RGB) -> Tensor:
    """(H, W, 3) -> (3, H / 4, W / 4) unit."""
    images = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return F.normalize(F.avg_pool2d(images[None], 4)[0] + 1e-3, dim=0)


def painted_set(root: Path, count: int = 3, shift: int = 0, void: bool = True) -> LabeledFolder:
    """Pictures of three stripes, whose widths differ; class = colour + shift; a corner is void."""
    root.mkdir(parents=True, exist_ok=True)
    images, masks = [], []
    for index in range(count):
        truth = np.zeros((32, 48), np.uint8)
        truth[:, 8 + 4 * index :], truth[:, 28 + 4 * index :] = 1, 2
        shown = (np.eye(3, dtype=np.uint8) * 200 + 20)[(truth + shift) % 3]
        if void:
            truth[:4, :4] = IGNORE
        images.append(root / f"{index}.png")
        masks.append(root / f"{index}_truth.png")
        Image.fromarray(shown).save(images[-1])
        Image.fromarray(truth).save(masks[-1])
    return LabeledFolder(tuple(images), tuple(masks), CLASSES, value_table(range(3)))


# ------------------------------------------------------------------------------------------------------- matching


@provable
@given(seeds)
def test_the_matching_is_the_best_of_all(seed: int) -> None:
    joint = np.random.default_rng(seed).integers(0, 50, (4, 4))
    matching = match_clusters(joint)
    right = joint[matching, np.arange(4)].sum()
    assert right == max(sum(joint[row, column] for column, row in enumerate(order)) for order in permutations(range(4)))


def test_overclustering_gives_what_is_left_over_to_the_largest_class() -> None:
    joint = np.array([[10, 9, 0, 0], [0, 1, 5, 0]])
    matching = match_clusters(joint)
    assert matching.tolist() == [0, 0, 1, -1]
    assert regroup(joint, matching).tolist() == [[19, 0, 0], [1, 5, 0]]


def test_fewer_clusters_than_classes_leave_classes_without_one() -> None:
    joint = np.array([[5, 0], [0, 7], [1, 1]])
    assert match_clusters(joint).tolist() == [0, 1]
    assert regroup(joint, np.array([0, -1])).tolist() == [[5, 0, 0, 0], [0, 0, 0, 7], [1, 0, 0, 1]]


def test_trap_5_one_matching_over_the_whole_set(tmp_path: Path) -> None:
    """Where one picture's colours are named otherwise than the others', one matching cannot be right for both; a
    matching per picture would call all perfect."""
    usual, odd = painted_set(tmp_path / "a", 3), painted_set(tmp_path / "b", 1, shift=1)
    alone = score_clusters(colors, odd).scores.miou
    both = LabeledFolder((*usual.images, *odd.images), (*usual.masks, *odd.masks), CLASSES, usual.table)
    together = score_clusters(colors, both)
    assert alone > 0.9
    assert together.scores.pixel_accuracy < 0.85
    assert together.images[3].pixel_accuracy < 0.2, "the odd picture is wrong throughout"


# ------------------------------------------------------------------------------------------------------- the tasks


def test_all_three_tasks_are_near_perfect_where_color_is_class(tmp_path: Path) -> None:
    train, val = painted_set(tmp_path / "train", 4), painted_set(tmp_path / "val", 3)
    for found in (
        score_clusters(colors, val),
        score_retrieval(colors, train, val),
        score_linear_probe(colors, train, val),
    ):
        assert found.scores.miou > 0.9
        assert found.scores.pixels == 3 * (32 * 48 - 16), "void is not scored, and the truth is at its own size"
        assert found.names == ("0", "1", "2")
        assert sum(image.pixels for image in found.images) == found.confusion.sum()


def test_k_may_exceed_the_number_of_classes(tmp_path: Path) -> None:
    found = score_clusters(colors, painted_set(tmp_path), ClusterRecipe(k=9))
    assert found.matching is not None
    assert len(found.matching) == 9
    assert found.scores.miou > 0.8


def test_segments_take_the_class_most_of_their_pixels_have() -> None:
    segments = torch.tensor([[0, 0, 1, 1], [2, 2, 1, 1]])
    truth: NDArray[np.uint8] = np.zeros((4, 8), np.uint8)
    truth[:2, :4] = 1
    truth[:, 4:] = IGNORE
    truth[:, 7] = 2
    assert segment_labels(segments, truth, 3, 3).tolist() == [1, -1, 0]


def test_retrieval_is_decided_by_the_vote_of_neighbors(tmp_path: Path) -> None:
    """A labelled set whose red is mostly named green outvotes the few that name it right."""
    right, wrong, val = (
        painted_set(tmp_path / "r", 1),
        painted_set(tmp_path / "w", 3, shift=2),
        painted_set(tmp_path / "v", 1),
    )
    mixed = LabeledFolder((*right.images, *wrong.images), (*right.masks, *wrong.masks), CLASSES, right.table)
    few, many = RetrievalRecipe(segments=9, neighbors=2), RetrievalRecipe(segments=9, neighbors=12)
    assert score_retrieval(colors, right, val, few).scores.pixel_accuracy > 0.9
    assert score_retrieval(colors, mixed, val, many).scores.pixel_accuracy < 0.3


# -------------------------------------------------------------------------------------------------------- neighbours


def test_neighbors_are_the_largest_cosines_with_and_without_faiss() -> None:
    rows, queries = unit(300, 7, dtype=torch.float32), unit(40, 7, seed=1, dtype=torch.float32)
    expected = (queries @ rows.T).argsort(1, descending=True)[:, :5]
    assert torch.equal(Index(rows, use_faiss=False).nearest(queries, 5), expected)
    assert Index(rows, use_faiss=False).nearest(queries, 500).shape == (40, 300)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        Index(rows[:0])
    pytest.importorskip("faiss", reason="faiss is not installed: its way is not tried")
    assert torch.equal(Index(rows, use_faiss=True).nearest(queries, 5), expected)


def test_chunks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from clips4.evaluation import knn as neighbors

    rows, queries = unit(50, 4, dtype=torch.float32), unit(30, 4, seed=1, dtype=torch.float32)
    whole = Index(rows, use_faiss=False).nearest(queries, 3)
    monkeypatch.setattr(neighbors, "_BUDGET", 100)
    assert torch.equal(Index(rows, use_faiss=False).nearest(queries, 3), whole)


# ------------------------------------------------------------------------------------------------------------- probe


def test_the_probe_is_the_optimum_of_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = torch.randn(300, 4, generator=generator(0))
    labels = (
        rows @ torch.randn(4, 3, generator=generator(1)) + 0.8 * torch.randn(300, 3, generator=generator(2))
    ).argmax(1)
    recipe = LinearProbeRecipe(penalty=0.01, iterations=300)
    layer = fit_linear_probe(rows, labels, 3, recipe)
    standard = ((rows - rows.mean(0)) / rows.std(0, unbiased=False)).numpy()
    oracle = LogisticRegression(C=1 / (0.01 * 300), tol=1e-8, max_iter=2000).fit(standard, labels.numpy())
    ours = layer(rows).softmax(1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(standard), atol=2e-3)


def test_the_probe_bears_channels_that_never_change() -> None:
    rows = torch.cat([torch.randn(50, 2, generator=generator(0)), torch.ones(50, 1)], 1)
    layer = fit_linear_probe(rows, (rows[:, 0] > 0).long(), 2, LinearProbeRecipe())
    assert torch.isfinite(layer(rows)).all()
    with pytest.raises(ValueError, match="no labeled pixel"):
        fit_linear_probe(rows[:0], torch.zeros(0, dtype=torch.long), 2, LinearProbeRecipe())


def test_training_pixels_have_the_label_at_their_center() -> None:
    truth = np.full((8, 8), IGNORE, np.uint8)
    truth[2, 2], truth[6, 6] = 1, 2
    z = torch.arange(4.0).view(1, 2, 2)
    rows, labels = labeled_pixels(z, truth, 10, generator(0))
    assert sorted(zip(rows.flatten().tolist(), labels.tolist(), strict=True)) == [(0, 1), (3, 2)]
    assert len(labeled_pixels(z, truth, 1, generator(0))[0]) == 1
