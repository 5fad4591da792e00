"""Published items that a month could not estimate: tested by proportion correct, or named with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import dagster as dg
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.decisions.origin import initialise
from irt_assets.drift.alerts import episodes
from irt_assets.drift.assets import DRIFT_JOB, sentence, unestimated_items
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.drift.rows import compared_of
from irt_assets.psychometrics.simulation.truth import Truth
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import LOWERED, MONTHS, SCALE, calibrate, folder_store, rows, run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks

FEW = 80
"""Answers that are left of an item; a fit of the small world wants 120."""


class Items(NamedTuple):
    """Items published by the first month, and what becomes of them in the second."""

    easier: str
    sound: str
    vanished: str
    unanswered: str


@pytest.fixture(scope="module")
def world_with_gaps(
    postgres: EmbeddedPostgres, small_truth: Truth, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Items, ScaleDrift]]:
    """The small world whose second month lost answers to three published items, and the bank one item."""
    items, judged = made_once(postgres, "template_gaps", "template_rooms", with_gaps, **OF_MONTHS)
    with template_copy(postgres, "template_gaps", tmp_path_factory.mktemp("gaps"), **OF_MONTHS) as settings:
        yield settings, items, judged


def with_gaps(settings: Settings) -> tuple[Items, ScaleDrift]:
    database, store = Database(settings), folder_store(settings)
    initialise(database, SCALE, first_month=MONTHS[0], thresholds=LOWERED)
    calibrate(settings, MONTHS[0])
    items = Items(*_published_and_answered(database))
    second = f"completed_at >= '{MONTHS[1]}-01' AND completed_at < '2026-08-01'"
    for item in (items.easier, items.sound):
        run_sql(
            database,
            f"""DELETE FROM response_log WHERE item_id = %s AND {second} AND attempt_id NOT IN (
                  SELECT attempt_id FROM response_log WHERE item_id = %s AND {second}
                  ORDER BY md5(attempt_id) LIMIT {FEW})""",
            (item, item),
        )
    run_sql(database, f"UPDATE response_log SET correct = true WHERE item_id = %s AND {second}", (items.easier,))
    run_sql(database, f"DELETE FROM response_log WHERE item_id = %s AND {second}", (items.unanswered,))
    run_sql(database, "DELETE FROM question WHERE item_id = %s", (items.vanished,))
    calibrate(settings, MONTHS[1])
    (judged,) = drift_of_month(database, store, MONTHS[1])
    return items, judged


def _published_and_answered(database: Database) -> list[str]:
    """Four items that are not anchors, neither hard nor easy, with enough answers in the second month."""
    found = rows(
        database,
        f"""SELECT p.item_id FROM item_parameter_current p JOIN response_log r USING (item_id)
            WHERE p.rule = 'first' AND abs(p.b) < 1 AND r.completed_at >= '{MONTHS[1]}-01'
              AND r.completed_at < '2026-08-01'
            GROUP BY 1 HAVING count(*) > 150 ORDER BY 1 LIMIT 4""",
    )
    return [item for (item,) in found]


def test_an_item_with_too_few_answers_for_a_fit_is_flagged_by_its_proportion_correct(
    world_with_gaps: tuple[Settings, Items, ScaleDrift],
) -> None:
    settings, items, judged = world_with_gaps
    ((severity, area, delta_b, details),) = rows(
        Database(settings),
        "SELECT severity, wabc, delta_b, details FROM item_drift WHERE month = %s AND item_id = %s",
        (MONTHS[1], items.easier),
    )
    tested = details["proportion_correct"]
    assert (severity, delta_b, tested["observed"]) == ("high", None, 1.0)
    assert 40 <= tested["n"] <= FEW
    assert tested["difference"] == pytest.approx(1 - tested["expected"]) == pytest.approx(area)
    assert "a fit needs 120" in tested["why"]
    assert details["change"]["kind"] in ("leak", "drift", "easier: drift or leak")
    assert set(details["published"]) == {"a", "b", "c"}
    assert items.easier in judged.items("high")


def test_a_sound_item_with_too_few_answers_has_a_row_that_says_so(
    world_with_gaps: tuple[Settings, Items, ScaleDrift],
) -> None:
    settings, items, _ = world_with_gaps
    found = rows(
        Database(settings),
        "SELECT severity FROM item_drift WHERE month = %s AND item_id = %s AND details ? 'proportion_correct'",
        (MONTHS[1], items.sound),
    )
    assert found == [("none",)]


def test_what_can_be_neither_compared_nor_tested_is_named_with_the_reason(
    world_with_gaps: tuple[Settings, Items, ScaleDrift],
) -> None:
    settings, items, judged = world_with_gaps
    assert judged.unestimated.untested == {
        items.vanished: "it is no longer in the bank",
        items.unanswered: f"it has no eligible answer in {MONTHS[1]}",
    }
    with Database(settings).connect() as connection:
        judged_rows = compared_of(connection, read_scales(connection)[SCALE], MONTHS[1])
    untested = "2 published items could be neither compared nor tested"
    assert not unsaid(sentence(judged, judged_rows), "2 tested by proportion correct", untested)
    table = markdown(*unestimated_items([judged], {SCALE: judged_rows}))
    assert table.index(items.easier) < table.index(items.vanished)
    with_rows = rows(Database(settings), "SELECT item_id FROM item_drift WHERE month = %s", MONTHS[1:])
    assert not {(items.vanished,), (items.unanswered,)} & set(with_rows)


def test_its_alert_is_opened_and_the_checks_name_it_and_the_vanished_item(
    world_with_gaps: tuple[Settings, Items, ScaleDrift],
    instance: dg.DagsterInstance,
) -> None:
    settings, items, _ = world_with_gaps
    opened = rows(
        Database(settings), "SELECT opened_month, severity FROM drift_alerts WHERE item_id = %s", (items.easier,)
    )
    assert opened == [(MONTHS[1], "high")]
    judged = checks(Graph(settings, instance).run(MONTHS[1], DRIFT_JOB))
    assert items.easier in (judged["no_item_drifted_far"].description or "")
    bank = judged["published_items_are_in_the_bank"]
    assert (bank.passed, bank.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"{items.vanished} (it is no longer in the bank)" in (bank.description or "")


def test_few_answers_as_expected_do_not_end_an_alert() -> None:
    by_proportion = {"proportion_correct": {"n": 60}}
    judged = [
        ("a", "2026-01", "high", {}),
        ("a", "2026-02", "none", by_proportion),
        ("a", "2026-03", "medium", by_proportion),
    ]
    found = [(e.opened_month, e.closed_month, e.severity) for e in episodes(judged)]
    assert found == [("2026-01", None, "high")]
