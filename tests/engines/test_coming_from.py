"""Calls in the tables for those who come from other programs run and return a result."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt

PAGE = Path(__file__).parents[2] / "docs/library/coming-from.md"
ROW = re.compile(r"^\|(?P<theirs>[^|]*)\|(?P<ours>[^|]*)\|$", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")


def calls() -> list[str]:
    """Return the calls in the second column of the page's tables."""
    spans = [span for row in ROW.finditer(PAGE.read_text("utf-8")) for span in SPAN.findall(row["ours"])]
    return [span for span in dict.fromkeys(spans) if isinstance(expression(span), (ast.Call, ast.Attribute))]


def expression(span: str) -> ast.expr | None:
    try:
        return ast.parse(span, mode="eval").body
    except SyntaxError:
        return None


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Make the objects that the page's first paragraph names."""
    ids = [f"q{j}" for j in range(1, 13)]
    truth = irt.ItemParameters.from_frame({"item": ids, "a": [1.2] * 12, "b": np.linspace(-1.5, 1.5, 12)})
    theta = np.random.default_rng(5).normal(size=900)
    x = irt.simulate_responses(truth, theta, random_state=6)
    matrix = np.full((900, 12), np.nan)
    matrix[x.person, x.item] = x.score
    df = pd.DataFrame(matrix.astype(int), columns=ids)
    choices = df.replace({0: "B", 1: "A"})
    counts = irt.equating.ScoreCounts.from_scores(df.sum(axis=1), df[ids[:6]].sum(axis=1))
    later = irt.simulate_responses(truth, theta + 0.3, random_state=7)
    return {
        "irt": irt,
        "df": df,
        "x": x,
        "f": irt.fit(x, model="2pl"),
        "f1": irt.fit(x, model="rasch"),
        "f2": irt.fit(x, model="2pl"),
        "new": irt.fit(later, model="2pl"),
        "old": irt.fit(x, model="2pl"),
        "models": dict.fromkeys(ids, "2pl"),
        "choices": choices,
        "key": dict.fromkeys(ids, "A"),
        "keyed": irt.Responses.from_wide(choices, key=dict.fromkeys(ids, "A")),
        "log": x.to_frame("pandas"),
        "table": irt.ItemParameters.to_program(truth, "mirt", "pandas"),
        "topics": dict(zip(ids, ["algebra"] * 6 + ["geometry"] * 6, strict=True)),
        "g": np.where(np.arange(900) % 2, "focal", "reference"),
        "w": np.full(900, 2.0),
        "covariates": pd.DataFrame({"age": theta + np.random.default_rng(8).normal(size=900)}),
        "scale": irt.scoring.ScoreScale(100.0, 500.0, 200.0, 800.0),
        "raw": df.sum(axis=1).to_numpy(),
        "anchor": df[ids[:6]].sum(axis=1).to_numpy(),
        "counts": counts,
        "counts_old": counts,
        **{name: getattr(irt.equating, name) for name in irt.equating.__all__},
    }


def test_the_page_has_calls_for_each_program() -> None:
    assert len(calls()) > 40


@pytest.mark.filterwarnings("ignore::irt_psychometrics.PsychometricsWarning")  # one ability, fitted by two topics
@pytest.mark.parametrize("call", calls())
def test_calls_for_those_who_come_from_other_programs_run(call: str, names: dict[str, Any]) -> None:
    assert eval(call, dict(names)) is not None
