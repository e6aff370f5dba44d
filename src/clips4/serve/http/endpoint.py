"""What the addresses of the JSON API share: a checked request, and helpers for requests and responses."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from clips4.errors import UserError
from clips4.serve.messages import Message
from clips4.serve.sessions import Session

UPLOAD_BYTES = 1 << 28  # of one image or video


class Call(NamedTuple):
    """A request of a session, checked; ``body`` is a message or bytes."""

    request: Request
    session: Session
    body: Any

    @property
    def id(self) -> str:
        """The image or video that the address names."""
        return str(self.request.path_params["id"])

    def number(self, name: str = "number") -> int:
        """A number in the address.

        Raises:
            UserError: it is none.
        """
        text = str(self.request.path_params.get(name) or self.request.query_params.get(name, ""))
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise UserError(f"{name} {text[:20]!r}: give a whole number")
        return int(text)

    def file_name(self) -> str:
        """The name that a browser gives a file: shown, never opened."""
        name = "".join(c for c in self.request.query_params.get("name", "") if c.isprintable())
        return Path(name.replace("\\", "/")).name[:120] or "image"


class Endpoint(NamedTuple):
    """One address.

    Attributes:
        method: of HTTP.
        path: with ``{id}`` for parts that vary.
        handler: takes the call.
        body: of the request: a message as JSON, the bytes of a file, or none.
        summary: one sentence for the docs.
        query: names of parameters.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Response]]
    body: type[Message] | type[bytes] | None
    summary: str
    query: tuple[str, ...] = ()


def download(content: bytes, media: str, name: str) -> Response:
    """A file for the browser to keep."""
    disposition = f"attachment; filename*=UTF-8''{quote(name)}"
    return Response(content, media_type=media, headers={"Content-Disposition": disposition})
