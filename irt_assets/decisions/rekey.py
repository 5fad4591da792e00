"""Decide on the key of an item: its answers are scored by another key, dropped, or all get credit.

The decision is kept in `scale_decision` with the former key, and the former scores in `attempt_correction`, so it can
be undone. The item's published parameters do not change: they were estimated from the former scores, and the next
months propose new ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import psycopg

from irt_assets.abilities.batch import estimate
from irt_assets.decisions.release import require_text
from irt_assets.decisions.release_impact import ThetaShift
from irt_assets.intake.corrections import Rekeying, rekey_answers
from irt_assets.intake.staging import lock_out_imports_and_posts
from irt_assets.ledger.closings import reopen_months
from irt_assets.ledger.publications import in_force
from irt_assets.responses.facts import ability_start
from irt_assets.responses.item_keys import ALL, DROP, DROPPED, Key
from irt_assets.responses.scale_decisions import KEY_OF, record_decisions
from irt_assets.responses.scales import read_scales
from irt_assets.responses.scored_answers import scoring_responses
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, named_rows, one_value

SAME = 1e-9
"""Largest |Δθ| that counts as no change."""


@dataclass(frozen=True)
class RekeyPreview:
    """The effect of a decision on a key.

    Attributes:
        rekeying: the answers and months that it would change.
        shift: change of θ of the learners whose θ changes; None if the item has no parameters in force.
    """

    rekeying: Rekeying
    shift: ThetaShift | None

    @property
    def sentences(self) -> list[str]:
        if self.shift is None:
            learners = "θ of no learner changes: the item has no parameters in force"
        elif not self.shift.learners:
            learners = "θ of no learner changes"
        else:
            learners = (
                f"θ of {self.shift.learners:,} learners changes, by the published parameters, which were estimated "
                f"with the former key: {self.shift.shift_in_words}; {self.shift.passing_in_words}"
            )
        return [*self.rekeying.sentences, learners]


@dataclass(frozen=True)
class KeyDecision:
    """A decision on an item's key. `undoes`: number of the decision that it undoes."""

    decision_id: int
    former: Key | None
    key: Key | None
    undoes: int | None
    decided_by: str
    reason: str
    decided_at: datetime


def choose_key(options: Sequence[str], *, every_answer: bool, drop: bool) -> Key:
    """The key of right options, or of an item whose answers all get credit or that is dropped.

    Raises PermanentFailure unless exactly one of the three is given.
    """
    if bool(options) + every_answer + drop != 1:
        raise PermanentFailure(
            "say which options are right (--key C, with --also D for each further one), or --all if every answer gets "
            "credit, or --drop if the item is dropped from scoring"
        )
    distinct = sorted(set(options))
    return ALL if every_answer else DROP if drop else distinct[0] if len(distinct) == 1 else distinct


def key_decisions(connection: psycopg.Connection, item_id: str) -> list[KeyDecision]:
    """The decisions on an item's key, oldest first."""
    rows = named_rows(
        connection,
        """SELECT decision_id, value::jsonb->'former' AS former, value::jsonb->'key' AS key,
                  (value::jsonb->>'undoes')::bigint AS undoes, decided_by, reason, decided_at FROM scale_decision
           WHERE subject = %s ORDER BY decision_id""",
        (KEY_OF + item_id,),
    )
    return [KeyDecision(**row) for row in rows]


def option_counts(connection: psycopg.Connection, item_id: str) -> list[tuple[str, int]]:
    """The chosen options of an item and the number of answers that chose each, without sandbox answers."""
    return connection.execute(
        """SELECT response, count(*) FROM response_log
           WHERE item_id = %s AND response IS NOT NULL AND mode <> 'sandbox' GROUP BY 1 ORDER BY 1""",
        (item_id,),
    ).fetchall()


def preview(database: Database, item_id: str, key: Key | None, *, reopen: bool = False, now: datetime) -> RekeyPreview:
    """The effect of `rekey`, or of `undo` if `key` is None: both run in a transaction that is rolled back."""
    with database.connect() as connection, connection.transaction(force_rollback=True):
        before = _thetas(connection, item_id, now)
        done = _decide(connection, item_id, key, "preview", "preview", reopen)
        _judge_changed(connection)
        return RekeyPreview(done, _shift(before, _thetas(connection, item_id, now), _pass_theta(connection, done)))


