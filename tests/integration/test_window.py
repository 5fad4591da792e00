"""The facts that SQL finds about a window's attempts, against plain Python; and when the hash of them changes."""

from __future__ import annotations

import calendar
import statistics
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from irt_assets.common.partitions import Month
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import user_ids_of
from irt_assets.responses.window import JudgedWindow, data_hash, judged_window, scored_responses_of
from resources.postgres.database import Database
from tests.helpers.rooms import (
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    answer_matrix,
    attempt,
    run_sql,
)
from tests.testbed.partitions import ensure_month_partitions

MONTH = "2026-03"
START, END = Month(MONTH).bounds
TINY = timedelta(microseconds=1)
EVERYTHING = Rules.from_settings({"min_responses": 1, "min_learner_responses": 1, "rapid_min_times": 3})
Attempt = Mapping[str, Any]


def judged(database: Database, scales: Mapping[str, Scale] | None = None, month: str = MONTH) -> JudgedWindow:
    with database.connect() as connection:
        return judged_window(connection, *Month(month).bounds, scales or {SCALE: Scale(SCALE, rules=EVERYTHING)})


def hash_now(database: Database, month: str = MONTH) -> str:
    with database.connect() as connection:
        return data_hash(connection, *Month(month).bounds, read_scales(connection))


def column(window: JudgedWindow, name: str) -> dict[str, Any]:
    """A column by attempt."""
    return dict(zip(window.table["attempt_id"].to_pylist(), window.table[name].to_pylist(), strict=True))


# -- the reference -----------------------------------------------------------------------------------


def months_before(time: datetime, months: int) -> datetime:
    year, month = divmod(time.year * 12 + time.month - 1 - months, 12)
    return time.replace(year=year, month=month + 1, day=min(time.day, calendar.monthrange(year, month + 1)[1]))


class Reference:
    """What DESIGN 6 says of an attempt, one attempt at a time."""

    def __init__(self, log: list[dict[str, Any]], tests: set[str], known: set[str], rules: Rules) -> None:
        self.log, self.tests, self.known, self.rules = log, tests, known, rules

    def answered_later(self, a: Attempt) -> bool:
        return any(
            o["user_id"] == a["user_id"]
            and o["session_id"] == a["session_id"] is not None
            and o["correct"] is not None
            and (
                o["completed_at"] > a["completed_at"]
                if o["position"] is None or a["position"] is None
                else o["position"] > a["position"]
            )
            for o in self.log
        )

    def omitted(self, a: Attempt) -> bool:
        return a["correct"] is None and a["form_id"] is not None and self.answered_later(a)

    def repeat(self, a: Attempt) -> bool:
        since = months_before(a["completed_at"], self.rules.eligibility.lookback_months)
        return any(
            o["user_id"] == a["user_id"]
            and o["item_id"] == a["item_id"]
            and since <= o["completed_at"]
            and (o["completed_at"], o["attempt_id"]) < (a["completed_at"], a["attempt_id"])
            and (o["correct"] is not None or self.omitted(o))
            for o in self.log
        )

    def rapid(self, a: Attempt, start: datetime, end: datetime) -> bool:
        since = months_before(start, self.rules.eligibility.lookback_months)
        times = [
            o["response_time_ms"]
            for o in self.log
            if o["item_id"] == a["item_id"]
            and since <= o["completed_at"] < end
            and o["mode"] == "live"
            and o["correct"] is not None
            and o["response_time_ms"] is not None
        ]
        if a["response_time_ms"] is None or len(times) < self.rules.eligibility.rapid_min_times:
            return False
        limit = min(self.rules.eligibility.rapid_share * statistics.median(times), self.rules.eligibility.rapid_cap_ms)
        return a["correct"] is not None and a["response_time_ms"] < limit

    def reason(self, a: Attempt, start: datetime = START, end: datetime = END) -> str | None:
        found = {
            "sandbox": a["mode"] != "live",
            "test_account": a["user_id"] in self.tests,
            "unusable": a["item_id"] not in self.known,
            "repeat": self.repeat(a),
            "not_reached": a["correct"] is None and not self.omitted(a),
            "rapid": self.rapid(a, start, end),
        }
        return next((reason for reason, applies in found.items() if applies), None)

    def score(self, a: Attempt) -> int:
        return int(a["correct"] is True and not (a["hints_used"] or 0) > 0)


