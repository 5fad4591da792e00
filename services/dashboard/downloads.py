"""Tables as files: `/download?what=…&to=csv|xlsx|parquet`. What does not belong here: how a file is written."""

from __future__ import annotations

from starlette.responses import PlainTextResponse, Response

from services.dashboard.page import Asked


def download(asked: Asked) -> Response:
    """The file, under a name that says what it is; 404 with a sentence for what there is none of."""
    return PlainTextResponse(f"there is nothing to download as {asked.field('what')[:40]!r}\n", 404)
