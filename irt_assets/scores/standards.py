"""The pass mark of a scale, on record: from a panel's ratings of a form's items (standard setting), or from elsewhere.

Angoff (1971): each judge rates how many points a minimally competent learner is expected to have on each item.
Bookmark (Lewis, Mitzel, Mercado & Schulz 2012): each judge marks the last item that such a learner has mastered.
Hambleton & Pitoniak (2006) compare the methods.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import psycopg
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import stdtrit

from irt_assets.abilities.batch import newest_thetas
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity
from irt_assets.intake.readers import open_source
from irt_assets.item_analysis.forms import read_rows, require_sound_rows
from irt_assets.item_analysis.stored import read_forms
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import initialised_scale, write_pass_mark
from irt_assets.scales.scale_decisions import STANDARD, ScaleDecision, read_decisions, record_decisions, require_text
from irt_assets.scores.form_tables import FormTable, published_items, read_tables
from irt_assets.scores.releases import find_table
from irt_assets.scores.reported import SAME, score_mark
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

Method = Literal["angoff", "bookmark"]
RESPONSE_PROBABILITY = 0.67
"""Expected share of an item's points at the item's location (RP67)."""
REACH = np.linspace(-8, 8, 16_001)
"""Possible pass marks, in SDs of the population."""
LATER = "released score tables and issued scores stay; the next tables have this mark"
"""Effect of a pass mark on scores."""


class _Cells(BaseModel):
    """A row of a file of ratings or bookmarks."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    judge: str
    item_id: str
    rating: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


@dataclass(frozen=True, kw_only=True)
class PassMark:
    """A pass mark that a person sets.

    Attributes:
        theta: the pass mark.
        former: the pass mark before, or None.
        effect: who passes by it, in words.
    """

    scale_id: str
    theta: float
    former: float | None
    effect: str

    @property
    def sentences(self) -> list[str]:
        """The pass mark in words, for the person who decides."""
        return [_change_in_words(self.scale_id, self.former, self.theta), self.effect, LATER]


@dataclass(frozen=True, kw_only=True)
class Standard(PassMark):
    """A standard of a panel.

    Attributes:
        file, sha256: name of the file of ratings, and the hash of its content.
        cut_raw, cut_se: expected raw score of the form at the pass mark, and its standard error over judges.
        se: standard error of the pass mark over judges.
    """

    method: Method
    panel: str
    form: str
    file: str
    sha256: str
    judges: int
    cut_raw: float
    cut_se: float
    se: float

    @property
    def sentences(self) -> list[str]:
        """The standard in words, for the person who decides."""
        low, high = self.theta + stdtrit(self.judges - 1, [0.025, 0.975]) * self.se
        mark = f"pass mark of scale {self.scale_id}: θ = {self.theta:.3f}, SE {self.se:.3f}, 95 % interval {low:.3f}"
        mean = "mean over judges of the sums of ratings" if self.method == "angoff" else "at the mean of the locations"
        return [
            f"{mark} to {high:.3f}; former mark: {'–' if self.former is None else f'{self.former:.3f}'}",
            f"expected raw score of form {self.form} at the mark: {self.cut_raw:.2f}, SE {self.cut_se:.2f} ({mean})",
            self.effect,
            LATER,
        ]


def plan_mark(connection: psycopg.Connection, scale_id: str, theta: float) -> PassMark:
    """Preview a pass mark that comes from no panel, for `set_mark`.

    Raises PermanentFailure if the scale has no origin, if `theta` is not finite, or if everybody or nobody would pass
    the scores that the scale reports.
    """
    scale = initialised_scale(connection, scale_id, None)
    if not np.isfinite(theta):
        raise PermanentFailure(f"the pass mark must be a finite θ of the scale, e.g. 0.5, got {theta}")
    if scale.rules.scores.score_slope:
        score_mark(replace(scale, pass_theta=theta))
    effect = _passes_in_words(connection, scale_id, scale.pass_theta, theta)
    return PassMark(scale_id=scale_id, theta=theta, former=scale.pass_theta, effect=effect)


def _passes_in_words(connection: psycopg.Connection, scale_id: str, before: float | None, after: float | None) -> str:
    """Return how many of the learners of the newest month pass by the mark before and after a decision."""
    thetas = np.array(newest_thetas(connection, scale_id))
    before_n, after_n = (
        "nobody, as there is no mark" if mark is None else f"{np.count_nonzero(thetas >= mark):,}"
        for mark in (before, after)
    )
    learners = quantity(thetas.size, "learner")
    if not thetas.size:
        return "no learner has been measured yet"
    return f"of the {learners} measured for the newest month, by θ, pass: {before_n} → {after_n}"


