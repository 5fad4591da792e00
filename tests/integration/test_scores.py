"""Score tables of forms, their release, and the scores that are handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from irt_assets.scores.issued import current_scores
from irt_assets.scores.issuing import issue_scores
from irt_assets.scores.releases import release_table, released_tables
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.rooms import call
from tests.helpers.score_world import MONTH, NOW, SIGNED, build_exam, make_tables


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    build_exam(database, tmp_path / "exam")
    return database


def test_released_table_gives_the_issued_scores(exam: Database) -> None:
    table = make_tables(exam)["F1"]
    assert call(exam, released_tables, rooms.SCALE) == {}
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    assert call(exam, released_tables, rooms.SCALE)["F1"].table_hash == table.table_hash
    done = issue_scores(exam, rooms.SCALE, "F1", MONTH, **SIGNED, now=NOW)
    stored = call(exam, current_scores, form_id="F1")
    assert len(done.new) == len(stored) == 150
    for score in stored:
        assert score.raw is not None
        assert score.scaled == table.table.scaled[score.raw]
        assert score.passes == (score.raw >= table.table.raw_cut)
