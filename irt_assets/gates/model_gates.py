"""Set gates on whether the answers follow the model: dimensions, guessing, and new misfit.

They judge statistics from the fit's spec. `misfit` compares a month with its reference, `gates.item_problems` judges
single items.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

from irt_assets.common.wording import join_names
from irt_assets.gates.evidence import Evidence, GateResult, apply_new_misfit_rule, current_fit, needs_fit
from irt_assets.ledger.fit_spec import ComparedMisfit, Parallel, SetStatistics
from irt_psychometrics.itemfit import Measure

MISFIT_LEVEL = 0.001
"""Significance level at which an item is held back or a second dimension is reported."""
MAX_RATIO = 1.15
"""Largest accepted ratio of the largest residual eigenvalue to the one expected under the model. Real tests of one
ability stay below it."""
LIMITS = {"dependence": 0.05, "ratio": 0.4, "rmsea": 0.012, "unlikely": 0.006, "random": 0.002, "chance": 0.005}
"""Largest accepted growth of each measure of misfit since the reference, for the lower limit of its interval (see
docs/explanation/misfit.md)."""
MAX_NAMED = 5
"""Largest number of items named in a sentence on dependence."""
FEW_TOGETHER = f"no two items were seen by {Measure.MIN_PERSONS_OF_PAIR} learners"


def _name_sample(judge: Callable[[Evidence], GateResult]) -> Callable[[Evidence], GateResult]:
    """Decorate a gate so that its reason mentions the sample of learners, if the fit's statistics come from one."""

    @functools.wraps(judge)
    def judge_and_name_sample(evidence: Evidence) -> GateResult:
        verdict = judge(evidence)
        sample = evidence.staged.spec.sample if evidence.staged else None
        return replace(verdict, why=f"{verdict.why}; judged on {sample}") if sample else verdict

    return judge_and_name_sample


@needs_fit
def one_dimension(evidence: Evidence) -> GateResult:
    """If the scale demands it: the largest eigenvalue of the residual correlations is likely under the model."""
    found = second_dimension(evidence)
    if evidence.scale.rules.publication.second_dimension == "warn":
        return GateResult(True, f"the scale does not demand one dimension; {found.why}", found.details)
    return found


@_name_sample
@needs_fit
def second_dimension(evidence: Evidence) -> GateResult:
    """Verdict on the parallel analysis of the month's fit, regardless of the scale's demands."""
    if evidence.statistics is None:
        return GateResult(False, "the fit has no fit statistics: materialise item_calibration")
    parallel = evidence.statistics.parallel
    return one_ability(parallel) if parallel else GateResult(True, f"dimensions could not be tested: {FEW_TOGETHER}")


def one_ability(parallel: Parallel) -> GateResult:
    """Judge a fit's parallel analysis. No other code judges it."""
    passed = parallel.p >= MISFIT_LEVEL
    why = (
        f"the largest eigenvalue of the residual correlations is {parallel.eigenvalue:.2f}, and "
        f"{parallel.expected:.2f} is expected if one ability explains the answers (p = {parallel.p:.2g})"
    )
    details = {name: getattr(parallel, name) for name in ("eigenvalue", "expected", "rounds", "p")}
    return GateResult(passed, why if passed else f"a second dimension: {why}", details)


@_name_sample
@needs_fit
def guessing_is_in_the_model(evidence: Evidence) -> GateResult:
    """Learners do not guess, or the scale's model has guessing, or a person has accepted it."""
    assert evidence.staged is not None
    shape = evidence.staged.spec.shape
    if shape is None:
        return GateResult(True, "not judged then: guessing is judged only if em fits one population")
    details = evidence.staged.spec.as_json()["shape"]
    if not shape.guessing:
        return GateResult(True, shape.why, details)
    if "guessing" in evidence.accepted:
        return GateResult(True, f"guessing is accepted; {shape.why}", details)
    return GateResult(False, shape.why, details)


@_name_sample
def misfit_was_accepted(evidence: Evidence) -> GateResult:
    """The items of the reference window measure one ability, or a person has accepted that they do not."""
    return _judge_comparison(evidence, accepted_misfit)


@_name_sample
def misfit_has_not_grown(evidence: Evidence) -> GateResult:
    """The month's misfit has not grown since the reference window."""
    return _judge_comparison(evidence, growth_of_misfit)


def _judge_comparison(evidence: Evidence, judge: Callable[[Evidence, ComparedMisfit], GateResult]) -> GateResult:
    """Judge the stored comparison by the scale's rule on new misfit. Returns the reason if no comparison is stored."""
    found = _stored_comparison(evidence)
    return found if isinstance(found, GateResult) else apply_new_misfit_rule(evidence, judge(evidence, found))


