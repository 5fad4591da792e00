"""Compare a month's misfit with the misfit of its reference, and build the result that is stored with the fit.

`ledger.month_state` finds the reference, `irt_psychometrics.itemfit` computes the measures, and `model_gates` holds the
month.
"""

from typing import Any

from threadpoolctl import threadpool_limits

from irt_assets.common.wording import join_names, quantity
from irt_assets.gates.model_gates import MAX_RATIO, dependence_clause, eigenvalue_ratio, items_together
from irt_assets.ledger.encoding import decode
from irt_assets.ledger.fit_spec import ComparedMisfit, Growth, Measures, SetStatistics, TopContributors
from irt_assets.ledger.month_state import Reference
from irt_assets.responses.snapshot import FIT_COLUMNS, Snapshot, read_for_run
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import Scale
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError, Responses
from irt_psychometrics.itemfit import Measure, Window
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore

MAX_NAMED = 10
BY_LEVEL = "items of the scale are assigned by level, so learners of different levels are not compared"
FITTED_BY_LEVEL = "it was fitted by level or by weeks of learners, but the scale's months no longer are"
BY_WEEK = "the month was fitted by weeks of learners, which are not compared with learners"


def reference_window(store: ObjectStore, most: int | None, reference: Reference, scale_id: str) -> Window:
    """Read the reference's answers and fit. Raises PermanentFailure if the answers are missing or have changed."""
    table = read_for_run(
        store,
        Snapshot(reference.month or "the origin", reference.snapshot_hash, reference.uri, "", 0, {}, {}),
        most,
        FIT_COLUMNS,
        (scale_id,),
        lambda problem: (
            f"{problem}. Restore the object store from a backup, or accept a month as the reference "
            f"of later ones (`irt scale accept misfit --scale {scale_id} --from MONTH`)"
        ),
    )
    responses, _ = scored_responses_of(table, scale_id)
    calibration = decode(reference.calibration)
    if set(responses.item_ids) < set(calibration.item_ids):  # sampled learners, who did not answer all items
        responses = responses.among(calibration.item_ids, calibration.categories)
    return window_of(responses, calibration, reference.statistics)


def compare_misfit(
    store: ObjectStore,
    most: int | None,
    scale: Scale,
    responses: Responses,
    calibration: Calibration,
    statistics: SetStatistics | None,
    reference: Reference | None,
    *,
    guessing: bool,
) -> ComparedMisfit:
    """Compare a month's misfit with its reference. If they cannot be compared, the result's `why` says so.

    Args:
        most: largest number of attempts that a run reads; None: all.
        statistics: fit statistics of the month's set.
        guessing: whether the month's fit accounts for guessing.
    """
    if reference is None:
        return ComparedMisfit(reference=None)
    about: dict[str, Any] = {
        "reference": reference.name,
        "fit_id": reference.fit_id,
        "ratio": eigenvalue_ratio(reference.statistics),
        "ratio_together": items_together(reference.statistics),
    }
    if scale.rules.fit.assignment == "by_level":
        return ComparedMisfit(**about, why=BY_LEVEL)
    if len(calibration.populations) > 1:
        return ComparedMisfit(**about, why=BY_WEEK)
    try:
        before = reference_window(store, most, reference, scale.scale_id)
    except PermanentFailure as error:
        return ComparedMisfit(**about, why=str(error), lost=True)
    if len(before.calibration.populations) > 1:
        return ComparedMisfit(**about, why=FITTED_BY_LEVEL)
    try:
        with BreakdownError.explain("the comparison failed"), threadpool_limits(1, user_api="blas"):
            change = window_of(responses, calibration, statistics).compare_with(before, guessing=guessing)
    except PsychometricsError as error:
        return ComparedMisfit(**about, why=str(error), lost=True)
    return ComparedMisfit(
        **about,
        items=change.items,
        growth=Growth(**change.growth),
        now=Measures(**vars(change.now)),
        before=Measures(**vars(change.before)),
        together=TopContributors(**change.loading_items),
    )


def misfit_in_words(statistics: SetStatistics) -> list[str]:
    """A sentence per fit statistic of the set, for the person who decides whether to use the fit."""
    ratio, lz, split = eigenvalue_ratio(statistics), statistics.lz, statistics.halves
    if ratio is None:
        sentences = ["dimensions could not be tested"]
    else:
        together = items_together(statistics) if ratio > MAX_RATIO else ()
        largest = (
            f"the largest eigenvalue of the residual correlations is {ratio:.2f} times the value expected for one "
            "ability"
        )
        sentences = [largest + dependence_clause(together)]
    forms = [
        (form.m2, form.df, form.learners)
        for form in statistics.m2 or ()
        if form.m2 is not None and form.p is not None and form.rmsea is not None
    ]
    if forms:
        rmsea = Measure.rmsea(*zip(*forms, strict=True))
        interval = f"98 % interval {rmsea.low:.3f} to {rmsea.high:.3f}"
        sentences.append(f"RMSEA₂ of whole forms is {rmsea.value:.3f} ({interval}, {quantity(len(forms), 'form')})")
    clusters = "; ".join(join_names(cluster, MAX_NAMED) for cluster in statistics.q3.clusters)
    sentences.append(f"items that share more than the ability (Q3): {clusters or 'none'}")
    if lz.rare is not None:
        sentences.append(
            f"{lz.rare:.1%} of {lz.learners:,} learners have an unlikely response pattern (lz* below the 2 % "
            f"critical value)"
        )
    if statistics.twins and statistics.twins.learner_pairs:
        pairs = quantity(statistics.twins.learner_pairs, "pair")
        sentences.append(f"{pairs} of learner ids have the same answers beyond chance, which makes errors too small")
    if statistics.twins and statistics.twins.items:
        named = join_names(["/".join(pair.items) for pair in statistics.twins.items], MAX_NAMED)
        sentences.append(f"items that are nearly the same: {named}")
    if split is not None:
        sentences.append(
            f"the two halves of the items that disagree most place a learner {split.apart:.2f} apart in θ, and "
            f"their standard errors explain {split.expected:.2f}"
        )
    return sentences


def window_of(responses: Responses, calibration: Calibration, statistics: SetStatistics | None) -> Window:
    """The window of a fit, with the stored result of its parallel analysis."""
    kept = statistics.parallel if statistics else None
    return Window.with_summary(responses, calibration, vars(kept) if kept else None)
