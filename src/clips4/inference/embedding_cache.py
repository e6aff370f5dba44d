"""Embeddings of the pictures last read, so that other words for the same picture cost no second reading."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from torch import Tensor

BYTES = 2**28


class CachedEmbedding(NamedTuple):
    """What a network gave for a picture: z (D, h, w), and keys (W, h, w) where key smoothing asks for them."""

    z: Tensor
    keys: Tensor | None


class EmbeddingCache:
    """The readings used last, up to a number of bytes; may be used by several threads.

    Args:
        limit: bytes held at most; what is larger alone is not kept.
    """

    def __init__(self, limit: int = BYTES):
        self._limit, self._bytes = limit, 0
        self._held: OrderedDict[Hashable, CachedEmbedding] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> CachedEmbedding | None:
        """What was put there, None where it is not, or no longer."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, reading: CachedEmbedding) -> None:
        """Hold a reading; those unused longest go."""
        with self._lock:
            if key in self._held or _bytes(reading) > self._limit:
                return
            self._held[key] = reading
            self._bytes += _bytes(reading)
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _bytes(oldest)

    def __len__(self) -> int:
        return len(self._held)


def _bytes(reading: CachedEmbedding) -> int:
    return sum(part.numel() * part.element_size() for part in reading if part is not None)
