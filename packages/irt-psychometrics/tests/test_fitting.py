"""`fit`: comparison with R mirt, warnings, refused requests, progress and interruption."""

import copy
import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import irt_psychometrics as irt
from irt_psychometrics.scoring.abilities import Posteriors
from irt_psychometrics.scoring.reliability import fitted_posteriors

SHARED = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[4] / "shared"))
REFERENCE = SHARED / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference values are not here")
ITEMS = irt.ItemParameters.from_frame(
    {"item": [f"q{j}" for j in range(8)], "a": np.linspace(0.8, 1.6, 8), "b": np.linspace(-1.5, 1.5, 8)}
)
X = irt.simulate_responses(ITEMS, np.random.default_rng(3).normal(size=800), random_state=3)


@needs_reference
@pytest.mark.parametrize(("data", "model"), [("lsat7", "rasch"), ("lsat7", "2pl"), ("sat12", "2pl")])
def test_fits_agree_with_mirt(data: str, model: str) -> None:
    """AIC, BIC and log L agree up to the reference's TOL of 1e-7. Reliability uses different nodes for θ."""
    reference = json.loads((REFERENCE / "mirt_reference.json").read_text())[f"{data}_{model}"]
    x = irt.Responses.from_wide(pd.read_csv(REFERENCE / f"{data}.csv"))
    f = irt.fit(x, model)
    found = [f.log_likelihood, f.aic, f.bic]
    assert found == pytest.approx([reference[name] for name in ("logLik", "AIC", "BIC")], abs=1e-3)
    assert f.reliability == pytest.approx(reference["reliability"]["empirical_rxx_EAP"], abs=1e-4)
    rows = [row["row"] - 1 for row in reference["scores"]]
    for method, name in (("eap", "eap"), ("map", "map"), ("ml", "ml"), ("jeffreys", "wle")):
        theta = f.score(x, method).theta[rows]
        known = np.array([row[name] for row in reference["scores"]], dtype=float)
        both = np.isfinite(known) & np.isfinite(theta)
        assert theta[both] == pytest.approx(known[both], abs=2e-3)
        assert both.sum() >= len(rows) - 4


@pytest.mark.parametrize("model", ["rasch", "2pl"])
def test_log_likelihoods_of_persons_sum_to_the_log_likelihood_of_the_fit(model: str) -> None:
    """Both are sums over nodes of a smooth integrand, whose error is far below 1e-4."""
    half = np.where(np.arange(X.n_persons) % 2 == 0, "even", "odd")
    for options in ({}, {"groups": half}, {"latent": "histogram"}):
        f = irt.fit(X, model, **options)
        assert f.person_log_likelihood.shape == (X.n_persons,)
        assert f.person_log_likelihood.sum() == pytest.approx(f.log_likelihood, abs=1e-4)


def test_reliability_and_log_likelihoods_of_persons_are_computed_once_when_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def count(*arguments: Any, **options: Any) -> Posteriors:
        calls.append(arguments)
        return fitted_posteriors(*arguments, **options)

    monkeypatch.setattr("irt_psychometrics.fitting.fitted_posteriors", count)
    f = irt.fit(X, "rasch")
    assert (f.converged, f.items.n.tolist(), calls) == (True, [800] * 8, [])
    posteriors = fitted_posteriors(X, f.calibration)
    assert f.reliability == pytest.approx(
        posteriors.theta.var(ddof=1) / (posteriors.theta.var(ddof=1) + (posteriors.se**2).mean())
    )
    np.testing.assert_array_equal(f.person_log_likelihood, posteriors.log_likelihood)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "copy_of",
    [lambda f: pickle.loads(pickle.dumps(f)), lambda f: irt.Fit.from_json(f.to_json()), copy.deepcopy, replace],
)
def test_copies_of_a_fit_have_the_values_that_were_not_read_before(copy_of: Callable[[irt.Fit], irt.Fit]) -> None:
    copied = copy_of(irt.fit(X, "rasch"))
    f = irt.fit(X, "rasch")
    assert copied == f
    assert copied.reliability == f.reliability
    np.testing.assert_array_equal(copied.person_log_likelihood, f.person_log_likelihood)


def test_models_can_differ_between_items() -> None:
    models = {item: "1pl" if j < 4 else "2PL" for j, item in enumerate(X.item_ids)}
    f = irt.fit(X, models)
    assert f.items.models == ("1pl",) * 4 + ("2pl",) * 4
    assert np.ptp(f.items.a[:4]) == 0
    assert np.ptp(f.items.a[4:]) > 0


