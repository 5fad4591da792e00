"""The hash of a month's answers as it is stored, with what proves that it still holds.

To hash a month reads each of its answers and of its look-back; to prove that nothing has changed reads a few numbers.
Triggers count, in the transaction that writes, the changes to each day of the log (`data_change`), to the items and
scales of the bank, and to the test accounts. The counts only ever grow, so that equal counts mean equal rows, whoever
wrote them and however: an update in place, a deletion and as many new rows, late answers, an erasure, SQL typed by
hand, a replication.

What no trigger sees changes the state too: partitions that were emptied, attached, detached or rewritten; triggers that
were switched off, be it for a moment; a database restored from a dump; a view `attempt` of another text; another query
or look-back. So these hold:

1. A stored hash is returned only while the states are those before and after it was computed. Then no transaction that
   was committed in between has changed a row that it was computed from.
2. Of the bank and the learners, whose every change would concern every month, the month keeps what it read: the scale
   and topic of its items, and which test accounts answered. Where only these states differ, these facts decide.
3. A transaction that has itself changed the data stores nothing, as a part that it changes twice is counted once.
4. Where the log is in a lake (`relational.on_log`), the hashes of its days are its state; of the bank and the learners
   it is PostgreSQL's.
5. Where the states prove nothing (a trigger that is missing, a table of Spark's catalogue) every answer is hashed, each
   time.

All this is for snapshots that were made from the log: those of a lake and of earlier releases. The hash of verdicts
holds while no day of the month has been judged again with another outcome.

What does not belong here: how answers are hashed (see `window.data_hash`).
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from irt_assets.common.partitions import Month, day_of
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.facts import LATER, USUAL_LOOKBACK_MONTHS, lookback_start
from irt_assets.responses.row_hash import OF_VERDICTS
from irt_assets.responses.scales import Scale
from irt_assets.responses.stored_window import verdict_hash
from irt_assets.responses.verdicts import mark_of_waiting
from irt_assets.responses.window import data_hash, data_hash_by, whole_log
from resources.cluster.relational import holds_log, lake, on_postgres
from resources.postgres.database import LOCK, lock_key, one_value
from resources.postgres.relations import LEARNER

TRIGGERS = {
    "response_log": ["log_changed"],
    "question": ["item_added_or_removed", "item_changed"],
    "learner": ["test_account_added", "test_account_changed", "test_account_removed"],
}
"""Those that count changes, by table; a partition has those of the log."""

QUERY = "e1318e0466340df1583583c06d67081ea8f3b7591e1e391433f921077f28f387"
"""Which query a month is hashed by: the digest of its text for the scales of a test, which holds the two together. To
write the text takes Ibis longer than PostgreSQL takes to read the states."""
_STATES = """
WITH relation AS (
  SELECT 'response_log' AS part, relid AS oid FROM pg_partition_tree('response_log')
  UNION ALL SELECT name, to_regclass(name) FROM unnest(ARRAY['question', 'learner']) name
), state AS (
  SELECT r.part, concat_ws(' ', c.oid, c.relfilenode, i.xmin, t.state) AS state,
         c.relkind IN ('r', 'p') AND coalesce(t.names = %(triggers)s::jsonb->r.part, false) AS is_counted
  FROM relation r
    JOIN pg_class c ON c.oid = r.oid
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    CROSS JOIN LATERAL (
      SELECT jsonb_agg(tgname ORDER BY tgname) FILTER (WHERE tgenabled = 'A') AS names,
             string_agg(concat_ws(' ', oid, tgenabled, xmin), ' ' ORDER BY tgname) AS state
      FROM pg_trigger
      WHERE tgrelid = c.oid AND %(triggers)s::jsonb->r.part ? tgname::text) t
  WHERE c.relname !~ '^response_log_[0-9]{4}_[0-9]{2}$' OR c.relname BETWEEN %(first)s AND %(last)s
), changes AS (
  SELECT CASE WHEN part ~ '^[0-9]' THEN 'response_log' ELSE part END AS part, sum(changes) AS n FROM data_change
  WHERE part IN ('question', 'learner') OR part >= %(since)s AND part < %(until)s GROUP BY 1
)
SELECT part, concat_ws(E'\\n', coalesce(n, 0), string_agg(state, E'\\n' ORDER BY state)),
       coalesce(bool_and(is_counted), false), pg_get_viewdef(to_regclass('attempt'))
FROM state LEFT JOIN changes USING (part) GROUP BY part, n
"""
_STORE = """
INSERT INTO data_version (month, data_hash, log_state, bank_state, account_state, items, test_accounts)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (month) DO UPDATE SET
  data_hash = excluded.data_hash, log_state = excluded.log_state, bank_state = excluded.bank_state,
  account_state = excluded.account_state, items = excluded.items, test_accounts = excluded.test_accounts,
  computed_at = excluded.computed_at
