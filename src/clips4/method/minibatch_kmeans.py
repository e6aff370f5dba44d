"""Spherical k-means over a whole set by mini-batches, with restarts, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 2**14  # rows compared with all centers at a time


def sample_rows(maps: Iterable[Tensor], count: int, budget: int, generator: torch.Generator) -> Tensor:
    """Draw pixels at random from every map of a set, equally many from each, within a budget.

    Args:
        maps: (D, h, w) each; iterated once.
        count: number of maps.
        budget: rows in total.
        generator: source of randomness.

    Returns:
        (P, D) float32 on the CPU, P <= budget unless there are more maps than that.

    Raises:
        ValueError: there is no map.
    """
    per_map = max(1, budget // max(1, count))
    parts = []
    for each in maps:
        rows = each.flatten(1).T
        chosen = torch.randperm(len(rows), generator=generator)[:per_map]
        parts.append(rows[chosen.to(rows.device)].float().cpu())
    if not parts:
        raise ValueError("no map to draw pixels from")
    return torch.cat(parts)


def fit_minibatch_kmeans(
    rows: Tensor,
    k: int,
    generator: torch.Generator,
    restarts: int = 5,
    epochs: int = 4,
    batch: int = 4096,
    refine: int = 10,
    advance: Callable[[], None] = lambda: None,
) -> Tensor:
    """Centers of k-means by cosine; of ``restarts`` runs the one with the largest mean cosine to its centers.

    Each run starts by k-means++ on a batch (Arthur & Vassilvitskii, SODA 2007), passes ``epochs`` times over the
    shuffled rows by mini-batches, each center with step size one over its rows so far (Sculley, WWW 2010), and
    ends with ``refine`` passes of Lloyd's over all rows. An empty center moves to the row farthest from its center.

    Args:
        rows: (P, D) vectors; they are normalized.
        k: centers; at most P.
        advance: called after each run.

    Returns:
        (k, D) unit rows.

    Raises:
        ValueError: fewer rows than centers.
    """
    if len(rows) < k or k < 1:
        raise ValueError(f"{len(rows)} pixels cannot make {k} clusters")
    rows = F.normalize(rows, dim=1)
    best, best_score = rows[:k], -torch.inf
    for _ in range(restarts):
        order = torch.randperm(len(rows), generator=generator)
        centers = kmeans_plus_plus(rows[order[: max(batch, k)]], k, generator)
        seen = torch.zeros(k)
        for epoch in range(epochs):
            for part in (order if epoch == 0 else torch.randperm(len(rows), generator=generator)).split(batch):
                centers = _step(rows[part], centers, seen)
        for _ in range(refine):
            centers = _lloyd(rows, centers)
        score = float(torch.cat([cosine for cosine, _ in nearest_center(rows, centers)]).mean())
        if score > best_score:
            best, best_score = centers, score
        advance()
    return best


def nearest_center(rows: Tensor, centers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cosine and index of each row's nearest center, in chunks of rows."""
    for part in rows.split(_CHUNK):
        cosine, index = (part @ centers.T).max(1)
        yield cosine, index


def kmeans_plus_plus(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw k rows one by one, each with probability proportional to 1 - cosine to the nearest one drawn so far."""
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    distance = 1 - rows @ rows[chosen[0]]
    for _ in range(k - 1):
        chance = distance.clamp(min=0)
        if chance.sum() <= 0:  # all rows are equal
            chance = torch.ones_like(chance)
        chosen.append(int(torch.multinomial(chance, 1, generator=generator)))
        distance = torch.minimum(distance, 1 - rows @ rows[chosen[-1]])
    return rows[chosen].clone()


def _step(rows: Tensor, centers: Tensor, seen: Tensor) -> Tensor:
    """One mini-batch; ``seen`` counts the rows of each center and is changed in place."""
    index = (rows @ centers.T).argmax(1)
    counts = torch.bincount(index, minlength=len(centers)).float()
    sums = torch.zeros_like(centers).index_add_(0, index, rows)
    seen += counts
    rate = (counts / seen.clamp(min=1))[:, None]
    return F.normalize((1 - rate) * centers + rate * sums / counts.clamp(min=1)[:, None], dim=1)


def _lloyd(rows: Tensor, centers: Tensor) -> Tensor:
    sums, counts = torch.zeros_like(centers), torch.zeros(len(centers))
    cosines = []
    for part, (cosine, index) in zip(rows.split(_CHUNK), nearest_center(rows, centers), strict=True):
        sums.index_add_(0, index, part)
        counts += torch.bincount(index, minlength=len(centers))
        cosines.append(cosine)
    moved = F.normalize(sums, dim=1)
    if empty := (counts == 0).nonzero().flatten().tolist():
        farthest = torch.cat(cosines).topk(len(empty), largest=False).indices
        moved[empty] = rows[farthest]
    return moved