def test_anchors_keep_their_parameters_and_scale() -> None:
    anchors = ITEMS.select(ITEMS.item_ids[:5]).rescaled(2.0, 1.0)
    f = irt.fit(X, anchors=anchors)
    assert f.items.b[:5] == pytest.approx(anchors.b)
    assert f.calibration.latent_mean == pytest.approx(1.0, abs=0.2)
    assert f.calibration.latent_sd == pytest.approx(2.0, abs=0.2)


PRIORS = [
    ("a", "lognormal(0,0.5)", irt.LogNormal(0.0, 0.5)),
    ("a", " LogNormal( 0.25 , 1e-1 ) ", irt.LogNormal(0.25, 0.1)),
    ("b", "normal(0, 2)", irt.Normal(0.0, 2.0)),
    ("b", "normal(-0.5,2)", irt.Normal(-0.5, 2.0)),
    ("c", "beta(5,17)", irt.Beta(5.0, 17.0)),
    ("c", "logitnormal(-1.4,0.5)", irt.LogitNormal(-1.4, 0.5)),
    ("a", "none", None),
    ("b", "None", None),
    ("c", "none", None),
]


@pytest.mark.parametrize(("parameter", "text", "prior"), PRIORS, ids=[text for _, text, _ in PRIORS])
def test_prior_is_read_from_text_and_written_as_equivalent_text(parameter: str, text: str, prior: object) -> None:
    assert irt.Priors.parse(parameter, text) == prior
    assert irt.Priors.parse(parameter, irt.Priors.text_of(prior)) == prior


def test_text_of_a_prior_has_the_short_form() -> None:
    assert [irt.Priors.text_of(prior) for _, _, prior in PRIORS[:5]] == [
        "lognormal(0, 0.5)",
        "lognormal(0.25, 0.1)",
        "normal(0, 2)",
        "normal(-0.5, 2)",
        "beta(5, 17)",
    ]


@pytest.mark.parametrize("slope", [0.4, 2.5])
def test_rescaled_priors_have_the_same_density_apart_from_the_jacobian(slope: float) -> None:
    """For θ* = slope·θ: a* = a/slope with |da/da*| = slope, and b* = slope·b with |db/db*| = 1/slope."""
    priors = irt.Priors(a=irt.LogNormal(0.1, 0.5), b=irt.Normal(0.5, 1.2), c=irt.Beta(5, 17)).rescaled(slope)
    a, b = np.array([0.3, 1.0, 2.2]), np.array([-1.5, 0.0, 2.0])
    of_a, of_b = priors.a.terms(a / slope).density, priors.b.terms(slope * b).density
    assert of_a == pytest.approx(stats.lognorm.logpdf(a, 0.5, scale=np.exp(0.1)) + np.log(slope))
    assert of_b == pytest.approx(stats.norm.logpdf(b, 0.5, 1.2) - np.log(slope))
    assert priors.c == irt.Beta(5, 17)


def test_wrong_keys_and_constant_items_give_item_warnings() -> None:
    matrix = np.full((X.n_persons, X.n_items), np.nan)
    matrix[X.person, X.item] = X.score
    matrix[:, 2] = 1 - matrix[:, 2]
    matrix = np.column_stack([matrix, np.ones(len(matrix))])
    x = irt.Responses.from_wide(matrix)
    with pytest.warns(irt.ItemWarning) as caught:
        f = irt.fit(x)
    messages = sorted(str(warning.message) for warning in caught)
    assert [text.split(":")[0] for text in messages] == ["i3", "i9"]
    assert "correct the key" in messages[0]
    assert Path(caught[0].filename) == Path(__file__)
    assert "correct the key" in f._repr_html_()


def of_named_items(names: list[str], model: str = "2pl", **options: Any) -> irt.Fit:
    """Fit the responses to items with other names."""
    return irt.fit(replace(X, item_ids=tuple(names)), model, **options)


