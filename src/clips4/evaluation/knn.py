"""The nearest of many vectors by cosine: faiss where it is installed, else in chunks of bounded memory."""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

_BUDGET = 2**24  # cosines held at a time


class Index:
    """Vectors to be searched.

    Args:
        vectors: (N, D) unit rows.
        use_faiss: None takes faiss (exact inner products) where it is installed; both ways give the same neighbours but
            for ties.
    """

    def __init__(self, vectors: Tensor, use_faiss: bool | None = None):
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"expected vectors (N, D), got {tuple(vectors.shape)}")
        self._vectors = vectors.float().cpu().contiguous()
        self._faiss = None
        if use_faiss or (use_faiss is None and find_spec("faiss")):
            import faiss

            self._faiss = faiss.IndexFlatIP(vectors.shape[1])
            self._faiss.add(self._vectors.numpy())

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """(Q, D) -> (Q, min(k, N)) indices of the nearest, the nearest first."""
        k = min(k, len(self._vectors))
        queries = queries.float().cpu().contiguous()
        if self._faiss is not None:
            return torch.from_numpy(np.asarray(self._faiss.search(queries.numpy(), k)[1], np.int64))
        at_once = max(1, _BUDGET // len(self._vectors))
        return torch.cat([(part @ self._vectors.T).topk(k, dim=1).indices for part in queries.split(at_once)])
