"""Outputs shown in the notebooks of the library's pages are reproduced by a run, and jobs take few lines."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "library" / "notebooks"
MOST_LINES = {
    "Fit a model to a table": 3,
    "Fit a model to ratings": 1,
    "Planned missing responses": 2,
    "Does the model fit?": 1,
    "Persons with unlikely responses": 1,
    "Score persons": 1,
    "Items that differ between groups": 1,
    "Put a new form on the scale of the old one": 3,
    "Equate two forms": 2,
    "Check options and keys": 2,
    "Score table and certainty of decisions": 2,
    "Simulate an adaptive test": 2,
    "Assemble a form": 2,
    "A table for a paper": 2,
    "Hand items to R's mirt": 1,
    "Read items from R's mirt": 1,
    "Keep a fit, and use it in scikit-learn": 3,
}
"""Job in everyday-jobs.ipynb → largest number of statements, without imports and the display of a result."""


@pytest.mark.ci
def test_outputs_shown_in_notebooks_match_a_fresh_run(
    shared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRT_SHARED", str(shared))
    notebooks = runpy.run_path(str(ROOT / "docs" / "library" / "run_notebooks.py"))
    assert notebooks["main"](["--check"]) == 0, capsys.readouterr().out


def test_everyday_jobs_take_few_statements() -> None:
    """The data are in the first code cell, above all jobs."""
    first, *others = nbformat.read(NOTEBOOKS / "everyday-jobs.ipynb", as_version=4).cells
    assert first.source.startswith("# ")
    lines: dict[str, int] = {}
    for cell in others:
        if cell.source.startswith("## "):
            job = cell.source.splitlines()[0].removeprefix("## ")
            lines[job] = 0
        elif cell.cell_type == "code" and lines:
            lines[job] += sum(map(_is_work, ast.parse(cell.source).body))
    assert lines.keys() == MOST_LINES.keys()
    assert not {job: n for job, n in lines.items() if n > MOST_LINES[job]}


def _is_work(statement: ast.stmt) -> bool:
    """Check whether a statement does more than import modules or display a result that has a name."""
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Name | ast.Attribute)
    return not isinstance(statement, ast.Import | ast.ImportFrom)
