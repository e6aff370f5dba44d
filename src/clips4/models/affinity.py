"""Fixed affinity upsampling: positions of a coarse map are averaged where the fine features are alike and near.

Joint bilateral upsampling (Kopf et al., SIGGRAPH 2007) with features of a network in place of colors, over all coarse
positions q:

    z_p = normalize sum_q softmax_q( cos(f_p, f_q) / tau - |p - q|^2 / (2 sigma^2) ) z_q

f are the features, each channel standardized over the image; f_q is the mean of the unit f_p in the cell of q; |p - q|
is measured in coarse cells. Nothing is learned.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 2.0  # sigma, in coarse cells: near enough to mix neighbors, wide enough to cross a cell


def affinity_weights(
    keys: Tensor, coarse: tuple[int, int], size: tuple[int, int], temperature: float, radius: float
) -> Tensor:
    """Weights of the coarse positions in each fine one.

    Args:
        keys: (B, C, H, W) features of the image; H and W are multiples of ``coarse``.
        coarse: (h, w).
        size: (H', W') of the fine positions; the same as (H, W), or keys are resized bilinearly.
        temperature: tau.
        radius: sigma, in coarse cells.

    Returns:
        (B, H' * W', h * w), rows with sum 1.
    """
    ratio = keys.shape[-2] // coarse[0]
    # eps keeps a channel that is constant over the image at 0
    unit = F.normalize(F.instance_norm(keys.float(), eps=1e-5), dim=1)
    fine = F.normalize(F.interpolate(unit, size, mode="bilinear", align_corners=False), dim=1)
    similarity = torch.einsum("bcp,bcq->bpq", fine.flatten(2), F.normalize(F.avg_pool2d(unit, ratio), dim=1).flatten(2))
    rows, columns = (_squared_distances(n, m, keys.device) for n, m in zip(size, coarse, strict=True))
    distance = (rows[:, None, :, None] + columns[None, :, None, :]).flatten(2).flatten(0, 1)
    return (similarity / temperature - distance / (2 * radius**2)).softmax(2)


def _squared_distances(fine: int, coarse: int, device: torch.device) -> Tensor:
    """(fine, coarse) squared distances of positions along a side, in coarse cells."""
    p = (torch.arange(fine, device=device) + 0.5) / fine * coarse
    q = torch.arange(coarse, device=device) + 0.5
    return (p[:, None] - q).square()


def upsample_by_affinity(
    values: Tensor, keys: Tensor, size: tuple[int, int], temperature: float = 0.2, radius: float = RADIUS
) -> Tensor:
    """Bring a coarse map to a finer size along the outlines of ``keys``.

    Args:
        values: (B, D, h, w).
        keys: (B, C, H, W) features of the same image; H and W are multiples of h and w.
        size: (H', W').
        temperature: tau; a smaller one follows ``keys`` more closely.
        radius: sigma, in positions of ``values``.

    Returns:
        (B, D, H', W') float32, unit vectors along D.

    Raises:
        ValueError: the temperature or the radius is not positive.
    """
    if temperature <= 0 or radius <= 0:
        raise ValueError(f"temperature and radius are positive, got {temperature} and {radius}")
    weights = affinity_weights(keys, (values.shape[-2], values.shape[-1]), size, temperature, radius)
    mixed = torch.einsum("bpq,bdq->bdp", weights, values.float().flatten(2))
    return F.normalize(mixed.unflatten(2, size), dim=1)
