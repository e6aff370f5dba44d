"""Clusters matched to the truth once per set (trap 5: three different numbers)."""

from itertools import permutations
from pathlib import Path

import numpy as np
from hypothesis import given

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.unsupervised.clusters import ClusterRecipe, match_clusters, regroup, score_clusters
from clips4.evaluation.unsupervised.knn import score_retrieval
from clips4.evaluation.unsupervised.linear_probe import score_linear_probe
from tests.evaluation.painted import CLASSES, colors, painted_set
from tests.helpers import provable, seeds


@provable
@given(seeds)
def test_match_clusters_square_table_is_the_best_of_all(seed: int) -> None:
    joint = np.random.default_rng(seed).integers(0, 50, (4, 4))
    matching = match_clusters(joint)
    right = joint[matching, np.arange(4)].sum()
    assert right == max(sum(joint[row, column] for column, row in enumerate(order)) for order in permutations(range(4)))


def test_match_clusters_more_clusters_join_the_largest_class() -> None:
    joint = np.array([[10, 9, 0, 0], [0, 1, 5, 0]])
    matching = match_clusters(joint)
    assert matching.tolist() == [0, 0, 1, -1]
    assert regroup(joint, matching).tolist() == [[19, 0, 0], [1, 5, 0]]


def test_match_clusters_fewer_clusters_leave_classes_without_one() -> None:
    joint = np.array([[5, 0], [0, 7], [1, 1]])
    assert match_clusters(joint).tolist() == [0, 1]
    assert regroup(joint, np.array([0, -1])).tolist() == [[5, 0, 0, 0], [0, 0, 0, 7], [1, 0, 0, 1]]


def test_score_clusters_trap_5_matches_once_over_the_whole_set(tmp_path: Path) -> None:
    """If one image names its colors differently, one matching cannot be right for all; a matching per image would
    score all as perfect."""
    usual, odd = painted_set(tmp_path / "a", 3), painted_set(tmp_path / "b", 1, shift=1)
    alone = score_clusters(colors, odd).scores.miou
    both = LabeledFolder((*usual.images, *odd.images), (*usual.masks, *odd.masks), CLASSES, usual.table)
    together = score_clusters(colors, both)
    assert alone > 0.9
    assert together.scores.pixel_accuracy < 0.85
    assert together.images[3].pixel_accuracy < 0.2, "the odd image is wrong throughout"


def test_three_tasks_where_color_is_class_score_near_one(tmp_path: Path) -> None:
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


def test_score_clusters_k_above_the_classes_scores_well(tmp_path: Path) -> None:
    found = score_clusters(colors, painted_set(tmp_path), ClusterRecipe(k=9))
    assert found.matching is not None
    assert len(found.matching) == 9
    assert found.scores.miou > 0.8
