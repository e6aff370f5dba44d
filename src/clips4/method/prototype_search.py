"""One pass over the teacher segments of a set of any size, with memory that depends on the classes alone.

Known prototypes need the m segments nearest to each text vector, unknown ones a random sample of all segments. Both are
kept up while segments stream by: the candidates of the classes in a bank of at most K * m rows, the sample by giving
every segment a random key and keeping the smallest. Neither depends on the order of pictures, nor on how they are
shared out over ranks.
"""

import torch
from torch import Tensor

from clips4.data.rng import SAMPLE, seeded
from clips4.method.prototypes import nearest_segments
from clips4.utils import distributed

_BUFFER = 8192  # segments that wait until the classes look through them together


class PrototypeSearch:
    """Candidates for class prototypes among the segments that are added.

    Args:
        text: (K, D) text vectors of the known classes, unit rows.
        m: segments per known class.
        sample: number of segments in the random sample.
        seed: of the sample.
    """

    def __init__(self, text: Tensor, m: int, sample: int, seed: int):
        self._text, self._m, self._sample, self._seed = text, m, sample, seed
        nothing = text.new_empty(0, text.shape[1])
        self._bank, self._bank_places = nothing, torch.empty(0, dtype=torch.int64)
        self._drawn, self._keys = nothing, torch.empty(0, dtype=torch.float64)
        self._waiting: list[Tensor] = []
        self._waiting_pictures: list[int] = []

    def add(self, segments: Tensor, image: int) -> None:
        """Look at the segments (S, D), unit rows, of one picture, which is known by its number in the set."""
        self._waiting.append(segments)
        self._waiting_pictures.append(image)
        if sum(map(len, self._waiting)) >= _BUFFER:
            self._look()

    def candidates(self) -> tuple[Tensor, Tensor]:
        """Every segment that is among the m nearest of a known class, and the random sample: (N, D) and (R, D).

        With several ranks, of all their segments, the same on each rank.
        """
        self._look()
        rows = distributed.counts(len(self._bank), len(self._drawn), device=self._bank.device)
        bank = distributed.gather_rows(self._bank, rows[:, 0].tolist())
        places = distributed.gather_rows(self._bank_places, rows[:, 0].tolist())
        drawn = distributed.gather_rows(self._drawn, rows[:, 1].tolist())
        keys = distributed.gather_rows(self._keys, rows[:, 1].tolist())
        return bank[places.argsort()], drawn[keys.argsort()[: self._sample]]

    def _look(self) -> None:
        if not self._waiting:
            return
        places, keys = [], []
        for image, segments in zip(self._waiting_pictures, self._waiting, strict=True):
            places.append((image << 32) + torch.arange(len(segments)))
            random = seeded(self._seed, SAMPLE, image)
            keys.append(torch.rand(len(segments), generator=random, dtype=torch.float64))
        new, new_places, new_keys = torch.cat(self._waiting), torch.cat(places), torch.cat(keys)
        self._waiting, self._waiting_pictures = [], []

        candidates, candidate_places = torch.cat([self._bank, new]), torch.cat([self._bank_places, new_places])
        kept = nearest_segments(self._text, candidates, self._m).unique()
        self._bank, self._bank_places = candidates[kept], candidate_places[kept]

        drawn, all_keys = torch.cat([self._drawn, new]), torch.cat([self._keys, new_keys])
        first = all_keys.argsort()[: self._sample]
        self._drawn, self._keys = drawn[first], all_keys[first]
