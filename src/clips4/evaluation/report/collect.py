"""What a run learned: all that a page or a figure shows of it, computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clips4.config import SegmentConfig
from clips4.data.image_folder import SkippedImage
from clips4.data.image_source import evenly_spaced, open_source
from clips4.data.shards.files import is_shard
from clips4.errors import UserError
from clips4.inference.segmenter import Segmenter
from clips4.inference.upsample import nearest_class
from clips4.method.segments import LOCATION_WEIGHT, cut_by_regions, locations, pool, spherical_kmeans
from clips4.models.checkpoint import Checkpoint, load_checkpoint
from clips4.outputs.class_colors import class_colors
from clips4.regions.cache import RegionCache
from clips4.training.log import LOG, read_log
from clips4.training.quality.report import Quality, read_quality
from clips4.utils.devices import pick_device
from clips4.utils.images import RGB
from clips4.utils.progress import ProgressReporter
from clips4.utils.text import plural

Labels = NDArray[np.int64]  # (H, W)

SHOWN = 8  # images on the page of a run
SMALL = 0.001  # share of all pixels below which an unknown prototype counts as not found


@dataclass(frozen=True)
class ReportImage:
    """An image and what was computed for it, at the size of training images.

    Attributes:
        title: shown on the page.
        image: (H, W, 3) uint8.
        regions: (H, W) region of each pixel.
        segments: (H, W) segment of each pixel: k-means of z, cut by the regions.
        z: (D, h, w) the student's pixel embeddings.
        pixel_map: (D, h', w') the teacher's.
        teacher: (H, W) class by the teacher's pixel map and text vectors, 0..K-1.
        student: (H, W) nearest prototype of z: known 0..K-1, unknown K..K+U-1.
    """

    title: str
    image: RGB
    regions: NDArray[np.int32]
    segments: Labels
    z: Tensor
    pixel_map: Tensor
    teacher: Labels
    student: Labels


@dataclass(frozen=True)
class RunReport:
    """All that the page shows.

    Attributes:
        checkpoint: of the run.
        images: one at least.
        skipped: those that cannot be read.
        log: lines of the run's log.
        device: on which the images were computed.
        quality: of the run, where it was measured.
        notes: what the recipe chose and why.
    """

    checkpoint: Checkpoint
    images: list[ReportImage]
    skipped: list[SkippedImage]
    log: list[dict[str, float]]
    device: str
    quality: Quality | None = None
    notes: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """(K,) the known classes, then (U,) u0, u1, ... for the unknown prototypes."""
        prototypes = self.checkpoint.prototypes
        return (*prototypes.names, *(f"u{index}" for index in range(len(prototypes.unknown))))

    @property
    def known(self) -> int:
        """K."""
        return len(self.checkpoint.prototypes.names)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """(K + U, 3) those of the names, then grays, neighboring ones far apart."""
        grays = [70 + 150 * (index * 0.618034 % 1) for index in range(len(self.names) - self.known)]
        return np.concatenate(
            [class_colors(self.names[: self.known]), np.repeat(np.array(grays)[:, None], 3, 1).astype(np.uint8)]
        )

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """(K + U,) the student's predictions: mean share of each prototype."""
        return self.mean_shares([each.student for each in self.images])

    @cached_property
    def found(self) -> list[int]:
        """Indices, K and more, of the unknown prototypes with a share of at least ``SMALL``, the largest first."""
        order = np.argsort(-self.shares, kind="stable").tolist()
        return [index for index in order if index >= self.known and self.shares[index] >= SMALL]

    def mean_shares(self, labels: Sequence[Labels]) -> NDArray[np.float64]:
        """(K + U,) mean over label maps of the share of pixels with each label."""
        return np.mean([np.bincount(each.ravel(), minlength=len(self.names)) / each.size for each in labels], 0)


def gather(
    run: Path, paths: Sequence[Path], device: str, progress: ProgressReporter, notes: Sequence[str] = ()
) -> RunReport:
    """Load a run and compute what the page shows of each image: of image files all, of shards the first ``SHOWN``.

    Raises:
        UserError: no image can be read.
    """
    checkpoint = load_checkpoint(run)
    config, prototypes = checkpoint.config, checkpoint.prototypes
    student = Segmenter.load(checkpoint.path, device, use="student")
    teacher = Segmenter.from_teacher(config.teacher.name, config, device, space=prototypes.space)
    regions_of = RegionCache(config.regions)
    images: list[ReportImage] = []
    skipped: list[SkippedImage] = []

    progress.stage("drawing the page", len(paths))
    limit = SHOWN if any(map(is_shard, paths)) else len(paths)
    for _, path, image in islice(open_source(paths).iterate(config.data.long_side, 0, 1), limit):
        if isinstance(image, str):
            skipped.append(SkippedImage(path, image))
            continue
        z, pixel_map, regions = student.embed(image).cpu(), teacher.embed(image).cpu(), regions_of(image, path)
        segments = fine_segments(z, regions, config.segments)
        by_teacher = nearest_class(pixel_map, prototypes.text, image.shape[:2])[0].numpy()
        by_student = nearest_class(z, prototypes.queries(), image.shape[:2], prototypes.groups)[0].numpy()
        images.append(
            ReportImage(path.stem.replace("_", " "), image, regions, segments, z, pixel_map, by_teacher, by_student)
        )
        progress.advance({})
    if not images:
        first = f"; the first: {skipped[0].reason}" if skipped else ""
        raise UserError(f"none of {plural(len(paths), 'image')} can be shown{first}")
    log, quality = read_log(run / LOG), read_quality(run)
    return RunReport(checkpoint, images, skipped, log, str(pick_device(device)), quality, notes)


def images_to_show(training: Sequence[Path], held_out: Sequence[Path]) -> list[Path]:
    """Those kept out of training, or else training images: ``SHOWN`` of them, evenly spaced; all shards."""
    return list(training) if any(map(is_shard, training)) else evenly_spaced(held_out or training, SHOWN)


@torch.no_grad()
def fine_segments(z: Tensor, regions: NDArray[np.int32], settings: SegmentConfig) -> Labels:
    """Segments at the image's resolution: k-means of z, its cosines enlarged, each cluster cut by the regions.

    Args:
        z: (D, h, w) unit along D.
        regions: (H, W).

    Returns:
        (H, W) labels 0..S-1.
    """
    clusters = spherical_kmeans(z[None], settings.clusters, settings.iterations)[0]
    used, labels = clusters.unique(return_inverse=True)
    features = F.normalize(torch.cat([z, LOCATION_WEIGHT * locations(z.shape[1], z.shape[2], z)]), dim=0)
    centers = pool(features.flatten(1).T, labels.flatten(), len(used))
    fine = nearest_class(features, centers, regions.shape)[0]
    return cut_by_regions(fine[None], torch.from_numpy(regions.astype(np.int64))[None]).labels[0].numpy()
