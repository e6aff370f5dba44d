"""Region maps and hierarchies as 16-bit PNG files with a checksum.

A file is a gray PNG of labels with two text chunks: ``clips4-sha256``, a digest of the file's content, and, if the
labels are the leaves of a hierarchy, ``clips4-tree``, its merges and heights.
"""

import base64
import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clips4.errors import UserError
from clips4.regions.ucm import Hierarchy
from clips4.utils.image_file import open_image

MAX_REGIONS = 1 << 16
_DIGEST, _TREE = "clips4-sha256", "clips4-tree"


def encode_regions(regions: NDArray[np.int32] | Hierarchy) -> bytes:
    """PNG bytes of (H, W) labels or of a whole hierarchy.

    Raises:
        ValueError: more than ``MAX_REGIONS`` labels.
    """
    labels = regions.leaves if isinstance(regions, Hierarchy) else regions
    tree = b""
    if labels.max() >= MAX_REGIONS:
        raise ValueError(f"{labels.max() + 1} regions do not fit a 16-bit map; request fewer")
    info = PngInfo()
    if isinstance(regions, Hierarchy):
        tree = regions.merges.astype("<i4").tobytes() + regions.heights.astype("<f4").tobytes()
        info.add_text(_TREE, base64.b64encode(tree).decode(), zip=True)
    values = labels.astype(np.uint16)
    info.add_text(_DIGEST, _digest(values, tree))
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def decode_regions(data: bytes) -> NDArray[np.int32] | Hierarchy | None:
    """The input of ``encode_regions``; None if the bytes are damaged or of another kind."""
    try:
        with open_image(data, "a region map", "region map", formats=["PNG"]) as image:
            values = np.asarray(image)
            text = dict(getattr(image, "text", {}))
            tree = base64.b64decode(text.get(_TREE, ""), validate=True)
    except UserError:
        return None
    if values.ndim != 2 or values.dtype.kind not in "ui":
        return None
    values = values.astype(np.uint16)
    if text.get(_DIGEST) != _digest(values, tree):
        return None
    labels = values.astype(np.int32)
    if _TREE not in text:
        return labels
    merges = len(tree) // 12
    pairs = np.frombuffer(tree, "<i4", 2 * merges).reshape(-1, 2).astype(np.int32)
    return Hierarchy(labels, pairs, np.frombuffer(tree, "<f4", merges, 8 * merges).astype(np.float32))


def _digest(values: NDArray[np.uint16], tree: bytes) -> str:
    head = f"{values.shape} {len(tree)} ".encode()
    return hashlib.sha256(head + values.astype("<u2").tobytes() + tree).hexdigest()
