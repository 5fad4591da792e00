"""Requests to engines: models, priors and steps of scored and dichotomous items, and answers with absent scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.abilities.batch import ScaleAbilities, count_absent_scores
from irt_assets.abilities.blocks import absent_scores
from irt_assets.calibration.request import FitRequest, calibrate
from irt_assets.decisions.origin_sources import _convert_metric
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.encoding import decode, encode
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_assets.scales.scored_models import ModelInBank
from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import Beta, ItemRow, LogitNormal, LogNormal, Normal, Priors, item_model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.made_anchors import anchor_set_of
from tests.helpers.sentences import missing_sentences

ITEMS, MOST = tuple("ABCDEF"), np.array([1, 1, 1, 2, 3, 2])
rng = np.random.default_rng(8)


def answers(learners: int = 400) -> Responses:
    theta, x = rng.standard_normal(learners), np.empty((learners, len(ITEMS)))
    for j, most in enumerate(MOST):
        parameters = np.array([1.0 / most**0.5, 0.1, *[0.0] * (most + 1)])[:, None]
        p = item_model("gpcm").probabilities(theta, parameters, np.array([most + 1]))[0]
        x[:, j] = (rng.random((learners, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    return Responses.from_wide(x, ITEMS, MOST + 1)


SCORED = answers()
PLAIN = Responses.from_wide((rng.random((40, 3)) < 0.5).astype(float), list("ABC"))


def request(responses: Responses = SCORED, model: str = "2pl", **more: Any) -> FitRequest:
    scale = Scale("s", model=model)  # type: ignore[arg-type]
    return FitRequest(scale=scale, responses=responses, provisional=(), left_out={}, **more)


def test_each_item_has_the_scales_model_or_the_model_in_the_bank() -> None:
    of_scale = [request(model=model).model for model in ("2pl", "rasch", "pcm")]
    assert of_scale == [("2pl",) * 3 + ("gpcm",) * 3, *[("rasch",) * 3 + ("pcm",) * 3] * 2]
    named = {"A": ModelInBank("3pl"), "D": ModelInBank("PCM"), "E": ModelInBank("2pl"), "F": ModelInBank(None, "x")}
    assert request(in_bank=named).model == ("2pl", "2pl", "2pl", "pcm", "gpcm", "gpcm")
    assert request(in_bank=named).blocks == {"F": "x"}


def test_items_of_a_block_share_steps_and_published_items_have_no_prior_on_rare_steps() -> None:
    rated = request(
        in_bank={"D": ModelInBank("rsm", "mood"), "F": ModelInBank("rsm", "mood")}, published=frozenset("DE")
    )
    assert rated.step_arguments == {"prior_on_rare_steps": frozenset("ABCF"), "blocks": {"D": "mood", "F": "mood"}}
    assert request(PLAIN).step_arguments == {}
    fit = calibrate(EmEngine(1), rated, "hash").calibration
    np.testing.assert_array_equal(fit.further[3, :3], fit.further[5, :3])


def test_item_without_answers_in_a_sample_keeps_its_categories() -> None:
    seen = SCORED.of_items(np.array([item != "E" for item in ITEMS])).among(ITEMS, MOST + 1)
    assert seen.n_categories.tolist() == [2, 2, 2, 3, 4, 3]
    fit_request = request(seen)
    assert (fit_request.model, fit_request.scored_items) == (request().model, frozenset("DEF"))
    none_scored = PLAIN.among("ABCE", np.array([2, 2, 2, 4]))
    assert none_scored.n_categories.tolist() == [2, 2, 2, 4]
    assert PLAIN.among("ABCE").categories is None


def test_request_has_the_scales_model_if_there_are_no_scored_items() -> None:
    for model in ("rasch", "1pl", "2pl", "3pl"):
        assert request(PLAIN, model).model == model
    assert request(PLAIN, in_bank={"A": ModelInBank("3pl")}).model == "2pl"
    assert request(PLAIN, "gpcm").model == ("2pl",) * 3
    only_two = replace(PLAIN, categories=np.full(3, 2))
    assert request(only_two, "3pl").model == "3pl"


def test_scored_items_of_a_scale_have_the_second_model_of_its_name() -> None:
    """A bank that names an item's model decides for the item."""
    choice = ("3pl",) * 3
    assert request(model="3pl").model == request(model="3pl+gpcm").model == (*choice, *("gpcm",) * 3)
    assert request(model="3pl+grm").model == (*choice, *("grm",) * 3)
    assert request(model="grm").model == ("2pl",) * 3 + ("grm",) * 3
    assert request(model="grm", in_bank={"D": ModelInBank("GPCM")}).model[3] == "gpcm"
    assert request(PLAIN, "3pl+grm").model == choice


