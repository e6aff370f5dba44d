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

from clips4.errors import UserError
from clips4.inference.clustering import BUDGET, cluster_question
from clips4.inference.jobs.folder import Outcome, answer_pictures, plan
from clips4.inference.jobs.manifest import stamp_of
from clips4.inference.jobs.segment import Loaded
from clips4.inference.segmenter import Segmenter
from clips4.method.minibatch_kmeans import nearest, sample_rows, spherical_kmeans_of_set
from clips4.outputs.encode import Answer
from clips4.outputs.render import parse_kinds
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import content_key, settings_key
from clips4.utils.listening import Listener

CENTRES = "clusters.npz"


def cluster_files(
    loaded: Loaded, k: int, out: Path, save: str, restarts: int, seed: int, force: bool, listener: Listener
) -> Outcome:
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
    pictures = [(str(path.resolve()), stamp_of(path)) for path in images]
    question = settings_key({**loaded.identity, "k": k, "restarts": restarts, "seed": seed, "pictures": pictures})
    centres = None if force else read_centres(out / CENTRES, question)
    if centres is None:
        centres = find_centres(segmenter, images, k, restarts, seed, listener)
        write_centres(out / CENTRES, centres, question)

    asked = cluster_question(centres)

    def answer(path: Path, stem: str) -> Answer:
        return Answer(segmenter.answer(segmenter.read(path), asked, unknown=False), path, stem)

    made_by = settings_key({**loaded.identity, "centres": content_key(centres.numpy().tobytes())})
    return answer_pictures(images, out, kinds, asked.names, made_by, answer, force, listener)


def find_centres(
    segmenter: Segmenter, paths: Sequence[Path], k: int, restarts: int, seed: int, listener: Listener
) -> Tensor:
    """(k, D) unit centres of a set's pixel embeddings, by falling number of pixels.

    Raises:
        UserError: fewer pixels than clusters, or no readable picture.
    """
    generator = torch.Generator().manual_seed(seed)
    listener.stage("drawing pixels", len(paths))
    wrong: list[UserError] = []

    def maps() -> Iterator[Tensor]:
        for path in paths:
            try:
                z = segmenter.embed(path)
            except UserError as error:
                wrong.append(error)
            else:
                yield z
            listener.advance({})

    try:
        rows = sample_rows(maps(), len(paths), max(BUDGET, k), generator)
    except ValueError:
        raise UserError(f"none of {len(paths)} pictures could be read; the first: {wrong[0]}")
    if len(rows) < k:
        raise UserError(
            f"--k {k}: the pictures have {len(rows)} embeddings in all; give more pictures, or fewer clusters"
        )
    listener.stage("k-means", restarts)
    centres = spherical_kmeans_of_set(rows, k, generator, restarts, advance=lambda: listener.advance({}))
    sizes = torch.bincount(torch.cat([index for _, index in nearest(rows, centres)]), minlength=k)
    return centres[sizes.argsort(descending=True, stable=True)]


def write_centres(path: Path, centres: Tensor, question: str) -> None:
    """Keep centres, with the key of what they are the answer to."""
    buffer = io.BytesIO()
    np.savez(buffer, centres=centres.numpy(), question=np.array(question))
    write_atomically(path, buffer.getvalue())


def read_centres(path: Path, question: str) -> Tensor | None:
    """The centres kept for this question; None where there are none, or those of another."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return torch.from_numpy(saved["centres"]) if str(saved["question"]) == question else None
    except (OSError, ValueError, KeyError, EOFError):
        return None
