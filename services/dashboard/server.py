"""The dashboard over HTTP. Each page is built in a thread, sent by Shiny, and has the right status code.

Addresses are `?view=NAME&…`. A page is sent with its numbers; the WebSocket serves later events on the page.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psycopg
from htmltools import Tag
from shiny import App, Inputs, Outputs, Session, reactive
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.blocks import Paragraph, notice
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import sentence, shorten
from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import keep_connections
from resources.failures import PermanentFailure, explain, is_transient
from resources.postgres.open_database import open_database
from resources.postgres.schema_version import SchemaMisfit, schema_compared
from resources.serving import metrics
from resources.serving.guard import Guard
from resources.serving.service import serve_http
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.downloads import document as write_document, download
from services.dashboard.figures import PLOTLY_JS, render_blocks
from services.dashboard.layout import document
from services.dashboard.login import OPEN_PATHS, Login, identity_of
from services.dashboard.messages import MessageFilter
from services.dashboard.page import NotAllowed, NotFound, Page, View, ViewRequest
from services.dashboard.report_files import report
from services.dashboard.views import VIEWS
from services.jwt_verifier.tokens import Identity, Verifier, build_verifier

LOG = logging.getLogger("services.dashboard")
STATIC = Path(__file__).parent / "static"
OPEN_REQUESTS_S = 5
CACHE_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
NO_CACHE = {"Cache-Control": "no-store"}
SCRIPTS_OF_SHINY = (
    "'sha256-gb2teCJPKprj3suUu96YMl66Mzjq9dgXvxYaiNc7fh4=' 'sha256-erP5hScmId9gRru9k52QQl/lSJmUl8NfFAiLNMbPtcg='"
)
"""Hashes of the inline scripts that Shiny adds to a page, for busy indicators and date fields."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        f"script-src 'self' {SCRIPTS_OF_SHINY}",
        "style-src 'self' 'unsafe-inline'",  # charts
        "img-src 'self' data:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
"""Policy of every page: an id or a name in a page cannot become a script."""
PAGE_HEADERS = ((b"cache-control", b"no-store"), (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()))


@dataclass(eq=False)
class Pages:
    """Middleware before Shiny's `app` that builds the requested page, in a thread, and sets its status code."""

    app: ASGIApp
    reader: Reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        connection = Request(scope)
        request = parse_request(connection.query_params, identity_of(connection), self.reader)
        status, page = await run_in_threadpool(make_page, request)
        scope["state"]["shown"] = page, request

        async def send_with_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], *PAGE_HEADERS]
                message = {**message, "status": status, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_with_status)


def parse_request(query: QueryParams, identity: Identity, reader: Reader) -> ViewRequest:
    return ViewRequest(query.get("view") or VIEWS[0].name, dict(query), identity, reader)


def make_page(request: ViewRequest) -> tuple[HTTPStatus, Page]:
    """The status and the page, or a page that says why the requested one cannot be shown."""
    try:
        with schema_compared(request.reader.database):
            return HTTPStatus.OK, find_view(request).page(request)
    except NotFound as not_found:
        return HTTPStatus.NOT_FOUND, _error_page("Not found", str(not_found))
    except NotAllowed as not_allowed:
        return HTTPStatus.FORBIDDEN, _error_page("Not for your role", str(not_allowed))
    except SchemaMisfit as misfit:
        LOG.warning("the page %s cannot be shown: %s", request.view, misfit)
        return HTTPStatus.SERVICE_UNAVAILABLE, _error_page("The database has another schema", sentence(str(misfit)))
    except PermanentFailure as failure:
        return HTTPStatus.UNPROCESSABLE_ENTITY, _error_page("This cannot be shown", str(failure))
    except psycopg.errors.QueryCanceled:
        reason = "Reading it took too long: request less, or try again when fewer runs are under way."
        return HTTPStatus.SERVICE_UNAVAILABLE, _error_page("The database is busy", reason)
    except psycopg.OperationalError as error:
        return _database_unavailable(error)
    except Exception as error:
        if is_transient(error):  # from Dagster's storage, which does not use psycopg
            return _database_unavailable(error)
        LOG.exception("the page %s %s failed", request.view, dict(request.fields))
        reason = "This is a fault of the dashboard: see its log. Nothing was changed."
        return HTTPStatus.INTERNAL_SERVER_ERROR, _error_page("This page failed", reason)


