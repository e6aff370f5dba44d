"""Segmenting files into files: what `clips4 segment` does.

Memory holds a few images at a time, see ``pipeline``. The manifest knows what is done; an interrupted command resumes
where it stopped, and the folder's own files are then the same as without the interruption.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from clips4.data.image_folder import JobOutcome, SkippedImage, reason_to_skip
from clips4.data.shards.files import is_shard
from clips4.inference.classifier import Classes, Query, Vectors
from clips4.inference.jobs.folder import folder_files, write_folder_files
from clips4.inference.jobs.load import Loaded
from clips4.inference.jobs.pipeline import process_images
from clips4.inference.jobs.shards import segment_shards
from clips4.inference.jobs.video import check_kinds, segment_videos
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.inference.video.temporal_smoothing import Steadiness
from clips4.outputs.encode import Kind, check_names, image_facts, image_files, parse_kinds
from clips4.outputs.formats.yolo import place_image
from clips4.utils.atomic_io import write_atomically
from clips4.utils.cache import content_key, settings_key
from clips4.utils.distributed import Share
from clips4.utils.images import RGB, load_rgb
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.output_folder.manifest import all_entries, write_entry
from clips4.utils.output_folder.output import Item, Output, open_folder, plan
from clips4.utils.output_folder.ranks import leave_ranks
from clips4.utils.progress import ProgressReporter

_FORMAT = 1  # of all outputs; another number redoes everything


def segment_files(
    loaded: Loaded,
    out: Path,
    classes: Classes | None,
    save: str,
    vectors: str,
    unknown: bool,
    background: str | None,
    steadiness: Steadiness,
    force: bool,
    progress: ProgressReporter,
    share: Share = Share(),  # noqa: B008  # frozen
) -> JobOutcome:
    """Segment each image and write its files, then those of the whole folder; then each video. What is done is kept.

    Args:
        loaded: the segmenter and its inputs.
        out: folder to write to.
        classes: class names, see ``Segmenter.segment``; so are ``vectors``, ``unknown`` and ``background``.
        save: kinds of output, e.g. "png,overlay".
        vectors: "prototypes" or "text".
        unknown: whether pixels may be unknown.
        background: which pixels are background.
        steadiness: of videos.
        force: whether to redo what is done.
        progress: advances by image and by frame.
        share: of the images, videos or shards that this process segments; others segment the rest.

    Raises:
        UserError: invalid class names or kinds of output, or see ``manifest.plan``; an input that cannot be read, or
            whose outputs cannot be written, is skipped instead.
    """
    kinds = parse_kinds(save)
    if loaded.videos:
        check_kinds(kinds)
    query = loaded.segmenter.query(classes, cast(Vectors, vectors), background)
    check_names(kinds, query.names)
    settings = {**loaded.identity, **_query_settings(loaded.segmenter, query, unknown)}
    if loaded.images and is_shard(loaded.images[0]):
        return segment_shards(loaded, query, out, kinds, settings_key(settings), unknown, force, progress, share)
    rank = share.rank if share.ranks > 1 else None
    output = Output(out, "segment", kinds, settings_key(settings), force, folder_files(kinds), rank)
    with output.turn():
        items = plan(output, loaded.images, loaded.inputs, loaded.videos)
        open_folder(output)
    images, videos = share.of(items[: len(loaded.images)]), share.of(items[len(loaded.images) :])
    outcome = segment_images(loaded.segmenter, query, images, output, unknown, progress)
    if videos and not outcome.interrupted:
        own = replace(output, settings_hash=f"{output.settings_hash}-{settings_key(asdict(steadiness))}")
        outcome = outcome.joined(segment_videos(loaded.segmenter, query, videos, own, unknown, steadiness, progress))
    if rank is not None:
        with output.turn():  # the last rank writes what all of them did
            if leave_ranks(out, rank) and any(all_entries(out, output.settings_hash)):
                outcome.gone = write_folder_files(output, query.names)
    return outcome


def segment_images(
    segmenter: Segmenter,
    query: Query,
    items: Sequence[Item],
    output: Output,
    unknown: bool,
    progress: ProgressReporter,
    keep: bool = False,
) -> JobOutcome:
    """Segment each image by one query and write its files, then, but for one rank of several, the folder's own.

    Args:
        segmenter: of the images.
        query: the class vectors.
        items: the images.
        output: where to write.
        unknown: whether pixels may be unknown.
        progress: advances by image.
        keep: whether the cache may have the images' embeddings.
    """
    outcome = JobOutcome()
    progress.stage("segmenting", len(items))

    def read(item: Item) -> RGB | None:
        return None if output.is_done(item) else load_rgb(item.path)

    def predict(images: list[RGB]) -> Iterator[Segmentation]:
        return (segmenter.predict(encoded, query, unknown) for encoded in segmenter.encode_images(images, keep=keep))

    def write(item: Item, result: Segmentation) -> Item:
        write_image(item, result, output)
        return item

    with deferred_interrupt() as interrupted:
        for item, future in process_images(items, read, predict, write, segmenter.batch, interrupted):
            try:
                (outcome.done if future.result() else outcome.kept).append(item.path)
            except Exception as error:
                outcome.skipped.append(SkippedImage(item.path, reason_to_skip(error)))
            progress.advance({})
        outcome.interrupted = interrupted() and outcome.count < len(items)
    written = outcome.done or outcome.kept or any((output.folder / name).exists() for name in output.own_files)
    if output.rank is None and written:
        outcome.gone = write_folder_files(output, query.names)
    return outcome


def write_image(item: Item, result: Segmentation, output: Output) -> None:
    """Write the files of one image and its entry in the manifest."""
    out, kinds = output.folder, cast(list[Kind], output.kinds_of(item))
    files = image_files(result, item.path, item.stem, kinds, result.embeddings() if "npz" in kinds else None)
    link = [f"yolo/images/{item.stem}{item.path.suffix}"] if {"yolo", "yolo-copies"} & set(kinds) else []
    folders = {"fiftyone": "fiftyone/data", "voc": "voc/JPEGImages"}
    link += [f"{folder}/{item.stem}{item.path.suffix}" for kind, folder in folders.items() if kind in kinds]
    entry = output.begin(item, kinds, [*files, *link], image_facts(result, kinds))
    for name, content in files.items():
        write_atomically(out / name, content)
    for name in link:
        place_image(item.path, out / name, copy=name.startswith("yolo/") and "yolo" not in kinds)
    write_entry(out, entry)


def _query_settings(segmenter: Segmenter, query: Query, unknown: bool) -> dict[str, Any]:
    """All that predictions depend on besides the network; its keys and values are part of settings hashes."""
    rule = query.background
    return {
        "format": _FORMAT,
        "names": query.names,
        "owner": query.owner.tolist(),
        "vectors": content_key(query.vectors.float().cpu().numpy().tobytes()),
        "background": rule and {"words": rule.names, "probability": rule.probability, "cosine": rule.cosine},
        "unknown": unknown,
        "reading": asdict(segmenter.options),
    }
