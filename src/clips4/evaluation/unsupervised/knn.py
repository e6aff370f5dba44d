"""k-NN retrieval: each segment of an image gets the class of its nearest labeled segments.

After SegSort (Hwang et al., ICCV 2019) and HSG (Ke et al., CVPR 2022). The nearest vectors by cosine are found by faiss
where it is installed, else in chunks of bounded memory.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.label_maps import ignore_value
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import SetScores, Tally, confusion_matrix
from clips4.evaluation.unsupervised.clusters import Features
from clips4.method.segments import flatten_pixels, pool, spherical_kmeans
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.tensors import resize_map

COSINE_BUDGET = 2**24  # cosines held at a time


class Index:
    """Vectors to be searched.

    Args:
        vectors: (N, D) unit rows.
        use_faiss: None takes faiss (exact inner products) where it is installed; both ways give the same neighbors
            except for ties.
    """

    def __init__(self, vectors: Tensor, use_faiss: bool | None = None):
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"expected vectors (N, D), got {tuple(vectors.shape)}")
        self._vectors = vectors.float().cpu().contiguous()
        self._faiss = None
        if use_faiss or (use_faiss is None and find_spec("faiss")):
            import faiss

            self._faiss = faiss.IndexFlatIP(vectors.shape[1])
            self._faiss.add(self._vectors.numpy())

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """(Q, D) -> (Q, min(k, N)) indices of the nearest, the nearest first."""
        k = min(k, len(self._vectors))
        queries = queries.float().cpu().contiguous()
        if self._faiss is not None:
            return torch.from_numpy(np.asarray(self._faiss.search(queries.numpy(), k)[1], np.int64))
        at_once = max(1, COSINE_BUDGET // len(self._vectors))
        return torch.cat([(part @ self._vectors.T).topk(k, dim=1).indices for part in queries.split(at_once)])


@dataclass(frozen=True)
class RetrievalRecipe:
    """k-NN retrieval after SegSort (Hwang et al., ICCV 2019) and HSG (Ke et al., CVPR 2022).

    Attributes:
        segments: per image, a square grid of k-means clusters.
        neighbors: labeled segments that vote.
        iterations, location_weight: of the segments' k-means.
    """

    segments: int = 36
    neighbors: int = 20
    iterations: int = 10
    location_weight: float = 0.5


def score_retrieval(
    features: Features,
    labeled: LabeledFolder,
    dataset: LabeledFolder,
    recipe: RetrievalRecipe | None = None,
    progress: ProgressReporter | None = None,
) -> SetScores:
    """Classify each segment of a set by the vote of its nearest segments in a labeled set.

    A labeled segment has the class of most of its pixels; segments that are mostly ignored do not vote. The votes
    are upsampled to the original image size, then argmax.
    """
    recipe = recipe or RetrievalRecipe()
    classes = len(dataset.classes)
    vectors, labels = [], []
    for _, image, truth in counted(progress, "encoding the labeled set", labeled, len(labeled)):
        v, segments = _segments(features(image), recipe)
        label = segment_labels(segments, truth, len(v), classes)
        vectors.append(v[label >= 0])
        labels.append(label[label >= 0])
    index, votes_of = Index(torch.cat(vectors)), F.one_hot(torch.cat(labels), classes).float()
    counts = Tally(classes)
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        v, segments = _segments(features(image), recipe)
        found = index.nearest(v, recipe.neighbors)
        votes = votes_of[found].mean(1)  # (S, K)
        votes_map = votes[segments].permute(2, 0, 1)  # (K, h, w)
        predicted = resize_map(votes_map[None], truth.shape)[0].argmax(0)
        counts.add(confusion_matrix(truth, predicted.numpy(), classes))
    return SetScores.collect(dataset.images, counts)


def _segments(z: Tensor, recipe: RetrievalRecipe) -> tuple[Tensor, Tensor]:
    """Segment vectors (S, D) and the (h, w) segment of each pixel, on the CPU, empty segments left out."""
    labels = spherical_kmeans(z[None], recipe.segments, recipe.iterations, recipe.location_weight)
    kept, dense = labels.unique(return_inverse=True)
    v = pool(flatten_pixels(z[None]), dense.flatten(), len(kept))
    return v.cpu(), dense[0].cpu()


def segment_labels(segments: Tensor, truth: NDArray[np.integer], count: int, classes: int) -> Tensor:
    """(S,) class that most of a segment's pixels have at the truth's size; -1 where most are ignored."""
    height, width = truth.shape
    y = np.arange(height) * segments.shape[0] // height
    x = np.arange(width) * segments.shape[1] // width
    large = segments.numpy()[y][:, x]
    true = np.where(truth == ignore_value(classes), classes, truth).astype(np.int64)
    votes = np.bincount((large * (classes + 1) + true).ravel(), minlength=count * (classes + 1))
    label = votes.reshape(count, classes + 1).argmax(1)
    return torch.from_numpy(np.where(label == classes, -1, label))
