"""Embeddings of the images encoded last, so that another query for an image does not encode it again."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from torch import Tensor

BYTES = 2**28


class CachedEmbedding(NamedTuple):
    """What a network returned for an image: z (D, h, w), and keys (W, h, w) if key smoothing needs them."""

    z: Tensor
    keys: Tensor | None


class EmbeddingCache:
    """The embeddings used last, up to a number of bytes; safe to use from several threads.

    Args:
        limit: bytes kept at most; an embedding larger than that is not kept.
    """

    def __init__(self, limit: int = BYTES):
        self._limit, self._bytes = limit, 0
        self._held: OrderedDict[Hashable, CachedEmbedding] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> CachedEmbedding | None:
        """The embedding of this key; None if it was never put, or is no longer kept."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, embedding: CachedEmbedding) -> None:
        """Keep an embedding; the least recently used are dropped."""
        with self._lock:
            if key in self._held or _bytes(embedding) > self._limit:
                return
            self._held[key] = embedding
            self._bytes += _bytes(embedding)
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _bytes(oldest)

    def __getstate__(self) -> int:
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)  # type: ignore[misc]  # empty: the images can be encoded again

    def __len__(self) -> int:
        return len(self._held)


def _bytes(embedding: CachedEmbedding) -> int:
    return sum(part.numel() * part.element_size() for part in embedding if part is not None)
