"""The web application: the page's files, the JSON API, and the checks that every request passes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clips4.errors import UserError
from clips4.serve import messages
from clips4.serve.http.api import Api
from clips4.serve.http.endpoint import UPLOAD_BYTES, Call, Endpoint
from clips4.serve.http.openapi import describe
from clips4.serve.http.security import HEADERS, allowed_names, host_is_allowed, session_of
from clips4.serve.messages import TokenRequest
from clips4.serve.page.files import MEDIA, page_files
from clips4.serve.sessions import GoneError
from clips4.serve.worker import BusyError

JSON_BYTES = 1 << 24
_FORGET_EVERY = 30.0  # seconds
_NO_SESSION = "no session: open the address that clips4 serve printed; each works once"


class TooLargeError(Exception):
    """A body beyond the limit."""


def create_app(api: Api, host: str = "127.0.0.1", port: int = 8004, prepare: bool = True) -> Starlette:
    """The application.

    Args:
        api: what it serves.
        host: that the server binds to; decides which Host headers are accepted.
        port: names the cookie, since browsers share cookies between ports.
        prepare: whether to load the teacher's text encoder in the background.
    """
    cookie = f"clips4-{port}"
    files = page_files()
    endpoints = api.endpoints()
    document = describe(endpoints)

    async def page(request: Request) -> Response:
        token = request.query_params.get("token")
        if token is not None:
            session = api.sessions.start(token)
            if session is None:
                return _problem(401, _NO_SESSION)
            response = RedirectResponse("/", 303)
            response.set_cookie(cookie, session.id, httponly=True, samesite="strict", path="/")
            return response
        id = session_of(request, cookie)
        if id is None or api.sessions.find(id) is None:
            return _problem(401, _NO_SESSION)
        return Response(files["index.html"], media_type=MEDIA["html"])

    async def file(request: Request) -> Response:
        name = str(request.path_params["name"])  # a key of a table, never a path
        if name not in files:
            return _problem(404, "no such file")
        return Response(files[name], media_type=MEDIA[name.rpartition(".")[2]])

    async def session(request: Request) -> Response:
        try:
            body = TokenRequest.model_validate_json(await _read(request, 1 << 12))
        except ValidationError:
            return _problem(422, 'give the token: {"token": "..."}')
        found = api.sessions.start(body.token)
        return _problem(401, _NO_SESSION) if found is None else JSONResponse({"session": found.id})

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(api.forget(_FORGET_EVERY))]
        if prepare:
            tasks.append(asyncio.create_task(api.prepare()))
        yield
        for task in tasks:
            task.cancel()
        api.close()

    by_path: dict[str, list[Endpoint]] = {}
    for each in endpoints:
        by_path.setdefault(each.path, []).append(each)
    routes = [
        Route("/", page),
        Route("/api/session", guarded(session), methods=["POST"]),
        Route("/api/openapi.json", openapi),
        *(
            Route(path, _handler(api, cookie, its), methods=[each.method for each in its])
            for path, its in by_path.items()
        ),
        Route("/{name}", file),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(_Guard, host=host)
    return app


def guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose problems become JSON with ``error``, in one line."""

    async def call(request: Request) -> Response:
        try:
            return await handler(request)
        except UserError as error:
            return _problem(422, str(error))
        except GoneError as error:
            return _problem(404, str(error))
        except TooLargeError as error:
            return _problem(413, str(error))
        except BusyError:
            response = _problem(503, "too many requests wait; try again in a moment")
            response.headers["Retry-After"] = "1"
            return response

    return call


def _handler(api: Api, cookie: str, endpoints: list[Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    by_method = {each.method: each for each in endpoints}

    async def call(request: Request) -> Response:
        id = session_of(request, cookie)
        session = api.sessions.find(id) if id else None
        if session is None:
            return _problem(401, _NO_SESSION)
        endpoint = by_method["GET" if request.method == "HEAD" else request.method]
        body: Any = None
        if endpoint.body is bytes:
            body = await _read(request, UPLOAD_BYTES)
        elif endpoint.body is not None and issubclass(endpoint.body, messages.Message):
            try:
                body = endpoint.body.model_validate_json(await _read(request, JSON_BYTES))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "body"
                return _problem(422, f"{place}: {first['msg']}")
        return await endpoint.handler(Call(request, session, body))

    return guarded(call)


async def _read(request: Request, limit: int) -> bytes:
    """The body, at most ``limit`` bytes of it, counted while it arrives."""
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > limit:
            raise TooLargeError(f"more than {limit >> 20 or 1} MiB; send a smaller file")
        parts.append(part)
    return b"".join(parts)


def _problem(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)


class _Guard:
    """Refuses foreign host names, and adds the headers of ``security`` to every response."""

    def __init__(self, app: ASGIApp, host: str):
        self._app, self._names = app, allowed_names(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        if not host_is_allowed(Request(scope).headers, self._names):
            await _problem(421, "this server has another name")(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
