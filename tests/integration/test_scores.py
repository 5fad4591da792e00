"""Score tables of forms, their release, and the scores that are handed out."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from irt_assets.common.partitions import Month
from irt_assets.invariants.invariant import InvariantContext, Violation
from irt_assets.invariants.scores import issued_scores_agree_with_their_tables, score_tables_match_their_hash
from irt_assets.item_analysis.stored import read_forms
from irt_assets.scales.scale import change_rules
from irt_assets.scores.form_tables import hash_contents
from irt_assets.scores.issued import current_scores
from irt_assets.scores.issuing import issue_scores, preview_issue
from irt_assets.scores.releases import release_table, released_tables
from irt_assets.scores.standards import plan_mark, set_mark
from irt_psychometrics.scoring import ScoreTable
from resources.postgres.database import Database
from services.theta_api.scores import score_body
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, attempt, call, run_sql
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
    assert violations(exam) == []
    stored = call(exam, current_scores, form_id="F1")
    assert len(done.new) == len(stored) == 150
    for score in stored:
        assert score.raw is not None
        assert score.scaled == table.table.scaled[score.raw]
        assert score.passes == (score.raw >= table.table.raw_cut)


def test_scores_by_raw_score_need_no_published_values(exam: Database) -> None:
    """12 of 20 is 700, and 20 of 20 is 1000."""
    run_sql(exam, "DELETE FROM item_parameter_publication WHERE item_id = 'i7'")
    given = {"score_by": "raw", "score_points": "12:700,20:1000", "score_lowest": 100.0, "score_highest": 1000.0}
    change_rules(exam, rooms.SCALE, given)
    set_mark(exam, call(exam, plan_mark, rooms.SCALE, 12.0), **SIGNED)
    table = make_tables(exam)["F1"]
    assert (table.method, table.set_hash, table.table.raw_cut) == ("raw", "", 12)
    with exam.connect() as connection:
        [form] = [form for form in read_forms(connection, rooms.SCALE, MONTH) if form.form_id == "F1"]
    alpha, sd = form.statistics["alpha"], form.statistics["sd"]
    assert alpha is not None
    assert sd is not None
    assert table.table.scaled_se == pytest.approx([37.5 * sd * (1 - alpha) ** 0.5] * 21)
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    done = issue_scores(exam, rooms.SCALE, "F1", MONTH, **SIGNED, now=NOW)
    assert violations(exam) == []
    for score in call(exam, current_scores, form_id="F1"):
        assert score.raw is not None
        assert score.scaled == min(max(math.floor(700 + 37.5 * (score.raw - 12) + 0.5), 100), 1000)
        assert (score.passes, score.theta, score.theta_se) == (score.raw >= 12, None, None)
        assert score_body(vars(score))["scaled"] == score.scaled
        assert score.pass_probability is not None
        assert (score.pass_probability >= 0.5) == score.passes
    assert len(done.new) == 150
    assert not call(exam, current_scores, form_id="F2")


@pytest.mark.parametrize(("by", "stored"), [(1e-7, False), (0.01, True)])
def test_table_is_new_only_if_reported_numbers_differ(
    exam: Database, monkeypatch: pytest.MonkeyPatch, by: float, stored: bool
) -> None:
    """Another version of the program may compute other digits."""
    first = make_tables(exam)["F1"]
    from_items = ScoreTable.from_items

    def compute(*items: Any, **how: Any) -> ScoreTable:
        table = from_items(*items, **how)
        return replace(table, theta=table.theta + by, scaled_se=table.scaled_se * (1 + by))

    monkeypatch.setattr(ScoreTable, "from_items", compute)
    second = make_tables(exam)["F1"]
    assert (second.table_id != first.table_id) == stored
    assert (second.table_hash != first.table_hash) == stored


def violations(database: Database) -> list[str]:
    with database.connect() as connection:
        context = InvariantContext(connection, rooms.folder_store(database.settings), NOW, ())
        found = chain(issued_scores_agree_with_their_tables.find(context), score_tables_match_their_hash.find(context))
        return [one.subject for one in found if isinstance(one, Violation)]


@pytest.mark.parametrize(
    "change",
    [
        "scores = jsonb_set(scores, '{scaled,3}', to_jsonb((scores->'scaled'->>3)::float + 10))",
        "scores = jsonb_set(scores, '{theta,0}', to_jsonb((scores->'theta'->>0)::float + 1))",
        "spec = jsonb_set(spec, '{items,i5}', '2')",
        "method = 'normalised'",
    ],
)
def test_changed_score_table_differs_from_its_hash(exam: Database, change: str) -> None:
    """Changes a table. A change of its scores and of the issued scores together could pass unseen."""
    make_tables(exam)
    assert violations(exam) == []
    rooms.run_sql(exam, f"UPDATE score_table SET {change} WHERE form_id = 'F1'")
    assert violations(exam) == [f"{rooms.SCALE}: table 1 of form F1"]


def test_hash_of_stored_contents_equals_the_hash_before_storing(database: Database) -> None:
    contents = {"spec": {"mark": -0.0, "b": 1e-7, "a": [-0.0, -0.05]}, "scores": {"theta": [-1e-12, -0.0, 0.1 + 0.2]}}
    [(stored,)] = rooms.rows(database, "SELECT %s::jsonb", [Jsonb(contents)])
    assert hash_contents("s", "F", "eap", **stored) == hash_contents("s", "F", "eap", **contents)
    changed = contents | {"spec": contents["spec"] | {"a": [0.0, 0.05]}}
    assert hash_contents("s", "F", "eap", **changed) != hash_contents("s", "F", "eap", **contents)


@pytest.mark.ci
@pytest.mark.parametrize(
    "change",
    [
        "scaled = scaled + 1",
        "passes = NOT passes",
        "table_id = 0",
        "theta = theta + 1e-6",
        "theta_se = theta_se * 2",
        "scaled_se = scaled_se / 2",
        "percentile = 100 - percentile",
    ],
)
def test_changed_issued_score_violates_the_invariant(exam: Database, change: str) -> None:
    make_tables(exam)
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    issue_scores(exam, rooms.SCALE, "F1", MONTH, **SIGNED, now=NOW)
    rooms.run_sql(exam, f"UPDATE issued_score SET {change} WHERE user_id = 'F1-u3'")
    assert violations(exam) == ["F1-u3"]


@pytest.mark.ci
def test_sessions_with_further_items_continue_a_sitting_until_an_item_is_met_again(exam: Database) -> None:
    make_tables(exam)
    release_table(exam, rooms.SCALE, "F1", **SIGNED)
    start = Month(MONTH).start
    sessions = [(1, "s1", range(1, 13)), (3, "s2", range(13, 21)), (20, "s3", range(1, 21)), (28, "s4", range(1, 5))]
    add_attempts(
        exam,
        [
            attempt("eve", f"i{k}", start + timedelta(days=day, minutes=k), form_id="F1", session_id=session)
            for day, session, items in sessions
            for k in items
        ],
    )
    found = preview_issue(exam, rooms.SCALE, "F1", MONTH, now=start + timedelta(days=29))
    scores = {score.session_id: score.raw for score in found.new if score.user_id == "eve"}
    assert (scores, found.without) == ({"s1": 20, "s3": 20}, (("eve", "it has not been finished yet"),))
    found = preview_issue(exam, rooms.SCALE, "F1", MONTH, now=start + timedelta(days=43))
    assert {score.session_id: score.raw for score in found.new if score.user_id == "eve"} == scores | {"s4": 4}
    assert found.without == ()
