"""The layer that checks every request to the webserver.

Without it, any web page that a person has open could use the Dagster UI on that person's machine: Dagster has no login,
accepts any Host, and executes mutations from GET requests and forms. Requests that write are refused unless this module
names them, so a new way to write in Dagster is refused too.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from email.message import Message as Header
from http import HTTPMethod, HTTPStatus

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resources.addresses import Address, Names, parse_address, parse_origin

LOG = logging.getLogger("irt_assets.webserver")
PROBE = "/server_info"
GRAPHQL = "/graphql"
EVENT_REPORTS = "/report_asset_"
DEBUG_FILES = "/download_debug"
RUN_OUTPUT_PATH = re.compile(r"/logs(/[^./\\\0][^/\\\0]*){2,}")
"""Path with at least two names, none of which leads out of the folder. Dagster fails on any other path."""
READ_METHODS = (HTTPMethod.GET, HTTPMethod.HEAD)
SAME_ORIGIN_HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every response: no other site may frame the page (clickjacking) or embed its files."""
MAX_NAME_LENGTH = 100
POLICY_VIOLATION = 1008
"""Close code of a WebSocket (policy violation). If it is not accepted yet, the client gets a 403 without a body."""


class Refusal(Exception):
    """Refusal of a request: the HTTP status and the reason in a sentence. `allow`: the methods that are allowed."""

    def __init__(self, status: HTTPStatus, reason: str, allow: str = "") -> None:
        super().__init__(reason)
        self.status, self.allow = status, allow


@dataclass(eq=False)
class Guard:
    """`app` behind the check of requests.

    Attributes:
        prefix: prefix of the app's paths.
        probes: paths that respond to any Host, because a cluster's probes and Prometheus use the pod's address.
    """

    app: ASGIApp
    names: Names
    _: KW_ONLY
    prefix: str = ""
    probes: Collection[str] = (PROBE,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, _add_headers(send))
            return
        headers = {"Allow": refusal.allow} if refusal.allow else {}
        answer = PlainTextResponse(f"{refusal}\n", refusal.status, headers)
        await refuse(str(refusal), answer, scope, receive, _add_headers(send))

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        path = path_within(self.prefix, scope["path"])
        method = scope.get("method")  # a WebSocket has no method
        if path in self.probes and method in READ_METHODS:
            return None
        host = _single_header(headers, "host")
        requested = parse_address(host) if host else None
        if requested is None or not self.names.answers_to(requested):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                f"This page does not accept the host name {(host or '')[:MAX_NAME_LENGTH]!r}. If people reach it "
                "under that name, set IRT_UI_URL to its address.",
            )
        if path.startswith(EVENT_REPORTS):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                "Materialisations and checks come from runs; they cannot be reported from outside.",
            )
        if path.startswith(DEBUG_FILES):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                "Debug files of runs contain everything about a run: write one on the server with dagster debug "
                "export RUN_ID FILE.",
            )
        if path.startswith("/logs/") and not RUN_OUTPUT_PATH.fullmatch(path):
            return Refusal(HTTPStatus.NOT_FOUND, "There is no such output of a run.")
        if method is None:
            return self._foreign_origin(headers, requested)
        if method in READ_METHODS:
            if path == GRAPHQL and "query" in QueryParams(scope["query_string"]):
                return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GraphQL accepts queries by POST only.", "POST")
            return None
        if method != HTTPMethod.POST or path != GRAPHQL:
            allow = "GET, HEAD, POST" if path == GRAPHQL else "GET, HEAD"
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not allowed here.", allow)
        if _media_type(headers) != "application/json":
            return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "GraphQL accepts only application/json.")
        return self._foreign_origin(headers, requested)

    def _foreign_origin(self, headers: Headers, requested: Address) -> Refusal | None:
        """The refusal of a request from another origin. Programs that are not browsers send no origin and pass."""
        if "origin" not in headers:
            return None
        origin = _single_header(headers, "origin")
        parsed = parse_origin(origin) if origin else None
        if parsed is not None and self.names.trusts(parsed, requested):
            return None
        return Refusal(
            HTTPStatus.FORBIDDEN,
            f"A page of {(origin or 'several origins')[:MAX_NAME_LENGTH]!r} may not use this one. If people reach this "
            "one there, set IRT_UI_URL to its address.",
        )


async def refuse(reason: str, answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Log the reason, and send the response; a WebSocket is closed instead."""
    LOG.warning("refused %s %r: %s", scope.get("method", "WebSocket"), scope["path"], reason)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
    else:
        await answer(scope, receive, send)


def challenge(status: int) -> dict[str, str]:
    """The headers of a refusal: it must not be cached, and with status 401 it requests a token."""
    authenticate = {"WWW-Authenticate": 'Bearer realm="irt"'} if status == HTTPStatus.UNAUTHORIZED else {}
    return {"Cache-Control": "no-store", **authenticate}


def path_within(prefix: str, path: str) -> str:
    """The path without `prefix`, as in Dagster's routes."""
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def _single_header(headers: Headers, name: str) -> str | None:
    """The header's value. Returns None if it is missing, or repeated: other programs might read the other value."""
    values = headers.getlist(name)
    return values[0] if len(values) == 1 else None


def _media_type(headers: Headers) -> str | None:
    header = Header()
    header["Content-Type"] = _single_header(headers, "content-type") or "application/octet-stream"
    return header.get_content_type()


def _add_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            for name, value in SAME_ORIGIN_HEADERS.items():
                headers[name] = value
        await send(message)

    return wrapped
