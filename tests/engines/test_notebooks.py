"""Outputs shown in the notebooks of the library's pages are reproduced by a run."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.ci
def test_outputs_shown_in_notebooks_match_a_fresh_run(
    shared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRT_SHARED", str(shared))
    notebooks = runpy.run_path(str(ROOT / "docs" / "library" / "run_notebooks.py"))
    assert notebooks["main"](["--check"]) == 0, capsys.readouterr().out
