"""What the server knows of each browser: its images, examples and videos, apart from all others, for a time."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from clips4.errors import UserError
from clips4.inference.encoding.encoder import EncodedImage
from clips4.serve.segment_map import SIDE, SegmentMap, segment_map

if TYPE_CHECKING:
    from clips4.serve.clips import Clip

MAX_BYTES = 2 << 30  # of all sessions together
_SEGMENT_BYTES = 4 * SIDE**2  # of the segments of an image
MAX_SESSIONS = 64
ROUGH_BYTES = 1 << 24  # that an open image takes beside its file
MAX_IMAGES = 500  # of one session


class GoneError(Exception):
    """No such image, video or session; it may have been forgotten."""


@dataclass(frozen=True)
class Edit:
    """Segments of an image set to a class by hand; no name is unknown."""

    segments: tuple[int, ...]
    name: str | None


@dataclass(eq=False)
class OpenImage:
    """An image of a session.

    Attributes:
        id: chosen at random.
        name: for people; never a path that is opened.
        data: the file's bytes.
        size: (H, W) of the image itself.
        encoded: its view (the image, reduced) and its embeddings.
        edits: of its mask, by hand.
        by_teacher: its embeddings by the teacher, once they are needed.
    """

    id: str
    name: str
    data: bytes
    size: tuple[int, int]
    encoded: EncodedImage
    edits: list[Edit] = field(default_factory=list)
    by_teacher: EncodedImage | None = None

    @cached_property
    def segments(self) -> SegmentMap:
        """For clicks; found when they are first needed, so that labels do not wait for them."""
        return segment_map(self.encoded.image, self.encoded.z)

    @property
    def view_size(self) -> tuple[int, int]:
        """(H, W) of the view."""
        return self.encoded.image.shape[0], self.encoded.image.shape[1]

    def facts(self) -> dict[str, Any]:
        """Id, name, the image's own size and that of its view."""
        (height, width), view = self.size, self.view_size
        return {"id": self.id, "name": self.name, "width": width, "height": height, "view": [view[1], view[0]]}

    @property
    def memory(self) -> int:
        """Memory that it takes."""
        z = sum(each.z.numel() * each.z.element_size() for each in (self.encoded, self.by_teacher) if each is not None)
        return len(self.data) + self.encoded.image.nbytes + z + _SEGMENT_BYTES


@dataclass(frozen=True, eq=False)
class Examples:
    """Segments that became prototypes of a class: (S, D) unit rows, and where they are."""

    name: str
    vectors: Tensor
    image: str
    segments: tuple[int, ...]
    negative_of: str | None = None


@dataclass(eq=False)
class Session:
    """One browser, or one program."""

    id: str
    used: float
    images: dict[str, OpenImage] = field(default_factory=dict)
    examples: list[Examples] = field(default_factory=list)
    clips: "dict[str, Clip]" = field(default_factory=dict)

    def image(self, id: str) -> OpenImage:
        """An image by its id.

        Raises:
            GoneError: there is none.
        """
        if id not in self.images:
            raise GoneError("no such image; open it again")
        return self.images[id]

    def clip(self, id: str) -> "Clip":
        """A video by its id.

        Raises:
            GoneError: there is none.
        """
        if id not in self.clips:
            raise GoneError("no such video; open it again")
        return self.clips[id]

    @property
    def memory(self) -> int:
        """Memory that it takes."""
        return sum(image.memory for image in self.images.values()) + sum(clip.memory for clip in self.clips.values())


class Sessions:
    """All sessions, and the one-time tokens that start them.

    Args:
        seconds: a session that nobody used for so long is forgotten.
        max_bytes: of all sessions together.
        clock: seconds, for tests.
    """

    def __init__(self, seconds: float, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._max_bytes, self._clock = seconds, max_bytes, clock
        self._sessions: dict[str, Session] = {}
        self._tokens: set[str] = set()

    def new_token(self) -> str:
        """A token that starts one session."""
        if len(self._tokens) >= MAX_SESSIONS:
            raise UserError("too many invitations wait; use one of them, or start the server again")
        token = secrets.token_urlsafe(24)
        self._tokens.add(token)
        return token

    def start(self, token: str) -> Session | None:
        """The session of a token, which is used up; None for a wrong one."""
        found = next((each for each in self._tokens if secrets.compare_digest(each.encode(), token.encode())), None)
        if found is None:
            return None
        self.forget_idle()
        if len(self._sessions) >= MAX_SESSIONS:
            raise UserError(f"{MAX_SESSIONS} browsers are in use; close one, or wait until it is forgotten")
        self._tokens.remove(found)
        session = Session(secrets.token_urlsafe(32), self._clock())
        self._sessions[session.id] = session
        return session

    def find(self, id: str) -> Session | None:
        """A session by its secret id; None if there is none, or it was forgotten."""
        session = self._sessions.get(id)
        if session is None or self._clock() - session.used > self._seconds:
            return None
        session.used = self._clock()
        return session

    def forget_idle(self) -> None:
        """Drop what nobody used for a time."""
        now = self._clock()
        for id in [id for id, each in self._sessions.items() if now - each.used > self._seconds]:
            self._close(self._sessions.pop(id))

    def check_room(self, session: Session, bytes: int) -> None:
        """Refuse what does not fit into memory.

        Raises:
            UserError: too many images, or too much memory in all sessions together.
        """
        self.forget_idle()
        if len(session.images) >= MAX_IMAGES:
            raise UserError(f"{MAX_IMAGES} images are open; close some")
        if sum(each.memory for each in self._sessions.values()) + bytes > self._max_bytes:
            raise UserError("the server's memory for images is full; close some images, or wait")

    def close(self) -> None:
        """Drop everything."""
        for session in self._sessions.values():
            self._close(session)
        self._sessions.clear()
        self._tokens.clear()

    def _close(self, session: Session) -> None:
        for clip in session.clips.values():
            clip.stop()
        session.images.clear()
        session.clips.clear()
