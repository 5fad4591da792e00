"""The state of a month is the same word in the status, the exporter, the bank API and the dashboard, at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from htmltools import TagList

from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import Month, last_complete_month
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_classification import QUESTIONS
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.anchors import anchor_items
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scales.scale_decisions import record_decisions
from resources.postgres.embedded_postgres import EmbeddedPostgres
from services.dashboard.data_access import Reader
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.exporter.app import StateCollector
from services.theta_api.bank import months_of
from tests.helpers import rooms
from tests.integration.graph import Graph, graph_after_first_month

MONTH, LATER = rooms.MONTHS
SIGNED = {"by": "Ann", "reason": "to see"}


def late_answer(graph: Graph) -> None:
    rooms.add_attempts(graph.database, [rooms.attempt("someone", "A01", datetime(2026, 6, 15, tzinfo=UTC))])
    judge_differing(graph.database, *(at.date() for at in Month(MONTH).bounds))


def rule(name: str, value: object) -> Callable[[Graph], None]:
    return lambda graph: change_rules(graph.database, rooms.SCALE, {name: value})


def other_model(graph: Graph) -> None:
    with graph.database.connect() as connection:
        record_decisions(connection, rooms.SCALE, {"model": "rasch"}, Month(MONTH).start, **SIGNED)


def earlier_reference(graph: Graph) -> None:
    """Fit an earlier month, which the month's misfit would have been compared with."""
    for table, key in (("scored_snapshot", ""), ("fit_staging", ", 'fit_id', 'earlier'")):
        rooms.run_sql(
            graph.database,
            f"""INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object('month', '2026-05'{key}))).*
                FROM {table} t WHERE month = %s""",
            (MONTH,),
        )


def dropped_anchor(graph: Graph) -> None:
    with graph.database.connect() as connection:
        item = min(anchor_items(connection, read_scales(connection)[rooms.SCALE]))
    change_anchors(graph.database, "drop_anchor", rooms.SCALE, [item], MONTH, **SIGNED)


def made_up_to(step: int) -> Callable[[Graph], None]:
    """Materialise the first steps of the month with other answers, and none of the later ones."""

    def make(graph: Graph) -> None:
        some = "mod(abs(hashtext(user_id)), 20) = 0"
        rooms.run_sql(graph.database, f"UPDATE response_log SET mode = 'sandbox' WHERE {some}")
        judge_differing(graph.database, *(at.date() for at in Month(MONTH).bounds))
        steps: list[Callable[[], object]] = [
            lambda: take_snapshot(graph.database, graph.store, MONTH, None),
            lambda: fit_month(graph.database, graph.store, MONTH, EmEngine(1), None),
            lambda: link_month(graph.database, MONTH, None),
        ]
        for take in steps[:step]:
            take()

    return make


STALE: dict[str, Callable[[Graph], None]] = {
    "other_answers": late_answer,
    "other_eligibility": rule("hinted", "exclude"),
    "scored_alone": made_up_to(1),
    "other_model": other_model,
    "other_reference": earlier_reference,
    "fitted_alone": made_up_to(2),
    "other_anchors": dropped_anchor,
    "other_linking": rule("min_anchor_responses", 81),
    "other_limits": rule("min_anchors", 4),
    "linked_alone": made_up_to(3),
}
"""Changes that make a month stale, by question."""


def nothing_scored(graph: Graph) -> None:
    start, end = Month(LATER).bounds
    rooms.run_sql(
        graph.database,
        "UPDATE response_log SET mode = 'sandbox' WHERE completed_at >= %s AND completed_at < %s",
        (start, end),
    )
    assert not graph.run(LATER).success


def first_steps(graph: Graph) -> None:
    assert graph.run(LATER, assets=["scored_responses", "item_calibration"]).success


def waiting(graph: Graph) -> None:
    assert graph.run(LATER, assets=["scored_responses", "item_calibration", "linked_item_parameters"]).success
    publish_month(graph.database, graph.store, LATER, [MONTH], None)


def nothing(_: Graph) -> None:
    return


LATER_STATES: dict[str, tuple[Callable[[Graph], None], str, str]] = {
    "green": (nothing, MONTH, "green"),
    "empty": (nothing, last_complete_month(datetime.now(UTC)), "empty"),
    "missing": (nothing, LATER, "missing"),
    "failed": (nothing_scored, LATER, "red"),
    "killed": (first_steps, LATER, "red"),
    "pending": (waiting, LATER, "pending"),
}


@pytest.fixture
def graph(postgres: EmbeddedPostgres, small_truth: object, tmp_path: Path) -> Iterator[Graph]:
    with graph_after_first_month(postgres, tmp_path) as graph:
        yield graph


def words(graph: Graph, month: str) -> dict[str, str]:
    """The month's state at each door. The bank API lists months that have reached publication."""
    (status,) = month_states(graph.database, graph.instance, [month])
    (family,) = (
        each for each in StateCollector(graph.database, graph.settings).collect() if each.name == "irt_month_state"
    )
    exported = {s.labels["state"] for s in family.samples if s.labels["month"] == month and s.value}
    with graph.database.connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        listed = {each.month: each.colour for each in months_of(connection, scale, "")}
    _, page = make_page(ViewRequest("month", {"month": month}, DEMO, Reader(graph.settings, graph.instance)))
    shown = re.search(r'class="badge[^"]*">([a-z]+)<', TagList(page.body).get_html_string())
    found = {"status": status.state.value, "exporter": " ".join(exported), "page": shown[1] if shown else ""}
    return found | ({"bank API": listed[month]} if month in listed else {})


def test_every_question_has_a_change_that_makes_a_month_stale() -> None:
    assert list(STALE) == list(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_stale_month_is_stale_everywhere_at_once(graph: Graph, question: str) -> None:
    STALE[question](graph)
    (state,) = month_states(graph.database, graph.instance, [MONTH])
    assert state.asset == QUESTIONS[question][1], state.why
    assert words(graph, MONTH) == dict.fromkeys(("status", "exporter", "page", "bank API"), "stale")


@pytest.mark.parametrize("case", LATER_STATES)
def test_month_has_the_same_state_everywhere(graph: Graph, case: str) -> None:
    change, month, expected = LATER_STATES[case]
    change(graph)
    assert {*words(graph, month).values()} == {expected}
