"""Fewer dimensions for the teacher's maps on disk, with nothing lost that the class vectors see."""

import torch
from torch import Tensor


@torch.no_grad()
def fit_basis(text: Tensor, samples: Tensor, dims: int) -> Tensor:
    """An orthonormal basis whose span holds every class vector, filled up with the samples' main directions.

    For x' = P^T P x and any class vector t, t . x' = t . x: whatever is dropped, the nearest class stays the nearest.
    What is dropped is the part of x outside the span, of least energy among all choices that keep the classes.

    Args:
        text: (K, D) class vectors.
        samples: (P, D) unit vectors of the teacher's maps; uncentered principal directions of what text does not span.
        dims: d, K <= d <= D.

    Returns:
        P (d, D), orthonormal rows, float32.

    Raises:
        ValueError: fewer dims than classes, or more than D.
    """
    if not len(text) <= dims <= text.shape[1]:
        raise ValueError(f"dims is from K = {len(text)} to D = {text.shape[1]}, got {dims}")
    text, samples = text.double().cpu(), samples.double().cpu()
    _, values, directions = torch.linalg.svd(text, full_matrices=False)
    spanned = directions[values > 1e-9 * values.max()]
    rest = samples - samples @ spanned.T @ spanned
    # what text spans has no energy left; make sure that rounding does not choose it again
    energies, vectors = torch.linalg.eigh(rest.T @ rest - spanned.T @ spanned)
    filler = vectors[:, energies.argsort(descending=True)[: dims - len(spanned)]].T
    return torch.linalg.qr(torch.cat([spanned, filler]).T).Q.T.float().contiguous()