def test_fit_keeps_mean_scores_and_models_of_scored_items() -> None:
    """Testlets are ignored, and a scored item with few answers has no prior on its slope, which is per point."""
    fit_request = request(testlets={"A": "t", "D": "t"})
    made = calibrate(EmEngine(threads=1), replace(fit_request, provisional=("A", "D")), "hash").calibration
    assert made.convergence.converged, made.convergence.reason
    assert (made.models, made.priors["only"]) == (fit_request.model, ["A"])
    back = decode(encode(made))
    mean = np.bincount(SCORED.item, SCORED.score) / np.bincount(SCORED.item)
    np.testing.assert_allclose(back.p_values, mean / MOST)
    np.testing.assert_allclose(made.select([4, 0]).p_values, (mean / MOST)[[4, 0]])


def test_fit_by_level_records_rare_steps_under_a_prior_next_to_the_scales_priors() -> None:
    """Only four learners have the top score of E."""
    rows = np.flatnonzero((SCORED.item == 4) & (SCORED.score == 3))
    score = SCORED.score.copy()
    score[rows[4:]] = 2
    few = replace(SCORED, score=score)
    rules = Rules.from_settings({"assignment": "by_level"})
    scale = Scale("s", priors=Priors(a=LogNormal(0.0, 0.5)), rules=rules)
    made = calibrate(EmEngine(1), replace(request(few, earlier=few), scale=scale), "hash").calibration
    assert made.priors["a"] == {"family": "LogNormal", "mean": 0.0, "sd": 0.5}
    assert made.priors["rare_steps"]["items"] == ["E"]


def test_answers_with_absent_scores_are_counted_by_item_and_reported_with_a_remedy() -> None:
    lacking = ItemRow(1.0, 0.0, further={"max_score": 3.0, "t0": 0.0, "t1": 0.2, "t3": 0.0})
    full_credit = ItemRow(1.0, 0.0)
    responses = Responses.from_wide([[2, 1, 0], [2, 3, 1], [3, 0, 1]], ["E", "D", "A"], [4, 4, 2])
    found = count_absent_scores(responses, {"E": lacking, "D": full_credit, "A": full_credit})
    assert found == {"E": 2, "D": 1}
    nothing = np.array([])
    sentence = absent_scores(ScaleAbilities("s", nothing, nothing, 3, absent=found))
    assert (
        missing_sentences(
            sentence, "3 answers have a score that nobody had given", "E (2), D (1)", "irt release recalibrate"
        )
        == []
    )
    plain = Responses.from_wide([[1.0, 0.0]], ["A", "B"])
    assert count_absent_scores(plain, {"A": full_credit}) == {}
    assert absent_scores(ScaleAbilities("s", nothing, nothing, 3)) == ""


def test_parameters_of_scored_items_in_the_bank_are_refused_if_steps_are_incomplete() -> None:
    known = {"a": 0.5, "b": 0.2, "a_se": 0.1, "b_se": 0.1, "D": 1.7, "max_score": 2, "t0": 0, "t1": 0.5, "t2": 0}
    row, assumed = _convert_metric(known)
    assert not assumed
    assert row.further == {"max_score": 2, "t0": 0, "t1": pytest.approx(0.85), "t2": 0}
    assert row.a == pytest.approx(0.85)
    assert _convert_metric({"a": 1, "b": 0, "a_se": 0.1, "b_se": 0.1, "max_score": 1})[0].further == {}
    row, assumed = _convert_metric(known | {"a_se": None})
    assert assumed
    assert row.a_se
    assert 0 < row.b_se < 1
    assert row.further == {"max_score": 2, "t0": 0, "t1": pytest.approx(0.85), "t2": 0}
    for wrong in ({"t2": None}, {"t2": 0.4}, {"max_score": 30}):
        with pytest.raises(ValueError, match=r"scored|max_score"):
            _convert_metric(known | wrong)


def test_thresholds_of_an_anchor_are_converted_from_the_metric_1_7() -> None:
    """The thresholds are in units of θ, so they stay, and a becomes 1.7 times as large."""
    known = {"a": 0.5, "b": 0.2, "a_se": 0.1, "b_se": 0.1, "D": 1.7, "max_score": 3, "model": "grm"}
    w = {"w0": 0, "w1": float(np.log(0.5)), "w2": float(np.log(0.25)), "w3": 0}
    row, _ = _convert_metric(known | w)
    assert row.a == pytest.approx(0.85)
    steps = [step for step, _ in row.steps.values()]
    assert np.diff(steps) == pytest.approx([1.0, 0.5])
    assert np.mean(steps) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="needs w0 to w3 as well as a and b"):
        _convert_metric(known)