def _database_unavailable(error: Exception) -> tuple[HTTPStatus, Page]:
    LOG.warning("the database does not answer: %s", explain(error) or error)
    return HTTPStatus.SERVICE_UNAVAILABLE, _error_page("The database does not answer", "Try again in a minute.")


def find_view(request: ViewRequest) -> View:
    for view in VIEWS:
        if view.name == request.view:
            return view
    raise NotFound(f"There is no view {shorten(request.view)!r}: choose one from the menu.")


def build_app(reader: Reader, verifier: Verifier | None, settings: Settings) -> ASGIApp:
    """All routes, behind the guard and the login. Without a verifier every sender is the demo's psychometrician."""

    def show_page(request: Request) -> Tag:
        page, view_request = request.scope["state"]["shown"]
        return document(page, view_request, VIEWS)

    def handle_events(input: Inputs, output: Outputs, session: Session) -> None:  # noqa: A002 - Shiny's names
        with reactive.isolate():
            query = QueryParams(session.clientdata.url_search().removeprefix("?"))
        request = parse_request(query, identity_of(session.http_conn), reader)  # type: ignore[attr-defined]
        with suppress(NotFound):  # the page names the missing part
            if (server := find_view(request).server) is not None:
                server(request, input, output, session)

    app = App(show_page, handle_events)
    app.sanitize_errors = True

    def send(respond: Callable[[ViewRequest], Response]) -> Callable[[Request], Response]:
        return lambda request: respond(parse_request(request.query_params, identity_of(request), reader))

    registry = metrics.server_registry()

    routes = [
        Route("/health", lambda _: JSONResponse({"status": "ok"})),
        Route("/ready", lambda _: JSONResponse({"status": "ready"})),
        Route("/metrics", metrics.page(registry)),
        Route("/plotly.min.js", _file(PLOTLY_JS, CACHE_FOREVER)),
        *(Route(f"/{path.name}", _file(path, NO_CACHE)) for path in sorted(STATIC.iterdir())),
        Route("/download", send(download)),
        Route("/document", send(write_document)),
        Route("/report", send(report)),
        Mount("/", Pages(MessageFilter(app), reader)),
    ]
    inner = GZipMiddleware(Router(routes), minimum_size=4096)
    guarded = Guard(Login(inner, verifier, settings.jwt_cookie_name), settings.ui_names, probes=OPEN_PATHS)
    return metrics.CountRequests(guarded, "dashboard", registry)


def serve(settings: Settings, *, demo: bool, host: str = "127.0.0.1") -> None:
    """Run until SIGTERM.

    demo: whether every sender is the demo's psychometrician, without a login. This needs the embedded database and the
    loopback address. Raises PermanentFailure if one of these is missing or a login is set up; if, without `demo`,
    tokens cannot be verified; and if the schema does not fit this code.
    """
    if demo and (settings.database_url is not None or host != "127.0.0.1"):
        raise PermanentFailure(
            "the demo's dashboard has no login, so it runs on the embedded database and 127.0.0.1 only: "
            "unset DATABASE_URL, or start it without --demo"
        )
    if demo and settings.has_login:
        raise PermanentFailure("a login is set up (JWT_…): start the dashboard without --demo")
    verifier = None if demo else _verifier(settings)
    database = open_database(settings)
    with dagster_instance(settings, database) as instance:
        keep_connections(instance)
        app = build_app(Reader(settings, instance), verifier, settings)
        serve_http(app, host=host, port=settings.irt_dashboard_port, timeout_graceful_shutdown=OPEN_REQUESTS_S)


def _verifier(settings: Settings) -> Verifier:
    """Build the verifier. Raises PermanentFailure if no login is set up; the message then names the demo's command."""
    try:
        return build_verifier(settings)
    except PermanentFailure as failure:
        if settings.has_login or settings.database_url is not None:
            raise
        raise PermanentFailure(f"{failure}; a demo on this machine needs none: irt run dashboard --demo") from failure


def _error_page(title: str, reason: str) -> Page:
    return Page(title, render_blocks(notice(reason, "warning"), Paragraph(page_link("All months", VIEWS[0].name))))


def _file(path: Path, headers: dict[str, str]) -> Any:
    async def answer(_request: Request) -> Response:
        return FileResponse(path, headers=headers)

    return answer
