"""Compare the methods of equating a new form to an old form with a released score table, and choose one.

The numbers come from `irt_psychometrics.equating`. `chosen_equating` has the choice by which score tables are made.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psycopg
from pydantic import TypeAdapter

from irt_assets.common.arrays import Floats
from irt_assets.common.wording import quantity
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.scales.rules import ScoreRules
from irt_assets.scales.scale import Scale, initialised_scale
from irt_assets.scales.scale_decisions import EQUATING_OF, record_decisions
from irt_assets.scores.chosen_equating import ChosenEquating, chosen_equatings
from irt_assets.scores.form_tables import FormTable, form_items, published_items
from irt_assets.scores.issuing import MAX_AGE
from irt_assets.scores.releases import released_tables
from irt_assets.scores.sittings import SITTING, raw_scores, read_answers, unfinished_sittings
from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.equating import Equating, ScoreCounts, equate, equate_by_items
from irt_psychometrics.scoring import ParameterErrors
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

MIN_LEARNERS = 30
MIN_ANCHORS = 3
MAX_DEGREE = 6
MAX_CROSS = 3
MATTERS = 0.5
"""Difference of two equivalents, in raw points, above which rounded raw scores differ."""
BY_SCORES = ("identity", "mean", "linear", "circle-arc", "equipercentile", "kernel")
BY_ANCHOR = (
    "identity",
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
SMOOTHED = ("equipercentile", "kernel")
TRUE_SCORE = "irt-true-score"
BY_ITEMS = (TRUE_SCORE, "irt-observed-score")
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


@dataclass(frozen=True, eq=False)
class ComparedMethod:
    """The result of a method.

    Attributes:
        equating: equivalents and standard errors.
        difference: shape (K + 1,), difference from the equivalents of the comparison's baseline.
        chosen: the equating that is recorded if the method is chosen.
        raw_cut: the lowest raw score that passes by the score table that it makes. None if no raw score passes.
        passing: number of the new form's learners who pass. None without a pass mark.
    """

    equating: Equating
    difference: Floats
    chosen: ChosenEquating
    raw_cut: int | None
    passing: int | None


@dataclass(frozen=True)
class EquatingChoice:
    """A choice of an equating, made or previewed.

    Attributes:
        chosen: the equating. None: the form is no longer equated.
        sentences: the effect, for the person who decides.
    """

    chosen: ChosenEquating | None
    sentences: tuple[str, ...]


class FormValues(NamedTuple):
    """Published values of two forms, the joint covariance of errors, and mean and SD of the scale's population."""

    new: ItemParameters
    old: ItemParameters
    cov: Floats
    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class EquatedScores:
    """Equivalents by all methods.

    Attributes:
        by_method: the results by name, such as linear-tucker, in the order of the page.
        without: methods without a result, and why.
        smoothing: log-linear models of each sample, from the smallest AIC, which is used.
    """

    by_method: Mapping[str, Equating]
    without: dict[str, str]
    smoothing: Sequence[Sequence[ScoreCounts]]


@dataclass(frozen=True, eq=False, kw_only=True)
class EquatingComparison:
    """The methods of equating a new form to an old form.

    Attributes:
        old_table: the old form's released table.
        design: single group, common items or random groups.
        anchor: the common items, with their highest score.
        baseline: the method from which differences are taken.
        methods: the results by name, such as linear-tucker, in the order of the page.
        without: methods without a result, and why.
        smoothing: log-linear models of the scores by form, from the smallest AIC, which is used.
        in_force: the equating of the new form that is chosen now, or None.
    """

    new: FormSample
    old: FormSample
    old_table: FormTable
    design: str
    anchor: Mapping[str, int]
    baseline: str
    methods: Mapping[str, ComparedMethod]
    without: Mapping[str, str]
    smoothing: Mapping[str, Sequence[ScoreCounts]]
    in_force: ChosenEquating | None


