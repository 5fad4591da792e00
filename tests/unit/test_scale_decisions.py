"""Decisions on a scale: priors read from text, the decision in force for a window, and movement of abilities."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from irt_assets.ledger.fit_spec import FitSettings, StagedSpec
from irt_assets.ledger.fits import model_spec, settings_difference
from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import (
    ScaleDecision,
    decision_in_force,
    movement_in_force,
    priors_in_force,
    proposals_wanted,
)
from irt_psychometrics.items import Beta, Normal, Priors
from irt_psychometrics.scoring import Movement
from tests.helpers.pictures import Picture
from tests.helpers.sentences import refusal

NO_PRIORS = (
    ("a", "beta(5,17)"),
    ("b", "beta(5,17)"),
    ("c", "normal(0,1)"),
    ("a", ""),
    ("a", "lognormal"),
    ("a", "lognormal(0)"),
    ("a", "lognormal(0,1,2)"),
    ("a", "lognormal(0,0.5"),
    ("a", "lognormal(0,x)"),
    ("a", "lognormal(nan,1)"),
    ("a", "lognormal(0,inf)"),
    ("a", "lognormal(0,0)"),
    ("b", "normal(0,-2)"),
    ("c", "beta(1,17)"),
    ("d", "normal(0,1)"),
)


def test_invalid_prior_is_refused_with_the_valid_forms(picture: Picture) -> None:
    picture({f"{one}: {text}": refusal(Priors.parse, one, text) for one, text in NO_PRIORS}, "no_priors")


def month(number: int) -> datetime:
    return datetime(2026, number, 1, tzinfo=UTC)


def decision(number: int, subject: Any, value: str, since: int) -> ScaleDecision:
    return ScaleDecision(number, "s", subject, value, month(since), "Ann", "because", month(since))


HISTORY = [
    decision(1, "model", "3pl", 6),
    decision(2, "prior_c", "beta(5, 17)", 6),
    decision(3, "model", "rasch", 8),
    decision(4, "prior_c", "none", 8),
    decision(5, "guessing", "accepted", 9),
]


@pytest.mark.parametrize(("window", "value"), [(5, None), (6, "3pl"), (7, "3pl"), (8, "rasch"), (12, "rasch")])
def test_newest_decision_effective_by_the_start_of_a_window_is_in_force(window: int, value: str | None) -> None:
    found = decision_in_force(HISTORY, "model", month(window))
    assert (found.value if found else None) == value


def test_newest_decision_of_all_is_in_force_if_no_window_is_given() -> None:
    assert decision_in_force(HISTORY, "model", None) == HISTORY[2]
    assert decision_in_force([], "model", None) is None


def test_later_decision_for_an_earlier_month_replaces_decisions_for_later_months() -> None:
    back = [*HISTORY, decision(6, "model", "2pl", 7)]
    assert [found.value for m in (6, 7, 8) if (found := decision_in_force(back, "model", month(m)))] == [
        "3pl",
        "2pl",
        "2pl",
    ]


def test_priors_in_force_follow_the_decisions_for_the_window() -> None:
    assert priors_in_force(HISTORY, month(5)) is None
    assert priors_in_force(HISTORY, month(7)) == Priors(c=Beta(5.0, 17.0))
    assert priors_in_force(HISTORY, month(8)) is None
    assert priors_in_force([*HISTORY, decision(6, "prior_b", "normal(0, 2)", 8)], None) == Priors(b=Normal(0.0, 2.0))


def test_fit_differs_from_its_scale_if_its_model_or_priors_are_not_in_force() -> None:
    scale = Scale("s", model="3pl", model_since=month(8), priors=Priors(c=Beta(5.0, 17.0)))
    assert settings_difference(model_spec(scale), scale) is None
    assert "scored_items" not in model_spec(scale).as_json(), "a log without them keeps what it stored"
    other = settings_difference(StagedSpec(model="2pl"), scale)
    assert other == "the fit is a 2PL and the scale's model is 3pl since 2026-08"
    assert (
        settings_difference(StagedSpec(model="rasch"), Scale("s")) == "the fit is a Rasch and the scale's model is 2pl"
    )
    assert settings_difference(StagedSpec(model="3pl"), scale) == (
        "the fit was made with priors none and the scale's are c beta(5, 17)"
    )


def test_fit_without_a_recorded_latent_distribution_does_not_differ_from_its_scale() -> None:
    assert settings_difference(FitSettings(model="2pl", latent=None), Scale("s")) is None


MOVED = [
    decision(1, "ability_variance", "0.0025", 6),
    decision(2, "ability_growth", "0.01", 7),
    decision(3, "ability_variance", "auto", 8),
    decision(4, "occasion_variance", "0.09", 9),
]


@pytest.mark.parametrize(
    ("at", "movement"),
    [
        (6, Movement()),
        (7, Movement(0.0025)),
        (8, Movement(0.0025, 0.01)),
        (9, Movement(0.0025, 0.01)),
        (10, Movement(0.0025, 0.01, 0.09)),
        (None, Movement(0.0025, 0.01, 0.09)),
    ],
)
def test_movement_in_force_is_decided_for_the_month_and_auto_keeps_the_number(
    at: int | None, movement: Movement
) -> None:
    """Abilities of a month refer to its end, which is the start of the next month."""
    assert movement_in_force(MOVED, None if at is None else month(at)) == movement


def test_movement_is_proposed_from_auto_until_a_number_is_decided() -> None:
    assert [proposals_wanted(MOVED[:n]) for n in range(5)] == [False, False, False, True, True]
    assert not proposals_wanted([*MOVED, decision(5, "ability_variance", "0", 10)])
