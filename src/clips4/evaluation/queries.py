"""The class vectors that a protocol compares pixels with: text, or prototypes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clips4.config import Config
from clips4.data.class_names import ClassList
from clips4.evaluation.protocols import Protocol
from clips4.inference.classifier import Query
from clips4.inference.retrieval import image_segments
from clips4.inference.segmenter import Segmenter
from clips4.method.prototype_search import PrototypeSearch
from clips4.models.teachers.base import Teacher
from clips4.models.teachers.maps.feature_cache import TeacherMaps
from clips4.models.teachers.text.prompts import load_templates
from clips4.models.teachers.text.text_cache import cached_class_vectors
from clips4.regions.cache import RegionCache
from clips4.utils.images import load_rgb, reduce_to
from clips4.utils.progress import ProgressReporter, counted


def text_query(teacher: Teacher, classes: ClassList, protocol: Protocol) -> Query:
    """Text vectors as the protocol has them: one per class or per synonym; the background's only if it is queried."""
    templates = load_templates(protocol.templates)
    if protocol.aliases == "mean":
        query = Query.one_per_class(cached_class_vectors(teacher, classes, templates))
    else:
        words = [(index, word) for index, group in enumerate(classes.aliases) for word in group]
        single = ClassList(tuple(str(n) for n in range(len(words))), tuple((word,) for _, word in words))
        vectors = cached_class_vectors(teacher, single, templates)
        query = Query(vectors, torch.tensor([index for index, _ in words]))
    return foreground(query, protocol)


def foreground(query: Query, protocol: Protocol) -> Query:
    """The query without class 0 if that is the background and its vectors are not queried."""
    if protocol.background is None or protocol.background.queried:
        return query
    kept = query.owner != 0
    return replace(query, vectors=query.vectors[kept], owner=query.owner[kept])


def find_prototypes(
    teacher: Teacher,
    text: Tensor,
    images: Sequence[Path],
    config: Config,
    device: torch.device,
    progress: ProgressReporter | None = None,
) -> Tensor:
    """Prototypes of classes, found in unlabeled images as training finds those of known classes.

    Each is the normalized mean of the m teacher segments nearest to the text vector of the class, or with
    ``prototypes.per_class=nearest`` these segments. With ``extensions.exclusive_prototypes`` the classes compete for
    segments. Few segments per class are kept, so that memory does not grow with the set.

    Args:
        teacher: of the run.
        text: (K, D) unit rows.
        images: unlabeled, for example those the run was trained on.
        config: of the run: its regions, segments and prototypes.
        device: of the teacher.
        progress: advances once an image.

    Returns:
        (K, D) unit rows; (K * m, D), class by class, of "nearest".
    """
    regions, maps = RegionCache(config.regions), TeacherMaps(teacher, device)
    settings, exclusive = config.prototypes, config.extensions.exclusive_prototypes
    sample = settings.sample if exclusive else 1
    search = PrototypeSearch(text, settings.m, sample, config.train.seed, exclusive, settings.per_class)
    for number, path in enumerate(counted(progress, "finding prototypes", images)):
        image = reduce_to(load_rgb(path), config.data.long_side)
        search.add(number, image_segments(maps, image, path, regions, config))
    return search.result().known


def prototype_query(
    run: Segmenter,
    teacher: Teacher,
    classes: ClassList,
    images: Sequence[Path],
    protocol: Protocol,
    config: Config,
    device: torch.device,
    progress: ProgressReporter | None = None,
) -> Query:
    """The run's prototypes in the teacher's space; those of other class names are found as in training.

    Args:
        run: a student with prototypes.
        teacher: of the run.
        classes: of the set.
        images: unlabeled, to find prototypes of other class names in.
        protocol: see ``foreground``.
        config, device, progress: see ``find_prototypes``.
    """
    assert run.prototypes is not None
    own = {name: index for index, name in enumerate(run.names)}
    known = [index for index, name in enumerate(classes.names) if name in own]
    new = [index for index, name in enumerate(classes.names) if name not in own]
    per_class = run.prototypes.known.float().cpu().split(run.prototypes.rows_per_class)
    rows = {index: per_class[own[classes.names[index]]] for index in known}
    if new:
        other = ClassList(tuple(classes.names[i] for i in new), tuple(classes.aliases[i] for i in new))
        text = cached_class_vectors(teacher, other, load_templates(config.teacher.templates))
        # the run's own names come first: they may take segments from the new ones
        rivals = torch.cat([run.prototypes.text.to(text), text])
        found = find_prototypes(teacher, rivals, images, config, device, progress)
        per_new = found.float().cpu().split(len(found) // len(rivals))[-len(new) :]
        rows |= dict(zip(new, per_new, strict=True))
    vectors = torch.cat([rows[index] for index in range(len(classes))])
    owner = torch.tensor([index for index in range(len(classes)) for _ in rows[index]])
    return foreground(Query(vectors, owner, grouped=run.classifier.grouped), protocol)
