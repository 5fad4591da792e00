"""Decide on the key of an item: its answers are scored by another key, all get credit, or it is dropped.

The decision is kept in `scale_decision` with the former key, and the former scores in `attempt_correction`, so it can
be undone. The item's published parameters do not change: they were estimated from the former scores, and the next
months propose new ones.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psycopg

from irt_assets.abilities.batch import estimate
from irt_assets.common.wording import quantity
from irt_assets.decisions.accepting import steps_after_key
from irt_assets.decisions.deciding import require_same_basis
from irt_assets.decisions.release_impact import ThetaShift
from irt_assets.intake.corrections import Rekeying, rekey_answers
from irt_assets.intake.staging import lock_out_imports_and_posts
from irt_assets.ledger.closings import reopen_months
from irt_assets.ledger.decisions import key_decisions
from irt_assets.ledger.publications import in_force
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.scales.item_keys import DROPPED, RIGHT, Key, key_in_words
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scales.scale_decisions import KEY_OF, record_decisions, require_text, standing_decisions
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column

MAX_OPTIONS = 20
SAME = 1e-9
"""Largest |Δθ| that counts as no change."""
JUDGE_CHANGED = f"""
    UPDATE attempt_verdict v
    SET reason = CASE WHEN r.mode = '{DROPPED}' THEN 'sandbox' WHEN c.mode <> '{DROPPED}' THEN v.reason END,
        score = CASE WHEN r.mode = 'live' AND (v.reason IS NULL OR c.mode = '{DROPPED}') THEN r.correct::int END
    FROM attempt_correction c JOIN response_log r USING (attempt_id, completed_at)
    WHERE c.corrected_at = now() AND (v.attempt_id, v.completed_at) = (c.attempt_id, c.completed_at)"""
"""SQL: changes the verdicts of the answers that this transaction has corrected, as the next night will."""


class KeyPreview(NamedTuple):
    """Effect of a decision on a key, before it is made.

    Attributes:
        done: the changed answers and months.
        shift: shift of the learners whose θ changes.
        basis: the present key and the last decision on the key, in words, as `ledger.decision_rows.Plan.basis`.
        steps: the steps after the months are recomputed, in words.
    """

    done: Rekeying
    shift: ThetaShift
    basis: dict[str, str]
    steps: list[str]


def choose_key(options: Sequence[str], *, every_answer: bool, drop: bool, undo: bool = False) -> Key | None:
    """The key of right options, or of an item whose answers all get credit or that is dropped. None: an undo.

    Raises PermanentFailure unless exactly one of the four is given.
    """
    if bool(options) + every_answer + drop + undo != 1:
        raise PermanentFailure(
            "say which options are right (--key C, --also D for each further one), or that every answer gets credit "
            "(--all), or that the item is dropped (--drop); --undo restores the former key"
        )
    distinct = sorted(set(options))
    return None if undo else True if every_answer else distinct[0] if len(distinct) == 1 else distinct


def read_options(connection: psycopg.Connection, item_id: str) -> tuple[Key | None, list[tuple[str, int, bool]]]:
    """The key of an item, and its most frequent options: option, number of answers without the sandbox's, and whether
    it is right. Raises PermanentFailure if the bank has no such item."""
    rows = connection.execute(
        f"""SELECT q.meta->'key', r.response, count(*), {RIGHT.format(key="(q.meta->'key')", response="r.response")}
            FROM question q LEFT JOIN response_log r
              ON r.item_id = q.item_id AND r.response IS NOT NULL AND r.mode <> 'sandbox'
            WHERE q.item_id = %s GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT {MAX_OPTIONS}""",
        (item_id,),
    ).fetchall()
    if not rows:
        raise PermanentFailure(f"the bank has no item {item_id!r}: ids are case-sensitive")
    return rows[0][0], sorted((option, n, bool(right)) for _, option, n, right in rows if option is not None)


def months_rescored(connection: psycopg.Connection, item_id: str) -> dict[str, datetime]:
    """Return month → when scores of the item's answers in it last changed by a decision."""
    return dict(
        connection.execute(
            """SELECT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM'), max(corrected_at) FROM attempt_correction
               WHERE item_id = %s AND how = 'rescore' GROUP BY 1""",
            (item_id,),
        )
    )


def closed_months_changed(connection: psycopg.Connection, item_id: str) -> list[str]:
    """The closed months of the item's scale in which scores of the item's answers have changed since they closed."""
    changed = months_rescored(connection, item_id)
    closed = read_closed(connection, changed)
    return sorted({closing.month for closing in closed if changed[closing.month] > closing.since})


