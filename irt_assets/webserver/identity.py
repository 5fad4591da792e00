"""Who sends a request, by its token, and whether the role suffices: the layer behind `guard`.

Only a token verified here counts: anyone logged in on this machine can send a header such as X-User. Requests that
change something are checked one by one, so a role and a token count at the click, and not only when the page was
opened. What does not belong here: what a document asks for (see `operations`).
"""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from http import HTTPMethod, HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.webserver.operations import (
    Request,
    Unreadable,
    read_body,
    read_request,
    required_role,
    signs_for_another,
)
from jobs.launching.launched_by import CALLER_HEADER, LAUNCHED_BY
from resources.serving.guard import (
    POLICY_VIOLATION,
    PROBE,
    READING,
    Refusal,
    challenge,
    path_within,
    refuse,
)
from services.jwt_verifier.tokens import Identity, Role, TokenRefused, Verifier, sent_token

LOG = logging.getLogger("irt_assets.webserver")
LARGEST_BODY = 16 * 1024 * 1024
"""As in nginx."""


@dataclass(eq=False)
class Identified:
    """`app` for callers whose token gives them `role`; a mutation also needs the role that it requires.

    Without a verifier everybody may do everything, anonymously; all else than a GraphQL request is refused even then.
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
        if path == PROBE and scope.get("method") in READING:
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
            shown = {"data": None, "errors": [{"message": str(refused)}]}  # as GraphQL has it, which the page shows
            answer = JSONResponse(shown, refused.status, challenge(refused.status))
            await refuse(str(refused), answer, scope, receive, send)
        except ClientDisconnect:
            return

    async def _identity(self, scope: Scope, verifier: Verifier) -> Identity:
        headers = Headers(scope=scope)
        token = sent_token(headers.getlist("authorization"), headers.getlist("cookie"), self.cookie_name)
        return await run_in_threadpool(verifier.verify, token)

    async def _converse(self, identity: Identity | None, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket, for subscriptions only, and only while its token is valid."""
        closed = False

        async def is_over() -> bool:
            """Whether the token has expired; the first time it has, the WebSocket is closed."""
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
    """Raises Refusal for the first mutation that is not allowed."""
    for mutation in request.mutations:
        role = required_role(mutation)
        if not identity.has_role(role):
            why = f"{mutation.name} needs the role {role}, which your token does not give you."
            raise Refusal(HTTPStatus.FORBIDDEN, why)
        if signs_for_another(mutation):
            raise Refusal(HTTPStatus.FORBIDDEN, f"The tag {LAUNCHED_BY} is set here: leave it out of the request.")
    if request.mutations:
        LOG.info("%s: %s", identity.sub, ", ".join(mutation.name for mutation in request.mutations))


def _require_subscription(message: Message) -> Message:
    """The message, if Dagster can read it and it starts nothing but subscriptions. Raises Unreadable."""
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
    """The answer of graphql-ws to an operation that cannot be started."""
    of = None
    with suppress(Unreadable):
        of = _object(message).get("id")
    return {"type": "websocket.send", "text": json.dumps({"type": "error", "id": of, "payload": {"message": why}})}


def _scope_of_caller(scope: Scope, identity: Identity | None) -> Scope:
    """The request with the verified caller's name, and without any that came from outside."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != CALLER_HEADER.encode()]
    if identity is not None:
        headers.append((CALLER_HEADER.encode(), json.dumps(identity.sub).encode("ascii")))
    return {**scope, "headers": headers}


def _normalise_scope(scope: Scope) -> Scope:
    """The request as it was judged, so that Dagster cannot take a query from anywhere but the body.

    Dagster knows one spelling of the media type, and with any other takes the query from the address.
    """
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "query_string": b"", "headers": [*headers, (b"content-type", b"application/json")]}


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Raises Refusal if it is too large, ClientDisconnect if the client has gone."""
    body = b""
    async for piece in HttpRequest(scope, receive).stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {LARGEST_BODY} bytes.")
    return body


def _with_body(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """A `receive` that gives Dagster the body that was read here."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        return next(given, None) or await receive()

    return again
