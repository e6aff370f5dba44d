"""Label propagation: the first frame's mask moves through video by similarity of pixel features to earlier frames.

The method of Wang et al. (CVPR 2019) and Jabri et al. (NeurIPS 2020), by which self-supervised features are compared on
DAVIS. For a pixel p of the new frame, over the pixels q of the context frames within ``radius``:

    a(p, q) = exp(z_p . z_q / temperature) over the ``top`` nearest q, normalized;   label(p) = sum_q a(p, q) label(q)

Labels stay soft from frame to frame; a frame's mask is their argmax after upsampling and min-max scaling per object.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.label_maps import IGNORE, WIDE_IGNORE
from clips4.data.masks import find_objects, read_mask
from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.encoding.features import load_features
from clips4.utils.images import RGB
from clips4.utils.tensors import resize_map
from clips4.utils.video import open_frames

_MAX_OBJECTS = 254
_TILE = 12  # side of the blocks of target pixels that are compared at a time
_OUTSIDE = -1e4  # cosine with positions outside the frame


@dataclass(frozen=True)
class Recipe:
    """How labels propagate; the defaults are those of the literature.

    Attributes:
        before: context frames before the new one, besides the first.
        radius: how far from p context pixels may be, in positions of the feature map (a square window).
        top: nearest context pixels whose labels are averaged, over all context frames together.
        temperature: of the softmax over them.
    """

    before: int = 7
    radius: int = 12
    top: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.before < 0 or self.radius < 0 or self.top < 1 or self.temperature <= 0:
            raise UserError(f"{self}: give before and radius of 0 or more, top of 1 or more, and a temperature above 0")


class FrameMask(NamedTuple):
    """A frame (H, W, 3) and its mask (H, W): the object of every pixel, 0 for none.

    uint8, or uint16 if an object's number is above 255.
    """

    name: str
    image: RGB
    mask: NDArray[np.integer]

    def __repr__(self) -> str:
        height, width = self.mask.shape
        return f"FrameMask({self.name}, {width} x {height} pixels)"


def propagate_masks(
    frames: str | Path | Iterable[RGB],
    mask: str | Path | NDArray[np.integer],
    features: str | Path | Encoder,
    recipe: Recipe | None = None,
    device: str = "auto",
) -> Iterator[FrameMask]:
    """Propagate the objects of a first mask through a sequence of frames.

    Args:
        frames: a folder of frames, a video file, or (H, W, 3) uint8 arrays, all of one size.
        mask: (H, W) numbers of the first frame's objects, 0 for none, see ``track``; or a PNG of them.
        features: a run, for the student's levels of strides 8 and 16 at long side 854 (as ``clips4 track`` uses); or an
            encoder, see ``inference.encoding.features.load_features``.
        recipe: how labels propagate.
        device: "auto", "cpu", "cuda" or "mps"; for the features of a run.

    Yields:
        The name of each frame (its index for arrays), the frame and its (H, W) mask of the same numbers; the first mask
        is the given one.

    Raises:
        UserError: no such file, an unreadable frame, no object in the mask, or sizes that differ.

    Example:
        >>> for name, image, mask in propagate_masks("frames/", "first.png", "runs/pets"):
        ...     print(name, mask.shape)
        0000 (72, 96)
        0001 (72, 96)
    """
    if isinstance(frames, str | Path):
        named: Iterable[tuple[str, RGB]] = open_frames(Path(frames))
    else:
        named = ((str(index), image) for index, image in enumerate(frames))
    if isinstance(mask, str | Path):
        mask = read_mask(Path(mask), find_objects([Path(mask)]).rules)
    if isinstance(features, str | Path):
        features = load_features("student:c3+c4", Path(features), long_side=854, device=device)
    return track(named, mask, features, recipe)


def track(
    frames: Iterable[tuple[str, RGB]],
    first: NDArray[np.integer],
    encoder: Encoder,
    recipe: Recipe | None = None,
    later: Mapping[int, NDArray[np.integer]] | None = None,
) -> Iterator[FrameMask]:
    """Frames with their masks, one after the other; the first mask is the given one.

    Memory holds the features of the first frame, of those where an object appears, and of ``recipe.before`` others.

    Args:
        frames: name and image (H, W, 3) uint8 of each, all of one size; ``utils.video.open_frames`` yields them.
        first: (H, W) numbers of the first frame's objects, 0 for none: at most 254 different ones, 1 to 65534 but for
            255; gaps are allowed.
        encoder: of the features that are compared, see ``inference.encoding.features.load_features``.
        recipe: how labels propagate.
        later: frame's index (from 0 on) -> (H, W) objects that appear there, with numbers of their own, 0 elsewhere.
            Their pixels stay as given; such a frame remains in the context, as the first one does.

    Raises:
        UserError: no object, a mask of another size, or frames whose size changes.
    """
    recipe, later = recipe or Recipe(), later or {}
    numbers = np.unique(np.concatenate([[0], *(np.unique(mask) for mask in (first, *later.values()))]))
    count = len(numbers) - 1 if first.any() else 0
    if not 1 <= count <= _MAX_OBJECTS:
        raise UserError(f"the first mask has {count} objects; mark 1 to {_MAX_OBJECTS}, each with a number of its own")
    if numbers[0] < 0 or IGNORE in numbers or numbers[-1] >= WIDE_IGNORE:
        wrong = next(number for number in (numbers[0], IGNORE, numbers[-1]) if number and number in numbers)
        raise UserError(f"the masks have an object {wrong}; number objects 1 to 254, or up to 65534 without 255")
    numbers = numbers.astype(np.uint8 if numbers[-1] < IGNORE else np.uint16)
    first, later = np.searchsorted(numbers, first), {at: np.searchsorted(numbers, mask) for at, mask in later.items()}
    context: deque[tuple[Tensor, Tensor]] = deque(maxlen=recipe.before)
    anchors: list[tuple[Tensor, Tensor]] = []
    for index, (name, image) in enumerate(frames):
        if image.shape[:2] != first.shape:
            raise UserError(f"frame {name}: {image.shape[:2]} is not the size {first.shape} of the first mask")
        z = encoder.embed(image)
        blocks = source_blocks(z, recipe.radius)
        if not anchors:
            anchors.append((blocks, soften(first, count, z)))
            yield FrameMask(name, image, numbers[first])
            continue
        sources = [*anchors, *context]
        labels = propagate(z, [each[0] for each in sources], [each[1] for each in sources], recipe)
        if index not in later:
            context.append((blocks, labels))
            yield FrameMask(name, image, numbers[harden(labels, first.shape)])
            continue
        new = later[index]
        if new.shape != first.shape:
            raise UserError(f"mask of frame {name}: {new.shape} is not the size {first.shape} of the first mask")
        given = soften(new, count, z)
        labels = labels * given[:1]  # labels so far remain where no new object is
        labels[1:] += given[1:]
        anchors.append((blocks, labels))
        yield FrameMask(name, image, numbers[np.where(new > 0, new, harden(labels, first.shape))])


def soften(mask: NDArray[np.integer], count: int, z: Tensor) -> Tensor:
    """(H, W) objects 0..count -> (count + 1, h, w) soft labels at the size of a feature map: shares of each cell."""
    one_hot = F.one_hot(torch.from_numpy(mask.astype(np.int64)), count + 1).permute(2, 0, 1).float()
    return F.interpolate(one_hot[None].to(z.device), z.shape[1:], mode="area")[0]


@torch.no_grad()
def source_blocks(z: Tensor, radius: int) -> Tensor:
    """A context frame, padded so that every window lies inside: (rows, columns, D + 1), the channels last.

    The additional channel is ``_OUTSIDE`` in the padding and 0 in the frame. Targets have 1 there, so that pixels
    outside the frame are never near: one more product instead of a mask.
    """
    height, width = z.shape[1:]
    rows, columns = (-(-side // _TILE) * _TILE + 2 * radius for side in (height, width))
    padded = z.new_zeros(rows, columns, z.shape[0] + 1)
    padded[..., -1] = _OUTSIDE
    padded[radius : radius + height, radius : radius + width, :-1] = z.permute(1, 2, 0)
    padded[radius : radius + height, radius : radius + width, -1] = 0
    return padded


@torch.no_grad()
def propagate(z: Tensor, sources: list[Tensor], labels: list[Tensor], recipe: Recipe) -> Tensor:
    """Soft labels of a new frame.

    The frame is divided into tiles. A tile is multiplied with the block of a context frame that contains the windows of
    all its pixels: about twice the products needed, and no full matrix.

    Args:
        z: (D, h, w) features of the new frame, unit along D.
        sources: T context frames from ``source_blocks``.
        labels: T of (C, h, w), their soft labels.
        recipe: see ``Recipe``.

    Returns:
        (C, h, w); if the labels of every source sum to 1 at each pixel, so do these.
    """
    height, width = z.shape[1:]
    window, side = 2 * recipe.radius + 1, _TILE + 2 * recipe.radius
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    padded = z.new_zeros(rows * _TILE, columns * _TILE, len(z) + 1)
    padded[:height, :width, :-1] = z.permute(1, 2, 0)
    padded[..., -1] = 1
    targets = _tiles(padded, _TILE)  # (rows, columns, TILE^2, D + 1)
    stack = torch.stack(labels).permute(0, 2, 3, 1)  # (T, h, w, C)
    mixed = z.new_empty(rows, columns, _TILE**2, stack.shape[-1])
    pixel = torch.arange(_TILE**2, device=z.device)[None, :, None]
    for row in range(rows):  # one strip of tiles at a time bounds memory
        nearest = [
            _nearest_in_window(targets[row], source[row * _TILE : row * _TILE + side], window, recipe.top)
            for source in sources
        ]
        candidates = torch.cat([each[0] for each in nearest], 2)  # (columns, TILE^2, T * top)
        value, chosen = candidates.topk(min(recipe.top, candidates.shape[2]), dim=2)
        index = torch.cat([each[1] for each in nearest], 2).gather(2, chosen)  # place in the window
        frame = chosen // nearest[0][0].shape[2]
        column = torch.arange(columns, device=z.device)[:, None, None]
        y = row * _TILE + pixel // _TILE + index // window - recipe.radius
        x = column * _TILE + pixel % _TILE + index % window - recipe.radius
        # positions outside have weight 0, or belong to targets that only fill the last tiles
        given = stack[frame, y.clamp(0, height - 1), x.clamp(0, width - 1)]  # (columns, TILE^2, top, C)
        mixed[row] = ((value / recipe.temperature).softmax(2)[..., None] * given).sum(2)
    whole = mixed.view(rows, columns, _TILE, _TILE, -1).permute(4, 0, 2, 1, 3)
    return whole.reshape(-1, rows * _TILE, columns * _TILE)[:, :height, :width]


def _nearest_in_window(targets: Tensor, strip: Tensor, window: int, top: int) -> tuple[Tensor, Tensor]:
    """The ``top`` nearest source pixels in each target's window: cosines and places in it, (tiles, TILE^2, top) each.

    Args:
        targets: (tiles, TILE^2, D + 1) of a row of tiles.
        strip: (side, columns, D + 1) the source rows that hold their windows.
    """
    side = len(strip)
    blocks = strip.unfold(1, side, _TILE).permute(1, 0, 3, 2).reshape(len(targets), side * side, -1)
    similarity = torch.bmm(targets, blocks.transpose(1, 2)).view(len(targets), _TILE, _TILE, side, side)
    s0, s1, s2, s3, s4 = similarity.stride()
    # the window of a target is a view of its block, shifted by the target's place in the tile
    shape, strides = (len(targets), _TILE, _TILE, window, window), (s0, s1 + s3, s2 + s4, s3, s4)
    value, index = (
        similarity.as_strided(shape, strides).reshape(len(targets), _TILE**2, -1).topk(min(top, window**2), dim=2)
    )
    return value, index


def _tiles(maps: Tensor, side: int) -> Tensor:
    """(h, w, D) -> (rows, columns, side^2, D), squares side by side."""
    height, width, channels = maps.shape
    cut = maps.view(height // side, side, width // side, side, channels)
    return cut.permute(0, 2, 1, 3, 4).reshape(height // side, width // side, side * side, channels)


def harden(labels: Tensor, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Soft labels (C, h, w) -> (H, W) objects: upsampled, each scaled to [0, 1] over the frame, argmax.

    The scaling (Jabri et al.) lets small objects, whose labels fade, compete with the background; a constant label is
    not scaled.
    """
    large = resize_map(labels[None], (size[0], size[1]))[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    spread = high - low
    scaled = torch.where(spread > 0, (large - low) / spread.clamp(min=1e-12), large)
    return scaled.argmax(0).to(torch.uint8).cpu().numpy()
