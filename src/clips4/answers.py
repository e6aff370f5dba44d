"""The files of one picture's answer, and what the files of a whole folder need to know of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from clips4.coco_files import annotations, panoptic_png, segments_info
from clips4.georeference import files_beside, place_of
from clips4.images import RGB, reduce_to
from clips4.outputs import Kind, describe, overlay, segmentation_files
from clips4.segmenter import Segmentation
from clips4.yolo_files import yolo_lines

THUMBNAIL = 512  # long side of the gallery's pictures


@dataclass(frozen=True)
class Answer:
    """What was answered for one picture.

    Attributes:
        result: labels and names.
        source: the picture's file.
        stem: of the names of its outputs.
        vectors: (K, D) what the pixels were compared with.
        z: (D, h, w) its pixel embeddings, where they are to be kept.
    """

    result: Segmentation
    source: Path
    stem: str
    vectors: Tensor
    z: Tensor | None = None


def answer_files(answer: Answer, kinds: Sequence[Kind]) -> dict[str, bytes]:
    """Name (within the folder of outputs) -> content of the files of one picture.

    ``png``: ``STEM.png``, with a world file where the picture is a GeoTIFF; ``overlay``, ``json``: see ``outputs``;
    ``npz``: ``STEM.npz``; ``panoptic``: ``panoptic/STEM.png``; ``yolo``: ``yolo/labels/STEM.txt``; ``gallery``: two
    thumbnails. All but thumbnails have the picture's own size, as it is shown (turned as EXIF says).
    """
    result, stem = answer.result, answer.stem
    files = segmentation_files(result, str(answer.source), stem, kinds)
    if "png" in kinds and (place := place_of(answer.source)):
        files |= files_beside(f"{stem}.png", place)
    if "panoptic" in kinds:
        files[f"panoptic/{stem}.png"] = panoptic_png(result.labels)
    if "yolo" in kinds:
        files[f"yolo/labels/{stem}.txt"] = yolo_lines(result).encode()
    if "npz" in kinds:
        files[f"{stem}.npz"] = embeddings_npz(answer)
    if "gallery" in kinds:
        files[f"gallery/{stem}.jpg"] = _jpeg(result.image)
        files[f"gallery/{stem}_overlay.jpg"] = _jpeg(overlay(result))
    return files


def answer_facts(answer: Answer, kinds: Sequence[Kind]) -> dict[str, Any]:
    """What the folder's own files (``coco.json``, ``panoptic.json``, ``gallery.html``) say of the picture."""
    result = answer.result
    height, width = result.labels.shape
    facts: dict[str, Any] = {"width": width, "height": height, "areas": describe(result, "")["areas"]}
    if "coco" in kinds:
        facts["annotations"] = annotations(result)
    if "panoptic" in kinds:
        facts["segments_info"] = segments_info(result.labels)
    return facts


def embeddings_npz(answer: Answer) -> bytes:
    """NPZ, readable without pickle.

    ``z`` (D, h, w) float16; ``names`` (K,) text; ``vectors`` (K, D) float32; ``labels`` (H, W) int16, -1 for unknown.

    Raises:
        ValueError: the answer holds no embeddings.
    """
    if answer.z is None:
        raise ValueError("the answer holds no embeddings to save")
    buffer = io.BytesIO()
    np.savez(
        buffer,
        z=answer.z.cpu().numpy().astype(np.float16),
        names=np.array(answer.result.names, dtype=np.str_),
        vectors=answer.vectors.cpu().numpy().astype(np.float32),
        labels=answer.result.labels,
    )
    return buffer.getvalue()


def _jpeg(picture: RGB) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(reduce_to(picture, THUMBNAIL)).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
