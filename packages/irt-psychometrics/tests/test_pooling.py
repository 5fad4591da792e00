"""Statistics of plausible values against published results, formulas by hand, and NumPy."""

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.regression.pooling import evaluate, paired_replicates, pool


def plausible(values: object, **fields: object) -> irt.PlausibleValues:
    array = np.asarray(values, dtype=float)
    return irt.PlausibleValues(tuple(range(len(array))), array, **fields)  # type: ignore[arg-type]


def test_pooling_reproduces_the_example_of_sas() -> None:
    """SAS/STAT 13 User's Guide, PROC MIANALYZE, example "Reading Means and Standard Errors", Oxygen, EDF=30.

    It prints between-imputation variance .041478, within .930853, total .980626, 26.298 degrees of freedom and fraction
    missing .051977. Its input is printed with four digits, which determines the results to about 2e-4 of their size.
    """
    means = np.array([47.0120, 47.2407, 47.4995, 47.1485, 47.0042])[:, None]
    errors = np.array([0.95984, 0.93540, 1.00766, 0.95439, 0.96528])[:, None]
    found = pool(np.stack([means, means + errors], axis=2), 1.0, 30, 0.95)
    assert found["between_se"] ** 2 == pytest.approx(1.2 * 0.041478, rel=3e-4)
    assert found["sampling_se"] ** 2 == pytest.approx(0.930853, rel=1e-5)
    assert found["se"] ** 2 == pytest.approx(0.980626, rel=2e-5)
    assert found["df"] == pytest.approx(26.298, abs=1e-3)
    assert found["missing_information"] == pytest.approx(0.051977, rel=3e-4)


def test_pooled_mean_follows_the_formulas_of_pisa_and_timss() -> None:
    """OECD (2009), chapter 8: mean of the sampling variances, 1/20 Σ (t_r − t)² with 80 replicates, plus 1.2·B."""
    rng = np.random.default_rng(3)
    v, w = rng.standard_normal((40, 5)), rng.uniform(0.5, 2, 40)
    replicates = w[:, None] * rng.choice([0.5, 1.5], (40, 80))
    means = [np.average(v[:, k], weights=w) for k in range(5)]
    squares = [sum((np.average(v[:, k], weights=own) - means[k]) ** 2 for own in replicates.T) for k in range(5)]
    between = 1.2 * np.var(means, ddof=1)
    values = plausible(v, weights=w)
    pisa = values.pooled("mean", replicate_weights=replicates)
    assert pisa["estimate"][0] == pytest.approx(np.mean(means), rel=1e-12)
    assert pisa["se"][0] == pytest.approx((np.mean(squares) / 20 + between) ** 0.5, rel=1e-12)
    for method, factor in (("jk2", 1.0), (0.5, 0.5), ("brr", 1 / 80), ("jk1", 79 / 80)):
        found = values.pooled("mean", replicate_weights=replicates, method=method)  # type: ignore[arg-type]
        assert found["se"][0] == pytest.approx((factor * np.mean(squares) + between) ** 0.5, rel=1e-12)


def test_jackknife_of_a_mean_is_its_usual_error() -> None:
    """If each person is deleted once, (R − 1)/R Σ (t_r − t)² is s²/n exactly."""
    v = np.random.default_rng(1).standard_normal(25)
    found = plausible(np.stack([v, v], axis=1)).pooled(replicate_weights=1 - np.eye(25), method="jk1")
    assert found["sampling_se"][0] == pytest.approx(v.std(ddof=1) / 5, rel=1e-12)
    assert found["between_se"][0] == 0
    assert found["df"][0] == pytest.approx(25 / 27 * 24, rel=1e-12)


def test_balanced_replicates_estimate_the_error_of_a_mean() -> None:
    """A variance estimate has 64 degrees of freedom, so the mean of 200 has an error of √(2/64/200), 1.25 %."""
    rng, ratios = np.random.default_rng(2), []
    replicates, factor, pairs = paired_replicates(np.ones(300), np.arange(300))
    assert (pairs, replicates.shape) == (64, (300, 64))
    for _ in range(200):
        v = rng.standard_normal(300)
        means = v @ replicates / replicates.sum(axis=0)
        ratios.append(factor * ((means - v.mean()) ** 2).sum() * 300)
    assert np.mean(ratios) == pytest.approx(1, abs=3 * 0.0125)