"""


@dataclass(frozen=True)
class States:
    """What a month's hash depends on, as it is now: equal states, equal hash."""

    log: str
    bank: str
    accounts: str


def data_version(
    connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], like: str = "", *, read_again: bool = False
) -> str:
    """The hash of a month's answers now: the stored one where nothing has changed, unless they are to be `read_again`;
    else computed and stored.

    `like`: a hash to compare with; if it is of verdicts, so is the result, else it is that of `window.data_hash`.
    """
    if like.startswith(OF_VERDICTS):
        return _version_of_verdicts(connection, month, read_again=read_again)
    before = states_of(connection, month, scales)
    if before is not None and not read_again and (known := _known(connection, month, scales, before)):
        return known
    digest = data_hash(connection, *Month(month).bounds, scales)
    store_version(connection, month, scales, digest, before)
    return digest


def _version_of_verdicts(connection: psycopg.Connection, month: str, *, read_again: bool) -> str:
    before = state_of_verdicts(connection, month)
    query = "SELECT data_hash FROM data_version WHERE month = %s AND log_state = %s"
    known = None if read_again else connection.execute(query, (month, before)).fetchone()
    if known:
        return str(known[0])
    digest = verdict_hash(on_postgres(connection), *Month(month).bounds)
    store_version_of_verdicts(connection, month, digest, before)
    return digest


def state_of_verdicts(connection: psycopg.Connection, month: str) -> str:
    """What the hash of a month's verdicts depends on: which days were judged, and when a verdict of each last changed.

    It is read before the verdicts are, so that a stored hash is never taken for that of verdicts committed later.
    """
    start, end = Month(month).bounds
    query = """SELECT md5(string_agg(concat_ws(' ', day, extract(epoch FROM judged_at)), E'\\n' ORDER BY day))
               FROM judged_day WHERE day >= %s AND day < %s"""
    return f"judged {one_value(connection, query, (start.date(), end.date()))}"


def store_version_of_verdicts(connection: psycopg.Connection, month: str, digest: str, state: str) -> None:
    """Store the hash of a month's verdicts, which was computed after `state` was theirs; not where the caller may not
    write, or where another is storing it."""
    if _may_store(connection, month):
        connection.execute(_STORE, (month, digest, state, "", "", "{}", ""))


def mark_of_change(
    connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], data_hash: str
) -> str | None:
    """None where a month's answers have the hash `data_hash` now; else what tells the present ones from others.

    If that hash is of verdicts, days that wait to be judged count as changed.
    That is their hash, or their state, where a day of the lake has changed and PostgreSQL does not have all the answers
    that the hash is of: it is not worth a session of Spark to whoever asks every few minutes.
    """
    if data_hash.startswith(OF_VERDICTS):
        now = _waiting(connection, month) or data_version(connection, month, scales, data_hash)
        return now if now != data_hash else None
    before = states_of(connection, month, scales) if lake(connection) else None
    if before is None:
        now = data_version(connection, month, scales)
    elif known := _known(connection, month, scales, before):
        now = known
    else:
        start, end = Month(month).bounds
        in_postgres = holds_log(connection, lookback_start(start, scales), end + LATER)
        now = data_hash_by(on_postgres(connection), start, end, scales) if in_postgres else before.log
    return now if now != data_hash else None


def has_changed(connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], data_hash: str) -> bool:
    """Whether a month's answers have another hash than `data_hash` now, or days that wait to be judged."""
    waits = data_hash.startswith(OF_VERDICTS) and _waiting(connection, month) is not None
    return waits or data_version(connection, month, scales, data_hash) != data_hash


def _waiting(connection: psycopg.Connection, month: str) -> str | None:
    start, end = Month(month).bounds
    return mark_of_waiting(connection, start.date(), end.date())


def states_of(connection: psycopg.Connection, month: str, scales: Mapping[str, Scale]) -> States | None:
    """The states now; None where they prove nothing."""
    start, end = Month(month).bounds
    since, until = lookback_start(start, scales), end + LATER
    first, last = (f"response_log_{time:%Y_%m}" for time in (since, until - timedelta(microseconds=1)))
    asked = {"first": first, "last": last, "since": day_of(since), "until": day_of(until)}
    rows = connection.execute(_STATES, asked | {"triggers": json.dumps(TRIGGERS)}).fetchall()
    found = {part: state for part, state, is_counted, _ in rows if is_counted}
    if whole := lake(connection):
        view, days = "lake", whole.days(since, until)
        log: str | None = "\n".join(f"{day} {digest}" for day, digest in sorted(days.items()))
    else:
        view = rows[0][3]
        log = found.get("response_log")
    if log is None or not found.keys() >= {"question", "learner"}:
        return None
    lookbacks = {one.scale_id: one.rules.eligibility.lookback_months for one in scales.values()}
    unusual = sorted((scale, months) for scale, months in lookbacks.items() if months != USUAL_LOOKBACK_MONTHS)
    view = re.sub(r",\s+r\.score\b", "", view)  # without which no hash was another
    log = f"{QUERY} {unusual}\n{since} {start} {end}\n{view}\n{log}"
    return States(_digest(log), _digest(found["question"]), _digest(found["learner"]))


