"""Predictions in Ray Data: a class for ``map_batches``, of which each actor loads the run once.

It needs no Ray itself: a batch is a dict of arrays, one row an image. See docs/scaling.md for a whole program.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from clips4.data.image_folder import reason_to_skip
from clips4.errors import UserError
from clips4.inference.classifier import Classes, Vectors
from clips4.inference.opening import Use
from clips4.inference.segmenter import Background, Segmenter
from clips4.outputs.encode import Kind, check_names, image_files, parse_kinds
from clips4.utils.images import RGB, decode_rgb
from clips4.utils.text import listing

KINDS: tuple[Kind, ...] = ("png", "overlay", "json", "npz")  # that one image makes one file of


class PredictBatch:
    r"""Adds the files that ``clips4 segment`` would write for each image, as columns of bytes.

    Args:
        run: see ``Segmenter.load``; so are ``device`` and ``use``. On several machines a path that all of them have.
        classes: class names, see ``Segmenter.segment``; so are ``vectors``, ``unknown`` and ``background``.
        save: some of ``KINDS``, with commas; each is a column.
        column: of the images: arrays (H, W, 3) uint8 as of ``read_images``; the bytes of image files; or structs with
            ``bytes``, as in tables of the library datasets.
        path: column of names, which ``json`` repeats; left out where there is none.

    Raises:
        UserError: see ``Segmenter.load`` and ``Segmenter.query``, or a kind that is not one of ``KINDS``.

    Example:
        >>> import numpy as np
        >>> predict = PredictBatch("runs/pets", device="cpu")
        >>> batch = predict({"image": np.zeros((2, 72, 96, 3), np.uint8)})
        >>> sorted(batch), batch["png"][0][:4], list(batch["error"])
        (['error', 'image', 'png'], b'\x89PNG', ['', ''])
    """

    def __init__(
        self,
        run: str | Path,
        classes: Classes | None = None,
        save: str = "png",
        column: str = "image",
        path: str = "path",
        vectors: str = "prototypes",
        unknown: bool = True,
        background: Background = None,
        device: str = "auto",
        use: str = "auto",
    ):
        self._kinds = parse_kinds(save)
        if others := [kind for kind in self._kinds if kind not in KINDS]:
            raise UserError(f"save={others[0]}: not for batches; give some of {', '.join(KINDS)}")
        self._column, self._path, self._unknown = column, path, unknown
        self._segmenter = Segmenter.load(run, device, use=cast(Use, use))
        self._query = self._segmenter.query(classes, cast(Vectors, vectors), background)
        check_names(self._kinds, self._query.names)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The batch with a column for each kind, and ``error``: why a row has none, otherwise empty.

        Raises:
            UserError: the batch has no such column.
        """
        if self._column not in batch:
            raise UserError(f"no column {self._column!r}, only {listing(list(batch))}; give column=NAME")
        values = batch[self._column]
        names = [str(name) for name in batch.get(self._path, [""] * len(values))]
        images, errors = dict[int, RGB](), [""] * len(values)
        for row, (value, name) in enumerate(zip(values, names, strict=True)):
            try:
                images[row] = _decode(value, name or f"row {row}")
            except Exception as error:
                errors[row] = reason_to_skip(error)
        found: dict[Kind, list[bytes]] = {kind: [b""] * len(values) for kind in self._kinds}
        for row, encoded in zip(images, self._segmenter.encode_images(list(images.values()), keep=False), strict=True):
            result = self._segmenter.predict(encoded, self._query, self._unknown)
            embeddings = result.embeddings() if "npz" in self._kinds else None
            for kind in self._kinds:
                found[kind][row] = next(iter(image_files(result, names[row], "image", [kind], embeddings).values()))
        # objects: an array of bytes would drop zeros at their ends
        return {**batch, **{kind: _objects(files) for kind, files in found.items()}, "error": np.array(errors)}


def _decode(value: Any, name: str) -> RGB:
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3 and value.dtype == np.uint8:
        return value
    if isinstance(value, bytes):
        return decode_rgb(value, name)
    raise UserError(f"{name}: no image; give arrays (H, W, 3) of uint8, or the bytes of image files")


def _objects(values: Sequence[bytes]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array
