"""The log is always response_log: answers that a view read from a company's own tables are copied into it.

The stored mappings become sources of `irt pull`, which are named line by line, and their table goes.
"""

import json
import re
import time

import sqlalchemy as sa
import yaml
from alembic import context, op

from resources.failures import PermanentFailure

revision = "0055_one_log"
down_revision = "0054_month_state"
oldest_code = "0039_learner_reports"

READS_OTHERS = """
    SELECT count(*) > 0 FROM pg_depend
    WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
      AND objid = (SELECT oid FROM pg_rewrite WHERE ev_class = to_regclass('attempt'))
      AND refobjid NOT IN (to_regclass('response_log'), to_regclass('question'), to_regclass('attempt'))
"""
COLUMNS = {
    **dict.fromkeys(("user_id", "item_id", "session_id", "form_id", "response"), "text"),
    "position": "integer",
    "started_at": "timestamptz",
    "completed_at": "timestamptz",
    "correct": "boolean",
    "response_time_ms": "bigint",
    "hints_used": "integer",
    "mode": "text",
    "recorded_at": "timestamptz",
    "score": "smallint",
}
ATTEMPT = """
    SELECT r.attempt_id AS id, r.user_id, r.item_id, coalesce(q.topic_id, 'unknown') AS topic_id,
           r.session_id, r.form_id, r.position, r.started_at, r.completed_at, r.correct, r.response,
           r.response_time_ms, r.hints_used > 0 AS hint_used, r.hints_used, r.mode, r.recorded_at, r.score
    FROM response_log r LEFT JOIN question q ON q.item_id = r.item_id
"""
SOUND = """m.id <> '' AND m.user_id <> '' AND m.item_id <> '' AND m.completed_at IS NOT NULL
    AND coalesce(m.mode, 'live') IN ('live', 'sandbox')"""
LEAVE = "DELETE FROM log_mapping WHERE target = 'log';\nDROP VIEW attempt;"


def upgrade() -> None:
    connection = op.get_bind()
    mappings = {
        target: (source, query, options or {})
        for target, source, query, options in connection.exec_driver_sql(
            """SELECT target, source, query, options FROM log_mapping
               WHERE target IN ('log', 'question', 'learner') ORDER BY target DESC"""
        )
    }
    if "log" in mappings or connection.exec_driver_sql(READS_OTHERS).scalar():
        _copy(connection, *mappings.get("log", ("the view attempt", "SELECT * FROM attempt", {}))[:2])
    _make_view(connection)
    if mappings:
        sources = {target: _source(target, *mapping[1:]) for target, mapping in mappings.items()}
        _note("The tables that were connected are pulled from now on: write these lines into the file of sources")
        _note("(IRT_PULL_SOURCES, docs/how-to/pull.md):")
        _note(yaml.safe_dump(sources, sort_keys=False, allow_unicode=True, width=10_000))
    op.execute(
        """
        DROP TABLE log_mapping;
        DELETE FROM partition_source WHERE asset = 'attempts' OR asset LIKE 'erasure %';
        UPDATE item_status SET decided_by = 'irt pull' WHERE decided_by = 'irt connect question';
        COMMENT ON COLUMN partition_source.asset IS 'features_topic_daily or item_response_time';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        CREATE TABLE log_mapping (
            target text NOT NULL, source text NOT NULL, query text NOT NULL, options jsonb NOT NULL,
            made_by text NOT NULL, made_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (target));
        """
    )


