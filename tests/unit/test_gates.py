"""The gates of publication, each on a month that is changed in a single respect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.calibration.blocks import misfit_blocks
from irt_assets.gates.advisory_checks import one_ability_explains_the_answers, published_items_are_fitted
from irt_assets.gates.coverage import Bank
from irt_assets.gates.evidence import Evidence, GateResult
from irt_assets.gates.gates import demanded_engines_fitted, failures, item_problems, judge_gates
from irt_assets.gates.linking_gates import anchors_move_with_the_others, linking_stays_near_its_history
from irt_assets.gates.model_gates import (
    growth_of_misfit,
    guessing_is_in_the_model,
    misfit_has_not_grown,
    misfit_was_accepted,
)
from irt_assets.ledger.fit_spec import (
    ComparedMisfit,
    FitStatistics,
    LinkedSpec,
    LinkingConstants,
    SetStatistics,
    Spread,
    StagedSpec,
)
from irt_assets.ledger.fits import LinkedFit, StagedFit
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.linked_windows import month_number
from irt_assets.responses.snapshot import Snapshot
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Convergence, Shape
from irt_psychometrics.linking import MonthConstants
from tests.helpers.fit_specs import BEFORE_TAU, CONSTANTS, MISFIT, PARALLEL, SET
from tests.helpers.pictures import Picture


def calibration(converged: bool = True) -> Calibration:
    one = np.ones(1)
    return Calibration(
        ("i",), ("2pl",), "em", "1", one, 0 * one, 0 * one, np.eye(2)[None] * 0.01, None, one.astype(int),
        one.astype(int), ((),), 0.0, 1.0, 1,
        Convergence(converged, 12, 1e-7, 1e-5, -9.0, 2, "" if converged else "500 iterations"),
    )  # fmt: skip


def a_spec(**facts: Any) -> StagedSpec:
    return StagedSpec(misfit=ComparedMisfit(reference=None), **facts)


def staged(**changes: Any) -> StagedFit:
    fit = StagedFit(
        fit_id="fit",
        month="2026-06",
        scale_id="default",
        engine="em",
        snapshot_hash="hash",
        calibration=b"",
        error=None,
        error_kind=None,
        spec=a_spec(),
        code_version="1",
        fitted_at=datetime(2026, 7, 1, tzinfo=UTC),
    )
    return replace(fit, **changes)


def evidence(**changes: Any) -> Evidence:
    """Evidence of a month that passes every gate, with these changes."""
    sound = Evidence(
        month="2026-06",
        scale=Scale("default"),
        snapshot=SNAPSHOT,
        staged=staged(),
        calibration=calibration(),
        linked=linked_with(),
        group_shift=NOTHING_TO_COMPARE,
    )
    return replace(sound, **changes)


SNAPSHOT = Snapshot("2026-06", "hash", "uri", "data", 110, {"default": {"scored": 100, "rapid": 10}}, {})
OUTSIDE = {"math": {"scored": 80}, "default": {"unusable": 20}}
NOTHING_TO_COMPARE = GroupShift("nothing in force to compare: no item")


def linked_with(**constants: Any) -> LinkedFit:
    spec = LinkedSpec(
        linking_constants=LinkingConstants.from_json(CONSTANTS | constants, "fit"),
        latent=Spread(mean=0.0, sd=1.0),
    )
    return LinkedFit("fit", "hash", "data", "anchors", True, spec, {})


def linked_before(**constants: Any) -> LinkedSpec:
    known = LinkingConstants.from_json(BEFORE_TAU | constants, "fit")
    return LinkedSpec(linking_constants=known, latent=Spread(mean=0.0, sd=1.0))


def snapshot_with(**answers: int) -> Snapshot:
    return replace(SNAPSHOT, counts={"default": answers})


def scale_with(**rules: Any) -> Scale:
    return Scale("default", rules=Rules.from_settings(rules))


def with_statistics(p: float | None, rule: str) -> dict[str, Any]:
    parallel = None if p is None else PARALLEL | {"eigenvalue": 2.0, "expected": 1.5, "rounds": 11, "p": p}
    of_set = SetStatistics.from_json(SET | {"parallel": parallel}, "fit")
    spec = a_spec(fit_statistics=FitStatistics(items={}, set=of_set))
    return {"staged": staged(spec=spec), "scale": scale_with(second_dimension=rule)}


CASES: dict[str, dict[str, Any]] = {
    "nothing was done": {
        "snapshot": None,
        "snapshot_problem": "none",
        "staged": None,
        "calibration": None,
        "linked": None,
    },
    "the file is spoilt": {"snapshot_problem": "the file has another sha256"},
    "not fitted": {"staged": None, "calibration": None, "linked": None},
    "fitted on an earlier snapshot": {"staged": staged(snapshot_hash="older")},
    "not converged": {"calibration": calibration(False)},
    "disconnected": {
        "staged": staged(error="2 groups", error_kind="DisconnectedDesignError", calibration=None),
        "calibration": None,
        "linked": None,
    },
    "fitted and not linked": {"linked": None},
    "the linked fit is an earlier one": {"staged": staged(fit_id="newer")},
    "too few anchors agree": {
        "linked": None,
        "staged": staged(
            error="too few anchors are left",
            spec=a_spec(
                linking_constants=LinkingConstants.from_json(
                    CONSTANTS | {"anchors_used": ["k1"], "anchors_dropped": {"k2": "", "k3": ""}}, "fit"
                )
            ),
        ),
    },
    "few anchors of many are left": {"linked": linked_with(share_kept=0.69)},
    "few anchors are left": {"linked": linked_with(anchors_used=["k1"] * 4)},
    "the anchors vary too much": {"linked": linked_with(tau=0.3, tau_low=0.16)},
    "the anchors vary just not too much": {"linked": linked_with(tau=0.3, tau_low=0.15)},
    "just enough anchors are left": {"linked": linked_with(share_kept=0.70)},
    "only Q is against the anchors": {"linked": linked_with(q_p=1e-9, i2=0.9)},
    "an end of the bank is placed badly": {
        "linked": linked_with(slope_se=0.1),
        "bank": Bank({}, {f"i{k}": k - 5.0 for k in range(11)}, frozenset(["i0"])),
    },
    "an earlier release linked, and its anchors disagree": {
        "linked": LinkedFit("fit", "hash", "data", "anchors", True, linked_before(q_p=0.0099), {})
    },
    "an earlier release linked, and its anchors just agree": {
        "linked": LinkedFit("fit", "hash", "data", "anchors", True, linked_before(q_p=0.01), {})
    },
    "10 of 100 answers are rapid": {"snapshot": snapshot_with(scored=90, rapid=10)},
    "10 of 100 answers are rapid or unusable": {"snapshot": snapshot_with(scored=90, rapid=6, unusable=4)},
    "11 of 101 answers are rapid": {"snapshot": snapshot_with(scored=90, rapid=11)},
    "repeats are no rejected answers": {"snapshot": snapshot_with(scored=80, rapid=10, repeat=10)},
    "10 of 50 answers are rapid, besides those of no learner or to no item": {
        "snapshot": snapshot_with(scored=40, rapid=10, sandbox=30, test_account=10, not_reached=10)
    },
    "without answers": {"snapshot": snapshot_with()},
    "20 of 100 answers are to items outside a bank that has no scale `default`": {
        "scale": Scale("math"),
        "snapshot": replace(SNAPSHOT, counts=OUTSIDE, rules={"math": {}}),
    },
    "20 of 100 answers are to items outside a bank that has a scale `default`": {
        "scale": Scale("math"),
        "snapshot": replace(SNAPSHOT, counts=OUTSIDE, rules={"math": {}, "default": {}}),
    },
    "without statistics where one dimension is demanded": {"scale": scale_with(second_dimension="hold")},
    "a second dimension with p = 0.0009": with_statistics(0.0009, "hold"),
    "a second dimension with p = 0.0011": with_statistics(0.0011, "hold"),
    "a second dimension with p = 0.0009 that warns": with_statistics(0.0009, "warn"),
    "no p of a second dimension": with_statistics(None, "hold"),
}


def test_months_are_held_by_the_gates_that_their_faults_concern(picture: Picture) -> None:
    """Answers outside the bank count against every scale unless a scale `default` has them, as nobody would notice them
    otherwise. Q alone does not hold a month, unless an earlier release linked it."""
    found = {case: failures(judge_gates(evidence(**changes))) for case, changes in CASES.items()}
    picture({case: list_reasons(gates) for case, gates in found.items()}, "months")


def list_reasons(gates: dict[str, str]) -> str:
    return "\n".join(f"{gate}: {reason}" for gate, reason in sorted(gates.items())) or "passes every gate"


def test_linking_constants_of_an_earlier_release_are_written_unchanged() -> None:
    spec = linked_before(q_p=0.01)
    assert spec.linking_constants.as_json() == LinkingConstants.from_json(BEFORE_TAU | {"q_p": 0.01}, "fit").as_json()
    assert set(spec.linking_constants.as_json()) == set(BEFORE_TAU)


SOUND = {"a": 1.0, "b": 0.5, "a_se": 0.1, "b_se": 0.1, "n": 500, "flags": [], "rmsd": None}


def problems_of(n: int, flags: list[str], rmsd: float | None, **params: Any) -> list[str]:
    return item_problems(
        FittedItem.from_row({"params": params, "n_responses": n, "flags": flags, "rmsd": rmsd}), Rules()
    )


SCORED = {"further": {"max_score": 3, "t0": 0.0, "t2": 0.4, "t3": 0.0}}
ITEM_CASES: tuple[dict[str, Any], ...] = (
    {},
    {"b": 6.0, "b_se": 1.0},
    {"b": -6.01},
    {"b_se": 1.01},
    {"a": 0.0},
    {"a": -0.3},
    {"a_se": None},
    {"b_se": None},
    {"a": None, "b": None},
    {"b": None},
    {"n": 499},
    {"rmsd": 0.06, "fit": {"rmsd_p": 0.0009}},
    {"rmsd": 0.06, "fit": {"rmsd_p": 0.0011}},
    {"rmsd": 0.049, "fit": {"rmsd_p": 0.0001}},
    {"rmsd": None, "fit": {"rmsd_p": None}},
    {"flags": ["at_bound"]},
    {"a": -1.0, "b": 9.0, "b_se": 3.0, "n": 3},
    SCORED,
    SCORED | {"b": -6.01},
    SCORED | {"a": -0.3},
    SCORED | {"flags": ["negative_discrimination"]},
)


def test_items_are_held_back_with_every_reason(picture: Picture) -> None:
    """The same limits apply to scored items with different sentences, which do not recommend to check the key."""
    picture({str(case): "\n".join(problems_of(**SOUND | case)) or "passes" for case in ITEM_CASES}, "items")


def test_scored_item_has_its_scores_in_its_values() -> None:
    values = FittedItem.from_row({"params": SOUND | SCORED, "n_responses": 9, "flags": []}).values
    assert (values.max_score, values.absent_scores) == (3, [1])
    assert str(values) == "a = 1.00 ± 0.10, a·m = 3.00 ± 0.30, b = 0.50 ± 0.10, t2 = 0.40 ± ?, scored 0 … 3"


# -- the months before, and the values in force ------------------------------------------------------

HISTORY = tuple(
    MonthConstants(month_number("2026-05") - k, 1.1, 0.03, x, 0.04)
    for k, x in enumerate((-0.25, -0.15, -0.2, -0.22, -0.18, -0.2, -0.24, -0.16))
)
SHIFTED = GroupShift(items=20, shift=0.30, shift_se=0.05)
STAYED = GroupShift(items=20, shift=0.02, shift_se=0.05)


def evaluate_shift(
    gate: Callable[[Evidence], GateResult],
    group_shift: GroupShift | None = STAYED,
    rule: str = "hold",
    largest: float = 0.1,
    earlier: tuple[MonthConstants, ...] = HISTORY,
    **constants: Any,
) -> GateResult:
    fit = linked_with(**{"slope_se": 0.03, "intercept_se": 0.04} | constants)
    rules = Rules.from_settings({"new_misfit": rule, "max_anchor_shift": largest})
    return gate(evidence(linked=fit, group_shift=group_shift, scale=Scale("default", rules=rules), earlier=earlier))


LINKINGS: dict[str, dict[str, Any]] = {
    "as before": {},
    "another intercept": {"intercept": 0.1},
    "another slope": {"slope": 1.4},
    "another intercept, with a large error": {"intercept": 0.1, "intercept_se": 0.2},
    "another intercept, after two months": {"intercept": 5.0, "earlier": HISTORY[:2]},
    "another intercept, only warned of": {"intercept": 0.1, "rule": "warn"},
}
SHIFTS: dict[str, dict[str, Any]] = {
    "nearly no shift": {},
    "a shift upwards": {"group_shift": SHIFTED},
    "a shift downwards": {"group_shift": replace(SHIFTED, shift=-0.30)},
    "a shift, of a population that varies much": {"group_shift": replace(SHIFTED, sd=10.0)},
    "a shift with a large error": {"group_shift": replace(SHIFTED, shift_se=0.11)},
    "a shift that the scale allows": {"group_shift": replace(SHIFTED, shift_se=0.01), "largest": 0.4},
    "a shift, only warned of": {"group_shift": SHIFTED, "rule": "warn"},
    "not measured": {"group_shift": None},
    "nothing in force": {"group_shift": NOTHING_TO_COMPARE},
}
GUESSED = Shape("normal", "learners guess: a 3PL raises 2 log L by 44", guessing=True)
SHAPES: dict[str, dict[str, Any]] = {
    "no shape judged": {"shape": None},
    "a skewed shape": {"shape": Shape("histogram", "θ is skewed")},
    "guessing": {"shape": GUESSED},
    "guessing that is accepted": {"shape": GUESSED, "accepted": frozenset({"guessing"})},
}


def outcome_text(verdict: GateResult) -> str:
    return f"{'passes' if verdict.passed else 'fails'}: {verdict.why}"


def of_shape(shape: Shape | None, **changes: Any) -> GateResult:
    return guessing_is_in_the_model(evidence(staged=staged(spec=a_spec(shape=shape)), **changes))


@pytest.mark.parametrize(
    ("judge", "cases", "name"),
    [
        (partial(evaluate_shift, linking_stays_near_its_history), LINKINGS, "linking_jumps"),
        (partial(evaluate_shift, anchors_move_with_the_others), SHIFTS, "anchors_move"),
        (of_shape, SHAPES, "guessing"),
    ],
)
def test_gate_holds_a_month_with_its_reason_if_the_evidence_exceeds_the_limits(
    picture: Picture, judge: Callable[..., GateResult], cases: dict[str, dict[str, Any]], name: str
) -> None:
    """The cases are in `linking_jumps`, `anchors_move` and `guessing`."""
    picture({title: outcome_text(judge(**case)) for title, case in cases.items()}, name)


def test_advisory_checks_warn_of_a_second_dimension_and_of_unfitted_published_items(picture: Picture) -> None:
    """A second dimension is a warning if no gate holds it, and so are published items with too few responses."""
    left_out = evidence(
        staged=staged(spec=a_spec(left_out={"new": 12, "old": 34})), in_force=frozenset({"old", "other"})
    )
    verdicts = [
        one_ability_explains_the_answers(evidence(**with_statistics(0.0009, "warn"))),
        one_ability_explains_the_answers(evidence(**with_statistics(0.0009, "hold"))),
        published_items_are_fitted(left_out),
        published_items_are_fitted(evidence()),
    ]
    picture("\n".join(f"{outcome_text(verdict)} {verdict.details}" for verdict in verdicts), "warnings")


# -- engines that a scale demands --------------------------------------------------------------------


DEMANDED: dict[str, StagedFit | None] = {
    "no fit": None,
    "a fit of an earlier snapshot": staged(engine="pymc", calibration=b"sound", snapshot_hash="older"),
    "a fit that failed": staged(engine="pymc", calibration=None, error="R stopped"),
    "a fit that did not converge": staged(engine="pymc", calibration=b"not converged"),
    "a fit that could not be linked": staged(engine="pymc", calibration=b"sound", error="too few anchors"),
    "a fit": staged(engine="pymc", calibration=b"sound"),
}


def test_gate_fails_if_a_demanded_engine_has_no_result(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored fits are b"sound" and b"not converged", which `decode` replaces."""
    stored = {b"sound": calibration(), b"not converged": calibration(converged=False)}
    monkeypatch.setattr(StagedFit, "decode", lambda fit: stored.get(fit.calibration))
    verdicts = {title: demanded_engines_fitted(evidence(demanded={"pymc": fit})) for title, fit in DEMANDED.items()}
    picture({title: outcome_text(verdict) for title, verdict in verdicts.items()}, "demanded")


