import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from clips4.serve.http.security import allowed_names, host_is_allowed, is_local, session_of


def request(method: str, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "query_string": b"", "headers": raw})


@pytest.mark.parametrize(
    ("bound", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8004", True),
        ("127.0.0.1", "localhost:8004", True),
        ("::1", "[::1]:8004", True),
        ("127.0.0.1", "evil.example:8004", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "", False),
        ("box.lan", "BOX.lan:80", True),
        ("box.lan", "other.lan", False),
        ("0.0.0.0", "192.168.1.4:8004", True),
        ("0.0.0.0", "evil.example:8004", False),
    ],
)
def test_host_header_of_a_foreign_name_is_refused(bound: str, host: str, allowed: bool) -> None:
    assert host_is_allowed(Headers({"host": host}), allowed_names(bound)) is allowed


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False)])
def test_host_local_or_not_is_known(host: str, local: bool) -> None:
    assert is_local(host) is local


OWN = {"host": "127.0.0.1:8004", "cookie": "c=secret"}


def test_cookie_counts_from_own_pages_alone() -> None:
    assert session_of(request("GET", **OWN), "c") == "secret"
    assert session_of(request("POST", origin="http://127.0.0.1:8004", **OWN), "c") == "secret"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("POST", {"origin": "http://evil.example"}),
        ("POST", {"origin": "null"}),
        ("POST", {"origin": "http://127.0.0.1:9999"}),
        ("DELETE", {"origin": "https://127.0.0.1:8004"}),
        ("GET", {"origin": "http://evil.example"}),
        ("GET", {"sec_fetch_site": "cross-site"}),
    ],
)
def test_cookie_of_a_foreign_page_does_not_count(method: str, headers: dict[str, str]) -> None:
    assert session_of(request(method, **OWN, **headers), "c") is None


def test_bearer_header_needs_no_origin() -> None:
    assert session_of(request("POST", authorization="Bearer abc", **OWN), "c") == "abc"