def random_log(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Few learners and items, so that they meet often, at times that crowd the window's edges."""
    a_year = months_before(START + timedelta(days=9), 12)
    moments = [START, START - TINY, END, END - TINY, END + timedelta(hours=1), a_year, a_year - TINY]
    moments += [START + timedelta(days=9), months_before(START, 12), months_before(START, 12) - TINY]
    moments += [START + timedelta(hours=float(h)) for h in rng.uniform(-9000, 760, 30)]
    log = []
    for _ in range(120):
        exam = rng.random() < 0.6
        log.append(
            attempt(
                f"u{rng.integers(5)}",
                f"i{rng.integers(5)}",
                moments[rng.integers(len(moments))],
                session_id=None if rng.random() < 0.1 else f"s{rng.integers(4)}",
                form_id="F" if exam else None,
                position=None if rng.random() < 0.2 else int(rng.integers(1, 9)),
                correct=(True, False, None)[rng.integers(3)],
                response_time_ms=None if rng.random() < 0.1 else int(rng.choice([900, 5_000, 40_000, 60_000])),
                hints_used=(None, 0, 2)[rng.integers(3)],
                mode="sandbox" if rng.random() < 0.1 else "live",
            )
        )
    return log


@pytest.fixture
def bank(database: Database) -> Database:
    """Items i0 to i3 (i4 is unknown), and u4 is a test account."""
    add_items(database, dict.fromkeys(["i0", "i1", "i2", "i3"]))
    add_learners(database, ["u0", "u1", "u2"])  # u3 is not known as a learner
    add_learners(database, ["u4"], is_test=True)
    return database


def test_every_reason_and_score_is_what_the_rules_say_one_attempt_at_a_time(bank: Database) -> None:
    seen: set[str | None] = set()
    for seed in range(25):
        log = random_log(np.random.default_rng(seed))
        reference = Reference(log, {"u4"}, {"i0", "i1", "i2", "i3"}, EVERYTHING)
        run_sql(bank, "DELETE FROM response_log")
        add_attempts(bank, log)
        window = judged(bank)
        here = {a["attempt_id"]: a for a in log if START <= a["completed_at"] < END}
        expected = {i: reference.reason(a) for i, a in here.items()}
        assert column(window, "reason") == expected, seed
        assert column(window, "score") == {
            i: reference.score(a) if expected[i] is None else None for i, a in here.items()
        }, seed
        seen |= set(expected.values())
    assert seen == {None, "sandbox", "test_account", "unusable", "repeat", "not_reached", "rapid"}


# -- single facts ------------------------------------------------------------------------------------


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
    assert column(judged(bank), "seen_before") == {later["attempt_id"]: repeat}


def test_the_window_holds_its_first_instant_and_not_its_end(bank: Database) -> None:
    log = [attempt("u0", f"i{k}", at) for k, at in enumerate((START - TINY, START, END - TINY, END))]
    add_attempts(bank, log)
    assert set(column(judged(bank), "reason")) == {log[1]["attempt_id"], log[2]["attempt_id"]}


def test_an_unanswered_item_is_omitted_when_the_session_goes_on_after_the_windows_end(bank: Database) -> None:
    exam = {"session_id": "s", "form_id": "F"}
    skipped = attempt("u0", "i0", END - timedelta(minutes=1), position=1, correct=None, **exam)
    add_attempts(bank, [skipped, attempt("u0", "i1", END + timedelta(minutes=1), position=2, **exam)])
    assert column(judged(bank), "score") == {skipped["attempt_id"]: 0}


def test_only_an_exam_turns_an_unanswered_item_into_a_wrong_answer(bank: Database) -> None:
    practice = attempt("u0", "i0", START, session_id="s", position=1, correct=None)
    add_attempts(bank, [practice, attempt("u0", "i1", START, session_id="s", position=2)])
    assert column(judged(bank), "reason")[practice["attempt_id"]] == "not_reached"


def test_an_item_that_was_not_reached_is_new_when_it_is_met_again(bank: Database) -> None:
    missed = attempt("u0", "i0", START, session_id="s", form_id="F", position=9, correct=None)
    met = attempt("u0", "i0", START + timedelta(days=2))
    add_attempts(bank, [missed, met])
    assert column(judged(bank), "reason") == {missed["attempt_id"]: "not_reached", met["attempt_id"]: None}


def test_the_median_time_is_that_of_live_answers_of_window_and_look_back(bank: Database) -> None:
    """Ten percent of the live median are 100 ms; sandbox, unanswered and later times would make it seconds."""
    at, slow = START + timedelta(days=1), {"response_time_ms": 100_000}
    log = [attempt(f"v{k}", "i0", START - timedelta(days=30), response_time_ms=1_000) for k in range(5)]
    log += [attempt(f"w{k}", "i0", START - timedelta(days=30), mode="sandbox", **slow) for k in range(9)]
    log += [attempt(f"x{k}", "i0", START - timedelta(days=30), correct=None, **slow) for k in range(9)]
    log += [attempt(f"y{k}", "i0", END + timedelta(days=1), **slow) for k in range(9)]
    judged_ones = [attempt(f"u{k}", "i0", at, response_time_ms=ms) for k, ms in enumerate((99, 100, 500))]
    add_attempts(bank, log + judged_ones)
    assert column(judged(bank), "reason") == {
        a["attempt_id"]: reason for a, reason in zip(judged_ones, ("rapid", None, None), strict=True)
    }


def test_each_scale_looks_back_as_far_as_its_own_rules_say(bank: Database) -> None:
    """One query serves all scales: the longest look-back must not become everyone's."""
    add_items(bank, {"o0": None}, "other")
    log = [attempt("u0", item, START - timedelta(days=100)) for item in ("i0", "o0")]
    again = [attempt("u0", item, START + timedelta(days=1)) for item in ("i0", "o0")]
    add_attempts(bank, log + again)
    scales = {
        SCALE: Scale(SCALE, rules=EVERYTHING),
        "other": Scale("other", rules=Rules.from_settings(EVERYTHING.changed() | {"lookback_months": 2})),
    }
    reasons = column(judged(bank, scales), "reason")
    assert reasons == {again[0]["attempt_id"]: "repeat", again[1]["attempt_id"]: None}


def names(database: Database, learners: np.ndarray) -> list[str]:
    with database.connect() as connection:
        return user_ids_of(connection, learners)


def test_ids_with_quotes_commas_emoji_and_500_characters_come_through(bank: Database) -> None:
    users = ["o'neill", 'say "hi"', "a,b\nc", "🦉", "x" * 500, " ", "NULL", "\\N"]
    add_items(bank, dict.fromkeys(users))
    add_attempts(bank, [attempt(user, user, START) for user in users])
    window = judged(bank)
    assert sorted(column(window, "user_id").values()) == sorted(users)
    responses, learners = scored_responses_of(window.table, SCALE)
    assert sorted(names(bank, learners)) == sorted(users) == sorted(responses.item_ids)


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
    with bank.connect() as connection:
        scales = {SCALE: replace(read_scales(connection)[SCALE], rules=EVERYTHING)}
    window = judged(bank, scales)
    found = dict(zip(window.table["user_id"].to_pylist(), window.table["reason"].to_pylist(), strict=True))
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


def test_scores_are_in_the_hash_of_scored_items_alone(bank: Database) -> None:
    rows = [attempt("u0", "i0", START, correct=False), attempt("u0", "i1", START, correct=False)]
    add_attempts(bank, rows)
    before = hash_now(bank)
    run_sql(bank, "UPDATE response_log SET score = 0")
    assert hash_now(bank) == before == judged(bank).data_hash
    hashes = [before]
    for change in (
        """UPDATE question SET meta = '{"irt": {"max_score": 4}}' WHERE item_id = 'i0'""",
        "UPDATE response_log SET score = 2 WHERE item_id = 'i0'",
        """UPDATE question SET meta = '{"irt": {"max_score": 5}}' WHERE item_id = 'i0'""",
    ):
        run_sql(bank, change)
        hashes.append(hash_now(bank))
    assert len({*hashes}) == 4
    run_sql(bank, "UPDATE response_log SET score = 1 WHERE item_id = 'i1'")
    assert hash_now(bank) == hashes[-1]


def test_items_left_out_are_named_with_how_many_responses_they_had(bank: Database) -> None:
    scores = np.ones((4, 2))
    scores[1:, 1] = np.nan
    add_attempts(bank, answer_matrix(MONTH, scores, ["i0", "i1"]))
    window = judged(bank, {SCALE: Scale(SCALE, rules=Rules.from_settings(EVERYTHING.changed() | {"min_responses": 2}))})
    assert (window.left_out, window.judgements[SCALE].counts["few_item_responses"]) == ({SCALE: {"i1": 1}}, 1)


def test_a_window_without_attempts_is_empty_and_hashed_like_one(bank: Database) -> None:
    add_attempts(bank, [attempt("u0", "i0", END)])
    window = judged(bank)
    assert (window.table.num_rows, window.data_hash) == (0, hash_now(bank))


# -- the hash ----------------------------------------------------------------------------------------


@pytest.fixture
def logged(bank: Database) -> Database:
    """u0 answered i0 this month, and i1 and i0 of other months are not this month's business."""
    add_attempts(
        bank,
        [
            attempt("u0", "i0", START + timedelta(days=3), session_id="s", form_id="F", position=2),
            attempt("u0", "i2", START + timedelta(days=3), session_id="s", form_id="F", position=3, correct=None),
            attempt("u1", "i1", START - timedelta(days=40), response_time_ms=5_000),
            attempt("u1", "i0", START + timedelta(days=4), response_time_ms=5_000),
        ],
    )
    return bank


def test_the_hash_now_is_the_hash_in_the_judged_window(logged: Database) -> None:
    for seed in range(5):
        add_attempts(logged, random_log(np.random.default_rng(200 + seed)))
        assert hash_now(logged) == judged(logged).data_hash


def test_the_hash_does_not_depend_on_the_order_of_the_rows(logged: Database) -> None:
    log = random_log(np.random.default_rng(7))
    add_attempts(logged, log)
    before = hash_now(logged)
    ids = [a["attempt_id"] for a in log]
    run_sql(logged, "DELETE FROM response_log WHERE attempt_id = ANY(%s)", (ids,))
    assert hash_now(logged) != before
    add_attempts(logged, log[::-1])
    assert hash_now(logged) == before


A_DAY = timedelta(days=1)
LATE: dict[str, str | Attempt] = {
    "a late answer of this month": attempt("u2", "i1", START + A_DAY),
    "a late answer of an earlier month by a learner who answers the item in this one": attempt(
        "u0", "i0", START - 60 * A_DAY
    ),
    "a late answer that makes a skipped item an omission": attempt(
        "u0", "i3", END + timedelta(hours=1), session_id="s", form_id="F", position=4
    ),
}
UNRELATED: dict[str, str | Attempt] = {
    "a late answer of an earlier month on another item": attempt("u0", "i3", START - 60 * A_DAY),
    "a late answer of an earlier month by another learner": attempt("u2", "i0", START - 60 * A_DAY),
    "an answer of the month after": attempt("u0", "i0", END + 20 * A_DAY),
    "a late answer of more than a year ago": attempt("u0", "i0", START - 400 * A_DAY),
    "a late item that was shown and not answered, long before": attempt("u0", "i0", START - 60 * A_DAY, correct=None),
}


CHANGES = {
    "a learner of the window becomes a test account": "UPDATE learner SET is_test = true WHERE user_id = 'u0'",
    "an item leaves the bank": "DELETE FROM question WHERE item_id = 'i0'",
    "an item moves to another scale": "UPDATE question SET scale_id = 'other' WHERE item_id = 'i0'",
    "a score is corrected": "UPDATE response_log SET correct = NOT correct WHERE user_id = 'u1' AND item_id = 'i0'",
    "an answer turns out to be a trial": "UPDATE response_log SET mode = 'sandbox' WHERE user_id = 'u1'",
    "a hint is found": "UPDATE response_log SET hints_used = 1 WHERE user_id = 'u1'",
    "a time is corrected": "UPDATE response_log SET response_time_ms = 5001 WHERE user_id = 'u1'",
}
NO_CHANGES = {
    "a learner without answers becomes a test account": "UPDATE learner SET is_test = true WHERE user_id = 'u2'",
    "a learner gets attributes": 'UPDATE learner SET attributes = \'{"lang": "en"}\'',
    "the answers arrive again": "UPDATE response_log SET recorded_at = now() + interval '1 day'",
    "an item's key is written down": 'UPDATE question SET meta = \'{"key": "B"}\'',
}


def hash_after(database: Database, change: str | Attempt) -> str:
    """The hash with an answer or a statement more, which is taken back."""
    with database.connect() as connection:
        if isinstance(change, str):
            assert connection.execute(change.encode()).rowcount > 0
        else:
            ensure_month_partitions(connection, *[f"{change['completed_at']:%Y-%m}"] * 2)
            columns, values = ", ".join(change), list(change.values())
            marks = ", ".join(["%s"] * len(values))
            connection.execute(f"INSERT INTO response_log ({columns}) VALUES ({marks})".encode(), values)
        found = data_hash(connection, START, END, read_scales(connection))
        connection.rollback()
    return found


def test_the_hash_changes_with_everything_that_eligibility_reads_and_with_nothing_else(logged: Database) -> None:
    before = hash_now(logged)
    assert hash_now(logged) == before
    changes = LATE | CHANGES | UNRELATED | NO_CHANGES
    noticed = {name for name, change in changes.items() if hash_after(logged, change) != before}
    assert noticed == (LATE | CHANGES).keys()
