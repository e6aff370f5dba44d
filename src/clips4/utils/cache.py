"""The cache of what is computed once per image: its folder and its keys."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def cache_root() -> Path:
    """``$CLIPS4_CACHE``, else ``clips4`` in the user's cache folder."""
    if own := os.environ.get("CLIPS4_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clips4"


def settings_key(settings: Mapping[str, object]) -> str:
    """A short hash of settings; any change of a setting gives another."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def content_key(data: bytes) -> str:
    """A hash of bytes, such as an image file's."""
    return hashlib.sha256(data).hexdigest()[:32]


def image_key(image: NDArray[np.uint8]) -> str:
    """A hash of a decoded image (H, W, 3), of its size and pixels."""
    return content_key(repr(image.shape).encode() + image.tobytes())