def test_summary_lists_fit_population_items_and_flags() -> None:
    half = np.where(np.arange(X.n_persons) % 2 == 0, "even", "odd")
    f = irt.fit(X, "rasch", groups=half)
    text = str(f.summary(decimals=2))
    for expected in (
        "rasch, 800 persons, 8 items",
        "distribution of θ: normal",
        f"irt-psychometrics {irt.__version__}",
    ):
        assert expected in text
    numbers = {name: rest for name, *rest in map(str.split, filter(None, text.splitlines()))}
    assert numbers["AIC"] == [f"{f.aic:,.2f}"]
    assert numbers["converged"] == ["yes,", "after", str(f.calibration.convergence.iterations), "iterations"]
    odd = f.calibration.populations[1]
    assert numbers["odd"] == [
        "400",
        *(f"{x:.2f}".replace("-", "−") for x in (odd.mean, odd.mean_se, odd.sd, odd.sd_se)),
    ]
    assert numbers["q7"][4:] == [f"{f.items.b[7]:.2f}", f"{f.items.b_se[7]:.2f}"]
    assert f"{f.items.b[7]:.4f}" in f.summary(4)._repr_html_()


def test_summary_shows_why_a_fit_is_doubtful() -> None:
    with pytest.warns(irt.NotConvergedWarning):
        stopped = irt.fit(X, max_iterations=3)
    assert "- Not converged: " in str(stopped.summary())
    matrix = np.column_stack([X.score.reshape(X.n_persons, X.n_items), np.ones(X.n_persons)])
    with pytest.warns(irt.ItemWarning):
        f = irt.fit(irt.Responses.from_wide(matrix))
    for form in (str(f.summary()), f.summary()._repr_html_(), f.summary().to_latex().replace(r"\_", "_")):
        assert "all_correct" in form
        assert "leave it out or collect more answers" in form


def test_latex_escapes_names_of_items() -> None:
    """After the end of a row LaTeX reads [ as an option and * as part of the command, so braces protect them."""
    names = ["50 %", "a&b_c", "[x]", "*y", "{z}~", "#1^$", "\\par", "two\nlines"]
    latex = of_named_items(names).summary().to_latex()
    cells = [line.split(" & ")[0] for line in latex.splitlines() if line.endswith(r"\\")]
    assert cells[-8:] == [
        *(r"50 \%", r"a\&b\_c", "{[}x]", "{*}y", r"\{z\}\textasciitilde{}", r"\#1\textasciicircum{}\$"),
        *(r"\textbackslash{}par", "two lines"),
    ]
    assert "−" not in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3


def test_long_summary_hides_rows_in_text_but_not_in_latex() -> None:
    summary = irt.Summary("many", {}, {"items": {"item": [f"q{k}" for k in range(100)]}}, [])
    assert "… 40 more rows" in str(summary)
    assert "q50" not in str(summary)
    assert all(f"q{k} " in summary.to_latex() for k in range(100))


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_estimates_and_normal_quantiles_of_their_errors(level: float) -> None:
    z, f = stats.norm.ppf((1 + level) / 2), irt.fit(X, "2pl")
    own = f.conf_int(level).set_index(["item", "parameter"])
    b = own.xs("b", level="parameter")
    assert b["low"].to_numpy() == pytest.approx(f.items.b - z * f.items.b_se)
    assert b["high"].to_numpy() == pytest.approx(f.items.b + z * f.items.b_se)
    assert own["estimate"].to_numpy()[::2] == pytest.approx(f.items.a)
    scores = f.score(X)
    of_theta = scores.conf_int(level)
    assert (of_theta["high"] - of_theta["low"]).to_numpy() == pytest.approx(2 * z * scores.se)
    assert of_theta["person"].tolist() == [*scores.person_ids]
    linked = irt.link(f, f)
    of_link = linked.conf_int(level).set_index("constant")
    assert of_link.loc["slope", "high"] == pytest.approx(linked.slope + z * linked.linking.slope_se)
    assert of_link.loc["intercept", "low"] == pytest.approx(linked.intercept - z * linked.linking.intercept_se)


def test_interval_of_guessing_stays_between_0_and_1() -> None:
    """It is symmetric for logit c, which has a normal prior and whose error the fit keeps."""
    with pytest.warns(irt.ItemWarning, match="guessing"):
        f = irt.fit(X, "3pl")
    c = f.conf_int().set_index("parameter").loc["c"]
    half = stats.norm.ppf(0.975) * np.sqrt(f.calibration.cov[:, 2, 2])
    assert c["low"].to_numpy() == pytest.approx(special.expit(special.logit(f.items.c) - half))
    assert c["high"].to_numpy() == pytest.approx(special.expit(special.logit(f.items.c) + half))


def test_intervals_of_fixed_endless_and_unknown_parameters() -> None:
    fixed = irt.fit(X, "rasch").conf_int().query("parameter == 'a'")
    assert (fixed["low"] == 1).all()
    assert (fixed["high"] == 1).all()
    endless = irt.fit(X).score(X, "ml")
    width = endless.conf_int().eval("high - low").to_numpy()
    assert np.array_equal(np.isnan(width), np.isinf(endless.theta))
    with pytest.raises(irt.PsychometricsError, match=r"level must be above 0 and below 1.*got 95"):
        endless.conf_int(95)


