"""Bodies of requests to the JSON API; pydantic checks them, and ``openapi`` describes them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=200)]
Format = Literal["png", "coco", "labelme"]


class Message(BaseModel):
    """The base of all bodies: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassRequest(Message):
    """A class: its name, and the class names that it stands for, itself by default; none for one of examples alone."""

    name: Text
    queried: Annotated[list[Text], Field(max_length=50)] | None = None

    def stands_for(self) -> list[str]:
        """The class names that are looked for."""
        return [self.name] if self.queried is None else self.queried


class ClassesRequest(Message):
    """Classes of a query, and the network that predicts."""

    classes: Annotated[list[ClassRequest], Field(min_length=1, max_length=500)]
    unknown: bool = True
    by: Literal["run", "teacher"] = "run"


class PixelRequest(ClassesRequest):
    """A pixel of the view of an image; x to the right, y down."""

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]


class PlaceRequest(Message):
    """A pixel of the view of an image, to compare others with."""

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]


class ExampleRequest(ClassesRequest):
    """Segments of an image that are examples of a class, or are not that class; ``classes`` are the current ones."""

    image: str
    segments: Annotated[list[int], Field(min_length=1, max_length=200)]
    name: Text
    negative: bool = False


class EditRequest(Message):
    """Segments of an image whose mask is set by hand to a class, or to unknown without a name."""

    segments: Annotated[list[int], Field(min_length=1, max_length=2000)]
    name: Text | None = None


class SaveSetRequest(ClassesRequest):
    """The name under which the classes and their examples are kept with the run."""

    name: Text


class ExportRequest(ClassesRequest):
    """Images of the session, and the format to write them in."""

    images: Annotated[list[str], Field(min_length=1, max_length=500)]
    format: Format


class ClipRequest(Message):
    """Images of the session as the frames of a video, in order."""

    images: Annotated[list[str], Field(min_length=2, max_length=500)]


class TrackRequest(Message):
    """The mask of a frame, from which objects are followed to the last one; the masks before it are kept.

    ``runs``: object and number of pixels in turn, row by row; object 0 is the background.
    """

    frame: Annotated[int, Field(ge=0)]
    runs: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2_000_000)]


class TokenRequest(Message):
    """The one-time token of a printed address."""

    token: str
