"""LPOSS: class scores spread over the positions of an image, along a graph of those that look alike and lie near.

Stojnić et al., "LPOSS: Label Propagation Over Patches and Pixels for Open-vocabulary Semantic Segmentation" (CVPR
2025), the propagation over patches. With f_i the unit feature of position i, p_i its place and kNN(i) its k nearest
by inner product,

    w_ij = max(f_i . f_j, 0)^gamma exp(-sigma |p_i - p_j|)   for j in kNN(i), else 0
    W = w + w^T,        S = D^(-1/2) W D^(-1/2),        D the row sums of W
    Y = (1 - alpha) (I - alpha S)^(-1) Y_0

for scores Y_0 (N, L) at the positions. Ours differ in three ways, none of which changes the best class of a position:
the equation is solved by a Cholesky factorization, not by conjugate gradients; each row of Y is divided by what a
constant 1 becomes there, so that cosines remain cosines; and places are measured at a long side of ``SIDE`` pixels,
whatever the size of the image. The paper's second step, over pixels, is left out: its graph has 168 edges a pixel.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.utils.tensors import resize_map

SIDE = 512  # pixels of an image's long side, in which distances of places are measured
MAX_POSITIONS = 4096  # of the graph, whose matrix is dense: 64 MiB; finer maps are averaged down to it


@dataclass(frozen=True)
class Propagation:
    """The graph, and how far scores spread in it; the defaults are the paper's.

    Attributes:
        alpha: share of a position's score that comes from its neighbors, in [0, 1).
        neighbors: k; positions with fewer others have edges to all.
        gamma: exponent of the similarity.
        sigma: decay by distance, per pixel of an image with the long side ``SIDE``.

    Raises:
        ValueError: a value out of range.
    """

    alpha: float = 0.95
    neighbors: int = 400
    gamma: float = 3.0
    sigma: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1 or self.neighbors < 1 or self.gamma <= 0 or self.sigma < 0:
            raise ValueError(f"alpha is in [0, 1), neighbors and gamma are positive, sigma is not negative, got {self}")


PAPER = Propagation()


def graph(features: Tensor, propagation: Propagation = PAPER) -> Tensor:
    """S, the normalized weights between the positions of one image.

    Args:
        features: (C, h, w) unit along C.
        propagation: k, gamma and sigma.

    Returns:
        (h w, h w), symmetric, eigenvalues in [-1, 1]; the diagonal is 0.
    """
    height, width = features.shape[-2:]
    rows = F.normalize(features.flatten(1).T.float(), dim=1)
    similarity = (rows @ rows.T).fill_diagonal_(-torch.inf)
    values, nearest = similarity.topk(min(propagation.neighbors, len(rows) - 1), dim=1)
    places = _places(height, width, features.device)
    distances = (places[:, None] - places[nearest]).norm(dim=2)
    weights = torch.zeros_like(similarity)
    weights.scatter_(1, nearest, values.clamp(min=0) ** propagation.gamma * torch.exp(-propagation.sigma * distances))
    weights = weights + weights.T
    scale = weights.sum(1).clamp(min=torch.finfo(weights.dtype).tiny).rsqrt()
    return weights * torch.outer(scale, scale)


def propagate(scores: Tensor, features: Tensor, propagation: Propagation = PAPER) -> Tensor:
    """Scores spread over the positions of an image, class by class.

    Args:
        scores: (L, h, w), cosines or any other.
        features: (C, h', w') unit along C, of the same image; resized to the scores' positions.
        propagation: the graph, and alpha.

    Returns:
        (L, h, w), each value a mean of the class's scores with positive weights; a coarser map where h w is above
        ``MAX_POSITIONS``.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[[.3, .3, .1]], [[.2, .2, .2]]])  # the last position prefers the second class,
        >>> features = torch.tensor([[[1., 1., 1.]]])                # though it looks like the others
        >>> propagate(scores, features).argmax(0)
        tensor([[0, 0, 0]])
    """
    size = (scores.shape[-2], scores.shape[-1])
    if size[0] * size[1] > MAX_POSITIONS:
        factor = (MAX_POSITIONS / (size[0] * size[1])) ** 0.5
        size = max(1, int(size[0] * factor)), max(1, int(size[1] * factor))
        scores = F.adaptive_avg_pool2d(scores, size)
    matrix = -propagation.alpha * graph(_resized(features, size), propagation)
    matrix.diagonal().add_(1)
    wanted = torch.cat([scores.flatten(1), scores.new_ones(1, size[0] * size[1])]).T.to(matrix)
    # Cholesky is missing from some releases for Apple's GPUs
    device = torch.device("cpu") if matrix.device.type == "mps" else matrix.device
    found = torch.cholesky_solve(wanted.to(device), torch.linalg.cholesky(matrix.to(device)))
    return (found[:, :-1] / found[:, -1:]).T.unflatten(1, size).to(scores)


def propagate_over(scores: Tensor, z: Tensor, graph_features: Tensor | None = None) -> Tensor:
    """``propagate`` along a graph of a self-supervised backbone, or of the embeddings themselves.

    Args:
        scores: (L, h, w).
        z: (D, h, w) pixel embeddings of the same positions.
        graph_features: (C, h', w') unit features of a self-supervised backbone; without them z makes the graph.

    Returns:
        See ``propagate``.
    """
    return propagate(scores, own_features(z) if graph_features is None else graph_features)


def own_features(z: Tensor) -> Tensor:
    """Features of the graph where there is no other network: each channel of z standardized over the image.

    Vectors of a vision-language model share a large offset, by which all positions would look alike.

    Args:
        z: (D, h, w) pixel embeddings.

    Returns:
        (D, h, w) unit along D.
    """
    flat = z.float().flatten(1)
    centered = flat - flat.mean(1, keepdim=True)
    # a channel that is constant over the image stays 0
    return F.normalize(centered / (centered.square().mean(1, keepdim=True) + 1e-5).sqrt(), dim=0).view_as(z)


def _resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Features at other positions, averaged where these are coarser: (C, h, w) -> (C, *size)."""
    if features.shape[-2] > size[0] and features.shape[-1] > size[1]:
        return F.adaptive_avg_pool2d(features.float(), size)
    return features if features.shape[-2:] == size else resize_map(features[None].float(), size)[0]


def _places(height: int, width: int, device: torch.device) -> Tensor:
    """(N, 2) places of positions, in pixels of an image with the long side ``SIDE``."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack([y.flatten(), x.flatten()], 1) * (SIDE / max(height, width))
