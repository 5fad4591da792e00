"""The gates of publication, one piece of evidence at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.calibration.shown import misfit_blocks
from irt_assets.gates.advisory_checks import one_ability_explains_the_answers, published_items_are_fitted
from irt_assets.gates.coverage import Bank
from irt_assets.gates.evidence import Evidence, Verdict
from irt_assets.gates.gates import SET_GATES, demanded_engines_fitted, failures, item_problems
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
from irt_assets.ledger.linked_windows import month_number
from irt_assets.psychometrics.core.models import Calibration, Convergence, Flag
from irt_assets.psychometrics.drift.group_shift import GroupShift
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.shape import Shape
from irt_assets.psychometrics.linking.jump import Constants
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import Snapshot
from tests.helpers.fit_specs import BEFORE_TAU, CONSTANTS, MISFIT, PARALLEL, SET


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
    """A month that passes every gate, changed in one thing."""
    snapshot = Snapshot("2026-06", "hash", "uri", "data", 110, {"default": {"scored": 100, "rapid": 10}}, {})
    sound = Evidence(
        month="2026-06",
        scale=Scale("default"),
        snapshot=snapshot,
        staged=staged(),
        calibration=calibration(),
        linked=linked(),
        group_shift=NOTHING_TO_COMPARE,
    )
    return replace(sound, **changes)


NOTHING_TO_COMPARE = GroupShift("nothing in force to compare: no item")


def linked(**constants: Any) -> LinkedFit:
    spec = LinkedSpec(
        linking_constants=LinkingConstants.from_json(CONSTANTS | constants, "fit"),
        latent=Spread(mean=0.0, sd=1.0),
    )
    return LinkedFit("fit", "hash", "data", "anchors", True, spec, {})


def linked_before(**constants: Any) -> LinkedSpec:
    known = LinkingConstants.from_json(BEFORE_TAU | constants, "fit")
    return LinkedSpec(linking_constants=known, latent=Spread(mean=0.0, sd=1.0))


OF_A_FIT = {
    "converged",
    "connected",
    "one_dimension",
    "guessing_is_in_the_model",
    "misfit_was_accepted",
    "misfit_has_not_grown",
}
OF_A_LINKED_MONTH = {
    "linked",
    "anchors_agree",
    "anchors_move_with_the_others",
    "linking_stays_near_its_history",
}
CASES: dict[str, tuple[dict[str, Any], set[str], str]] = {
    "nothing was done": (
        {"snapshot": None, "snapshot_problem": "none", "staged": None, "calibration": None, "linked": None},
        {gate.name for gate in SET_GATES} - {"demanded_engines_fitted"},  # none is demanded
        "materialise",
    ),
    "the file is spoilt": (
        {"snapshot_problem": "the file has another sha256"},
        {"snapshot_matches_its_hash"},
        "another sha256",
    ),
    "not fitted": (
        {"staged": None, "calibration": None, "linked": None},
        OF_A_FIT | OF_A_LINKED_MONTH,
        "materialise item_calibration",
    ),
    "fitted on an earlier snapshot": (
        {"staged": staged(snapshot_hash="older")},
        OF_A_FIT | {"linked"},
        "earlier snapshot",
    ),
    "not converged": ({"calibration": calibration(False)}, {"converged"}, "500 iterations"),
    "disconnected": (
        {
            "staged": staged(error="2 groups", error_kind="DisconnectedDesignError", calibration=None),
            "calibration": None,
            "linked": None,
        },
        OF_A_FIT | OF_A_LINKED_MONTH,
        "2 groups",
    ),
    "fitted and not linked": (
        {"linked": None},
        OF_A_LINKED_MONTH,
        "materialise linked_item_parameters",
    ),
    "the linked fit is an earlier one": (
        {"staged": staged(fit_id="newer")},
        OF_A_LINKED_MONTH,
        "fit newer is not on the scale",
    ),
    "too few anchors agree": (
        {
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
        OF_A_LINKED_MONTH,
        "p = 0.5; variation beyond errors τ = 0.050 SD of ability, I² = 20%); left out of the linking: k2, k3",
    ),
    "few anchors of many are left": (
        {"linked": linked(share_kept=0.69)},
        {"anchors_agree"},
        "only 5 anchors agree with each other, 69% of those with enough responses; needed are 5 and 70% (Q = 3.0",
    ),
    "few anchors are left": ({"linked": linked(anchors_used=["k1"] * 4)}, {"anchors_agree"}, "only 4 anchors agree"),
    "the anchors vary too much": (
        {"linked": linked(tau=0.3, tau_low=0.16)},
        {"anchors_agree"},
        "τ = 0.30 SD of ability from month to month beyond their errors, at least by 0.16; items of one scale vary by",
    ),
    "an end of the bank is placed badly": (
        {"linked": linked(slope_se=0.1), "bank": Bank({}, {f"i{k}": k - 5.0 for k in range(11)}, frozenset(["i0"]))},
        {"anchors_agree"},
        "the anchors place b = -4.00 with a standard error of 0.35 and b = 4.00 with a standard error of 0.38",
    ),
    "an earlier release linked, and its anchors disagree": (
        {"linked": LinkedFit("fit", "hash", "data", "anchors", True, linked_before(q_p=0.0099), {})},
        {"anchors_agree"},
        "5 anchors disagree (Q = 3.0 on 4 df",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_month_fails_the_gates_that_its_fault_concerns(case: str) -> None:
    changes, expected, why = CASES[case]
    found = failures(evidence(**changes))
    assert set(found) == expected
    assert why in " ".join(found.values())


@pytest.mark.parametrize(
    "constants",
    [{}, {"share_kept": 0.70}, {"tau": 0.3, "tau_low": 0.15}, {"q_p": 1e-9, "i2": 0.9}],
    ids=["sound", "share", "variation", "Q alone"],
)
def test_anchors_agree_at_the_limits_themselves_and_q_alone_holds_nothing(constants: dict[str, Any]) -> None:
    assert failures(evidence(linked=linked(**constants))) == {}


def test_what_an_earlier_release_linked_is_read_judged_and_written_as_it_was() -> None:
    spec = linked_before(q_p=0.01)
    assert spec.linking_constants.as_json() == LinkingConstants.from_json(BEFORE_TAU | {"q_p": 0.01}, "fit").as_json()
    assert set(spec.linking_constants.as_json()) == set(BEFORE_TAU)
    assert failures(evidence(linked=LinkedFit("fit", "hash", "data", "anchors", True, spec, {}))) == {}


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ({"scored": 90, "rapid": 10}, 0.10),
        ({"scored": 90, "rapid": 6, "unusable": 4}, 0.10),
        ({"scored": 90, "rapid": 11}, 11 / 101),
        ({"scored": 80, "rapid": 10, "repeat": 10}, 0.10),
        ({"scored": 40, "rapid": 10, "sandbox": 30, "test_account": 10, "not_reached": 10}, 0.20),
        ({}, 0.0),
    ],
)
def test_rejected_are_rapid_and_unusable_among_answers_of_real_learners(counts: dict[str, int], share: float) -> None:
    """Repeats are ineligible and not rejected; sandbox, test accounts and unreached items are not such answers."""
    snapshot = evidence().snapshot
    found = failures(evidence(snapshot=replace(snapshot, counts={"default": counts})))
    assert ("few_answers_are_rejected" in found) == (share > 0.10)
    if found:
        assert f"{share:.1%}" in found["few_answers_are_rejected"]


def test_answers_to_items_outside_the_bank_count_against_every_scale() -> None:
    """They are judged under `default`, which a bank of other scales does not have: nobody would look at them."""
    snapshot = evidence().snapshot
    counts = {"math": {"scored": 80}, "default": {"unusable": 20}}
    of_math = evidence(scale=Scale("math"), snapshot=replace(snapshot, counts=counts, rules={"math": {}}))
    assert "20.0% of 100 answers" in failures(of_math)["few_answers_are_rejected"]
    both = replace(snapshot, counts=counts, rules={"math": {}, "default": {}})
    assert "few_answers_are_rejected" not in failures(evidence(scale=Scale("math"), snapshot=both))


SOUND = {"a": 1.0, "b": 0.5, "a_se": 0.1, "b_se": 0.1, "n": 500, "flags": [], "rmsd": None}


def problems_of(n: int, flags: list[str], rmsd: float | None, **params: Any) -> list[str]:
    return item_problems(FittedItem.of({"params": params, "n_responses": n, "flags": flags, "rmsd": rmsd}), Rules())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"b": 6.0, "b_se": 1.0}, None),
        ({"b": -6.01}, "|b| = 6.01 is above 6"),
        ({"b_se": 1.01}, "SE(b) = 1.01 is above 1"),
        ({"a": 0.0}, "a = 0.00 is not positive"),
        ({"a": -0.3}, "check its key"),
        ({"a_se": None}, "its standard errors are not finite"),
        ({"b_se": None}, "its standard errors are not finite"),
        ({"a": None, "b": None}, "it has no parameters"),
        ({"b": None}, "it has no parameters"),
        ({"n": 499}, "499 responses are fewer than 500"),
        ({"rmsd": 0.06, "fit": {"rmsd_p": 0.0009}}, "its answers do not follow its curve: RMSD = 0.060 is above 0.05"),
        ({"rmsd": 0.06, "fit": {"rmsd_p": 0.0011}}, None),
        ({"rmsd": 0.049, "fit": {"rmsd_p": 0.0001}}, None),
        ({"rmsd": None, "fit": {"rmsd_p": None}}, None),
        ({"flags": ["at_bound"]}, f"at_bound: {Flag.AT_BOUND.explanation}"),
    ],
)
def test_an_item_passes_or_is_held_back_with_a_reason(changes: dict[str, Any], why: str | None) -> None:
    problems = problems_of(**SOUND | changes)
    if why is None:
        assert problems == []
    else:
        assert why in problems[0]


def test_a_scored_item_is_judged_by_the_same_limits_in_its_own_words() -> None:
    scored = SOUND | {"further": {"max_score": 3, "t0": 0.0, "t2": 0.4, "t3": 0.0}}
    assert problems_of(**scored) == []
    assert "|b| = 6.01 is above 6" in problems_of(**scored | {"b": -6.01})[0]
    [why] = problems_of(**scored | {"a": -0.3})
    assert "a = -0.30 a point (times 3 points: -0.90) is not positive" in why
    assert "key" not in why
    assert "key" not in problems_of(**scored | {"flags": ["negative_discrimination"]})[0]
    values = FittedItem.of({"params": scored, "n_responses": 9, "flags": []}).values
    assert (values.max_score, values.absent_scores) == (3, [1])
    assert str(values) == "a = 1.00 ± 0.10, a·m = 3.00 ± 0.30, b = 0.50 ± 0.10, t2 = 0.40 ± ?, scored 0 … 3"


def test_every_reason_that_holds_an_item_back_is_given() -> None:
    assert len(problems_of(**SOUND | {"a": -1.0, "b": 9.0, "b_se": 3.0, "n": 3})) == 4


def with_statistics(p: float | None, rule: str) -> Evidence:
    parallel = None if p is None else PARALLEL | {"eigenvalue": 2.0, "expected": 1.5, "rounds": 11, "p": p}
    of_set = SetStatistics.from_json(SET | {"parallel": parallel}, "fit")
    spec = a_spec(fit_statistics=FitStatistics(items={}, set=of_set))
    return evidence(
        staged=staged(spec=spec), scale=Scale("default", rules=Rules.from_settings({"second_dimension": rule}))
    )


@pytest.mark.parametrize(
    ("p", "rule", "holds"),
    [(0.0009, "hold", True), (0.0011, "hold", False), (0.0009, "warn", False), (None, "hold", False)],
)
def test_a_second_dimension_holds_the_month_where_the_scale_says_so(p: float | None, rule: str, holds: bool) -> None:
    assert set(failures(with_statistics(p, rule))) == ({"one_dimension"} if holds else set())


def test_a_second_dimension_is_warned_of_where_no_gate_tells() -> None:
    verdict = one_ability_explains_the_answers(with_statistics(0.0009, "warn"))
    assert not verdict.passed
    assert "a second dimension: the largest eigenvalue" in verdict.why
    assert one_ability_explains_the_answers(with_statistics(0.0009, "hold")).passed


def test_a_published_item_with_too_few_responses_is_named_and_an_unpublished_one_is_not() -> None:
    of_month = evidence(
        staged=staged(spec=a_spec(left_out={"new": 12, "old": 34})), in_force=frozenset({"old", "other"})
    )
    verdict = published_items_are_fitted(of_month)
    assert not verdict.passed
    assert verdict.details == {"left_out": {"old": 34}}
    assert "1 published items have too few responses to be fitted" in verdict.why
    assert published_items_are_fitted(evidence()).passed


def test_a_scale_that_demands_one_dimension_does_not_publish_a_fit_without_statistics() -> None:
    scale = Scale("default", rules=Rules.from_settings({"second_dimension": "hold"}))
    assert "materialise item_calibration" in failures(evidence(scale=scale))["one_dimension"]


# -- the months before, and the values in force ------------------------------------------------------

HISTORY = tuple(
    Constants(month_number("2026-05") - k, 1.1, 0.03, x, 0.04)
    for k, x in enumerate((-0.25, -0.15, -0.2, -0.22, -0.18, -0.2, -0.24, -0.16))
)
SHIFTED = GroupShift(items=20, shift=0.30, shift_se=0.05)
STAYED = GroupShift(items=20, shift=0.02, shift_se=0.05)


def compared(
    gate: Callable[[Evidence], Verdict],
    group_shift: GroupShift | None = STAYED,
    rule: str = "hold",
    largest: float = 0.1,
    earlier: tuple[Constants, ...] = HISTORY,
    **constants: Any,
) -> Verdict:
    fit = linked(**{"slope_se": 0.03, "intercept_se": 0.04} | constants)
    rules = Rules.from_settings({"new_misfit": rule, "max_anchor_shift": largest})
    return gate(evidence(linked=fit, group_shift=group_shift, scale=Scale("default", rules=rules), earlier=earlier))


@pytest.mark.parametrize(
    ("changes", "passed", "why"),
    [
        ({}, True, "against 8 earlier months the logarithm of the slope differs by +0.00 (limit 0.16); the intercept"),
        ({"intercept": 0.1}, False, "against 8 earlier months the intercept jumps by +0.30 (limit 0.23, p = 0.0002)"),
        ({"slope": 1.4}, False, "the logarithm of the slope jumps by +0.24 (limit 0.16, p = 7e-05)"),
        ({"intercept": 0.1, "intercept_se": 0.2}, True, "differs by +0.30"),
        (
            {"intercept": 5.0, "earlier": HISTORY[:2]},
            True,
            "2 earlier months were taken to the ledger, and 3 are needed",
        ),
        ({"intercept": 0.1, "rule": "warn"}, True, "(new_misfit=warn); against 8 earlier months the intercept jumps"),
    ],
)
def test_a_linking_that_jumps_holds_a_month(changes: dict[str, Any], passed: bool, why: str) -> None:
    verdict = compared(linking_stays_near_its_history, **changes)
    assert verdict.passed is passed
    assert why in verdict.why


@pytest.mark.parametrize(
    ("changes", "passed", "why"),
    [
        (
            {},
            True,
            "against the anchors, b of the 20 other published items moved by +0.02 as a group (SE 0.05, limit 0.15)",
        ),
        ({"group_shift": SHIFTED}, False, "(SE 0.05, limit 0.15): the anchors became easier, or the others harder"),
        ({"group_shift": replace(SHIFTED, shift=-0.30)}, False, "the anchors became harder, or the others easier"),
        ({"group_shift": replace(SHIFTED, sd=10.0)}, True, "(SE 0.05, limit 1.00)"),
        ({"group_shift": replace(SHIFTED, shift_se=0.11)}, True, "by +0.30 as a group (SE 0.11, limit 0.33)"),
        ({"group_shift": replace(SHIFTED, shift_se=0.01), "largest": 0.4}, True, "(SE 0.01, limit 0.40)"),
        ({"group_shift": SHIFTED, "rule": "warn"}, True, "(new_misfit=warn); against the anchors, b of the 20"),
        ({"group_shift": None}, False, "not known: materialise linked_item_parameters"),
        ({"group_shift": NOTHING_TO_COMPARE}, True, "nothing in force to compare: no item"),
    ],
)
def test_anchors_that_move_as_a_group_hold_a_month(changes: dict[str, Any], passed: bool, why: str) -> None:
    verdict = compared(anchors_move_with_the_others, **changes)
    assert verdict.passed is passed
    assert why in verdict.why


# -- guessing ----------------------------------------------------------------------------------------


def of_shape(shape: Shape | None, **changes: Any) -> Verdict:
    return guessing_is_in_the_model(evidence(staged=staged(spec=a_spec(shape=shape)), **changes))


GUESSED = Shape("normal", "learners guess: a 3PL raises 2 log L by 44", guessing=True)


@pytest.mark.parametrize(
    ("shape", "accepted", "passed", "why"),
    [
        (None, False, True, "not judged then: guessing is judged where em fits one population"),
        (Shape("histogram", "θ is skewed"), False, True, "θ is skewed"),
        (GUESSED, False, False, "learners guess: a 3PL raises 2 log L by 44"),
        (GUESSED, True, True, "guessing is accepted; learners guess: a 3PL raises 2 log L by 44"),
    ],
)
def test_guessing_holds_a_month_unless_somebody_accepts_it(
    shape: Shape | None, accepted: bool, passed: bool, why: str
) -> None:
    verdict = of_shape(shape, accepted=frozenset({"guessing"} if accepted else ()))
    assert (verdict.passed, verdict.why) == (passed, why)


# -- engines that a scale demands --------------------------------------------------------------------


def demanded(fit: StagedFit | None) -> Verdict:
    return demanded_engines_fitted(evidence(demanded={"pymc": fit}))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored fits, as they are read: b"sound" and b"not converged"."""
    stored = {b"sound": calibration(), b"not converged": calibration(converged=False)}
    monkeypatch.setattr(StagedFit, "decoded", lambda fit: stored.get(fit.calibration))


