"""The files of one labeled image as bytes, and the facts that a folder's own files need of it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from clips4.errors import UserError
from clips4.outputs.class_colors import class_colors
from clips4.outputs.formats.cityscapes import SUFFIX as CITYSCAPES_SUFFIX
from clips4.outputs.formats.cityscapes import ids_of, label_id_png
from clips4.outputs.formats.coco import annotations, panoptic_png, segments_info
from clips4.outputs.formats.fiftyone import fiftyone_mask
from clips4.outputs.formats.label_studio import label_studio_task
from clips4.outputs.formats.labelme import labelme_document
from clips4.outputs.formats.voc import voc_png, voc_values, voc_xml
from clips4.outputs.formats.yolo import yolo_lines
from clips4.outputs.geotiff import files_beside, label_geotiff, place_of, require_rasterio
from clips4.outputs.labeled_image import UNKNOWN_LABEL, LabeledImage
from clips4.outputs.page import page_grid
from clips4.outputs.render import overlay, overlay_with_legend
from clips4.utils.atomic_io import write_atomically
from clips4.utils.images import UNKNOWN_COLOR, encode_jpeg, encode_png, reduce_to

Kind = Literal[
    "png",
    "overlay",
    "json",
    "coco",
    "coco-polygons",
    "panoptic",
    "yolo",
    "yolo-copies",
    "yolo-labels",
    "labelme",
    "label-studio",
    "label-studio-brush",
    "cvat",
    "voc",
    "cityscapes",
    "fiftyone",
    "geotiff",
    "npz",
    "gallery",
]
YOLO: tuple[Kind, ...] = ("yolo", "yolo-copies", "yolo-labels")  # with links to the images, copies of them, or neither
KINDS: tuple[Kind, ...] = get_args(Kind)
_OF_ONE_IMAGE: tuple[Kind, ...] = ("png", "overlay", "json")
UNKNOWN_VALUE = {"8-bit": 255, "16-bit": 65535}  # value of unknown pixels in a label PNG
THUMBNAIL = 512  # long side of the gallery's images


class Embeddings(NamedTuple):
    """What labels were predicted from.

    Attributes:
        z: (D, h, w) pixel embeddings.
        vectors: (L, D) class vectors.
        owner: (L,) index into the class names for each vector.
    """

    z: NDArray[np.floating]
    vectors: NDArray[np.floating]
    owner: NDArray[np.integer]

    def __repr__(self) -> str:
        return f"Embeddings(z {self.z.shape}, vectors {self.vectors.shape})"


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """Kinds from the command line's ``png,overlay,json``.

    Raises:
        UserError: an unknown kind, or none.
    """
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"kind of output {kind!r}: give some of {', '.join(KINDS)}")
    if not kinds:
        raise UserError(f"no kind of output; give some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds)


def check_names(kinds: Sequence[Kind], names: Sequence[str]) -> None:
    """Refuse kinds that cannot hold these classes, before any image is worked on.

    Raises:
        UserError: a kind cannot.
    """
    if "voc" in kinds:
        voc_values(names)
    if "geotiff" in kinds:
        require_rasterio()
    if "cityscapes" in kinds and not any(ids_of(names)):
        raise UserError(f"none of the {len(names)} classes is one of Cityscapes; name them as road, car, person, ...")


def save_image(result: LabeledImage, source: str, folder: Path, stem: str, kinds: Sequence[Kind]) -> list[Path]:
    """Write the chosen files of one image; each appears whole or not at all.

    ``STEM.png``: labels, see ``label_png``. ``STEM_overlay.png``: the image under its class colors, with a legend.
    ``STEM.json``: areas, see ``describe``.

    Returns:
        The paths written.

    Raises:
        UserError: a kind that only a folder of images has.
    """
    if others := [kind for kind in kinds if kind not in _OF_ONE_IMAGE]:
        raise UserError(f"{others[0]!r} is not saved for one result, but for a folder of images (clips4 segment)")
    written = []
    for name, content in image_files(result, source, stem, kinds).items():
        write_atomically(folder / name, content)
        written.append(folder / name)
    return written


def image_files(
    result: LabeledImage, source: str | Path, stem: str, kinds: Sequence[Kind], embeddings: Embeddings | None = None
) -> dict[str, bytes]:
    """The files of one image: name within the output folder -> content.

    ``png``: ``STEM.png``, with a world file for a GeoTIFF; ``overlay``: ``STEM_overlay.png``; ``json``: ``STEM.json``;
    ``npz``: ``STEM.npz``; ``panoptic``: ``panoptic/STEM.png``; ``yolo``: ``yolo/labels/STEM.txt``; ``labelme``:
    ``labelme/STEM.json``; ``label-studio``: ``label_studio/STEM.json``, with masks ``label_studio_brush/STEM.json``;
    ``voc``: ``voc/SegmentationClass/STEM.png``, ``voc/Annotations/STEM.xml``; ``cityscapes``:
    ``cityscapes/STEM_gtFine_labelIds.png``; ``fiftyone``: ``fiftyone/labels/STEM.png``; ``geotiff``:
    ``geotiff/STEM.tif``; ``gallery``: two thumbnails. All but thumbnails have the image's own size, as displayed
    (rotated as EXIF says).

    Args:
        result: the image and its labels.
        source: file of the image.
        stem: of the output names.
        kinds: what to encode.
        embeddings: for ``npz``.

    Raises:
        ValueError: ``npz`` without embeddings.
    """
    files: dict[str, bytes] = {}
    if "png" in kinds:
        files[f"{stem}.png"] = label_png(result)
    if "overlay" in kinds:
        files[f"{stem}_overlay.png"] = encode_png(overlay_with_legend(result))
    if "json" in kinds:
        files[f"{stem}.json"] = (json.dumps(describe(result, str(source)), indent=2) + "\n").encode()
    if "png" in kinds and (place := place_of(Path(source))):
        files |= files_beside(f"{stem}.png", place)
    if "panoptic" in kinds:
        files[f"panoptic/{stem}.png"] = panoptic_png(result.labels)
    if set(YOLO) & set(kinds):
        files[f"yolo/labels/{stem}.txt"] = yolo_lines(result.labels).encode()
    if "labelme" in kinds:
        document = labelme_document(result, str(source))
        files[f"labelme/{stem}.json"] = (json.dumps(document) + "\n").encode()
    for kind in ("label-studio", "label-studio-brush"):
        if kind in kinds:
            task = label_studio_task(result, str(Path(source).absolute()), brush=kind.endswith("-brush"))
            files[f"{kind.replace('-', '_')}/{stem}.json"] = (json.dumps(task) + "\n").encode()
    if "voc" in kinds:
        files[f"voc/SegmentationClass/{stem}.png"] = voc_png(result)
        files[f"voc/Annotations/{stem}.xml"] = voc_xml(result, f"{Path(stem).name}{Path(source).suffix}").encode()
    if "geotiff" in kinds:
        values, colors = label_values(result)
        files[f"geotiff/{stem}.tif"] = label_geotiff(values, colors, result.names, Path(source))
    if "cityscapes" in kinds:
        files[f"cityscapes/{stem}{CITYSCAPES_SUFFIX}"] = label_id_png(result)
    if "fiftyone" in kinds:
        files[f"fiftyone/labels/{stem}.png"] = fiftyone_mask(result)
    if "npz" in kinds:
        if embeddings is None:
            raise ValueError("npz needs the embeddings of the image")
        files[f"{stem}.npz"] = embeddings_npz(result, embeddings)
    if "gallery" in kinds:
        files[f"gallery/{stem}.jpg"] = encode_jpeg(reduce_to(result.image, THUMBNAIL), 82)
        files[f"gallery/{stem}_overlay.jpg"] = encode_jpeg(reduce_to(overlay(result), THUMBNAIL), 82)
    return files


def image_facts(result: LabeledImage, kinds: Sequence[Kind]) -> dict[str, Any]:
    """What the files of a whole folder, such as ``coco.json`` and ``gallery.html``, need of an image, JSON-ready."""
    height, width = result.labels.shape
    facts: dict[str, Any] = {"width": width, "height": height, "areas": describe(result, "")["areas"]}
    if {"coco", "coco-polygons", "cvat"} & set(kinds):
        facts["annotations"] = annotations(result)
    if "panoptic" in kinds:
        facts["segments_info"] = segments_info(result.labels)
    if "gallery" in kinds:
        numbers = np.where(result.labels == UNKNOWN_LABEL, len(result.names), result.labels)
        if result.unknown_labels is not None:  # "unknown" itself, then the discovered classes
            numbers = np.where(result.unknown_labels >= 0, len(result.names) + 1 + result.unknown_labels, numbers)
        facts["grid"] = page_grid(numbers)
    return facts


def _depth(result: LabeledImage) -> str:
    return "8-bit" if len(result.names) <= UNKNOWN_VALUE["8-bit"] else "16-bit"


def label_png(result: LabeledImage) -> bytes:
    """PNG bytes of the label map: palette and 255 for unknown, or 16 bits and 65535 with more than 255 classes."""
    values, colors = label_values(result)
    return encode_png(values, None if colors is None else colors.tolist())


def label_values(result: LabeledImage) -> tuple[NDArray[np.integer], NDArray[np.uint8] | None]:
    """The label map (H, W) as files hold it and its palette (256, 3): 255 for unknown; or 65535, and no palette."""
    depth = _depth(result)
    values = np.where(result.labels == UNKNOWN_LABEL, UNKNOWN_VALUE[depth], result.labels.astype(np.int32))
    if depth == "16-bit":
        return values.astype(np.uint16), None
    colors = np.full((256, 3), UNKNOWN_COLOR, np.uint8)
    colors[: len(result.names)] = class_colors(result.names)
    return values.astype(np.uint8), colors


def describe(result: LabeledImage, source: str) -> dict[str, object]:
    """A JSON-ready description of the prediction for an image.

    Size, the source of each class vector, the share of each discovered unknown class, and for each class its value in
    the PNG, color, area and mean cosine.
    """
    height, width = result.labels.shape
    colors = class_colors(result.names)
    unknown = UNKNOWN_VALUE[_depth(result)]
    discovered = [
        {"name": area.name, "pixels": area.pixels, "share": round(area.share, 6)} for area in result.unknown_areas()
    ]
    return {
        "file": source,
        "width": width,
        "height": height,
        "asked": list(result.names),
        **({"sources": dict(zip(result.names, result.sources, strict=True))} if result.sources else {}),
        "unknown_share": round(result.unknown_share, 6),
        **({"unknown": discovered} if result.unknown_labels is not None else {}),
        "areas": [
            {
                "name": area.name,
                "value": area.label if area.label >= 0 else unknown,
                "color": "#{:02x}{:02x}{:02x}".format(*(colors[area.label] if area.label >= 0 else UNKNOWN_COLOR)),
                "pixels": area.pixels,
                "share": round(area.share, 6),
                "mean_cosine": round(float(result.similarity[result.labels == area.label].mean()), 4),
            }
            for area in result.areas()
        ],
    }


def embeddings_npz(result: LabeledImage, embeddings: Embeddings) -> bytes:
    """NPZ, readable without pickle, of everything that labels were predicted from.

    ``z`` (D, h, w) float16; ``names`` (K,) text; ``vectors`` (L, D) float32 and ``owner`` (L,) the index into ``names``
    of each; ``labels`` (H, W) int16, -1 for unknown; ``unknown_labels`` (H, W) int16, the discovered unknown class of
    each unknown pixel and -1 elsewhere, unless no pixel could be unknown.
    """
    arrays: dict[str, Any] = {
        "z": embeddings.z.astype(np.float16),
        "names": np.array(result.names, dtype=np.str_),
        "vectors": embeddings.vectors.astype(np.float32),
        "owner": embeddings.owner.astype(np.int16),
        "labels": result.labels,
    }
    if result.unknown_labels is not None:
        arrays["unknown_labels"] = result.unknown_labels
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
