"""Answers that are scored again or withdrawn: what they were is kept, what rests on them is stale, θ follows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport
from irt_assets.responses.snapshot import take_snapshot
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql
from tests.helpers.typed import Irt, IrtOf

pytestmark = pytest.mark.ci

MONTH = rooms.MONTHS[0]
START = datetime(2026, 6, 3, tzinfo=UTC)
BY = ("--by", "Ann", "--reason", "the key was wrong")


@pytest.fixture
def typed(settings: Settings, database: Database, irt: IrtOf) -> Irt:
    """Commands on a log of ten answers to q1: A, A, B, B, B and one without a stored choice, on two days, then q2's."""
    add_items(database, {"q1": None, "q2": None})
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'q1'""")
    chosen = ["A", "A", "B", "B", "B", None]
    for n, choice in enumerate(chosen):
        at = START + timedelta(days=n % 2, minutes=n)
        one = attempt(f"u{n}", "q1", at, response=choice, correct=choice != "B")
        add_attempts(database, [one | {"attempt_id": f"a{n}"}])
    add_attempts(database, [attempt("u1", "q2", START, response="B", correct=False) | {"attempt_id": "other"}])
    run_sql(database, "UPDATE response_log SET recorded_at = '2026-06-10'")
    take_snapshot(database, rooms.folder_store(settings), MONTH, None)
    return irt(settings)


def right(database: Database) -> dict[str, bool]:
    return dict(rows(database, "SELECT id, correct FROM attempt ORDER BY 1"))  # type: ignore[arg-type]


def corrections(database: Database) -> list[tuple[object, ...]]:
    return rows(
        database,
        """SELECT attempt_id, correct, how, corrected_by, reason, recorded_at::date::text FROM attempt_correction
           ORDER BY attempt_id, correction_id""",
    )


def test_an_item_is_scored_again_by_another_key(typed: Irt, database: Database) -> None:
    before = right(database)
    words = ("attempts", "rescore", "--item", "q1", "--key", "B", *BY)
    said = {
        "answers": 5,
        "days": 2,
        "stale_months": [MONTH],
        "reopened_months": [],
        "closed_months": [],
        "with_choice": 5,
        "without_choice": 1,
        "right_before": 2,
        "right_after": 3,
    }
    assert typed(*words, "--dry-run", "--json").json == said
    assert (right(database), corrections(database)) == (before, [])
    assert typed(*words, "--json").json == said
    assert right(database) == before | {f"a{n}": n > 1 for n in range(5)}
    assert corrections(database) == [
        (f"a{n}", n < 2, "rescore", "Ann", "the key was wrong", "2026-06-10") for n in range(5)
    ]
    assert rows(database, "SELECT count(*) FROM response_log WHERE now() - recorded_at < '1 hour'") == [(5,)]
    assert rows(database, "SELECT meta->>'key' FROM question WHERE item_id = 'q1'") == [("B",)]
    again = typed(*words)
    assert again.out.splitlines() == [
        "5 answers with a stored choice: 3 were right, 3 are; 1 without one stay as they are",
        "changed: no answers of no days",
        "no open month is stale by it",
    ]


def test_only_the_answers_of_a_period_are_scored_again(typed: Irt, database: Database) -> None:
    """Its last day is part of it; the item's record stays, as the other answers were scored by it."""
    day = f"{START:%Y-%m-%d}"
    done = typed("attempts", "rescore", "--item", "q1", "--key", "B", "--from", day, "--to", day, *BY, "--json").json
    assert (done["answers"], done["with_choice"], done["without_choice"]) == (3, 3, 0)
    assert [one[0] for one in corrections(database)] == ["a0", "a2", "a4"]
    assert rows(database, "SELECT meta->>'key' FROM question WHERE item_id = 'q1'") == [("A",)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rescore", "--item", "q1", "--key", "b"), "no answer to q1 chose 'b'; chosen were: A and B"),
        (("rescore", "--item", "q3", "--key", "B"), "chosen were: none, as none is stored"),
        (("withdraw", "--item", "q3"), "the log has no such answers"),
        (("withdraw",), "say which answers"),
        (("withdraw", "--item", "q1", "--ids", __file__), "say which answers"),
    ],
)
def test_what_would_change_nothing_is_refused(
    typed: Irt, database: Database, words: tuple[str, ...], said: str
) -> None:
    done = typed("attempts", *words, *BY)
    assert done.code == 2
    assert said in " ".join(done.err.split())
    assert corrections(database) == []


