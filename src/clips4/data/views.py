"""Two views of an image: one sampling grid per view carries image, regions and the teacher's map to the same frame.

CLIP-S4 section 3.2: the teacher sees the un-augmented image once; its embedding map is augmented geometrically, never
its input. Photometric augmentation touches the student's image alone.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import DataConfig
from clips4.data.rng import PIXELS, VIEW, seeded
from clips4.utils.images import RGB
from clips4.utils.tensors import to_tensor

VIEWS = 2
ASPECT = 0.75, 1.333  # range of width / height of a crop, as in torchvision's RandomResizedCrop
JITTER = 0.4, 0.4, 0.4, 0.1  # strength of brightness, contrast, saturation and hue, as in HSG


class Views(NamedTuple):
    """V views of one image.

    Attributes:
        images: (V, 3, H, W) in [0, 1].
        regions: (V, h, w) int64, at the student's stride.
        pixel_map: (V, D, h, w) unit along D, at the student's stride.
    """

    images: Tensor
    regions: Tensor
    pixel_map: Tensor


class UnencodedViews(NamedTuple):
    """V views of one image whose teacher map is not computed yet.

    Attributes:
        images, regions: see ``Views``.
        image: (3, H, W) in [0, 1], for the teacher.
        crops: (V, 2, 3) affine maps to warp its teacher map with.
    """

    images: Tensor
    regions: Tensor
    image: Tensor
    crops: Tensor


def sample_crop(height: int, width: int, config: DataConfig, generator: torch.Generator) -> Tensor:
    """A random resized crop with flip, as the (2, 3) affine map from the view's to the image's coordinates.

    Coordinates are (x, y) in [-1, 1] as in ``torch.nn.functional.affine_grid``. The crop covers a uniform share of the
    image's area (``config.scale``) at a log-uniform aspect (``ASPECT``), lies inside it, and is flipped with
    probability ``config.flip_prob``.
    """
    share, log_aspect, x, y, flip = torch.rand(5, generator=generator).tolist()
    area = height * width * (config.scale[0] + share * (config.scale[1] - config.scale[0]))
    low, high = (math.log(bound) for bound in ASPECT)
    aspect = math.exp(low + log_aspect * (high - low))
    crop_width = min(math.sqrt(area * aspect), width)
    crop_height = min(math.sqrt(area / aspect), height)
    half_x, half_y = crop_width / width, crop_height / height
    mirror = -1.0 if flip < config.flip_prob else 1.0
    return torch.tensor([[mirror * half_x, 0, (2 * x - 1) * (1 - half_x)], [0, half_y, (2 * y - 1) * (1 - half_y)]])


def _grid(crop: Tensor, height: int, width: int) -> Tensor:
    return F.affine_grid(crop[None], [1, 1, height, width], align_corners=False)


def warp_image(image: Tensor, crop: Tensor, size: int) -> Tensor:
    """(3, H, W) -> (3, size, size), bilinear; an image that the view makes smaller is first reduced with a filter.

    The grid's coordinates are relative, so that the reduced image is sampled by the same crop.
    """
    shrink = max(image.shape[1] * crop[1, 1].abs().item(), image.shape[2] * crop[0, 0].abs().item()) / size
    if shrink > 1:
        reduced = [max(1, round(side / shrink)) for side in image.shape[1:]]
        image = F.interpolate(image[None], reduced, mode="bilinear", antialias=True, align_corners=False)[0]
    return F.grid_sample(image[None], _grid(crop, size, size), padding_mode="border", align_corners=False)[0]


def warp_regions(regions: Tensor, crop: Tensor, size: int) -> Tensor:
    """(H, W) integers -> (size, size), nearest."""
    grid = _grid(crop, size, size)
    values = regions[None, None].double()  # exact for any label
    warped = F.grid_sample(values, grid.double(), mode="nearest", padding_mode="border", align_corners=False)
    return warped[0, 0].long()


def warp_map(pixel_map: Tensor, crop: Tensor, size: int) -> Tensor:
    """(D, h, w) -> (D, size, size), bilinear, normalized along D."""
    warped = F.grid_sample(pixel_map[None].float(), _grid(crop, size, size), padding_mode="border", align_corners=False)
    return F.normalize(warped[0], dim=0)


def photometric(images: Tensor, config: DataConfig, generator: torch.Generator) -> Tensor:
    """Color jitter and gray by kornia, each view on its own: (V, 3, H, W) in [0, 1] -> the same.

    The numbers drawn, and so the results, are those of the two in an ``AugmentationSequential``, which computes an
    augmentation also where no view was drawn for it.
    """
    seed = int(torch.randint(2**62, (1,), generator=generator))
    if config.jitter_prob == config.grayscale_prob == 0:
        return images.clamp(0, 1)
    from kornia.augmentation import ColorJitter, RandomGrayscale

    # kornia draws from the global generator: seed it for this image alone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for augment in (ColorJitter(*JITTER, p=config.jitter_prob), RandomGrayscale(p=config.grayscale_prob)):
            drawn = augment.forward_parameters(images.shape)
            if (drawn["batch_prob"] > 0.5).any():
                images = augment(images, params=drawn)
    return images.clamp(0, 1)


def make_views(
    image: Tensor, regions: Tensor, pixel_map: Tensor, config: DataConfig, stride: int, generator: torch.Generator
) -> Views:
    """Two random views.

    Args:
        image: (3, H, W) in [0, 1].
        regions: (H, W) region map.
        pixel_map: (D, h, w) the teacher's map of the same image, at any resolution.
        config: how views are drawn.
        stride: the student's stride; regions and map are carried to ``config.crop / stride``.
        generator: source of all randomness.
    """
    views = make_unencoded_views(image, regions, config, stride, generator)
    size = config.crop // stride
    return Views(views.images, views.regions, torch.stack([warp_map(pixel_map, crop, size) for crop in views.crops]))


def make_unencoded_views(
    image: Tensor, regions: Tensor, config: DataConfig, stride: int, generator: torch.Generator
) -> UnencodedViews:
    """The views of ``make_views`` without the teacher's map."""
    if config.crop % stride:
        raise ValueError(f"crop {config.crop} is not a multiple of the student's stride {stride}")
    size = config.crop // stride
    crops = [sample_crop(image.shape[1], image.shape[2], config, generator) for _ in range(VIEWS)]
    images = torch.stack([warp_image(image, crop, config.crop) for crop in crops])
    return UnencodedViews(
        images=photometric(images, config, generator),
        regions=torch.stack([warp_regions(regions, crop, size) for crop in crops]),
        image=image,
        crops=torch.stack(crops),
    )


