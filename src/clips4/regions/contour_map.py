"""The result of a contour detector: the strength of contours across every direction."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


class ContourMap(NamedTuple):
    """Strength of contours.

    Attributes:
        strength: (H, W) in [0, 1], the maximum over directions.
        tensor: (3, H, W) T_xx, T_xy, T_yy: the strength across the unit normal n is sqrt(n' T n).
    """

    strength: Map
    tensor: Map


def max_strength(tensor: Map) -> Map:
    """(3, H, W) -> (H, W) sqrt(n' T n) across the direction n that maximizes it."""
    xx, xy, yy = tensor
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy * xy)
    result: Map = np.sqrt(np.maximum((xx + yy + spread) / 2, 0))
    return result


ISOTROPY = 0.1  # share of a contour's squared strength that counts across any direction


def from_strength(strength: NDArray[np.floating], smoothing: float = 2.0, isotropy: float = ISOTROPY) -> ContourMap:
    """A contour map from strengths alone, such as a network's: the normal is the direction of greatest curvature.

    Args:
        strength: (H, W) in [0, 1].
        smoothing: pixels (sigma) over which the curvature is taken.
        isotropy: share of the squared strength that counts across any direction; 1 ignores orientation.
    """
    from scipy.ndimage import gaussian_filter

    s = np.clip(strength, 0, 1).astype(np.float32)
    xx, xy, yy = (gaussian_filter(s, smoothing, order) for order in ((0, 2), (1, 1), (2, 0)))
    # on a ridge the normal belongs to the lowest eigenvalue of the Hessian; 2 theta is its doubled angle
    angle = 0.5 * np.arctan2(-2 * xy, yy - xx)
    x, y = np.cos(angle), np.sin(angle)
    own, every = (1 - isotropy) * s * s, isotropy * s * s
    return ContourMap(s, np.stack([own * x * x + every, own * x * y, own * y * y + every]))
