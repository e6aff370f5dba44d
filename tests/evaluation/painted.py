"""A set of painted images whose predictions are known: color is class."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clips4.data.class_names import load_classes
from clips4.data.label_maps import IGNORE
from clips4.data.segmentation_dataset import LabeledFolder, value_table
from clips4.utils.images import RGB

CLASSES = load_classes("red,green,blue")


def colors(image: RGB) -> Tensor:
    """(H, W, 3) -> (3, H / 4, W / 4) unit."""
    images = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return F.normalize(F.avg_pool2d(images[None], 4)[0] + 1e-3, dim=0)


def painted_set(root: Path, count: int = 3, shift: int = 0, void: bool = True) -> LabeledFolder:
    """Images of three stripes, whose widths differ; class = color + shift; a corner is void."""
    root.mkdir(parents=True, exist_ok=True)
    images, masks = [], []
    for index in range(count):
        truth = np.zeros((32, 48), np.uint8)
        truth[:, 8 + 4 * index :], truth[:, 28 + 4 * index :] = 1, 2
        shown = (np.eye(3, dtype=np.uint8) * 200 + 20)[(truth + shift) % 3]
        if void:
            truth[:4, :4] = IGNORE
        images.append(root / f"{index}.png")
        masks.append(root / f"{index}_truth.png")
        Image.fromarray(shown).save(images[-1])
        Image.fromarray(truth).save(masks[-1])
    return LabeledFolder(tuple(images), tuple(masks), CLASSES, value_table(range(3)))