def preview(database: Database, item_id: str, key: Key | None, *, reopen: bool = False, now: datetime) -> KeyPreview:
    """Compute the effect of `rekey`, in a transaction that is rolled back.

    The shift is by the published set in force at `now`.
    """
    with database.connect() as connection, connection.transaction(force_rollback=True):
        done, basis = _decide(connection, item_id, key, "preview", "preview", reopen)
        scale = read_scales(connection)[done.scale_id]
        before = _thetas(connection, scale, now)
        connection.execute(JUDGE_CHANGED)
        after = _thetas(connection, scale, now)
        steps = steps_after_key(connection, done.scale_id, done.stale_months)
    pairs = np.array([(before[user], after[user]) for user in before.keys() & after.keys()]).reshape(-1, 2)
    old, new = pairs[np.abs(pairs[:, 1] - pairs[:, 0]) > SAME].T
    shift = ThetaShift.from_thetas(old, new, scale.pass_theta) if old.size else ThetaShift()
    return KeyPreview(done, shift, basis, steps)


def effect_in_words(seen: KeyPreview) -> list[str]:
    """Describe the effect of `preview`, as a person reads it before deciding."""
    shift = seen.shift
    changed = f"{quantity(shift.learners, 'learner')}: {shift.shift_in_words}; {shift.passing_in_words}"
    theta = f"by the published parameters, θ changes for {changed if shift.learners else 'nobody'}"
    return [*seen.done.sentences, *seen.steps, theta]


def rekey(
    database: Database,
    item_id: str,
    key: Key | None,
    *,
    by: str,
    reason: str,
    reopen: bool = False,
    seen: Mapping[str, str] | None = None,
) -> Rekeying:
    """Record that `by` decides on an item's key, and score its answers by it.

    Parameters
    ----------
    database
        The database.
    item_id
        The item.
    key
        The new key. None: undo the last decision on the key that stands. The former key is recorded again, answers
        that are older than the decision get their former scores, and later ones are scored by the former key.
    by, reason
        Name of the person who decides, and the reason.
    reopen
        Whether the closed months concerned are reopened.
    seen
        The basis of the preview that the person has seen.

    Returns
    -------
    Rekeying
        The changed answers and months.

    Raises
    ------
    PermanentFailure
        If the bank has no such item, its maximum score is above 1, nobody chose one of the options, nothing would
        change, or the key or the last decision on the key differs from `seen`. For an undo: if no decision stands, or
        another key was imported since.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        done, basis = _decide(connection, item_id, key, by, reason, reopen)
        require_same_basis(basis if seen is None else seen, basis)
    return done


def _decide(
    connection: psycopg.Connection, item_id: str, key: Key | None, by: str, reason: str, reopen: bool
) -> tuple[Rekeying, dict[str, str]]:
    decided = key_decisions(connection, item_id)
    opens = partial(reopen_months, by=by, reason=reason) if reopen else None
    undone = standing_decisions(decided, f"decision on the key of {item_id}")[-1] if key is None else {}
    key, undoes = undone.get("former", key), undone.get("decided_at")
    done = rekey_answers(connection, item_id, key, by=by, reason=reason, undoes=undoes, reopen=opens)
    if undone and done.former != undone["key"]:
        raise PermanentFailure(
            f"the key of {item_id} was changed by an import since {undoes:%Y-%m-%d}: decide with --key, not --undo"
        )
    if done.former == done.key and not done.answers:
        raise PermanentFailure(f"nothing to change: all answers to {item_id} are scored by this key already")
    value = {"former": done.former, "key": key, "change": done.change, "undoes": undone.get("decision_id")}
    values: dict[Any, str] = {KEY_OF + item_id: json.dumps(value, ensure_ascii=False)}
    record_decisions(connection, done.scale_id, values, by=by, reason=reason)
    last = "{decided_by}: {reason} (scale decision {decision_id})".format_map(decided[-1]) if decided else "none"
    name = f"key of {item_id}"
    return done, {f"the {name}": key_in_words(done.former), f"the last decision on the {name}": last}


def _thetas(connection: psycopg.Connection, scale: Scale, at: datetime) -> dict[str, float]:
    """θ by the set in force, of the learners with an answer that this transaction has corrected."""
    published, start = in_force(connection, scale.scale_id, at), ability_start(at, scale)
    users = first_column(connection, "SELECT DISTINCT user_id FROM attempt_correction WHERE corrected_at = now()")
    items = published.items
    responses, learners = scoring_responses(connection, start, at, list(items), users, published.withdrawn)
    return dict(zip(learners.tolist(), estimate(responses, items, scale).theta.tolist(), strict=True))