def new_misfit(evidence: Evidence) -> GateResult:
    """Verdict on new misfit, regardless of the scale's demands."""
    found = _stored_comparison(evidence)
    if isinstance(found, GateResult):
        return GateResult(True, found.why)
    verdicts = [accepted_misfit(evidence, found), growth_of_misfit(evidence, found)]
    return next((verdict for verdict in verdicts if not verdict.passed), verdicts[1])


def _stored_comparison(evidence: Evidence) -> ComparedMisfit | GateResult:
    """The stored comparison of the month's misfit with its reference, or a verdict if the fit has no comparison."""
    fit = current_fit(evidence)
    if isinstance(fit, GateResult):
        return fit
    assert evidence.staged is not None
    found = evidence.staged.spec.misfit
    if found is None and fit.convergence.converged:
        return GateResult(False, "how misfit compares with earlier months is not known: materialise item_calibration")
    if found is None:
        return GateResult(True, "not judged then: misfit is compared only if the scale's engine fits the month")
    return found


def accepted_misfit(evidence: Evidence, found: ComparedMisfit) -> GateResult:
    if found.reference:
        ratio, together = found.ratio, found.ratio_together
    else:
        ratio, together = eigenvalue_ratio(evidence.statistics), items_together(evidence.statistics)
    name = found.reference or f"{evidence.month}, the reference of later months,"
    if ratio is None:
        return GateResult(True, f"dimensions of {name} could not be tested: {FEW_TOGETHER}")
    why = (
        f"the largest eigenvalue of the residual correlations of {name} is {ratio:.3f} times the value "
        f"expected for one ability, limit {MAX_RATIO:g}"
    )
    if ratio <= MAX_RATIO:
        return GateResult(True, why, {"ratio": ratio})
    why += dependence_clause(together)
    if "misfit" not in evidence.accepted:
        return GateResult(False, why, {"ratio": ratio})
    return GateResult(True, f"misfit is accepted; {why}", {"ratio": ratio})


def growth_of_misfit(evidence: Evidence, found: ComparedMisfit) -> GateResult:
    reference = found.reference
    if reference is None:
        return GateResult(True, f"{evidence.month} is the reference of later months")
    if found.why is not None:
        return GateResult(not found.lost, f"not compared with {reference}: {found.why}")
    growth = found.growth.known_measures()
    beyond = {name: measure for name, measure in growth.items() if measure.low > LIMITS[name]}
    details = {f"growth of {MEASURES[name]}": measure.value for name, measure in growth.items()}
    if not growth:
        why = FEW_TOGETHER if found.items >= Measure.MIN_ITEMS else f"they have {found.items} items in common"
        return GateResult(True, f"could not be compared with {reference}: {why}")
    together = found.together.by_measure()
    named = next((name for name, items in together.items() if name in beyond and items), None)
    grown = "; ".join(
        f"{MEASURES[name]} {measure.value:+.3f} (at least {measure.low:+.3f}, limit {LIMITS[name]:g})"
        f"{dependence_clause(together[name]) if name == named else ''}"
        for name, measure in (beyond or growth).items()
    )
    if found.items < Measure.MIN_ITEMS:
        grown += f"; the rest could not be compared: they have {found.items} items in common"
    if beyond:
        return GateResult(False, f"misfit that {reference} did not have: {grown}", details)
    return GateResult(True, f"no more misfit than {reference}: {grown}", details)


MEASURES = {
    "dependence": "dependence between items",
    "ratio": "eigenvalue ratio of all items",
    "rmsea": "RMSEA₂",
    "unlikely": "share of unlikely patterns",
    "random": "share answering at random",
    "chance": "share at chance level",
}
"""Measures of growth in a sentence."""


def eigenvalue_ratio(statistics: SetStatistics | None) -> float | None:
    """Ratio of a fit's largest residual eigenvalue to the one expected under the model. Returns None if not tested."""
    return statistics.parallel.ratio if statistics and statistics.parallel else None


def items_together(statistics: SetStatistics | None) -> tuple[str, ...]:
    """Items that contribute most to a fit's largest residual eigenvalue. Returns () if they are not known."""
    return statistics.parallel.together if statistics and statistics.parallel else ()


def dependence_clause(items: Sequence[str]) -> str:
    """The end of a sentence on dependence that names the items. Returns "" without items."""
    return f": {join_names(items, MAX_NAMED)} answer alike beyond ability" if items else ""
