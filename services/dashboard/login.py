"""Identify the sender of a request by its token, which is verified here. A proxy's headers authorise nothing."""

import math
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resources.serving.guard import POLICY_VIOLATION, challenge, refuse
from services.jwt_verifier.tokens import Identity, Role, TokenRefused, Verifier, sent_token

OPEN_PATHS = ("/health", "/metrics", "/ready")
LOWEST_ROLE: Role = "viewer"
DEMO = Identity("demo psychometrician", "demo", ("psychometrician",), frozenset(), math.inf)


@dataclass(eq=False)
class Login:
    """Middleware that admits requests with a valid token to `app` and adds the identity of the sender.

    Without a verifier, every sender is `DEMO`.
    """

    app: ASGIApp
    verifier: Verifier | None
    cookie_name: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            identity = await run_in_threadpool(self._identity, Headers(scope=scope))
        except TokenRefused as refused:
            answer = PlainTextResponse(f"{refused}\n", refused.status, challenge(refused.status))
            await refuse(refused.reason, answer, scope, receive, send)
            return
        scope = {**scope, "state": {**scope.get("state", {}), "identity": identity}}

        async def receive_while_current() -> Message:
            message = await receive()
            if scope["type"] == "websocket" and message["type"] == "websocket.receive":
                try:
                    identity.require_current()
                except TokenRefused as refused:
                    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": str(refused)})
                    return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
            return message

        await self.app(scope, receive_while_current, send)

    def _identity(self, headers: Headers) -> Identity:
        if self.verifier is None:
            return DEMO
        token = sent_token(headers.getlist("authorization"), headers.getlist("cookie"), self.cookie_name)
        identity = self.verifier.verify(token)
        identity.require_role(LOWEST_ROLE)
        return identity


def identity_of(connection: HTTPConnection) -> Identity:
    """The identity of a request or WebSocket that came through `Login`."""
    return connection.scope["state"]["identity"]
