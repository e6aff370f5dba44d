"""Answers for many pictures into one folder: each picture's files, then the files that speak of all.

Memory holds one picture at a time. What is done is known by its record and skipped; an interrupted command goes on
where it stopped. The folder's own files are written of all records that the same settings made, and so are the same as
after an uninterrupted one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clips4.data.image_folder import JobOutcome, SkippedImage
from clips4.errors import UserError
from clips4.inference.jobs.gallery import write_gallery
from clips4.inference.jobs.manifest import (
    UNFINISHED,
    ManifestEntry,
    all_entries,
    entry_path,
    file_stamp,
    is_done,
    read_entry,
    succeeding,
    write_entry,
)
from clips4.outputs.coco import categories, info
from clips4.outputs.encode import ImagePrediction, image_facts, image_files
from clips4.outputs.render import Kind, output_stems
from clips4.outputs.yolo import data_yaml, link_image
from clips4.utils.atomic_io import write_atomically, write_json_lists
from clips4.utils.interrupts import deferred_interrupt
from clips4.utils.progress import ProgressReporter


def predict_folder(
    paths: Sequence[Path],
    out: Path,
    kinds: Sequence[Kind],
    names: Sequence[str],
    settings_hash: str,
    answer: Callable[[Path, str], ImagePrediction],
    force: bool,
    progress: ProgressReporter,
) -> JobOutcome:
    """Answer each picture and write its files, then the folder's.

    Args:
        paths: pictures; files that ``out`` holds as outputs of its own are passed over.
        kinds: what to save.
        names: the asked classes.
        settings_hash: key of all settings that answers depend on.
        answer: (picture, stem of its outputs) -> answer.
        force: do again what is done.

    Raises:
        UserError: ``out`` is a file, or an output would overwrite one of the pictures; nothing is written then.
    """
    images, stems = plan(paths, out)
    outcome = JobOutcome()
    progress.stage("answering", len(images))
    with deferred_interrupt() as interrupted:
        for path, stem in zip(images, stems, strict=True):
            if interrupted():
                outcome.interrupted = True
                break
            try:
                kept = _predict_one(path, out, stem, kinds, settings_hash, answer, force)
            except UserError as error:
                outcome.skipped.append(SkippedImage(path, str(error)))
            else:
                (outcome.kept if kept else outcome.done).append(path)
            progress.advance({})
    if outcome.done or outcome.kept:
        write_folder_files(out, kinds, names, settings_hash)
    return outcome


def plan(paths: Sequence[Path], out: Path) -> tuple[list[Path], list[str]]:
    """The pictures that are to be answered, and the stems of their outputs' names.

    Raises:
        UserError: ``out`` is a file, or an output would overwrite one of the pictures.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    own = {_place(out / name) for record in all_entries(out) for name in (*record["files"], *record["older"])}
    images = [path for path in paths if _place(path) not in own]
    stems = output_stems(images)
    _refuse_overwriting_inputs(images, out, stems)
    return images, stems


def _predict_one(
    path: Path,
    out: Path,
    stem: str,
    kinds: Sequence[Kind],
    settings_hash: str,
    answer: Callable[[Path, str], ImagePrediction],
    force: bool,
) -> bool:
    """Whether it was done already; else it is now.

    Raises:
        UserError: the picture cannot be read; what was there of it stays as it was.
    """
    before = read_entry(entry_path(out, stem))
    if path.is_file() and is_done(out, before, path, settings_hash, kinds) and not force:
        return True
    given = answer(path, stem)
    files, facts, stamp = image_files(given, kinds), image_facts(given, kinds), file_stamp(path)
    names = [*files, *([f"yolo/images/{stem}{path.suffix}"] if "yolo" in kinds else [])]
    record = ManifestEntry(
        settings_hash=settings_hash,
        source=str(path.resolve()),
        stamp=stamp,
        stem=stem,
        kinds=list(kinds),
        files=names,
        older=[],
        facts=facts,
    )
    record = succeeding(before, record)
    write_entry(out, {**record, "settings_hash": UNFINISHED})
    for name, content in files.items():
        write_atomically(out / name, content)
    if "yolo" in kinds:
        link_image(path, out / names[-1])
    write_entry(out, record)
    return False


def _place(path: Path) -> str:
    """Where a file lies, whatever its folder was called by; a link is not followed."""
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # Path.resolve is ten times slower


def _refuse_overwriting_inputs(images: Sequence[Path], out: Path, stems: Sequence[str]) -> None:
    """Refuse to write over what is to be read."""
    inputs = {place for path in images for place in (_place(path), os.path.realpath(path))}
    endings = (".png", "_overlay.png", ".json", ".npz")
    for stem in stems:
        for ending in endings:
            if _place(target := out / f"{stem}{ending}") in inputs:
                raise UserError(f"{target}: this picture would be overwritten by an output; give another --out")


def write_folder_files(out: Path, kinds: Sequence[Kind], names: Sequence[str], settings_hash: str) -> None:
    """``coco.json``, ``panoptic.json``, ``yolo/data.yaml`` and ``gallery.html``, of all records of these settings."""

    def records(kind: Kind) -> Iterator[ManifestEntry]:
        return all_entries(out, settings_hash, kind)

    if "coco" in kinds:
        write_json_lists(
            out / "coco.json",
            {"info": info(), "licenses": [], "categories": categories(names)},
            {"images": _images(records("coco")), "annotations": _annotations(records("coco"))},
        )
    if "panoptic" in kinds:
        write_json_lists(
            out / "panoptic.json",
            {"info": info(), "licenses": [], "categories": categories(names)},
            {"images": _images(records("panoptic")), "annotations": _panoptic(records("panoptic"))},
        )
    if "yolo" in kinds:
        write_atomically(out / "yolo/data.yaml", data_yaml(out / "yolo", names).encode())
    if "gallery" in kinds:
        write_gallery(out / "gallery.html", lambda: records("gallery"), names)


def _images(records: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, 1):
        facts = record["facts"]
        yield {"id": number, "file_name": record["source"], "width": facts["width"], "height": facts["height"]}


def _annotations(records: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    number = 0
    for image, record in enumerate(records, 1):
        for annotation in record["facts"]["annotations"]:
            number += 1
            yield {"id": number, "image_id": image, **annotation}


def _panoptic(records: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    for image, record in enumerate(records, 1):
        name = f"{record['stem']}.png"
        yield {"image_id": image, "file_name": name, "segments_info": record["facts"]["segments_info"]}
