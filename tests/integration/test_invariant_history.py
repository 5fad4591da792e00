"""What becomes of violations: one row from opening to end, one alert each, the report, the commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from irt_assets.cli import app
from irt_assets.invariants import history
from irt_assets.invariants.invariant import Found, Invariant, InvariantContext, NotTested, Verdict, Violation
from irt_assets.invariants.registry import INVARIANTS
from resources.alerts.outbox import Alert, open_alert
from resources.postgres.database import Database
from resources.settings import Settings, get_settings
from tests.helpers.rooms import rows
from tests.helpers.sentences import unsaid
from tests.integration.graph import Graph, checks, metadata

NOW = datetime(2026, 8, 20, tzinfo=UTC)


def items_are_fine(_look: InvariantContext) -> Found:
    return []


FINE = Invariant(items_are_fine, "error", "items", "Items are fine.", "mend them")


class History:
    """Looks that follow one another, each with what it found."""

    def __init__(self, database: Database) -> None:
        self.database, self.n = database, 0

    def look(self, *subjects: str, untested: tuple[NotTested, ...] = (), crashed: str = "", **others: Any) -> None:
        self.n += 1
        violations = tuple(Violation(s, "broken", "whole", others.get("partition", "")) for s in subjects)
        verdict = Verdict(others.get("invariant", FINE), violations, untested, crashed)
        with self.database.connect() as connection:
            history.record(connection, f"run {self.n}", history.Report(NOW, (verdict,)))

    def open(self) -> list[tuple[Any, ...]]:
        return rows(
            self.database,
            """SELECT run, subject FROM invariant_result
               WHERE subject <> '' AND resolved_at IS NULL ORDER BY run, subject""",
        )

    def alerts(self) -> list[tuple[Any, ...]]:
        return rows(self.database, "SELECT subjects, resolved_at IS NULL FROM alert ORDER BY alert_id")


@pytest.fixture
def days(database: Database) -> History:
    return History(database)


def test_a_violation_that_persists_is_one_row_and_one_alert(days: History) -> None:
    for _ in range(3):
        days.look("q1", "q2")
    assert (days.open(), days.alerts()) == ([("run 1", "q1"), ("run 1", "q2")], [(["q1", "q2"], True)])
    verdicts = rows(days.database, "SELECT run, passed, observed FROM invariant_result WHERE subject = '' ORDER BY run")
    assert verdicts == [(f"run {n}", False, "2 violations") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("looks", "still_open", "alerts"),
    [
        ([("q1", "q2"), ("q2",)], [("run 1", "q2")], [(["q1", "q2"], True)]),
        ([("q1", "q2"), ("q2",), ()], [], [(["q1", "q2"], False)]),
        ([("q1",), ("q1", "q2"), ("q2",)], [("run 2", "q2")], [(["q1"], False), (["q2"], True)]),
        ([("q1",), (), ("q1",)], [("run 3", "q1")], [(["q1"], False), (["q1"], True)]),
    ],
    ids=["one is fixed", "the last of it is fixed", "what comes later has its own", "it comes back"],
)
def test_what_is_fixed_is_closed_and_its_alert_ends_with_the_last_of_it(
    days: History, looks: list[tuple[str, ...]], still_open: list[Any], alerts: list[Any]
) -> None:
    for subjects in looks:
        days.look(*subjects)
    assert (days.open(), days.alerts()) == (still_open, alerts)


def test_months_have_an_alert_each(days: History) -> None:
    days.look("q1", partition="2026-06")
    days.look("q1", partition="2026-07")
    assert rows(days.database, "SELECT partition, resolved_at IS NULL FROM alert ORDER BY alert_id") == [
        ("2026-06", False),
        ("2026-07", True),
    ]


@pytest.mark.parametrize(
    ("untested", "still_open"),
    [
        (NotTested("no answers"), {"q1", "r1"}),
        (NotTested("no answers", subject="q"), {"q1"}),
        (NotTested("no answers", partition="2026-05"), set()),
        (NotTested("no answers", partition="2026-06"), {"q1", "r1"}),
    ],
)
def test_what_could_not_be_tested_closes_nothing(days: History, untested: NotTested, still_open: set[str]) -> None:
    days.look("q1", "r1", partition="2026-06")
    days.look(untested=(untested,), partition="2026-06")
    assert {subject for _, subject in days.open()} == still_open
    (said,) = rows(days.database, "SELECT passed, not_tested FROM invariant_result WHERE run = 'run 2'")
    assert said == (True, "no answers")


def test_an_invariant_that_crashed_closes_nothing(days: History) -> None:
    days.look("q1")
    days.look(crashed="TypeError: so")
    assert days.open() == [("run 1", "q1")]
    (said,) = rows(days.database, "SELECT passed, observed FROM invariant_result WHERE run = 'run 2'")
    assert said == (False, "it could not be evaluated: TypeError: so")


def test_the_alert_says_what_where_and_what_to_do(days: History) -> None:
    days.look("q1", partition="2026-06")
    (found,) = rows(days.database, "SELECT severity, what, partition, kind, fix, link FROM alert")
    assert found == (
        "error",
        "invariant violated: items are fine. Example: q1: broken",
        "2026-06",
        "items",
        "mend them",
        "/assets/invariant_report?view=checks&checkDetail=items_are_fine",
    )


def test_a_red_month_that_its_checks_tell_of_is_not_told_twice(days: History) -> None:
    told = Invariant(items_are_fine, "error", "scales", "Months are green.", "mend it", alerted_by_checks=True)
    with days.database.connect() as connection:
        open_alert(connection, Alert("check x 2026-06", "error", "a check failed", "look", partition="2026-06"))
    days.look("default", partition="2026-06", invariant=told)
    assert len(days.alerts()) == 1
    days.look("default", partition="2026-07", invariant=told)
    assert len(days.alerts()) == 2


# -- the asset ---------------------------------------------------------------------------------------


def materialise(settings: Settings) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return Graph(settings.model_copy(update={"irt_first_month": "2026-06"}), instance).run(
            "2026-08-01", "invariants"
        )


def test_the_report_has_a_check_for_every_invariant(settings: Settings) -> None:
    result = materialise(settings)
    assert result.success
    judged = {name: evaluation.passed for name, evaluation in checks(result).items()}
    assert judged == {one.name: True for one in INVARIANTS}
    said = metadata(result, "invariant_report")
    assert said["in a sentence"].startswith("incomplete (")
    assert "nothing is published yet" in said["not tested"]


def test_an_invariant_that_crashes_fails_the_run_and_the_others_are_stored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(_look: InvariantContext) -> Iterator[Violation | NotTested]:
        raise ZeroDivisionError("so")

    broken = Invariant(crashes, "error", "items", "", "")
    look_at_everything = history.look_at_everything
    monkeypatch.setattr(
        history, "look_at_everything", lambda *args: look_at_everything(*args, invariants=(broken, *INVARIANTS[1:]))
    )
    assert not materialise(settings).success
    stored = rows(Database(settings), "SELECT invariant, observed FROM invariant_result WHERE NOT passed")
    assert stored == [("crashes", "it could not be evaluated: ZeroDivisionError: so")]


# -- the commands ------------------------------------------------------------------------------------


@pytest.fixture
def irt(settings: Settings, monkeypatch: pytest.MonkeyPatch, now: datetime) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
    monkeypatch.setenv("IRT_FIRST_MONTH", f"{now:%Y-%m}")
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())

    def typed(*words: str) -> tuple[int, str]:
        get_settings.cache_clear()
        result = CliRunner().invoke(app, ["invariants", *words])
        return result.exit_code, result.stdout

    return typed


def test_run_says_first_what_it_could_not_test_and_strict_minds(irt: Callable[..., tuple[int, str]]) -> None:
    code, said = irt("run", "--json")
    assert code == 0
    report = json.loads(said)
    assert next(iter(report)) == "incomplete"
    why = {one["invariant"]: one["why"] for one in report["incomplete"]}
    assert why["anchors_are_still_in_the_bank"] == "no scale has frozen anchors yet: `irt scale init`"
    assert {one["name"] for one in report["invariants"]} == {one.name for one in INVARIANTS}
    assert irt("run", "--strict")[0] == 1


def test_run_names_violations_stores_them_and_fails(irt: Callable[..., tuple[int, str]], settings: Settings) -> None:
    with Database(settings).connect() as connection:
        connection.execute("INSERT INTO question (item_id) VALUES ('q1')")
        connection.execute(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES ('default', 'q1', '{"a": -1, "b": 0, "c": 0}', '2026-01-01Z', 'origin', 'so', 'x', 'x')"""
        )
    code, said = irt("run")
    assert code == 1
    assert not unsaid(said, "violated published_items_can_be_scored_with", "q1", "a = -1")
    (stored,) = rows(
        Database(settings),
        """SELECT subject, observed FROM invariant_result
           WHERE invariant = 'published_items_can_be_scored_with' AND subject <> ''""",
    )
    assert stored == ("q1", "a = -1, SE(a) = None, SE(b) = None")


def test_list_explains_every_invariant(irt: Callable[..., tuple[int, str]]) -> None:
    code, said = irt("list")
    assert code == 0
    assert not unsaid(said, *(words for one in INVARIANTS for words in (one.name, one.protects, one.fix)))
    assert len(json.loads(irt("list", "--json")[1])) == len(INVARIANTS)
