"""Prototypes from the teacher segments of an image set of any size, in one pass; CLIP-S4 section 3.3.

Known prototypes need the m segments nearest to each text vector, unknown ones a random sample of all segments. Both are
updated while segments stream in: the candidates of the classes are a pool of at most K * m rows, and the sample gives
every segment a random key and keeps the smallest keys. So memory depends on K, m and the sample size alone, and the
result depends neither on the order of the images nor on the number of ranks.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clips4.config import PerClass, SegmentConfig
from clips4.data.rng import SAMPLE, seeded
from clips4.method.prototypes import exclusive_prototypes, known_prototypes, nearest_segments
from clips4.method.segments import cut_by_regions, flatten_pixels, pool, spherical_kmeans
from clips4.utils import distributed

_RESERVE = 8  # times m candidates per class, where some of them may belong to other classes
BUFFER = 8192  # segments collected before the candidates and the sample are updated


@torch.no_grad()
def teacher_segments(pixel_map: Tensor, regions: Tensor, settings: SegmentConfig) -> tuple[Tensor, Tensor]:
    """Cut the teacher's map of one image into segments and average each.

    Args:
        pixel_map: (D, h, w) vectors of the teacher; half precision is computed in float32.
        regions: (H, W) region map of the image; reduced to (h, w) by nearest neighbor.
        settings: of the spherical k-means.

    Returns:
        (S, D) unit rows, i_s-hat of the paper; and (h, w) the segment of each position, ``IGNORED`` for none.
    """
    z = F.normalize(pixel_map.to(torch.promote_types(pixel_map.dtype, torch.float32)), dim=0)[None]
    at_map = F.interpolate(regions[None, None].double(), pixel_map.shape[1:], mode="nearest-exact")[0].long()
    clusters = spherical_kmeans(z, settings.clusters, settings.iterations)
    segments = cut_by_regions(clusters, at_map)
    return pool(flatten_pixels(z), segments.labels.flatten(), len(segments.region)), segments.labels[0]


class FoundPrototypes(NamedTuple):
    """What a ``PrototypeSearch`` found.

    Attributes:
        known: (K, D) unit rows, the prototypes of the known classes; (K * m, D) of "nearest".
        sample: (R, D) unit rows, a random sample of all segments: unknown prototypes are drawn from it, and the run
            keeps part of it as its bank.
    """

    known: Tensor
    sample: Tensor


class PrototypeSearch:
    """Finds prototypes among the segments that are added, image by image.

    Args:
        text: (K, D) text vectors of the known classes, unit rows.
        m: segments per known class.
        sample: size of the random sample; all segments where there are fewer.
        seed: of the sample.
        exclusive: whether segments count for one class each; see ``prototypes.exclusive_prototypes``.
        per_class: see ``prototypes.known_prototypes``.

    Example::

        search = PrototypeSearch(text, m=24, sample=4096, seed=0)
        for number, image in enumerate(images):
            search.add(number, teacher_segments(teacher_map(image), regions(image), config.segments)[0])
        known, sample = search.result()
    """

    def __init__(
        self, text: Tensor, m: int, sample: int, seed: int, exclusive: bool = False, per_class: PerClass = "mean"
    ):
        self._text, self._m, self._sample_size, self._seed = text, m, sample, seed
        self._exclusive, self._kept = exclusive, m * _RESERVE if exclusive else m
        self._per_class = per_class
        nothing = text.new_empty(0, text.shape[1])
        self._candidates, self._candidate_places = nothing, torch.empty(0, dtype=torch.int64)
        self._sample, self._keys = nothing, torch.empty(0, dtype=torch.float64)
        self._waiting: list[tuple[int, Tensor]] = []

    def add(self, image: int, segments: Tensor) -> None:
        """Consider the segments of one image.

        Args:
            image: the number of the image in the set; each number once over all ranks.
            segments: (S, D) unit rows.
        """
        self._waiting.append((image, segments))
        if sum(len(segments) for _, segments in self._waiting) >= BUFFER:
            self._update()

    def result(self) -> FoundPrototypes:
        """The prototypes and the sample; with several ranks those of all their segments, the same on each rank.

        Raises:
            ValueError: no segment was added.
        """
        self._update()
        device = self._candidates.device
        near_rows, sample_rows = distributed.counts(len(self._candidates), len(self._sample), device=device).T.tolist()
        near = distributed.gather_rows(self._candidates, near_rows)
        places = distributed.gather_rows(self._candidate_places, near_rows)
        sample = distributed.gather_rows(self._sample, sample_rows)
        keys = distributed.gather_rows(self._keys, sample_rows)
        near, sample = near[places.argsort()], sample[keys.argsort()[: self._sample_size]]
        if self._exclusive:
            known = exclusive_prototypes(self._text, near, self._m, sample, per_class=self._per_class)
        else:
            known = known_prototypes(self._text, near, self._m, per_class=self._per_class)
        return FoundPrototypes(known, sample)

    def _update(self) -> None:
        if not self._waiting:
            return
        places, keys = [], []
        for image, segments in self._waiting:
            places.append((image << 32) + torch.arange(len(segments)))
            random = seeded(self._seed, SAMPLE, image)
            keys.append(torch.rand(len(segments), generator=random, dtype=torch.float64))
        new = torch.cat([segments for _, segments in self._waiting])
        self._waiting = []

        candidates, candidate_places = torch.cat([self._candidates, new]), torch.cat([self._candidate_places, *places])
        kept = nearest_segments(self._text, candidates, self._kept).unique()
        self._candidates, self._candidate_places = candidates[kept], candidate_places[kept]

        sample, all_keys = torch.cat([self._sample, new]), torch.cat([self._keys, *keys])
        first = all_keys.argsort()[: self._sample_size]
        self._sample, self._keys = sample[first], all_keys[first]
