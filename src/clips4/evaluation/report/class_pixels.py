"""Pixels of each class, for the figure of text, teacher and student vectors."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.data.segmentation_dataset import LabeledFolder
from clips4.inference.segmenter import Segmenter
from clips4.utils.tensors import resize_map


def pixels_by_class(
    teacher: Segmenter, student: Segmenter, dataset: LabeledFolder, classes: int = 10, each: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """Vectors of teacher and student at the same places of the classes that occur in most images.

    Args:
        classes: shown at most.
        each: places per class, drawn evenly from the first images that have the class.

    Returns:
        Teacher (N, D), student (N, D), class of each (N,) as an index into the last: the set's numbers of the classes.
    """
    generator = np.random.default_rng(seed)
    truths = [dataset.truth(index) for index in range(len(dataset))]
    occurs = np.array([[(truth == label).mean() > 0.01 for label in range(len(dataset.classes))] for truth in truths])
    chosen = np.argsort(-occurs.sum(0), kind="stable")[:classes]
    chosen = chosen[occurs.sum(0)[chosen] > 0]
    left = dict.fromkeys(chosen.tolist(), each)
    parts: list[tuple[Tensor, Tensor]] = []
    labels: list[int] = []
    for index, (_, image, truth) in enumerate(dataset):
        wanted = [label for label in chosen.tolist() if occurs[index, label] and left[label]]
        if not wanted:
            continue
        maps = [encoder.embed(image) for encoder in (teacher, student)]
        size = maps[1].shape[1:]
        maps[0] = torch.nn.functional.normalize(resize_map(maps[0][None], (size[0], size[1]))[0], dim=0)
        y = ((np.arange(size[0]) + 0.5) * truth.shape[0] / size[0]).astype(int)
        x = ((np.arange(size[1]) + 0.5) * truth.shape[1] / size[1]).astype(int)
        small = truth[y][:, x].ravel()
        for label in wanted:
            places = np.flatnonzero(small == label)
            places = generator.permutation(places)[: min(left[label], max(4, each // 8))]
            left[label] -= len(places)
            at = torch.from_numpy(places)
            parts.append((maps[0].flatten(1).T[at].cpu(), maps[1].flatten(1).T[at].cpu()))
            labels += [chosen.tolist().index(label)] * len(places)
    return (
        torch.cat([part[0] for part in parts]),
        torch.cat([part[1] for part in parts]),
        np.array(labels, np.int64),
        chosen.astype(np.int64),
    )