@pytest.mark.parametrize("model", ["grm", "3pl+gpcm", "3pl+grm"])
def test_unobserved_score_has_no_parameter_and_three_learners_are_refused(model: str) -> None:
    """The highest score of F, 2, was given to nobody."""
    rest = SCORED.of_rows(~((SCORED.item == ITEMS.index("F")) & (SCORED.score == 2)))
    made = calibrate(EmEngine(threads=1), request(rest, model), "hash").calibration
    assert made.convergence.converged, made.convergence.reason
    assert made.further[ITEMS.index("F"), :3].tolist() == [0, 0, -np.inf]
    with pytest.raises(PsychometricsError, match=r"needs at least . items .* left out: A \(all_wrong\)"):
        calibrate(EmEngine(threads=1), request(SCORED.of_persons(np.arange(3)), model), "hash")


def test_only_3pl_items_need_min_responses_3pl() -> None:
    scale = Scale("s", model="3pl+grm")
    n = scale.rules.eligibility.min_responses
    assert n < scale.rules.eligibility.min_responses_3pl
    assert scale.min_published_responses(1) == scale.rules.eligibility.min_responses_3pl
    assert scale.min_published_responses(4) == n


def test_request_of_dichotomous_items_has_a_single_model() -> None:
    """The model is a name and not a name per item, so that hashes and specs of earlier releases stay valid."""
    models: list[Any] = []

    class Recorded(EmEngine):
        def calibrate(self, responses: Responses, **options: Any) -> Any:  # type: ignore[override]
            models.append(options["model"])
            return super().calibrate(responses, **options)

    scores = (rng.random((300, 5)) < 0.5).astype(float)
    calibrate(Recorded(threads=1), request(Responses.from_wide(scores)), "hash")
    assert set(models) == {"2pl"}


# -- dichotomous items -------------------------------------------------------------------------------


def plain_request(model: str = "2pl", provisional: tuple[str, ...] = ("i1", "k"), **rules: str) -> FitRequest:
    one, zero = np.ones(1), np.zeros(1)
    anchors = anchor_set_of("s", "1", ("k",), one, zero, zero, one, one, zero, (None,), np.zeros(1, dtype=bool))
    scale = Scale("s", model=model, rules=Rules.from_settings(rules))  # type: ignore[arg-type]
    return FitRequest(
        scale=scale,
        responses=Responses.from_wide(np.eye(3)),
        provisional=provisional,
        left_out={},
        earlier=None,
        anchors=anchors,
    )


def test_prior_on_guessing_of_a_3pl_applies_to_all_items() -> None:
    priors = plain_request("3pl").priors()
    assert isinstance(priors.c, LogitNormal)
    assert priors.slopes_held(["i1", "i2", "k"]).tolist() == [True, False, False]


ON_SLOPES = Priors(a=LogNormal(0.0, 0.5), only=("i1",))


@pytest.mark.parametrize(
    ("fit_request", "expected"),
    [
        (plain_request(), ON_SLOPES),
        (replace(plain_request(provisional=("i1", "i2", "k")), published=frozenset({"i2", "other"})), ON_SLOPES),
        (replace(plain_request(), published=frozenset({"i1"})), None),
        (plain_request("rasch"), None),
        (plain_request("1pl"), None),
        (plain_request(provisional=()), None),
        (plain_request(provisional=("k",)), None),
    ],
    ids=["2pl", "published", "all published", "rasch", "1pl", "no provisional item", "a provisional anchor"],
)
def test_slopes_have_a_prior_if_items_are_provisional_unpublished_and_not_anchors(
    fit_request: FitRequest, expected: Priors | None
) -> None:
    assert fit_request.priors() == expected


OWN_SLOPE, OWN_DIFFICULTY, OWN_GUESSING = LogNormal(0.2, 0.3), Normal(0.0, 2.0), Beta(5.0, 17.0)


@pytest.mark.parametrize(
    ("fit_request", "own", "expected"),
    [
        (plain_request("2pl"), Priors(a=OWN_SLOPE), Priors(a=OWN_SLOPE)),
        (plain_request("2pl"), Priors(b=OWN_DIFFICULTY), Priors(b=OWN_DIFFICULTY)),
        (plain_request("rasch"), Priors(b=OWN_DIFFICULTY), Priors(b=OWN_DIFFICULTY)),
        (plain_request("3pl"), Priors(a=OWN_SLOPE, c=OWN_GUESSING), Priors(a=OWN_SLOPE, c=OWN_GUESSING)),
        (plain_request("3pl"), Priors(a=OWN_SLOPE), Priors(a=OWN_SLOPE, c=item_model("3pl").default_priors.c)),
        (plain_request("3pl"), Priors(c=OWN_GUESSING), replace(ON_SLOPES, c=OWN_GUESSING)),
        (plain_request("3pl", provisional=()), Priors(c=OWN_GUESSING), Priors(c=OWN_GUESSING)),
    ],
)
def test_scales_priors_on_a_or_b_apply_to_all_items_and_replace_provisional_priors(
    fit_request: FitRequest, own: Priors, expected: Priors
) -> None:
    """A prior on c replaces the model's default prior and keeps the prior on provisional slopes."""
    assert replace(fit_request, scale=replace(fit_request.scale, priors=own)).priors() == expected


