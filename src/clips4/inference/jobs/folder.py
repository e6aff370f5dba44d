"""The files that cover a whole folder of predictions, made from its manifest alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clips4.data.class_names import UNKNOWN
from clips4.errors import UserError
from clips4.inference.jobs.gallery import write_gallery
from clips4.outputs.encode import YOLO, Kind
from clips4.outputs.formats.coco import as_polygons, categories, info
from clips4.outputs.formats.cvat import cvat_document
from clips4.outputs.formats.fiftyone import mask_targets
from clips4.outputs.formats.label_studio import labeling_config
from clips4.outputs.formats.voc import labelmap
from clips4.outputs.formats.yolo import data_yaml
from clips4.outputs.rle import counts_of_text
from clips4.utils.atomic_io import atomic_text_file, write_atomically, write_json_lists
from clips4.utils.output_folder.manifest import ManifestEntry, all_entries, entry_path, is_current
from clips4.utils.output_folder.output import Output
from clips4.utils.text import printable

FOLDER_FILES = {
    "coco": "coco.json",
    "coco-polygons": "coco_polygons.json",
    "panoptic": "panoptic.json",
    **dict.fromkeys(YOLO, "yolo/data.yaml"),
    "voc": "voc/labelmap.txt",
    "fiftyone": "fiftyone/mask_targets.json",
    "label-studio": "label_studio/labeling_config.xml",
    "label-studio-brush": "label_studio_brush/labeling_config.xml",
    "cvat": "cvat.xml",
    "gallery": "gallery.html",
}
_VOC_LIST = "voc/ImageSets/Segmentation/train.txt"  # readers of Pascal VOC begin with a list of images
_LINKS = ("yolo/images/", "fiftyone/data/", "voc/JPEGImages/")  # folders of links to images


def folder_files(kinds: Sequence[str]) -> list[str]:
    """Names of the files of these kinds that cover a whole folder."""
    names = dict.fromkeys(name for kind, name in FOLDER_FILES.items() if kind in kinds)
    return [*names, *([_VOC_LIST] if "voc" in kinds else [])]


def write_folder_files(output: Output, names: Sequence[str]) -> int:
    """``coco.json``, ``panoptic.json``, ``yolo/data.yaml``, ``cvat.xml``, ``gallery.html``, from all current entries.

    All kinds are written that the entries have. Images that no longer exist, or were edited since, are left out.

    Returns:
        The number of inputs that were left out.

    Raises:
        UserError: an entry does not fit the classes.
    """
    out, gone, kinds = output.folder, 0, set(output.kinds)
    for entry in all_entries(out):
        if output.has_settings(entry) and entry["kinds"]:
            kinds |= set(entry["kinds"])
            if not is_current(entry):
                gone += 1
                for name in (name for name in entry["files"] if name.startswith(_LINKS)):
                    if (out / name).is_symlink() and not (out / name).exists():
                        (out / name).unlink()  # a link to nothing would end a training run

    def entries(kind: Kind) -> Iterator[ManifestEntry]:
        for entry in all_entries(out, output.settings_hash, kind):
            if not _fits(entry, names):
                raise UserError(f"{entry_path(out, entry['stem'])}: damaged; run the same command with --force")
            yield entry

    output.record_own(folder_files(list(kinds)))
    head = {"info": info(), "licenses": [], "categories": categories(names)}
    if "coco" in kinds:
        lists = {"images": _images(entries("coco")), "annotations": _annotations(entries("coco"))}
        write_json_lists(out / FOLDER_FILES["coco"], head, lists)
    if "coco-polygons" in kinds:
        annotations = map(as_polygons, _annotations(entries("coco-polygons")))
        lists = {"images": _images(entries("coco-polygons"), relative=True), "annotations": annotations}
        write_json_lists(out / FOLDER_FILES["coco-polygons"], head, lists)
    if "panoptic" in kinds:
        lists = {"images": _images(entries("panoptic")), "annotations": _panoptic(entries("panoptic"))}
        write_json_lists(out / FOLDER_FILES["panoptic"], head, lists)
    if set(YOLO) & kinds:
        write_atomically(out / FOLDER_FILES["yolo"], data_yaml(out / "yolo", names).encode())
    if "voc" in kinds:
        write_atomically(out / FOLDER_FILES["voc"], labelmap(names).encode())
        with atomic_text_file(out / _VOC_LIST) as file:
            file.writelines(f"{printable(entry['stem'])}\n" for entry in entries("voc"))
    if "fiftyone" in kinds:
        write_atomically(out / FOLDER_FILES["fiftyone"], mask_targets(names).encode())
    if "label-studio" in kinds:
        write_atomically(out / FOLDER_FILES["label-studio"], labeling_config(names).encode())
    if "label-studio-brush" in kinds:
        write_atomically(out / FOLDER_FILES["label-studio-brush"], labeling_config(names, brush=True).encode())
    if "cvat" in kinds:
        with atomic_text_file(out / FOLDER_FILES["cvat"]) as file:
            file.writelines(cvat_document(map(_cvat_image, entries("cvat")), names))
    if "gallery" in kinds:
        write_gallery(out / FOLDER_FILES["gallery"], lambda: entries("gallery"), names)
    return gone


def _fits(entry: ManifestEntry, names: Sequence[str]) -> bool:
    """Whether the facts of an entry are about these classes, and its masks cover the image."""
    facts = entry["facts"]
    known = {*names, UNKNOWN}
    found = [*facts.get("annotations", []), *facts.get("segments_info", [])]
    masks = [counts_of_text(each["segmentation"]["counts"]) for each in facts.get("annotations", [])]
    return (
        all(area["name"] in known for area in facts.get("areas", []))
        and all(1 <= each["category_id"] <= len(names) for each in found)
        and all(min(counts, default=0) >= 0 and sum(counts) == facts["width"] * facts["height"] for counts in masks)
    )


def _relative_name(entry: ManifestEntry) -> str:
    """The name of an image below the folder that the command was given."""
    return f"{entry['stem']}{Path(entry['source']).suffix}"


def _images(entries: Iterator[ManifestEntry], relative: bool = False) -> Iterator[dict[str, Any]]:
    for number, entry in enumerate(entries, 1):
        facts, name = entry["facts"], _relative_name(entry) if relative else entry["source"]
        yield {"id": number, "file_name": name, "width": facts["width"], "height": facts["height"]}


def _cvat_image(entry: ManifestEntry) -> dict[str, Any]:
    """An image by the name that it has in a task made of the same folder."""
    return {"name": _relative_name(entry), **entry["facts"]}


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
