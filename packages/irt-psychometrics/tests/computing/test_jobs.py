"""Jobs of a new user, each in at most two lines from fits or responses."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics import PsychometricsError, plots
from irt_psychometrics.adaptive import AdaptiveTest, ItemPosterior, SelectionPlan, simulate_tests
from irt_psychometrics.assembly import FormDesign, assemble
from irt_psychometrics.equating import ScoreCounts, equate, equate_by_items
from irt_psychometrics.information import Information
from irt_psychometrics.scoring import Classification, ScoreScale, ScoreTable

NAMES = [f"q{k:02}" for k in range(30)]
SCALE = ScoreScale(100, 500)
SCORE = np.arange(31)


@cache
def rasch() -> tuple[irt.Responses, irt.Fit]:
    """Thirty items and 2,000 persons whose SD is 1.79, so that the population of the fit is far from N(0, 1)."""
    rng = np.random.default_rng(1)
    bank = irt.ItemParameters.from_frame({"item": NAMES, "a": [1.0] * 30, "b": rng.normal(0, 1, 30)})
    x = irt.simulate_responses(bank, rng.normal(0, 1.79, 2000), random_state=1)
    return x, irt.fit(x, "rasch")


@cache
def two_forms() -> tuple[irt.Fit, irt.Fit]:
    """Fits of a new and an old form with ten items in common."""
    rng = np.random.default_rng(2)
    bank = irt.ItemParameters.from_frame({"item": NAMES, "a": rng.lognormal(0, 0.2, 30), "b": rng.normal(0, 1, 30)})
    forms = bank.select(NAMES[10:]), bank.select(NAMES[:20])
    people = rng.normal(0.3, 1.1, 1500), rng.normal(0, 1, 1500)
    x, y = (irt.simulate_responses(form, at, random_state=3) for form, at in zip(forms, people, strict=True))
    return irt.fit(x), irt.fit(y)


@cache
def grouped() -> irt.Fit:
    rng, (_, fit) = np.random.default_rng(4), rasch()
    theta = np.append(rng.normal(0, 1, 600), rng.normal(1, 0.7, 600))
    return irt.fit(irt.simulate_responses(fit, theta, random_state=4), groups=["a"] * 600 + ["b"] * 600)


def score_shares(fit: irt.Fit, theta: np.ndarray) -> np.ndarray:
    """P(raw score | θ), shape (31, Q), as coefficients of the product of (1 − p + p·z) over the items."""
    b, shares = fit.items.b, np.zeros((31, theta.size))
    shares[0] = 1
    for p in 1 / (1 + np.exp(b[:, None] - theta)):
        shares[1:] = shares[1:] * (1 - p) + shares[:-1] * p
        shares[0] *= 1 - p
    return shares


def eap_by_hand(fit: irt.Fit, mean: float, sd: float) -> np.ndarray:
    theta = mean + sd * np.linspace(-8, 8, 4001)
    joint = score_shares(fit, theta) * np.exp(-0.5 * ((theta - mean) / sd) ** 2)
    return joint @ theta / joint.sum(axis=1)


def test_score_table_of_a_fit_has_the_population_of_the_fit() -> None:
    x, fit = rasch()
    population = fit.calibration.latent[0]
    assert population.sd == pytest.approx(1.79, abs=0.1)
    table, standard = ScoreTable.from_items(fit, SCALE, mark=650), ScoreTable.from_items(fit, SCALE, mean=0, sd=1)
    np.testing.assert_allclose(table.theta, eap_by_hand(fit, population.mean, population.sd), atol=1e-5)
    np.testing.assert_allclose(standard.theta, eap_by_hand(fit, 0, 1), atol=1e-5)
    assert table.theta[27] - standard.theta[27] > 0.3
    raw = np.bincount(x.person, x.score, x.n_persons).astype(int)
    np.testing.assert_allclose(fit.score(x).theta, table.theta[raw], atol=1e-6)  # sums are sufficient in a Rasch model
    passes = [made.passes[raw].mean() for made in (table, ScoreTable.from_items(fit, SCALE, mean=0, sd=1, mark=650))]
    true_rate = (100 * fit.score(x).theta + 500 >= 650).mean()
    assert passes[0] == true_rate > passes[1] + 0.02


def test_classification_of_a_fit_has_the_population_of_the_fit() -> None:
    _, fit = rasch()
    population = fit.calibration.latent[0]
    theta = population.mean + population.sd * np.linspace(-8, 8, 40_001)
    weight = np.exp(-0.5 * ((theta - population.mean) / population.sd) ** 2)
    shares = score_shares(fit, theta)
    passes, should = shares[18:].sum(axis=0), SCORE @ shares >= 18
    expected = weight @ np.where(should, passes, 1 - passes) / weight.sum()
    assert Classification.from_items(fit, [18]).accuracy[0] == pytest.approx(expected, abs=1e-4)
    assert abs(Classification.from_items(fit, [18], mean=0, sd=1).accuracy[0] - expected) > 0.03


def test_tables_integrate_over_the_histogram_of_a_fit() -> None:
    """Half of the persons are near −1.5 and half near 1.5, which no normal distribution resembles."""
    rng, (_, known) = np.random.default_rng(5), rasch()
    theta = np.append(rng.normal(-1.5, 0.3, 1500), rng.normal(1.5, 0.3, 1500))
    x = irt.simulate_responses(known, theta, random_state=5)
    fit = irt.fit(x, "rasch", latent="histogram")
    population = fit.calibration.latent[0]
    nodes, weights = np.array(population.nodes), np.array(population.weights)
    joint = score_shares(fit, nodes) * weights
    table = ScoreTable.from_items(fit, SCALE)
    np.testing.assert_allclose(table.theta, joint @ nodes / joint.sum(axis=1), atol=1e-9)
    raw = np.bincount(x.person, x.score, x.n_persons).astype(int)
    np.testing.assert_allclose(fit.score(x).theta, table.theta[raw], atol=0.01)  # narrow posteriors have more nodes
    few = Classification.from_items(fit, [15]).accuracy[0]  # hardly anybody is near the cut
    assert few > Classification.from_items(fit, [15], mean=population.mean, sd=population.sd).accuracy[0] + 0.02


def test_forms_are_equated_by_items_from_two_fits() -> None:
    new, old = two_forms()
    found = equate_by_items(new, old, link=irt.link(new, old))
    link = irt.link(new, old)
    by_hand = {"slope": link.slope, "intercept": link.intercept, "joint_cov": link.joint_cov(new, old)}
    assert found == equate_by_items(new.calibration.items, old.calibration.items, **by_hand)
    assert np.isfinite(found.se).all()
    np.testing.assert_allclose(equate_by_items(link, old).equated, found.equated, atol=1e-8)
    np.testing.assert_allclose(equate_by_items(link.fit, old).equated, found.equated, atol=1e-8)


def test_observed_scores_are_equated_in_the_populations_of_the_fits() -> None:
    """Equal forms have equal scores in any population; a link to another scale changes nothing."""
    _, fit = rasch()
    np.testing.assert_allclose(equate_by_items(fit, fit, method="observed-score").equated, SCORE, atol=1e-8)
    new, old = two_forms()
    link = irt.link(new, old)
    found = equate_by_items(new, old, link=link, method="observed-score")
    np.testing.assert_allclose(equate_by_items(link, old, method="observed-score").equated, found.equated, atol=1e-6)
    with pytest.raises(PsychometricsError, match="has put the new form on the old scale"):
        equate_by_items(link, old, link=link)
    with pytest.raises(PsychometricsError, match="give link or these"):
        equate_by_items(new, old, link=link, slope=1.2)


def responses_to_two_forms() -> tuple[irt.Responses, irt.Responses]:
    rng = np.random.default_rng(6)
    bank = irt.ItemParameters.from_frame({"item": NAMES, "a": [1.2] * 30, "b": rng.normal(0, 1, 30)})
    new, old = bank.select(NAMES[10:]), bank.select(NAMES[:20])
    return tuple(
        irt.simulate_responses(form, rng.normal(m, 1, 800), random_state=6) for form, m in ((new, 0.4), (old, 0))
    )


def test_forms_are_equated_by_the_items_that_responses_have_in_common() -> None:
    x_new, x_old = responses_to_two_forms()
    new, old = (x.score.reshape(800, 20) for x in (x_new, x_old))  # in the order of persons, then of items
    by_hand = [
        ScoreCounts.from_scores(form.sum(axis=1), anchor.sum(axis=1), max_score=20, max_second=10)
        for form, anchor in ((new, new[:, :10]), (old, old[:, 10:]))
    ]
    found = equate(x_new, x_old, method="linear")
    assert (found.design, found.method) == ("common items", "linear, chained")
    assert found == equate(*by_hand, method="linear", adjustment="chained")
    levine = {"method": "linear", "adjustment": "levine"}
    assert equate(x_new, x_old, **levine) == equate(*by_hand, **levine)
    smooth = [counts.presmoothed(4, 4, 1) for counts in ScoreCounts.from_forms(x_new, x_old)]
    assert equate(*smooth).method == "equipercentile, chained"


def test_raw_scores_are_equated_as_random_groups() -> None:
    x_new, x_old = responses_to_two_forms()
    new, old = (np.bincount(x.person, x.score, 800) for x in (x_new, x_old))
    found = equate(pd.Series(new), old.tolist(), method="mean")
    assert found.design == "random groups"
    np.testing.assert_allclose(found.equated, found.scores - new.mean() + old.mean())
    apart = equate(x_new.of_items(np.arange(20) >= 10), x_old, method="mean")
    assert apart.design == "random groups"
    assert "No item is in both forms" in apart.notes[0]


def test_data_without_scores_of_both_forms_are_refused_with_the_remedy() -> None:
    x_new, x_old = responses_to_two_forms()
    new, old = two_forms()
    holes = x_new.of_rows(np.arange(x_new.n_responses) > 0)
    scored = irt.Responses.from_wide({"q10": [0, 2, 1], "q11": [0, 1, 0]}, max_score=2)
    for forms, message in (
        ((new, old), r"got Fit; equate_by_items\(new, old\) equates"),
        ((x_new, [1, 2]), "two Responses, two ScoreCounts, or raw scores, .* got Responses"),
        ((pd.DataFrame({"q1": [1, 0]}), x_old), "got DataFrame; Responses.from_wide"),
        ((holes, x_old), "1 of 800 persons have not answered all 20 items of the new form"),
        ((x_new, scored), "q10, q11 must have the same maximum score"),
    ):
        with pytest.raises(PsychometricsError, match=message):
            equate(*forms)


def test_adaptive_tests_are_simulated_from_a_fit() -> None:
    _, fit = rasch()
    population = fit.calibration.latent[0]
    tests = simulate_tests(fit, AdaptiveTest(max_items=10), 2000, random_state=1)
    assert tests.theta.std() == pytest.approx(population.sd, rel=0.05)
    by_hand = {"mean": population.mean, "sd": population.sd, "random_state": 1}
    again = simulate_tests(fit.calibration.items, AdaptiveTest(max_items=10), 2000, **by_hand)
    np.testing.assert_array_equal(tests.estimate, again.estimate)
    plan = SelectionPlan(AdaptiveTest(max_items=10), fit)
    assert (plan.mean, plan.sd) == (population.mean, population.sd)


def test_forms_and_posteriors_are_made_from_a_fit() -> None:
    fit, _ = two_forms()
    forms = assemble(fit, FormDesign(min_items=5, max_items=5)).forms
    best = np.argsort(-fit.information([0.0]).items[0])[:5]
    assert set(forms[0]) == {fit.item_ids[j] for j in best}
    assert ItemPosterior.from_items(fit).items.item_ids == fit.item_ids
    np.testing.assert_allclose(Information.from_parameters(fit, [0.0, 1.0]).test, fit.information([0.0, 1.0]).test)


def test_figures_and_simulations_take_fits_and_links() -> None:
    new, old = two_forms()
    link = irt.link(new, old)
    for source in (new, link, link.fit.calibration, new.items):
        assert plots.test_information(source)
        assert irt.simulate_responses(source, [0.0], random_state=1).n_items == 20
    assert irt.link(new, link).slope == pytest.approx(link.slope, rel=1e-6)


def test_fit_with_groups_needs_the_group() -> None:
    fit = grouped()
    with pytest.raises(PsychometricsError, match="has the groups a, b, each with a population of its own: give group="):
        ScoreTable.from_items(fit, SCALE)
    tables = [ScoreTable.from_items(fit, SCALE, group=name) for name in ("a", "b")]
    for table, population in zip(tables, fit.calibration.latent, strict=True):
        normal = {"mean": population.mean, "sd": population.sd}
        np.testing.assert_allclose(table.theta, ScoreTable.from_items(fit, SCALE, **normal).theta)
        assert Classification.from_items(fit, [15], group=population.name) == Classification.from_items(
            fit, [15], **normal
        )
    assert tables[1].theta[5] > tables[0].theta[5] + 0.2
    with pytest.raises(PsychometricsError, match="no group 'c'; its groups are a, b"):
        SelectionPlan(AdaptiveTest(max_items=3), fit, group="c")


def test_items_without_a_population_are_refused_with_the_remedy() -> None:
    _, fit = rasch()
    test = AdaptiveTest(max_items=3)
    for items in (fit.calibration.items, fit.items):
        for call in (
            lambda items: ScoreTable.from_items(items, SCALE),
            lambda items: Classification.from_items(items, [15]),
            lambda items: equate_by_items(items, items, method="observed-score"),
            lambda items: simulate_tests(items, test, 10),
            lambda items: SelectionPlan(test, items),
        ):
            with pytest.raises(PsychometricsError, match=r"do not contain: give the fit .* or mean= and sd="):
                call(items)
        assert equate_by_items(items, items).equated[10] == pytest.approx(10)
        assert ScoreTable.from_items(items, SCALE, theta="test-curve").theta[15] < 1
    with pytest.raises(PsychometricsError, match="got sd= alone; give mean="):
        ScoreTable.from_items(fit, SCALE, sd=2)
    with pytest.raises(PsychometricsError, match="sd above 0, got mean=0 and sd=-1"):
        SelectionPlan(test, fit, 0, -1)


def test_wrong_sources_of_items_are_refused_with_the_remedy() -> None:
    x, fit = rasch()
    for source, message in (
        (x, "got Responses; irt.fit"),
        (fit.score(x), "got PersonScores; give the fit"),
        ({"item": ["q1"]}, "got dict; .*from_frame"),
        (None, "got NoneType"),
    ):
        with pytest.raises(PsychometricsError, match=message):
            ScoreTable.from_items(source, SCALE)  # type: ignore[arg-type]
        with pytest.raises(PsychometricsError, match=message):
            plots.test_information(source)  # type: ignore[arg-type]
