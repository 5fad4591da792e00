"""Decisions on an item's key: two right options, credit for all, a dropped item, and undoing them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month
from irt_assets.decisions import rekey as rekeying
from irt_assets.decisions.rekey import preview, rekey
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.intake.staging import Staging
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import Irt, IrtOf

MONTH = rooms.MONTHS[0]
START = datetime(2026, 6, 3, tzinfo=UTC)
BY = {"by": "Ann", "reason": "wrong key"}
SIGNED = ("--by", "Ann", "--reason", "wrong key")
CHOSEN = ["A", "A", "B", "B", "C", None]
LOG = "SELECT attempt_id, correct, mode, score FROM response_log ORDER BY 1"
KEY = "SELECT meta->'key' FROM question WHERE item_id = 'q1'"


@pytest.fixture
def log(settings: Settings, database: Database) -> Database:
    """Six answers to q1, whose key is A: A, A, B, B, C, and a right one without a choice. The second is in sandbox
    mode, and the third was scored as right, with a score, although it chose B."""
    add_items(database, {"q1": None, "q2": None})
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'q1'""")
    for n, choice in enumerate(CHOSEN):
        at, mode, right = START + timedelta(days=n % 2, minutes=n), ["live", "sandbox"][n == 1], n in (0, 1, 2, 5)
        one = attempt(f"u{n}", "q1", at, response=choice, correct=right, mode=mode, score=1 if n == 2 else None)
        add_attempts(database, [one | {"attempt_id": f"a{n}"}])
    add_attempts(database, [attempt("u1", "q2", START, response="B", correct=False) | {"attempt_id": "other"}])
    take_snapshot(database, rooms.folder_store(settings), MONTH, None)
    return database


@pytest.fixture
def typed(log: Database, settings: Settings, irt: IrtOf) -> Irt:
    return irt(settings)


def right(database: Database) -> str:
    found = rows(database, "SELECT correct FROM attempt WHERE item_id = 'q1' ORDER BY id")
    return "".join(str(int(correct)) for (correct,) in found)


def counting(database: Database) -> set[str]:
    judge_differing(database, *(at.date() for at in Month(MONTH).bounds))
    return {one for (one,) in rows(database, "SELECT attempt_id FROM attempt_verdict WHERE reason IS NULL")}


@pytest.mark.ci
@pytest.mark.parametrize(
    ("options", "key", "scores", "changes"),
    [
        (("--key", "B"), "B", "001101", (1, 2, 0)),
        (("--key", "C", "--also", "B"), ["B", "C"], "001111", (2, 2, 0)),
        (("--all",), True, "111111", (2, 0, 0)),
        (("--drop",), [], "111001", (0, 0, 5)),
    ],
    ids=["another option", "two options", "credit for all", "dropped"],
)
def test_answers_follow_the_key_and_an_undo_restores_them(
    typed: Irt, log: Database, options: tuple[str, ...], key: Any, scores: str, changes: tuple[int, ...]
) -> None:
    before, counted = rows(log, LOG), counting(log)
    shown = typed("items", "rekey", "q1", *options, "--dry-run", "--json", *SIGNED).json
    assert (rows(log, LOG), rows(log, KEY)) == (before, [("A",)])
    done = typed("items", "rekey", "q1", *options, "--yes", "--json", *SIGNED).json
    assert (shown["rekeying"], shown["shift"]["learners"]) == (done, 0)
    assert (done["former"], done["key"], done["stale_months"], done["closed_months"]) == ("A", key, [MONTH], [])
    assert tuple(done["counts"][name] for name in ("become_right", "become_wrong", "count_no_more")) == changes
    assert (right(log), rows(log, KEY)) == (scores, [(key,)])
    assert counting(log) == (counted - {f"a{n}" for n in range(6)} if key == [] else counted)
    assert missing_sentences(typed("lineage", "q1").out, "key changed", "Ann", "wrong key") == []
    [decided] = typed("lineage", "q1", "--json").json["keys"]
    assert (decided["former"], decided["key"], decided["decided_by"], decided["reason"]) == ("A", key, *BY.values())
    undone = typed("items", "rekey", "q1", "--undo", "--yes", "--json", *SIGNED).json
    assert (undone["former"], undone["key"], undone["answers"]) == (key, "A", done["answers"])
    assert (rows(log, LOG), rows(log, KEY), counting(log)) == (before, [("A",)], counted)
    assert [one["undoes"] for one in typed("lineage", "q1", "--json").json["keys"]] == [None, decided["decision_id"]]
    assert "nothing to undo" in typed("items", "rekey", "q1", "--undo", "--yes", *SIGNED).err