def compare_methods(
    connection: psycopg.Connection,
    scale_id: str,
    new: str,
    old: str,
    *,
    now: datetime,
    cached: Callable[[tuple[str, ...], Callable[[], EquatedScores]], EquatedScores] = lambda _, compute: compute(),
) -> EquatingComparison:
    """Equate form `new` to form `old` by every method of the design.

    The design follows from the learners and items. It is a single group if most learners of the new form took both,
    common items if the forms share at least three scored items, and random groups otherwise. `cached` gets a key of all
    data from which equivalents are computed, and returns the result of an earlier call with the same key.

    Raises PermanentFailure if a form does not exist, if `old` has no released table, or if there are too few learners.
    """
    scale, old_table = initialised_scale(connection, scale_id, now), released_tables(connection, scale_id).get(old)
    items = form_items(connection, scale_id).get(new)
    if items is None or new == old:
        why = "has no scored items on scale " + scale_id if items is None else "cannot be equated to itself"
        raise PermanentFailure(f"form {new} {why}: `irt scores equate NEW OLD`, and form ids are case-sensitive")
    if old_table is None:
        raise PermanentFailure(
            f"no score table of form {old} is released, so there is nothing to equate {new} to: `irt scores release "
            f"{old} --scale {scale_id}`"
        )
    of_old: Mapping[str, int] = old_table.spec["items"]
    anchor = {item: most for item, most in items.items() if of_old.get(item) == most}
    samples = [_sample(connection, scale, form, of, anchor, now) for form, of in ((new, items), (old, of_old))]
    try:
        design, counts = _count(samples[0], samples[1], anchor)
    except PsychometricsError as error:
        raise PermanentFailure(f"the scores of forms {new} and {old} cannot be equated: {error}") from error
    try:
        forms, why = _published_forms(connection, scale, items, of_old, now), ""
    except PsychometricsError as error:
        forms, why = None, str(error)
    data = design, counts, forms
    equated = cached(("equating", hashlib.sha256(pickle.dumps(data)).hexdigest()), lambda: _equate_by_all(*data))
    baseline = TRUE_SCORE if TRUE_SCORE in equated.by_method else IDENTITY
    standard = equated.by_method[baseline].equated
    return EquatingComparison(
        new=samples[0],
        old=samples[1],
        old_table=old_table,
        design=design,
        anchor=anchor,
        baseline=baseline,
        methods={
            name: _compare(scale, name, one, standard, samples[0].counts, old_table)
            for name, one in equated.by_method.items()
        },
        without=equated.without | ({} if forms else dict.fromkeys(BY_ITEMS, why)),
        smoothing=dict(zip((new, old), equated.smoothing, strict=False)),
        in_force=chosen_equatings(connection, scale_id).get(new),
    )


def preview_choice(
    connection: psycopg.Connection, scale_id: str, new: str, old: str, method: str | None, *, now: datetime
) -> EquatingChoice:
    """The effect of `choose_equating`. Changes nothing. Raises the same errors."""
    if method is not None:
        return choice_of_method(compare_methods(connection, scale_id, new, old, now=now), method)
    former = chosen_equatings(connection, scale_id).get(new)
    if former is None:
        raise PermanentFailure(f"no equating of form {new} is chosen, so there is nothing to undo")
    end = f"is no longer equated to {former.old} ({former.method}): its next score table is made by its own items"
    return EquatingChoice(None, (f"form {new} {end}",))


def choice_of_method(comparison: EquatingComparison, method: str) -> EquatingChoice:
    """The choice of one of the compared methods.

    Raises PermanentFailure for a method without a result, and if the errors of its equivalents are not known.
    """
    new, old, former = comparison.new.form_id, comparison.old.form_id, comparison.in_force
    found = comparison.methods.get(method)
    if found is None:
        why = comparison.without.get(method, f"the methods are {', '.join(comparison.methods)}")
        raise PermanentFailure(f"form {new} has no equating {method!r} to {old}: {why}")
    if not np.isfinite(found.equating.se).all():
        raise PermanentFailure(
            f"the errors of equating {new} by {method} are not known, because the published values come from fits "
            "without shared errors: choose a method by scores, or publish values of a later month"
        )
    start = "" if found.raw_cut is None else f", from raw score {found.raw_cut} on"
    lines = (
        f"raw scores of form {new} are equated to {old} by {found.chosen.method}",
        "no pass mark is set"
        if found.passing is None
        else f"{found.passing:,} of {comparison.new.n:,} learners pass{start}",
        "its next score table is made by these numbers: materialise form_score_tables, then release the table",
        *([f"the former choice was {former.method}, to {former.old}"] if former else []),
    )
    return EquatingChoice(found.chosen, lines)


