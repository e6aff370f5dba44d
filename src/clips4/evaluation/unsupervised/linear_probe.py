"""Linear probe: one linear layer on frozen pixel features (the transfer task)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from clips4.data.label_maps import IGNORE, ignore_value
from clips4.data.segmentation_dataset import LabeledFolder
from clips4.evaluation.metrics.confusion import SetScores, Tally, confusion_matrix
from clips4.evaluation.unsupervised.clusters import Features
from clips4.utils.progress import ProgressReporter, counted
from clips4.utils.tensors import resize_map


@dataclass(frozen=True)
class LinearProbeRecipe:
    """How the layer is trained.

    Multinomial logistic regression: features standardized per channel on the training pixels, LBFGS from zero (so that
    there is one optimum and no learning rate), an L2 penalty. Training pixels are drawn evenly from the labeled
    images, at the resolution of the features; each has the label of the true pixel at its center.

    Attributes:
        budget: training pixels in all.
        penalty: lambda of lambda / 2 * |W|^2, added to the mean cross-entropy.
        iterations: of LBFGS at most.
    """

    budget: int = 2**17
    penalty: float = 1e-4
    iterations: int = 100
    seed: int = 0


def score_linear_probe(
    features: Features,
    labeled: LabeledFolder,
    dataset: LabeledFolder,
    recipe: LinearProbeRecipe | None = None,
    progress: ProgressReporter | None = None,
) -> SetScores:
    """Train on a labeled set and score another; logits are upsampled to the original image size, then argmax."""
    recipe = recipe or LinearProbeRecipe()
    classes = len(dataset.classes)
    generator = torch.Generator().manual_seed(recipe.seed)
    per_image = max(1, recipe.budget // len(labeled))
    rows, labels = [], []
    for _, image, truth in counted(progress, "encoding the labeled set", labeled, len(labeled)):
        row, label = labeled_pixels(features(image).cpu(), truth, per_image, generator, ignore_value(classes))
        rows.append(row)
        labels.append(label)
    layer = fit_linear_probe(torch.cat(rows), torch.cat(labels), classes, recipe)
    counts = Tally(classes)
    for _, image, truth in counted(progress, "scoring", dataset, len(dataset)):
        with torch.no_grad():
            logits = layer(features(image).cpu().permute(1, 2, 0)).permute(2, 0, 1)
        predicted = resize_map(logits[None], truth.shape)[0].argmax(0)
        counts.add(confusion_matrix(truth, predicted.numpy(), classes))
    return SetScores.collect(dataset.images, counts)


def labeled_pixels(
    z: Tensor, truth: NDArray[np.integer], count: int, generator: torch.Generator, ignore: int = IGNORE
) -> tuple[Tensor, Tensor]:
    """Up to ``count`` pixels of a (D, h, w) map with the label at their center: (P, D), (P,); ignored ones left out."""
    height, width = z.shape[1:]
    y = ((np.arange(height) + 0.5) * truth.shape[0] / height).astype(np.int64)
    x = ((np.arange(width) + 0.5) * truth.shape[1] / width).astype(np.int64)
    label = torch.from_numpy(truth[y][:, x].astype(np.int64)).flatten()
    counted = (label != ignore).nonzero().flatten()
    chosen = counted[torch.randperm(len(counted), generator=generator)[:count]]
    return z.flatten(1).T[chosen], label[chosen]


def fit_linear_probe(rows: Tensor, labels: Tensor, classes: int, recipe: LinearProbeRecipe) -> nn.Linear:
    """Multinomial logistic regression of (P,) labels on (P, D) rows; the standardization is folded into the layer.

    Raises:
        ValueError: no row.
    """
    if not len(rows):
        raise ValueError("no labeled pixel to train on")
    mean, std = rows.mean(0), rows.std(0, unbiased=False).clamp(min=1e-6)
    standard = (rows - mean) / std
    layer = nn.Linear(rows.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=recipe.iterations, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(layer(standard), labels) + recipe.penalty / 2 * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        layer.weight.div_(std)
        layer.bias.sub_(layer.weight @ mean)
    return layer.requires_grad_(False)
