"""The pass mark of a scale, on record: from a panel's ratings of a form's items (standard setting), or from elsewhere.

Angoff (1971): each judge rates how many points a minimally competent learner is expected to have on each item.
Bookmark (Lewis, Mitzel, Mercado & Schulz 2012): each judge marks the last item that such a learner has mastered.
Hambleton & Pitoniak (2006) compare the methods.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import psycopg
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import stdtrit

from irt_assets.abilities.batch import newest_thetas
from irt_assets.common.arrays import Floats, Ints
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, some_of
from irt_assets.intake.readers import open_source
from irt_assets.item_analysis.forms import read_rows, require_sound_rows
from irt_assets.item_analysis.stored import analysed_months, read_forms
from irt_assets.ledger.publications import PublishedSet, in_force
from irt_assets.scales.scale import Scale, initialised_scale, write_pass_mark
from irt_assets.scales.scale_decisions import (
    STANDARD,
    STANDARD_IN,
    ScaleDecision,
    read_decisions,
    record_decisions,
    require_text,
)
from irt_assets.scores.form_tables import MAX_NAMED, FormTable, place_on_line, published_items, read_tables
from irt_assets.scores.releases import find_table
from irt_assets.scores.reported import SAME, UNITS, score_of_mark
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
    """A row of a file of ratings."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    judge: str
    item_id: str
    rating: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None


