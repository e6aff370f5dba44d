"""Clustering images without class names: what `clips4 cluster` does.

Spherical k-means over pixel embeddings sampled evenly from all images gives k centers; each pixel of each image gets
the nearest. Cluster numbers mean the same in all images; the largest cluster is the first. The centers are saved beside
the outputs, so that the same command resumes with them.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clips4.data.image_folder import JobOutcome, reason_to_skip
from clips4.errors import UserError
from clips4.inference.clustering import BUDGET, cluster_query
from clips4.inference.jobs.folder import folder_files
from clips4.inference.jobs.load import Loaded
from clips4.inference.jobs.segment import segment_images
from clips4.inference.segmenter import Segmenter
from clips4.method.minibatch_kmeans import fit_minibatch_kmeans, nearest_center, sample_rows
from clips4.outputs.encode import parse_kinds
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import settings_key
from clips4.utils.images import load_rgb
from clips4.utils.output_folder.manifest import file_stamp
from clips4.utils.output_folder.names import file_location
from clips4.utils.output_folder.output import Output, open_folder, plan
from clips4.utils.parallel import map_ahead
from clips4.utils.progress import ProgressReporter
from clips4.utils.tensors import read_arrays
from clips4.utils.text import plural

CENTERS = "clusters.npz"


def cluster_files(
    loaded: Loaded, k: int, out: Path, save: str, restarts: int, seed: int, force: bool, progress: ProgressReporter
) -> JobOutcome:
    """Cluster all images together and write the files of each, then those of the folder.

    Args:
        loaded: a segmenter and images.
        k: number of clusters.
        out: folder to write to.
        save: kinds of output, e.g. "png,overlay".
        restarts: of k-means; the best one counts.
        seed: of the sample of pixels and of k-means.
        force: whether to redo what is done.
        progress: advances by image and by restart.

    Raises:
        UserError: fewer pixels than clusters, no readable image, or see ``manifest.plan``; an unreadable image is
            skipped.
    """
    kinds = parse_kinds(save)
    # the keys are those of all folders so far
    stamps = [(file_location(path), file_stamp(path)) for path in loaded.images]
    settings_hash = settings_key({**loaded.identity, "k": k, "restarts": restarts, "seed": seed, "pictures": stamps})
    output = Output(out, "cluster", kinds, settings_hash, force, [*folder_files(kinds), CENTERS])
    items = plan(output, loaded.images, loaded.inputs)
    centers = None if force else read_centers(out / CENTERS, settings_hash, k)
    if centers is None:
        centers = find_centers(loaded.segmenter, [item.path for item in items], k, restarts, seed, progress)
    open_folder(output)
    output.record_own([CENTERS])
    write_centers(out / CENTERS, centers, settings_hash)
    return segment_images(loaded.segmenter, cluster_query(centers), items, output, False, progress, keep=True)


def find_centers(
    segmenter: Segmenter, paths: Sequence[Path], k: int, restarts: int, seed: int, progress: ProgressReporter
) -> Tensor:
    """(k, D) unit centers of the pixel embeddings of all images, by decreasing number of pixels.

    Raises:
        UserError: fewer pixels than clusters, or no readable image.
    """
    generator = torch.Generator().manual_seed(seed)
    progress.stage("sampling pixels", len(paths))
    errors: list[str] = []

    def maps() -> Iterator[Tensor]:
        for _, image in map_ahead(load_rgb, paths):
            try:
                z = segmenter.embed(image.result())
            except Exception as error:
                errors.append(reason_to_skip(error))
            else:
                yield z
            progress.advance({})

    try:
        rows = sample_rows(maps(), len(paths), max(BUDGET, k), generator)
    except ValueError:
        raise UserError(f"none of {plural(len(paths), 'image')} could be read; the first: {errors[0]}")
    if len(rows) < k:
        raise UserError(
            f"--k {k}: the images have {len(rows)} pixel embeddings in all; give more images, or fewer clusters"
        )
    progress.stage("k-means", restarts)
    centers = fit_minibatch_kmeans(rows, k, generator, restarts, advance=lambda: progress.advance({}))
    sizes = torch.bincount(torch.cat([index for _, index in nearest_center(rows, centers)]), minlength=k)
    return centers[sizes.argsort(descending=True, stable=True)]


def write_centers(path: Path, centers: Tensor, settings_hash: str) -> None:
    """Save centers with the hash of the settings that they depend on."""
    buffer = io.BytesIO()
    np.savez(buffer, centres=centers.numpy(), question=np.array(settings_hash))  # keys of all files so far
    write_atomically(path, buffer.getvalue())


def read_centers(path: Path, settings_hash: str, k: int) -> Tensor | None:
    """The saved (k, D) centers of these settings; None if there are none, damaged ones, or those of other settings."""
    saved = read_arrays(path) or {}
    if str(saved.get("question")) != settings_hash or "centres" not in saved:
        return None
    centers = saved["centres"]
    sound = centers.ndim == 2 and len(centers) == k and centers.dtype == np.float32 and np.isfinite(centers).all()
    return torch.from_numpy(centers) if sound else None
