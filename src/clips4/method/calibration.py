"""The teacher's space, calibrated: the offsets of both modalities removed, and temperatures scaled to its spread.

CLIP's vectors lie in a narrow cone per modality (Liang et al., "Mind the Gap", NeurIPS 2022): all pixel vectors share
one offset, all text vectors another, and what tells classes apart is a small part of their length. With pixel vectors x
and text vectors t as the teacher gives them,

    x' = normalize(x - mu_x)    mu_x = (1 - rho) mean over training images + rho mean over reference images, of each
                                image's mean pixel vector
    t' = normalize(t - mu_t)    mu_t = mean over a fixed vocabulary

Everything after the teacher (segments, prototypes, losses, predictions) sees x' and t' alone. Not in the paper.

Where this is exactly invariant: let x~ = s Q x + b and t~ = r Q t + d, with s, r > 0, any b and d, and Q with
orthonormal columns (a rotation, or an embedding into more dimensions). Means move along, so x~ - mu_x~ = s Q (x -
mu_x), x~' = Q x' and t~' = Q t'; every cosine, hence every loss and argmax, stays as it was. A teacher that
normalizes x~ afterwards divides it by |s Q x + b|; the same holds where that length is constant, as for unit x and b
orthogonal to every Q x. Elsewhere lengths differ by a share of up to s |b| / (s^2 + |b|^2), and the invariance holds
to first order in s / |b| only.

Offsets calibrate directions, not how widely they spread. The spread of each kind of cosine is kept beside them,

    sigma_text   rms over segments of the standard deviation, over the vocabulary, of x' . t'
    sigma_pixel  rms of x'_i . x'_j over segments of different images

both measured on the reference images with their own mean as mu_x, so that they belong to the teacher and not to the
training images. A temperature is given for the built-in teacher and becomes

    tau_text = tau sigma_text / SIGMA_TEXT    tau_pixel = tau sigma_pixel / SIGMA_PIXEL    kappa as 1 / tau_pixel

Reference images are a few photographs of anything. Where all training images show the same thing, their own mean *is*
that thing, and removing all of it removes the class: rho = 1 for few images (``extensions.reference_share``). The
weights sum to 1, so that any common offset still cancels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clips4.config import ObjectiveConfig
from clips4.utils import distributed

# of the built-in teacher on the reference images
SIGMA_TEXT = 0.108172
SIGMA_PIXEL = 0.177429
_ROUNDING = 1e-5  # values of a calibrated text vector below this share of the largest one are rounding errors
_SHORTEST = 1e-6  # of a difference to the offset, as a share of the vector's length; shorter ones have no direction
_OFFSETS, _SPREADS = ("space.pixel_offset", "space.text_offset"), "space.spreads"


@dataclass(frozen=True, repr=False)
class SpaceCalibration:
    """Offsets and spreads of a teacher's space, estimated once per run.

    Attributes:
        pixel_offset: (D,) mu_x.
        text_offset: (D,) mu_t.
        pixel_spread: sigma_pixel, of calibrated vectors.
        text_spread: sigma_text, of calibrated vectors.
    """

    pixel_offset: Tensor
    text_offset: Tensor
    pixel_spread: float = SIGMA_PIXEL
    text_spread: float = SIGMA_TEXT

    def __repr__(self) -> str:
        dims, pixel, text = len(self.pixel_offset), self.pixel_spread, self.text_spread
        return f"SpaceCalibration({dims} dimensions, spreads {pixel:.4f} of pixels and {text:.4f} of text)"

    def calibrate_pixels(self, pixel_map: Tensor) -> Tensor:
        """(D, h, w) or (B, D, h, w) as the teacher gives them -> the same, unit along D, float32 or float64."""
        offset = self.pixel_offset.to(pixel_map.device).view(-1, 1, 1)
        return directions(pixel_map, offset, pixel_map.ndim - 3)

    def calibrate_text(self, text: Tensor) -> Tensor:
        """(K, D) text vectors -> (K, D) unit rows; rounding errors in a dimension that names do not have become 0."""
        rows = directions(text, self.text_offset.to(text.device), 1)
        return torch.where(rows.abs() > _ROUNDING * rows.abs().max(), rows, torch.zeros_like(rows))

    def text_temperature(self, temperature: float) -> float:
        """The tau of cosines between pixels and text, from that of the built-in teacher."""
        return temperature * self.text_spread / SIGMA_TEXT

    def pixel_temperature(self, temperature: float) -> float:
        """The tau of cosines between pixels, segments and prototypes, from that of the built-in teacher."""
        return temperature * self.pixel_spread / SIGMA_PIXEL

    def scale_objective(self, settings: ObjectiveConfig) -> ObjectiveConfig:
        """The same settings with tau and kappa of pixel cosines in this space."""
        tau = self.pixel_temperature(settings.temperature)
        return settings.model_copy(
            update={"temperature": tau, "concentration": 1 / self.pixel_temperature(1 / settings.concentration)}
        )

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; ``from_tensors`` reads it."""
        spreads = torch.tensor([self.pixel_spread, self.text_spread], dtype=torch.float64)
        return {**dict(zip(_OFFSETS, (self.pixel_offset, self.text_offset), strict=True)), _SPREADS: spreads}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "SpaceCalibration | None":
        """The reverse of ``tensors``; None where there is none, as in runs in the raw space.

        Raises:
            KeyError: only a part of it is there.
        """
        if not any(name in tensors for name in (*_OFFSETS, _SPREADS)):
            return None
        pixel_spread, text_spread = tensors[_SPREADS].tolist()
        return cls(tensors[_OFFSETS[0]], tensors[_OFFSETS[1]], pixel_spread, text_spread)


