"""Images that are kept out of training, for the quality report to be measured on."""

from collections.abc import Sequence
from pathlib import Path

from clips4.data.shards.files import is_shard

_FEWEST, _MOST, _FROM = 2, 32, 10  # held-out images, and the smallest set that can spare any


def split_held_out(paths: Sequence[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Training images and those kept out, by ``held_out``; shards, which are streams, are all trained on."""
    out = set(() if any(map(is_shard, paths)) else held_out(range(len(paths)), share))
    return [p for i, p in enumerate(paths) if i not in out], [p for i, p in enumerate(paths) if i in out]


def held_out(usable: Sequence[int], share: float) -> tuple[int, ...]:
    """Numbers of the images that are kept out of training, evenly spaced; a function of its arguments alone.

    Args:
        usable: numbers of the usable images, increasing.
        share: of them, in [0, 1]; 0 keeps none out.

    Returns:
        ``share`` of them, at least 2 and at most 32; none of fewer than 10 images.

    Example:
        >>> held_out(range(20), 0.1)
        (5, 15)
    """
    if not share or len(usable) < _FROM:
        return ()
    count = min(max(round(share * len(usable)), _FEWEST), _MOST, len(usable) - 1)
    return tuple(usable[(2 * i + 1) * len(usable) // (2 * count)] for i in range(count))
