"""The OpenAPI description of the JSON API, made of the same table that serves it."""

import re
from collections.abc import Sequence
from typing import Any

from clips4 import __version__
from clips4.serve.http.endpoint import Endpoint
from clips4.serve.messages import Message, TokenRequest

_PROBLEMS = {
    "401": "No session: exchange a token first.",
    "404": "No such image or video; it may have been forgotten.",
    "413": "The body is too large.",
    "422": "The request or the file is wrong; `error` says what, in one line.",
    "503": "Too many requests wait; try again.",
}


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document: paths, bodies, problems, and how to authorize."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {
        "/api/session": {
            "post": {
                "summary": "Exchange the one-time token of the printed address for a session.",
                "requestBody": _body(TokenRequest, schemas),
                "responses": {"200": {"description": "`session`: send it as `Authorization: Bearer SESSION`."}},
                "security": [],
            }
        }
    }
    for each in endpoints:
        operation: dict[str, Any] = {"summary": each.summary}
        places = [("path", name) for name in re.findall(r"\{(\w+)\}", each.path)]
        places += [("query", name) for name in each.query]
        if places:
            operation["parameters"] = [
                {"name": name, "in": place, "required": True, "schema": {"type": "string"}} for place, name in places
            ]
        if each.body is not None:
            operation["requestBody"] = _body(each.body, schemas)
        operation["responses"] = {
            "200": {"description": "Done."},
            **{code: {"description": text} for code, text in _PROBLEMS.items()},
        }
        paths.setdefault(each.path, {})[each.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "clips4 serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"session": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"session": []}],
    }


def _body(body: type[Message] | type[bytes], schemas: dict[str, Any]) -> dict[str, Any]:
    if not issubclass(body, Message):
        return {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}}
    schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[body.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {"required": True, "content": {"application/json": {"schema": reference}}}
