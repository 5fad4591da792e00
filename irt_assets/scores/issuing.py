"""Hand out scores: issue the scores of sittings, issue them again, hold or invalidate them.

Every change adds a row with the person and the reason, in one transaction, and names those concerned before it is made.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from irt_assets.abilities.batch import estimate_with_errors, judge_until, newest_thetas
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, some_of
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.responses.scored_answers import responses_of
from irt_assets.scales.scale import Scale, initialised_scale
from irt_assets.scales.scale_decisions import require_text
from irt_assets.scores.form_tables import MAX_NAMED, FormTable, form_items
from irt_assets.scores.issued import IssuedScore, Status, current_scores
from irt_assets.scores.releases import released_tables
from irt_assets.scores.reported import SAME, report_thetas
from irt_assets.scores.sittings import SITTING, raw_scores, read_answers, unfinished_sittings
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

MAX_AGE = timedelta(days=366)
"""Age of the sittings whose scores are issued, if no month is named."""


@dataclass(frozen=True)
class Issue:
    """Scores that are issued, or would be.

    Attributes:
        new: scores of sittings that had no score.
        changed: scores that were handed out and differ by the present table or answers, before and after.
        without: sittings that have no score, and why.
    """

    form_id: str
    new: tuple[IssuedScore, ...] = ()
    changed: tuple[tuple[IssuedScore, IssuedScore], ...] = ()
    without: tuple[tuple[str, str], ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The scores in words, for the person who decides."""
        passed = sum(bool(score.passes) for score in self.new)
        newly = sum(bool(new.passes) and not old.passes for old, new in self.changed)
        lost = sum(bool(old.passes) and not new.passes for old, new in self.changed)
        lines = [
            f"form {self.form_id}: {quantity(len(self.new), 'new score')}"
            + (f", {passed:,} of them pass" if self.new else "")
        ]
        if self.changed:
            lines.append(
                f"scores that were handed out and differ by the present table and answers: {len(self.changed):,}; "
                f"{newly:,} newly pass and {lost:,} newly fail"
            )
        if self.without:
            named = some_of([f"{user}: {why}" for user, why in self.without], MAX_NAMED, between="; ")
            lines.append(f"{quantity(len(self.without), 'sitting')} without a score ({named})")
        return lines


def preview_issue(database: Database, scale_id: str, form_id: str, month: str | None = None, *, now: datetime) -> Issue:
    """The scores that `issue_scores` would issue. Judges answers that are not judged yet, and changes nothing else."""
    judge_until(database, now)
    return database.call(_plan, scale_id, form_id, month, now)


def issue_scores(
    database: Database,
    scale_id: str,
    form_id: str,
    month: str | None = None,
    *,
    again: bool = False,
    by: str,
    reason: str,
    now: datetime,
    seen: Issue | None = None,
) -> Issue:
    """Record that `by` hands out the scores of a form's sittings.

    Parameters
    ----------
    database
        The database.
    scale_id, form_id
        The form. A form with fixed items needs a released table; other forms are scored by θ.
    month
        The month of the sittings; None: the year before `now`.
    again
        Whether scores that were handed out and differ by the present table or answers are issued again. They stay as
        they are otherwise.
    by, reason
        Name of the person who decides, and the reason.
    now
        The current time.
    seen
        The preview that the person has seen.

    Returns
    -------
    Issue
        The issued scores; `changed` is empty unless `again`.

    Raises
    ------
    PermanentFailure
        If `again` is set without a month, the scale reports no scores, the form has neither a released table nor
        sittings with an answer, its items differ from the items of its table, or the scores differ from `seen`.
    """
    if again and month is None:
        raise PermanentFailure(
            "name the month whose scores are issued again: scores of other months may be right by the former table"
        )
    judge_until(database, now)
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        planned = _plan(connection, scale_id, form_id, month, now)
        if seen is not None and (planned.new, planned.changed) != (seen.new, seen.changed):
            raise PermanentFailure("nothing was issued: answers, scores or the table have changed since. Look again")
        if not again:
            planned = replace(planned, changed=())
        _append(connection, [*planned.new, *(new for _, new in planned.changed)], by, reason)
    return planned


