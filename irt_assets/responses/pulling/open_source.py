"""Which reader a source has, by its address."""

from __future__ import annotations

from irt_assets.responses.pulling.rows import SqlRows
from irt_assets.responses.pulling.sources_file import PullSource

Reader = SqlRows


def open_source(source: PullSource) -> Reader:
    return SqlRows(source)
