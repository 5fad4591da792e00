"""DIF is found through fits of answers, and groups of unlike ability are not called unlike in their items.

A cheap part of benchmarks/bench_dif.py, whose tables are in docs/explanation/dif.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.dif.analysis import Dif, analyse_dif
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = pytest.mark.ci

ITEMS = 20


def world(rng: np.random.Generator, groups: list[tuple[int, float, float]], dif: np.ndarray) -> Dif:
    """Groups of n learners N(mean, sd²), the first a learner larger; items are harder by `dif` (J,) for the last."""
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    rows, values = [], []
    for g, (n, mean, sd) in enumerate(groups):
        theta = rng.normal(mean, sd, (n + (g == 0), 1))
        rows.append(rng.random((len(theta), ITEMS)) < expit(a * (theta - b - dif * (g == len(groups) - 1))))
        values += [f"group{g}"] * len(theta)
    responses = Responses.from_wide(np.vstack(rows).astype(float))
    return analyse_dif("group", responses, values, forms=["form"] * responses.n_responses, threads=1)


def test_the_planted_items_of_the_reference_are_found_and_nothing_else(shared: Path) -> None:
    """d05: b + 0.6; d12: a·0.6, b + 0.3; focal N(0.5, 1.1²). Means and SDs within three of their standard errors, which
    are about 0.05. mirt's likelihood ratio tests name the same two."""
    rows = list(csv.reader((shared / "reference" / "dif2000x20.csv").read_text().splitlines()))
    values = [row[0] for row in rows[1:]]
    responses = Responses.from_wide(np.array([row[1:] for row in rows[1:]], dtype=float), rows[0][1:])
    found = analyse_dif("group", responses, values, forms=["form"] * responses.n_responses, threads=1)
    assert found.wald.flagged == ("d05", "d12")
    j, reference = responses.item_ids.index("d05"), found.wald.groups.index("ref")
    assert reference == 1, "groups of one size are ordered by name"
    assert -found.wald.mean[1] / found.wald.sd[1] == pytest.approx(0.5, abs=0.15)
    assert 1 / found.wald.sd[1] == pytest.approx(1.1, abs=0.15)
    assert found.wald.shift[0, j] > 0, "it is easier for ref"
    within = found.within_forms
    beyond_a = [
        i for i, m in zip(found.wald.item_ids, within.mantel_haenszel[0], strict=True) if m and m.ets_class != "A"
    ]
    certain = [i for i, x in zip(found.wald.item_ids, within.logistic[0], strict=True) if x and x.p < 0.001]
    assert beyond_a == certain == ["d05", "d12"]


@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_groups_one_sd_apart_have_p_below_5_percent_in_a_twentieth_of_sound_items() -> None:
    """1200 tests have a standard error of 0.63 %, items of a month taken as independent; 2.5 to 7.5 % is four of them.
    40 means at 250 learners have a standard error of 0.02."""
    rng = np.random.default_rng(11)
    p, means = [], []
    for _ in range(60):
        wald = world(rng, [(250, 0.0, 1.0), (250, -1.0, 1.0)], np.zeros(ITEMS)).wald
        p.append(wald.p)
        means.append(wald.mean[1])
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.075
    assert np.mean(means) == pytest.approx(-1.0, abs=0.09)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["1pl", "3pl"])
def test_guessing_and_common_slopes_are_no_dif(model: Model) -> None:
    """600 tests, groups 1 SD apart: three standard errors of a twentieth are .027."""
    rng, p = np.random.default_rng(13), []
    for _ in range(20 if model == "1pl" else 10):
        items = ITEMS if model == "1pl" else 2 * ITEMS
        a, b = np.exp(rng.normal(0, 0.3, items)) if model == "3pl" else np.ones(items), rng.normal(0, 1, items)
        theta, low = rng.normal(0, 1, (2400, 1)) - (np.arange(2400) >= 1200)[:, None], 0.2 * (model == "3pl")
        answers = rng.random((2400, items)) < low + (1 - low) * expit(a * (theta - b))
        groups = np.repeat(["g0", "g1"], 1200).tolist()
        wald = analyse_dif("group", Responses.from_wide(answers.astype(float)), groups, model=model, threads=1).wald
        p.append(wald.p)
    assert np.nanmean(np.concatenate(p) < 0.05) == pytest.approx(0.05, abs=0.027)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    ("sizes", "mean", "moved"), [((1000, 1000), -1.0, 0), ((1500, 300), -1.0, 3), ((400, 400), 1.0, 3)]
)
def test_an_interval_of_a_difference_covers_it(sizes: tuple[int, int], mean: float, moved: int) -> None:
    """600 items a design: a share of 0.95 has a standard error of 0.009, and three of them are allowed."""
    rng = np.random.default_rng(12)
    inside, scores = [], []
    for _ in range(30):
        a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
        dif = 0.6 * rng.choice([-1, 1], ITEMS) * (np.arange(ITEMS) < moved)
        answers = []
        for n, at, harder in zip(sizes, (0.0, mean), (0.0, dif), strict=True):
            theta = rng.normal(at, 1, (n, 1))
            answers.append(rng.random((n, ITEMS)) < expit(a * (theta - b - harder)))
        responses = Responses.from_wide(np.vstack(answers).astype(float))
        found = analyse_dif("group", responses, np.repeat(["0", "1"], sizes).tolist(), threads=1).wald
        stated = np.isfinite(found.se[0, :, 1])
        inside += (np.abs(found.delta[0, :, 1] - dif) < 1.96 * found.se[0, :, 1])[stated].tolist()
        scores += (np.abs(found.shift[0]) < 1.96 * found.shift_se[0])[dif == 0].tolist()
    assert np.mean(inside) == pytest.approx(0.95, abs=0.027)
    assert np.mean(scores) == pytest.approx(0.95, abs=0.03)
