"""Unsupervised segmentation: k-means over a whole set, clusters matched to classes by the Hungarian method.

Clusters, k-NN retrieval (``knn``) and a linear probe (``linear_probe``) are three protocols; their numbers cannot be
compared with each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from clips4.data.label_maps import ignore_value
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import SetScores, Tally
from clips4.inference.upsample import nearest_class
from clips4.method.minibatch_kmeans import fit_minibatch_kmeans, sample_rows
from clips4.utils.images import RGB, load_rgb
from clips4.utils.progress import NoProgress, ProgressReporter, counted

Features = Callable[[RGB], Tensor]
"""An image (H, W, 3) uint8 -> its pixel features (D, h, w), unit along D."""


@dataclass(frozen=True)
class ClusterRecipe:
    """k-means over the set.

    Attributes:
        k: clusters; None takes the number of classes. More is overclustering: the clusters that the matching leaves
            over are then given to the class that most of their pixels belong to.
        budget: pixels that k-means sees, drawn evenly from all images.
        restarts, epochs: see ``method.minibatch_kmeans.fit_minibatch_kmeans``.
    """

    k: int | None = None
    budget: int = 2**17
    restarts: int = 5
    epochs: int = 4
    seed: int = 0


def score_clusters(
    features: Features,
    dataset: LabeledFolder,
    recipe: ClusterRecipe | None = None,
    progress: ProgressReporter | None = None,
) -> SetScores:
    """Cluster all pixels of a set, match clusters to classes once over the whole set (Hungarian), score.

    The matching maximizes the number of correct pixels in the one confusion matrix. Cosines to the centers are
    upsampled to the original image size before the nearest is taken; the truth is never resized.
    """
    recipe, progress = recipe or ClusterRecipe(), progress or NoProgress()
    classes = len(dataset.classes)
    k = recipe.k or classes
    generator = torch.Generator().manual_seed(recipe.seed)
    maps = (features(load_rgb(path)) for path in counted(progress, "drawing pixels", dataset.images))
    rows = sample_rows(maps, len(dataset), recipe.budget, generator)
    progress.stage("k-means", recipe.restarts)
    centers = fit_minibatch_kmeans(
        rows, k, generator, recipe.restarts, recipe.epochs, advance=lambda: progress.advance({})
    )
    joint = np.zeros((classes, k), np.int64)
    occurring = []  # of each image, the pairs of class and cluster that occur, and how often
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        z = features(image)
        labels, _ = nearest_class(z, centers.to(z), truth.shape)
        own = _joint(truth, labels.cpu().numpy(), classes, k)
        joint += own
        pairs = np.flatnonzero(own)
        occurring.append((pairs.astype(np.uint32), own.ravel()[pairs].astype(np.uint32)))
    matching = match_clusters(joint)
    counts = Tally(classes)
    for places, numbers in occurring:
        own = np.zeros(classes * k, np.int64)
        own[places] = numbers
        counts.add(regroup(own.reshape(classes, k), matching))
    return SetScores.collect(dataset.images, counts, matching)


def _joint(truth: NDArray[np.integer], clusters: NDArray[np.integer], classes: int, k: int) -> NDArray[np.int64]:
    """(K, k) pixels by class and cluster."""
    counted = truth != ignore_value(classes)
    pairs = truth[counted].astype(np.int64) * k + clusters[counted]
    return np.bincount(pairs, minlength=classes * k).reshape(classes, k)


def match_clusters(joint: NDArray[np.int64]) -> NDArray[np.int64]:
    """The class of each cluster, by the Hungarian method over one (K, k) matrix of a whole set.

    With k >= K every class gets one cluster of its own first, such that most pixels are right; clusters left over go to
    the class most of their pixels belong to. With k < K some classes get none.

    Returns:
        (k,) class of each cluster; -1 for one without pixels that was left over.
    """
    rows, columns = linear_sum_assignment(joint, maximize=True)
    matching = np.where(joint.any(0), joint.argmax(0), -1)
    matching[columns] = rows
    return matching


def regroup(joint: NDArray[np.int64], matching: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, k) by cluster -> (K, K + 1) by predicted class."""
    confusion = np.zeros((len(joint), len(joint) + 1), np.int64)
    np.add.at(confusion.T, np.where(matching < 0, len(joint), matching), joint.T)
    return confusion
