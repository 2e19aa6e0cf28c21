"""Who may ask: a name for this machine on loopback, a token anywhere else, our own page for writes.

Owns: the checks before any route, and the headers of every answer. Leaves to others: asking for the
token (`login`), what is answered (`app`).

What is kept out, and by what:
* a foreign page that lets its own name point here (DNS rebinding): without a token only IP
  addresses and `localhost` are accepted as Host, and neither can be made to point elsewhere;
* a foreign page that sends requests from a visitor's browser: `Sec-Fetch-Site` and `Origin`;
* somebody in the network: the token, as a bearer or as a cookie that is not the token itself;
* a request id that is a script: the page writes text only, and `CONTENT_POLICY` runs nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvatlas.watch.web.login import LOGIN_PATH, OPEN_STYLES, login_page

__all__ = ["CONTENT_POLICY", "Gate", "Pass"]

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a browser may do with our pages: load from this server, run files, send to this server."""

_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # without one a form's Origin would be `null`
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_METHODS = ("GET", "HEAD", "POST")
_COOKIE_SALT = b"kvatlas serve: cookie"


class Pass:
    """A token and what it looks like as a cookie; comparisons take the same time for any guess."""

    def __init__(self, token: str, port: int) -> None:
        # Hashes have one length, so that not even the token's can be measured.
        self._token = _hash(token)
        # Whoever reads a cookie jar cannot scrape with it, and not know the token.
        self.cookie = hmac.new(token.encode(), _COOKIE_SALT, hashlib.sha256).hexdigest()
        self.cookie_name = f"kvatlas_{port}"  # browsers share cookies between a host's ports

    def opens(self, token: str) -> bool:
        """Return whether `token` is the one."""
        return hmac.compare_digest(_hash(token), self._token)

    def admits(self, headers: Headers, cookies: dict[str, str]) -> bool:
        """Return whether a request carries the token, or its cookie."""
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.opens(credentials.strip()):
            return True
        return hmac.compare_digest(_hash(cookies.get(self.cookie_name, "")), _hash(self.cookie))


class Gate:
    """ASGI middleware that answers what must not go further, and dresses every answer."""

    def __init__(self, app: ASGIApp, entry: Pass | None) -> None:
        self._app, self._entry = app, entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            request = Request(scope, receive)
            refusal = self._refusal(request) or await self._login(request)
            await (refusal or self._app)(scope, receive, _dressed(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            return _said(400, "one Host header, please")
        if request.method not in _METHODS:
            return _said(405, "only GET, HEAD and POST are known here")
        if self._entry is None and not _is_this_machine(hosts[0]):
            return _said(
                421, "kvatlas: this name is not known here; use localhost, an IP address or --token"
            )
        site = headers.get("sec-fetch-site", "none")
        is_visit = request.method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not is_visit:
            return _said(403, "kvatlas: not for other sites")
        origin = headers.get("origin")
        if request.method == "POST" and origin is not None and _netloc(origin) != hosts[0]:
            return _said(403, "kvatlas: not for other sites")
        return None

    async def _login(self, request: Request) -> Response | None:
        """Answer who shows the token, has not shown it yet, or would leave it in the address."""
        entry = self._entry
        path = request.scope["path"]
        if entry is None or path == OPEN_STYLES:
            return None
        offered = request.query_params.get("token") if path == "/" else None
        if path == LOGIN_PATH and request.method == "POST":
            offered = await _form_token(request)
        admitted = entry.admits(request.headers, request.cookies)
        if offered is not None and (admitted or entry.opens(offered)):
            # A new address: the token stays neither in the window's bar nor in its history.
            answer = RedirectResponse("/", 303)
            answer.set_cookie(entry.cookie_name, entry.cookie, httponly=True, samesite="strict")
            return answer
        if admitted:
            return None
        if path in ("/", LOGIN_PATH):
            return login_page(wrong=offered is not None)
        return PlainTextResponse(
            "kvatlas: a token is needed (Authorization: Bearer ...)\n",
            401,
            {"www-authenticate": 'Bearer realm="kvatlas"'},
        )


def _is_this_machine(host: str) -> bool:
    """Return whether a Host header is `localhost` or an IP address, with or without a port."""
    name = host.lower()
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
    else:
        name = name.partition(":")[0]
    if name in ("localhost", "localhost."):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


_MOST_FORM_BYTES = 1024


async def _form_token(request: Request) -> str:
    """Return the field `token` of a posted form, empty when there is none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM_BYTES:
            return ""
    return parse_qs(body.decode("ascii", "replace")).get("token", [""])[0]


def _netloc(origin: str) -> str:
    return origin.partition("://")[2]


def _said(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _dressed(send: Send, headers: Iterable[tuple[str, str]] = tuple(_HEADERS.items())) -> Send:
    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            for name, value in headers:
                answer.setdefault(name, value)
            answer.setdefault("cache-control", "no-store")
        await send(message)

    return dressed