def change_status(
    database: Database,
    scale_id: str,
    form_id: str,
    users: Collection[str],
    status: Status,
    *,
    by: str,
    reason: str,
    seen: Sequence[IssuedScore] | None = None,
) -> list[IssuedScore]:
    """Record that `by` holds, invalidates or issues again the scores of these learners on a form.

    Scores of other sittings that have this status already stay as they are. Returns the scores as they were before.

    Raises PermanentFailure as `scores_to_change` does, or if the scores differ from `seen`; nothing is changed then.
    """
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        found = scores_to_change(connection, scale_id, form_id, users, status)
        now, before = ({(s.user_id, s.issued_id) for s in scores} for scores in (found, seen or found))
        if now != before:
            named = some_of(sorted({user for user, _ in now ^ before}), MAX_NAMED)
            raise PermanentFailure(f"nothing was decided: scores of {named} have changed since. Look again")
        _append(connection, [replace(s, status=status, replaces=s.issued_id) for s in found], by, reason)
    return found


def scores_to_change(
    connection: psycopg.Connection, scale_id: str, form_id: str, users: Collection[str], status: Status
) -> list[IssuedScore]:
    """The scores of these learners on a form that have another status.

    Raises PermanentFailure, which names the learners, if a learner has no score on the form, or no score with another
    status.
    """
    asked = set(users)
    found = [s for s in current_scores(connection, scale_id=scale_id, form_id=form_id) if s.user_id in asked]
    other = [score for score in found if score.status != status]
    known, changing = ({score.user_id for score in scores} for scores in (found, other))
    wrong = [f"{user} has no score" for user in sorted(asked - known)]
    wrong += [f"the score of {user} is {status} already" for user in sorted(known - changing)]
    if wrong:
        raise PermanentFailure(f"nothing was decided on form {form_id}: {some_of(wrong, MAX_NAMED, between='; ')}")
    return other


def _plan(connection: psycopg.Connection, scale_id: str, form_id: str, month: str | None, now: datetime) -> Issue:
    start, end = Month(month).bounds if month else (now - MAX_AGE, now)
    scale, items = initialised_scale(connection, scale_id, now), form_items(connection, scale_id).get(form_id)
    table = released_tables(connection, scale_id).get(form_id)
    answers = read_answers(connection, scale_id, form_id, start, end, fixed=items is not None)
    if answers.empty:
        raise PermanentFailure(
            f"the log has no sitting of a form {form_id} on scale {scale_id} from {start:%Y-%m-%d} to {end:%Y-%m-%d}: "
            "form ids are case-sensitive, and answers have a form only if the mapping of the import names the form "
            "(constants: {form_id: NAME})"
        )
    if not answers["answered"].any():
        raise PermanentFailure(
            f"{quantity(answers.groupby(SITTING).ngroups, 'sitting')} of form {form_id} must have at least one answer "
            "with a score, got 0: every item counts as not reached. If the log has the chosen options, `irt items "
            "rekey` scores them by the item's key"
        )
    without: dict[str, str] = {}
    if items is None or scale.rules.scores.score_by == "theta":
        found = _by_theta(connection, scale, form_id, answers, now, without)
    elif table is None:
        raise PermanentFailure(
            f"no score table of form {form_id} is released: `irt scores release {quote(form_id)} --scale "
            f"{quote(scale_id)}`"
        )
    else:
        found = _by_table(table, answers, items, now - timedelta(days=scale.rules.answers.late_days), without)
    before = {row.sitting: row for row in current_scores(connection, scale_id=scale_id, form_id=form_id)}
    changed = tuple(
        (old, replace(new, replaces=old.issued_id))
        for new in found
        if (old := before.get(new.sitting))
        and old.status == "issued"
        and ((old.passes, old.raw) != (new.passes, new.raw) or abs(old.scaled - new.scaled) > SAME)
    )
    new = tuple(score for score in found if score.sitting not in before)
    return Issue(form_id, new, changed, tuple(without.items()))


