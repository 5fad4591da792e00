"""Of every table somebody has said whether it can name a learner."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from jobs.erasure import OF_LEARNERS
from jobs.erasure_mentions import MENTIONING, drop_rejected_rows
from resources.tables import METADATA

OVER_MANY = {
    *("question", "partition_source", "item_response_time", "scored_snapshot", "calibration_scale", "anchor_set"),
    *("fit_staging", "mirt_fit_meta", "mirt_item_params", "item_parameter_publication", "item_parameter_proposal"),
    *("release_decision", "item_status", "publication_step", "item_drift", "dif_analysis", "test_information"),
    *("drift_alerts", "alert_delivery", "object_folder", "backup", "erasure", "scale_decision"),
    *("testlet_sd_publication", "data_change", "data_version"),
}
"""Tables of items, months and decisions. A new table goes here only if no column of it can hold a learner's id."""


def test_every_table_belongs_to_learners_or_mentions_them_or_is_about_many() -> None:
    known = [*OF_LEARNERS, *MENTIONING, *OVER_MANY]
    assert sorted(known) == sorted(METADATA.tables), "say in jobs.erasure what becomes of a new table's learners"


@pytest.mark.parametrize("table", sorted(OVER_MANY))
def test_a_table_about_many_has_no_column_of_a_learner(table: str) -> None:
    about_the_scale = {"scale_decision.subject"}
    names = {column.name for column in METADATA.tables[table].columns if str(column) not in about_the_scale}
    assert not {name for name in names if name.startswith(("user", "learner", "person", "subject"))} - {"learner_hash"}


def test_rows_that_an_import_refused_go_where_they_hold_the_id_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "log-1.rejected.csv"
    rows = [
        ["f", "2", "bad_time", "never", "u-1,q1"],
        ["f", "3", "bad_score", "7", "u-12,q1"],
        ["f", "4", "x", "u-1", ""],
    ]
    with file.open("w", newline="") as written:
        csv.writer(written).writerows([["file", "line", "reason", "value", "row"], *rows])
    assert drop_rejected_rows(tmp_path, "u-1") == 2
    assert file.read_text().splitlines() == ["file,line,reason,value,row", 'f,3,bad_score,7,"u-12,q1"']
    assert drop_rejected_rows(tmp_path, "u-1") == 0