def test_balanced_replicates_keep_clusters_together() -> None:
    cluster = np.repeat(np.arange(10), 7)
    replicates, _, pairs = paired_replicates(np.full(70, 2.0), cluster)
    assert pairs == 5
    assert np.unique(replicates.round(12)).tolist() == [0.6, 3.4]
    assert all(len(np.unique(replicates[cluster == k], axis=0)) == 1 for k in range(10))
    with pytest.raises(irt.PsychometricsError, match="at least 4 persons or clusters, got 3"):
        paired_replicates(np.ones(6), np.repeat(np.arange(3), 2))


def test_statistics_agree_with_numpy() -> None:
    v, ones = np.random.default_rng(4).standard_normal(50), np.ones((50, 1))
    at = np.array([5.0, 50.0, 77.0])
    hazen = np.percentile(v, at, method="hazen")
    assert evaluate("percentile", v, ones, at)[:, 0] == pytest.approx(hazen, rel=1e-12)
    assert evaluate("sd", v, ones, None)[0, 0] == pytest.approx(v.std(ddof=1), rel=1e-12)
    weights = np.random.default_rng(5).integers(1, 4, 50)
    repeated = np.repeat(v, weights)
    own = weights[:, None].astype(float)
    assert evaluate("mean", v, own, None)[0, 0] == pytest.approx(repeated.mean(), rel=1e-12)
    assert evaluate("share_above", v, own, np.array([0.3]))[0, 0] == pytest.approx((repeated > 0.3).mean(), rel=1e-12)
    slope = evaluate(lambda x, w: np.polyfit(np.arange(50), x, 1, w=np.sqrt(w)), v, own, None)
    by_hand = np.polyfit(np.repeat(np.arange(50), weights), repeated, 1)
    assert slope[:, 0] == pytest.approx(by_hand, rel=1e-9)


def test_differences_to_the_reference_have_errors_of_their_own() -> None:
    """Persons of both groups come from the same clusters, which cancel in the difference of their means."""
    rng = np.random.default_rng(6)
    cluster, group = np.repeat(np.arange(128), 4), np.tile(["b", "a"], 256)
    v = (3 * rng.standard_normal(128))[cluster] + (group == "b") + 0.1 * rng.standard_normal(512)
    values = plausible(np.stack([v, v], axis=1), clusters=cluster)
    means = values.pooled("mean", by=group)
    difference = values.pooled("mean", by=group, reference="a")
    assert means["group"].tolist() == ["a", "b"]
    assert difference["group"].tolist() == ["b"]
    assert difference["estimate"][0] == pytest.approx(means["estimate"][1] - means["estimate"][0], rel=1e-12)
    assert difference["se"][0] < 0.03 < 0.2 < means["se"].min()


def test_statistics_without_sampling_variance_have_no_error() -> None:
    """A group of one person and a share of all persons get NaN instead of 0."""
    values = plausible(np.random.default_rng(7).standard_normal((9, 3)))
    assert np.isnan(values.pooled("share_above", -9)["se"][0])
    found = values.pooled("mean", by=["alone", *["other"] * 8])
    assert np.isnan(found["se"][0])
    assert np.isnan(found["low"][0])
    assert found["low"][1] < found["estimate"][1] < found["high"][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statistic": "median"}, 'statistic must be "mean"'),
        ({"statistic": "percentile"}, "percentile needs at="),
        ({"statistic": "percentile", "at": [0.5, 120]}, "at must be percentages"),
        ({"by": ["a"] * 7}, "by must be 8 labels, one per person; got 7$"),
        ({"by": ["a"] * 7 + [None]}, "got 8, but no label for 7$"),
        ({"by": ["a"] * 8, "reference": "b"}, r"reference must be a label of by \(a\), got 'b'"),
        ({"replicate_weights": np.ones(8)}, r"with 8 rows and at least 2 columns; got shape \(8,\)"),
        ({"replicate_weights": np.full((8, 2), np.nan)}, "numbers that are at least 0"),
        ({"replicate_weights": np.ones((8, 2)), "method": "bootstrap"}, "method must be one of brr, fay, jk1, jk2"),
        ({"level": 95}, "level must be above 0 and below 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        plausible(np.arange(16.0).reshape(8, 2)).pooled(**arguments)  # type: ignore[arg-type]


def test_one_set_has_no_error() -> None:
    with pytest.raises(irt.PsychometricsError, match="at least 2 sets"):
        plausible(np.ones((8, 1))).pooled()
