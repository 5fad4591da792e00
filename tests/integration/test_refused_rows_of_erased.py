"""Refused rows of a learner whose id a mapping makes are found by an erasure, and no later import keeps them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from irt_assets.intake.arrivals import drop_refused
from irt_assets.intake.bank import LEARNERS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.responses.erased import begin
from jobs.retention.erasure_mentions import holds
from resources.postgres.database import Database
from tests.helpers.rooms import rows

NAMED = {"item_id": "item", "completed_at": "at", "correct": "right"}
TIME = "2026-06-03T00:00:00Z"
HEADER = "class,number,item,at,right"
MAPPINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two columns": ({"columns": NAMED | {"user_id": ["class", "number"]}}, "4b,17", "4b/17"),
    "values": ({"columns": NAMED | {"user_id": "number"}, "values": {"user_id": {"17": "Zoë"}}}, "4b,17", "Zoë"),
    "integers": ({"columns": NAMED | {"user_id": "number"}, "integer_ids": True}, "4b,17.00", "17"),
    "spaces": ({"columns": NAMED | {"user_id": "number"}}, "4b, u17\t", "u17"),
}


def refused(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, 'SELECT reason, value, "row" FROM intake_reject ORDER BY reject_id')


@pytest.mark.parametrize("made", MAPPINGS)
def test_refused_rows_are_found_by_the_id_that_the_log_would_have(
    database: Database, tmp_path: Path, made: str
) -> None:
    rules, learner, user = MAPPINGS[made]
    file, mapping = tmp_path / "log.csv", tmp_path / "rules.yaml"
    mapping.write_text(yaml.safe_dump(rules), "utf-8")
    other = learner.replace("17", "18")
    lines = [f"{learner},q,{TIME},x", f"{learner},q,yesterday,1", f"{learner},q", f"{other},q,{TIME},x"]
    file.write_text("\n".join([HEADER, *lines, *(f"{other},q{k},{TIME},1" for k in range(9))]) + "\n", "utf-8")

    def take() -> None:
        import_attempts(database, [file], mapping=mapping, first_month="2026-06")

    take()
    assert [row[0] for row in refused(database)] == ["ragged_row", "bad_score", "bad_time", "bad_score"]
    with database.connect() as connection:
        begin(connection, user, "Kim", "asked to")
        drop_refused(connection, partial(holds, user))
    left = [row for row in refused(database) if row[0] != "ragged_row"]
    assert [row[:2] for row in left] == [("bad_score", "x")]
    if made not in ("integers", "spaces"):
        assert all(row[1:] == ("", "") for row in refused(database) if row[0] == "ragged_row")
    before = len(refused(database))
    take()
    again = refused(database)[before:]
    assert [row[0] for row in again] == ["ragged_row", "bad_score", "bad_time", "bad_score"]
    assert [row[1:] for row in again[:3]] == [("", "")] * 3
    assert again[3][1] == "x"


def test_refused_learners_are_found_by_the_id_that_the_table_would_have(database: Database, tmp_path: Path) -> None:
    file, mapping = tmp_path / "learners.csv", tmp_path / "rules.yaml"
    mapping.write_text(yaml.safe_dump({"columns": {"user_id": ["class", "number"], "is_test": "test"}}), "utf-8")
    file.write_text("class,number,test\n4b,17,perhaps\n4b,18,no\n", "utf-8")
    for _ in range(2):
        import_bank_file(database, LEARNERS, file, mapping=mapping)
        with database.connect() as connection:
            if not rows(database, "SELECT FROM erasure"):
                begin(connection, "4b/17", "Kim", "asked to")
            drop_refused(connection, partial(holds, "4b/17"))
        assert not any("17" in row[2] for row in refused(database))
