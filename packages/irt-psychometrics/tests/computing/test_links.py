"""Links, drift and DIF of the notebook interface against R mirt and planted changes."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.linking import LinkingError

REFERENCE = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[5] / "shared")) / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference values are not here")
K = 14
BANK = irt.ItemParameters.from_frame(
    {"item": [f"q{j:02d}" for j in range(K)], "a": np.tile([0.9, 1.3], 7), "b": np.linspace(-1.5, 1.5, K)}
)


def answers(seed: int, mean: float = 0.0, b: np.ndarray | None = None, n: int = 3000) -> irt.Responses:
    changed = BANK if b is None else irt.ItemParameters.from_frame({"item": BANK.item_ids, "a": BANK.a, "b": b})
    rng = np.random.default_rng(seed)
    return irt.simulate_responses(changed, rng.normal(mean, 1, n), random_state=rng)


@needs_reference
@pytest.mark.parametrize("method", ["stocking-lord", "haebara"])
def test_links_without_errors_agree_with_the_reference(method: str) -> None:
    """Classical criteria: the old side has no errors, so anchors are not weighted. Because of the tolerance of its
    fits, the reference's constants are accurate to 1e-3."""
    known = json.loads((REFERENCE / "mirt_reference.json").read_text())["linking"]["constants"][
        method.replace("-", "_")
    ]
    old, new = (irt.fit(irt.Responses.from_wide(pd.read_csv(REFERENCE / f"link_form{form}.csv"))) for form in "AB")
    bank = irt.ItemParameters.from_frame(old.items.to_frame()[["item", "a", "b"]])
    with pytest.warns(irt.LinkWarning, match="10 anchors have no errors on the old side"):
        found = irt.link(new, bank, method=method)  # type: ignore[arg-type]
    assert (found.slope, found.intercept) == pytest.approx((known["A"], known["B"]), abs=1e-3)


def test_linked_fit_is_on_the_old_scale() -> None:
    old, new = irt.fit(answers(1)), irt.fit(answers(2, mean=0.7))
    found = irt.link(new, old)
    assert found.slope == pytest.approx(1, abs=4 * found.linking.slope_se)
    assert found.intercept == pytest.approx(0.7, abs=4 * found.linking.intercept_se)
    assert found.fit.calibration.latent_mean == pytest.approx(0.7, abs=0.15)
    scores = found.fit.score(answers(2, mean=0.7)).theta
    assert scores == pytest.approx(found.slope * new.score(answers(2, mean=0.7)).theta + found.intercept, abs=1e-6)


def test_moved_items_are_flagged_and_excluded_from_the_link() -> None:
    b = BANK.b.copy()
    b[3] += 0.8
    b[9] -= 0.8
    old, new = irt.fit(answers(3)), irt.fit(answers(4, mean=0.4, b=b))
    with pytest.warns(irt.LinkWarning, match=r"moved against the others: .*q03 \(b \+0"):
        link = irt.link(new, old)
    assert set(link.linking.anchors_dropped) == {"q03", "q09"}
    found = irt.find_drift(new, old)
    assert set(found.flagged) == {"q03", "q09"}
    at = found.item_ids.index("q03")
    assert found.delta_b[at] == pytest.approx(0.8, abs=4 * found.delta_b_se[at])
    only = irt.find_drift(new, old, anchors=[f"q{j:02d}" for j in (0, 1, 2, 5, 6)])
    assert set(only.flagged) == {"q03", "q09"}
    assert len(only.item_ids) == K


def test_items_that_did_not_move_are_rarely_flagged() -> None:
    """At most one of 3 × 14 sound items is flagged, with a false discovery rate of 5 % and only above wABC = .05."""
    flagged = [irt.find_drift(irt.fit(answers(s, mean=0.3)), irt.fit(answers(s + 1))).flagged for s in (20, 30, 40)]
    assert sum(map(len, flagged)) <= 1


def test_links_without_enough_common_items_are_refused_with_the_reasons() -> None:
    new = irt.fit(answers(5, n=600))
    other = irt.ItemParameters.from_frame({"item": ["z1", "z2"], "a": [1, 1], "b": [0, 1]})
    with pytest.raises(LinkingError, match=r"no item in common .* Are the names written alike"):
        irt.link(new, other)
    with pytest.raises(LinkingError, match=r"2 of 2 common items can serve as anchors, 3 are needed"):
        irt.link(new, new, anchors=["q00", "q01"])
    with pytest.raises(irt.PsychometricsError, match="the new side of a link must be a Fit"):
        irt.link(BANK, new)  # type: ignore[arg-type]


@needs_reference
def test_planted_dif_is_flagged_relative_to_the_chosen_reference() -> None:
    """d05: b + .6; d12: a·.6, b + .3 in the focal group."""
    data = pd.read_csv(REFERENCE / "dif2000x20.csv")
    x = irt.Responses.from_wide(data.drop(columns="group"))
    found = irt.find_dif(x, data["group"], reference="ref")
    assert found.flagged == ("d05", "d12")
    assert (found.reference, set(found.groups)) == ("ref", {"focal"})
    at = found.item_ids.index("d05")
    assert found.delta_b[at] == pytest.approx(0.6, abs=4 * found.delta_b_se[at])
    assert found.mh_class[at] in ("B", "C")
    turned = irt.find_dif(x, data["group"], reference="focal")
    assert turned.delta_b[at] < 0


def test_dif_that_cannot_be_tested_is_refused_with_the_reason() -> None:
    x = answers(7, n=500)
    with pytest.raises(irt.PsychometricsError, match=r"few: 50 learners, 200 are needed"):
        irt.find_dif(x, ["few"] * 50 + ["many"] * 450)
    with pytest.raises(irt.PsychometricsError, match="groups must be 500 labels"):
        irt.find_dif(x, ["a"])
    with pytest.raises(irt.PsychometricsError, match=r"reference group 'c'; groups: a, b"):
        irt.find_dif(x, ["a", "b"] * 250, reference="c")
