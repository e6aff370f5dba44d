"""Where things computed once per picture are kept, and by what name."""

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
    """A short name for settings; a changed setting never has the name of another."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def content_key(data: bytes) -> str:
    """A name for a picture by its content."""
    return hashlib.sha256(data).hexdigest()[:32]


def image_key(image: NDArray[np.uint8]) -> str:
    """A name for a decoded picture (H, W, 3) by its size and pixels."""
    return content_key(repr(image.shape).encode() + image.tobytes())