def choose_equating(
    database: Database,
    scale_id: str,
    new: str,
    old: str,
    method: str | None,
    *,
    by: str,
    reason: str,
    now: datetime,
    seen: EquatingChoice | None = None,
) -> EquatingChoice:
    """Record that `by` chooses a method of equating, by whose numbers the next score tables of the new form are made.

    `method` None undoes the choice in force. The next tables are then made by the form's own items.

    Raises PermanentFailure as `compare_methods` does, for a method without a result, if there is no choice to undo, and
    if the effect differs from `seen`.
    """
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        choice = preview_choice(connection, scale_id, new, old, method, now=now)
        if seen is not None and seen != choice:
            raise PermanentFailure(
                f"nothing was decided on form {new}: answers, published values or its equating have changed since. "
                "Look again"
            )
        value = TypeAdapter(ChosenEquating | None).dump_json(choice.chosen).decode()
        record_decisions(connection, scale_id, {EQUATING_OF + new: value}, by=by, reason=reason)
    return choice


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
    fits = np.where(origin[:, None] == origin, origin, len(errors.common))
    fits[(origin[:, None] < 0) | (origin < 0)] = -1
    gamma = np.array([*errors.common, errors.shared, np.zeros((2, 2))])[fits]
    found = np.einsum("jxg,jkgh,kyh->jkxy", by, gamma, by)
    found = np.where((at[:, None] == at)[..., None, None], own[:, None], found)
    return found.transpose(0, 2, 1, 3).reshape(2 * [own[..., 0].size])


def _sample(
    connection: psycopg.Connection,
    scale: Scale,
    form_id: str,
    items: Mapping[str, int],
    anchor: Mapping[str, int],
    now: datetime,
) -> FormSample:
    answers = read_answers(connection, scale.scale_id, form_id, now - MAX_AGE, now, fixed=True)
    scores = pd.DataFrame(
        {
            "raw": raw_scores(answers, items),
            "anchor": raw_scores(answers, anchor),
            "unfinished": unfinished_sittings(answers, items, now - timedelta(days=scale.rules.answers.late_days)),
            "at": answers.groupby(SITTING)["completed_at"].min(),
        }
    ).dropna(subset="unfinished")
    first = scores.sort_values("at").groupby(level="user_id").head(1).droplevel("session_id")
    known = first[first["raw"].notna() & ~first["unfinished"].astype(bool)].fillna({"anchor": 0})
    if len(known) < MIN_LEARNERS:
        raise PermanentFailure(
            f"form {form_id} has {quantity(len(known), 'learner')} with a raw score in the last year, and equating "
            f"needs at least {MIN_LEARNERS}"
        )
    return FormSample(form_id, sum(items.values()), known[["raw", "anchor"]].astype(int))


