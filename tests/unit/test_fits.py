"""A fit as bytes and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irt_assets.ledger.encoding import decode, encode, finite
from irt_assets.psychometrics.core.models import Calibration, Convergence, Flag, Population
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR
from tests.helpers.same_fits import assert_same

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
        priors=draw(st.sampled_from([{}, GUESSING_PRIOR.as_dict()])),
        anchored=tuple(ids[: n // 2]),
    )


@given(calibrations())
@settings(max_examples=60, deadline=None)  # a zip archive each: milliseconds on an idle machine, more on a busy one
def test_a_fit_comes_back_to_the_last_bit(calibration: Calibration) -> None:
    assert_same(decode(encode(calibration)), calibration)


def test_what_is_stored_cannot_run_code() -> None:
    """Arrays of objects would be pickles."""
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
def test_json_gets_null_for_what_is_no_number(number: float, stored: float | None) -> None:
    assert finite(number) == stored
