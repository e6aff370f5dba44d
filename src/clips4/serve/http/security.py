"""Who may call: host names, origins, sessions; and the headers of every response."""

import ipaddress
import socket
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that binds to this host."""
    if host in LOCAL:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_names(host: str) -> frozenset[str] | None:
    """The host names that requests may carry, so that a foreign name bound to this address (DNS rebinding) is refused.

    None, for all interfaces, means any address in digits and this machine's own names.
    """
    if host in ("0.0.0.0", "::", ""):
        return None
    return LOCAL if is_local(host) else LOCAL | {host.lower()}


def host_is_allowed(headers: Headers, names: Collection[str] | None) -> bool:
    """Whether the Host header names this server."""
    given = headers.get("host", "").lower()
    name = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0]
    if names is not None:
        return name in names
    if name in {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def origin_is_own(headers: Headers) -> bool:
    """Whether a browser sent this from a page of this server."""
    return headers.get("origin", "").lower() == f"http://{headers.get('host', '').lower()}"


def session_of(request: Request, cookie: str) -> str | None:
    """The session that a request may use: of its Authorization header, or of its cookie.

    A browser adds the cookie by itself; so it counts only from pages of this server, and for reading.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if "origin" in request.headers and not origin_is_own(request.headers):
        return None
    if request.method not in ("GET", "HEAD") and not origin_is_own(request.headers):
        return None
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return None
    return request.cookies.get(cookie)
