"""Compare the methods of equating a new form to an old form with a released score table, and choose one.

The numbers come from `irt_psychometrics.equating`. `chosen_equating` has the choice by which score tables are made.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from pydantic import TypeAdapter

from irt_assets.common.arrays import Floats, finite
from irt_assets.common.wording import quantity
from irt_assets.decisions.release import require_text
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.responses.scale_decisions import EQUATING_OF, record_decisions
from irt_assets.responses.scales import Scale, initialised_scale
from irt_assets.scores.chosen_equating import ChosenEquating, as_floats, chosen_equatings
from irt_assets.scores.form_tables import FormTable, form_items, published_items
from irt_assets.scores.issuing import MAX_AGE
from irt_assets.scores.releases import released_tables
from irt_assets.scores.sittings import SITTING, raw_scores, read_answers, unfinished_sittings
from irt_psychometrics import PsychometricsError
from irt_psychometrics.equating import Equating, ScoreCounts, equate, equate_by_items
from irt_psychometrics.scoring import ParameterErrors, ScoreTable
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value

MIN_LEARNERS = 30
MIN_ANCHORS = 3
MAX_DEGREE = 6
MAX_CROSS = 3
MATTERS = 0.5
"""Difference of two equivalents, in raw points, above which rounded raw scores differ."""
BY_SCORES = ("identity", "mean", "linear", "circle-arc", "equipercentile", "kernel")
BY_ANCHOR = (
    "mean, tucker",
    "linear, tucker",
    "linear, levine",
    "linear, levine-true-score",
    "linear, chained",
    "circle-arc, chained",
    "equipercentile, frequency-estimation",
    "equipercentile, chained",
    "kernel, frequency-estimation",
    "kernel, chained",
)
BY_ITEMS = ("true-score", "observed-score")
SMOOTHED = ("equipercentile", "kernel")
TRUE_SCORE = "irt-true-score"
IDENTITY = "identity"


@dataclass(frozen=True, eq=False)
class FormSample:
    """The learners of a form in the year before the comparison, each with the first sitting.

    Attributes:
        highest: the highest raw score.
        scores: raw score (`raw`) and score on the common items (`anchor`) by learner.
    """

    form_id: str
    highest: int
    scores: pd.DataFrame

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def counts(self) -> Floats:
        """The number of learners with each raw score 0 … K."""
        return np.bincount(self.scores["raw"], minlength=self.highest + 1).astype(float)


@dataclass(frozen=True)
class Smoothing:
    """A log-linear model of the scores of a form. The first one of a form has the smallest AIC, and is used."""

    form_id: str
    degrees: tuple[int, ...]
    parameters: int
    deviance: float
    aic: float


@dataclass(frozen=True, eq=False)
class ComparedMethod:
    """The result of a method.

    Attributes:
        name: its name, such as linear-tucker.
        equating: equivalents and standard errors.
        difference: shape (K + 1,), difference from the equivalents of the comparison's baseline.
        affected: number of the new form's learners whose score differs by more than half a point from the baseline.
        chosen: the equating that is recorded if the method is chosen.
        table: the score table that it makes.
        passing: number of the new form's learners who pass. None without a pass mark.
    """

    name: str
    equating: Equating
    difference: Floats
    affected: int
    chosen: ChosenEquating
    table: ScoreTable
    passing: int | None


@dataclass(frozen=True, eq=False, kw_only=True)
class EquatingComparison:
    """The methods of equating a new form to an old form.

    Attributes:
        old_table: the old form's released table.
        design: single group, common items or random groups.
        anchor: the common items, with their highest score.
        baseline: the method from which differences are taken.
        methods: the methods in the order of the page.
        without: methods without a result, and why.
        smoothing: the log-linear models of both forms, the new form's first.
        in_force: the equating of the new form that is chosen now, or None.
    """

    scale: Scale
    new: FormSample
    old: FormSample
    old_table: FormTable
    design: str
    anchor: Mapping[str, int]
    baseline: str
    methods: tuple[ComparedMethod, ...]
    without: Mapping[str, str]
    smoothing: tuple[Smoothing, ...]
    in_force: ChosenEquating | None

    @property
    def n_of_both(self) -> int:
        """The number of learners who took both forms."""
        return len(self.new.scores.index.intersection(self.old.scores.index))

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON; NaN becomes None."""
        methods = {
            found.name: {
                "equated": found.chosen.equated,
                "se": [finite(x) for x in found.chosen.equated_se],
                "difference": found.difference.tolist(),
                "affected": found.affected,
                "raw_cut": found.table.raw_cut,
                "passing": found.passing,
            }
            for found in self.methods
        }
        return {
            "new": self.new.form_id,
            "old": self.old.form_id,
            "table": self.old_table.table_id,
            "design": self.design,
            "learners": [self.new.n, self.old.n],
            "common_items": list(self.anchor),
            "baseline": self.baseline,
            "methods": methods,
            "without": self.without,
            "smoothing": [asdict(model) for model in self.smoothing],
            "in_force": self.in_force and asdict(self.in_force),
        }

    def method(self, name: str) -> ComparedMethod:
        """The result of a method. Raises PermanentFailure if it has no result, or no standard errors."""
        known = {found.name: found for found in self.methods}
        why = self.without.get(name, f"the methods are {', '.join(known)}")
        if name not in known:
            raise PermanentFailure(f"form {self.new.form_id} has no equating {name!r} to {self.old.form_id}: {why}")
        if not np.isfinite(known[name].equating.se).all():
            raise PermanentFailure(
                f"the errors of equating {self.new.form_id} by {name} are not known, because the published values come "
                "from fits without shared errors: choose a method by scores, or publish values of a later month"
            )
        return known[name]


