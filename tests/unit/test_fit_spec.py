"""The spec stored with a fit: round trips, and errors if a key is missing, misspelt or of the wrong type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from irt_assets.common.arrays import finite
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.evidence import GateResult
from irt_assets.gates.gates import SET_GATES
from irt_assets.ledger.encoding import decode, encode
from irt_assets.ledger.fit_rows import statistics_spec
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, Spread, StagedSpec
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Convergence, Flag, Population, fit_em
from irt_psychometrics.itemfit import FitSummary
from irt_psychometrics.items import LogNormal, Priors, item_model
from irt_psychometrics.responses import Responses
from resources.failures import PermanentFailure
from tests.helpers.fit_specs import BEFORE_TAU, CONSTANTS, MISFIT, SET, linked_json, staged_json
from tests.helpers.same_fits import assert_same
from tests.unit.test_gates import evidence, linked_with, staged

FIT = "2026-06-default-em-1 (2026-06, default, em)"
RULES = Rules.from_settings({"second_dimension": "hold", "new_misfit": "hold", "latent": "auto"})
SCALE = Scale("default", priors=Priors(a=LogNormal(0.0, 0.5)), rules=RULES)
OF_NAMES = {"left_out", "of", "loadings", "weights", "eligibility", "scale_priors", "priors"}
"""Names of objects whose keys are items, rules or parameters."""


def test_spec_is_unchanged_after_reading_and_writing() -> None:
    assert StagedSpec.from_json(staged_json(), FIT).as_json() == staged_json()
    assert LinkedSpec.from_json(linked_json(), FIT).as_json() == linked_json()


def test_failed_attempt_stores_a_spec_without_statistics() -> None:
    stored = StagedSpec(model="2pl", latent="auto").as_json()
    assert stored.keys() == staged_json().keys()
    assert (stored["version"], stored["fit_statistics"], stored["left_out"]) == (1, None, {})
    assert StagedSpec.from_json(stored, FIT) == StagedSpec(model="2pl", latent="auto")


def test_unknown_keys_are_ignored_only_if_the_spec_has_a_later_version() -> None:
    later = linked_json() | {"version": 2, "of a later version": 1}
    later["latent"]["of a later version"] = 1
    spec = LinkedSpec.from_json(later, FIT)
    assert (spec.version, spec.latent.mean) == (2, -0.2)
    with pytest.raises(PermanentFailure, match="of a later version is an unknown key"):
        LinkedSpec.from_json(later | {"version": 1}, FIT)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fit_statistics": {"set": SET}}, "fit_statistics.items is missing"),
        ({"left_out": {"i3": "12"}}, "left_out.i3: Input should be a valid integer"),
        ({"latent": "gamma"}, "latent: Input should be 'normal', 'histogram' or 'auto'"),
        ({"misfit": {"refrence": None}}, "misfit.reference is missing; misfit.refrence is an unknown key"),
        ({"scale_priors": {"a": {"family": "Cauchy"}}}, "scale_priors: unknown prior {'family': 'Cauchy'} on 'a'"),
        ({"version": "1"}, "version: Input should be a valid integer"),
        ({"misfit": MISFIT | {"growth": {}}}, "misfit.growth.ratio is missing; misfit.growth.rmsea is missing"),
        ({"shape": {"latent": "normal", "why": ""}}, "shape.normality is missing"),
    ],
)
def test_error_for_an_unreadable_spec_names_the_fit_the_key_and_the_remedy(change: Any, problem: str) -> None:
    with pytest.raises(PermanentFailure) as failure:
        StagedSpec.from_json(staged_json() | change, FIT)
    assert str(failure.value).startswith(f"the facts stored with the fit {FIT} cannot be read: {problem}")
    assert "Materialise item_calibration again" in str(failure.value)


def test_linking_constants_of_an_origin_window_are_not_tested() -> None:
    origin = LinkingConstants.of_origin()
    assert LinkingConstants.from_json(origin.as_json(), FIT) == origin
    assert (origin.tested, origin.as_json().keys()) == (False, BEFORE_TAU.keys())


def test_linked_spec_contains_the_staged_spec() -> None:
    spec = StagedSpec.from_json(staged_json(), FIT)
    constants = LinkingConstants.from_json(CONSTANTS, FIT)
    stored = linked_json()
    found = spec.to_linked(constants, Spread(mean=-0.2, sd=1.1), LinkedSpec.from_json(stored, FIT).testlets, {})
    assert found.as_json() == stored
    assert LinkedSpec.from_json(found.as_json(), FIT) == found


# -- gates do not pass because a key is missing ----------------------------------------------------------


def damaged_copies(stored: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield copies of a stored object with a key removed or misspelt at any depth, each with the path of that key."""
    if isinstance(stored, list):
        for k, one in enumerate(stored):
            for path, changed in damaged_copies(one, (*at, k)):
                yield path, [*stored[:k], changed, *stored[k + 1 :]]
    if not isinstance(stored, dict):
        return
    for key, value in stored.items():
        if not OF_NAMES & set(at) and at != ("fit_statistics", "items") and (*at, key) != ("version",):
            rest = {name: of for name, of in stored.items() if name != key}
            yield ".".join(map(str, (*at, key))), rest
            yield ".".join(map(str, (*at, f"{key} misspelt"))), rest | {f"{key}x": value}
        for path, changed in damaged_copies(value, (*at, key)):
            yield path, stored | {key: changed}


def verdicts(staged_as: dict[str, Any], linked_as: dict[str, Any]) -> dict[str, GateResult]:
    """Evaluate every gate and check on a month whose fit is stored like this."""
    month = evidence(
        scale=SCALE,
        staged=staged(spec=StagedSpec.from_json(staged_as, FIT)),
        linked=replace(linked_with(), model_spec=LinkedSpec.from_json(linked_as, FIT)),
    )
    return {gate.name: gate.judge(month) for gate in (*SET_GATES, *ADVISORY_CHECKS)}