class _Marks(BaseModel):
    """A row of a file of bookmarks: the last item or step that is mastered, the page of it, or a θ."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)

    judge: str
    item_id: str | None = None
    step: Annotated[int | None, Field(ge=1)] = None
    page: Annotated[int | None, Field(ge=1)] = None
    location: Annotated[float | None, Field(allow_inf_nan=False)] = None


@dataclass(frozen=True, kw_only=True)
class PassMark:
    """A pass mark that a person sets.

    Attributes:
        mark: the pass mark.
        former: the pass mark before, or None.
        effect: who passes by it, in words.
        unit: unit of the mark, as in `ScoreRules.unit`.
    """

    scale_id: str
    mark: float
    former: float | None
    effect: str
    unit: str = "theta"

    @property
    def value(self) -> dict[str, Any]:
        """The value of the decision on it, in which the mark has the name of the unit."""
        value = asdict(self)
        return {self.unit: value.pop("mark")} | value

    def change_in_words(self, before: float | None, after: float | None) -> str:
        """Return the pass mark before and after a decision."""
        old, new = ("–" if mark is None else f"{mark:.4g}" for mark in (before, after))
        return f"pass mark of scale {self.scale_id}: {UNITS[self.unit]} {old} → {new}"

    @property
    def sentences(self) -> list[str]:
        """The pass mark in words, for the person who decides."""
        return [self.change_in_words(self.former, self.mark), self.effect, LATER]


@dataclass(frozen=True, kw_only=True)
class Standard(PassMark):
    """A standard of a panel.

    Attributes:
        file, sha256: name of the file of ratings, and the hash of its content.
        cut_raw, cut_se: expected raw score of the form at the pass mark, and its standard error over judges.
        se: standard error of the pass mark over judges.
        notes: sentences on the reading of the file.
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
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The standard in words, for the person who decides."""
        low, high = self.mark + stdtrit(self.judges - 1, [0.025, 0.975]) * self.se
        at = f"{UNITS[self.unit]} {self.mark:.3f}"
        mark = f"pass mark of scale {self.scale_id}: {at}, SE {self.se:.3f}, 95 % interval {low:.3f}"
        mean = "mean over judges of the sums of ratings" if self.method == "angoff" else "at the mean of the locations"
        return [
            f"{mark} to {high:.3f}; former mark: {'–' if self.former is None else f'{self.former:.3f}'}",
            f"expected raw score of form {self.form} at the mark: {self.cut_raw:.2f}, SE {self.cut_se:.2f} ({mean})",
            *self.notes,
            self.effect,
            LATER,
        ]


def plan_mark(connection: psycopg.Connection, scale_id: str, mark: float) -> PassMark:
    """Preview a pass mark that comes from no panel, for `set_mark`. The mark is in the unit of the scale's scores.

    Raises PermanentFailure if the scale has no origin, if `mark` is not finite, or if everybody or nobody would pass
    the scores that the scale reports.
    """
    scale = initialised_scale(connection, scale_id, None)
    if not np.isfinite(mark):
        raise PermanentFailure(f"the pass mark must be a finite number, e.g. 0.5, got {mark}")
    if scale.rules.scores.score_slope:
        score_of_mark(scale, mark)
    effect, unit = _passes_in_words(connection, scale, scale.pass_mark, mark), scale.rules.scores.unit
    return PassMark(scale_id=scale_id, mark=mark, former=scale.pass_mark, effect=effect, unit=unit)


def _passes_in_words(connection: psycopg.Connection, scale: Scale, before: float | None, after: float | None) -> str:
    """Return how many of the learners of the newest month pass by the mark before and after a decision."""
    values = _newest_scores(connection, scale)
    by = "θ" if scale.rules.scores.unit == "theta" else "raw scores on forms"
    was, now = (
        "nobody, as there is no mark" if mark is None else f"{np.count_nonzero(values >= mark - SAME):,}"
        for mark in (before, after)
    )
    if not values.size:
        return "no learner has been measured yet"
    return f"of the {quantity(values.size, 'learner')} measured for the newest month, by {by}, pass: {was} → {now}"


def _newest_scores(connection: psycopg.Connection, scale: Scale) -> Floats:
    """Return θ, or the scores on forms without θ, of the newest month's learners, in the unit of the scale's scores."""
    if (unit := scale.rules.scores.unit) == "theta":
        return np.array(newest_thetas(connection, scale.scale_id))
    months = analysed_months(connection, scale.scale_id)
    forms = (
        [form.scores for form in read_forms(connection, scale.scale_id, months[-1]) if form.form_id] if months else []
    )
    return np.concatenate([np.repeat(place_on_line(unit, len(n), n), n) for n in forms if any(n)] or [np.empty(0)])


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
        The ratings, with the columns judge, item_id and rating: the probability of a minimally competent learner, per
        cent, or the expected points. Bookmarks: judge and one of item_id (with `step`, if it has several), page and
        location.
    method
        angoff: the cut is the mean over judges of the sums of their ratings, and the pass mark is where the form's test
        curve has it, or the cut itself on a scale without θ. bookmark: the pass mark is the mean over judges of the
        locations of the bookmarks.
    panel
        Name of the panel.

    Returns
    -------
    Standard
        The standard. Nothing is changed.

    Raises
    ------
    PermanentFailure
        If a row of the file is at fault, no judge has rated an item, there are fewer than two judges, no θ has the
        cut, the form has no score table, the scale reports no scores, or everybody or nobody would pass.
    """
    scale = initialised_scale(connection, scale_id, None)
    tables = [each for each in read_tables(connection, scale_id, form_id=form_id) if each.spec["n"]]
    table = tables[-1] if tables else find_table(connection, scale_id, form_id)
    items, unit = table.spec["items"], scale.rules.scores.unit
    counts, notes = _counts_of(connection, table), tuple[str, ...]()
    if unit == "theta" or method == "bookmark":  # else the sums of ratings are raw scores, and no values are needed
        theta, published = scale.mu + REACH * scale.sigma, in_force(connection, scale_id, Month(table.month).end)
        expected = published_items(published, items).curve(theta) @ np.array(list(items.values()), float)
    if method == "angoff":
        ratings, notes = _read_ratings(file, form_id, items)
        values = ratings.sum(axis=1).to_numpy()
    else:
        values = _read_bookmarks(file, form_id, items, published, theta)
    cut, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    if method == "bookmark":  # from θ to raw scores
        slope = np.interp(cut, theta, np.gradient(expected, theta))
        at, at_se, cut, error = cut, error, np.interp(cut, theta, expected, left=np.nan, right=np.nan), error * slope
    elif unit == "theta":
        at = np.interp(cut, expected, theta, left=np.nan, right=np.nan)
        at_se = error / np.interp(at, theta, np.gradient(expected, theta))
    if unit != "theta":
        raw, place = np.arange(table.table.raw.size), place_on_line(unit, table.table.raw.size, counts.tolist())
        at, at_se = np.interp(cut, raw, place), error * np.interp(cut, raw, np.gradient(place))
    if not np.isfinite(at):
        raise PermanentFailure(f"nothing was decided: no θ within 8 SD of the mean has this cut on form {form_id}")
    score_of_mark(scale, float(at))
    return Standard(
        scale_id=scale_id,
        method=method,
        panel=require_text("panel", panel),
        form=form_id,
        file=file.name,
        sha256=open_source(file).sha256,
        judges=len(values),
        cut_raw=float(cut),
        cut_se=float(error),
        mark=float(at),
        unit=unit,
        se=float(at_se),
        former=scale.pass_mark,
        effect=_effect(table, unit, table.table.theta if unit == "theta" else place, counts, float(at), float(at_se)),
        notes=notes,
    )


