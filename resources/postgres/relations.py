"""Tables of relational expressions: Ibis relations from the registry, not bound to a database."""

import ibis
import ibis.expr.types as ir
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from resources import tables

_TYPES = {
    sa.Text: "string",
    sa.SmallInteger: "int16",
    sa.Integer: "int32",
    sa.BigInteger: "int64",
    sa.Double: "float64",
    sa.Boolean: "boolean",
    sa.Date: "date",
    TIMESTAMP: "timestamp('UTC')",
    JSONB: "json",
}


def _columns(table: sa.Table) -> dict[str, str]:
    return {column.name: _TYPES[type(column.type)] for column in table.columns}


def relation(table: sa.Table) -> ir.Table:
    """A table of the registry, not bound to a database."""
    return ibis.table(_columns(table), name=table.name)


def _attempt() -> ir.Table:
    """The view `attempt`: the log's columns except three that only imports need, with the id as `id`, and in addition
    `topic_id` and `hint_used`."""
    columns = _columns(tables.response_log)
    del columns["revision"], columns["sent_at"], columns["pulled_from"]
    return ibis.table(
        {"id": columns.pop("attempt_id"), **columns, "topic_id": "string", "hint_used": "boolean"}, name="attempt"
    )


ATTEMPT = _attempt()
QUESTION = relation(tables.question)
LEARNER = relation(tables.learner)
VERDICT = relation(tables.attempt_verdict)
SEED_DRAW = relation(tables.seed_draw)
VERDICT_COLUMNS = {
    "learner_key": "int64",
    "scale_id": "string",
    "reason": "string",
    "verdict_score": "int16",
    "max_score": "int16",
}
"""Additional columns of `attempt` in a lake: the attempt's verdict. `learner_key` is null if it is not judged."""
LAKE_ATTEMPT = ibis.table({**ATTEMPT.schema(), **VERDICT_COLUMNS}, name="attempt")
