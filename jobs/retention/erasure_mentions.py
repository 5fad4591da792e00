"""Other places that may name an erased learner: violations, alerts, Dagster's events, rejected rows, fits.

Any id is found in tables whose structure shows which values are learners' ids. Running text is searched only for a
distinctive id (`resources.postgres.distinctive_ids`).
"""

import json
import re

import psycopg

from irt_assets.invariants.registry import INVARIANTS
from irt_assets.ledger.fits import drop_twins_of
from resources.dagster_tables import replace_in_texts
from resources.postgres.distinctive_ids import is_distinctive

MENTION_TABLES = ("invariant_result", "alert", "intake_reject", "inbox_file", "fit_staging")
"""Our tables that may name a learner within text instead of in a separate column."""
KIND = "learners"


def drop_mentions(connection: psycopg.Connection, user_id: str, instead: str) -> dict[str, int]:
    """Delete a learner's violations, and replace the id by `instead` elsewhere.

    Returns the number of deleted and changed rows by table.
    """
    subjects = _subjects(connection, user_id)
    names = [invariant.name for invariant in INVARIANTS if invariant.kind == KIND]
    deleted = connection.execute(
        "DELETE FROM invariant_result WHERE invariant = ANY(%s) AND subject = ANY(%s)", (names, subjects)
    ).rowcount
    changed = {"invariant_result": deleted, "alert": _replace_in_alerts(connection, subjects, instead)}
    pattern = _pattern(user_id) if is_distinctive(connection, user_id) else None
    if pattern:
        changed["alert"] += connection.execute(
            """UPDATE alert SET what = regexp_replace(what, %(id)s, %(instead)s, 'g'),
                                key = regexp_replace(key, %(id)s, %(instead)s, 'g'),
                                subjects = regexp_replace(subjects::text, %(in_json)s, %(instead)s, 'g')::jsonb
               WHERE concat_ws(' ', what, key) ~ %(id)s OR subjects::text ~ %(in_json)s""",
            {"id": pattern, "in_json": _pattern(_json_text(user_id, ensure_ascii=False)), "instead": instead},
        ).rowcount
        reasons = [(table, "reason") for table in ("issued_score", "decision", "month_state", "adaptive_test")]
        for table, column in (("inbox_file", "problem"), *reasons):
            changed[f"{table}.{column}"] = connection.execute(
                f"UPDATE {table} SET {column} = regexp_replace({column}, %(id)s, %(instead)s, 'g') "
                f"WHERE {column} ~ %(id)s",
                {"id": pattern, "instead": instead},
            ).rowcount
    changed["fit_staging"] = drop_twins_of(connection, user_id)
    changed |= replace_in_texts(connection, _event_patterns(user_id, instead, pattern))
    return {table: n for table, n in changed.items() if n}


def _subjects(connection: psycopg.Connection, user_id: str) -> list[str]:
    """The names of a learner in an invariant: the id, and each scale with the id."""
    scales = connection.execute("SELECT DISTINCT scale_id FROM question UNION SELECT scale_id FROM calibration_scale")
    return [user_id, *(f"{scale}: {user_id}" for (scale,) in scales)]


def _replace_in_alerts(connection: psycopg.Connection, subjects: list[str], instead: str) -> int:
    """Replace the subjects in alerts about learners. Returns the number of changed alerts.

    An alert without subjects is resolved at the next evaluation.
    """
    rows = connection.execute(
        "SELECT alert_id, key, what, subjects FROM alert WHERE kind = %s AND subjects ?| %s", (KIND, subjects)
    ).fetchall()
    for alert_id, key, what, subjects_of_alert in rows:
        for subject in subjects:
            key = key.removesuffix(f"|{subject}") + (f"|{instead}" if key.endswith(f"|{subject}") else "")
            what = what.replace(f"({subject}: ", f"({instead}: ")
        remaining = json.dumps([name for name in subjects_of_alert if name not in subjects])
        connection.execute(
            "UPDATE alert SET key = %s, what = %s, subjects = %s WHERE alert_id = %s", (key, what, remaining, alert_id)
        )
    return len(rows)


def _event_patterns(user_id: str, instead: str, pattern: str | None) -> dict[str, str]:
    """Regular expressions that find the id in events, with their replacements.

    An event's text is JSON, whose strings may contain JSON again. The id is replaced only within strings.
    """
    forms = {user_id, _json_text(user_id), _json_text(_json_text(user_id))}
    replacements: dict[str, str] = {}
    for form in map(re.escape, forms):
        # In this order: a cell of a table in metadata, a learner's file, the mark of the θ sweep.
        replacements[rf'("(?:learner|learners|subject)": "){form}(")'] = rf"\1{instead}\2"
        replacements[rf'("files": "){form}(\.(?:html|pdf)")'] = rf"\1{instead}\2"
        replacements[rf'(\\", \\"){form}(\\"\])'] = r"\1\2"
    if pattern:
        replacements |= dict.fromkeys(map(_pattern, forms), instead)
    return replacements


def _json_text(text: str, *, ensure_ascii: bool = True) -> str:
    return json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]


def _pattern(text: str) -> str:
    """A regular expression of PostgreSQL that finds the text if it is not part of a longer word."""
    return rf"(?<![[:alnum:]_-]){re.escape(text)}(?![[:alnum:]_-])"