def test_months_are_stale_as_soon_as_a_key_is_changed(log: Database, settings: Settings) -> None:
    counting(log)
    take_snapshot(log, rooms.folder_store(settings), MONTH, None)
    assert log.call(scales_with_changed_verdicts) == {}
    rekey(log, "q1", "B", **BY)
    assert MONTH in log.call(scales_with_changed_verdicts)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("item", "options", "message"),
    [
        ("q1", ("--key", "b"), "no answer to q1 chose 'b'; choices: A, B and C"),
        ("q2", ("--key", "A", "--also", "B"), "no answer to q2 chose 'A'; choices: B"),
        ("q3", ("--drop",), "the bank has no item 'q3'"),
        ("q1", (), "say which options are right"),
        ("q1", ("--key", "B", "--drop"), "say which options are right"),
        ("q1", ("--undo", "--all"), "say which options are right"),
        ("q1", ("--undo",), "nothing to undo"),
        ("q2", ("--key", "B"), ""),
    ],
)
def test_key_without_effect_is_refused(
    typed: Irt, log: Database, item: str, options: tuple[str, ...], message: str
) -> None:
    before = rows(log, LOG)
    done = typed("items", "rekey", item, *options, "--yes", *SIGNED)
    if message:
        assert (done.code, message in " ".join(done.err.split()), rows(log, LOG)) == (2, True, before), done.err
        return
    again = typed("items", "rekey", item, *options, "--yes", *SIGNED)
    assert (done.code, again.code, "nothing to change" in again.err) == (0, 2, True), done.err


