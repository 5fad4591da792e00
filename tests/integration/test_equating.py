"""Equating of forms: every method against the library and the true equating, the choice, and the table that it makes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from irt_assets.scores.equating import EquatingComparison, compare_methods
from irt_assets.scores.releases import release_table
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.rooms import call
from tests.helpers.score_world import NOW, SIGNED, build_exam, make_tables


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    build_exam(database, tmp_path / "exam", learners=1500, shift=0.3)
    make_tables(database)
    release_table(database, rooms.SCALE, "F1", **SIGNED)
    return database


def compare(database: Database, new: str = "F2", old: str = "F1") -> EquatingComparison:
    return call(database, compare_methods, rooms.SCALE, new, old, now=NOW)


def test_try(exam: Database) -> None:
    t = time.time()
    found = compare(exam)
    print(time.time() - t, found.design, found.without, found.baseline)
    for s in found.smoothing:
        print(s)
    for m in found.methods:
        print(m.name, np.round(m.equating.equated[::4], 2), np.round(m.equating.se[::4], 3), m.affected, m.passing, m.table.raw_cut)
    print(found.new.scores.describe(), found.old.scores.describe())
    assert 0
