"""Segmentation without text: clusters matched to the truth, nearest neighbours in a labelled set, a linear probe.

Three protocols, three different numbers; none is to be put beside another.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabelledFolder
from clips4.evaluation.knn import Index
from clips4.evaluation.metrics.confusion import ImageScore, Scores, Tally, confusion_matrix, scores
from clips4.inference.segmenter import nearest_class
from clips4.method.minibatch_kmeans import sample_rows, spherical_kmeans_of_set
from clips4.method.segments import flatten_pixels, pool, spherical_kmeans
from clips4.utils.images import RGB, load_rgb, resize_map
from clips4.utils.progress import NoProgress, ProgressReporter

Features = Callable[[RGB], Tensor]


@dataclass(frozen=True)
class SetScores:
    """Scores of a set and where they come from.

    Attributes:
        scores: of the one confusion matrix.
        confusion: (K, K + 1) that matrix.
        names, pictures: name and score of each picture.
        matching: for clusters: (k,) class of each cluster, -1 for none.
    """

    scores: Scores
    confusion: NDArray[np.int64]
    names: tuple[str, ...]
    images: tuple[ImageScore, ...]
    matching: NDArray[np.int64] | None = None


# -------------------------------------------------------------------------------------------------------- clusters


@dataclass(frozen=True)
class ClusterRecipe:
    """k-means over the set.

    Attributes:
        k: clusters; None takes the number of classes. More is overclustering: the clusters that the matching leaves
            over are then given to the class that most of their pixels belong to.
        budget: pixels that k-means sees, drawn evenly from all pictures.
        restarts, epochs: see ``set_kmeans.spherical_kmeans_of_set``.
    """

    k: int | None = None
    budget: int = 2**17
    restarts: int = 5
    epochs: int = 4
    seed: int = 0


def score_clusters(
    features: Features,
    dataset: LabelledFolder,
    recipe: ClusterRecipe | None = None,
    progress: ProgressReporter | None = None,
) -> SetScores:
    """Cluster all pixels of a set, match clusters to classes once over the whole set (Hungarian), score.

    The matching maximises the number of right pixels over the set's one confusion matrix. Cosines to the centres are
    upsampled to the picture's own size before the nearest is taken; the truth is never resized.
    """
    recipe, progress = recipe or ClusterRecipe(), progress or NoProgress()
    classes = len(dataset.classes)
    k = recipe.k or classes
    generator = torch.Generator().manual_seed(recipe.seed)
    progress.stage("drawing pixels", len(dataset))

    def maps() -> Iterable[Tensor]:
        for path in dataset.images:
            yield features(load_rgb(path))
            progress.advance({})

    rows = sample_rows(maps(), len(dataset), recipe.budget, generator)
    progress.stage("k-means", recipe.restarts)
    centers = spherical_kmeans_of_set(
        rows, k, generator, recipe.restarts, recipe.epochs, advance=lambda: progress.advance({})
    )
    progress.stage("scoring", len(dataset))
    joint = np.zeros((classes, k), np.int64)
    occurring = []  # of each picture the pairs of class and cluster that occur, and how often
    for _, image, truth in dataset:
        z = features(image)
        labels, _ = nearest_class(z, centers.to(z), truth.shape)
        own = _joint(truth, labels.cpu().numpy(), classes, k)
        joint += own
        pairs = np.flatnonzero(own)
        occurring.append((pairs.astype(np.uint32), own.ravel()[pairs].astype(np.uint32)))
        progress.advance({})
    matching = match_clusters(joint)
    counts = Tally(classes)
    for places, numbers in occurring:
        own = np.zeros(classes * k, np.int64)
        own[places] = numbers
        counts.add(regroup(own.reshape(classes, k), matching))
    return collect(dataset, counts, matching)


def _joint(truth: NDArray[np.uint8], clusters: NDArray[np.integer], classes: int, k: int) -> NDArray[np.int64]:
    """(K, k) pixels by class and cluster."""
    counted = truth != IGNORE
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


# ------------------------------------------------------------------------------------------------ nearest neighbours


@dataclass(frozen=True)
class RetrievalRecipe:
    """k-NN retrieval after SegSort (Hwang et al., ICCV 2019) and HSG (Ke et al., CVPR 2022).

    Attributes:
        segments: per picture, a square grid of k-means clusters.
        neighbours: labelled segments that vote.
        iterations, location_weight: of the segments' k-means.
    """

    segments: int = 36
    neighbors: int = 20
    iterations: int = 10
    location_weight: float = 0.5


def score_retrieval(
    features: Features,
    labelled: LabelledFolder,
    dataset: LabelledFolder,
    recipe: RetrievalRecipe | None = None,
    progress: ProgressReporter | None = None,
) -> SetScores:
    """Name each segment of a set by the vote of its nearest segments in a labelled set.

    A labelled segment bears the class most of its pixels have; segments that are mostly ignored do not vote. The votes
    are upsampled to the picture's own size, then argmax.
    """
    recipe, progress = recipe or RetrievalRecipe(), progress or NoProgress()
    classes = len(dataset.classes)
    vectors, names = [], []
    progress.stage("reading the labelled set", len(labelled))
    for _, image, truth in labelled:
        v, segments = _segments(features(image), recipe)
        label = segment_labels(segments, truth, len(v), classes)
        vectors.append(v[label >= 0])
        names.append(label[label >= 0])
        progress.advance({})
    index, named = Index(torch.cat(vectors)), torch.cat(names)
    progress.stage("scoring", len(dataset))
    counts = Tally(classes)
    for _, image, truth in dataset:
        v, segments = _segments(features(image), recipe)
        found = index.nearest(v, recipe.neighbors)
        votes = F.one_hot(named[found], classes).float().mean(1)  # (S, K)
        votes_map = votes[segments].permute(2, 0, 1)  # (K, h, w)
        labels = resize_map(votes_map[None], truth.shape)[0].argmax(0)
        counts.add(confusion_matrix(truth, labels.numpy(), classes))
        progress.advance({})
    return collect(dataset, counts)


def _segments(z: Tensor, recipe: RetrievalRecipe) -> tuple[Tensor, Tensor]:
    """Segment vectors (S, D) and the (h, w) segment of each pixel, on the CPU, empty segments left out."""
    labels = spherical_kmeans(z[None], recipe.segments, recipe.iterations, recipe.location_weight)
    kept, dense = labels.unique(return_inverse=True)
    v = pool(flatten_pixels(z[None]), dense.flatten(), len(kept))
    return v.cpu(), dense[0].cpu()


def segment_labels(segments: Tensor, truth: NDArray[np.uint8], count: int, classes: int) -> Tensor:
    """(S,) class that most of a segment's pixels have at the truth's size; -1 where most are ignored."""
    height, width = truth.shape
    y = np.arange(height) * segments.shape[0] // height
    x = np.arange(width) * segments.shape[1] // width
    large = segments.numpy()[y][:, x]
    true = np.where(truth == IGNORE, classes, truth).astype(np.int64)
    votes = np.bincount((large * (classes + 1) + true).ravel(), minlength=count * (classes + 1))
    label = votes.reshape(count, classes + 1).argmax(1)
    return torch.from_numpy(np.where(label == classes, -1, label))


# ------------------------------------------------------------------------------------------------------------ shared


def collect(dataset: LabelledFolder, counts: Tally, matching: NDArray[np.int64] | None = None) -> SetScores:
    """The scores of a set from the counts of its pictures."""
    names = tuple(Path(path).stem for path in dataset.images)
    return SetScores(scores(counts.total), counts.total, names, tuple(counts.images), matching)
