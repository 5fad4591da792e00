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
from scipy.optimize import brentq
from scipy.special import stdtrit

from irt_assets.common.arrays import Floats, Ints
from irt_assets.common.partitions import Month, month_of
from irt_assets.common.wording import quantity, some_of
from irt_assets.decisions.release import require_text
from irt_assets.intake.readers import open_source
from irt_assets.item_analysis.forms import read_rows, require_sound_rows
from irt_assets.item_analysis.stored import analysed_months, read_forms
from irt_assets.ledger.publications import in_force
from irt_assets.responses.scale_decisions import STANDARD, ScaleDecision, read_decisions, record_decisions
from irt_assets.responses.scales import initialised_scale, read_scales
from irt_assets.scores.form_tables import compute_month, form_items
from irt_assets.scores.reported import SAME, score_mark
from irt_psychometrics.items import ItemParameters
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value

Method = Literal["angoff", "bookmark"]
RESPONSE_PROBABILITY = 0.67
"""Expected share of an item's points at the item's location (RP67)."""
MAX_SDS = 8.0
"""Largest distance of a pass mark from the population's mean, in its SDs."""
MAX_NAMED = 5


class _Mark(BaseModel):
    """A row of a file of bookmarks."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    judge: str
    item_id: str


class _Rating(_Mark):
    rating: Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
        passing: how many of them have a raw score whose θ reaches the pass mark, one SE below it, and one SE above it.
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
        cut = "mean over judges of the sum of ratings" if self.method == "angoff" else "expected at the pass mark"
        former = "there was none before" if self.former is None else f"it was {self.former:.3f}"
        half = stdtrit(self.judges - 1, 0.975) * self.se
        mark = f"pass mark of scale {self.scale_id}: θ = {self.theta:.3f}, SE {self.se:.3f}, 95 % interval "
        lines = [
            f"{mark}{self.theta - half:.3f} to {self.theta + half:.3f}; {former}",
            f"raw score of form {self.form}: {self.cut_raw:.2f}, SE {self.cut_se:.2f} ({cut})",
        ]
        if self.method == "bookmark":
            lines.append("the pass mark is the mean over judges of the θ with 67 % of the points on the marked item")
        at, below, above = self.passing
        passing = "no raw score passes" if self.raw_from is None else f"raw scores from {self.raw_from} on pass"
        learners = f"of {quantity(self.learners, 'learner')} of {self.month} with this form, {at:,} pass; {below:,}"
        return [
            *lines,
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
    scale, forms = initialised_scale(connection, scale_id, now), form_items(connection, scale_id)
    if (items := forms.get(form_id)) is None:
        known = some_of(sorted(forms), MAX_NAMED) or "none"
        raise PermanentFailure(f"scale {scale_id} has no form {form_id} with fixed items; its forms: {known}")
    month, counts = _newest_counts(connection, scale_id, form_id, sum(items.values()) + 1)
    of = month or month_of(now)
    made, without = compute_month(connection, replace(scale, pass_theta=None), of)
    published = in_force(connection, scale_id, Month(of).end).items
    if missing := [item for item in items if item not in published]:
        raise PermanentFailure(f"form {form_id} has no test curve: no values of {some_of(missing, MAX_NAMED)} in {of}")
    if form_id in without:
        raise PermanentFailure(f"form {form_id} has no score table of {of}: {without[form_id]}")
    [table] = [each.table for each in made if each.form_id == form_id]
    known_items = ItemParameters.from_rows(list(items), [published[item] for item in items])
    maxima, step = np.array(list(items.values()), dtype=float), 1e-4 * scale.sigma
    judged = _read_judgements(file, form_id, items, method)

    def curve(theta: float) -> Floats:
        return known_items.curve(np.array([theta]))[0]

    def theta_at(weights: Floats, value: float, subject: str) -> float:
        reach = MAX_SDS * scale.sigma
        try:
            return float(brentq(lambda at: curve(at) @ weights - value, scale.mu - reach, scale.mu + reach))
        except ValueError:
            raise PermanentFailure(
                f"nothing was decided: no θ within {MAX_SDS:g} SD of the population has {subject}"
            ) from None

    def slope(theta: float) -> float:
        return float((curve(theta + step) - curve(theta - step)) @ maxima) / (2 * step)

    if method == "angoff":
        cut, cut_se = _mean_and_error(judged.sum(axis=1))
        theta = theta_at(maxima, cut, f"the expected raw score {cut:.2f} on form {form_id}")
        se = cut_se / slope(theta)
    else:
        theta, se = _mean_and_error(
            judged["item_id"].map(
                lambda item: theta_at(
                    np.eye(maxima.size)[list(items).index(item)],
                    RESPONSE_PROBABILITY,
                    f"{RESPONSE_PROBABILITY:.0%} of the points on item {item}",
                )
            )
        )
        cut, cut_se = float(curve(theta) @ maxima), se * slope(theta)
    score_mark(replace(scale, pass_theta=theta))
    passes = table.theta >= theta - SAME
    at, below, above = (int(counts[table.theta >= mark - SAME].sum()) for mark in (theta, theta - se, theta + se))
    return Standard(
        scale_id=scale_id,
        method=method,
        panel=require_text("panel", panel),
        form=form_id,
        file=file.name,
        sha256=open_source(file).sha256,
        judges=len(judged),
        cut_raw=cut,
        cut_se=cut_se,
        theta=theta,
        se=se,
        raw_from=int(passes.argmax()) if passes.any() else None,
        former=scale.pass_theta,
        month=month,
        learners=int(counts.sum()),
        passing=(at, below, above),
    )


def _mean_and_error(values: pd.Series) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5


def _newest_counts(
    connection: psycopg.Connection, scale_id: str, form_id: str, n_scores: int
) -> tuple[str | None, Ints]:
    """The newest month with this number of raw scores of the form, and the number of learners with each."""
    for month in reversed(analysed_months(connection, scale_id)):
        for form in read_forms(connection, scale_id, month):
            if form.form_id == form_id and len(form.scores) == n_scores:
                return month, np.array(form.scores)
    return None, np.zeros(n_scores, dtype=int)


def _read_judgements(file: Path, form_id: str, items: Mapping[str, int], method: Method) -> pd.DataFrame:
    """A row for each judge: the ratings of the items, or the `item_id` of the bookmark."""
    cells, again = (_Rating, ["judge", "item_id"]) if method == "angoff" else (_Mark, ["judge"])
    found = pd.DataFrame(read_rows(file, cells), columns=["line", *cells.model_fields])
    found["most"] = found["item_id"].map(items)
    faults = {
        f"item {{item_id}} is not a scored item of form {form_id}": found["most"].isna(),
        "judge {judge} is in an earlier row" + (" with item {item_id}" if method == "angoff" else ""): found.duplicated(
            again
        ),
    }
    if method == "angoff":
        faults["the rating {rating:g} is above {most:g}, the maximum score of item {item_id}"] = (
            found["rating"] > found["most"]
        )
    require_sound_rows(file, found, faults)
    if (n := found["judge"].nunique()) < 2:
        raise PermanentFailure(f"{file} has {quantity(n, 'judge')}: a standard error needs two or more")
    if method == "bookmark":
        return found.set_index("judge")
    ratings = found.pivot(index="judge", columns="item_id", values="rating").reindex(columns=list(items))
    rows, columns = np.nonzero(ratings.isna())
    if rows.size:
        judge, item = ratings.index[rows[0]], ratings.columns[columns[0]]
        raise PermanentFailure(f"{file}: judge {judge} has not rated item {item} of form {form_id}")
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
        cut, an item of the form is not published, or the scale reports no scores or none that the pass mark divides.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        planned = plan_standard(connection, scale_id, form_id, file, method, panel, now)
        _record(connection, scale_id, planned.theta, asdict(planned) | {"undoes": None}, by, reason)
    return planned


def undo_standard(database: Database, scale_id: str, *, by: str, reason: str) -> Standard:
    """Record that `by` restores the pass mark before the last standard that stands. Returns that standard.

    Raises PermanentFailure if no standard stands, or if the pass mark has been changed since.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        decision, undone = last_standard(connection, scale_id)
        value = {"theta": undone.former, "former": undone.theta, "undoes": decision.decision_id}
        _record(connection, scale_id, undone.former, value, by, reason)
    return undone


