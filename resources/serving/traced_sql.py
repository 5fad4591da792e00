"""A span of each SQL statement, named by what it does to which table; never with its values."""

import re
from typing import Any, Self

import psycopg
from psycopg.rows import TupleRow

from resources.serving import traces


class TracedCursor(psycopg.Cursor[TupleRow]):
    """A `cursor_factory`: each statement has a span."""

    def execute(  # type: ignore[override]
        self, query: str | bytes, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        if not query:  # the pool's check of whether a connection is alive
            return super().execute(query, params)
        name = statement_name(query.decode() if isinstance(query, bytes) else query)
        with traces.span(name, **{"db.system.name": "postgresql", "db.operation.name": name.partition(" ")[0]}):
            return super().execute(query, params, prepare=prepare, binary=binary)


def statement_name(query: str) -> str:
    """Such as `SELECT mirt_ability`: the verb and the first table, or the function where there is no table."""
    verb = re.search(r"\b(SELECT|INSERT|UPDATE|DELETE|SET)\b", query)
    if verb is None:
        return "statement"
    after = query[verb.end() :]
    table = re.search(r"(?<!DISTINCT )\b(?:FROM|INTO)\s+([a-z_][a-z_.]*)", after) or re.match(
        r"\s+([a-z_][a-z_.]*)", after
    )
    return f"{verb[1]} {table[1]}" if table else verb[1]
