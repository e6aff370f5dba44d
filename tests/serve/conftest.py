"""A server of the tiny run, in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from clips4.inference.segmenter import Segmenter
from clips4.serve.http.api import Api
from clips4.serve.http.app import create_app
from clips4.serve.server import make_api

CLASSES: dict[str, Any] = {"classes": [{"name": "cat"}, {"name": "cup"}, {"name": "grass"}]}


@pytest.fixture
def api(tiny_run: Path, images: Path) -> Api:
    return make_api(Segmenter.load(tiny_run), tiny_run, sorted(images.iterdir()), "tiny", 60)


@pytest.fixture
def client(api: Api) -> Iterator[TestClient]:
    """Without a session."""
    with TestClient(create_app(api, prepare=False), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def user(client: TestClient, api: Api) -> TestClient:
    """With one."""
    return authorized(client, api)


def authorized(client: TestClient, api: Api) -> TestClient:
    """The client with a session of its own."""
    session = client.post("/api/session", json={"token": api.sessions.new_token()}).json()["session"]
    client.headers["Authorization"] = f"Bearer {session}"
    return client


def opened(client: TestClient, path: Path) -> dict[str, Any]:
    """Open an image file; what the server says of it."""
    response = client.post(f"/api/images?name={path.name}", content=path.read_bytes())
    assert response.status_code == 200, response.text
    return dict(response.json())
