"""The part of the JSON API that is about videos."""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

from starlette.responses import JSONResponse, Response

from clips4.inference.encoding.encoder import Encoder
from clips4.inference.video.label_propagation import FrameMask
from clips4.serve import messages
from clips4.serve.clips import Clip, clip_of_images, clip_of_video
from clips4.serve.engine import Engine
from clips4.serve.exports import ZIP
from clips4.serve.http.endpoint import Call, Endpoint, download
from clips4.serve.sessions import ROUGH_BYTES, Session, Sessions
from clips4.serve.worker import BusyError, Worker


class VideoApi:
    """Open a video, follow the objects of a mask, look at frames and masks.

    Args:
        engine: the model, for frames that are opened as images.
        worker: its thread.
        sessions: all of them.
        load_encoder: loads the features that tracking compares.
    """

    def __init__(self, engine: Engine, worker: Worker, sessions: Sessions, load_encoder: Callable[[], Encoder]):
        self._engine, self._worker, self._sessions = engine, worker, sessions
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def endpoints(self) -> list[Endpoint]:
        """All addresses."""
        m, e, clip = messages, Endpoint, "/api/videos/{id}"
        return [
            e("POST", "/api/videos", self.open_video, bytes, "Open a video: the body is its file.", ("name",)),
            e("POST", "/api/clips", self.open_clip, m.ClipRequest, "Open images of the session as a video."),
            e("GET", clip, self.video, None, "How far a video is tracked."),
            e("DELETE", clip, self.close_video, None, "Forget a video."),
            e("GET", f"{clip}/frames/{{number}}", self.frame, None, "A frame, JPEG."),
            e("POST", f"{clip}/images/{{number}}", self.frame_image, None, "Open a frame as an image."),
            e("GET", f"{clip}/masks/{{number}}", self.mask, None, "The mask of a frame, as runs."),
            e("POST", f"{clip}/track", self.track, m.TrackRequest, "Follow the objects of a frame's mask."),
            e("DELETE", f"{clip}/track", self.stop, None, "Stop tracking; masks so far stay."),
            e("GET", f"{clip}/export", self.export_masks, None, "The masks so far, a ZIP of indexed PNGs."),
        ]

    async def open_video(self, call: Call) -> Response:
        self._sessions.check_room(call.session, len(call.body) + ROUGH_BYTES)
        return self._add(call, await self._worker.run(call.session.id, clip_of_video, call.body, call.file_name()))

    async def open_clip(self, call: Call) -> Response:
        images = [call.session.image(id) for id in call.body.images]
        self._sessions.check_room(call.session, ROUGH_BYTES)
        views, names = [each.encoded.image for each in images], [each.name for each in images]
        return self._add(call, await self._worker.run(call.session.id, clip_of_images, views, names))

    def _add(self, call: Call, clip: Clip) -> Response:
        call.session.clips[clip.id] = clip
        return JSONResponse(clip.facts())

    async def video(self, call: Call) -> Response:
        return JSONResponse(call.session.clip(call.id).facts())

    async def close_video(self, call: Call) -> Response:
        call.session.clip(call.id).stop()
        del call.session.clips[call.id]
        return JSONResponse({})

    async def frame(self, call: Call) -> Response:
        clip, number = call.session.clip(call.id), call.number()
        clip.check(number)
        return Response(clip.frames[number], media_type="image/jpeg")

    async def frame_image(self, call: Call) -> Response:
        clip, number = call.session.clip(call.id), call.number()
        clip.check(number)
        self._sessions.check_room(call.session, ROUGH_BYTES)
        name = f"frame-{number:05d}.jpg"
        image = await self._worker.run(call.session.id, self._engine.open, clip.frames[number], name)
        call.session.images[image.id] = image
        return JSONResponse(image.facts())

    async def mask(self, call: Call) -> Response:
        clip = call.session.clip(call.id)
        return JSONResponse({"width": clip.size[1], "height": clip.size[0], "runs": clip.mask_runs(call.number())})

    async def track(self, call: Call) -> Response:
        clip, body = call.session.clip(call.id), cast(messages.TrackRequest, call.body)
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = await self._worker.run(call.session.id, self._load_encoder)
        job = await self._worker.run(call.session.id, clip.start, body.frame, body.runs, encoder)
        task = asyncio.get_running_loop().create_task(self._follow(call.session, clip, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse(clip.facts())

    async def _follow(self, session: Session, clip: Clip, job: Iterator[FrameMask]) -> None:
        while True:
            try:
                if not await self._worker.run(session.id, clip.step, job):
                    return
            except BusyError:  # others first
                await asyncio.sleep(0.1)

    async def stop(self, call: Call) -> Response:
        clip = call.session.clip(call.id)
        clip.stop()
        return JSONResponse(clip.facts())

    async def export_masks(self, call: Call) -> Response:
        clip = call.session.clip(call.id)
        return download(await asyncio.to_thread(clip.export), ZIP, "masks.zip")

    def close(self) -> None:
        """Stop what runs."""
        for task in self._tasks:
            task.cancel()