def compare_methods(
    connection: psycopg.Connection, scale_id: str, new: str, old: str, *, now: datetime
) -> EquatingComparison:
    """Equate form `new` to form `old` by every method of the design.

    The design follows from the learners and items. It is a single group if most learners of the new form took both,
    common items if the forms share at least three scored items, and random groups otherwise.

    Raises PermanentFailure if a form does not exist, if `old` has no released table, or if there are too few learners.
    """
    scale, table = initialised_scale(connection, scale_id, now), released_tables(connection, scale_id).get(old)
    items = form_items(connection, scale_id).get(new)
    if items is None or new == old:
        why = "has no scored items on scale " + scale_id if items is None else "cannot be equated to itself"
        raise PermanentFailure(f"form {new} {why}: `irt scores equate NEW OLD`, and form ids are case-sensitive")
    if table is None:
        raise PermanentFailure(
            f"no score table of form {old} is released, so there is nothing to equate {new} to: `irt scores release "
            f"{old} --scale {scale_id}`"
        )
    of_old: Mapping[str, int] = table.spec["items"]
    anchor = {item: most for item, most in items.items() if of_old.get(item) == most}
    samples = [_sample(connection, scale, form, of, anchor, now) for form, of in ((new, items), (old, of_old))]
    counts, design = _count(samples[0], samples[1], anchor)
    smoothing, smoothed = _presmooth(samples, counts)
    runs: dict[str, Callable[[], Equating]] = {}
    for name in (IDENTITY, *BY_ANCHOR) if design == "common items" else BY_SCORES:
        method, _, adjustment = name.partition(", ")
        known: Any = {"method": method, "adjustment": adjustment or None}
        runs[name.replace(", ", "-")] = partial(_equate, smoothed if method in SMOOTHED else counts, **known)
    for name in BY_ITEMS:
        runs[f"irt-{name}"] = partial(_equate_by_items, connection, scale, items, of_old, name, now)
    found, without = {}, {}
    for name, run in runs.items():
        try:
            found[name] = run()
        except PsychometricsError as error:
            without[name] = str(error)
    baseline = TRUE_SCORE if TRUE_SCORE in found else IDENTITY
    n = samples[0].counts
    return EquatingComparison(
        scale=scale,
        new=samples[0],
        old=samples[1],
        old_table=table,
        design=design,
        anchor=anchor,
        baseline=baseline,
        methods=tuple(_compare(scale, name, one, found[baseline].equated, n, table) for name, one in found.items()),
        without=without,
        smoothing=smoothing,
        in_force=chosen_equatings(connection, scale_id).get(new),
    )


def choice_in_words(comparison: EquatingComparison, name: str) -> list[str]:
    """The effect of choosing a method, for the person who decides. Raises PermanentFailure as `method` does."""
    new, found, former = comparison.new, comparison.method(name), comparison.in_force
    passing = "no pass mark is set" if found.passing is None else f"{found.passing:,} of {new.n:,} learners pass"
    if found.table.raw_cut is not None:
        passing += f", from raw score {found.table.raw_cut} on"
    lines = [
        f"raw scores of form {new.form_id} are equated to {comparison.old.form_id} by {found.chosen.method}",
        passing,
        "its next score table is made by these numbers: materialise form_score_tables, then release the table",
    ]
    return lines if former is None else [*lines, f"the former choice was {former.method}, to {former.old}"]


def undo_in_words(new: str, former: ChosenEquating) -> str:
    """The effect of `undo_equating`, for the person who decides."""
    made_by = "its next score table is made by its own items"
    return f"form {new} is no longer equated to {former.old} ({former.method}): {made_by}"