def test_undamaged_fit_passes_all_gates_and_all_checks_except_independence() -> None:
    found = verdicts(staged_json(), linked_json())
    assert found.keys() - passed_gates(found) == {"items_are_independent"}  # i1 and i2
    assert "one pair of items shares more than the ability" in found["items_are_independent"].why


@pytest.mark.parametrize("kind", ["staged", "linked"])
def test_damaged_spec_raises_an_error_or_changes_a_verdict(kind: str) -> None:
    whole = {"staged": staged_json(), "linked": linked_json()}
    cases = {path: tuple((whole | {kind: spec}).values()) for path, spec in damaged_copies(whole[kind])}
    assert len(cases) > 200
    assert unnoticed_damage(cases) == set()


def unnoticed_damage(cases: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> set[str]:
    """Return the cases that can be read and have the same verdicts as the undamaged fit."""
    whole = passed_gates(verdicts(staged_json(), linked_json()))
    found = set()
    for path, (staged_as, linked_as) in cases.items():
        try:
            if passed_gates(verdicts(staged_as, linked_as)) == whole:
                found.add(path)
        except PermanentFailure as failure:
            if FIT not in str(failure):
                found.add(path)
    return found


def passed_gates(found: dict[str, GateResult]) -> set[str]:
    return {name for name, verdict in found.items() if verdict.passed}


# -- fits --------------------------------------------------------------------------------------------
# Encoding of a fit as bytes, and decoding.

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def populations() -> st.SearchStrategy[Population]:
    shape = st.sampled_from([((), ()), ((-1.0, 0.1), (1 / 3, 2 / 3))])
    numbers = st.tuples(st.text(), st.integers(0, 10**9), ANY_FLOAT, ANY_FLOAT, ANY_FLOAT, ANY_FLOAT)
    return st.builds(lambda plain, histogram: Population(*plain, *histogram), numbers, shape)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    n, size = draw(st.integers(0, 5)), draw(st.integers(2, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, n))
    values[rng.random((3, n)) < 0.2] = np.nan
    values[rng.random((3, n)) < 0.1] = np.inf
    ids = draw(st.lists(st.text(min_size=1), min_size=n, max_size=n, unique=True))
    flags = draw(st.lists(st.lists(st.sampled_from(list(Flag)), max_size=2).map(tuple), min_size=n, max_size=n))
    converged = draw(st.booleans())
    symmetric = rng.standard_normal((n, size, size))
    symmetric = symmetric + symmetric.transpose(0, 2, 1)
    return Calibration(
        item_ids=tuple(ids),
        models=tuple(draw(st.lists(st.sampled_from(["rasch", "1pl", "2pl", "3pl"]), min_size=n, max_size=n))),
        engine="em",
        engine_version=draw(st.text()),
        a=values[0],
        d=values[1],
        c=values[2],
        cov=symmetric,
        joint_cov=rng.standard_normal((2 * n, 2 * n)) if draw(st.booleans()) else None,
        n=rng.integers(0, 10**12, n),
        n_correct=rng.integers(0, 10**12, n),
        flags=tuple(flags),
        latent_mean=draw(ANY_FLOAT),
        latent_sd=draw(ANY_FLOAT),
        n_persons=draw(st.integers(0, 10**9)),
        convergence=Convergence(converged, 3, draw(ANY_FLOAT), draw(ANY_FLOAT), draw(ANY_FLOAT), 7, draw(st.text())),
        data_hash=draw(st.text()),
        populations=tuple(draw(st.lists(populations(), max_size=2))),
        priors=draw(st.sampled_from([{}, item_model("3pl").default_priors.as_dict()])),
        anchored=tuple(ids[: n // 2]),
    )


@given(calibrations())
@settings(max_examples=60, deadline=None)  # each example writes a zip archive, which is slow on a busy machine
def test_fit_is_decoded_bit_for_bit(calibration: Calibration) -> None:
    assert_same(decode(encode(calibration)), calibration)


def test_reading_a_stored_fit_cannot_run_code() -> None:
    """Arrays of objects are stored as pickles, so reading them is refused."""
    fit = decode(encode(made_up()))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        decode(encode(replace(fit, a=np.array([object()], dtype=object))))


def made_up() -> Calibration:
    one = np.ones(1)
    return Calibration(
        ("i",), ("2pl",), "em", "1", one, one, one, np.eye(2)[None], None, one.astype(int), one.astype(int), ((),),
        0.0, 1.0, 1, Convergence(True, 1, 0.0, 0.0, -1.0, 2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "stored"), [(1.5, 1.5), (float("nan"), None), (float("inf"), None), (-float("inf"), None)]
)
def test_numbers_that_are_not_finite_are_null_in_json(number: float, stored: float | None) -> None:
    assert finite(number) == stored


@pytest.mark.ci
def test_statistics_are_stored_as_json_with_null_for_missing_values() -> None:
    difficulties = np.linspace(-1.5, 1.5, 24)
    theta = np.random.default_rng(9).normal(size=(400, 1))
    scores = (np.random.default_rng(10).random((400, 24)) < 1 / (1 + np.exp(difficulties - theta))).astype(float)
    responses = Responses.from_wide(np.column_stack([scores, np.ones(400)]))
    spec = statistics_spec(FitSummary.from_fit(responses, fit_em(responses)))
    again = json.loads(json.dumps(spec.as_json(), allow_nan=False))
    assert (again["items"]["rmsd"][-1], len(again["items"]["rmsd"])) == (None, 25)
