"""What stands before every request: who may ask, under which name, from which page; and what an answer may load."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

TOKEN_COOKIE = "despur-token"

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    # Not "no-referrer": browsers would then send "Origin: null" with our own forms.
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches a server that binds to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(host_header: str) -> str:
    """The name in a Host header, without its port, in lower case; empty where it is no such header."""
    host = host_header.strip().lower()
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    name, _, port = host.partition(":")
    return name.rstrip(".") if not port or port.isdigit() else ""


def allows_host(host_header: str, allowed: Collection[str]) -> bool:
    """Whether a request was sent to a name of ours: a page elsewhere whose name was pointed at this address is not
    (DNS rebinding).
    """
    name = name_of(host_header)
    return bool(name) and name in allowed


def is_cross_site(headers: Mapping[str, str], scheme: str) -> bool:
    """Whether a request that changes something comes from another site's page, by what the browser says of it.

    Programs that are no browsers say neither; what they send must then hold the form's own token.
    """
    origin = headers.get("origin")
    if origin is not None and origin != f"{scheme}://{headers.get('host', '')}":
        return True
    return headers.get("sec-fetch-site", "same-origin") != "same-origin"


def same_secret(given: str, expected: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


class Guard:
    """ASGI middleware: refuses strangers before anything else sees them, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], token: str | None = None) -> None:
        """
        Args:
            hosts: names under which the page may be asked for.
            token: a secret that the first address must hold (``?token=``); None: nothing but this machine can ask.
        """
        self.app, self.hosts, self.token = app, frozenset(name.lower() for name in hosts), token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the headers that keep the page to itself."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (self.app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not allows_host(headers.get("host", ""), self.hosts):
            return PlainTextResponse("This server does not answer to that name.", 421)
        if self.token is not None and not same_secret(_cookie(headers, TOKEN_COOKIE), self.token):
            return self._entrance(scope, self.token)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and is_cross_site(headers, scope["scheme"]):
            return PlainTextResponse("This came from another site's page and was refused.", 403)
        return None

    def _entrance(self, scope: Scope, token: str) -> Response:
        """Takes the token from the address into a cookie, so that it stays in no history and no link."""
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        given = dict(query).get("token", "")
        if scope["method"] not in ("GET", "HEAD") or not same_secret(given, token):
            return PlainTextResponse(
                "This page needs its token: open the whole address that despur review printed.", 401
            )
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/") if scope.get("raw_path") else "/"
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        # Not "strict": browsers would hold it back from the page that a link in a mail or a chat leads to. Posts from
        # other sites' pages do not carry a "lax" one either, and are refused besides.
        answer.set_cookie(TOKEN_COOKIE, token, httponly=True, samesite="lax")
        return answer


def _cookie(headers: Headers, name: str) -> str:
    """A cookie, whatever other servers under this name have set: Python's own parser gives up at the first odd one."""
    return cookie_parser(headers.get("cookie", "")).get(name, "")
