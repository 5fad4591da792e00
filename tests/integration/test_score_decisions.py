"""Decisions on score tables and issued scores: release, undo, issue, hold, and their limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from irt_assets.common.partitions import Month
from irt_assets.decision_kinds import KINDS
from irt_assets.decisions import deciding
from irt_assets.decisions.rekey import rekey
from irt_assets.item_analysis.forms import import_forms
from irt_assets.item_analysis.stored import read_forms
from irt_assets.ledger.decision_rows import read_decisions
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.scales.scale import change_rules, write_pass_mark
from irt_assets.scores.form_tables import form_items
from irt_assets.scores.issued import IssuedScore, current_scores, issued_scores
from irt_assets.scores.issuing import Issue, change_status, issue_scores, preview_issue, scores_to_change
from irt_assets.scores.left_out import LEAVE_ITEMS_OUT, ScoringRequest
from irt_assets.scores.releases import ScoreChanges, preview_release, release_table, released_tables, table_decisions
from irt_assets.scores.sittings import raw_scores, read_answers
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import SCALE, add_attempts, attempt, call, rows, run_sql
from tests.helpers.score_world import FORMS, MONTH, NOW, RULES, SIGNED, analyse, build_exam, make_tables, sit
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import Irt, IrtOf

N = 60
BY = ("--by", "Ann", "--reason", "committee of June")
START, END = Month(MONTH).bounds


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    """One form of 20 items, sat by 60 learners, with its first score table."""
    build_exam(database, tmp_path / "exam", learners=N, forms={"F1": FORMS["F1"]})
    make_tables(database)
    return database


@pytest.fixture
def released(exam: Database) -> Database:
    release_table(exam, SCALE, "F1", **SIGNED)
    return exam


@pytest.fixture
def typed(exam: Database, settings: Settings, irt: IrtOf) -> Irt:
    return irt(settings)


def issue(database: Database, month: str | None = MONTH, **options: Any) -> Issue:
    return issue_scores(database, SCALE, "F1", month, **SIGNED, now=NOW, **options)


def current(database: Database) -> dict[str, IssuedScore]:
    return {score.user_id: score for score in call(database, current_scores, scale_id=SCALE, form_id="F1")}


def right_answers(database: Database) -> Counter[str]:
    """Number of right answers of each learner, from the log."""
    return Counter(dict(rows(database, "SELECT user_id, sum(correct::int)::int FROM response_log GROUP BY 1")))


def make_other_table(database: Database) -> None:
    """Make a second table, with another pass mark and slope."""
    change_rules(database, SCALE, {"score_slope": 80.0})
    call(database, write_pass_mark, SCALE, 0.4)
    make_tables(database)


# -- tables ------------------------------------------------------------------------------------------


def test_undone_release_puts_the_former_table_in_force_and_is_in_the_list_of_decisions(exam: Database) -> None:
    def in_force() -> int | None:
        found = call(exam, released_tables, SCALE).get("F1")
        return found and found.table_id

    release_table(exam, SCALE, "F1", **SIGNED)
    make_other_table(exam)
    assert in_force() == 1
    seen = []
    for undo in (False, True, True, False):
        release_table(exam, SCALE, "F1", undo=undo, by="Ann", reason=f"step {len(seen)}")
        seen.append(in_force())
    assert seen == [2, 1, None, 2]
    assert "table 2 of form F1 is released already" in refusal(release_table, exam, SCALE, "F1", **SIGNED)
    decisions = call(exam, table_decisions, SCALE, "F1")
    assert [(one["table_id"], one["former"], one["undoes"]) for one in decisions] == [
        (1, None, None),
        (2, 1, None),
        (1, 2, 2),
        (None, 1, 1),
        (2, None, None),
    ]
    listed = call(exam, newest_decisions, scale_id=SCALE)
    assert [(one.kind, one.item_id, one.reason) for one in listed][:4] == [
        ("scores", "F1", "table 2: step 3"),
        ("undo_scores", "F1", "step 2"),
        ("undo_scores", "F1", "table 1: step 1"),
        ("scores", "F1", "table 2: step 0"),
    ]
    assert call(exam, newest_decisions, item_id="F1") == call(exam, newest_decisions, month=MONTH) == []
    release_table(exam, SCALE, "F1", undo=True, **SIGNED)
    nothing = "no release of a score table of form F1 stands, so there is nothing to undo"
    assert nothing in refusal(release_table, exam, SCALE, "F1", undo=True, **SIGNED)


def test_previewed_changes_of_scores_and_passes_equal_a_count_from_the_log(released: Database) -> None:
    issue(released)
    [old] = call(released, released_tables, SCALE).values()
    make_other_table(released)
    seen = call(released, preview_release, SCALE, "F1")
    assert seen.table is not None
    new = seen.table
    raws = [*right_answers(released).values()]
    scaled = [(old.table.scaled[raw], new.table.scaled[raw]) for raw in raws]
    unrounded = [(new.table.unrounded[raw], old.table.unrounded[raw]) for raw in raws]
    passes = [(now >= 500 + 80 * 0.4, before >= 500) for now, before in unrounded]
    counted = ScoreChanges(
        learners=len(raws),
        scaled=sum(a != b for a, b in scaled),
        newly_passed=sum(now and not before for now, before in passes),
        newly_failed=sum(before and not now for now, before in passes),
    )
    assert (seen.of_month, seen.of_issued) == (counted, counted)
    assert counted.scaled > 0 < counted.newly_failed
    assert f"of {N} learners of {MONTH}, {counted.in_words}" in seen.sentences
    assert call(released, released_tables, SCALE)["F1"].table_id == 1


def test_table_released_after_an_undo_is_compared_with_the_scores_handed_out(released: Database) -> None:
    issue(released)
    release_table(released, SCALE, "F1", undo=True, **SIGNED)
    make_other_table(released)
    seen = call(released, preview_release, SCALE, "F1")
    assert (seen.before, seen.of_month) == (None, None)
    assert seen.of_issued is not None
    assert (seen.of_issued.learners, seen.of_issued.newly_failed > 0) == (N, True)


def test_release_is_refused_if_a_table_was_made_or_released_after_the_preview(exam: Database) -> None:
    seen = call(exam, preview_release, SCALE, "F1")
    make_other_table(exam)
    again = "nothing was decided: another table has been made or released since"
    assert again in refusal(release_table, exam, SCALE, "F1", seen=seen, **SIGNED)
    seen = call(exam, preview_release, SCALE, "F1")
    release_table(exam, SCALE, "F1", 1, **SIGNED)
    assert again in refusal(release_table, exam, SCALE, "F1", seen=seen, **SIGNED)
    assert call(exam, released_tables, SCALE)["F1"].table_id == 1


def test_two_people_who_decide_at_once_release_and_issue_only_once(exam: Database) -> None:
    def attempt_both(act: Any) -> list[Any]:
        def outcome(_: int) -> Any:
            try:
                return act()
            except PermanentFailure as failure:
                return str(failure)

        with ThreadPoolExecutor(2) as people:
            return [*people.map(outcome, range(2))]

    outcomes = attempt_both(partial(release_table, exam, SCALE, "F1", **SIGNED))
    assert sorted(str(one) for one in outcomes if isinstance(one, str)) == ["table 1 of form F1 is released already"]
    assert len(call(exam, table_decisions, SCALE)) == 1
    assert sorted(len(done.new) for done in attempt_both(partial(issue, exam))) == [0, N]
    assert len(call(exam, issued_scores)) == N


# -- issued scores -----------------------------------------------------------------------------------


def test_scores_that_are_issued_twice_add_no_row(released: Database) -> None:
    issue(released)
    assert issue(released) == issue(released, again=True) == Issue("F1")
    assert len(call(released, issued_scores)) == N
    assert {user: score.raw for user, score in current(released).items()} == right_answers(released)


def test_scores_are_issued_again_only_for_a_named_month(exam: Database) -> None:
    assert "name the month" in refusal(issue_scores, exam, SCALE, "F1", again=True, **SIGNED, now=NOW)


def test_changed_key_leaves_issued_scores_until_they_are_issued_again(released: Database) -> None:
    issue(released)
    before = current(released)
    wrong = {
        user for (user,) in rows(released, "SELECT user_id FROM response_log WHERE item_id = 'i1' AND NOT correct")
    }
    run_sql(released, """UPDATE question SET meta = meta || '{"key": "A"}' WHERE item_id = 'i1'""")
    rekey(released, "i1", True, **SIGNED)
    assert current(released) == before
    unsaid = issue(released)
    assert (unsaid, current(released)) == (Issue("F1"), before)
    seen = preview_issue(released, SCALE, "F1", MONTH, now=NOW)
    assert {old.user_id for old, _ in seen.changed} == wrong
    assert missing_sentences(" ".join(seen.sentences), f"differ by the present table and answers: {len(wrong)};") == []
    issue(released, again=True, seen=seen)
    after = current(released)
    for user, score in after.items():
        old = before[user]
        if user in wrong:
            assert (score.raw, score.replaces) == ((old.raw or 0) + 1, old.issued_id)
        else:
            assert score == old
    assert len(call(released, issued_scores)) == N + len(wrong)


def test_dropped_item_needs_a_new_table_before_scores_are_issued(
    released: Database, tmp_path: Path, typed: Irt
) -> None:
    issue(released)
    run_sql(released, """UPDATE question SET meta = meta || '{"key": "A"}' WHERE item_id = 'i1'""")
    rekey(released, "i1", [], **SIGNED)
    message = refusal(issue, released)
    assert not missing_sentences(
        message,
        "the released table of form F1 is for 20 items",
        "19 or other items of the form are scored now",
        "materialise form_score_tables of a month again, then `irt scores release F1 --scale default`",
    )
    analyse(released, tmp_path / "exam")
    make_tables(released)
    shown = typed("scores", "release", "F1", "--yes", *BY)
    assert (shown.code, "the number of raw scores differs" in shown.out) == (0, True)
    issue(released, again=True)
    right = rows(released, "SELECT user_id, sum(correct::int)::int FROM response_log WHERE item_id <> 'i1' GROUP BY 1")
    assert {user: score.raw for user, score in current(released).items()} == dict(right)
    assert {score.table_id for score in current(released).values()} == {2}


def test_issue_is_refused_if_answers_arrived_after_the_preview(released: Database) -> None:
    seen = preview_issue(released, SCALE, "F1", MONTH, now=NOW)
    sit(released, "F1", FORMS["F1"], ["late"], day=5)
    assert "nothing was issued: answers, scores or the table have changed since" in refusal(issue, released, seen=seen)
    assert current(released) == {}
    assert len(issue(released).new) == N + 1, "days without verdicts are judged first"


def test_held_and_invalid_scores_do_not_change_until_they_are_restored(released: Database) -> None:
    issue(released)
    held, void, *_ = sorted(current(released))
    change_status(released, SCALE, "F1", [held, void], "held", **SIGNED)
    change_status(released, SCALE, "F1", [void], "invalid", **SIGNED)
    run_sql(released, """UPDATE question SET meta = meta || '{"key": "A"}' WHERE item_id = 'i1'""")
    run_sql(released, "UPDATE response_log SET correct = false WHERE user_id IN (%s, %s)", (held, void))
    assert issue(released, again=True) == Issue("F1")
    message = refusal(change_status, released, SCALE, "F1", [held, "nobody"], "held", **SIGNED)
    assert f"nothing was decided on form F1: nobody has no score; the score of {held} is held already" == message
    change_status(released, SCALE, "F1", [held, void], "issued", **SIGNED)
    history = [s for s in call(released, issued_scores) if s.user_id == void]
    assert [score.status for score in history] == ["issued", "held", "invalid", "issued"]
    assert [score.replaces for score in history] == [None, *(score.issued_id for score in history[:-1])]
    assert len({(score.raw, score.scaled) for score in history}) == 1
    assert {old.user_id for old, _ in issue(released, again=True).changed} <= {held, void}


def test_hold_is_refused_if_a_score_was_made_invalid_since_the_preview(released: Database) -> None:
    issue(released)
    user, other, *_ = sorted(current(released))
    seen = call(released, scores_to_change, SCALE, "F1", [user, other], "held")
    change_status(released, SCALE, "F1", [user], "invalid", **SIGNED)
    message = refusal(change_status, released, SCALE, "F1", [user, other], "held", seen=seen, **SIGNED)
    assert message == f"nothing was decided: scores of {user} have changed since. Look again"
    assert [current(released)[one].status for one in (user, other)] == ["invalid", "issued"]


def test_second_sitting_can_be_held_while_the_first_is_held(released: Database) -> None:
    issue(released)
    user = min(current(released))
    change_status(released, SCALE, "F1", [user], "held", **SIGNED)
    sit(released, "F1", FORMS["F1"], [user], day=9)
    issue(released)
    [changed] = change_status(released, SCALE, "F1", [user], "held", **SIGNED)
    assert changed.sat_at.day == 10
    assert {s.status for s in call(released, current_scores, user_id=user)} == {"held"}


KILLED = """
import time
from datetime import UTC, datetime
from irt_assets.scores import issuing
from resources.postgres.database import Database
from resources.settings import get_settings
append = issuing._append
def slowly(*given):
    append(*given)
    print("written", flush=True)
    time.sleep(600)
