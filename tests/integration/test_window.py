"""A window's verdicts, fact by fact, and the minima of its scales."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from irt_assets.common.partitions import Month
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import user_ids_of
from irt_assets.responses.stored_window import JudgedWindow, stored_window
from irt_assets.responses.verdicts import judge_differing
from irt_assets.responses.window import scored_responses_of
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, add_attempts, add_items, add_learners, answer_matrix, attempt, run_sql
from tests.helpers.verdict_worlds import add_scale

MONTH = "2026-03"
START, END = Month(MONTH).bounds
TINY = timedelta(microseconds=1)
EVERYTHING = {"min_responses": 1, "min_provisional_responses": 1, "min_learner_responses": 1, "rapid_min_times": 3}


@pytest.fixture
def bank(database: Database) -> Database:
    """Items i0 to i3, on a scale without minima."""
    add_items(database, dict.fromkeys(["i0", "i1", "i2", "i3"]))
    add_learners(database, ["u0", "u1", "u2"])
    add_scale(database, EVERYTHING, SCALE)
    return database


def judged(database: Database) -> JudgedWindow:
    judge_differing(database, START.date(), END.date())
    with database.connect() as connection:
        return stored_window(connection, START, END, read_scales(connection))


def column(window: JudgedWindow, name: str) -> dict[str, Any]:
    """A column by attempt."""
    return dict(zip(window.table["attempt_id"].to_pylist(), window.table[name].to_pylist(), strict=True))


def names(database: Database, learners: np.ndarray) -> list[str]:
    with database.connect() as connection:
        return user_ids_of(connection, learners)


@pytest.mark.parametrize(
    ("earlier", "repeat"),
    [
        (datetime(2025, 3, 10, 12, tzinfo=UTC), True),
        (datetime(2025, 3, 10, 12, tzinfo=UTC) - TINY, False),
    ],
)
def test_an_item_counts_as_seen_for_twelve_months_to_the_microsecond(
    bank: Database, earlier: datetime, repeat: bool
) -> None:
    later = attempt("u0", "i0", datetime(2026, 3, 10, 12, tzinfo=UTC))
    add_attempts(bank, [attempt("u0", "i0", earlier), later])
    assert column(judged(bank), "reason") == {later["attempt_id"]: "repeat" if repeat else None}


def test_the_window_holds_its_first_instant_and_not_its_end(bank: Database) -> None:
    log = [attempt("u0", f"i{k}", at) for k, at in enumerate((START - TINY, START, END - TINY, END))]
    add_attempts(bank, log)
    assert set(column(judged(bank), "reason")) == {log[1]["attempt_id"], log[2]["attempt_id"]}


def test_an_unanswered_item_is_omitted_when_the_session_goes_on_after_the_windows_end(bank: Database) -> None:
    exam = {"session_id": "s", "form_id": "F"}
    skipped = attempt("u0", "i0", END - timedelta(minutes=1), position=1, correct=None, **exam)
    add_attempts(bank, [skipped, attempt("u0", "i1", END + timedelta(minutes=1), position=2, **exam)])
    assert column(judged(bank), "score") == {skipped["attempt_id"]: 0}


def test_each_scale_looks_back_as_far_as_its_own_rules_say(bank: Database) -> None:
    """One query serves all scales: the longest look-back must not become everyone's."""
    add_items(bank, {"o0": None}, "other")
    log = [attempt("u0", item, START - timedelta(days=100)) for item in ("i0", "o0")]
    again = [attempt("u0", item, START + timedelta(days=1)) for item in ("i0", "o0")]
    add_attempts(bank, log + again)
    add_scale(bank, EVERYTHING | {"lookback_months": 2}, "other")
    reasons = column(judged(bank), "reason")
    assert reasons == {again[0]["attempt_id"]: "repeat", again[1]["attempt_id"]: None}


def test_scores_count_where_the_bank_says_that_an_item_has_more_than_right_and_wrong(bank: Database) -> None:
    """Null and full credit are one; hints, omissions and contradictions as for right and wrong."""
    run_sql(bank, """UPDATE question SET meta = '{"irt": {"max_score": 4}}' WHERE item_id = 'i0'""")
    cases = {
        "partial": ({"correct": False, "score": 3}, 3, None),
        "full": ({"correct": True, "score": 4}, 4, None),
        "right": ({"correct": True, "score": None}, 4, None),
        "nobody knows": ({"correct": False, "score": None}, None, "score_missing"),
        "hinted": ({"correct": False, "score": 2, "hints_used": 1}, 0, None),
        "hinted, unknown": ({"correct": False, "score": None, "hints_used": 1}, 0, None),
        "contradicts": ({"correct": True, "score": 2}, None, "unusable"),
        "beyond": ({"correct": True, "score": 260}, None, "unusable"),
        "skipped": ({"correct": None, "score": None}, None, "not_reached"),
    }
    rows = [attempt(name, "i0", START, **case) for name, (case, _, _) in cases.items()]
    rows += [attempt("full", "i1", START, score=1), attempt("partial", "i1", START, correct=False)]
    add_attempts(bank, rows)
    window = judged(bank)
    to_item = window.table.filter(pc.equal(window.table["item_id"].cast(pa.string()), "i0"))
    found = dict(zip(names(bank, to_item["learner_key"].to_numpy()), to_item["reason"].to_pylist(), strict=True))
    assert found == {name: reason for name, (_, _, reason) in cases.items()}
    assert window.judgements[SCALE].counts["score_missing"] == 1
    responses, learners = scored_responses_of(window.table, SCALE)
    assert responses.categories is not None
    assert dict(zip(responses.item_ids, responses.categories.tolist(), strict=True)) == {"i0": 5, "i1": 2}
    learners = names(bank, learners)
    scores = {
        (learners[person], responses.item_ids[item]): score
        for person, item, score in zip(responses.person, responses.item, responses.score.tolist(), strict=True)
    }
    wanted = {(name, "i0"): score for name, (_, score, _) in cases.items() if score is not None}
    assert scores == wanted | {("full", "i1"): 1, ("partial", "i1"): 0}


def test_items_left_out_are_named_with_how_many_responses_they_had(bank: Database) -> None:
    scores = np.ones((4, 2))
    scores[1:, 1] = np.nan
    add_attempts(bank, answer_matrix(MONTH, scores, ["i0", "i1"]))
    run_sql(
        bank, 'UPDATE calibration_scale SET rules = rules || \'{"min_responses": 2, "min_provisional_responses": 2}\''
    )
    window = judged(bank)
    assert (window.left_out, window.judgements[SCALE].counts["few_item_responses"]) == ({SCALE: {"i1": 1}}, 1)


def test_a_window_without_attempts_is_empty(bank: Database) -> None:
    add_attempts(bank, [attempt("u0", "i0", END)])
    window = judged(bank)
    assert (window.table.num_rows, window.totals.n_attempts, window.left_out) == (0, 0, {SCALE: {}})