def last_standard(connection: psycopg.Connection, scale_id: str) -> tuple[ScaleDecision, Standard]:
    """The standard that `undo_standard` would undo, and its decision. Raises the same errors."""
    mark = read_scales(connection)[scale_id].pass_theta
    if (found := standard_in_force(read_decisions(connection, scale_id), mark)) is None:
        raise PermanentFailure(
            f"the pass mark of scale {scale_id}, {mark if mark is None else round(mark, 3)}, is from no standard that "
            f"stands, so there is nothing to undo: `irt scale pass-mark THETA --scale {scale_id}` changes it"
        )
    return found


def standard_in_force(
    decisions: Iterable[ScaleDecision], pass_theta: float | None
) -> tuple[ScaleDecision, Standard] | None:
    """The last standard that is not undone, with its decision. Returns None if the pass mark is not from it."""
    found = [(decision, json.loads(decision.value)) for decision in decisions if decision.subject == STANDARD]
    undone = {value["undoes"] for _, value in found}
    standing = [one for one in found if one[1]["undoes"] is None and one[0].decision_id not in undone]
    if not standing or standing[-1][1]["theta"] != pass_theta:
        return None
    decision = standing[-1][0]
    return decision, TypeAdapter(Standard).validate_json(decision.value)


def decided_in_words(value: str) -> str:
    """The value of a decision on the subject `STANDARD`, for pages."""
    decided = json.loads(value)
    mark = "no pass mark" if decided["theta"] is None else f"θ = {decided['theta']:.3f}"
    origin = "the former mark" if decided["undoes"] else TypeAdapter(Standard).validate_python(decided).in_short
    return f"{mark}: {origin}"


def _record(
    connection: psycopg.Connection, scale_id: str, theta: float | None, value: Mapping[str, Any], by: str, reason: str
) -> None:
    connection.execute("UPDATE calibration_scale SET pass_theta = %s WHERE scale_id = %s", (theta, scale_id))
    decided = {STANDARD: json.dumps(value, ensure_ascii=False)}
    record_decisions(connection, scale_id, decided, one_value(connection, "SELECT now()"), by=by, reason=reason)
