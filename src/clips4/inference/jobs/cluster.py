"""Clusters of a set of pictures, without words: what `clips4 cluster` does.

Spherical k-means over pixel embeddings drawn evenly from all pictures gives k centres; each pixel of each picture gets
the nearest. Cluster numbers mean the same in all pictures; the largest is the first. The centres are kept beside the
answers, so that a repeated command goes on with them.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clips4.data.image_folder import JobOutcome
from clips4.errors import UserError
from clips4.inference.clustering import BUDGET, cluster_query
from clips4.inference.jobs.folder import plan, predict_folder
from clips4.inference.jobs.manifest import file_stamp
from clips4.inference.jobs.segment import Loaded
from clips4.inference.segmenter import Segmenter
from clips4.method.minibatch_kmeans import nearest, sample_rows, spherical_kmeans_of_set
from clips4.outputs.encode import ImagePrediction
from clips4.outputs.render import parse_kinds
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import content_key, settings_key
from clips4.utils.progress import ProgressReporter

CENTERS = "clusters.npz"


def cluster_files(
    loaded: Loaded, k: int, out: Path, save: str, restarts: int, seed: int, force: bool, progress: ProgressReporter
) -> JobOutcome:
    """Cluster all pictures together and write each one's files, then those of the folder.

    Args:
        k: clusters.
        restarts: of k-means; the best is kept.
        seed: of the drawing of pixels and of k-means.

    Raises:
        UserError: fewer pixels than clusters, or no readable picture; a broken picture is skipped.
    """
    segmenter, kinds = loaded.segmenter, parse_kinds(save)
    images, _ = plan(loaded.images, out)
    pictures = [(str(path.resolve()), file_stamp(path)) for path in images]
    query = settings_key({**loaded.identity, "k": k, "restarts": restarts, "seed": seed, "pictures": pictures})
    centers = None if force else read_centers(out / CENTERS, query)
    if centers is None:
        centers = find_centers(segmenter, images, k, restarts, seed, progress)
        write_centers(out / CENTERS, centers, query)

    asked = cluster_query(centers)

    def answer(path: Path, stem: str) -> ImagePrediction:
        return ImagePrediction(segmenter.answer(segmenter.read(path), asked, unknown=False), path, stem)

    settings_hash = settings_key({**loaded.identity, "centres": content_key(centers.numpy().tobytes())})
    return predict_folder(images, out, kinds, asked.names, settings_hash, answer, force, progress)


def find_centers(
    segmenter: Segmenter, paths: Sequence[Path], k: int, restarts: int, seed: int, progress: ProgressReporter
) -> Tensor:
    """(k, D) unit centres of a set's pixel embeddings, by falling number of pixels.

    Raises:
        UserError: fewer pixels than clusters, or no readable picture.
    """
    generator = torch.Generator().manual_seed(seed)
    progress.stage("drawing pixels", len(paths))
    wrong: list[UserError] = []

    def maps() -> Iterator[Tensor]:
        for path in paths:
            try:
                z = segmenter.embed(path)
            except UserError as error:
                wrong.append(error)
            else:
                yield z
            progress.advance({})

    try:
        rows = sample_rows(maps(), len(paths), max(BUDGET, k), generator)
    except ValueError:
        raise UserError(f"none of {len(paths)} pictures could be read; the first: {wrong[0]}")
    if len(rows) < k:
        raise UserError(
            f"--k {k}: the pictures have {len(rows)} embeddings in all; give more pictures, or fewer clusters"
        )
    progress.stage("k-means", restarts)
    centers = spherical_kmeans_of_set(rows, k, generator, restarts, advance=lambda: progress.advance({}))
    sizes = torch.bincount(torch.cat([index for _, index in nearest(rows, centers)]), minlength=k)
    return centers[sizes.argsort(descending=True, stable=True)]


def write_centers(path: Path, centers: Tensor, query: str) -> None:
    """Keep centres, with the key of what they are the answer to."""
    buffer = io.BytesIO()
    np.savez(buffer, centres=centers.numpy(), question=np.array(query))  # the keys of all files written so far
    write_atomically(path, buffer.getvalue())


def read_centers(path: Path, query: str) -> Tensor | None:
    """The centres kept for this question; None where there are none, or those of another."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return torch.from_numpy(saved["centres"]) if str(saved["question"]) == query else None
    except (OSError, ValueError, KeyError, EOFError):
        return None