@pytest.mark.usefixtures("encoded")
@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (None, "pymc is demanded and has no fit of the month: enable it (IRT_ENGINES=pymc) and materialise"),
        (None, "`irt doctor` says whether it is installed"),
        ({"snapshot_hash": "older"}, "has only a fit of an earlier snapshot of the month: enable it"),
        ({"calibration": None, "error": "R stopped"}, "pymc is demanded and could not fit the month: R stopped"),
        ({"calibration": b"not converged"}, "pymc is demanded and did not converge: 500 iterations"),
        ({"error": "too few anchors"}, "pymc is demanded and could not be put on the scale: too few anchors"),
    ],
)
def test_a_demanded_engine_without_a_result_is_red(fit: dict[str, Any] | None, said: str) -> None:
    verdict = demanded(None if fit is None else staged(**{"engine": "pymc", "calibration": b"sound"} | fit))
    assert not verdict.passed
    assert said in verdict.why


@pytest.mark.usefixtures("encoded")
def test_a_demanded_engine_that_fitted_the_month_passes() -> None:
    verdict = demanded(staged(engine="pymc", calibration=b"sound"))
    assert (verdict.passed, verdict.why) == (True, "fitted by pymc too")


# -- misfit ------------------------------------------------------------------------------------------
# What the gates on misfit say of the items that answer alike, from what a fit keeps of its comparison.

