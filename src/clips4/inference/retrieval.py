"""Class vectors for a teacher alone, retrieved from unlabeled images instead of taken from text.

A name's text vector lies far from the vectors of its pixels, which lie near each other. So the text only retrieves:
among the segments of unlabeled images, the m nearest to it represent the class, as training finds prototypes (CLIP-S4
section 3.3). Nothing is trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clips4.config import Config
from clips4.data.class_names import ClassList, load_classes
from clips4.data.image_folder import reason_to_skip
from clips4.errors import UserError
from clips4.inference.refine.background import parse_background
from clips4.inference.segmenter import Segmenter
from clips4.method.prototype_search import PrototypeSearch, teacher_segments
from clips4.regions.cache import RegionCache
from clips4.utils.images import RGB, load_rgb, reduce_to
from clips4.utils.progress import NoProgress, ProgressReporter


def with_background(classes: ClassList, background: str | None) -> ClassList:
    """The classes, and those of a background by names: text and pixel vectors do not compete with each other.

    Args:
        classes: queried.
        background: see ``parse_background``.
    """
    rule = parse_background(background)
    if rule is None or not rule.names:
        return classes
    others = load_classes(list(rule.names))
    return ClassList((*classes.names, *others.names), (*classes.aliases, *others.aliases))


def image_segments(
    encode: Callable[[RGB], Tensor], image: RGB, path: Path, regions: RegionCache, config: Config
) -> Tensor:
    """The segments of one image, as training makes them: (S, D) unit rows.

    Args:
        encode: an image to its pixel map (D, h, w).
        image: (H, W, 3), reduced to ``data.long_side``.
        path: its file, by which edge maps are found.
        regions: its region maps.
        config: its settings of segments.
    """
    return teacher_segments(encode(image), torch.from_numpy(regions(image, path)), config.segments)[0]


def retrieved_vectors(
    segmenter: Segmenter,
    classes: ClassList,
    images: Sequence[Path],
    config: Config,
    progress: ProgressReporter | None = None,
) -> dict[str, Tensor]:
    """The vectors of each class's segments in unlabeled images, for ``segmenter.classifier.retrieved``.

    Args:
        segmenter: of a teacher alone; encodes the images as it encodes those that it segments.
        classes: whose text vectors retrieve.
        images: unlabeled; those that are segmented will do. Images that cannot be read are skipped with a line.
        config: its regions, segments and prototypes.
        progress: advances by image.

    Returns:
        Name -> (1, D) the normalized mean of its ``prototypes.m`` segments; (m, D) the segments themselves where
        ``prototypes.per_class`` is "nearest". Unit rows.

    Raises:
        UserError: no image can be read.

    Example::

        segmenter = Segmenter.from_teacher("conse")
        names = load_classes("cat, sofa")
        segmenter.classifier.retrieved = retrieved_vectors(segmenter, names, find_images("photos/"), load_config())
    """
    progress, settings = progress or NoProgress(), config.prototypes
    text, regions = segmenter.classifier.text(classes), RegionCache(config.regions)
    exclusive = config.extensions.exclusive_prototypes
    search, found = PrototypeSearch(text, settings.m, 1, 0, exclusive, settings.per_class), 0
    progress.stage("retrieving segments", len(images))

    def encode(image: RGB) -> Tensor:
        return segmenter.encode_image(image).z.cpu()

    for number, path in enumerate(images):
        try:
            image = reduce_to(load_rgb(path), config.data.long_side)
        except Exception as error:
            progress.log(f"skipped: {reason_to_skip(error)}")
        else:
            search.add(number, image_segments(encode, image, path, regions, config))
            found += 1
        progress.advance({})
    if not found:
        raise UserError(f"none of {len(images)} images to retrieve from could be read; give others")
    known = search.result().known
    return dict(zip(classes.names, known.split(len(known) // len(classes)), strict=True))