def test_withdrawn_answers_stay_out_unless_a_higher_revision_comes(
    typed: Irt, database: Database, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_bytes("학생\n".encode("cp949"))
    refused = typed("attempts", "withdraw", "--ids", ids, *BY)
    assert (refused.code, "ids.txt is not UTF-8" in refused.err) == (2, True)
    ids.write_text("a0\n\na1 \nunknown\n", "utf-8-sig")
    done = typed("attempts", "withdraw", "--ids", ids, *BY)
    assert (done.code, "ids of which the log has no answer: 1" in done.err) == (0, True)
    assert done.out.splitlines() == [
        "changed: two answers of two days",
        f"stale, and made again by the daemon or irt calibrate: {MONTH}",
    ]
    assert [one[:3] for one in corrections(database)] == [("a0", True, "withdraw"), ("a1", True, "withdraw")]
    assert [*right(database)] == ["a2", "a3", "a4", "a5", "other"]

    def imported(revision: int) -> ImportReport:
        log = tmp_path / "log.csv"
        log.write_text(
            "attempt_id,user_id,item_id,completed_at,correct,revision\n"
            f"a0,u0,q1,2026-06-03T00:00:00Z,1,{revision}\na2,u2,q1,2026-06-03T00:02:00Z,0,{revision}\n"
        )
        return import_attempts(database, [log], first_month=MONTH)

    assert (imported(0).rejected, imported(0).duplicates) == ({"withdrawn_attempt": 1}, 1)
    back = imported(1)
    assert (back.accepted, back.corrected, back.rejected) == (1, 1, {})
    assert [*right(database)] == ["a0", "a2", "a3", "a4", "a5", "other"]
    assert imported(0).duplicates == imported(1).duplicates == 2


def test_an_items_answers_are_withdrawn(typed: Irt, database: Database) -> None:
    assert typed("attempts", "withdraw", "--item", "q1", "--dry-run", *BY, "--json").json["answers"] == 6
    assert len(right(database)) == 7
    typed("attempts", "withdraw", "--item", "q1", "--from", f"{START + timedelta(days=1):%Y-%m-%d}", *BY)
    assert [*right(database)] == ["a0", "a2", "a4", "other"]


def test_an_import_of_what_was_scored_again_is_a_duplicate(typed: Irt, database: Database, tmp_path: Path) -> None:
    """Nightly exports of the source bring the old score: it is what was corrected, and no news."""
    typed("attempts", "rescore", "--item", "q1", "--key", "B", *BY)
    log = tmp_path / "log.csv"
    log.write_text("attempt_id,user_id,item_id,completed_at,correct\na0,u0,q1,2026-06-03T00:00:00Z,1\n")
    report = import_attempts(database, [log], first_month=MONTH)
    assert (report.duplicates, right(database)["a0"]) == (1, False)


def test_an_erasure_covers_what_was_corrected_and_withdrawn(typed: Irt, database: Database) -> None:
    typed("attempts", "withdraw", "--item", "q1", *BY)
    done = typed("learner", "erase", "u0", "--yes", "--by", "Ann", "--reason", "asked for", "--json")
    assert done.json["removed"]["attempt_correction"] == 1, done.err
    assert rows(database, "SELECT count(*) FROM attempt_correction WHERE user_id = 'u0'") == [(0,)]
    assert len(corrections(database)) == 5


def test_2000_regraded_answers_change_abilities_and_the_ledger_only_proposes(calibrated: Settings) -> None:
    """Wrong answers to items that are not anchors turn out to be right."""
    database = Database(calibrated)
    theta = "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly' ORDER BY 1"
    published = "SELECT * FROM item_parameter_publication ORDER BY publication_id"
    measure(database, MONTH, "before")
    before, in_force = dict(rows(database, theta)), rows(database, published)  # type: ignore[arg-type]
    start, end = Month(MONTH).bounds
    run_sql(
        database,
        """UPDATE response_log SET correct = true WHERE attempt_id IN (
             SELECT attempt_id FROM response_log JOIN question USING (item_id)
             WHERE NOT correct AND completed_at >= %s AND completed_at < %s
               AND NOT coalesce(meta->'tags' ? 'anchor', false)
             ORDER BY md5(attempt_id) LIMIT 2000)""",
        (start, end),
    )
    assert rooms.is_stale(database, MONTH)
    step = rooms.calibrate(calibrated, MONTH)
    assert not rooms.is_stale(database, MONTH)
    assert rows(database, published) == in_force
    proposed = rows(database, "SELECT count(*) FROM item_parameter_proposal WHERE fit_id = %s", (step.fit_id,))
    assert (step.n_published, step.n_proposed) == (0, proposed[0][0])
    assert step.n_proposed > 0
    measure(database, MONTH, "after")
    after = dict(rows(database, theta))  # type: ignore[arg-type]
    assert sum(after[user] > before[user] for user in before) > 0.9 * len(before)
