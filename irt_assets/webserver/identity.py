"""The layer behind `guard`: it identifies the sender of a request by a token, and checks the sender's role.

Only a token that is verified here counts, because anyone logged in on this machine can send a header such as X-User.
Each request that changes something is checked, so the role and the token must be valid at each click, and not only when
the page is opened.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from http import HTTPMethod, HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.webserver.operations import (
    Request,
    Unreadable,
    read_body,
    read_request,
    required_role,
    would_record_unverified_name,
)
from jobs.launching.launched_by import CALLER_HEADER, LAUNCHED_BY
from resources.serving.guard import (
    POLICY_VIOLATION,
    PROBE,
    READ_METHODS,
    Refusal,
    challenge,
    path_within,
    refuse,
)
from services.jwt_verifier.tokens import Identity, Role, TokenRefused, Verifier, sent_token

LOG = logging.getLogger("irt_assets.webserver")
MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest body in bytes, as in nginx."""


@dataclass(eq=False)
class IdentityLayer:
    """`app` for callers whose token grants `role`; a mutation also needs the role of `required_role`.

    Without a verifier everybody may do everything, anonymously. Bodies and messages that are not GraphQL requests are
    refused even then.
    """

    app: ASGIApp
    verifier: Verifier | None
    cookie_name: str
    role: Role
    _: KW_ONLY
    prefix: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        scope = _scope_of_caller(scope, None)
        path = path_within(self.prefix, scope["path"])
        if path == PROBE and scope.get("method") in READ_METHODS:
            await self.app(scope, receive, send)
            return
        identity = None
        try:
            if self.verifier is not None:
                identity = await self._identity(scope, self.verifier)
                identity.require_role(self.role)
                scope = _scope_of_caller(scope, identity)
            if scope["type"] == "websocket":
                await self._converse(identity, scope, receive, send)
                return
            if scope.get("method") == HTTPMethod.POST:
                body = await _body(scope, receive)
                request = read_body(body)
                if identity is not None:
                    _require_allowed(request, identity)
                scope, receive = _normalise_scope(scope), _with_body(body, receive)
            await self.app(scope, receive, send)
        except (TokenRefused, Unreadable, Refusal) as refused:
            shown = {"data": None, "errors": [{"message": str(refused)}]}  # GraphQL's format, which the UI shows
            answer = JSONResponse(shown, refused.status, challenge(refused.status))
            await refuse(str(refused), answer, scope, receive, send)
        except ClientDisconnect:
            return

    async def _identity(self, scope: Scope, verifier: Verifier) -> Identity:
        headers = Headers(scope=scope)
        token = sent_token(headers.getlist("authorization"), headers.getlist("cookie"), self.cookie_name)
        return await run_in_threadpool(verifier.verify, token)

    async def _converse(self, identity: Identity | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket, for subscriptions only, and only while its token is valid."""
        closed = False

        async def is_over() -> bool:
            """Whether the token has expired. If it has, the first call closes the WebSocket."""
            nonlocal closed
            if identity is None:
                return False
            try:
                identity.require_current()
            except TokenRefused as refused:
                if not closed:
                    closed = True
                    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": str(refused)})
            return closed

        async def send_while_current(message: Message) -> None:
            if not await is_over():
                await send(message)

        async def receive_allowed() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return message
                if await is_over():
                    continue
                try:
                    return _require_subscription(message)
                except Unreadable as error:
                    LOG.warning("refused on a WebSocket of %s: %s", identity.sub if identity else "somebody", error)
                    await send(_error(message, str(error)))

        await self.app(scope, receive_allowed, send_while_current)


def _require_allowed(request: Request, identity: Identity) -> None:
    """Raise Refusal for the first mutation that is not allowed."""
    for mutation in request.mutations:
        role = required_role(mutation)
        if not identity.has_role(role):
            why = f"{mutation.name} needs the role {role}, which your token does not grant."
            raise Refusal(HTTPStatus.FORBIDDEN, why)
        if would_record_unverified_name(mutation):
            raise Refusal(HTTPStatus.FORBIDDEN, f"The server sets the tag {LAUNCHED_BY}: omit it from the request.")
    if request.mutations:
        LOG.info("%s: %s", identity.sub, ", ".join(mutation.name for mutation in request.mutations))


def _require_subscription(message: Message) -> Message:
    """Return the message. Raises Unreadable if Dagster cannot read it, or if it starts anything but subscriptions."""
    sent = _object(message)
    operation = sent.get("id", "")
    if not isinstance(operation, str) or not operation.isprintable():
        raise Unreadable("The message's `id` must be a string of printable characters.")
    payload = sent.get("payload")
    starts = sent.get("type") == "start" or (isinstance(payload, dict) and "query" in payload)
    if starts and not read_request(payload).subscribes:
        raise Unreadable("A WebSocket may only carry subscriptions: send everything else by POST.")
    return message


def _object(message: Message) -> dict[str, object]:
    try:
        sent = json.loads(message.get("text") or "")
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise Unreadable("Send a JSON object in a text message.")
    return sent


def _error(message: Message, why: str) -> Message:
    """The response of graphql-ws to an operation that cannot be started."""
    operation = None
    with suppress(Unreadable):
        operation = _object(message).get("id")
    return {
        "type": "websocket.send",
        "text": json.dumps({"type": "error", "id": operation, "payload": {"message": why}}),
    }


def _scope_of_caller(scope: Scope, identity: Identity | None) -> Scope:
    """The request with the name of the verified caller, and without a name that a client has sent."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != CALLER_HEADER.encode()]
    if identity is not None:
        headers.append((CALLER_HEADER.encode(), json.dumps(identity.sub).encode("ascii")))
    return {**scope, "headers": headers}


def _normalise_scope(scope: Scope) -> Scope:
    """The request with only the query in its body, which was checked.

    Dagster recognises one spelling of the media type, and with any other it reads the query from the address.
    """
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "query_string": b"", "headers": [*headers, (b"content-type", b"application/json")]}


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The body. Raises Refusal if it is too large, ClientDisconnect if the client has disconnected."""
    body = b""
    async for piece in HttpRequest(scope, receive).stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return body


def _with_body(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A `receive` that returns the body that was already read, for Dagster."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        return next(given, None) or await receive()

    return again
