"""Running the server: load the model, bind, print an address that works once, open it."""

import os
import socket
import sys
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from clips4.errors import UserError
from clips4.inference.encoding.encoder import Encoder
from clips4.inference.encoding.features import load_features
from clips4.inference.segmenter import Segmenter
from clips4.models.onnx.runtime import is_exported
from clips4.serve.engine import Engine
from clips4.serve.sessions import Sessions
from clips4.serve.worker import Worker
from clips4.utils.extras import install_command

if TYPE_CHECKING:
    from clips4.serve.http.api import Api

_TRACKED_SIDE = 854
_FEATURES = "student:c3+c4"


def require_serve() -> None:
    """Check that the extra is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"the page needs the package {error.name}; {install_command(str(error.name))}")


def make_api(segmenter: Segmenter, run: Path | None, listed: Sequence[Path], title: str, minutes: float) -> "Api":
    """What a server serves.

    Args:
        segmenter: predicts.
        run: its folder, hub id or ONNX file; None for a teacher alone.
        listed: images that the page offers.
        title: of the page.
        minutes: after which what nobody used is forgotten.
    """
    from clips4.serve.http.api import Api
    from clips4.serve.http.video_api import VideoApi

    is_run = run is not None and not is_exported(run)
    load_teacher = partial(Segmenter.load, run, use="teacher") if is_run else None  # type: ignore[arg-type]
    engine, worker, sessions = Engine(segmenter, load_teacher), Worker(), Sessions(60 * minutes)
    # an ONNX file and a teacher have no features but their pixel embeddings
    load_encoder = partial(load_features, _FEATURES, run, _TRACKED_SIDE) if is_run else lambda: cast(Encoder, segmenter)
    folder = run if run is not None and run.is_dir() else None
    return Api(engine, worker, sessions, title, listed, folder, VideoApi(engine, worker, sessions, load_encoder))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UserError: the port is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise UserError(f"{host}:{port}: cannot be used ({error.strerror or error}); give another --port or --host")
    return bound


def serve(api: "Api", host: str, bound: socket.socket, log: Callable[[str], None], open_browser: bool) -> None:
    """Serve until Ctrl-C.

    Args:
        api: what to serve.
        host: that the socket is bound to.
        bound: see ``bind``.
        log: takes the lines that people read.
        open_browser: whether to open the page where there is a screen.
    """
    import uvicorn

    from clips4.serve.http.app import create_app

    port = bound.getsockname()[1]
    api.engine.warm_up()
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    api.address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    address = f"{api.address}/?token={api.sessions.new_token()}"
    log(f"Open {address}")
    log("The address works once; the page has a button that invites another browser. Ctrl-C stops the server.")
    if open_browser and _has_screen():
        webbrowser.open(address)
    app = create_app(api, host, port)
    config = uvicorn.Config(app, log_level="warning", server_header=False, access_log=False)
    uvicorn.Server(config).run([bound])


def _has_screen() -> bool:
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