def test_version_is_the_installed_one_and_the_cited_one() -> None:
    cited = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert irt.__version__ == metadata.version("irt-psychometrics")
    assert f"\nversion: {irt.__version__}\n" in cited


def test_fit_warns_of_missing_convergence_at_the_iteration_limit() -> None:
    with pytest.warns(irt.NotConvergedWarning, match=r"limit of 3 iterations.*max_iterations"):
        f = irt.fit(X, max_iterations=3)
    assert not f.converged
    assert "converged no" in repr(f)
    with pytest.raises(irt.PsychometricsError, match="Fit again first"):
        f.fit_statistics(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "4pl"}, r"the em engine fits rasch.*got model '4pl'"),
        ({"model": {"q0": "2pl"}}, r"no model is named for q1, q2, q3, q4, q5 and 2 more"),
        ({"groups": ["a", "b"]}, r"groups must be 800 labels, one per person; got 2"),
        ({"groups": [None] * 800}, r"person 0 \(counted from 0\) has no group"),
        ({"latent": "auto", "groups": ["a", "b"] * 400}, r"latent='auto' is for one model"),
        (
            {"anchors": pd.DataFrame()},
            r"anchors needs a Fit, a ScaleLink or ItemParameters, got DataFrame; .*from_frame",
        ),
    ],
)
def test_invalid_requests_are_refused_with_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.fit(X, **options)


def test_frames_and_unknown_options_are_refused_with_the_remedy() -> None:
    with pytest.raises(irt.PsychometricsError, match=r"score needs Responses, got DataFrame; Responses.from_wide"):
        irt.fit(X).score(pd.DataFrame({"q": [1]}))  # type: ignore[arg-type]
    with pytest.raises(irt.PsychometricsError, match=r"responses are read from a data frame, .*; got Fit"):
        irt.fit(irt.fit(X))  # type: ignore[arg-type]
    with pytest.raises(irt.PsychometricsError, match=r"person, key and max_score must be given to Responses.from_wide"):
        irt.fit(X, person="id")
    with pytest.raises(TypeError, match="no option iterations"):
        irt.fit(X, iterations=5)


WIDE = pd.DataFrame(X.score.reshape(800, 8), columns=pd.Index(X.item_ids))


def test_frames_and_matrices_are_fitted_like_their_responses() -> None:
    known = irt.fit(X, "rasch")
    choices = WIDE.replace({0: "A", 1: "B"}).assign(who=range(800, 0, -1))
    for f in (
        irt.fit(WIDE, "rasch"),
        irt.fit(WIDE.to_numpy(), "rasch"),
        irt.fit(choices, "rasch", person="who", key=dict.fromkeys(X.item_ids, "B")),
        irt.fit(WIDE, "rasch", max_score={"q1": 1}),
    ):
        assert f.log_likelihood == known.log_likelihood
    assert irt.fit(WIDE.set_axis(range(8), axis=1), "rasch").item_ids == tuple(map(str, range(8)))


def test_scores_of_a_filtered_frame_fit_its_rows() -> None:
    """The number right determines θ of a Rasch fit, so that wrongly placed scores would show."""
    df = WIDE.copy()
    some = df[df.sum(axis=1) > 3]
    x = irt.Responses.from_wide(some)
    df["theta"] = irt.fit(x, "rasch").score(x).to_frame()["theta"]
    assert df["theta"].notna().sum() == len(some) < len(df)
    number_right = WIDE.loc[some.index].sum(axis=1)
    assert (df.loc[some.index, "theta"].groupby(number_right).std() < 1e-9).all()
    assert np.corrcoef(number_right, df.loc[some.index, "theta"])[0, 1] > 0.99


def test_scores_need_the_items_scores_and_groups_of_the_fit() -> None:
    f = irt.fit(X, groups=["a", "b"] * 400)
    with pytest.raises(irt.PsychometricsError, match=r"groups a, b: give groups="):
        f.score(X)
    with pytest.raises(irt.PsychometricsError, match=r"no group 'c'; its groups are a, b"):
        f.score(X, groups=["a", "c"] * 400)
    with pytest.raises(irt.PsychometricsError, match=r"the fit has no item z"):
        f.score(irt.Responses.from_wide({"z": [1, 0]}))
    with pytest.raises(irt.PsychometricsError, match=r"item q1 was fitted with scores 0 … 1 and now has a score of 2"):
        f.score(irt.Responses.from_wide({"q1": [2]}, max_score=2))
    with pytest.raises(irt.PsychometricsError, match="method must be one of"):
        irt.fit(X).score(X, method="mean")  # type: ignore[arg-type]


