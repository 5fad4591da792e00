"""A month with several engines, through the real job: their order, stored fits, and the effect of a failing engine."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from irt_assets.decisions.origin import initialise
from irt_assets.engines import registry
from irt_assets.gates.month_classification import State
from irt_assets.scales.scale import change_rules
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import trial_engine
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    model_scores,
    rows,
    run_sql,
)
from tests.integration.graph import Graph, checks, metadata

pytestmark = pytest.mark.ci

MONTH = MONTHS[0]
N_LEARNERS, N_ITEMS = 400, 15
A = np.linspace(0.7, 1.8, N_ITEMS)[np.random.default_rng(1).permutation(N_ITEMS)]
B = np.linspace(-1.6, 1.6, N_ITEMS)
LOOSE = {"min_responses": 100, "min_anchor_responses": 100}


def run(graph: Graph, assets: tuple[str, ...] = (), **changes: Any) -> dg.ExecuteInProcessResult:
    """Run the month by the graph of these settings."""
    return Graph(graph.settings.model_copy(update=changes), graph.instance).run(MONTH, assets=assets)


@pytest.fixture
def graph(settings: Settings, tmp_path: Any) -> Iterator[Graph]:
    """400 learners, 15 items, of which the first 8 are anchors."""
    settings = settings.model_copy(update={"irt_first_month": MONTH, "irt_threads": 1})
    rng = np.random.default_rng(20260601)
    items = [f"i{j:02d}" for j in range(N_ITEMS)]
    database = Database(settings)
    anchors = {items[j]: {"a": A[j], "b": B[j], "a_se": 0.1, "b_se": 0.1} for j in range(0, N_ITEMS, 2)}
    add_items(database, dict.fromkeys(items) | anchors)
    initialise(database, SCALE, first_month=MONTH, thresholds=LOOSE)
    scores = model_scores(rng.normal(size=N_LEARNERS), A, B, rng)
    add_attempts(database, answer_matrix(MONTH, scores, items))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Graph(settings, instance)


def materialised_assets(result: dg.ExecuteInProcessResult) -> list[str]:
    """Assets in the order in which the run made them."""
    return [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]  # type: ignore[union-attr]


@pytest.fixture
def pymc(require: Callable[[bool, str], None]) -> None:
    require(registry.obstacle("pymc", Settings(_env_file=None)) is None, "engine pymc")


@pytest.mark.usefixtures("pymc")
def test_month_with_em_and_pymc_is_green_and_reports_their_agreement(graph: Graph) -> None:
    result = run(graph, irt_engines="pymc")
    made = [*dict.fromkeys(materialised_assets(result))]
    assert made[:8] == [
        *("judged_attempts", "scored_responses", "item_analysis", "item_calibration", "item_calibration_pymc"),
        *("linked_item_parameters", "published_item_parameters", "abilities"),
    ]
    after = ["ability_movement", "adaptive_simulation", "engine_agreement", "form_score_tables", "group_abilities"]
    assert sorted(made[8:]) == after
    assert graph.state(MONTH).state is State.GREEN, graph.state(MONTH).why
    fits = rows(
        graph.database,
        """SELECT engine, converged, max_rhat, min_ess, model_spec->'draws', model_spec->'linking_constants'->>'method'
           FROM mirt_fit_meta ORDER BY engine""",
    )
    assert ([fit[:2] for fit in fits], fits[0][2:4]) == ([("em", True), ("pymc", True)], (None, None))
    assert (1 <= fits[1][2] <= 1.01, fits[1][3] >= 1000) == (True, True)
    assert {fit[5] for fit in fits} == {"stocking-lord"}
    # every item's draws are stored, and their hash is the recorded one
    draws = graph.store.get(fits[1][4]["uri"])
    assert hashlib.sha256(draws).hexdigest() == fits[1][4]["sha256"]
    table = pq.read_table(io.BytesIO(draws))
    assert set(table.column_names) >= {"chain", "draw", "item_id", "a", "b"}
    assert len(set(table["item_id"].to_pylist())) == N_ITEMS
    # publication read em's fit only
    published = rows(graph.database, "SELECT DISTINCT fit_id FROM item_parameter_publication WHERE rule = 'first'")
    assert [fit_id.split("-")[-2] for (fit_id,) in published] == ["em"]
    agreed = checks(result)["engines_agree"]
    assert (agreed.passed, agreed.description) == (True, f"{MONTH}: em and pymc agree on {N_ITEMS} items")
    reported = metadata(result, "engine_agreement")
    assert "| default | em, pymc |" in reported["pairs of engines"]
    assert reported["plot: agreement (default, em and pymc)"].startswith(
        "![parameters by em and pymc](data:image/svg+xml"
    )


@pytest.mark.usefixtures("pymc")
def test_failed_optional_engine_is_recorded_and_leaves_the_month_green(graph: Graph) -> None:
    result = run(graph, irt_engines="pymc", irt_engine_timeout_minutes=0.001)
    assert graph.state(MONTH).state is State.GREEN, graph.state(MONTH).why
    warned = checks(result)["pymc_fitted"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "could not fit the month: engine pymc had not ended after 0.06 seconds" in (warned.description or "")
    ((error, kind),) = rows(graph.database, "SELECT error, error_kind FROM fit_staging WHERE engine = 'pymc'")
    assert kind == "EngineTimeoutError"
    assert error in metadata(result, "item_calibration_pymc")["fits"]
    assert "pymc is left out: engine pymc had not ended" in metadata(result, "engine_agreement")["agreement"]
    # if the engine is demanded, the same failure makes the month red
    change_rules(graph.database, SCALE, {"demanded_engines": "pymc"})
    result = run(graph, irt_engines="pymc", irt_engine_timeout_minutes=0.001)
    assert graph.state(MONTH).state is State.RED
    assert "pymc is demanded and could not fit the month" in (
        checks(result)["demanded_engines_fitted"].description or ""
    )


@pytest.mark.usefixtures("pymc")
def test_engine_enabled_later_makes_no_month_stale_and_fits_only_its_scales(graph: Graph) -> None:
    alone = run(graph)
    assert alone.success
    assert "item_calibration_pymc" not in materialised_assets(alone)
    assert metadata(alone, "engine_agreement")["agreement"] == "one engine, nothing to compare"
    assert checks(alone)["engines_agree"].passed
    later = run(graph, assets=("item_calibration_pymc",), irt_engines="other:pymc")
    assert later.success
    assert checks(later)["pymc_fitted"].description == f"{MONTH}: it has no scale to fit"
    assert rows(graph.database, "SELECT DISTINCT engine FROM fit_staging") == [("em",)]
    failed = run(graph, assets=("item_calibration_pymc",), irt_engines="pymc", irt_engine_timeout_minutes=0.001)
    assert failed.success
    assert graph.state(MONTH).state is State.GREEN, graph.state(MONTH).why


def test_scale_is_published_from_its_own_engine(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine em fits the scale too, for comparison, and the enabled engine does not fit the scale a second time."""
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, trial_engine.SPEC))
    run_sql(graph.database, "UPDATE calibration_scale SET engine = 'trial'")
    result = run(graph, irt_engines="trial")
    assert checks(result)["trial_fitted"].description == f"{MONTH}: it has no scale to fit"
    assert rows(graph.database, "SELECT engine, count(*) FROM fit_staging GROUP BY 1 ORDER BY 1") == [
        ("em", 1),
        ("trial", 1),
    ]
    published = rows(graph.database, "SELECT DISTINCT fit_id FROM item_parameter_publication WHERE rule = 'first'")
    assert [fit_id.split("-")[-2] for (fit_id,) in published] == ["trial"]
    assert (checks(result)["converged"].description or "").startswith(f"{MONTH}: trial converged")
    assert checks(result)["engines_agree"].description == f"{MONTH}: trial and em agree on {N_ITEMS} items"
    assert graph.state(MONTH).state is State.GREEN, graph.state(MONTH).why


