"""All statistics of a fit at once: sound sets pass, planted faults are named, numbers repeat, samples are told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irt_assets.ledger.fit_rows import statistics_spec
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit import fit_summary
from irt_assets.psychometrics.fit.fit_summary import summarise
from irt_assets.psychometrics.fit.item_fit import item_fit

pytestmark = pytest.mark.ci


def answers(rng, persons=1500, items=24, *, second=0.0):
    """2PL answers; `second`: loading of the last third of the items on an ability of its own."""
    a, b = np.exp(rng.normal(0, 0.25, items)), rng.normal(0, 1, items)
    theta, other = rng.normal(size=(2, persons, 1))
    extra = second * other * (np.arange(items) >= 2 * items // 3)
    return (rng.random((persons, items)) < 1 / (1 + np.exp(-a * (theta - b) - extra))).astype(float)


def test_a_sound_set_has_no_misfit_and_its_numbers_are_those_of_the_single_statistics() -> None:
    responses = Responses.from_wide(answers(np.random.default_rng(1)))
    fit = fit_em(responses)
    found = summarise(responses, fit)
    assert found.whole["parallel"]["p"] > 0.001
    assert found.whole["q3"] == {
        "pairs": 276,
        "mean": found.whole["q3"]["mean"],
        "flagged": 0,
        "clusters": [],
        "largest": [],
    }
    assert found.whole["lz"]["learners"] == 1500
    assert 0.03 < found.whole["lz"]["unlikely"] < 0.07  # 5 % of 1500: 0.006 is one standard error
    assert found.whole["m2"][0]["items"] == 24
    assert found.whole["m2"][0]["p"] > 0.001
    assert 0.7 < found.whole["reliability"] < 0.9
    assert np.nanmin(found.items["rmsd_p"]) > 1e-4
    np.testing.assert_array_equal(found.items["infit"], item_fit(responses, fit).infit)


def test_a_second_ability_in_a_third_of_the_items_is_seen() -> None:
    responses = Responses.from_wide(answers(np.random.default_rng(2), second=1.0))
    found = summarise(responses, fit_em(responses)).whole
    assert found["parallel"]["p"] < 1e-6
    assert found["m2"][0]["rmsea"] > 0.02


def test_an_item_that_copies_another_is_named_as_a_pair() -> None:
    x = answers(np.random.default_rng(3))
    copied = np.where(np.random.default_rng(4).random(1500) < 0.8, x[:, 0], x[:, 1])
    responses = Responses.from_wide(np.column_stack([x, copied]))
    found = summarise(responses, fit_em(responses)).whole["q3"]
    assert found["largest"][0]["items"] == ["i1", "i25"]
    assert all("i25" in pair["items"] for pair in found["largest"])


def test_from_a_large_set_learners_are_drawn_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_summary, "SET_RESPONSES", 12_000)
    monkeypatch.setattr(fit_summary, "PARALLEL_RESPONSES", 6_000)
    responses = Responses.from_wide(answers(np.random.default_rng(6)))
    fit = fit_em(responses)
    first, again = summarise(responses, fit), summarise(responses, fit)
    assert first.whole["learners"] == {"items": 1500, "set": 500, "parallel": 250}
    assert first.whole == again.whole


def test_where_no_two_items_were_seen_together_dimensions_are_not_spoken_of() -> None:
    x = answers(np.random.default_rng(7), persons=150)
    responses = Responses.from_wide(x)
    found = summarise(responses, fit_em(responses)).whole
    assert found["parallel"] is None
    assert found["m2"] == []


def test_groups_of_a_fit_are_judged_each_by_its_own_distribution() -> None:
    """Under one normal distribution the two groups' items would misfit."""
    rng = np.random.default_rng(8)
    a, b = np.exp(rng.normal(0, 0.2, 20)), rng.normal(0, 1.2, 20)
    groups = ["low"] * 1000 + ["top"] * 1000
    theta = rng.normal(size=2000) * 0.5 + np.where(np.array(groups) == "top", 1.5, -1.5)
    x = (rng.random((2000, 20)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(float)
    responses = Responses.from_wide(x)
    found = summarise(responses, fit_em(responses, groups=groups), groups=groups)
    assert np.nanmin(found.items["rmsd_p"]) > 1e-4
    assert found.whole["parallel"]["p"] > 0.001


def test_statistics_survive_json_with_nulls_for_what_is_missing() -> None:
    x = np.column_stack([answers(np.random.default_rng(9), persons=400), np.ones(400)])
    responses = Responses.from_wide(x)
    spec = statistics_spec(summarise(responses, fit_em(responses)))
    again = json.loads(json.dumps(spec.as_json(), allow_nan=False))
    assert again["items"]["rmsd"][-1] is None
    assert len(again["items"]["rmsd"]) == 25