def test_fit_uses_the_known_c_of_anchors_and_estimates_all_other_c() -> None:
    """An anchor from a 2PL has c = 0, which is no information on c under a 3PL."""
    rng = np.random.default_rng(3)
    ids = tuple(f"i{j}" for j in range(12))
    answers = rng.random((1000, 12)) < 0.2 + 0.8 * expit(rng.normal(0, 1, (1000, 1)))
    zero, one = np.zeros(3), np.ones(3)
    c = np.array([0.15, 0.0, 0.3])
    anchors = anchor_set_of("s", "1", ("i0", "i1", "gone"), one, zero, c, one, one, zero, (None,) * 3, zero > 0)
    fit_request = FitRequest(
        scale=Scale("s", model="3pl", rules=Rules()),
        responses=Responses.from_wide(answers.astype(float), ids),
        provisional=(),
        left_out={},
        anchors=anchors,
    )
    made = calibrate(EmEngine(1), fit_request, "hash").calibration
    known = Priors.from_dict(made.priors).known_guessing
    assert (known.sd, known.items, known.c) == (0.12, ("i0",), (0.15,))
    assert made.c_se[0] < 0.12 * 0.15 * 0.85
    assert (made.c_se[1:] > made.c_se[0]).all()


def test_prior_on_difficulty_is_refused_if_items_are_assigned_by_level() -> None:
    fit_request = plain_request(assignment="by_level")
    fit_request = replace(fit_request, scale=replace(fit_request.scale, priors=Priors(b=OWN_DIFFICULTY)))
    with pytest.raises(PsychometricsError, match="irt scale set prior_b=none --scale s"):
        calibrate(EmEngine(1), fit_request, "hash")


@pytest.mark.parametrize(
    ("model", "rules", "minimum"),
    [("2pl", {}, 500), ("3pl", {}, 1000), ("3pl", {"min_responses": 2000}, 2000), ("2pl", {"min_responses": 120}, 120)],
)
def test_items_of_a_3pl_require_more_responses_to_be_published(model: str, rules: dict[str, int], minimum: int) -> None:
    assert Rules.from_settings(rules).eligibility.min_published_responses(model) == minimum  # type: ignore[arg-type]


def test_items_are_fitted_with_fewer_responses_if_the_scale_publishes_these_items() -> None:
    assert Rules().eligibility.min_fitted_responses == 200
    assert Rules.from_settings({"min_responses": 120}).eligibility.min_fitted_responses == 120


@pytest.mark.parametrize("testlets", [{}, {"i00": "t", "i01": "t"}])
def test_windows_of_a_3pl_always_have_a_histogram(testlets: dict[str, str]) -> None:
    """An origin and its months then never have different shapes. Linking two real forms gave slope .906 and intercept
    −.288 if only the origin had a histogram, and 1.08 and −.43 if both had the same shape."""
    rng = np.random.default_rng(7)
    ids = tuple(f"i{j:02d}" for j in range(20))
    a, b = np.exp(rng.normal(0.2, 0.2, 20)), rng.normal(0, 1, 20)
    scale = Scale("s", model="3pl", rules=Rules.from_settings({"latent": "auto"}))
    for theta in (rng.normal(size=800), (rng.chisquare(3, 1200) - 3) / np.sqrt(6)):
        answers = rng.random((theta.size, 20)) < 0.2 + 0.8 * expit(a * (theta[:, None] - b))
        fit_request = FitRequest(
            scale=scale,
            responses=Responses.from_wide(answers.astype(float), ids),
            provisional=(),
            left_out={},
            testlets=testlets,
        )
        made = calibrate(EmEngine(1), fit_request, "hash")
        assert made.calibration.convergence.converged
        assert (made.calibration.populations[0].nodes != (), made.shape.latent) == (True, "histogram")


class OnePopulation:
    name = "other"

    def calibrate(self, responses: Responses, **_: object) -> None:
        raise AssertionError("it must not be asked")


def test_engine_for_a_single_population_refuses_a_scale_assigned_by_level() -> None:
    fit_request = replace(plain_request(assignment="by_level"))
    with pytest.raises(PsychometricsError, match="engine other fits one population, and items of scale s are assigned"):
        calibrate(OnePopulation(), fit_request, "hash")  # type: ignore[arg-type]
