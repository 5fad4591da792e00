"""Simulations of adaptive tests: the monthly asset, the check of promises, and the effect of decisions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import scipy.stats

from irt_assets.adaptive.assets import SIMULATION, build_promises_check, build_simulation_asset
from irt_assets.adaptive.changes import compare_tests, effects_of_withdrawal, preview_policy, with_values
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import (
    broken_promises,
    draw_simulees,
    make_month,
    read_simulations,
    simulate_test,
)
from irt_assets.adaptive.versions import version_in_force
from irt_assets.blocks import percent
from irt_assets.common.partitions import Month, monthly
from irt_assets.decisions.proposals import Reference
from irt_assets.scales.scale import read_scales
from irt_psychometrics.items import ItemRow
from resources.postgres.database import Database
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, review
from services.dashboard.page import ViewRequest
from services.jwt_verifier.tokens import Identity
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.helpers.rooms import call, rows, run_sql
from tests.helpers.score_world import MONTH, NOW, build_exam, item_values

EASY = f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 8}}\nexposure: {{max: 0.6}}\n"
HARD = EASY.replace("{max: 8}", "{max: 8, se: 0.2}")
SIGNED = {"by": "Ann", "reason": "committee of June"}
END = Month(MONTH).end
RMSE = re.compile(r"RMSE of θ ([\d.]+) → ([\d.]+) \(([−+][\d.]+) ± ([\d.]+)\)")


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    build_exam(database, tmp_path / "exam")
    return database


def offer(database: Database, policy: str = EASY) -> int:
    return set_policy(database, Policy.from_yaml(policy), **SIGNED, effective_from=END - timedelta(days=1))


def learners(database: Database, theta: np.ndarray, se: float) -> None:
    """Store θ of the month's learners, as the asset `abilities` does."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO mirt_ability (update_id, user_id, scale_id, theta, se, method, n_items, kind, window_end,
                                         published_as_of, set_hash, scale_version)
               VALUES ('run', %s, %s, %s, %s, 'eap', 9, 'monthly', %s, %s, 'hash', 1)""",
            [(f"u{k}", rooms.SCALE, float(x), se, END, END) for k, x in enumerate(theta)],
        )


@pytest.mark.ci
def test_month_run_twice_stores_one_row_and_warns_only_of_the_test_whose_error_is_out_of_reach(
    settings: Settings, exam: Database
) -> None:
    version = offer(exam)
    hard = offer(exam, HARD.replace("placement", "precise"))
    later = Policy.from_yaml(EASY.replace("placement", "later"))
    set_policy(exam, later, **SIGNED, effective_from=END + timedelta(days=1))
    months = monthly(MONTH)
    graph = dg.Definitions(
        assets=[build_simulation_asset(months)],
        asset_checks=[build_promises_check(months)],
        resources={"database": exam, "store": rooms.folder_store(settings)},
    )
    job = graph.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            result = job.execute_in_process(partition_key=MONTH, instance=instance)
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description is not None
    assert check.description.startswith(f"{MONTH}: test precise: 0 % of the tests reach the standard error 0.2")
    assert "placement" not in check.description
    [made] = result.asset_materializations_for_node(SIMULATION)
    assert "data:image" in str(made.metadata["precision (placement)"].value)
    stored = call(exam, read_simulations)
    assert [(one.month, one.version, one.test_id) for one in stored] == [
        (MONTH, version, "placement"),
        (MONTH, hard, "precise"),
    ]
    [summary, _] = [one.summary for one in stored]
    given = sum(stored[0].exposure.values())
    assert given == pytest.approx(8)  # each test has 8 items
    assert summary["max_exposure"] == next(iter(stored[0].exposure.values())) <= 0.6 + 3 * math.sqrt(0.24 / 5000)


def test_learners_are_drawn_with_the_spread_of_abilities_and_not_of_their_estimates(exam: Database) -> None:
    """θ ~ N(1, .8²) measured with posterior SD .6 has estimates with SD √(.64 − .36)."""
    estimates = np.random.default_rng(1).normal(1.0, math.sqrt(0.64 - 0.36), 2000)
    learners(exam, estimates, 0.6)
    with exam.connect() as connection:
        scale = read_scales(connection, END)[rooms.SCALE]
        found = draw_simulees(connection, scale, END, 20_000)
        earlier = draw_simulees(connection, scale, END - timedelta(seconds=1), 100)
    assert (found.theta.mean(), found.theta.std()) == pytest.approx((1.0, 0.8), abs=0.03)
    assert found.known_se == pytest.approx((1 / 0.36 - 1) ** -0.5)
    assert (found.source, earlier.source) == (f"the learners of {MONTH}", "the population")


def test_test_whose_pool_becomes_too_small_for_its_exposure_cannot_be_given(exam: Database) -> None:
    """Tests of 8 items from a pool of 10 give an item to 80 % of the learners on average."""
    offer(exam, EASY.replace("0.6", "0.3"))
    with exam.connect() as connection:
        own = version_in_force(connection, "placement", END)
        before = simulate_test(connection, own, END, n=2000).summary
    run_sql(exam, "UPDATE question SET meta = '{\"key\": []}' WHERE item_id NOT LIKE 'i1_'")
    with exam.connect() as connection:
        after = simulate_test(connection, own, END, n=2000).summary
    assert not [line for line in broken_promises(own.policy, before) if "exposure.max" in line]
    [found] = broken_promises(own.policy, after)
    assert found.startswith("it cannot be given: test placement: max_exposure = 0.3 cannot be held")
    assert "at least 0.8 of learners" in found


def test_test_that_cannot_be_given_is_stored_with_its_reason(exam: Database) -> None:
    offer(exam, EASY + "topics: {geometry: {min: 2}}\n")
    with exam.connect() as connection:
        [found] = make_month(connection, MONTH)
    assert "topic geometry needs 2 items and the bank has 0" in found.summary["why"]
    [broken] = broken_promises(Policy.from_yaml(EASY), found.summary)
    assert broken.startswith("it cannot be given: test placement:")


def test_real_error_is_larger_than_reported_if_item_errors_are_large(exam: Database) -> None:
    run_sql(exam, """UPDATE item_parameter_publication SET parameters = parameters || '{"a_se": 0.5, "b_se": 0.5}'""")
    offer(exam, f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 20}}\n")
    with exam.connect() as connection:
        own = version_in_force(connection, "placement", NOW)
        found = simulate_test(connection, own, NOW).summary
    assert found["capitalisation"] < 0.95
    assert any("is larger than the reported" in line for line in broken_promises(own.policy, found))


def test_error_rates_of_a_sequential_test_are_those_of_the_forced_decision(exam: Database) -> None:
    """At the ends of the indifference region, 20 equal items are right with probability expit(±.2) = .55 or .45. The
    log-likelihood ratio is (2X − 20)·ln(.55/.45), and the forced decision passes if it is above 0."""
    values = '{"a": 1.0, "b": 0.0, "a_se": 0.001, "b_se": 0.001}'
    run_sql(exam, f"UPDATE item_parameter_publication SET parameters = parameters || '{values}'")
    text = f"test: placement\nscale: {rooms.SCALE}\nlength: {{min: 20, max: 20}}\nclassify: {{}}\n"
    offer(exam, text)
    with exam.connect() as connection:
        own = version_in_force(connection, "placement", NOW)
        found = simulate_test(connection, own, NOW)
        *_, passes, fails, _ = preview_policy(connection, own.policy, NOW)
    right = scipy.stats.binom(20, 1 / (1 + math.exp(-0.2)))
    expected = {"false_pass": right.cdf(9), "false_fail": right.cdf(10)}
    assert found.summary["error_rates"] == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 2500))
    promises = broken_promises(own.policy, found.summary)
    shown = percent(found.summary["error_rates"]["false_pass"])
    assert promises[-2].startswith(f"{shown} of the learners at the lower")
    for line, end in ((passes, "lower end of the indifference region pass"), (fails, "upper end")):
        assert line.startswith("not kept: ")
        assert end in line


def test_release_of_a_drifted_item_improves_precision_beyond_the_simulation_error(exam: Database) -> None:
    """Six items with a ≥ 1.5 have become harder by 1.5: tests by the former values are biased."""
    offer(exam, EASY.replace("0.6", "0.99"))
    strong = sorted(item_values(), key=lambda item: -item_values()[item]["a"])[:6]
    moved = {
        item: ItemRow(own["a"], own["b"] + 1.5, 0.0, 0.05, 0.05, 0.0)
        for item, own in item_values().items()
        if item in strong
    }
    with exam.connect() as connection:
        [line] = compare_tests(connection, [rooms.SCALE], NOW, partial(with_values, moved))
        [same] = compare_tests(connection, [rooms.SCALE], NOW, lambda bank: bank)
    found = RMSE.search(line)
    assert found is not None, line
    before, after, shift, half = (float(x.replace("−", "-")) for x in found.groups())
    assert (after < before, -shift > 2 * half) == (True, True)
    assert "→" not in same


def test_withdrawn_items_and_a_new_policy_are_compared_and_other_scales_are_left_out(exam: Database) -> None:
    with exam.connect() as connection:
        assert effects_of_withdrawal(connection, ["i1"], NOW) == []
    offer(exam)
    with exam.connect() as connection:
        [line] = effects_of_withdrawal(connection, ["i1", "i2"], NOW)
        [*_, longer] = preview_policy(connection, Policy.from_yaml(EASY.replace("8", "12")), NOW)
        [*_, new] = preview_policy(connection, Policy.from_yaml(EASY.replace("placement", "new")), NOW)
    assert line.startswith("test placement, 2,000 simulated tests of the population: RMSE of θ 0.")
    assert "mean length 8.0 → 12.0 (+4.00 ± 0.00) items" in longer
    assert "→" not in new


@pytest.fixture
def ann(settings: Settings, exam: Database) -> Iterator[ViewRequest]:
    with dg.DagsterInstance.ephemeral() as instance:
        reader = Reader(settings, instance)
        reader.now = lambda: NOW  # type: ignore[method-assign]
        identity = Identity("Ann", "org", ("psychometrician",), frozenset(), math.inf)
        yield ViewRequest("item", {"scale": rooms.SCALE, "item": "i1"}, identity, reader)


def test_preview_of_a_withdrawal_in_the_dashboard_has_the_tests_before_and_after(
    exam: Database, ann: ViewRequest
) -> None:
    offer(exam)
    run_sql(exam, "DELETE FROM anchor_set WHERE item_id = 'i1'")  # an anchor cannot be withdrawn
    outcome = review(ann, DecisionForm("withdraw", (Reference("", "i1"),), "leaked"))
    assert outcome.ok, outcome.sentences
    assert outcome.sentences[-1].startswith("Test placement, 2,000 simulated tests")
    assert rows(exam, "SELECT count(*) FROM item_withdrawal")[0] == (0,)


def test_stored_simulation_has_no_value_that_json_lacks(exam: Database) -> None:
    offer(exam)
    with exam.connect() as connection:
        make_month(connection, MONTH)
    [(summary, items)] = rows(exam, "SELECT summary::text, items::text FROM adaptive_simulation")
    assert json.loads(summary)["n"] == 5000
    assert json.loads(items)["i1"].keys() == {"eligible", "given"}