def _change_in_words(scale_id: str, before: float | None, after: float | None) -> str:
    old, new = ("–" if mark is None else f"{mark:.4g}" for mark in (before, after))
    return f"pass mark of scale {scale_id}: θ = {old} → {new}"


def plan_standard(
    connection: psycopg.Connection, scale_id: str, form_id: str, file: Path, method: Method, panel: str
) -> Standard:
    """Plan the standard by a panel's ratings of a form's items, for `set_mark`.

    It uses the items and published values of the form's newest score table whose month has raw scores of the form.

    Parameters
    ----------
    connection
        A connection.
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

    Returns
    -------
    Standard
        The standard. Nothing is changed.

    Raises
    ------
    PermanentFailure
        If a row of the file is at fault, a judge has not rated an item, there are fewer than two judges, no θ has the
        cut, the form has no score table, the scale reports no scores, or everybody or nobody would pass.
    """
    scale = initialised_scale(connection, scale_id, None)
    tables = [each for each in read_tables(connection, scale_id, form_id=form_id) if each.spec["n"]]
    table = tables[-1] if tables else find_table(connection, scale_id, form_id)
    items = table.spec["items"]
    judged = _read_judgements(file, form_id, items, method)
    theta = scale.mu + REACH * scale.sigma
    share = published_items(in_force(connection, scale_id, Month(table.month).end), items).curve(theta)
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
        former=scale.pass_theta,
        effect=_effect(connection, table, float(mark), float(se)),
    )


def _effect(connection: psycopg.Connection, table: FormTable, mark: float, se: float) -> str:
    """The lowest raw score that passes, and how many learners of the table's month pass, also with other marks."""
    forms = {form.form_id: form.scores for form in read_forms(connection, table.scale_id, table.month)}
    counts = np.array(forms.get(table.form_id) or [0] * table.table.raw.size)
    passes = [table.table.theta >= at - SAME for at in (mark, mark - se, mark + se)]
    at, below, above = (f"{counts[those].sum():,}" for those in passes)
    cut = f"raw scores from {passes[0].argmax()} on pass" if passes[0].any() else "no raw score passes"
    passing = (
        f"of its {quantity(int(counts.sum()), 'learner')}, {at} pass; {below} with the mark one SE lower and {above} "
        "with the mark one SE higher"
    )
    known = passing if counts.any() else "no learner has a raw score yet"
    return f"by θ of the form's score table of {table.month}, {cut}; {known}"


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


def set_mark(database: Database, mark: PassMark, *, undoes: ScaleDecision | None = None, by: str, reason: str) -> None:
    """Record that `by` sets a pass mark, or restores the former mark if `undoes` is the decision that set it.

    Raises PermanentFailure if the pass mark has changed since.
    """
    scale_id, old, new, value = mark.scale_id, mark.former, mark.theta, asdict(mark)
    if undoes:
        old, new, value = new, old, {"theta": old, "undoes": undoes.decision_id}
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        if initialised_scale(connection, scale_id, None).pass_theta != old:
            raise PermanentFailure(f"nothing was decided: the pass mark of scale {scale_id} has changed. Look again")
        write_pass_mark(connection, scale_id, new)
        decided = {STANDARD: json.dumps(value, ensure_ascii=False)}
        record_decisions(connection, scale_id, decided, by=by, reason=reason)


def mark_to_undo(connection: psycopg.Connection, scale_id: str) -> tuple[ScaleDecision, PassMark]:
    """Return the decision on the pass mark in force, and its mark.

    Raises PermanentFailure if the pass mark is from no decision that stands.
    """
    theta = initialised_scale(connection, scale_id, None).pass_theta
    if found := mark_in_force(read_decisions(connection, scale_id), theta):
        return found
    raise PermanentFailure(
        f"the pass mark of scale {scale_id} is from no decision that stands, so there is nothing to undo: "
        f"`irt scale pass-mark THETA --scale {quote(scale_id)}` changes it"
    )


def undo_sentences(connection: psycopg.Connection, mark: PassMark) -> list[str]:
    """Return the effect of restoring the mark before `mark`, in words."""
    effect = _passes_in_words(connection, mark.scale_id, mark.theta, mark.former)
    return [_change_in_words(mark.scale_id, mark.theta, mark.former), effect]


def mark_in_force(
    decisions: Iterable[ScaleDecision], pass_theta: float | None
) -> tuple[ScaleDecision, PassMark] | None:
    """Return the last pass mark that is not undone, with its decision, or None if the mark in force is not from it."""
    found = [(decision, json.loads(decision.value)) for decision in decisions if decision.subject == STANDARD]
    undone = {value.get("undoes") for _, value in found}
    for decision, value in reversed(found):
        if "undoes" not in value and decision.decision_id not in undone:
            mark = Standard(**value) if "method" in value else PassMark(**value)
            return (decision, mark) if mark.theta == pass_theta else None
    return None