def _count(new: FormSample, old: FormSample, anchor: Mapping[str, int]) -> tuple[str, list[ScoreCounts]]:
    """The design, and the counts of scores that it needs."""
    both = new.scores.join(old.scores["raw"].rename("old"), how="inner")
    if len(both) >= max(MIN_LEARNERS, new.n // 2 + 1):
        return "single group", [
            ScoreCounts.from_scores(both["raw"], both["old"], max_score=new.highest, max_second=old.highest)
        ]
    common = len(anchor) >= MIN_ANCHORS
    counts = [
        ScoreCounts.from_scores(
            form.scores["raw"],
            form.scores["anchor"] if common else None,
            max_score=form.highest,
            max_second=sum(anchor.values()),
        )
        for form in (new, old)
    ]
    return "common items" if common else "random groups", counts


def _equate_by_all(design: str, counts: Sequence[ScoreCounts], forms: FormValues | None) -> EquatedScores:
    """Equate by every method of the design, which takes seconds for forms of 200 points."""
    common = design == "common items"
    smoothing = [_presmooth(observed, common_items=common) for observed in counts]
    smoothed = [(models or [observed])[0] for models, observed in zip(smoothing, counts, strict=True)]
    by_method, without = {}, {}
    for name in (*(BY_ANCHOR if common else BY_SCORES), *(BY_ITEMS if forms else ())):
        key = name.replace(", ", "-")
        how: Any = dict(zip(("method", "adjustment"), name.split(", "), strict=False))
        try:
            by_method[key] = (
                equate_by_items(
                    forms.new,
                    forms.old,
                    method=name.removeprefix("irt-"),
                    joint_cov=np.pad(forms.cov, (0, 2)),
                    mean=forms.mean,
                    sd=forms.sd,
                )
                if forms and name in BY_ITEMS
                else equate(*(smoothed if how["method"] in SMOOTHED else counts), **how)
            )
        except PsychometricsError as error:
            without[key] = str(error)
    return EquatedScores(by_method, without, smoothing)


def _presmooth(observed: ScoreCounts, *, common_items: bool) -> list[ScoreCounts]:
    """Fit the log-linear models that have a maximum of the likelihood, and sort them by AIC.

    Both of two scores get the degree that is best for each alone. Then the cross moments are chosen. With common items,
    scores that no learner can have stay empty: those below the anchor's, or with more points on the other items than
    these have.
    """
    n, found, possible = observed.counts, [], None
    tried: list[tuple[int, ...]] = [(degree,) for degree in range(1, MAX_DEGREE + 1)]
    if n.ndim == 2:
        alone = [_presmooth(ScoreCounts(n.sum(axis=axis)), common_items=False) for axis in (1, 0)]
        degrees = [models[0].columns if models else 1 for models in alone]
        tried = [(*degrees, cross) for cross in range(1, min(MAX_CROSS, *degrees) + 1)]
        if common_items:
            on_others = np.subtract.outer(*map(np.arange, n.shape))
            possible = (on_others >= 0) & (on_others <= n.shape[0] - n.shape[1])
    for degrees_of_all in tried:
        with suppress(PsychometricsError):
            found.append(observed.presmoothed(*degrees_of_all, possible=possible))
    return sorted(found, key=lambda model: model.aic)


def _published_forms(
    connection: psycopg.Connection, scale: Scale, new: Mapping[str, int], old: Mapping[str, int], now: datetime
) -> FormValues:
    """Read the published values of both forms.

    Raises PsychometricsError if an item has no values.
    """
    published = set_with_errors(connection, scale.scale_id, now)
    for items in (new, old):
        published_items(published, items)
    assert published.errors is not None
    known, cov = published.errors.items, joint_covariance(published.errors, (new, old))
    return FormValues(known.select(list(new)), known.select(list(old)), cov, scale.mu, scale.sigma)


def _compare(
    scale: Scale, name: str, equating: Equating, baseline: Floats, n: Floats, table: FormTable
) -> ComparedMethod:
    """The equivalents with their place on the reported scale and their θ, between the lines of the old form's table."""
    at, old, rules, mark = equating.equated, table.table, table.spec["rules"], table.spec["mark"]
    slope, intercept, unit = rules["score_slope"], rules["score_intercept"], ScoreRules(**rules).unit

    def place(column: Floats, se: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
        value, own, steepness = (np.interp(at, old.raw, x) for x in (column, se, np.gradient(column)))
        return tuple(value.tolist()), tuple(np.hypot(own, steepness * equating.se).tolist())

    chosen = ChosenEquating(
        table.form_id,
        table.table_id or 0,
        f"{name}, {equating.design}",
        tuple(at.tolist()),
        tuple(equating.se.tolist()),
        *place((old.unrounded - intercept) / slope, old.scaled_se / slope),
        *(((), ()) if unit != "theta" else place(old.theta, old.se)),
        None if mark is None else (mark - intercept) / slope,
        unit,
    )
    made, mark_of_new = chosen.convert(scale, None)
    passing = None if mark_of_new is None else int(n[made.passes].sum())
    return ComparedMethod(equating, at - baseline, chosen, made.raw_cut, passing)
