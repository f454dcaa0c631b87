"""Guard: lets in only requests of a browser that was given the token.

The token stands in the URL that the command prints. The first request with it sets a cookie that
scripts cannot read and other sites cannot send, and goes on without the token in the URL.

Against other sites: a request must name this server as its host, so that a name which someone lets
point to 127.0.0.1 is refused; and where a browser tells where a request comes from, as it does for
each WebSocket and each POST, that must be this server. Nothing is loaded from elsewhere: the
Content-Security-Policy allows this server alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

PARAMETER: Final = "token"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
#: NiceGUI compiles its templates in the browser and writes its data into the page.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_ORIGIN: Final = "A request that may change something must say where it comes from.\n"
_NEEDS_TOKEN: Final = (
    "This page needs the token in its address: open the URL that `cascade web` has printed.\n"
)


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def hosts_of(host: str, port: int) -> frozenset[str]:
    """The names under which a server at this address may be asked."""
    names = {*_LOOPBACK, f"[{host}]" if ":" in host else host}
    return frozenset(f"{name}:{port}" for name in names)


class Guard:
    """An ASGI application in front of another one.

    Args:
        app: The other one.
        token: The secret of the URL, which opens the view.
        hosts: The values of the header ``Host`` that are accepted; None for any, if the server is
            reached under names that it cannot know.
        port: Part of the cookie's name: cookies of a host are sent to all of its ports.
    """

    def __init__(self, app: _App, token: str, hosts: Collection[str] | None, port: int) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._cookie = f"cascade_{port}"

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)  # the server's own beginning and end
            return
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
        elif self._is_known(headers):
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and self._has_token(scope):
            await self._welcome(scope, send)
        else:
            await _refuse(scope, receive, send, 401, _NEEDS_TOKEN)

    def _refusal(self, scope: _Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self._hosts is not None and host not in self._hosts:
            return 400, "This server is not asked under that name.\n"
        origin = headers.get("origin")
        is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if origin is None:
            return None if is_read else (403, _NO_ORIGIN)
        if urlsplit(origin).netloc != host:
            return 403, "This request comes from another site.\n"
        return None

    def _is_known(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _has_token(self, scope: _Scope) -> bool:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        return scope["method"] == "GET" and self._is_token(given.get(PARAMETER, ""))

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())

    async def _welcome(self, scope: _Scope, send: _Send) -> None:
        """Set the cookie, and go on at the same address without the token."""
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        rest = urlencode([(name, value) for name, value in query if name != PARAMETER])
        # A path of //evil.example would be another host.
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/")
        cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [
            (b"location", (path + (f"?{rest}" if rest else "")).encode("latin-1")),
            (b"set-cookie", cookie.encode()),
            (b"cache-control", b"no-store"),
            *_HEADERS,
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _headers(scope: _Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _with_headers(send: _Send) -> _Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending


async def _refuse(scope: _Scope, receive: _Receive, send: _Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # its beginning
        await send({"type": "websocket.close", "code": 4403})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