def _counts_of(connection: psycopg.Connection, table: FormTable) -> Ints:
    """Return how many learners of the table's month have each raw score."""
    forms = {form.form_id: form.scores for form in read_forms(connection, table.scale_id, table.month)}
    n_scores = table.table.raw.size
    return np.array(found if len(found := forms.get(table.form_id, ())) == n_scores else [0] * n_scores)


def _effect(table: FormTable, unit: str, place: Floats, counts: Ints, mark: float, se: float) -> str:
    """The lowest raw score that passes, and how many learners of the table's month pass, also with other marks.

    `place`: each raw score in the unit of the mark.
    """
    passes = [place >= at - SAME for at in (mark, mark - se, mark + se)]
    at, below, above = (f"{counts[those].sum():,}" for those in passes)
    cut = f"raw scores from {passes[0].argmax()} on pass" if passes[0].any() else "no raw score passes"
    passing = (
        f"of its {quantity(int(counts.sum()), 'learner')}, {at} pass; {below} with the mark one SE lower and {above} "
        "with the mark one SE higher"
    )
    known = passing if counts.any() else "no learner has a raw score yet"
    return f"by {'θ' if unit == 'theta' else 'raw scores'} of the form's score table of {table.month}, {cut}; {known}"


def _read_ratings(file: Path, form_id: str, items: Mapping[str, int]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read the ratings by judge and item, in points, with notes on the reading.

    Ratings are read as per cent of the maximum score if all are within 0 … 100, none is above 0 and at most 1, and one
    is above the maximum score of every item. A missing rating is the mean of the other judges' ratings of the item.
    """
    found = pd.DataFrame(read_rows(file, _Cells), columns=["line", *_Cells.model_fields]).astype({"rating": float})
    found["most"], notes = found["item_id"].map(items), list[str]()
    rating, highest = found["rating"], found["rating"].max()
    if max(items.values()) < highest <= 100 and not rating.between(0, 1, "right").any():
        notes.append(f"ratings are read as per cent: {highest:g} is read as {highest / 100:.2f}")
        found["rating"] = rating / 100 * found["most"]
    faults = {
        f"item {{item_id}} is not a scored item of form {form_id}": found["most"].isna(),
        "judge {judge} is in an earlier row with item {item_id}": found.duplicated(["judge", "item_id"]),
        "the rating {rating:g} is above {most:g}, the maximum score of item {item_id}: write a probability such as "
        "0.60, or per cent for all items": found["rating"] > found["most"],
    }
    _require_judges(file, found, faults)
    ratings = found.pivot(index="judge", columns="item_id", values="rating").reindex(columns=list(items))
    if unrated := [item for item in items if ratings[item].isna().all()]:
        raise PermanentFailure(f"{file}: no judge has rated item {some_of(unrated, MAX_NAMED)} of form {form_id}")
    gaps = np.argwhere(ratings.isna().to_numpy())
    if missing := [f"{ratings.index[row]} on {ratings.columns[column]}" for row, column in gaps]:
        notes.append(f"missing ratings, taken as the item's mean of the other judges: {some_of(missing, MAX_NAMED)}")
    return ratings.fillna(ratings.mean()), tuple(notes)


def _read_bookmarks(
    file: Path, form_id: str, items: Mapping[str, int], published: PublishedSet, theta: Floats
) -> Floats:
    """Read the θ of each judge's bookmark.

    A step of an item is mastered where two thirds of the learners reach its score. Pages are the steps of all items
    by location, from page 1. An item without a step has the location at which the mean is two thirds of its points.
    """
    places, steps = dict[str, float](), dict[tuple[str, int], float]()
    for item, most in items.items():
        reached = published.items[item].score_probabilities(theta)[::-1].cumsum(axis=0)[::-1][1:]
        places[item] = _location(reached.sum(axis=0) / most, theta)
        steps |= {(item, step): _location(share, theta) for step, share in enumerate(reached, 1)}
    booklet = dict(enumerate(np.sort([*steps.values()]), 1))
    found = pd.DataFrame(read_rows(file, _Marks), columns=["line", *_Marks.model_fields])
    of_step = pd.Series([*zip(found["item_id"], found["step"], strict=True)], found.index, dtype=object).map(steps)
    has = found[["item_id", "step", "page", "location"]].notna()
    faults = {
        "write one of item_id, page and location": has.drop(columns="step").sum(axis=1) != 1,
        f"item {{item_id}} is not a scored item of form {form_id}": has["item_id"] & ~found["item_id"].isin(places),
        "item {item_id} has no step {step:g}": has["step"] & of_step.isna(),
        f"page {{page:g}} is not in the booklet, which has {len(booklet)} pages": has["page"]
        & ~found["page"].isin(booklet),
        "judge {judge} is in an earlier row": found.duplicated("judge"),
    }
    _require_judges(file, found, faults)
    by_item = of_step.where(has["step"], found["item_id"].map(places))
    return (
        found["location"].where(has["location"], found["page"].map(booklet).where(has["page"], by_item)).to_numpy(float)
    )


def _location(share: Floats, theta: Floats) -> float:
    """Return the θ with the response probability, or NaN outside of `theta`."""
    return float(np.interp(RESPONSE_PROBABILITY, share, theta, left=np.nan, right=np.nan))


def _require_judges(file: Path, found: pd.DataFrame, faults: Mapping[str, pd.Series]) -> None:
    """Raise PermanentFailure that names the first row at fault, or if there are fewer than two judges."""
    require_sound_rows(file, found, faults)
    if (n := found["judge"].nunique()) < 2:
        raise PermanentFailure(f"{file} has {quantity(n, 'judge')}: a standard error needs two or more")


def set_mark(database: Database, mark: PassMark, *, undoes: ScaleDecision | None = None, by: str, reason: str) -> None:
    """Record that `by` sets a pass mark, or restores the former mark if `undoes` is the decision that set it.

    Raises PermanentFailure if the pass mark, or the way to scores, has changed since.
    """
    scale_id, old, new, value = mark.scale_id, mark.former, mark.mark, mark.value
    if undoes:
        old, new, value = new, old, {mark.unit: old, "undoes": undoes.decision_id}
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        scale = initialised_scale(connection, scale_id, None)
        if (scale.rules.scores.unit, scale.pass_mark) != (mark.unit, old):
            raise PermanentFailure(f"nothing was decided: the pass mark of scale {scale_id} has changed. Look again")
        if mark.unit == "theta":
            write_pass_mark(connection, scale_id, new)
        decided = {_subject_of(mark.unit): json.dumps(value, ensure_ascii=False)}
        record_decisions(connection, scale_id, decided, by=by, reason=reason)


def mark_to_undo(connection: psycopg.Connection, scale_id: str) -> tuple[ScaleDecision, PassMark]:
    """Return the decision on the pass mark in force, and its mark.

    Raises PermanentFailure if the pass mark is from no decision that stands.
    """
    if found := mark_in_force(read_decisions(connection, scale_id), initialised_scale(connection, scale_id, None)):
        return found
    raise PermanentFailure(
        f"the pass mark of scale {scale_id} is from no decision that stands, so there is nothing to undo: "
        f"`irt scale pass-mark MARK --scale {quote(scale_id)}` changes it"
    )


def undo_sentences(connection: psycopg.Connection, mark: PassMark) -> list[str]:
    """Return the effect of restoring the mark before `mark`, in words."""
    scale = initialised_scale(connection, mark.scale_id, None)
    effect = _passes_in_words(connection, scale, mark.mark, mark.former)
    return [mark.change_in_words(mark.mark, mark.former), effect]


def mark_in_force(decisions: Iterable[ScaleDecision], scale: Scale) -> tuple[ScaleDecision, PassMark] | None:
    """Return the last pass mark that is not undone, with its decision, or None if the mark in force is not from it."""
    unit = scale.rules.scores.unit
    found = [(each, json.loads(each.value)) for each in decisions if each.subject == _subject_of(unit)]
    undone = {value.get("undoes") for _, value in found}
    for decision, value in reversed(found):
        if "undoes" not in value and decision.decision_id not in undone:
            at, notes = value.pop(unit), tuple(value.get("notes", ()))
            mark = Standard(**value | {"mark": at, "notes": notes}) if "method" in value else PassMark(mark=at, **value)
            return (decision, mark) if mark.mark == scale.pass_mark else None
    return None


def _subject_of(unit: str) -> str:
    """Return the subject of decisions on a pass mark in this unit."""
    return STANDARD if unit == "theta" else STANDARD_IN + unit