ITEMS = [f"reading_{j:02d}" for j in range(7)]
NAMED = "reading_00, reading_01, reading_02, reading_03, reading_04 and 2 more answer alike beyond ability"
BOTH = {"dependence": ITEMS, "ratio": ITEMS[::-1]}


def compared_misfit(together: dict[str, list[str]] | None = None, **low: float) -> ComparedMisfit:
    """A month's `misfit`, which names no items without `together`; `low`: lower limits of growth, −.01 of the
    others."""
    growth = {
        name: {"value": low.get(name, -0.01) + 0.02, "low": low.get(name, -0.01), "high": 1.0}
        for name in ("dependence", "ratio", "rmsea", "unlikely", "random")
    }
    named = {"together": together or {key: [] for key in BOTH}, "ratio_together": ITEMS if together else []}
    return ComparedMisfit.from_json(MISFIT | {"ratio": 1.3, "growth": growth | {"chance": None}} | named, "fit")


@pytest.mark.parametrize(
    ("low", "said"),
    [
        ({"dependence": 0.3}, f"dependence between items +0.320 (at least +0.300, limit 0.05): {NAMED}"),
        (
            {"dependence": 0.3, "ratio": 0.6, "random": 0.02},
            f"limit 0.05): {NAMED}; eigenvalue ratio of all items +0.620 (at least +0.600, limit 0.4); share answering",
        ),
        ({"ratio": 0.6}, "limit 0.4): reading_06, reading_05, reading_04, reading_03, reading_02 and 2 more answer"),
    ],
)
def test_a_month_held_for_dependence_names_the_items_once(low: dict[str, float], said: str) -> None:
    verdict = growth_of_misfit(evidence(), compared_misfit(BOTH, **low))
    assert not verdict.passed
    assert said in verdict.why
    assert verdict.why.count("answer alike") == 1


