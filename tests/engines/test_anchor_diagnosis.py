"""Diagnosis of anchors: those that moved are named, sound ones are not, and a tie is called a tie."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.gates.evidence import Evidence
from irt_assets.gates.linking_gates import anchors_agree
from irt_assets.ledger.encoding import encode
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, Spread, StagedSpec
from irt_assets.ledger.fits import LinkedFit, StagedFit
from irt_assets.psychometrics.linking.anchor_diagnosis import Diagnosis, diagnose
from irt_assets.psychometrics.linking.linking import link
from irt_assets.responses.scales import Scale
from tests.testbed.linked_months import anchor_set, calibration, covariance, exact, ids, month


def diagnoses(n: int, seed: int, **options: object) -> list[Diagnosis]:
    rng = np.random.default_rng(seed)
    return [diagnose(*month(rng, **options)) for _ in range(n)]


def counts(found: list[Diagnosis], moved: int) -> tuple[float, float]:
    """Means over months: of the first `moved` anchors how many are named, and how many others."""
    planted = set(ids(moved))
    named = [set(d.suspects) for d in found]
    return np.mean([len(s & planted) for s in named]), np.mean([len(s - planted) for s in named])


@pytest.mark.parametrize("shift", [0.6, -0.6])
def test_twelve_of_thirty_anchors_that_moved_together_are_named(shift: float) -> None:
    right, wrong = counts(diagnoses(60, seed=1, moved=12, shift=shift), 12)
    assert right >= 10  # a month that cannot tell counts 0
    assert wrong <= 1


def test_a_few_moved_anchors_are_named() -> None:
    right, wrong = counts(diagnoses(60, seed=2, moved=5, shift=0.6), 5)
    assert right >= 4.5
    assert wrong <= 1


@pytest.mark.parametrize("k", [10, 30])
def test_where_nothing_moved_hardly_anything_is_named(k: int) -> None:
    found = diagnoses(100, seed=3, k=k)
    # p of |z| = 2.7 is 0.007 an anchor; three standard errors of a Poisson mean of 100 months
    expected = 0.007 * k
    assert counts(found, 0)[1] <= expected + 3 * np.sqrt(expected / 100)
    # a chance split that is taken for two groups: at most 1 in 100 months by the constant's choice, P(> 4) < 0.004
    assert sum(d.sentence.startswith("which anchors moved cannot") for d in found) <= 4


def test_fifteen_of_thirty_anchors_moved_cannot_be_told() -> None:
    found = diagnoses(60, seed=4, moved=15, shift=0.6)
    told = [d for d in found if d.suspects]
    assert len(told) <= 4  # 2 % in simulation: 1.2 expected, P(> 4) < 0.01
    tie = next(d for d in found if not d.suspects)
    assert tie.sentence.startswith("which anchors moved cannot be determined: of 30, ")
    assert "others agree with each other, too" in tie.sentence


def test_how_far_an_anchor_moved_is_told_in_its_own_parameter() -> None:
    new, anchors = exact(k=12)
    a, b = new.a.copy(), new.b.copy()
    b[3] += 0.5 / 1.2  # a slope of 1.2 makes it 0.5 on the anchors' scale
    a[7] *= 2
    found = diagnose(calibration(a, b, new.cov_ab), anchors)
    assert set(found.suspects) == {"item03", "item07"}
    harder, steeper = found.suspects["item03"], found.suspects["item07"]
    assert (harder.parameter, steeper.parameter) == ("b", "a")
    # the ten others are exact, so only rounding is left of the constants' error
    assert harder.delta_b == pytest.approx(0.5, abs=1e-6)
    assert steeper.delta_a == pytest.approx(anchors.a[7], abs=1e-6)
    assert "item03 (b +0.50)" in found.sentence
    assert f"item07 (a {anchors.a[7]:+.2f})" in found.sentence
    z = [abs(s.z) for s in found.suspects.values()]
    assert z == sorted(z, reverse=True)


def test_z_counts_the_error_of_the_group_it_is_measured_against() -> None:
    """One Rasch anchor against n others, all with variance v: its z is delta/√(v + v/n)."""
    k, v = 10, 0.02
    b = np.linspace(-2, 2, k)
    half = covariance(np.zeros(k), np.full(k, np.sqrt(v / 2)), np.zeros(k))
    b_new = b - 0.7
    b_new[4] += 0.8
    found = diagnose(calibration(np.ones(k), b_new, half, model="rasch"), anchor_set(np.ones(k), b, half))
    assert set(found.suspects) == {"item04"}
    assert found.suspects["item04"].delta_b == pytest.approx(0.8, abs=1e-9)
    assert found.suspects["item04"].z == pytest.approx(0.8 / np.sqrt(v + v / (k - 1)), rel=1e-9)


def test_an_error_common_to_all_items_moves_no_anchor() -> None:
    new, anchors = month(np.random.default_rng(6))
    k = new.n_items
    joint = np.zeros((2 * k, 2 * k))
    for j, block in enumerate(new.cov_ab):
        joint[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = block
    joint[1::2, 1::2] += 0.5**2
    blocks = np.stack([joint[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] for j in range(k)])
    together = calibration(new.a, new.b + 0.9, blocks, joint_ab=joint)
    moved = together.b.copy()
    moved[2] += 0.8
    assert "item02" not in diagnose(together, anchors).suspects
    # 0.8 is 1.6 of an item's whole error and 8 of its own
    assert "item02" in diagnose(calibration(new.a, moved, blocks, joint_ab=joint), anchors).suspects


def test_one_common_slope_accuses_no_anchor() -> None:
    k, b = 10, np.linspace(-2, 2, 10)
    blocks = covariance(np.full(k, 0.05), np.full(k, 0.1), np.zeros(k))
    b_new = (b - 0.5) / 1.2
    b_new[5] += 1.0
    a_old = np.full(k, 1.1)
    a_old[2] = 3.0
    found = diagnose(calibration(np.full(k, 1.32), b_new, blocks, model="1pl"), anchor_set(a_old, b, blocks))
    assert {item: s.parameter for item, s in found.suspects.items()} == {"item05": "b"}


def test_the_order_of_items_is_irrelevant() -> None:
    new, anchors = month(np.random.default_rng(5), moved=12, shift=0.6)
    order = np.random.default_rng(6).permutation(new.n_items)
    assert diagnose(new, anchors) == diagnose(new.select(order), anchors)


def test_a_month_whose_anchors_disagree_says_which_moved() -> None:
    new, anchors = month(np.random.default_rng(7), moved=12, shift=0.6)
    found = diagnose(new, anchors)
    by_name = dict(sorted(found.as_constants().items()))  # as a jsonb gives them back
    assert list(by_name) != list(found.suspects)
    linking = replace(link(new, anchors, purify=False), suspects=by_name, diagnosis=found.sentence)
    at = datetime(2026, 9, 1, tzinfo=UTC)
    staged = StagedFit(
        fit_id="fit",
        month="2026-08",
        scale_id="math",
        engine="em",
        snapshot_hash="hash",
        calibration=encode(new),
        error=None,
        error_kind=None,
        spec=StagedSpec(),
        code_version="code",
        fitted_at=at,
    )
    spec = LinkedSpec(linking_constants=LinkingConstants.of(linking), latent=Spread(mean=0.0, sd=1.0))
    linked = LinkedFit("fit", "hash", "data", "anchors", True, spec, {})
    judged = anchors_agree(
        Evidence(month="2026-08", scale=Scale("math"), staged=staged, calibration=new, linked=linked)
    )
    assert not judged.passed
    assert judged.why.startswith(f"{len(found.suspects)} of 30 anchors {found.sentence}; 30 anchors disagree (Q = ")
    assert judged.details["suspects"] == found.as_constants()


def test_too_few_anchors_are_not_diagnosed() -> None:
    new, anchors = exact(k=4)
    assert diagnose(new, anchors).sentence == "4 anchors are too few to find out which of them moved"
    stranger = replace(new, item_ids=tuple(f"other{j}" for j in range(4)))
    assert diagnose(stranger, anchors).suspects == {}


def test_a_diagnosis_changes_no_constant_and_is_stored_as_plain_json() -> None:
    new, anchors = month(np.random.default_rng(7), moved=12, shift=0.6)
    linking = link(new, anchors)
    found = diagnose(new, anchors)
    told = replace(linking, suspects=found.as_constants(), diagnosis=found.sentence)
    stored = told.as_constants()
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert set(stored["suspects"][next(iter(stored["suspects"]))]) == {"delta_b", "delta_a", "z", "parameter"}
    assert {k: v for k, v in stored.items() if k not in ("suspects", "diagnosis")} == {
        k: v for k, v in linking.as_constants().items() if k not in ("suspects", "diagnosis")
    }
    assert len(found.suspects) > 10
    assert all(item in found.sentence for item in found.suspects)