def _by_table(
    table: FormTable,
    answers: pd.DataFrame,
    items: Mapping[str, int],
    unfinished_since: datetime,
    without: dict[str, str],
) -> list[IssuedScore]:
    """Scores by raw score and table. Adds to `without` the learners who have no raw score, with the reason.

    A sitting with answers since `unfinished_since` that lacks an item has no score yet; an older one has it without the
    item's points.
    """
    if dict(items) != table.spec["items"]:
        raise PermanentFailure(
            f"the released table of form {table.form_id} is for {quantity(len(table.spec['items']), 'item')}, and "
            f"{len(items)} or other items of the form are scored now: materialise form_score_tables of a month again, "
            f"then `irt scores release {quote(table.form_id)} --scale {quote(table.scale_id)}`"
        )
    raw, unfinished = raw_scores(answers, items), unfinished_sittings(answers, items, unfinished_since)
    without |= {user: "an answer has no score" for user, _ in raw.index[raw.isna()]}
    without |= {user: "it has not been finished yet" for user, _ in raw.index[unfinished]}
    raw = raw[~unfinished].dropna().astype(int)
    k, scored = raw.to_numpy(), table.table
    return _rows(
        table.scale_id,
        table.form_id,
        answers,
        raw.index,
        raw=k,
        theta=scored.theta[k],
        theta_se=scored.se[k],
        scaled=scored.scaled[k],
        scaled_se=scored.scaled_se[k],
        percentile=scored.percentile[k],
        passes=np.array(table.passes_or_none, object)[k],
        pass_probability=None if (sure := table.pass_probability) is None else sure[k],
        table_id=table.table_id,
        set_hash=table.set_hash,
    )


def _by_theta(
    connection: psycopg.Connection,
    scale: Scale,
    form_id: str,
    answers: pd.DataFrame,
    now: datetime,
    without: dict[str, str],
) -> list[IssuedScore]:
    """Scores by the θ of each sitting's answers that count, by the published set in force now."""
    published = set_with_errors(connection, scale.scale_id, now)
    counted = answers[answers["counts"].astype(bool) & answers["item_id"].isin(list(published.items))]
    of_sitting = counted.groupby(SITTING)
    sittings, measured = answers.groupby(SITTING).size().index, of_sitting.size().index
    without |= {user: "no answer to a published item counts" for user, _ in sittings.difference(measured)}
    if counted.empty:
        return []
    columns = counted[["item_id", "completed_at", "score", "max_score"]]
    table = pa.Table.from_pandas(columns.assign(user_id=of_sitting.ngroup().astype(str)), preserve_index=False)
    responses, numbers = responses_of(table, published.withdrawn)
    scores = estimate_with_errors(responses, published, replace(scale, movement=Movement()))
    se = scores.se if scores.se_total is None or np.isnan(scores.se_total).any() else scores.se_total
    norm = np.sort(newest_thetas(connection, scale.scale_id))
    below = (np.searchsorted(norm, scores.theta) + np.searchsorted(norm, scores.theta, "right")) / 2
    return _rows(
        scale.scale_id,
        form_id,
        answers,
        measured[numbers.astype(int)],
        theta=scores.theta,
        theta_se=se,
        percentile=100 * below / norm.size if norm.size else None,
        **report_thetas(scale, scores.theta, se)._asdict(),
        set_hash=published.set_hash,
    )


def _rows(scale_id: str, form_id: str, answers: pd.DataFrame, sittings: pd.Index, **columns: Any) -> list[IssuedScore]:
    """The rows of these sittings (user_id, session_id). `columns` are arrays in their order, or one value for all."""
    last = answers.groupby(SITTING)["completed_at"].max()
    found = pd.DataFrame({"raw": None, "table_id": None} | columns, index=range(len(sittings))).astype(object)
    rows: list[dict[str, Any]] = found.where(found.notna(), None).to_dict("records")  # type: ignore[assignment]
    return [
        IssuedScore(
            user_id=user,
            scale_id=scale_id,
            form_id=form_id,
            session_id=session,
            sat_at=last[user, session],
            status="issued",
            decided_by="",
            reason="",
            **row,
        )
        for (user, session), row in zip(sittings, rows, strict=True)
    ]


def _append(connection: psycopg.Connection, scores: Iterable[IssuedScore], by: str, reason: str) -> None:
    by, reason = require_text("name", by), require_text("reason", reason)
    columns = [column.name for column in fields(IssuedScore) if column.name not in ("issued_id", "issued_at")]
    with connection.cursor().copy(f"COPY issued_score ({', '.join(columns)}) FROM STDIN") as copy:
        for score in scores:
            signed = replace(score, decided_by=by, reason=reason)
            copy.write_row([getattr(signed, name) for name in columns])