def _copy(connection: sa.Connection, source: str, query: str) -> None:
    """Copy the answers of `query`, month by month.

    Raises PermanentFailure, with the statements that help, if the log has answers of its own or nobody may read them.
    """
    if here := connection.exec_driver_sql("SELECT count(*) FROM response_log").scalar():
        raise PermanentFailure(
            f"the log was {source}, and response_log holds {here:,} answers that nobody has read since. To copy "
            f"{source} in, delete them: TRUNCATE response_log. To keep them and pull {source} later, run:\n"
            f"{LEAVE}\n"
            "Then upgrade again; nothing was changed"
        )
    try:
        with connection.begin_nested():
            given = set(connection.exec_driver_sql(f"SELECT * FROM ({query}\n) m LIMIT 0".replace("%", "%%")).keys())
    except sa.exc.ProgrammingError as error:
        schema, table = source.split(".") if source.count(".") == 1 else ("SCHEMA", "TABLE")
        owner = connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar()
        raise PermanentFailure(
            f"the log was {source}, and its answers cannot be copied: {str(error.orig).splitlines()[0]}. Let the "
            f"administrator run\nGRANT USAGE ON SCHEMA {schema} TO {owner};\n"
            f"GRANT SELECT ON {schema}.{table} TO {owner};\n"
            f"or, to begin without these answers, run as the owner:\n{LEAVE}\n"
            "Then upgrade again; nothing was changed"
        ) from None
    cells = {name: f"m.{name}::{type_}" for name, type_ in COLUMNS.items() if name in given}
    cells["attempt_id"] = "m.id::text"
    if "score" in given:
        cells["correct"] = f"coalesce({cells['correct']}, m.score = coalesce(q.max_score, 1))"
    if "mode" in given:
        cells["mode"] = "coalesce(m.mode::text, 'live')"
    if "recorded_at" in given:  # a pull by this time then finds what it has
        cells["revision"] = "coalesce((extract(epoch FROM m.recorded_at) * 1000000)::bigint, 0)"
    cells["recorded_at"] = f"coalesce({cells.get('recorded_at', 'NULL')}, m.completed_at)"
    answers = f"({query}\n) m LEFT JOIN question q ON q.item_id = m.item_id::text"
    began = time.monotonic()
    months = connection.exec_driver_sql(
        f"""SELECT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM ({query}
) m GROUP BY 1 ORDER BY 1""".replace("%", "%%")
    ).all()
    total = sum(n for _, n in months)
    _note(f"{total:,} answers of {source} are copied into response_log …")
    copied = 0
    for month in (month for month, _ in months if month is not None):
        end = f"(timestamp '{month}-01' + interval '1 month') AT TIME ZONE 'UTC'"
        until = connection.exec_driver_sql(f"SELECT {end}").scalar()
        op.execute(
            f"CREATE TABLE IF NOT EXISTS response_log_{month.replace('-', '_')} PARTITION OF response_log "
            f"FOR VALUES FROM ('{month}-01 00:00:00+00') TO ('{until:%Y-%m-%d %H:%M:%S%z}')"
        )
        insert = f"""INSERT INTO response_log ({", ".join(cells)}) SELECT {", ".join(cells.values())} FROM {answers}
                     WHERE {SOUND if "mode" in given else SOUND.partition("AND coalesce")[0]}
                       AND m.completed_at >= '{month}-01 00:00+00' AND m.completed_at < {end} ON CONFLICT DO NOTHING"""
        copied += connection.exec_driver_sql(insert.replace("%", "%%")).rowcount
    took = time.monotonic() - began
    left = f"; {total - copied:,} have no id, learner, item or time, or an id twice" if copied < total else ""
    _note(f"{copied:,} answers were copied in {took:,.0f} s{left}")


def _make_view(connection: sa.Connection) -> None:
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE OR REPLACE VIEW attempt AS {ATTEMPT}")
    except sa.exc.ProgrammingError:  # one that was made by hand may have other types
        connection.exec_driver_sql("DROP VIEW IF EXISTS attempt")
        connection.exec_driver_sql(f"CREATE VIEW attempt AS {ATTEMPT}")


def _source(target: str, query: str, options: dict[str, str] | str) -> dict[str, object]:
    """The keys of a mapping in the file of sources."""
    options = json.loads(options) if isinstance(options, str) else options
    names = re.findall(r' AS "((?:[^"]|"")+)"', query)
    columns = {"attempt_id" if target == "log" and name == "id" else name: name for name in names}
    keys: dict[str, object] = {"address": "this", "select": query}
    if target != "log":
        return {"kind": target, **keys, "mapping": {"columns": columns}}
    columns.pop("recorded_at", None)
    written = "recorded_at" if "recorded_at" in names else "completed_at"
    keys |= {"mapping": {"columns": columns}, "cursor": {"column": written, "key": "id"}}
    if written == "recorded_at":
        keys["revision"] = "cursor"
    if erase := options.get("erase_with"):
        keys["erase"] = re.sub(r"(?<![:\w]):user_id\b", "%(user_id)s", erase)
    return keys


def _note(line: str) -> None:
    """For the person who upgrades."""
    context.config.attributes.setdefault("notes", []).append(line)
