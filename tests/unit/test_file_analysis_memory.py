"""Memory of the item analysis of a file."""

from __future__ import annotations

import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from irt_assets.intake import sources
from irt_assets.intake.library_files import open_rows
from irt_psychometrics.cells import choices, notes
from irt_psychometrics.classical import item_analysis
from irt_psychometrics.commands import Files, analyse, answers
from irt_psychometrics.core.responses import Responses


@pytest.mark.ci
@pytest.mark.parametrize("with_key", [False, True])
def test_analysis_of_a_file_needs_few_bytes_a_cell(
    with_key: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes the difference of the peaks at two sizes as the memory of the cells, because blocks are small here."""
    monkeypatch.setattr(sources, "BLOCK", 2**16)
    for module in (item_analysis, answers, choices, notes):
        monkeypatch.setattr(module, "BLOCK", 2**12)
    items, peaks, rng, rows_read = 400, list[int](), np.random.default_rng(1), list[tuple[int, int]]()
    key = tmp_path / "key.csv"
    key.write_text("item,key\n" + "".join(f"q{j},1\n" for j in range(items)))
    files = Files(partial(open_rows, progress=lambda done, total: rows_read.append((done, total))))
    for persons in (200, 600):
        file = tmp_path / f"{persons}.csv"
        rows = (",".join(map(str, row)) for row in rng.integers(0, 2, (persons, items)).tolist())
        file.write_text("\n".join([",".join(f"q{j}" for j in range(items)), *rows]))
        tracemalloc.start()
        analyse(files.answers_by_options(file, key if with_key else None, None, None, None))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows_read[-1][0] == persons <= rows_read[-1][1]
    assert (peaks[1] - peaks[0]) / (400 * items) <= 20


def test_notes_on_patterns_need_no_memory_for_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums over all answers took 24 bytes an answer, more than the answers themselves."""
    monkeypatch.setattr(notes, "BLOCK", 2**12)
    scores = np.random.default_rng(1).integers(0, 2, (1_000, 400), dtype=np.int8)
    scores[:9] = 0
    responses = Responses.from_wide(scores)
    tracemalloc.start()
    [zeros] = notes.describe_cells({}, (), *notes.sums_of(responses))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert zeros.startswith("9 persons have 0 on all 400 items")
    assert peak / scores.size < 2
