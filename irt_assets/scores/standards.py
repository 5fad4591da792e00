"""Standard setting: a panel's ratings of a form's items give the pass mark of the scale, on record.

Angoff (1971): each judge rates how many points a minimally competent learner is expected to have on each item.
Bookmark (Lewis, Mitzel, Mercado & Schulz 2012): each judge marks the last item that such a learner has mastered.
Hambleton & Pitoniak (2006) compare the methods.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import psycopg
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from scipy.special import stdtrit

from irt_assets.common.partitions import Month, month_of
from irt_assets.common.wording import quantity
from irt_assets.decisions.release import require_text
from irt_assets.intake.readers import open_source
from irt_assets.item_analysis.forms import read_rows, require_sound_rows
from irt_assets.item_analysis.stored import analysed_months, read_forms
from irt_assets.ledger.publications import in_force
from irt_assets.responses.scale_decisions import STANDARD, ScaleDecision, read_decisions, record_decisions
from irt_assets.responses.scales import initialised_scale, read_scales, write_pass_mark
from irt_assets.scores.form_tables import compute_month
from irt_assets.scores.reported import SAME, score_mark
from irt_psychometrics.items import ItemParameters
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value

Method = Literal["angoff", "bookmark"]
RESPONSE_PROBABILITY = 0.67
"""Expected share of an item's points at the item's location (RP67)."""
REACH = np.linspace(-8, 8, 16_001)
"""Possible pass marks, in SDs of the population."""


class _Cells(BaseModel):
    """A row of a file of ratings or bookmarks."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    judge: str
    item_id: str
    rating: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A standard that a panel has set.

    Attributes:
        file, sha256: name of the file of ratings, and the hash of its content.
        cut_raw, cut_se: expected raw score of the form at the pass mark, and its standard error over judges.
        theta, se: the pass mark and its standard error over judges.
        raw_from: the lowest raw score of the form that passes by its next score table, or None.
        former: the pass mark before, or None.
        month, learners: the newest month with raw scores of the form, and the number of its learners.
        passing: how many of them pass with the mark, with a mark one SE lower, and with a mark one SE higher.
    """

    scale_id: str
    method: Method
    panel: str
    form: str
    file: str
    sha256: str
    judges: int
    cut_raw: float
    cut_se: float
    theta: float
    se: float
    raw_from: int | None
    former: float | None
    month: str | None
    learners: int
    passing: tuple[int, int, int]

    @property
    def sentences(self) -> list[str]:
        """The effect in words, for the person who decides."""
        low, high = self.theta + stdtrit(self.judges - 1, [0.025, 0.975]) * self.se
        mark = f"pass mark of scale {self.scale_id}: θ = {self.theta:.3f}, SE {self.se:.3f}, 95 % interval {low:.3f}"
        cut = f"expected raw score of form {self.form} at the mark: {self.cut_raw:.2f}, SE {self.cut_se:.2f}"
        at, below, above = self.passing
        mean = "mean over judges of the sums of ratings" if self.method == "angoff" else "at the mean of the locations"
        passing = "no raw score passes" if self.raw_from is None else f"raw scores from {self.raw_from} on pass"
        learners = f"of {quantity(self.learners, 'learner')} of {self.month} with this form, {at:,} pass; {below:,}"
        return [
            f"{mark} to {high:.3f}; former mark: {'–' if self.former is None else f'{self.former:.3f}'}",
            f"{cut} ({mean})",
            f"by the form's next score table, {passing}",
            f"{learners} with the mark one SE lower and {above:,} with the mark one SE higher"
            if self.month
            else f"no month has raw scores of form {self.form} yet",
            "released score tables and issued scores stay; the next tables have this mark",
        ]

    @property
    def in_short(self) -> str:
        """The origin of the pass mark, for pages."""
        judges = f"{quantity(self.judges, 'judge')}, SE {self.se:.3f}"
        return f"{self.method.capitalize()} by {self.panel}, {judges}, form {self.form}"


def plan_standard(
    connection: psycopg.Connection, scale_id: str, form_id: str, file: Path, method: Method, panel: str, now: datetime
) -> Standard:
    """The standard that `set_standard` would set. Changes nothing. Raises the same errors."""
    scale = initialised_scale(connection, scale_id, now)
    of_months = [
        (month, form.scores)
        for month in analysed_months(connection, scale_id)
        for form in read_forms(connection, scale_id, month)
        if form.form_id == form_id and form.scores
    ]
    month, scores = of_months[-1] if of_months else (None, ())
    of = month or month_of(now)
    made, without = compute_month(connection, replace(scale, pass_theta=None), of)
    form = {each.form_id: each for each in made}.get(form_id)
    if form is None:
        why = without.get(form_id, "the scale has no such form with fixed items")
        raise PermanentFailure(f"form {form_id} has no score table of {of}: {why}")
    published, items = in_force(connection, scale_id, Month(of).end).items, form.spec["items"]
    judged = _read_judgements(file, form_id, items, method)
    theta = scale.mu + REACH * scale.sigma
    share = ItemParameters.from_rows(list(items), [published.get(item) for item in items]).curve(theta)
    expected = share @ np.array(list(items.values()), float)
    if method == "angoff":
        values = judged.sum(axis=1).to_numpy()
        mark = np.interp(values.mean(), expected, theta, left=np.nan, right=np.nan)
    else:
        places = [np.interp(RESPONSE_PROBABILITY, p, theta, left=np.nan, right=np.nan) for p in share.T]
        values = judged["item_id"].map(dict(zip(items, places, strict=True))).to_numpy()
        mark = values.mean()
    if not np.isfinite(mark):
        raise PermanentFailure(f"nothing was decided: no θ within 8 SD of the mean has this cut on form {form_id}")
    score_mark(replace(scale, pass_theta=float(mark)))
    error, slope = values.std(ddof=1) / len(values) ** 0.5, np.interp(mark, theta, np.gradient(expected, theta))
    se, cut_se = (error / slope, error) if method == "angoff" else (error, error * slope)
    counts = np.array(scores if len(scores) == form.table.raw.size else np.zeros(form.table.raw.size), int)
    passes = [form.table.theta >= at - SAME for at in (mark, mark - se, mark + se)]
    return Standard(
        scale_id=scale_id,
        method=method,
        panel=require_text("panel", panel),
        form=form_id,
        file=file.name,
        sha256=open_source(file).sha256,
        judges=len(values),
        cut_raw=float(np.interp(mark, theta, expected)),
        cut_se=float(cut_se),
        theta=float(mark),
        se=float(se),
        raw_from=int(passes[0].argmax()) if passes[0].any() else None,
        former=scale.pass_theta,
        month=month,
        learners=int(counts.sum()),
        passing=(int(counts[passes[0]].sum()), int(counts[passes[1]].sum()), int(counts[passes[2]].sum())),
    )


def _read_judgements(file: Path, form_id: str, items: Mapping[str, int], method: Method) -> pd.DataFrame:
    """A row for each judge: the ratings of the items, or the `item_id` of the bookmark."""
    found = pd.DataFrame(read_rows(file, _Cells), columns=["line", *_Cells.model_fields]).astype({"rating": float})
    found["most"] = found["item_id"].map(items)
    rated = ["judge", "item_id"] if method == "angoff" else ["judge"]
    faults = {
        f"item {{item_id}} is not a scored item of form {form_id}": found["most"].isna(),
        "judge {judge} is in an earlier row" + " with item {item_id}" * (method == "angoff"): found.duplicated(rated),
        "judge {judge} has no rating of item {item_id}": found["rating"].isna() & (method == "angoff"),
        "the rating {rating:g} is above {most:g}, the maximum score of item {item_id}": found["rating"] > found["most"],
    }
    require_sound_rows(file, found, faults)
    if (n := found["judge"].nunique()) < 2:
        raise PermanentFailure(f"{file} has {quantity(n, 'judge')}: a standard error needs two or more")
    if method == "bookmark":
        return found
    ratings = found.pivot(index="judge", columns="item_id", values="rating").reindex(columns=list(items))
    for judge, item in zip(*np.nonzero(ratings.isna()), strict=True):
        raise PermanentFailure(
            f"{file}: judge {ratings.index[judge]} has not rated item {ratings.columns[item]} of form {form_id}"
        )
    return ratings


def set_standard(
    database: Database,
    scale_id: str,
    form_id: str,
    file: Path,
    method: Method,
    panel: str,
    *,
    by: str,
    reason: str,
    now: datetime,
) -> Standard:
    """Record that `by` sets the pass mark of a scale by a panel's ratings.

    Parameters
    ----------
    database
        The database.
    scale_id, form_id
        The form whose items the panel has rated.
    file
        The ratings, with the columns judge, item_id and rating: the probability of a minimally competent learner, or
        the expected points; every judge rates every scored item. Bookmarks: judge and item_id.
    method
        angoff: the cut is the mean over judges of the sums of their ratings, and the pass mark is where the form's test
        curve has it. bookmark: the pass mark is the mean over judges of the locations of the marked items.
    panel
        Name of the panel.
    by, reason
        Name of the person who decides, and the reason.
    now
        The current time. The published values are those at the end of the newest month with raw scores of the form, or
        of the current month.

    Returns
    -------
    Standard
        The standard that was set.

    Raises
    ------
    PermanentFailure
        If a row of the file is at fault, a judge has not rated an item, there are fewer than two judges, no θ has the
        cut, an item of the form is not published, the scale reports no scores, or everybody or nobody would pass.
    """
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        planned = plan_standard(connection, scale_id, form_id, file, method, panel, now)
        _record(connection, scale_id, asdict(planned), by, reason)
    return planned


def undo_standard(database: Database, scale_id: str, *, by: str, reason: str) -> Standard:
    """Record that `by` restores the pass mark before the standard in force. Returns that standard.

    Raises PermanentFailure if the pass mark is from no standard that stands.
    """
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        decision, undone = standard_to_undo(connection, scale_id)
        _record(connection, scale_id, {"theta": undone.former, "undoes": decision.decision_id}, by, reason)
    return undone


def standard_to_undo(connection: psycopg.Connection, scale_id: str) -> tuple[ScaleDecision, Standard]:
    """The standard that `undo_standard` would undo, and its decision. Raises the same errors."""
    mark = read_scales(connection)[scale_id].pass_theta
    if found := standard_in_force(read_decisions(connection, scale_id), mark):
        return found
    raise PermanentFailure(
        f"the pass mark of scale {scale_id} is from no standard that stands, so there is nothing to undo: "
        f"`irt scale pass-mark THETA --scale {scale_id}` changes it"
    )


def standard_in_force(
    decisions: Iterable[ScaleDecision], pass_theta: float | None
) -> tuple[ScaleDecision, Standard] | None:
    """The last standard that is not undone, with its decision. Returns None if the pass mark is not from it."""
    found = [(decision, json.loads(decision.value)) for decision in decisions if decision.subject == STANDARD]
    undone = {value.get("undoes") for _, value in found}
    for decision, value in reversed(found):
        if "method" in value and decision.decision_id not in undone:
            standard = TypeAdapter(Standard).validate_python(value)
            return (decision, standard) if standard.theta == pass_theta else None
    return None


def _record(connection: psycopg.Connection, scale_id: str, value: Mapping[str, Any], by: str, reason: str) -> None:
    by, reason, now = require_text("name", by), require_text("reason", reason), one_value(connection, "SELECT now()")
    write_pass_mark(connection, scale_id, value["theta"])
    decided = {STANDARD: json.dumps(value, ensure_ascii=False)}
    record_decisions(connection, scale_id, decided, now, by=by, reason=reason)
