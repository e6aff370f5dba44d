"""The files of one picture's answer, and what the files of a whole folder need to know of it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clips4.inference.segmenter import Segmentation
from clips4.outputs.coco import annotations, panoptic_png, segments_info
from clips4.outputs.geotiff import files_beside, place_of
from clips4.outputs.render import Kind, describe, overlay, segmentation_files
from clips4.outputs.yolo import yolo_lines
from clips4.utils.images import RGB, reduce_to

THUMBNAIL = 512  # long side of the gallery's pictures


@dataclass(frozen=True)
class ImagePrediction:
    """What was answered for one picture.

    Attributes:
        result: labels and names.
        source: the picture's file.
        stem: of the names of its outputs.
    """

    result: Segmentation
    source: Path
    stem: str


def image_files(answer: ImagePrediction, kinds: Sequence[Kind]) -> dict[str, bytes]:
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
        files[f"{stem}.npz"] = embeddings_npz(result)
    if "gallery" in kinds:
        files[f"gallery/{stem}.jpg"] = _jpeg(result.image)
        files[f"gallery/{stem}_overlay.jpg"] = _jpeg(overlay(result))
    return files


def image_facts(answer: ImagePrediction, kinds: Sequence[Kind]) -> dict[str, Any]:
    """What the folder's own files (``coco.json``, ``panoptic.json``, ``gallery.html``) say of the picture."""
    result = answer.result
    height, width = result.labels.shape
    facts: dict[str, Any] = {"width": width, "height": height, "areas": describe(result, "")["areas"]}
    if "coco" in kinds:
        facts["annotations"] = annotations(result)
    if "panoptic" in kinds:
        facts["segments_info"] = segments_info(result.labels)
    return facts


def embeddings_npz(result: Segmentation) -> bytes:
    """NPZ, readable without pickle, of all that an answer was made of.

    ``z`` (D, h, w) float16; ``names`` (K,) text; ``vectors`` (L, D) float32 of the asked words and ``owner`` (L,) the
    index into ``names`` of each; ``labels`` (H, W) int16, -1 for unknown; ``unknown_labels`` (H, W) int16, the
    discovered unknown class of each unknown pixel, -1 elsewhere, where anything could be unknown.

    Raises:
        ValueError: the result holds no embeddings.
    """
    if result.z is None or result.vectors is None or result.owner is None:
        raise ValueError("the result holds no embeddings to save")
    arrays: dict[str, Any] = {
        "z": result.z.cpu().numpy().astype(np.float16),
        "names": np.array(result.names, dtype=np.str_),
        "vectors": result.vectors.cpu().numpy().astype(np.float32),
        "owner": result.owner.cpu().numpy().astype(np.int16),
        "labels": result.labels,
    }
    if result.unknown_labels is not None:
        arrays["unknown_labels"] = result.unknown_labels
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _jpeg(image: RGB) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(reduce_to(image, THUMBNAIL)).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
