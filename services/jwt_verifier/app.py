"""The verifier over HTTP: `/verify` for nginx's auth_request, `/health`, `/metrics`.

`/verify` answers only 200, 401 or 403: nginx admits a request on 2xx, and any doubt is a refusal. `tokens` verifies the
tokens.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPMethod

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import Counter, Gauge
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from resources.serving.metrics import page, server_registry
from resources.serving.service import serve_http
from resources.settings import Settings
from services.jwt_verifier.keys import MAX_KEY_AGE_S
from services.jwt_verifier.tokens import (
    ROLES,
    Identity,
    Role,
    TokenRefused,
    Verifier,
    build_verifier,
    log_fault,
    sent_token,
)

CHALLENGE = 'Bearer realm="irt"'
NOT_STORED = {"Cache-Control": "no-store"}


def build_app(verifier: Verifier, cookie_name: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        verifier.keys.refresh()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, verifier.keys.refresh)
        yield
        await run_in_threadpool(verifier.keys.close)

    app = FastAPI(title="JWT verifier", openapi_url=None, lifespan=lifespan)
    registry = server_registry()
    verifications = Counter("jwt_verifications", "Tokens checked", ["result", "reason"], registry=registry)
    age = Gauge("jwt_keys_age_seconds", "Time since the issuer's keys were last read", registry=registry)
    age.set_function(lambda: verifier.keys.age_s)

    def refusal(refused: TokenRefused) -> Response:
        verifications.labels("refused", refused.reason).inc()
        headers = dict(NOT_STORED)
        if refused.status == 401:  # RFC 6750: a request without a token gets no error code
            error = "" if refused.reason == "no_token" else ', error="invalid_token"'
            headers["WWW-Authenticate"] = f"{CHALLENGE}{error}"
        return PlainTextResponse(f"{refused}\n", refused.status, headers)

    async def verify(request: Request) -> Response:
        try:
            role = required_role(request.headers.getlist("x-required-role"))
            cookies = request.headers.getlist("cookie")
            token = sent_token(request.headers.getlist("authorization"), cookies, cookie_name)
            identity = await _identity(verifier, token)
            identity.require_role(role)
            headers = identity_headers(identity)
        except TokenRefused as refused:
            return refusal(refused)
        except Exception as error:  # noqa: BLE001 - after any error the request is refused
            log_fault(error)
            return refusal(TokenRefused("internal"))
        verifications.labels("allowed", "valid").inc()
        return Response(headers={**NOT_STORED, **headers})

    app.add_route("/verify", verify, methods=list(HTTPMethod))  # a FastAPI route would cost a quarter more time

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        """Refuse an unknown HTTP method on `/verify` like any other invalid request."""
        if request.url.path == "/verify":
            return refusal(TokenRefused("internal"))
        return PlainTextResponse(f"{error.detail}\n", error.status_code)

    @app.get("/health")
    async def health() -> Response:
        if verifier.keys.age_s > MAX_KEY_AGE_S:
            return JSONResponse({"status": "no keys: the issuer's JWKS has not been read within a day"}, 503)
        return JSONResponse({"status": "ok"})

    app.add_route("/metrics", page(registry))
    return app


def serve(settings: Settings, *, host: str = "127.0.0.1") -> None:
    """Run until SIGTERM; SIGHUP rereads the keys. Raises PermanentFailure if settings are missing or invalid."""
    app = build_app(build_verifier(settings), settings.jwt_cookie_name)
    serve_http(app, host=host, port=settings.port)


def required_role(values: Sequence[str]) -> Role:
    """The role in nginx's header X-Required-Role; without one, the lowest. Raises TokenRefused for an unknown role."""
    if not values:
        return ROLES[0]
    for role in ROLES:
        if [role] == [*values]:
            return role
    raise TokenRefused("unknown_role_required")


def identity_headers(identity: Identity) -> dict[str, str]:
    """The headers for programs behind nginx. Raises TokenRefused if a name is not visible ASCII."""
    headers = {"X-User": identity.sub, "X-Org-Id": identity.org_id, "X-Roles": ",".join(identity.roles)}
    if not all("!" <= character <= "~" for value in headers.values() for character in value):
        raise TokenRefused("bad_name")
    return headers


async def _identity(verifier: Verifier, token: str) -> Identity:
    """Verify in the event loop, which takes a tenth of a millisecond. Only waiting for keys needs a thread."""
    try:
        return verifier.verify(token, wait_s=0)
    except TokenRefused as refused:
        if refused.reason not in ("unknown_key", "keys_unavailable") or not verifier.keys.is_fetching:
            raise
    return await run_in_threadpool(verifier.verify, token)