def store_version(
    connection: psycopg.Connection,
    month: str,
    scales: Mapping[str, Scale],
    digest: str,
    before: States | None,
) -> None:
    """Store a month's hash, which was computed after `before` were its states, in the caller's transaction.

    Nothing is stored where the states are others by now, where the caller may not write or has changed the data itself,
    or where another is storing the same: nobody waits.
    """
    if before is None or not _may_store(connection, month):
        return
    start, end = Month(month).bounds
    answered = whole_log(connection, start, end, scales)(attempts_between(start, end).select("item_id").distinct())
    items, accounts = _items(connection, answered["item_id"].to_pylist()), _test_accounts(connection, month, scales)
    if states_of(connection, month, scales) != before:
        return
    connection.execute(_STORE, (month, digest, before.log, before.bank, before.accounts, json.dumps(items), accounts))


def merge_changes(connection: psycopg.Connection) -> int:
    """Add up the rows of each part of `data_change`; how many fewer there are. No sum changes, whoever writes
    meanwhile."""
    return int(
        one_value(
            connection,
            """WITH gone AS (
             DELETE FROM data_change
             WHERE part IN (SELECT part FROM data_change GROUP BY part HAVING count(*) > 1)
             RETURNING part, changes, changed_at
           ), kept AS (
             INSERT INTO data_change (part, changes, changed_at)
             SELECT part, sum(changes), max(changed_at) FROM gone GROUP BY part RETURNING part)
           SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM kept)""",
        )
    )


def _known(connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], now: States) -> str | None:
    """The stored hash if it still holds. Where the bank or the learners were changed, what the month read decides."""
    row = connection.execute(
        """SELECT data_hash, bank_state, account_state, test_accounts, CASE WHEN bank_state <> %s THEN items END
           FROM data_version WHERE month = %s AND log_state = %s""",
        (now.bank, month, now.log),
    ).fetchone()
    if row is None:
        return None
    digest, bank, accounts, test_accounts, items = row
    if bank != now.bank and _items(connection, items) != items:
        return None
    if accounts != now.accounts and _test_accounts(connection, month, scales) != test_accounts:
        return None
    if (bank, accounts) != (now.bank, now.accounts) and _may_store(connection, month):
        connection.execute(
            """UPDATE data_version SET bank_state = %s, account_state = %s
               WHERE month = %s AND (log_state, bank_state, account_state) = (%s, %s, %s)""",
            (now.bank, now.accounts, month, now.log, bank, accounts),
        )
    return str(digest)


def _items(connection: psycopg.Connection, items: Collection[str]) -> dict[str, list[str | int | None] | None]:
    """Scale and topic of each of `items`, and its highest score where that is above 1; None where the bank does not
    have it."""
    rows = connection.execute(
        "SELECT item_id, scale_id, topic_id, nullif(max_score, 1) FROM question WHERE item_id = ANY(%s)", ([*items],)
    )
    known = {item: [scale, topic, *([most] if most else [])] for item, scale, topic, most in rows}
    return {**dict.fromkeys(items), **known}


def _test_accounts(connection: psycopg.Connection, month: str, scales: Mapping[str, Scale]) -> str:
    """Hash of the test accounts with an attempt in the month."""
    start, end = Month(month).bounds
    attempts = attempts_between(start, end).semi_join(LEARNER.filter(LEARNER.is_test), "user_id")
    found = whole_log(connection, start, end, scales)(attempts.select("user_id").distinct())
    return _digest("\n".join(sorted(found["user_id"].to_pylist())))


def _may_store(connection: psycopg.Connection, month: str) -> bool:
    return one_value(
        connection,
        f"""SELECT current_setting('transaction_read_only') = 'off'
             AND has_table_privilege('data_version', 'INSERT') AND has_table_privilege('data_version', 'UPDATE')
             AND current_setting('irt.changes', true) IS DISTINCT FROM 'yes' AND pg_try_advisory_xact_lock({LOCK})""",
        (lock_key("data_version", month),),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
