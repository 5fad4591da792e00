"""What the gates on misfit say of the items that answer alike, from what a fit keeps of its comparison."""

from __future__ import annotations

from dataclasses import replace

import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.calibration.shown import misfit_blocks
from irt_assets.gates.model_gates import growth_of_misfit, misfit_has_not_grown, misfit_was_accepted
from irt_assets.ledger.fit_spec import ComparedMisfit, StagedSpec
from irt_assets.psychometrics.eligibility.rules import Rules
from tests.helpers.fit_specs import MISFIT
from tests.unit.test_gates import evidence, staged

ITEMS = [f"reading_{j:02d}" for j in range(7)]
NAMED = "reading_00, reading_01, reading_02, reading_03, reading_04 and 2 more answer alike beyond ability"
BOTH = {"dependence": ITEMS, "ratio": ITEMS[::-1]}


def compared(together: dict[str, list[str]] | None = None, **low: float) -> ComparedMisfit:
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
    verdict = growth_of_misfit(evidence(), compared(BOTH, **low))
    assert not verdict.passed
    assert said in verdict.why
    assert verdict.why.count("answer alike") == 1


@pytest.mark.parametrize("low", [{}, {"random": 0.02}])
def test_no_item_is_named_for_what_did_not_grow(low: dict[str, float]) -> None:
    assert "alike" not in growth_of_misfit(evidence(), compared(BOTH, **low)).why
    assert "alike" not in markdown(*misfit_blocks(compared(BOTH, **low)))


def test_the_table_names_all_of_them() -> None:
    table = markdown(*misfit_blocks(compared(BOTH, dependence=0.3)))
    assert f"dependence between items: {', '.join(ITEMS[:-1])} and {ITEMS[-1]} answer alike beyond ability" in table
    assert table.count("alike") == 1


def test_the_misfit_to_be_accepted_names_its_items() -> None:
    month = evidence(staged=staged(spec=StagedSpec(misfit=compared(BOTH))))
    month = replace(
        month,
        scale=replace(month.scale, rules=Rules.from_settings(month.scale.rules.changed() | {"new_misfit": "hold"})),
    )
    verdict = misfit_was_accepted(month)
    assert not verdict.passed
    assert verdict.why.endswith(f"limit 1.15: {NAMED}")


def test_a_comparison_that_knows_no_items_is_judged_and_names_none() -> None:
    old = evidence(staged=staged(spec=StagedSpec(misfit=compared(dependence=0.3))))
    old = replace(
        old, scale=replace(old.scale, rules=Rules.from_settings(old.scale.rules.changed() | {"new_misfit": "hold"}))
    )
    for judge in (misfit_has_not_grown, misfit_was_accepted):
        verdict = judge(old)
        assert not verdict.passed
        assert "alike" not in verdict.why
    assert "alike" not in markdown(*misfit_blocks(compared(dependence=0.3)))