def test_month_is_fitted_by_an_engine_added_with_a_single_file_and_line(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, trial_engine.SPEC))
    change_rules(graph.database, SCALE, {"demanded_engines": "trial"})
    result = run(graph, irt_engines="trial")
    assert graph.state(MONTH).state is State.GREEN, graph.state(MONTH).why
    made = materialised_assets(result)
    order = ["item_calibration", "item_calibration_trial", "linked_item_parameters", "engine_agreement"]
    assert [name for name in made if name in order] == order
    assert rows(graph.database, "SELECT engine, converged, n_items FROM mirt_fit_meta ORDER BY engine") == [
        ("em", True, N_ITEMS),
        ("trial", True, N_ITEMS),
    ]
    assert checks(result)["trial_fitted"].passed
    assert checks(result)["engines_agree"].description == f"{MONTH}: em and trial agree on {N_ITEMS} items"


def test_scale_with_a_removed_engine_is_red_and_names_the_engine(graph: Graph) -> None:
    run_sql(graph.database, "UPDATE calibration_scale SET engine = 'stan'")
    assert not run(graph).success
    assert rows(graph.database, "SELECT error FROM fit_staging WHERE engine = 'stan'") == [
        ("unknown engine 'stan'; known engines: em, mirt, pymc, brms, remote",)
    ]
    assert (graph.state(MONTH).state, "unknown engine 'stan'" in graph.state(MONTH).why) == (State.RED, True)
