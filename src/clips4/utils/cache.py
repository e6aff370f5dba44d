"""The cache of what is computed once per image: its folder and its keys."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError

_SEAL = "digest"


def cache_root() -> Path:
    """``$CLIPS4_CACHE``, else ``clips4`` in the user's cache folder.

    Raises:
        UserError: no variable names one, and the user has no home folder, as in some containers.
    """
    if own := os.environ.get("CLIPS4_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clips4"
    except RuntimeError:
        raise UserError("this user has no home folder for the cache; set CLIPS4_CACHE to a folder")


def settings_key(settings: Mapping[str, object]) -> str:
    """A short hash of settings; any change of a setting gives another."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def sealed(facts: Mapping[str, object]) -> dict[str, object]:
    """Facts for a JSON file, with a digest of them."""
    return {**facts, _SEAL: settings_key(facts)}


def is_sealed(facts: Mapping[str, object], earlier: Collection[str] = ()) -> bool:
    """Whether facts are as ``sealed`` returned them, or have exactly the keys of a version that wrote no digest."""
    plain = {key: value for key, value in facts.items() if key != _SEAL}
    return facts.keys() == set(earlier) or facts.get(_SEAL) == settings_key(plain)


def content_key(data: bytes) -> str:
    """A hash of bytes, such as an image file's."""
    return hashlib.sha256(data).hexdigest()[:32]


def image_key(image: NDArray[np.uint8]) -> str:
    """A hash of a decoded image (H, W, 3), of its size and pixels."""
    return content_key(repr(image.shape).encode() + image.tobytes())
