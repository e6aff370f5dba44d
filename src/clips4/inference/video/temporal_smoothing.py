"""Labels that are steady over the frames of a video: embeddings averaged over time along the motion of pixels.

Frame by frame, pixels between two classes flicker. Here each frame's embeddings are mixed with those of the frames
before, which label propagation moves to where their pixels are now:

    y_p = normalize( (1 - g_p) z_p + g_p sum_q a(p, q) y_q )
    g_p = weight * clamp((m_p . z_p - low) / (1 - low), 0, 1)

with q over the frame before, a(p, q) the affinities of ``label_propagation`` between z_p and z_q, and m_p the
normalized sum of a(p, q) z_q: pixels that differ from those before, as after a cut, are not mixed.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.video.label_propagation import Recipe, propagate, source_blocks


@dataclass(frozen=True)
class Steadiness:
    """How strongly earlier frames count.

    Attributes:
        weight: g of pixels that look the same as before, in [0, 1); 0 leaves frames as they are.
        radius: how far pixels move from frame to frame at most, in positions of the embedding map.
        low: cosine to the earlier frame at which it no longer counts.
    """

    weight: float = 0.8
    radius: int = 3
    low: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1 or self.radius < 0 or not -1 <= self.low < 1:
            raise UserError(f"{self}: give a weight of 0 to below 1, a radius of 0 or more, low below 1")


class SteadyEmbeddings:
    """Mixes the embeddings of each frame with those of the frames before; call it on one frame after the other."""

    def __init__(self, steadiness: Steadiness | None = None):
        self._how = steadiness or Steadiness()
        self._recipe = Recipe(before=1, radius=self._how.radius)
        self._before: tuple[Tensor, Tensor, Tensor] | None = None  # blocks of z, z itself, y

    @torch.no_grad()
    def __call__(self, z: Tensor) -> Tensor:
        """(D, h, w) z of the next frame -> y, both unit along D. It starts again when the size changes."""
        if not self._how.weight:
            return z
        y = z
        if self._before is not None and self._before[1].shape == z.shape:
            blocks, earlier, steady = self._before
            moved = propagate(z, [blocks], [torch.cat([earlier, steady])], self._recipe)
            likeness = (F.normalize(moved[: len(z)], dim=0) * z).sum(0)
            gate = self._how.weight * ((likeness - self._how.low) / (1 - self._how.low)).clamp(0, 1)
            y = F.normalize((1 - gate) * z + gate * moved[len(z) :], dim=0)
        self._before = source_blocks(z, self._how.radius), z, y
        return y


def flicker(before: NDArray[np.integer], after: NDArray[np.integer]) -> float:
    """Share of the pixels (H, W) whose label changes from one frame to the next, in [0, 1]."""
    return float((before != after).mean())
