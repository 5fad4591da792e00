"""Evidence against keys: Ville's bound for right keys, and wrong keys named after few answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from irt_psychometrics.classical import KeyEvidence
from irt_psychometrics.core.errors import PsychometricsError


def answers(
    rng: np.random.Generator, n: int, slopes: list[float], intercepts: list[float]
) -> tuple[list[str], np.ndarray]:
    """Choices of a nominal model and standardised rest scores of reliability .85."""
    theta = rng.normal(size=n)
    chosen = (np.outer(theta, slopes) + intercepts + rng.gumbel(size=(n, len(slopes)))).argmax(axis=1)
    rest = np.sqrt(0.85) * theta + np.sqrt(0.15) * rng.normal(size=n)
    return np.array(list("ABCDE"))[chosen].tolist(), np.round(rest * 6) / 6


def evidence(options: list[str], rest: np.ndarray, key: str = "A", seed: int = 1) -> KeyEvidence:
    return KeyEvidence.start([key], seed).update(options, rest)


@pytest.mark.parametrize(
    ("slopes", "intercepts"),
    [
        pytest.param([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], id="nobody knows"),
        pytest.param([1.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], id="two right options"),
        pytest.param([1.2, 0.6, 0.0, 0.0], [-1.5, 1.0, 0.0, 0.0], id="hard, attractive distractor"),
    ],
)
def test_right_keys_reach_evidence_as_rarely_as_ville_says(slopes: list[float], intercepts: list[float]) -> None:
    """P(E ever ≥ 10) ≤ .1: of 1,000 item-years at most 100 + 3.1 SD."""
    rng = np.random.default_rng(3)
    most = [evidence(*answers(rng, 200, slopes, intercepts), seed=k).e_value for k in range(1_000)]
    assert np.mean(np.array(most) >= 10) <= 0.1 + 3.1 * np.sqrt(0.09 / 1_000)


def test_capital_of_exchangeable_answers_has_the_mean_one() -> None:
    """A martingale keeps its mean. Two bins and few answers leave many ties."""
    rng = np.random.default_rng(4)
    capital = []
    for k in range(4_000):
        found = evidence(["A", "B", *rng.choice(["A", "B"], 28)], rng.choice([-1.0, 1.0], 30, p=[0.2, 0.8]), seed=k)
        capital.append(np.exp(found.log_capital[0]).mean())
    assert np.mean(capital) == pytest.approx(1, abs=4 * np.std(capital) / np.sqrt(4_000))
    assert np.std(capital) > 0.2


@pytest.mark.parametrize(("slope", "at_most"), [(1.63, 100), (0.75, 300)])
def test_wrong_key_is_named_at_most_half_later_than_with_known_distributions(slope: float, at_most: int) -> None:
    """Wald's test of the known distributions needs ln 1,000 / 0.098 = 70, and 213, answers on average (r = .5, .3)."""
    rng = np.random.default_rng(5)
    intercepts = [np.log(0.25), {1.63: np.log(0.40), 0.75: np.log(0.47)}[slope], np.log(0.15), np.log(0.1)]
    named = [evidence(*answers(rng, at_most, [0.0, slope, 0.0, 0.0], intercepts), seed=k) for k in range(101)]
    assert np.median([found.e_value for found in named]) >= 1_000
    assert {found.option for found in named if found.e_value >= 1_000} == {"B"}


def test_added_parts_give_the_same_evidence_as_all_answers_at_once() -> None:
    rng = np.random.default_rng(6)
    options, rest = answers(rng, 1_500, [0.0, 0.8, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, -1.0, -5.0])
    found, start = KeyEvidence.start(["A"], 9), 0
    for size in (0, 1, 1, 3, 25, 1, 4, 1_100, 400):
        part = slice(start, start + size)
        found = KeyEvidence.from_json(json.dumps(json.loads(found.to_json()))).update(options[part], rest[part])
        start += size
    assert found == evidence(options, rest, seed=9)
    assert len(found.to_json()) < 4_000


def test_first_bet_is_the_likelihood_ratio_of_a_biserial_correlation() -> None:
    """Two answers, by hand: u of the second among both, p = 1/3 after one answer with the key."""
    found = KeyEvidence.start(["A"], 2).update(["A", "B"], [-1.0, 1.0])
    ties = np.random.Generator(np.random.PCG64(2)).random(2)
    rho = np.array([0.25, 0.45, 0.65]) * np.sqrt(1 / 2)
    eta = (norm.ppf(1 / 3) + rho * norm.ppf((1 + ties[1]) / 2)) / np.sqrt(1 - rho**2)
    np.testing.assert_allclose(np.exp(found.log_capital[0]), norm.cdf(eta) / (1 / 3), rtol=1e-12)


def test_several_keys_count_as_one_and_answers_without_option_or_rest_do_not_count() -> None:
    rng = np.random.default_rng(7)
    options, rest = answers(rng, 300, [1.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    pooled = KeyEvidence.start({"A", "B"}, 1).update(options, rest)
    renamed = evidence(["A" if option != "C" else "C" for option in options], rest)
    assert pooled == replace(renamed, keys=("A", "B"))
    holes = KeyEvidence.start({"A", "B"}, 1).update([None, *options, "C"], [0.0, *rest, np.nan])
    assert holes == pooled
    assert holes.to_frame("pandas")["n"].sum() == 300


def test_evidence_is_one_before_the_thirtieth_answer() -> None:
    found = evidence(["A", "B"] * 14 + ["A"], np.array([-1.0, 1.0] * 14 + [-1.0]))
    assert (found.n, found.e_value, found.option) == (29, 1.0, None)
    more = found.update(["B"], [1.0])
    assert more.option == "B"
    assert more.e_value > 10


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(PsychometricsError, match="name at least one key"):
        KeyEvidence.start([], 1)
    with pytest.raises(PsychometricsError, match="rest must have 2 entries"):
        KeyEvidence.start(["A"], 1).update(["A", "B"], [0.0])


def test_sat12_has_some_evidence_against_its_wrong_key_and_no_item_is_named(shared):
    """Option 3 of item 32 (266 learners, r = .20) is hardly above the key 5 (97, r = .04): Mann–Whitney's p is .07."""
    chosen = np.genfromtxt(shared / "data" / "sat12_raw_choices.csv", delimiter=",", skip_header=1, dtype=int)[:, 1:]
    keys = np.genfromtxt(shared / "data" / "sat12_key.csv", delimiter=",", skip_header=1, dtype=int, usecols=1)
    scores = chosen == keys
    rest = scores.sum(axis=1)[:, None] - scores
    found = {
        j + 1: evidence(np.where(chosen[:, j] < 8, chosen[:, j].astype(str), None).tolist(), z, str(key), seed=j)
        for j, (key, z) in enumerate(zip(keys, ((rest - rest.mean(axis=0)) / rest.std(axis=0)).T, strict=True))
    }
    assert (found[32].n, found[32].option) == (593, "3")
    assert 5 < found[32].e_value < 10
    assert max(one.e_value for one in found.values()) < 20