issuing._append = slowly
issuing.issue_scores(Database(get_settings()), "default", "F1", "2026-06", by="Ann", reason="June",
                     now=datetime(2026, 7, 15, tzinfo=UTC))
"""


def test_killed_issue_stores_no_score_and_does_not_block_the_next(released: Database) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "DATABASE_URL": released.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "written\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert (len(call(released, table_decisions, SCALE)), current(released)) == (1, {})
    assert len(issue(released).new) == N


# -- answers of a sitting ----------------------------------------------------------------------------


def test_raw_score_counts_rapid_and_repeated_answers_once_and_no_unreached_items(
    released: Database, tmp_path: Path
) -> None:
    """The rapid answer is right, the first of two answers to i5 is wrong, and the learner met i1 to i3 before."""
    at = START + timedelta(days=12)
    run_sql(released, "UPDATE response_log SET response_time_ms = 30000")
    change_rules(released, SCALE, {"rapid_min_times": 20, "hinted": "exclude"})
    run = partial(attempt, form_id="F1", session_id="s")

    def answers(user: str, **hinted: Any) -> list[dict[str, Any]]:
        rows_of_user = [attempt(user, f"i{k}", at - timedelta(days=3)) for k in (1, 2, 3)]
        for k in range(1, 13):
            own = {"response_time_ms": 100 if k == 4 else 30000, "correct": k not in (2, 5)} | (
                hinted if k == 6 else {}
            )
            rows_of_user.append(run(user, f"i{k}", at + timedelta(minutes=k), position=k, **own))
        rows_of_user.append(run(user, "i5", at + timedelta(minutes=12, seconds=30), position=13))
        tail = [run(user, f"i{k}", at + timedelta(minutes=k), position=k, correct=None) for k in range(13, 21)]
        return rows_of_user + tail

    add_attempts(released, [*answers("odd"), *answers("hinted", hints_used=1)])
    done = issue(released)
    reasons = rows(
        released,
        """SELECT v.reason, count(*)::int FROM attempt_verdict v JOIN response_log r USING (attempt_id, completed_at)
           WHERE r.user_id = 'odd' AND r.form_id = 'F1' GROUP BY 1 ORDER BY 1""",
    )
    assert dict(reasons) == {None: 8, "not_reached": 8, "rapid": 1, "repeat": 4}
    assert current(released)["odd"].raw == 10
    assert done.without == (("hinted", "an answer has no score"),)


def test_issue_is_refused_if_no_sitting_has_an_answer(released: Database, typed: Irt) -> None:
    """Choices were imported without scores and keys, and all learners were about to get 0 points."""
    run_sql(released, "UPDATE response_log SET correct = NULL, response = 'A', recorded_at = now()")
    assert not missing_sentences(
        refusal(issue, released),
        f"{N} sittings of form F1 must have at least one answer with a score, got 0",
        "rekey",
    )
    assert typed("scores", "issue", "F1", "--month", MONTH, "--yes", *BY).code == 2
    assert rows(released, "SELECT count(*) FROM issued_score") == [(0,)]
    run_sql(released, "UPDATE response_log SET correct = true, recorded_at = now() WHERE user_id = 'F1-u1'")
    assert len(issue(released).new) == N


def test_sitting_across_the_end_of_a_month_is_scored_as_a_whole_in_the_second(released: Database) -> None:
    begin = END - timedelta(minutes=10)
    add_attempts(
        released,
        [
            attempt("night", f"i{k}", begin + timedelta(minutes=k), form_id="F1", session_id="s", position=k)
            for k in range(1, 21)
        ],
    )
    assert "night" not in {score.user_id for score in issue(released).new}
    [score] = issue(released, str(Month(MONTH).next)).new
    assert (score.user_id, score.raw, score.sat_at) == ("night", 20, begin + timedelta(minutes=20))


def test_answers_of_a_sitting_are_those_of_its_scale_and_window(exam: Database) -> None:
    found = call(exam, read_answers, SCALE, "F1", START, END, fixed=True)
    assert len(found) == 20 * N
    assert call(exam, read_answers, "other", "F1", START, END, fixed=True).empty
    assert call(exam, read_answers, SCALE, "F1", END, NOW, fixed=True).empty
    found.loc[found["user_id"] == "F1-u1", "points"] = float("nan")
    raw = raw_scores(found, ["i1", "i2"])
    assert raw[raw.isna()].index.get_level_values("user_id").tolist() == ["F1-u1"]


# -- the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("table", "F9"), "scale default has no score table of a form F9: `irt scores table --scale default`"),
        (("table", "F1", "--month", "2026-07"), "scale default has no score table of 2026-07 of a form F1"),
        (("table", "F1", "--month", "June"), "'June' does not match the formats"),
        (("table", "F1", "--released"), "scale default has no released score table of a form F1"),
        (("table", "F1", "--to", "f1.doc"), "--to takes a file named .csv or .xlsx, not f1.doc"),
        (("table", "--scale", "other"), "scale other has no origin yet"),
        (("show", "f1"), "scale default has no score table of a form f1"),
        (("release", "F1", "--table", "77", *BY), "scale default has no score table with the number 77 of a form F1"),
        (("release", "F1", "--scale", "other", *BY), "scale other has no score table of a form F1"),
        (("release", "F1", "--by", " ", "--reason", "x"), "name"),
        (("issue", "F1", *BY), "no score table of form F1 is released: `irt scores release F1 --scale default`"),
        (
            ("issue", "F9", "--month", MONTH, *BY),
            "answers have a form only if the mapping of the import names the form (constants: {form_id: NAME})",
        ),
        (("hold", "F1", "F1-u1", *BY), "F1-u1 has no score"),
        (("hold", "F1", "F1-u1", "--invalid", "--restore", *BY), "--invalid and --restore contradict each other"),
    ],
)
def test_wrong_request_ends_with_code_2_and_the_way_out(typed: Irt, words: tuple[str, ...], message: str) -> None:
    done = typed("scores", *words)
    assert (done.code, missing_sentences(done.err, message)) == (2, [])


def test_form_with_an_unpublished_item_has_no_table_and_the_overview_says_why(exam: Database, typed: Irt) -> None:
    rooms.add_items(exam, {"new": None})
    run_sql(
        exam,
        """INSERT INTO form_item SELECT (jsonb_populate_record(f, '{"form_id": "F3"}')).* FROM form_item f""",
    )
    run_sql(exam, "UPDATE form_item SET item_id = 'new' WHERE (form_id, item_id) = ('F3', 'i1')")
    shown = typed("scores", "table")
    assert not missing_sentences(shown.out, "F1", "F3", "no values are published of new")
    [(form, why)] = typed("scores", "table", "--json").json["without"].items()
    assert (form, why.partition(":")[0]) == ("F3", "no values are published of new")


def test_sittings_of_a_form_without_a_list_of_items_lead_to_the_import_of_the_list(exam: Database, typed: Irt) -> None:
    sit(exam, "P", FORMS["F1"], ["p1"], day=8)
    assert typed("scale", "set", "score_by=raw", "score_points=10:500,20:700", "--yes", *BY).code == 0
    assert "import the list of the form's items (`irt import forms FILE`)" in typed("scores", "issue", "P", *BY).err
    run_sql(exam, "DELETE FROM score_table")
    run_sql(exam, "DELETE FROM form_item")
    assert "a score table needs the list of a form's items" in typed("scores", "table").out


def test_scores_by_theta_are_issued_and_shown_without_a_table(typed: Irt, exam: Database) -> None:
    """The form P has no fixed items."""
    sit(exam, "P", FORMS["F1"], ["p1", "p2"], day=8)
    issued = typed("scores", "issue", "P", "--month", MONTH, "--yes", *BY)
    assert not missing_sentences(issued.out, "form P: two new scores", "p1", "p2", "issued: two scores")
    shown = typed("scores", "show", "P").out
    assert not missing_sentences(shown, "no score table of form P is released", "current scores of sittings: 2 issued")
    assert typed("scores", "table", "--released", "--json").json["tables"] == []


def test_commands_show_release_issue_and_hold_the_scores_of_a_form(typed: Irt, exam: Database, tmp_path: Path) -> None:
    assert not missing_sentences(typed("scores", "table").out, "F1", MONTH, "eap")
    assert (
        "no score table of form F1 is released; the newest is table 1 of 2026-06" in typed("scores", "show", "F1").out
    )
    unsure = typed("scores", "release", "F1", *BY)
    assert (unsure.code, "confirmation needed" in unsure.err) == (2, True)
    assert typed("scores", "release", "F1", "--dry-run", "--json", *BY).json["table"] == 1
    assert call(exam, table_decisions, SCALE) == []
    assert typed("scores", "release", "F1", "--yes", *BY).code == 0
    assert typed("scores", "issue", "F1", "--month", MONTH, "--dry-run", *BY).code == 0
    assert current(exam) == {}
    issued = typed("scores", "issue", "F1", "--month", MONTH, "--yes", *BY)
    assert not missing_sentences(issued.out, f"form F1: {N} new scores", "issued: 60 scores", "the first 30 of 60")
    held = typed("scores", "hold", "F1", "F1-u1", "F1-u2", "--yes", *BY)
    assert not missing_sentences(held.out, "F1-u1", "F1-u2", "issued", "held: two scores")
    shown = typed("scores", "show", "F1").out
    assert not missing_sentences(
        shown, "by Ann: committee of June", "60 learners of 2026-06", "20, maximum 20 points", "58 issued, 2 held"
    )
    found = typed("scores", "show", "F1", "--json").json
    assert (found["table"]["table_id"], found["scores"]) == (1, {"issued": 58, "held": 2})
    table = found["table"]["scores"]
    assert [row["raw"] for row in table] == [*range(21)]
    assert RULES["score_lowest"] <= table[0]["scaled"] < table[20]["scaled"] <= RULES["score_highest"]
    for name, read in (("f1.csv", pd.read_csv), ("f1.xlsx", partial(pd.read_excel, engine="calamine"))):
        assert typed("scores", "table", "F1", "--to", tmp_path / name).code == 0
        assert len(read(tmp_path / name)) >= 21


def test_items_left_out_do_not_count_until_they_are_counted_again(exam: Database, typed: Irt, tmp_path: Path) -> None:
    run_sql(exam, "DELETE FROM item_parameter_publication WHERE item_id IN ('i7', 'i9')")
    before = call(exam, form_items, SCALE)["F1"]
    words = ("scores", "leave-out", "F1", "i7", "i9")
    shown = typed(*words, *BY, "--dry-run")
    assert shown.code == 0, shown.err
    assert (
        missing_sentences(
            " ".join(shown.out.split()),
            "leave items out of a score: i7 and i9 of form F1; the form then has 18 items with 18 points",
            "before: 60 sittings of 2026-06, mean raw score",
            "no score table: no values are published of i7, i9",
            "of 18 on pass",
        )
        == []
    )
    assert call(exam, form_items, SCALE)["F1"] == before
    request = ScoringRequest(SCALE, "F1", ["i7", "i9"])
    deciding.decide(exam, LEAVE_ITEMS_OUT, request, **SIGNED)
    after = {item: most for item, most in before.items() if item not in ("i7", "i9")}
    assert call(exam, form_items, SCALE)["F1"] == after
    analyse(exam, tmp_path / "exam")
    table = make_tables(exam)["F1"]
    assert (table.spec["items"], table.spec["n"]) == (after, N)
    raw = rows(
        exam,
        """SELECT count(*) FILTER (WHERE correct AND item_id NOT IN ('i7', 'i9')) FROM response_log
           WHERE form_id = 'F1' GROUP BY user_id""",
    )
    counts = Counter(k for (k,) in raw)
    with exam.connect() as connection:
        [form] = [form for form in read_forms(connection, SCALE, MONTH) if form.form_id == "F1"]
    assert form.scores == tuple(counts[k] for k in range(19))
    import_forms(exam, tmp_path / "exam" / "forms.csv")
    assert call(exam, form_items, SCALE)["F1"] == after, "the decision stands when the form is imported again"
    with pytest.raises(PermanentFailure, match=r"items must be scored items of form F1 .* got i7 and i99"):
        deciding.decide(exam, LEAVE_ITEMS_OUT, ScoringRequest(SCALE, "F1", ["i7", "i99"]), **SIGNED)
    with pytest.raises(PermanentFailure, match="must keep two or more scored items"):
        deciding.decide(exam, LEAVE_ITEMS_OUT, ScoringRequest(SCALE, "F1", [*after][1:]), **SIGNED)
    with exam.connect() as connection:
        [number] = [each.decision_id for each in read_decisions(connection)]
        inverse = deciding.undo(connection, KINDS, number)
    deciding.decide(exam, inverse, None, **SIGNED)
    assert call(exam, form_items, SCALE)["F1"] == before
    assert typed(*words, *BY, "--yes").code == 0
    assert typed(*words, *BY, "--undo", "--yes").code == 0
    assert call(exam, form_items, SCALE)["F1"] == before