class MeanPixel:
    """The mean over images of each image's mean pixel vector, in memory that does not grow with their number.

    Args:
        dims: D.
    """

    def __init__(self, dims: int):
        self._sum, self._images = torch.zeros(dims, dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def add(self, pixel_map: Tensor) -> None:
        """Add the map (D, h, w) of one image, as the teacher gives it."""
        self._sum += pixel_map.detach().cpu().double().flatten(1).mean(1)
        self._images += 1

    def result(self) -> Tensor:
        """(D,) float64, over the images of all ranks.

        Raises:
            ValueError: no image was added on any rank.
        """
        total, images = distributed.total(self._sum), distributed.total(self._images)
        if not images:
            raise ValueError("no image was added; a space is calibrated on one image at least")
        return total / images


@torch.no_grad()
def calibrate_space(
    training_mean: Tensor,
    reference_mean: Tensor,
    vocabulary: Tensor,
    spreads: tuple[float, float] = (SIGMA_PIXEL, SIGMA_TEXT),
    share: float = 0.5,
) -> SpaceCalibration:
    """The calibration from means of raw vectors.

    Args:
        training_mean: (D,) mean pixel vector of the training images; see ``MeanPixel``.
        reference_mean: (D,) that of the reference images.
        vocabulary: (V, D) text vectors of a fixed vocabulary, as the teacher gives them.
        spreads: sigma_pixel and sigma_text; see ``pixel_spread`` and ``text_spread``.
        share: rho, in [0, 1].
    """
    pixel = (1 - share) * training_mean.double() + share * reference_mean.double()
    return SpaceCalibration(pixel.float(), vocabulary.double().mean(0).float(), *spreads)


@torch.no_grad()
def pixel_spread(rows: Tensor, image: Tensor) -> float:
    """sigma_pixel of calibrated unit rows.

    Args:
        rows: (S, D) segments.
        image: (S,) image of each; where there is only one, the result is ``SIGMA_PIXEL``.
    """
    apart = image[:, None] != image[None, :]
    if not bool(apart.any()):
        return SIGMA_PIXEL
    return float((rows @ rows.T)[apart].square().mean().sqrt())


@torch.no_grad()
def text_spread(rows: Tensor, vocabulary: Tensor) -> float:
    """sigma_text of calibrated unit rows (S, D) of segments and (V, D) of the vocabulary."""
    return float((rows @ vocabulary.T).var(1, correction=0).mean().sqrt())


def directions(vectors: Tensor, offset: Tensor, dim: int) -> Tensor:
    """normalize(vectors - offset) along ``dim``; 0 for vectors at the offset itself, up to rounding."""
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    difference = vectors - offset.to(vectors.dtype)
    length = torch.linalg.vector_norm(difference, dim=dim, keepdim=True)
    shortest = _SHORTEST * torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(length > shortest, difference / length.clamp_min(1e-12), torch.zeros_like(difference))


@torch.no_grad()
def unknown_margin(gap: Tensor, cap: float) -> float:
    """How much nearer to an unknown prototype than to every known one a pixel is before it counts as unknown.

        delta = max(0, the smallest margin with which at most ``cap`` of the pixels are unknown)

    Args:
        gap: (P,) max_u z . c_u - max_k z . c_k of training pixels.
        cap: share of them that may be unknown; 1 is no limit, and gives 0, as in the paper.
    """
    if cap >= 1 or not len(gap):
        return 0.0
    ordered = gap.double().sort().values
    # a pixel is unknown where its gap is larger than the margin, so that floor(cap P) of them may be
    return max(0.0, float(ordered[len(ordered) - 1 - int(cap * len(ordered))]))