def choose_equating(
    database: Database,
    scale_id: str,
    new: str,
    old: str,
    method: str,
    *,
    by: str,
    reason: str,
    now: datetime,
    seen: ChosenEquating | None = None,
) -> ChosenEquating:
    """Record that `by` chooses a method of equating. The next score tables of the new form are made by its numbers.

    Raises PermanentFailure as `compare_methods` does, for a method without a result, and if the numbers differ from
    `seen`.
    """
    with database.connect() as connection:
        chosen = compare_methods(connection, scale_id, new, old, now=now).method(method).chosen
        if seen is not None and seen != chosen:
            raise PermanentFailure(
                f"nothing was decided on form {new}: answers or published values have changed since. Look again"
            )
        _record(connection, scale_id, new, TypeAdapter(ChosenEquating).dump_json(chosen).decode(), by, reason)
    return chosen


def undo_equating(database: Database, scale_id: str, new: str, *, by: str, reason: str) -> ChosenEquating:
    """Record that `by` undoes the choice of a form's equating. The next tables are made by the form's own items.

    Returns the equating that was chosen. Raises PermanentFailure if no choice is in force.
    """
    with database.connect() as connection:
        former = equating_in_force(connection, scale_id, new)
        _record(connection, scale_id, new, "null", by, reason)
    return former


def equating_in_force(connection: psycopg.Connection, scale_id: str, new: str) -> ChosenEquating:
    """The equating that is chosen for a form. Raises PermanentFailure if no equating is chosen."""
    former = chosen_equatings(connection, scale_id).get(new)
    if former is None:
        raise PermanentFailure(f"no equating of form {new} is chosen, so there is nothing to undo")
    return former


def joint_covariance(errors: ParameterErrors, forms: Iterable[Iterable[str]]) -> Floats:
    """Covariance of a, b and further parameters of the items of all forms in turn, shape (S, S).

    An item of two forms has the same errors in both. Items from one fit share its error Γ of (stretch, shift), and
    items from different fits the error of the anchors: B_j Γ B_kᵀ with B_j = (−a_j, 0; b_j, 1).
    """
    at = errors.items.places([item for form in forms for item in form])
    items, origin = errors.items, errors.origin[at]
    own = items.cov_of_all[at]
    by = np.zeros((*own.shape[:2], 2))
    by[:, 0, 0], by[:, 1, 0], by[:, 1, 1] = -items.a[at], items.b[at], 1.0
    known = (origin[:, None] >= 0) & (origin >= 0)
    gamma = np.where(known[..., None, None], errors.shared, 0.0)
    for fit, common in enumerate(errors.common):
        gamma[np.ix_(origin == fit, origin == fit)] = common
    found = np.einsum("jxg,jkgh,kyh->jkxy", by, gamma, by)
    j, k = np.nonzero(at[:, None] == at)
    found[j, k] = own[j]
    size = own.shape[0] * own.shape[1]
    return found.transpose(0, 2, 1, 3).reshape(size, size)


def _sample(
    connection: psycopg.Connection,
    scale: Scale,
    form_id: str,
    items: Mapping[str, int],
    anchor: Mapping[str, int],
    now: datetime,
) -> FormSample:
    answers = read_answers(connection, scale.scale_id, form_id, now - MAX_AGE, now, fixed=True)
    since = now - timedelta(days=scale.rules.answers.late_days)
    scores = pd.DataFrame({"raw": raw_scores(answers, items), "anchor": raw_scores(answers, anchor)})
    scores["unfinished"] = unfinished_sittings(answers, items, since)
    scores["at"] = answers.groupby(SITTING)["completed_at"].min()
    first = scores.sort_values("at").groupby(level="user_id").head(1).droplevel("session_id")
    known = first[first["raw"].notna() & ~first["unfinished"]].fillna({"anchor": 0})
    return FormSample(form_id, sum(items.values()), known[["raw", "anchor"]].astype(int))


def _count(new: FormSample, old: FormSample, anchor: Mapping[str, int]) -> tuple[list[ScoreCounts], str]:
    """The counts of scores that the design needs, and the design. Raises PermanentFailure if learners are too few."""
    for form in (new, old):
        if form.n < MIN_LEARNERS:
            raise PermanentFailure(
                f"form {form.form_id} has {quantity(form.n, 'learner')} with a raw score in the last year, and "
                f"equating needs at least {MIN_LEARNERS}"
            )
    both = new.scores.index.intersection(old.scores.index)
    if 2 * len(both) > new.n and len(both) >= MIN_LEARNERS:
        return [_counts(new, new.scores.loc[both], old.scores.loc[both, "raw"], old.highest)], "single group"
    if len(anchor) < MIN_ANCHORS:
        return [_counts(form, form.scores) for form in (new, old)], "random groups"
    most = sum(anchor.values())
    return [_counts(form, form.scores, form.scores["anchor"], most) for form in (new, old)], "common items"


