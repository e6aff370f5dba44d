"""The JSON API: what each address does. ``app`` puts it behind the checks of ``security``; ``openapi`` describes it."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image
from starlette.responses import JSONResponse, Response

from clips4.errors import UserError
from clips4.inference.unknown.name_suggestion import nouns
from clips4.models.class_set import class_set_names, class_set_path, load_class_set, save_class_set
from clips4.serve import messages
from clips4.serve.corrections import check_segments
from clips4.serve.engine import Engine
from clips4.serve.exports import Exporter
from clips4.serve.http.endpoint import UPLOAD_BYTES, Call, Endpoint, download
from clips4.serve.http.video_api import VideoApi
from clips4.serve.runs import to_runs
from clips4.serve.sessions import ROUGH_BYTES, Edit, Examples, OpenImage, Session, Sessions
from clips4.serve.worker import Worker
from clips4.utils.text import read_bytes


@dataclass(eq=False)
class Api:
    """The model, its queue, the sessions, and what the command line gave.

    Attributes:
        engine: the model.
        worker: its thread.
        sessions: all of them.
        title: of the run.
        listed: images that the page offers; a request names them by number alone.
        run: folder of class sets; None where they cannot be kept.
        videos: the part of the API that is about videos.
        address: of the server, for invitations.
    """

    engine: Engine
    worker: Worker
    sessions: Sessions
    title: str
    listed: Sequence[Path]
    run: Path | None
    videos: VideoApi
    address: str = ""

    def endpoints(self) -> list[Endpoint]:
        """All addresses."""
        m, e, image = messages, Endpoint, "/api/images/{id}"
        return [
            e("GET", "/api/about", self.about, None, "The run, its classes, and what this server can do."),
            e("GET", "/api/names", self.names, None, "Class names to complete."),
            e("POST", "/api/invitations", self.invite, None, "A one-time address for another browser."),
            e("GET", "/api/images", self.images, None, "The open images, and those that the server lists."),
            e("POST", "/api/images", self.upload, bytes, "Open an image: the body is its file.", ("name",)),
            e("POST", "/api/listed/{number}", self.open_listed, None, "Open a listed image by its number."),
            e("GET", image, self.view, None, "The view of an image: JPEG, at most 1600 pixels wide or high."),
            e("DELETE", image, self.close_image, None, "Forget an image."),
            e("GET", f"{image}/segments", self.segments, None, "Its segments, as runs, and the region of each."),
            e("POST", f"{image}/labels", self.labels, m.ClassesRequest, "Predict: labels as runs, and a legend."),
            e("POST", f"{image}/pixel", self.pixel, m.PixelRequest, "Why: the best names of a pixel, its segment."),
            e("POST", f"{image}/similar", self.similar, m.PlaceRequest, "What is similar to a pixel, in all images."),
            e("POST", f"{image}/edits", self.edit, m.EditRequest, "Set segments of its mask by hand."),
            e("DELETE", f"{image}/edits", self.undo_edit, None, "Undo the last edit of its mask."),
            e("GET", "/api/examples", self.examples, None, "The examples so far."),
            e("POST", "/api/examples", self.add_examples, m.ExampleRequest, "Segments become prototypes of a class."),
            e("DELETE", "/api/examples", self.undo_examples, None, "Undo the last example."),
            e("POST", "/api/sets", self.save_set, m.SaveSetRequest, "Keep classes and examples with the run."),
            e("POST", "/api/sets/{name}", self.load_set, None, "Continue with a kept class set."),
            e("POST", "/api/export", self.export, m.ExportRequest, "Masks as PNG, COCO or labelme."),
            *self.videos.endpoints(),
        ]

    # ------------------------------------------------------------------------------------------------------- about

    async def about(self, call: Call) -> Response:
        run = self.engine.segmenter
        return JSONResponse(
            {
                "title": self.title,
                "classes": list(run.names),
                "teacher": self.engine.has_teacher,
                "sets": class_set_names(self.run) if self.run else None,
                "unknown": 0 if run.prototypes is None else len(run.prototypes.unknown),
            }
        )

    async def names(self, call: Call) -> Response:
        return JSONResponse({"names": [*dict.fromkeys([*self.engine.segmenter.names, *nouns()])]})

    async def invite(self, call: Call) -> Response:
        return JSONResponse({"address": f"{self.address}/?token={self.sessions.new_token()}"})

    # ------------------------------------------------------------------------------------------------------ images

    async def images(self, call: Call) -> Response:
        listed = [{"number": number, "name": path.name} for number, path in enumerate(self.listed)]
        opened = [each.facts() for each in call.session.images.values()]
        return JSONResponse({"images": opened, "listed": listed})

    async def upload(self, call: Call) -> Response:
        return await self._open(call, call.body, call.file_name())

    async def open_listed(self, call: Call) -> Response:
        number = call.number()
        if number >= len(self.listed):
            raise UserError(f"number={number}: {len(self.listed)} images are listed, from 0 on")
        path = self.listed[number]
        return await self._open(call, await asyncio.to_thread(read_bytes, path, UPLOAD_BYTES), path.name)

    async def _open(self, call: Call, data: bytes, name: str) -> Response:
        self.sessions.check_room(call.session, len(data) + ROUGH_BYTES)
        image = await self.worker.run(call.session.id, self.engine.open, data, name)
        call.session.images[image.id] = image
        return JSONResponse(image.facts())

    async def view(self, call: Call) -> Response:
        image = call.session.image(call.id)
        return Response(await asyncio.to_thread(_jpeg, image), media_type="image/jpeg")

    async def close_image(self, call: Call) -> Response:
        call.session.image(call.id)
        del call.session.images[call.id]
        return JSONResponse({})

    async def segments(self, call: Call) -> Response:
        image = call.session.image(call.id)
        found = await self.worker.run(call.session.id, getattr, image, "segments")
        height, width = found.labels.shape
        return JSONResponse(
            {"width": width, "height": height, "runs": to_runs(found.labels), "regions": found.regions.tolist()}
        )

    # -------------------------------------------------------------------------------------------------- predicting

    async def labels(self, call: Call) -> Response:
        image = call.session.image(call.id)
        self._check_teacher(call.body)
        return JSONResponse(await self.worker.run(call.session.id, self.engine.labels, call.session, image, call.body))

    async def pixel(self, call: Call) -> Response:
        image, body = call.session.image(call.id), call.body
        self._check_teacher(body)
        return JSONResponse(
            await self.worker.run(call.session.id, self.engine.why, call.session, image, body, body.x, body.y)
        )

    async def similar(self, call: Call) -> Response:
        image, body = call.session.image(call.id), call.body
        return JSONResponse(
            await self.worker.run(call.session.id, self.engine.similar, call.session, image, body.x, body.y)
        )

    def _check_teacher(self, body: messages.ClassesRequest) -> None:
        if body.by == "teacher" and not self.engine.has_teacher:
            raise UserError("there is no teacher to compare with; leave out by=teacher")

    # --------------------------------------------------------------------------------------------------- correcting

    async def edit(self, call: Call) -> Response:
        image = call.session.image(call.id)
        checked = await self.worker.run(call.session.id, check_segments, image, call.body.segments)
        image.edits.append(Edit(tuple(checked), call.body.name))
        return JSONResponse({"edits": len(image.edits)})

    async def undo_edit(self, call: Call) -> Response:
        image = call.session.image(call.id)
        if image.edits:
            image.edits.pop()
        return JSONResponse({"edits": len(image.edits)})

    async def examples(self, call: Call) -> Response:
        return JSONResponse(_examples(call.session))

    async def add_examples(self, call: Call) -> Response:
        body = cast(messages.ExampleRequest, call.body)
        image = call.session.image(body.image)
        found = await self.worker.run(
            call.session.id,
            self.engine.examples,
            call.session,
            image,
            body.segments,
            body.name,
            body.negative,
            body.classes,
        )
        call.session.examples.append(found)
        return JSONResponse(_examples(call.session))

    async def undo_examples(self, call: Call) -> Response:
        if call.session.examples:
            call.session.examples.pop()
        return JSONResponse(_examples(call.session))

    async def save_set(self, call: Call) -> Response:
        body = cast(messages.SaveSetRequest, call.body)
        prototypes = self.engine.segmenter.prototypes
        if self.run is None or prototypes is None:
            raise UserError("class sets are kept with a run's folder; there is none")
        path = class_set_path(self.run, body.name)
        found = await self.worker.run(call.session.id, self.engine.class_set, body.classes, list(call.session.examples))
        await asyncio.to_thread(save_class_set, path, found, prototypes)
        command = f'clips4 segment {self.run} IMAGES --classes "{path}" --out DIR'
        return JSONResponse({"sets": class_set_names(self.run), "command": command})

    async def load_set(self, call: Call) -> Response:
        if self.run is None:
            raise UserError("class sets are kept with a run's folder; there is none")
        path = class_set_path(self.run, str(call.request.path_params["name"]))
        found = await asyncio.to_thread(load_class_set, path, self.engine.segmenter.prototypes)
        examples = []
        for index, name in enumerate(found.names):
            rows = found.vectors[found.examples & (found.owner == index)]
            if len(rows):
                examples.append(Examples(name, rows, "", ()))
        call.session.examples = examples
        classes = [{"name": name, "queried": list(each)} for name, each in zip(found.names, found.queried, strict=True)]
        return JSONResponse({"classes": classes, **_examples(call.session)})

    async def export(self, call: Call) -> Response:
        body = cast(messages.ExportRequest, call.body)
        self._check_teacher(body)
        images = [call.session.image(id) for id in dict.fromkeys(body.images)]
        exporter = Exporter(body.format)
        for image in images:  # a call for each, so that others are served in between
            await self.worker.run(call.session.id, self._add_export, exporter, call.session, image, body)
        media, name, content = await asyncio.to_thread(exporter.finish)
        return download(content, media, name)

    def _add_export(self, exporter: Exporter, session: Session, image: OpenImage, body: messages.ExportRequest) -> None:
        exporter.add(self.engine.predict(session, image, body, whole=True), image.name)

    # -------------------------------------------------------------------------------------------------- background

    async def prepare(self) -> None:
        """Find names for unknown classes, step by step while nobody waits."""
        for step in self.engine.prepare():
            while not self.worker.idle:
                await asyncio.sleep(0.2)
            await self.worker.run("", step)

    async def forget(self, seconds: float) -> None:
        """Drop idle sessions every so many seconds."""
        while True:
            await asyncio.sleep(seconds)
            self.sessions.forget_idle()

    def close(self) -> None:
        """Stop background work, forget everything."""
        self.videos.close()
        self.sessions.close()
        self.worker.close()


def _examples(session: Session) -> dict[str, Any]:
    return {
        "examples": [
            {"name": each.name, "image": each.image, "segments": list(each.segments), "negative_of": each.negative_of}
            for each in session.examples
        ]
    }


def _jpeg(image: OpenImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.encoded.image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
