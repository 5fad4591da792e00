"""What other rules would make of a month: a trial leaves nothing behind, and says what the change then does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from irt_assets.calibration.checks import judged_by
from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import fit_month, link_month
from irt_assets.decisions.rule_trial import Judged, try_rules
from irt_assets.engines.em import EmEngine
from irt_assets.engines.registry import build
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_judged import State
from irt_assets.psychometrics.eligibility.rules import PublicationRules, Rules
from irt_assets.responses.scales import change_rules, read_scales
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.runs.in_process_runs import judge_again
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.integration.graph import Graph, graph_after_first_month

MONTH = rooms.MONTHS[0]


@pytest.fixture
def graph(postgres: EmbeddedPostgres, small_truth: object, tmp_path: Path) -> Iterator[Graph]:
    with graph_after_first_month(postgres, tmp_path) as graph:
        yield graph


def everything(graph: Graph) -> tuple[object, ...]:
    """The rows of every table, as text, the files of the store, and the runs."""
    tables = rooms.rows(
        graph.database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    )
    content = [
        rooms.rows(graph.database, f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \"{name}\" t")
        for (name,) in tables
    ]
    return content, sorted(map(str, graph.store.root.rglob("*"))), len(graph.instance.get_run_ids())


@pytest.mark.parametrize(
    ("settings", "done"),
    [
        ({"max_rmsd": 0.001}, "its stored fit was judged again"),
        ({"min_anchor_responses": 1}, "its stored fit was linked again"),
        ({"latent": "normal"}, "it was fitted and linked again"),
        ({"hinted": "exclude", "max_abs_b": 1.0}, "its answers were judged, fitted and linked again"),
    ],
)
def test_a_trial_stores_nothing_and_is_what_the_change_does(graph: Graph, settings: dict, done: str) -> None:
    before = everything(graph)
    trial = try_rules(
        graph.database, graph.store, MONTH, rooms.SCALE, settings, partial(build, settings=graph.settings)
    )
    assert everything(graph) == before
    assert done in "\n".join(trial.lines)
    assert trial.change.sentence in trial.lines
    change_rules(graph.database, rooms.SCALE, settings)
    if done != "its stored fit was judged again":
        take_snapshot(graph.database, graph.store, MONTH, None)
        if "fitted" in done:
            fit_month(graph.database, graph.store, MONTH, EmEngine(1), None)
        link_month(graph.database, MONTH, None)
        measure_month(graph.database, MONTH)
    now = as_it_is(graph)
    assert now.held == trial.after.held
    assert {name: of.passed for name, of in now.verdicts.items()} == {
        name: of.passed for name, of in trial.after.verdicts.items()
    }
    # The same code on the same answers; threads may add them up in another order.
    for item, values in trial.after.items.items():
        assert now.items[item].abc == pytest.approx(values.abc, abs=1e-6)


def as_it_is(graph: Graph) -> Judged:
    """The month as a trial of the rules that it has finds it before it begins."""
    make = partial(build, settings=graph.settings)
    return try_rules(graph.database, graph.store, MONTH, rooms.SCALE, {}, make).before


def rules_of(graph: Graph) -> Rules:
    with graph.database.connect() as connection:
        return read_scales(connection)[rooms.SCALE].rules


def changes(graph: Graph, gates: Sequence[SetGate], months: Sequence[str]) -> list[tuple[str, str, bool]]:
    """Month, gate and whether it passes now, of the gates whose verdict changed."""
    changed = judge_again(graph.instance, graph.settings, gates, months)
    return [(month, found.check_name, found.passed) for month, found in changed]


def test_a_changed_limit_is_judged_again_by_what_is_stored(graph: Graph) -> None:
    """A month that was green is red by the new limit, and green again by the old one."""
    fits = rooms.rows(graph.database, "SELECT count(*) FROM fit_staging")
    gates = judged_by({"min_anchors"})
    assert [gate.name for gate in gates] == ["anchors_agree"]
    found = []
    for limit in (1000, rules_of(graph).publication.min_anchors):
        change_rules(graph.database, rooms.SCALE, {"min_anchors": limit})
        changed = changes(graph, gates, rooms.MONTHS)
        state = graph.state(MONTH)
        found.append((changed, state.state))
        if limit == 1000:
            assert "of those with enough responses; needed are 1000 and 70%" in state.why
    assert found == [
        ([(MONTH, "anchors_agree", False)], State.RED),
        ([(MONTH, "anchors_agree", True)], State.GREEN),
    ]
    assert rooms.rows(graph.database, "SELECT count(*) FROM fit_staging") == fits


def test_every_limit_of_a_month_is_judged_again_but_the_one_that_lets_a_month_pass_for_once() -> None:
    of_gates = {rule for gate in SET_GATES for rule in gate.rules}
    assert {*PublicationRules.model_fields} - of_gates == {"max_abs_b", "max_b_se", "max_rmsd", "new_misfit"}
