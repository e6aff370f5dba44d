"""A folder of predictions: which images it gets, and the files that cover all of them, made from the manifest alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clips4.inference.jobs.gallery import write_gallery
from clips4.inference.jobs.manifest import ManifestEntry, Output, all_entries
from clips4.outputs.coco import categories, info
from clips4.outputs.encode import Kind
from clips4.outputs.yolo import data_yaml
from clips4.utils.atomic_io import write_atomically, write_json_lists
from clips4.utils.output_names import check_out_folder, file_location, output_stems, refuse_overwriting

_ENDINGS = (".png", "_overlay.png", ".json", ".npz")  # of outputs that could have the name of an input


class Item(NamedTuple):
    """An input and the stem of the names of its outputs."""

    path: Path
    stem: str


def plan_images(paths: Sequence[Path], out: Path) -> list[Item]:
    """The images to predict; files that ``out`` holds as outputs of its own are left out.

    Raises:
        UserError: ``out`` is a file, or an output would overwrite one of the images.
    """
    check_out_folder(out)
    own = {file_location(out / name) for entry in all_entries(out) for name in (*entry["files"], *entry["older"])}
    images = [path for path in paths if file_location(path) not in own]
    items = [Item(path, stem) for path, stem in zip(images, output_stems(images), strict=True)]
    refuse_overwriting(images, (out / f"{item.stem}{ending}" for item in items for ending in _ENDINGS))
    return items


def write_folder_files(output: Output, names: Sequence[str]) -> None:
    """``coco.json``, ``panoptic.json``, ``yolo/data.yaml`` and ``gallery.html``, from all entries of these settings."""
    out, kinds = output.folder, output.kinds

    def entries(kind: Kind) -> Iterator[ManifestEntry]:
        return all_entries(out, output.settings_hash, kind)

    head = {"info": info(), "licenses": [], "categories": categories(names)}
    if "coco" in kinds:
        lists = {"images": _images(entries("coco")), "annotations": _annotations(entries("coco"))}
        write_json_lists(out / "coco.json", head, lists)
    if "panoptic" in kinds:
        lists = {"images": _images(entries("panoptic")), "annotations": _panoptic(entries("panoptic"))}
        write_json_lists(out / "panoptic.json", head, lists)
    if "yolo" in kinds:
        write_atomically(out / "yolo/data.yaml", data_yaml(out / "yolo", names).encode())
    if "gallery" in kinds:
        write_gallery(out / "gallery.html", lambda: entries("gallery"), names)


def _images(entries: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(entries, 1):
        facts = entry["facts"]
        yield {"id": number, "file_name": entry["source"], "width": facts["width"], "height": facts["height"]}


def _annotations(entries: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    number = 0
    for image, entry in enumerate(entries, 1):
        for annotation in entry["facts"]["annotations"]:
            number += 1
            yield {"id": number, "image_id": image, **annotation}


def _panoptic(entries: Iterator[ManifestEntry]) -> Iterator[dict[str, Any]]:
    for image, entry in enumerate(entries, 1):
        name = f"{entry['stem']}.png"
        yield {"image_id": image, "file_name": name, "segments_info": entry["facts"]["segments_info"]}