def _counts(
    form: FormSample, scores: pd.DataFrame, second: pd.Series | None = None, highest: int | None = None
) -> ScoreCounts:
    try:
        return ScoreCounts.from_scores(scores["raw"], second, max_score=form.highest, max_second=highest)
    except PsychometricsError as error:
        raise PermanentFailure(f"the scores of form {form.form_id} cannot be equated: {error}") from error


def _presmooth(
    samples: Iterable[FormSample], counts: Iterable[ScoreCounts]
) -> tuple[tuple[Smoothing, ...], list[ScoreCounts]]:
    """The log-linear models of each form by AIC, and the counts with the best ones, or as observed if no model fits.

    Both scores of a form get the degree that is best for each alone. Then the cross moments are chosen.
    """
    tried: list[Smoothing] = []
    best: list[ScoreCounts] = []
    for form, observed in zip(samples, counts, strict=False):
        n = observed.counts
        margins = [n] if n.ndim == 1 else [n.sum(axis=1), n.sum(axis=0)]
        each = [_models(ScoreCounts(one), [(k,) for k in range(1, MAX_DEGREE + 1)]) for one in margins]
        found = each[0]
        if n.ndim == 2 and all(each):
            degrees = [one[0][0][0] for one in each]
            found = _models(observed, [(*degrees, cross) for cross in range(1, min(MAX_CROSS, *degrees) + 1)])
        tried += [Smoothing(form.form_id, of, one.columns, one.deviance, one.aic) for of, one in found]
        best.append(found[0][1] if found else observed)
    return tuple(tried), best


def _models(counts: ScoreCounts, degrees: Iterable[tuple[int, ...]]) -> list[tuple[tuple[int, ...], ScoreCounts]]:
    """The models that have a maximum of the likelihood, with their degrees, by AIC."""
    found = []
    for of in degrees:
        with suppress(PsychometricsError):
            found.append((of, counts.presmoothed(*of)))
    return sorted(found, key=lambda model: model[1].aic)


def _equate(counts: list[ScoreCounts], **how: Any) -> Equating:
    return equate(*counts, **how)


def _equate_by_items(
    connection: psycopg.Connection,
    scale: Scale,
    new: Mapping[str, int],
    old: Mapping[str, int],
    method: Any,
    now: datetime,
) -> Equating:
    """Equate by the published values, for abilities of the scale's population. Both forms are on one scale."""
    published = set_with_errors(connection, scale.scale_id, now)
    for items in (new, old):
        published_items(published, items)
    assert published.errors is not None
    known = published.errors.items.rescaled(1 / scale.sigma, -scale.mu / scale.sigma)
    unit = np.ones((len(new) + len(old), 2 + known.n_further))
    unit[:, :2] = scale.sigma, 1 / scale.sigma
    cov = joint_covariance(published.errors, (new, old)) * np.outer(unit, unit)
    forms = known.select(list(new)), known.select(list(old))
    return equate_by_items(*forms, method=method, joint_cov=np.pad(cov, (0, 2)))


def _compare(
    scale: Scale, name: str, equating: Equating, baseline: Floats, n: Floats, table: FormTable
) -> ComparedMethod:
    difference = equating.equated - baseline
    chosen = _chosen(name, equating, table)
    made, mark = chosen.convert(scale, None)
    passing = None if mark is None else int(n[made.passes].sum())
    affected = int(n[np.abs(difference) > MATTERS].sum())
    return ComparedMethod(name, equating, difference, affected, chosen, made, passing)


def _chosen(name: str, equating: Equating, table: FormTable) -> ChosenEquating:
    """The equivalents with their place on the reported scale and their θ, between the lines of the old form's table."""
    at, old, rules, mark = equating.equated, table.table, table.spec["rules"], table.spec["mark"]
    slope, intercept = rules["score_slope"], rules["score_intercept"]

    def place(column: Floats, se: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
        steepness = np.interp(at, old.raw, np.gradient(column))
        error = np.hypot(np.interp(at, old.raw, se), steepness * equating.se)
        return as_floats(np.interp(at, old.raw, column)), as_floats(error)

    return ChosenEquating(
        table.form_id,
        table.table_id or 0,
        f"{name}, {equating.design}",
        as_floats(at),
        as_floats(equating.se),
        *place((old.unrounded - intercept) / slope, old.scaled_se / slope),
        *place(old.theta, old.se),
        None if mark is None else (mark - intercept) / slope,
    )


def _record(connection: psycopg.Connection, scale_id: str, new: str, value: str, by: str, reason: str) -> None:
    by, reason = require_text("name", by), require_text("reason", reason)
    advisory_lock(connection, "scores", scale_id)
    now = one_value(connection, "SELECT now()")
    record_decisions(connection, scale_id, {EQUATING_OF + new: value}, now, by=by, reason=reason)
