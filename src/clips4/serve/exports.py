"""Masks of a session as files: label PNGs, one COCO document, labelme JSON."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from clips4.inference.result import Segmentation
from clips4.outputs.encode import label_png
from clips4.outputs.formats.coco import add_image, categories, empty_document
from clips4.outputs.formats.labelme import labelme_document
from clips4.serve.messages import Format

ZIP, PNG, JSON = "application/zip", "image/png", "application/json"


class Exporter:
    """Collects the masks of images, one at a time, so that memory holds one prediction.

    Args:
        format: "png" and "labelme" give a file for each image, "coco" one for all.
    """

    def __init__(self, format: Format):
        self._format: Format = format
        self._files: dict[str, bytes] = {}
        self._coco = empty_document(())

    def add(self, result: Segmentation, name: str) -> None:
        """The mask of an image; all are of one query."""
        file = PurePath(name.replace("\\", "/")).name
        if self._format == "png":
            self._files[self._unused(file, ".png")] = label_png(result)
        elif self._format == "labelme":
            self._files[self._unused(file, ".json")] = _json(labelme_document(result, file))
        else:
            self._coco["categories"] = categories(result.names)
            add_image(self._coco, result, file)

    def finish(self) -> tuple[str, str, bytes]:
        """Media type, name and content of the download: a ZIP where there are several files."""
        if self._format == "coco":
            return JSON, "coco.json", _json(self._coco)
        if len(self._files) == 1:
            ((name, content),) = self._files.items()
            return (PNG if self._format == "png" else JSON), name, content
        return ZIP, f"clips4-{self._format}.zip", zipped(self._files)

    def _unused(self, file: str, suffix: str) -> str:
        """``stem.suffix``, numbered where another image has the same name."""
        stem = PurePath(file).stem.strip(". ") or "image"
        number, found = 1, f"{stem}{suffix}"
        while found in self._files:
            number += 1
            found = f"{stem}-{number}{suffix}"
        return found


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document) + "\n").encode()
