"""Simulated data sets: fits recover the truth, calls repeat themselves, and tables give the same responses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import irt_psychometrics as irt

ONE = {
    "wrong_key": irt.datasets.wrong_key,
    "rating_scale": irt.datasets.rating_scale,
    "guessing": irt.datasets.guessing,
}


@pytest.mark.parametrize("name", ONE)
def test_dataset_is_the_same_at_each_call_and_in_its_table(name: str) -> None:
    data, again = ONE[name](), ONE[name]()
    assert data.responses == again.responses
    assert (data.theta == again.theta).all()
    assert ONE[name](random_state=9).responses != data.responses
    read = irt.Responses.from_wide(
        data.to_frame("polars"),
        person="person",
        key=data.key or None,
        max_score=None if data.key else int(data.responses.score.max()),
    )
    assert read == data.responses
    assert data.truth.item_ids == data.responses.item_ids


@pytest.mark.parametrize(("name", "model"), [("rating_scale", "gpcm"), ("guessing", "3pl")])
def test_fit_recovers_the_true_curves_and_abilities(name: str, model: str) -> None:
    """Curves of 600 or 2,000 persons have an error of about .02; θ correlates with its EAP as the reliability says."""
    data = ONE[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", irt.ItemWarning)  # c of an easy item is its prior's
        f = irt.fit(data.responses, model)
    theta = np.linspace(-2, 2, 9)
    off = f.calibration.curves.probability(theta) - data.truth.curves.probability(theta)
    assert np.sqrt(np.mean(off**2)) < 0.03
    correlation = np.corrcoef(f.score(data.responses).theta, data.theta)[0, 1]
    assert correlation**2 == pytest.approx(f.reliability, abs=0.03)


def test_wrong_key_is_the_only_wrong_entry_and_has_a_negative_slope() -> None:
    data = irt.datasets.wrong_key()
    assert [item for item in data.key if data.key[item] != data.true_key[item]] == ["q07"]
    with pytest.warns(irt.ItemWarning, match=r"^q07: .*check the answer key"):
        irt.fit(data.responses)
    rekeyed = irt.Responses.from_wide(data.columns, person="person", key=data.true_key)
    off = irt.fit(rekeyed).items.b - data.truth.b
    assert np.abs(off / irt.fit(rekeyed).items.b_se).max() < 4


def test_link_of_the_two_forms_recovers_the_true_scale() -> None:
    old, new = irt.datasets.two_forms()
    link = irt.link(irt.fit(new.responses), irt.fit(old.responses))
    assert abs(link.slope - 1.1) < 3 * link.linking.slope_se
    assert abs(link.intercept - 0.3) < 3 * link.linking.intercept_se