def test_scores_accept_a_subset_of_items_in_any_order_and_keep_labels() -> None:
    f, few = irt.fit(X), {"who": ["ann", "bo", "cy"], "q5": [1, 0, None], "q2": [1, 1, None]}
    scores = f.score(irt.Responses.from_wide(few, person="who"))
    turned = f.score(irt.Responses.from_wide({name: few[name] for name in ("q2", "q5", "who")}, person="who"))
    assert scores.person_ids == ("ann", "bo", "cy")
    assert scores.theta == pytest.approx(turned.theta)
    assert scores.n.tolist() == [2, 2, 0]
    assert (scores.theta[2], scores.se[2]) == (0.0, 1.0)
    assert "1 of 3 persons answered no item" in scores._repr_html_()


def test_information_of_a_fit_is_the_sum_over_items() -> None:
    """Birnbaum (1968): a²P(1 − P) of a 2PL item."""
    f = irt.fit(X)
    found = f.information([0.0, 1.0])
    p = f.curves.probability(np.array([0.0, 1.0]))
    assert found.items == pytest.approx(f.items.a**2 * p * (1 - p))
    assert found.se == pytest.approx(1 / np.sqrt((f.items.a**2 * p * (1 - p)).sum(axis=1)))


def test_simulated_responses_have_the_models_probabilities() -> None:
    """20,000 persons have the same θ; limits are 4 standard errors."""
    x = irt.simulate_responses(ITEMS, np.full(20_000, 0.3), random_state=0)
    share = np.bincount(x.item, x.score) / 20_000
    p = ITEMS.curve(np.array([0.3]))[0]
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / 20_000))
    again = irt.simulate_responses(ITEMS, np.full(20_000, 0.3), random_state=0)
    assert (x.score == again.score).all()
    with pytest.raises(irt.PsychometricsError, match="item q1 has no parameters"):
        irt.simulate_responses(ITEMS.select(["q0"]).among(["q0", "q1"]), [0.0])


def test_steps_of_simulated_partial_credit_are_recovered_by_a_fit() -> None:
    """Steps of 4 items from 4,000 persons, within 4 standard errors."""
    rng = np.random.default_rng(8)
    seen = rng.normal(size=(500, 1)) + rng.normal(size=(500, 4))
    made = irt.fit(irt.Responses.from_wide(np.digitize(seen, [-1, 0, 1]).astype(float), max_score=3), "pcm")
    x = irt.simulate_responses(made, rng.normal(0, made.calibration.latent_sd, 4000), random_state=rng)
    found = irt.fit(x, "pcm")
    for k in (1, 2, 3):
        differences = np.abs(found.items.steps[f"b{k}"] - made.items.steps[f"b{k}"])
        assert np.all(differences < 4 * found.items.steps[f"b{k}_se"])


def test_progress_counts_the_iterations_of_all_stages() -> None:
    seen: list[tuple[int, float]] = []
    f = irt.fit(X, progress=lambda number, change: seen.append((number, change)))
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert len(seen) >= f.calibration.convergence.iterations
    assert seen[-1][1] == f.calibration.convergence.max_change
    with pytest.raises(ZeroDivisionError):
        irt.fit(X, progress=lambda number, _: 1 / (number - 2))


def test_progress_is_shown_as_a_tqdm_bar_or_refused_without_tqdm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # no separate thread that watches the bar
    irt.fit(X, progress=True)
    assert "iterations" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(irt.PsychometricsError, match="progress=True needs tqdm; install it"):
        irt.fit(X, progress=True)


def test_results_per_person_return_the_index_of_a_filtered_frame() -> None:
    frame = irt.datasets.two_forms()[0].to_frame("pandas").drop(columns="person")
    some = frame[frame.sum(axis=1) > 12]
    f = irt.fit(some)
    x = irt.Responses.from_wide(some)
    scores = f.score(x)
    for table in (scores.to_frame(), scores.conf_int(), f.person_fit(x).to_frame()):
        assert table.index.equals(some.index)
    assert np.corrcoef(some.sum(axis=1), scores.to_frame()["theta"].reindex(some.index))[0, 1] > 0.9
