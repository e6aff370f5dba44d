"""What the page asks of a model: labels, why, similar places, examples. All calls come from one thread."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clips4.errors import UserError
from clips4.inference.classifier import Query
from clips4.inference.encoding.encoder import EncodedImage
from clips4.inference.result import Segmentation
from clips4.inference.segmenter import Segmenter
from clips4.inference.unknown.name_suggestion import nouns, suggest_names
from clips4.inference.upsample import upsampled_window
from clips4.models.class_set import ClassSet
from clips4.outputs.class_colors import class_colors
from clips4.serve.corrections import check_pixel, counterexamples_of, edited, examples_of
from clips4.serve.messages import ClassesRequest, ClassRequest
from clips4.serve.runs import to_runs
from clips4.serve.sessions import Examples, OpenImage, Session
from clips4.utils.images import UNKNOWN_COLOR, UNKNOWN_NAME, decode_rgb, reduce_to

VIEW_SIDE = 1600  # larger images are shown reduced to it; exports have the image's own size
BEST = 3  # names of a pixel
NEAREST = 12  # similar segments that are listed
_NOUNS_AT_ONCE = 32


class Engine:
    """A segmenter with what the page needs around it.

    Args:
        segmenter: of a run, or of a teacher alone.
        load_teacher: gives the segmenter of the teacher of the same run; None where there is none to compare with.
    """

    def __init__(self, segmenter: Segmenter, load_teacher: Callable[[], Segmenter] | None = None):
        self.segmenter = segmenter
        self._load_teacher, self._teacher = load_teacher, None if load_teacher else segmenter
        self.suggested: list[list[str]] = []

    @property
    def has_teacher(self) -> bool:
        """Whether labels of the teacher can be shown beside those of the run."""
        return self._load_teacher is not None

    # ------------------------------------------------------------------------------------------------------- images

    def open(self, data: bytes, name: str) -> OpenImage:
        """Decode and encode an image within the limits of ``utils.image_file``.

        Raises:
            UserError: not an image, damaged, or larger than the limits.
        """
        image = decode_rgb(data, name)
        z = self.segmenter.encode_image(image).z
        view = EncodedImage(reduce_to(image, VIEW_SIDE), z, None)
        return OpenImage(secrets.token_urlsafe(8), name, data, image.shape[:2], view)

    # ----------------------------------------------------------------------------------------------------- classes

    def query(self, classes: Sequence[ClassRequest], examples: Sequence[Examples] = ()) -> tuple[Query, Tensor]:
        """The class vectors of classes and their examples.

        Returns:
            The query; and (L,) bool, which of its rows are examples.

        Raises:
            UserError: invalid names, or a class with neither a name to look for nor an example.
        """
        flat = [queried for each in classes for queried in each.stands_for()]
        class_of = [index for index, each in enumerate(classes) for _ in each.stands_for()]
        names = tuple(each.name for each in classes)
        if len({name.casefold() for name in names}) < len(names) or UNKNOWN_NAME in map(str.casefold, names):
            raise UserError(f"give each class a name of its own, and none the name {UNKNOWN_NAME!r}")
        by_name = self.segmenter.query(flat) if flat else None
        owner = [class_of[index] for index in by_name.owner.tolist()] if by_name else []
        own = {name: [each.vectors for each in examples if each.name == name] for name in names}
        rows = [vectors for name in names for vectors in own[name]]
        added = [index for index, name in enumerate(names) for vectors in own[name] for _ in vectors]
        if missing := next((names[i] for i in range(len(names)) if i not in {*owner, *added}), None):
            raise UserError(f"{missing!r} has neither a name to look for nor an example; click one, or drop it")
        found = by_name.sources if by_name else ()
        sources = ["examples" if own[name] else found[class_of.index(index)] for index, name in enumerate(names)]
        vectors = torch.cat([*([by_name.vectors] if by_name else []), *rows])
        classifier = self.segmenter.classifier
        compared = vectors if classifier.separates_unknown else None
        is_example = torch.arange(len(vectors)) >= len(owner)
        named = vectors, torch.tensor(owner + added), names, tuple(sources)
        return Query(*named, pixel_vectors=compared, grouped=classifier.grouped), is_example

    def class_set(self, classes: Sequence[ClassRequest], examples: Sequence[Examples]) -> ClassSet:
        """The vectors of classes and examples, to be kept with the run."""
        query, is_example = self.query(classes, examples)
        queried = tuple(tuple(each.stands_for()) for each in classes)
        return ClassSet(query.names, queried, query.sources, query.vectors, query.owner, is_example)

    # ------------------------------------------------------------------------------------------------------ labels

    def labels(self, session: Session, image: OpenImage, request: ClassesRequest) -> dict[str, Any]:
        """The class of every pixel of an image's view, as runs, and its legend."""
        result = self.predict(session, image, request)
        return {
            "width": result.labels.shape[1],
            "height": result.labels.shape[0],
            "runs": to_runs(numbered(result)),
            "legend": self.legend(result),
        }

    def predict(self, session: Session, image: OpenImage, request: ClassesRequest, whole: bool = False) -> Segmentation:
        """The prediction for an image's view, or for the whole image; segments set by hand included."""
        examples = session.examples if request.by == "run" else []
        segmenter, encoded = self._of(image, request.by)
        if request.by == "run":
            query = self.query(request.classes, examples)[0]
        else:  # by class names alone: its vectors lie elsewhere
            query = self._teacher_query(segmenter, request.classes)
        if whole and image.size != image.view_size:
            encoded = encoded._replace(image=decode_rgb(image.data, image.name))
        return edited(segmenter.predict(encoded, query, request.unknown), image)

    def legend(self, result: Segmentation) -> list[dict[str, Any]]:
        """Name, label, color, share and source of each class, then those of the unknown classes that occur."""
        shares = {area.label: area.share for area in result.areas()}
        colors = class_colors(result.names).tolist()
        found: list[dict[str, Any]] = [
            {
                "name": name,
                "label": index,
                "color": colors[index],
                "share": shares.get(index, 0.0),
                "source": result.sources[index] if result.sources else "text",
            }
            for index, name in enumerate(result.names)
        ]
        discovered = result.unknown_areas()
        by_hand = result.unknown_share - sum(area.share for area in discovered)
        unknown = [(area.name, -2 - area.label, area.share) for area in discovered]
        if by_hand > 0.5 / result.labels.size:
            unknown.append((UNKNOWN_NAME, -1, by_hand))
        for name, label, share in unknown:
            suggested = self.suggested[-2 - label] if label < -1 and self.suggested else []
            found.append(
                {
                    "name": name,
                    "label": label,
                    "color": list(UNKNOWN_COLOR),
                    "share": share,
                    "source": "unknown",
                    "suggested": suggested,
                }
            )
        return found

    def _of(self, image: OpenImage, by: str) -> tuple[Segmenter, EncodedImage]:
        if by == "run":
            return self.segmenter, image.encoded
        if self._teacher is None:
            assert self._load_teacher is not None
            self._teacher = self._load_teacher()
        if image.by_teacher is None:
            z = self._teacher.encode_image(decode_rgb(image.data, image.name)).z
            image.by_teacher = EncodedImage(image.encoded.image, z, None)
        return self._teacher, image.by_teacher

    def _teacher_query(self, teacher: Segmenter, classes: Sequence[ClassRequest]) -> Query:
        flat = [queried for each in classes for queried in each.stands_for()]
        if not flat:
            raise UserError("the teacher needs class names; examples are of the run alone")
        class_of = [index for index, each in enumerate(classes) for _ in each.stands_for()]
        found = teacher.query(flat)
        sources = [found.sources[class_of.index(i)] if i in class_of else "examples" for i in range(len(classes))]
        names = tuple(each.name for each in classes)
        return replace(found, owner=torch.tensor(class_of)[found.owner], names=names, sources=tuple(sources))

    # --------------------------------------------------------------------------------------------------------- why

    @torch.no_grad()
    def why(self, session: Session, image: OpenImage, request: ClassesRequest, x: int, y: int) -> dict[str, Any]:
        """The best names of a pixel with their cosines, its segment and its region."""
        segmenter, encoded = self._of(image, request.by)
        if request.by == "run":
            query = self.query(request.classes, session.examples)[0]
        else:
            query = self._teacher_query(segmenter, request.classes)
        check_pixel(image, x, y)
        prototypes = segmenter.prototypes
        unknown = query.vectors[:0] if prototypes is None or not request.unknown else prototypes.query_unknown
        rows = torch.cat([query.vectors.to(encoded.z), unknown.to(encoded.z)])
        cosines = torch.einsum("dhw,ld->lhw", encoded.z, rows)
        there = upsampled_window(cosines, image.view_size, slice(y, y + 1), slice(x, x + 1))[:, 0, 0]
        names = [*query.names, *(f"{UNKNOWN_NAME} {number}" for number in range(len(unknown)))]
        owner = torch.cat([query.owner, len(query.names) + torch.arange(len(unknown))]).to(there.device)
        best = there.new_full((len(names),), -1.0).scatter_reduce_(0, owner, there, "amax")
        order = best.argsort(descending=True)[:BEST].tolist()
        segment = image.segments.at(x, y, image.view_size)
        return {
            "best": [{"name": names[i], "cosine": round(float(best[i]), 4)} for i in order],
            "segment": segment,
            "region": int(image.segments.regions[segment]),
        }

    @torch.no_grad()
    def similar(self, session: Session, image: OpenImage, x: int, y: int) -> dict[str, Any]:
        """How similar every position of every image is to a pixel, and the segments nearest to its segment.

        Cosines of a map are given as 0 to 255, for -1 to 1.
        """
        check_pixel(image, x, y)
        z = image.encoded.z
        (height, width), (rows, columns) = image.view_size, z.shape[1:]
        pixel = z[:, y * rows // height, x * columns // width]
        segment = image.segments.at(x, y, image.view_size)
        v = image.segments.vectors[segment]
        maps, near = [], []
        for other in session.images.values():
            cosines = torch.einsum("dhw,d->hw", other.encoded.z, pixel)
            maps.append(
                {
                    "image": other.id,
                    "width": cosines.shape[1],
                    "height": cosines.shape[0],
                    "values": ((cosines + 1) * 127.5).round().clamp(0, 255).int().flatten().tolist(),
                }
            )
            for number, cosine in enumerate((other.segments.vectors @ v).tolist()):
                if other is not image or number != segment:
                    near.append({"image": other.id, "segment": number, "cosine": round(cosine, 4)})
        near.sort(key=lambda each: -each["cosine"])
        return {"maps": maps, "nearest": near[:NEAREST]}

    # ---------------------------------------------------------------------------------------------------- examples

    def examples(
        self,
        session: Session,
        image: OpenImage,
        segments: Sequence[int],
        name: str,
        negative: bool,
        classes: Sequence[ClassRequest],
    ) -> Examples:
        """Segments as prototypes of a class; where they are not that class, of the nearest other one."""
        if not negative:
            return examples_of(image, segments, name)
        return counterexamples_of(image, segments, name, self.query(classes, session.examples)[0])

    # ------------------------------------------------------------------------------------------------- suggestions

    def warm_up(self) -> None:
        """Load what the first image and the first new name need."""
        self._encode_names(["thing"])
        self.segmenter.encode(torch.zeros(1, 3, 64, 64))

    def prepare(self) -> "list[Callable[[], None]]":
        """Steps to the names that are suggested for unknown classes, each short."""
        steps: list[Callable[[], None]] = []
        if self.segmenter.prototypes is None or not len(self.segmenter.prototypes.unknown):
            return steps
        every = nouns()
        for start in range(0, len(every), _NOUNS_AT_ONCE):
            steps.append(lambda start=start: self._encode_names(every[start : start + _NOUNS_AT_ONCE]))  # type: ignore[misc]
        return [*steps, self._suggest]

    def _encode_names(self, names: Sequence[str]) -> None:
        self.segmenter.query(list(names))

    def _suggest(self) -> None:
        assert self.segmenter.prototypes is not None
        found = suggest_names(self.segmenter.classifier, self.segmenter.prototypes, BEST)
        self.suggested = [[each.name for each in names] for names in found]


def numbered(result: Segmentation) -> NDArray[np.int16]:
    """(H, W) labels; -2 - u for pixels of the discovered unknown class u, -1 for unknown by hand."""
    if result.unknown_labels is None:
        return result.labels
    return np.where(result.unknown_labels >= 0, -2 - result.unknown_labels, result.labels).astype(np.int16)
