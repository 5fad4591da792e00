"""The same person never passes by one path and fails by another: table, issued row, response, transcript and θ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, event, given, strategies as st

from irt_assets.abilities.online import Theta
from irt_assets.blocks import plain
from irt_assets.item_analysis.stored import FormRow
from irt_assets.ledger.publications import PublishedSet
from irt_assets.reports.transcript_blocks import transcript_blocks
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_assets.scores.form_tables import FormTable, _make
from irt_assets.scores.issued import IssuedScore
from irt_assets.scores.issuing import _by_table
from irt_assets.scores.reported import report_thetas, score_mark
from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from services.theta_api.scores import score_body, theta_body
from tests.helpers.sentences import refusal

AT = datetime(2026, 6, 4, tzinfo=UTC)
NEAR = (0.0, 1e-10, -1e-10, 9e-10, -9e-10, 1e-6, -1e-6, 0.3, -0.3)
"""Distances of the pass mark from an unrounded score of the table, in points."""


@st.composite
def scales(draw: st.DrawFn, score_by: tuple[str, ...]) -> Scale:
    lowest = draw(st.sampled_from([-1_000_000.0, -50.0, 0.0, 400.0]))
    settings = {
        "score_slope": draw(st.sampled_from([0.5, 10.0, 33.3, 100.0])),
        "score_intercept": draw(st.sampled_from([0.0, 0.1, 500.0])),
        "score_step": draw(st.sampled_from([0.001, 0.1, 1.0, 5.0, 150.0])),
        "score_lowest": lowest,
        "score_highest": draw(st.sampled_from([1_000_000.0, lowest + 40.0, lowest + 700.5])),
        "score_by": draw(st.sampled_from(score_by)),
    }
    return Scale("default", rules=Rules.from_settings(settings), pass_theta=0.0)


@st.composite
def tables(draw: st.DrawFn, *score_by: str) -> tuple[Scale, FormTable]:
    """A scale and the table of a form, whose mark is often a score of the table, or a rounding error off it."""
    scale = draw(scales(score_by))
    a = draw(st.lists(st.sampled_from([0.4, 0.8, 1.2, 2.0]), min_size=3, max_size=9))
    b = draw(st.lists(st.floats(-2.5, 2.5).map(lambda x: round(x, 2)), min_size=len(a), max_size=len(a)))
    c = draw(st.sampled_from([0.0, 0.2]))
    items = {f"i{k}": ItemRow(*values, c) for k, values in enumerate(zip(a, b, strict=True))}
    counts = draw(st.lists(st.integers(0, 9), min_size=len(a) + 1, max_size=len(a) + 1))
    rules = scale.rules.scores
    form = FormRow(form_id="F", n=sum(counts), n_items=len(a), max_score=len(a), scores=tuple(counts))

    def make(pass_theta: float | None) -> tuple[Scale, FormTable]:
        marked = Scale("default", rules=scale.rules, pass_theta=pass_theta)
        found = _make(marked, "2026-06", PublishedSet(items, "hash"), "F", dict.fromkeys(items, 1), form, None)
        return marked, found

    try:
        _, unmarked = make(None)
        k = draw(st.integers(0, len(a)))
        off = draw(st.sampled_from(NEAR))
        return make(float(unmarked.table.theta[k]) + off / rules.score_slope)
    except (PermanentFailure, PsychometricsError):
        assume(False)
        raise


def sit(table: FormTable) -> list[IssuedScore]:
    """Issued rows of one learner for each raw score, from 0 to full marks."""
    n = len(table.spec["items"])
    answers = pd.DataFrame(
        [
            {"user_id": f"u{raw}", "session_id": "s", "item_id": item, "completed_at": AT, "points": float(at < raw)}
            for raw in range(n + 1)
            for at, item in enumerate(table.spec["items"])
        ]
    )
    without: dict[str, str] = {}
    rows = _by_table(table, answers, table.spec["items"], AT + timedelta(hours=1), without)
    assert without == {}
    return sorted(rows, key=lambda row: row.raw or 0)


def transcript_passes(row: IssuedScore, scale: Scale) -> bool:
    blocks = transcript_blocks([row], {"default": scale}, "UTC")
    texts = [plain(block.text) for block in blocks if hasattr(block, "text")]  # type: ignore[union-attr]
    passes, fails = (any(words in text for text in texts) for words in ("(passed)", "(not passed)"))
    assert passes != fails
    return passes


def theta(at: float, se: float) -> Theta:
    return Theta("default", at, se, None, 9, "online", AT, "hash", 1, AT, AT, "id")


def assert_paths_agree(scale: Scale, made: FormTable) -> None:
    table, rows = made.table, sit(made)
    assert [row.raw for row in rows] == table.raw.tolist()
    cut = table.raw_cut
    for raw, row in enumerate(rows):
        passes = cut is not None and raw >= cut
        assert bool(table.passes[raw]) == row.passes == score_body(vars(row))["passes"] == passes
        assert transcript_passes(row, scale) == passes
    assert made.passes_or_none == [row.passes for row in rows], "a mark that nobody reaches is a mark"
    event(f"cut: {'none' if cut is None else 'lowest' if cut == 0 else 'between'}")


@given(tables("eap", "test-curve"))
def test_same_raw_score_passes_by_every_path_on_scales_in_theta(drawn: tuple[Scale, FormTable]) -> None:
    scale, made = drawn
    assert_paths_agree(scale, made)
    table = made.table
    reported = report_thetas(scale, table.theta, table.se)
    assert reported.passes is not None
    np.testing.assert_array_equal(reported.passes, table.passes)
    np.testing.assert_array_equal(reported.scaled, table.scaled)
    for raw, (at, se) in enumerate(zip(table.theta, table.se, strict=True)):
        body: Any = theta_body(scale, theta(float(at), float(se)))
        assert body["passes"] == table.passes[raw]
        assert body["scaled"] == table.scaled[raw]


@given(tables("normalised"))
def test_same_raw_score_passes_by_every_path_on_normalised_scales(drawn: tuple[Scale, FormTable]) -> None:
    scale, made = drawn
    assert_paths_agree(scale, made)
    same = np.diff(made.table.unrounded) == 0
    assert (np.diff(made.table.passes.astype(int))[same] == 0).all(), "the same score, another verdict"
    assert "normalised" in refusal(report_thetas, scale, made.table.theta, made.table.se)


@given(scales(("eap",)), st.sampled_from(NEAR), st.booleans())
def test_mark_that_everybody_or_nobody_reaches_is_an_error(scale: Scale, off: float, highest: bool) -> None:
    """A mark within rounding errors of a limit is on it: everybody reaches the lowest score."""
    rules = scale.rules.scores
    limit = rules.score_highest if highest else rules.score_lowest
    assume(abs(limit) < 1_000_000)
    marked = Scale("default", rules=scale.rules, pass_theta=(limit + off - rules.score_intercept) / rules.score_slope)
    ends = np.array([-1e6, 1e6])
    if off < -1e-9 if not highest else off > 1e-9:
        assert "everybody or nobody would pass" in refusal(score_mark, marked)
    try:
        passes = report_thetas(marked, ends, np.ones(2)).passes
    except PermanentFailure:
        assert "everybody or nobody would pass" in refusal(score_mark, marked)
        assert theta_body(marked, theta(0.0, 0.3)) is None
    else:
        assert passes is not None
        assert passes.tolist() == [False, True]


@pytest.mark.parametrize("score_by", ["eap", "test-curve"])
def test_rounding_shows_the_mark_and_does_not_pass(score_by: str) -> None:
    """499.6 is shown as 500, and does not pass at the mark 500."""
    rules = Rules.from_settings({"score_slope": 100.0, "score_intercept": 500.0, "score_by": score_by})
    found = report_thetas(Scale("default", rules=rules, pass_theta=0.0), np.array([-0.004, 0.0, 0.004]), np.ones(3))
    assert found.scaled.tolist() == [500, 500, 500]
    assert found.passes is not None
    assert found.passes.tolist() == [False, True, True]
