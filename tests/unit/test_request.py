"""What is asked of an engine: who is provisional, which items have a prior, who may fit a scale by level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.calibration.request import FitRequest, calibrate, in_unit
from irt_assets.engines.em import EmEngine
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.priors import (
    GUESSING_PRIOR,
    Beta,
    KnownGuessing,
    LogitNormal,
    LogNormal,
    Normal,
    Priors,
)
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.scales import Scale
from tests.testbed.made_anchors import anchor_set_of


def request(model: str = "2pl", provisional: tuple[str, ...] = ("i1", "k"), **rules: str) -> FitRequest:
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


def test_provisional_items_that_are_no_anchors_have_a_prior_on_their_slope() -> None:
    assert request().priors() == Priors(a=LogNormal(0.0, 0.5), only=("i1",))


def test_a_published_item_has_none_as_the_fit_judges_it() -> None:
    assert replace(request(provisional=("i1", "i2", "k")), published=frozenset({"i2", "other"})).priors() == Priors(
        a=LogNormal(0.0, 0.5), only=("i1",)
    )
    assert replace(request(), published=frozenset({"i1"})).priors() is None


def test_a_3pl_keeps_its_prior_on_guessing_for_all_items() -> None:
    priors = request("3pl").priors()
    assert isinstance(priors.c, LogitNormal)
    assert priors.slopes_held(["i1", "i2", "k"]).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "without",
    [request("rasch"), request("1pl"), request(provisional=()), request(provisional=("k",))],
    ids=["rasch", "1pl", "no provisional item", "a provisional anchor"],
)
def test_no_prior_where_no_item_needs_one_or_slopes_are_shared(without: FitRequest) -> None:
    assert without.priors() is None


OWN_SLOPE, OWN_DIFFICULTY, OWN_GUESSING = LogNormal(0.2, 0.3), Normal(0.0, 2.0), Beta(5.0, 17.0)


@pytest.mark.parametrize(
    ("model", "own", "expected"),
    [
        ("2pl", Priors(a=OWN_SLOPE), Priors(a=OWN_SLOPE)),
        ("2pl", Priors(b=OWN_DIFFICULTY), Priors(b=OWN_DIFFICULTY)),
        ("rasch", Priors(b=OWN_DIFFICULTY), Priors(b=OWN_DIFFICULTY)),
        ("3pl", Priors(a=OWN_SLOPE, c=OWN_GUESSING), Priors(a=OWN_SLOPE, c=OWN_GUESSING)),
        ("3pl", Priors(a=OWN_SLOPE), Priors(a=OWN_SLOPE, c=GUESSING_PRIOR.c)),
        ("3pl", Priors(c=OWN_GUESSING), Priors(a=LogNormal(0.0, 0.5), c=OWN_GUESSING, only=("i1",))),
    ],
)
def test_the_scales_own_priors_serve_all_items_and_provisional_ones_keep_theirs_where_it_has_none(
    model: str, own: Priors, expected: Priors
) -> None:
    asked = request(model)
    assert replace(asked, scale=replace(asked.scale, priors=own)).priors() == expected


def test_the_c_of_anchors_that_have_one_is_known_to_a_fit_and_all_other_c_are_not() -> None:
    """An anchor from a 2PL has c = 0, which says nothing of c under a 3PL."""
    rng = np.random.default_rng(3)
    ids = tuple(f"i{j}" for j in range(12))
    answers = rng.random((1000, 12)) < 0.2 + 0.8 * expit(rng.normal(0, 1, (1000, 1)))
    zero, one = np.zeros(3), np.ones(3)
    c = np.array([0.15, 0.0, 0.3])
    anchors = anchor_set_of("s", "1", ("i0", "i1", "gone"), one, zero, c, one, one, zero, (None,) * 3, zero > 0)
    asked = FitRequest(
        scale=Scale("s", model="3pl", rules=Rules()),
        responses=Responses.from_wide(answers.astype(float), ids),
        provisional=(),
        left_out={},
        anchors=anchors,
    )
    made = calibrate(EmEngine(1), asked, "hash").calibration
    assert Priors.from_dict(made.priors).known_guessing == KnownGuessing(0.12, ("i0",), (0.15,))
    assert made.c_se[0] < 0.12 * 0.15 * 0.85
    assert (made.c_se[1:] > made.c_se[0]).all()


def test_a_prior_on_guessing_alone_is_asked_for_where_no_item_is_provisional() -> None:
    asked = request("3pl", provisional=())
    assert replace(asked, scale=replace(asked.scale, priors=Priors(c=OWN_GUESSING))).priors() == Priors(c=OWN_GUESSING)


def test_a_scale_by_level_takes_no_prior_on_difficulty() -> None:
    asked = request(assignment="by_level")
    asked = replace(asked, scale=replace(asked.scale, priors=Priors(b=OWN_DIFFICULTY)))
    with pytest.raises(PsychometricsError, match="irt scale set prior_b=none --scale s"):
        calibrate(EmEngine(1), asked, "hash")


def test_a_prior_holds_in_the_unit_of_all_learners_whatever_the_unit_of_the_fit() -> None:
    """A slope of 1 for θ with SD 1 is one of 0.5 where the same learners have an SD of 2."""
    prior = in_unit(Priors(a=LogNormal(0.0, 0.5), only=("i",)), 2.0).a
    assert np.exp(prior.mean) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("model", "rules", "minimum"),
    [("2pl", {}, 500), ("3pl", {}, 1000), ("3pl", {"min_responses": 2000}, 2000), ("2pl", {"min_responses": 120}, 120)],
)
def test_a_3pl_needs_more_responses_to_be_published(model: str, rules: dict[str, int], minimum: int) -> None:
    assert Rules.from_settings(rules).eligibility.min_published_responses(model) == minimum  # type: ignore[arg-type]


def test_a_scale_that_publishes_items_with_fewer_fits_them_too() -> None:
    assert Rules().eligibility.min_fitted_responses == 200
    assert Rules.from_settings({"min_responses": 120}).eligibility.min_fitted_responses == 120


@pytest.mark.parametrize("testlets", [{}, {"i00": "t", "i01": "t"}])
def test_windows_of_a_3pl_have_a_histogram_each_whatever_their_answers_ask_for(testlets: dict[str, str]) -> None:
    """So an origin and its months never have different ones: two real forms came out with slope .906 and intercept
    −.288 where the origin had a histogram and the month did not, and with 1.08 and −.43 where both had the same."""
    rng = np.random.default_rng(7)
    ids = tuple(f"i{j:02d}" for j in range(20))
    a, b = np.exp(rng.normal(0.2, 0.2, 20)), rng.normal(0, 1, 20)
    scale = Scale("s", model="3pl", rules=Rules.from_settings({"latent": "auto"}))
    for theta in (rng.normal(size=800), (rng.chisquare(3, 1200) - 3) / np.sqrt(6)):
        answers = rng.random((theta.size, 20)) < 0.2 + 0.8 * expit(a * (theta[:, None] - b))
        asked = FitRequest(
            scale=scale,
            responses=Responses.from_wide(answers.astype(float), ids),
            provisional=(),
            left_out={},
            testlets=testlets,
        )
        made = calibrate(EmEngine(1), asked, "hash")
        assert made.calibration.convergence.converged
        assert made.calibration.populations[0].nodes != ()
        assert made.shape.latent == "histogram"


class OnePopulation:
    name = "other"

    def calibrate(self, responses: Responses, **_: object) -> None:
        raise AssertionError("it must not be asked")


def test_an_engine_for_one_population_does_not_fit_a_scale_by_level() -> None:
    asked = replace(request(assignment="by_level"))
    with pytest.raises(PsychometricsError, match="engine other fits one population, and items of scale s are assigned"):
        calibrate(OnePopulation(), asked, "hash")  # type: ignore[arg-type]