def rekey(database: Database, item_id: str, key: Key | None, *, by: str, reason: str, reopen: bool = False) -> Rekeying:
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

    Returns
    -------
    Rekeying
        The changed answers and months.

    Raises
    ------
    PermanentFailure
        If the bank has no such item, its maximum score is above 1, nobody chose one of the options, or nothing would
        change. For an undo: if no decision stands, or another key was imported since.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        return _decide(connection, item_id, key, by, reason, reopen)


def _decide(
    connection: psycopg.Connection, item_id: str, key: Key | None, by: str, reason: str, reopen: bool
) -> Rekeying:
    undone = _standing(connection, item_id) if key is None else None
    done = rekey_answers(
        connection,
        item_id,
        undone.former if undone else key,
        by=by,
        reason=reason,
        undoes=undone.decided_at if undone else None,
        reopen=partial(reopen_months, by=by, reason=reason) if reopen else None,
    )
    if undone and done.former != undone.key:
        raise PermanentFailure(
            f"the key of {item_id} was changed by an import since {undone.decided_at:%Y-%m-%d}: "
            "decide with --key instead of --undo"
        )
    if done.former == done.key and not done.answers:
        raise PermanentFailure(f"nothing to change: all answers to {item_id} are scored by this key already")
    value = {
        "former": done.former,
        "key": done.key,
        "change": done.change,
        "undoes": undone.decision_id if undone else None,
    }
    decided: dict[Any, str] = {KEY_OF + item_id: json.dumps(value, ensure_ascii=False)}
    now = one_value(connection, "SELECT now()")
    record_decisions(connection, done.scale_id, decided, now, by=by, reason=reason)
    return done


def _standing(connection: psycopg.Connection, item_id: str) -> KeyDecision:
    """The last decision on the item's key that is not undone. Raises PermanentFailure if there is none."""
    decisions = key_decisions(connection, item_id)
    undone = {decision.undoes for decision in decisions}
    standing = [d for d in decisions if d.undoes is None and d.decision_id not in undone]
    if not standing:
        raise PermanentFailure(f"no decision on the key of {item_id} stands, so there is nothing to undo")
    return standing[-1]


def _judge_changed(connection: psycopg.Connection) -> None:
    """Change the verdicts of the answers that this transaction has corrected, as the next night will."""
    connection.execute(
        f"""UPDATE attempt_verdict v
            SET reason = CASE WHEN r.mode = '{DROPPED}' THEN 'sandbox' WHEN c.mode <> '{DROPPED}' THEN v.reason END,
                score = CASE WHEN r.mode = 'live' AND (v.reason IS NULL OR c.mode = '{DROPPED}') THEN r.correct::int END
            FROM attempt_correction c JOIN response_log r USING (attempt_id, completed_at)
            WHERE c.corrected_at = now() AND (v.attempt_id, v.completed_at) = (c.attempt_id, c.completed_at)"""
    )


def _thetas(connection: psycopg.Connection, item_id: str, at: datetime) -> dict[str, float] | None:
    """θ of the learners with an answer to the item, by the set in force. None if the item is not in the set."""
    scale_id = one_value(connection, "SELECT scale_id FROM question WHERE item_id = %s", (item_id,))
    if scale_id is None:
        return None
    scale = read_scales(connection)[scale_id]
    published, start = in_force(connection, scale_id, at), ability_start(at, scale)
    if item_id not in published.items:
        return None
    users = first_column(
        connection,
        "SELECT DISTINCT user_id FROM response_log WHERE item_id = %s AND completed_at >= %s",
        (item_id, start),
    )
    found = scoring_responses(connection, start, at, list(published.items), users, published.withdrawn)
    responses, learners = found
    return dict(zip(learners.tolist(), estimate(responses, published.items, scale).theta.tolist(), strict=True))


def _pass_theta(connection: psycopg.Connection, done: Rekeying) -> float | None:
    return read_scales(connection)[done.scale_id].pass_theta


def _shift(
    before: dict[str, float] | None, after: dict[str, float] | None, pass_theta: float | None
) -> ThetaShift | None:
    if before is None or after is None:
        return None
    pairs = np.array([(before[user], after[user]) for user in before.keys() & after.keys()]).reshape(-1, 2)
    old, new = pairs[np.abs(pairs[:, 1] - pairs[:, 0]) > SAME].T
    return ThetaShift.from_thetas(old, new, pass_theta) if old.size else ThetaShift(pass_theta=pass_theta)