class Item(NamedTuple):
    """One image's part of a batch: its views, the pixels drawn for L_t (indices into V * h * w), its name.

    Where teacher maps are computed on the fly, views come without one: loader processes have no teacher.
    """

    views: Views | UnencodedViews
    drawn: Tensor
    name: str


class ItemMaker:
    """Turns an image into its part of a batch.

    Args:
        regions: the region map (H, W) of an image, given with its file.
        teacher_maps: the teacher's map (D, h, w) of an image; None leaves it to be computed later.
        config: how views are drawn.
        stride: the student's stride.
        seed: of all randomness.
        draw: pixels of each image's views that L_t is averaged over; 0 takes all.
    """

    def __init__(
        self,
        regions: Callable[[RGB, Path], NDArray[np.integer]],
        teacher_maps: Callable[[RGB], Tensor] | None,
        config: DataConfig,
        stride: int,
        seed: int,
        draw: int = 0,
    ):
        self._regions, self._teacher_maps, self._draw = regions, teacher_maps, draw
        self.config, self._stride, self.seed = config, stride, seed

    def __call__(self, image: RGB, name: str, place: int) -> Item:
        """The item of an image (H, W, 3) at a position of the stream, which alone decides the random numbers."""
        pixels, regions = to_tensor(image), torch.from_numpy(self._regions(image, Path(name)))
        random = seeded(self.seed, VIEW, place)
        views: Views | UnencodedViews
        if self._teacher_maps is None:
            views = make_unencoded_views(pixels, regions, self.config, self._stride, random)
        else:
            views = make_views(pixels, regions, self._teacher_maps(image), self.config, self._stride, random)
        return Item(views, draw_pixels(views.regions.numel(), self._draw, seeded(self.seed, PIXELS, place)), name)


def draw_pixels(pixels: int, limit: int, generator: torch.Generator) -> Tensor:
    """Indices of the pixels that L_t is averaged over: all, or ``limit`` different ones, each as likely as another."""
    if not limit or limit >= pixels:
        return torch.arange(pixels)
    return torch.randperm(pixels, generator=generator)[:limit]
