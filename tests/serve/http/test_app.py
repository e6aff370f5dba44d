import struct
import zlib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clips4.serve.http.api import Api
from clips4.serve.page.files import page_files
from tests.serve.conftest import CLASSES, opened


def test_page_with_a_token_sets_a_cookie_once(client: TestClient, api: Api) -> None:
    token = api.sessions.new_token()
    assert client.get("/").status_code == 401
    first = client.get(f"/?token={token}", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = client.get("/")
    assert page.status_code == 200
    assert token not in page.text
    assert client.get("/api/about").status_code == 200
    client.cookies.clear()
    assert client.get(f"/?token={token}").status_code == 401
    assert client.get("/api/about").status_code == 401


def test_every_response_has_the_policy_that_forbids_foreign_requests(client: TestClient) -> None:
    for path in ("/", "/app.js", "/nothing", "/api/about", "/api/openapi.json"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "eval" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/card.json", "/..%2f..%2fetc%2fpasswd", "/etc/passwd"])
def test_addresses_like_paths_give_no_file(user: TestClient, path: str) -> None:
    assert user.get(path).status_code in (401, 404)


def test_page_without_model_is_below_300_kilobytes() -> None:
    assert sum(map(len, page_files().values())) < 300_000


def test_foreign_host_name_is_refused_for_all(user: TestClient) -> None:
    assert user.get("/api/about", headers={"host": "evil.example"}).status_code == 421


def test_wrong_session_token_or_method_is_refused(client: TestClient) -> None:
    assert client.post("/api/session", json={"token": "x"}).status_code == 401
    assert client.post("/api/session", content=b"{").status_code == 422
    assert client.post("/api/session", content=b"x" * 10_000).status_code == 413
    assert client.get("/api/images", headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.put("/api/images").status_code == 405


def bomb(width: int, height: int) -> bytes:
    """A PNG that declares this size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bomb(60_000, 60_000), "too many"),
        (bomb(100, 100), "damaged"),
        (b"", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
)
def test_upload_of_no_whole_image_is_an_error_in_one_line(user: TestClient, data: bytes, message: str) -> None:
    response = user.post("/api/images?name=..%2Fbad.png", content=data)
    assert response.status_code == 422
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]
    assert "bad.png" in response.json()["error"]
    assert ".." not in response.json()["error"]
    assert user.get("/api/images").json()["images"] == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\Windows\\x.png", "a\r\nSet-Cookie: x.png", "\u202egnp.x", ""]
)
def test_upload_name_is_shown_without_its_path(user: TestClient, images: Path, name: str) -> None:
    data = (images / "photo0.png").read_bytes()
    found = user.post("/api/images", params={"name": name}, content=data).json()["name"]
    assert "/" not in found
    assert "\\" not in found
    assert found.isprintable()
    assert found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"classes": []},
        {"classes": [{"name": ""}]},
        {"classes": [{"name": "cat"}], "path": "/etc/passwd"},
        {"classes": [{"name": "cat"}, {"name": "Cat"}]},
        {"classes": [{"name": "unknown"}]},
        {"classes": [{"name": "cat", "queried": []}]},
        {"classes": [{"name": "cat", "queried": ["[", "cup"]}]},
        {**CLASSES, "by": "nobody"},
    ],
)
def test_labels_of_a_wrong_body_are_an_error_in_one_line(user: TestClient, images: Path, body: object) -> None:
    image = opened(user, images / "photo0.png")
    response = user.post(f"/api/images/{image['id']}/labels", json=body)
    assert response.status_code == 422
    assert response.json()["error"]
    assert "\n" not in response.json()["error"]