@pytest.mark.ci
def test_interrupted_decision_changes_nothing(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision is recorded last, so a failure there comes after all other changes."""
    before = rows(log, LOG)

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(rekeying, "record_decisions", fail)
    with pytest.raises(ConnectionError):
        rekey(log, "q1", "B", **BY)
    assert (rows(log, LOG), rows(log, KEY)) == (before, [("A",)])
    assert rows(log, "SELECT count(*) FROM attempt_correction") == [(0,)]


@pytest.mark.ci
def test_later_answers_follow_the_key_and_its_undo(log: Database, tmp_path: Path) -> None:
    matrix, key = tmp_path / "matrix.csv", tmp_path / "key.csv"
    key.write_text("item,key\nq1,A\nq2,B\n")

    def imported(user: str) -> tuple[Any, ...]:
        matrix.write_text(f"user_id,q1,q2\n{user},C,B\n")
        import_attempts(log, [matrix], first_month=MONTH, mapping="wide", at=START.date(), key=key)
        return rows(log, "SELECT correct, mode FROM response_log WHERE user_id = %s ORDER BY item_id", (user,))[0]

    assert imported("by A") == (False, "live")
    rekey(log, "q1", ["B", "C"], **BY)
    assert imported("by B or C") == (True, "live")
    rekey(log, "q1", True, **BY)
    assert imported("by any") == (True, "live")
    rekey(log, "q1", [], **BY)
    assert imported("dropped") == (False, "dropped")
    for _ in range(3):
        rekey(log, "q1", None, **BY)
    later = rows(log, "SELECT DISTINCT correct, mode FROM response_log WHERE item_id = 'q1' AND user_id ~ '[a-z] '")
    assert (later, rows(log, KEY)) == ([(False, "live")], [("A",)])
    assert rows(log, "SELECT mode FROM response_log WHERE user_id = 'dropped' AND item_id = 'q1'") == [("live",)]


@pytest.mark.ci
@pytest.mark.parametrize("columns", ["response", "correct,response", "matrix"])
def test_import_scores_choices_by_a_key_decided_while_it_read_the_file(
    log: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """Decides after the last row was read and before the import locks the log."""
    file, key, real = tmp_path / "answers.csv", tmp_path / "key.csv", Staging.lock
    key.write_text("item,key\nq1,A\n")
    choices = {f"f{n}": "ABC"[n % 3] for n in range(200)}
    if columns == "matrix":
        file.write_text("user_id,q1\n" + "".join(f"{user},{choice}\n" for user, choice in choices.items()))
        options: dict[str, Any] = {"mapping": "wide", "at": START.date(), "key": key}
    else:
        at, given = START.isoformat(), "1," if "correct" in columns else ""
        lines = [f"{user},q1,{at},{given}{choice}\n" for user, choice in choices.items()]
        file.write_text(f"user_id,item_id,completed_at,{columns}\n" + "".join(lines))
        options = {}

    def lock_after_a_decision(staging: Staging) -> None:
        rekey(log, "q1", ["B", "C"], **BY)
        real(staging)

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "lock", lock_after_a_decision)
        assert import_attempts(log, [file], first_month=MONTH, **options).accepted == 200
    stored = rows(log, "SELECT user_id, correct FROM response_log WHERE user_id ~ '^f'")
    assert dict(stored) == {user: choice in "BC" for user, choice in choices.items()}
    assert rows(log, KEY) == [(["B", "C"],)]


@pytest.mark.ci
def test_undo_is_refused_if_another_key_was_imported(log: Database, tmp_path: Path) -> None:
    rekey(log, "q1", ["A", "B"], **BY)
    bank = tmp_path / "bank.jsonl"
    bank.write_text(json.dumps({"item_id": "q1", "meta": {"key": ["A", "B"]}}) + "\n")
    import_bank_file(log, QUESTIONS, bank)
    assert rows(log, KEY) == [(["A", "B"],)]
    bank.write_text(json.dumps({"item_id": "q1", "key": "C"}) + "\n")
    import_bank_file(log, QUESTIONS, bank)
    with pytest.raises(PermanentFailure, match="changed by an import"):
        rekey(log, "q1", None, **BY)


def test_previewed_shift_is_the_shift_of_the_next_measurement(calibrated: Settings) -> None:
    """θ after the decision is measured as a night does it: the changed days are judged, then abilities are computed."""
    database, bounds = Database(calibrated), [at.date() for at in Month(MONTH).bounds]
    theta = "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly' ORDER BY 1"
    judge_differing(database, *bounds)
    measure(database, MONTH, "before")
    old: dict[Any, Any] = dict(rows(database, theta))
    [(item,)] = rows(database, "SELECT min(item_id) FROM item_parameter_publication")
    run_sql(database, "UPDATE calibration_scale SET pass_theta = 0.1")
    run_sql(database, "DELETE FROM response_log WHERE completed_at >= %s", (Month(MONTH).end,))
    shown = preview(database, item, [], now=Month(MONTH).end)[1]
    rekey(database, item, [], **BY)
    judge_differing(database, *bounds)
    measure(database, MONTH, "after")
    new: dict[Any, Any] = dict(rows(database, theta))
    pairs = np.array([(old[user], new[user]) for user in old if abs(old[user] - new.get(user, old[user])) > 1e-9])
    delta = pairs[:, 1] - pairs[:, 0]
    assert len(delta) > 50
    assert (shown.learners, shown.newly_passed, shown.newly_failed) == (
        len(delta),
        ((pairs[:, 0] < 0.1) & (pairs[:, 1] >= 0.1)).sum(),
        ((pairs[:, 0] >= 0.1) & (pairs[:, 1] < 0.1)).sum(),
    )
    assert (shown.mean, abs(shown.largest)) == pytest.approx((delta.mean(), np.abs(delta).max()), abs=1e-9)