# -- misfit ------------------------------------------------------------------------------------------
# The sentences of the gates on misfit about items that answer alike, from the comparison stored with a fit.

ITEMS = [f"reading_{j:02d}" for j in range(7)]
NAMED = "reading_00, reading_01, reading_02, reading_03, reading_04 and 2 more answer alike beyond ability"
BOTH = {"dependence": ITEMS, "ratio": ITEMS[::-1]}


def compared_misfit(together: dict[str, list[str]] | None = None, **low: float) -> ComparedMisfit:
    """A month's `misfit`. It names no items without `together`; `low` contains lower limits of growth (default:
    −.01)."""
    growth = {
        name: {"value": low.get(name, -0.01) + 0.02, "low": low.get(name, -0.01), "high": 1.0}
        for name in ("dependence", "ratio", "rmsea", "unlikely", "random")
    }
    named = {"together": together or {key: [] for key in BOTH}, "ratio_together": ITEMS if together else []}
    return ComparedMisfit.from_json(MISFIT | {"ratio": 1.3, "growth": growth | {"chance": None}} | named, "fit")


GROWN: tuple[dict[str, float], ...] = (
    {"dependence": 0.3},
    {"dependence": 0.3, "ratio": 0.6, "random": 0.02},
    {"ratio": 0.6},
    {},
    {"random": 0.02},
)


def test_items_that_answer_alike_are_named_once_if_their_dependence_grew(picture: Picture) -> None:
    """The items are in the gate's reason and in the table of the same comparison."""
    found = {str(low): compared_misfit(BOTH, **low) for low in GROWN}
    pages = {
        low: f"{outcome_text(growth_of_misfit(evidence(), one))}\n\n{markdown(*misfit_blocks(one))}"
        for low, one in found.items()
    }
    picture(pages, "misfit")


def test_reason_of_held_misfit_names_its_items_if_the_comparison_stores_them(picture: Picture) -> None:
    spec = {"new": StagedSpec(misfit=compared_misfit(BOTH)), "old": StagedSpec(misfit=compared_misfit(dependence=0.3))}
    months = {age: evidence(staged=staged(spec=one), scale=scale_with(new_misfit="hold")) for age, one in spec.items()}
    judges = (misfit_has_not_grown, misfit_was_accepted)
    verdicts = {
        f"{age}, {judge.__name__}": outcome_text(judge(month)) for age, month in months.items() for judge in judges
    }
    picture(verdicts, "misfit_accepted")
