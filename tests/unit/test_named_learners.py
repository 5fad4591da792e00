"""Of every table somebody has said whether it can name a learner."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from irt_assets.responses.importing.report import UNFINISHED, RejectFile
from jobs.erasure import OF_LEARNERS
from jobs.erasure_mentions import MENTIONING, drop_rejected_rows
from resources.failures import TransientFailure
from resources.tables import METADATA

OVER_MANY = {
    *("question", "partition_source", "item_response_time", "scored_snapshot", "calibration_scale", "anchor_set"),
    *("fit_staging", "mirt_fit_meta", "mirt_item_params", "item_parameter_publication", "item_parameter_proposal"),
    *("release_decision", "item_status", "publication_step", "item_drift", "dif_analysis", "test_information"),
    *("drift_alerts", "alert_delivery", "object_folder", "backup", "erasure", "scale_decision"),
    *("testlet_sd_publication", "month_impact", "data_change", "data_version", "server_setting", "log_mapping"),
    "intake",
}
"""Tables of items, months and decisions. A new table goes here only if no column of it can hold a learner's id."""


def test_every_table_belongs_to_learners_or_mentions_them_or_is_about_many() -> None:
    known = [*OF_LEARNERS, *MENTIONING, *OVER_MANY]
    assert sorted(known) == sorted(METADATA.tables), "say in jobs.erasure what becomes of a new table's learners"


@pytest.mark.parametrize("table", sorted(OVER_MANY))
def test_a_table_about_many_has_no_column_of_a_learner(table: str) -> None:
    no_ids = {"scale_decision.subject", "month_impact.learners"}  # of the scale, and how many
    names = {column.name for column in METADATA.tables[table].columns if str(column) not in no_ids}
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


def test_a_learner_named_like_a_column_leaves_the_header(tmp_path: Path) -> None:
    with RejectFile(tmp_path, Path("log.csv")) as rejects:
        rejects.add([("log.csv", 2, "bad_time", "", "row,q1"), ("log.csv", 3, "bad_time", "", "u2,q1")])
    assert drop_rejected_rows(tmp_path, "row") == 1
    (file,) = tmp_path.iterdir()
    assert file.read_text().splitlines() == ["file,line,reason,value,row", 'log.csv,3,bad_time,,"u2,q1"']


def written(folder: Path, *cells: str) -> list[str]:
    """What is left of rows that an import refused, with these cells, once `q"q7` is erased."""
    with RejectFile(folder, Path("log.csv")) as rejects:
        rejects.add(("log.csv", 2 + k, "bad_time", "", cell) for k, cell in enumerate(cells))
    drop_rejected_rows(folder, 'q"q7')
    (file,) = folder.iterdir()
    limit = csv.field_size_limit(1_000_000)
    try:
        with file.open(newline="") as opened:
            return [row[-1] for row in csv.reader(opened)][1:]
    finally:
        csv.field_size_limit(limit)


def test_a_row_of_any_length_is_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert written(tmp_path, long, f'{long} q"q7') == [long]


def test_the_id_is_found_as_csv_and_json_write_it(tmp_path: Path) -> None:
    json_in_csv = json.dumps({"user": 'q"q7'}).replace('"', '""')
    theirs = ['"q""q7",1', json.dumps({"user": 'q"q7'}), f'"{json_in_csv}"', r'{"user": "\u0071\u0022q7"}']
    others = ['"q""q71",1', json.dumps({"user": 'q"q71'}), r"q\q7", "😀 \\ud83d"]
    assert written(tmp_path, *theirs, *others) == others


def test_what_a_killed_import_had_written_goes_and_what_one_is_writing_is_waited_for(tmp_path: Path) -> None:
    left = tmp_path / f"log-1.rejected{UNFINISHED}"
    left.write_text("file,line,reason,value,row\nf,2,bad_time,,u-1")
    with RejectFile(tmp_path, Path("log.csv")) as rejects:
        assert not left.exists()
        rejects.add([("log.csv", 2, "bad_time", "", "u-1")])
        with pytest.raises(TransientFailure, match="erase again once it has ended"):
            drop_rejected_rows(tmp_path, "u-1")
    assert drop_rejected_rows(tmp_path, "u-1") == 1
    left.write_text("u-1")
    assert drop_rejected_rows(tmp_path, "u-1") == 0
    assert not left.exists()