@pytest.mark.parametrize("low", [{}, {"random": 0.02}])
def test_no_item_is_named_for_what_did_not_grow(low: dict[str, float]) -> None:
    assert "alike" not in growth_of_misfit(evidence(), compared_misfit(BOTH, **low)).why
    assert "alike" not in markdown(*misfit_blocks(compared_misfit(BOTH, **low)))


def test_the_table_names_all_of_them() -> None:
    table = markdown(*misfit_blocks(compared_misfit(BOTH, dependence=0.3)))
    assert f"dependence between items: {', '.join(ITEMS[:-1])} and {ITEMS[-1]} answer alike beyond ability" in table
    assert table.count("alike") == 1


def test_the_misfit_to_be_accepted_names_its_items() -> None:
    month = evidence(staged=staged(spec=StagedSpec(misfit=compared_misfit(BOTH))))
    month = replace(
        month,
        scale=replace(month.scale, rules=Rules.from_settings(month.scale.rules.changed() | {"new_misfit": "hold"})),
    )
    verdict = misfit_was_accepted(month)
    assert not verdict.passed
    assert verdict.why.endswith(f"limit 1.15: {NAMED}")


def test_a_comparison_that_knows_no_items_is_judged_and_names_none() -> None:
    old = evidence(staged=staged(spec=StagedSpec(misfit=compared_misfit(dependence=0.3))))
    old = replace(
        old, scale=replace(old.scale, rules=Rules.from_settings(old.scale.rules.changed() | {"new_misfit": "hold"}))
    )
    for judge in (misfit_has_not_grown, misfit_was_accepted):
        verdict = judge(old)
        assert not verdict.passed
        assert "alike" not in verdict.why
    assert "alike" not in markdown(*misfit_blocks(compared_misfit(dependence=0.3)))
