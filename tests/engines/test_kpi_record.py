"""The KPI record of a learner: values in range for any columns, and null if and only if there is a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, strategies as st

from irt_assets.kpis.assets import out_of_range, unexplained_nulls
from irt_assets.kpis.kpi_definitions import RANGES
from irt_assets.kpis.record import churn, engagement, goal, progress, records

COUNTS = st.none() | st.integers(0, 400)
NUMBERS = st.none() | st.floats(-6, 6)
ROWS = st.fixed_dictionaries(
    {
        "user_id": st.just("u"),
        "scale_id": st.sampled_from([None, "in force", "not published"]),
        "target_theta": NUMBERS,
        "n_recent": COUNTS,
        "n_previous": COUNTS,
        "improvement": st.none() | st.floats(-1, 1),
        "theta": NUMBERS,
        "se_total": st.none() | st.floats(1e-3, 3),
        "se": st.floats(1e-3, 3),
        "since": st.floats(0, 0.2),
        "timed_recent": COUNTS,
        "timed_previous": COUNTS,
        "slow_recent": NUMBERS,
        "slow_previous": NUMBERS,
    }
)
MENDED = st.tuples(COUNTS, COUNTS, COUNTS).map(lambda t: tuple(sorted((x or 0 for x in t), reverse=True)))
PRESENCE = st.fixed_dictionaries(
    {f"{name}_{days}": st.none() | st.integers(1, 56) for name in ("sessions", "days") for days in (28, 56)}
    | {f"spread_{days}": st.integers(0, 56) for days in (28, 56)}
    | {"hints": st.none() | st.floats(0, 50), "dwell": st.none() | st.floats(0, 1e12)}
)


@given(st.lists(st.tuples(ROWS, MENDED), min_size=1, max_size=5))
def test_every_kpi_on_a_scale_is_in_range_or_null_with_a_reason(drawn: list[tuple[dict[str, Any], Any]]) -> None:
    rows = pd.DataFrame([row | dict(zip(("wrong", "again", "recovered"), m, strict=True)) for row, m in drawn])
    for name in ("timed", "n"):  # medians and abilities exist if there are answers
        for part in ("recent", "previous"):
            column = {"timed": f"slow_{part}", "n": "improvement"}[name]
            rows[column] = rows[column].fillna(0.0)
    for record in records(progress(rows, {"in force"}) | {"P": goal(rows, {"in force"})}):
        whole = record | {"A_t": 0.0, "S": 0.0}
        assert [*out_of_range(whole)] == []
        assert [*unexplained_nulls(whole)] == []
        json.dumps(record, allow_nan=False)


@given(st.lists(PRESENCE, min_size=1, max_size=5), st.integers(1, 60 * 86_400_000_000))
def test_engagement_and_risk_always_have_a_value_in_range(drawn: list[dict[str, Any]], idle: int) -> None:
    frame = pd.DataFrame(drawn)
    for values, named in (engagement(frame), churn(frame, np.full(len(frame), float(idle)))):
        assert ((values >= 0) & (values <= 1)).all()
        assert len(named) == len(frame)


def test_active_learner_has_full_engagement_and_a_low_risk_of_churn() -> None:
    full = {"sessions_28": 28, "days_28": 28, "spread_28": 27, "hints": 0.0, "dwell": 900e6}
    frame = pd.DataFrame([full | {"sessions_56": 56, "days_56": 56, "spread_56": 55}])
    assert engagement(frame)[0].tolist() == [1.0]
    assert churn(frame, np.array([1.0]))[0][0] < 0.04  # the gaps alone: 0.25 · 1/7


def test_kpis_that_are_missing_out_of_range_or_unexplained_are_reported() -> None:
    record = dict.fromkeys(RANGES, 0.5) | {"P": None, "S": 1.5, "why": {"A_t": "none"}}
    del record["E_t"]
    assert [*out_of_range(record)] == ["E_t is missing", "S = 1.5, expected 0 to 1"]
    assert [*unexplained_nulls(record)] == ["E_t = None, why: None", "A_t = 0.5, why: none", "P = None, why: None"]
