"""Groups of a materialised month: truth within the errors, repeated runs, groups that are not described, the check."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import dagster as dg
import numpy as np
import pytest

from irt_assets.abilities.group_assets import GROUP_ABILITIES, NO_GROUP_CHANGED
from irt_assets.abilities.group_month import groups_of_month
from irt_assets.abilities.groups import Row
from irt_assets.blocks import value_with_error
from irt_assets.blocks.markdown import markdown
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import GateStatus
from irt_assets.reports import month_blocks
from irt_assets.responses.snapshot import current_snapshot, read_snapshot
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.simulation.truth import Truth
from resources import tables
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, call, folder_store, rows, run_sql
from tests.integration.graph import Graph, checks, metadata

FIRST, SECOND = MONTHS
STORED = """SELECT month, attribute, group_name, n, reference_group, mean, mean_se, sd, sd_se, difference, change,
              change_se, change_q, details FROM group_ability WHERE month = %s ORDER BY 1, 2, 3"""


@pytest.fixture(scope="module")
def made(calibrated: Settings) -> tuple[Settings, dict[str, list[Row]]]:
    """The rows of both months of the small world, by month."""
    database, store = Database(calibrated), folder_store(calibrated)
    run_sql(database, "UPDATE calibration_scale SET pass_theta = 0.5")
    return calibrated, {month: groups_of_month(database, store, month)[SCALE] for month in MONTHS}


def described(found: list[Row]) -> list[Row]:
    return [row for row in found if row["mean"] is not None]


def true_thetas(database: Database, truth: Truth, settings: Settings, month: str) -> dict[str, float]:
    """θ in the month of the learners whose answers count."""
    snapshot = call(database, current_snapshot, month)
    assert snapshot is not None
    _, keys = scored_responses_of(read_snapshot(folder_store(settings), snapshot), SCALE)
    users = dict(rows(database, "SELECT learner_key, user_id FROM learner"))
    theta = dict(zip(truth.learners.user_ids.tolist(), truth.learners.theta[:, MONTHS.index(month)], strict=True))
    return {users[int(key)]: theta[users[int(key)]] for key in keys}


def test_groups_have_the_true_mean_of_their_learners_within_the_errors(
    made: tuple[Settings, dict[str, list[Row]]], small_truth: Truth
) -> None:
    """The errors also include other learners of the group, so that they are wide for these learners."""
    settings, found = made
    learners = small_truth.learners
    for month in MONTHS:
        theta = true_thetas(Database(settings), small_truth, settings, month)
        for attribute, values in (("lang", learners.lang), ("country", learners.country)):
            groups = dict(zip(learners.user_ids.tolist(), values.tolist(), strict=True))
            of_attribute = [row for row in described(found[month]) if row["attribute"] == attribute]
            assert len(of_attribute) >= 2
            for row in of_attribute:
                true = [x for user, x in theta.items() if groups[user] == row["group_name"]]
                assert row["n"] == len(true)
                assert row["mean"] == pytest.approx(np.mean(true), abs=3 * row["mean_se"])
                assert row["sd"] == pytest.approx(np.std(true), abs=3 * row["sd_se"])
                share = row["details"]["passing"]
                assert share["share"] == pytest.approx(np.mean(np.array(true) > 0.5), abs=3 * share["se"])


def test_change_compares_with_the_month_before(made: tuple[Settings, dict[str, list[Row]]], small_truth: Truth) -> None:
    """Learners of the small world improve."""
    settings, found = made
    first, second = (described(found[month]) for month in MONTHS)
    assert {row["details"]["no_change"] for row in first} == {"the month before has no file of answers"}
    assert {row["change"] for row in first} == {None}
    before = {(row["attribute"], row["group_name"]): row["mean"] for row in first}
    changed = [row for row in second if row["change"] is not None]
    assert {row["attribute"] for row in changed} == {"lang", "country", "tier"}
    learners = small_truth.learners
    lang = dict(zip(learners.user_ids.tolist(), learners.lang.tolist(), strict=True))
    theta = [true_thetas(Database(settings), small_truth, settings, month) for month in MONTHS]
    for row in changed:
        # the month before is estimated again by the items of the second month, whose values differ for new items only
        old = before[row["attribute"], row["group_name"]]
        assert row["change"] == pytest.approx(row["mean"] - old, abs=0.5 * row["change_se"])
        if row["attribute"] == "lang":
            was, now = ([x for user, x in of.items() if lang[user] == row["group_name"]] for of in theta)
            assert row["change"] == pytest.approx(np.mean(now) - np.mean(was), abs=3 * row["change_se"])


def test_small_groups_are_counted_and_not_described(made: tuple[Settings, dict[str, list[Row]]]) -> None:
    for found in made[1].values():
        wholes = {row["attribute"]: row for row in found if not row["group_name"]}
        assert [*wholes] == ["lang", "country", "tier"]
        for attribute, whole in wholes.items():
            of_attribute = [row for row in found if row["attribute"] == attribute and row["group_name"]]
            assert min(row["n"] for row in of_attribute) >= 30
            assert whole["reference_group"] == of_attribute[0]["group_name"]
            counted = sum(row["n"] for row in of_attribute) + whole["details"]["smaller_groups"]["learners"]
            assert counted + whole["details"]["n_unknown"] == whole["n"]


def test_keys_of_details_match_the_registry(made: tuple[Settings, dict[str, list[Row]]]) -> None:
    keys = set(re.findall(r"\w+", str(tables.group_ability.c.details.comment)))
    found = {key for of_month in made[1].values() for row in of_month for key in row["details"]}
    assert found <= keys
    assert {frozenset(row) for of_month in made[1].values() for row in of_month} == {
        frozenset(column.name for column in tables.group_ability.columns) - {"computed_at"}
    }


def test_asset_repeats_the_rows_and_its_check_reports_a_group_that_changed(
    made: tuple[Settings, dict[str, list[Row]]], instance: dg.DagsterInstance
) -> None:
    settings, found = made
    database = Database(settings)
    before = rows(database, STORED, (SECOND,))
    graph = Graph(settings, instance)
    result = graph.run(SECOND, assets=[GROUP_ABILITIES])
    assert result.success
    assert rows(database, STORED, (SECOND,)) == before
    assert metadata(result, GROUP_ABILITIES)["dagster/row_count"] == len(found[SECOND])
    check = checks(result)[NO_GROUP_CHANGED]
    tested = [row for row in found[SECOND] if row["change_q"] is not None]
    changed = [row for row in tested if row["change_q"] < 0.05 and abs(row["change"]) > 0.05]
    assert changed, "learners improve"
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    for row in changed:
        assert f"{SCALE}: {row['attribute']} {row['group_name']} changed by {row['change']:+.2f}" in str(
            check.description
        )

    change_rules(database, SCALE, {"max_group_shift": 0.01 + max(abs(row["change"]) for row in changed)})
    again = checks(graph.run(SECOND, assets=[GROUP_ABILITIES]))[NO_GROUP_CHANGED]
    assert (again.passed, again.description) == (True, f"{SECOND}: no group changed")


def test_page_of_the_month_has_a_section_on_groups(
    made: tuple[Settings, dict[str, list[Row]]], instance: dg.DagsterInstance
) -> None:
    graph = Graph(made[0], instance)
    state, gates = graph.state(SECOND), {gate.name: GateStatus(None, "") for gate in SET_GATES}
    with graph.database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        (section,) = [
            section
            for section in month_blocks.sections(connection, scale, state, gates, at=datetime.now(UTC))
            if section.title == month_blocks.GROUPS
        ]
    shown = markdown(*section.blocks)
    for row in described(made[1][SECOND]):
        mean = value_with_error(row["mean"], 1.96 * row["mean_se"], sign=True)
        assert f"| {row['group_name']} | {row['n']} | {mean} |" in shown


def test_scale_without_attributes_has_no_rows(made: tuple[Settings, dict[str, list[Row]]]) -> None:
    database, store = Database(made[0]), folder_store(made[0])
    change_rules(database, SCALE, {"dif_attributes": ""})
    assert groups_of_month(database, store, FIRST)[SCALE] == []
    assert rows(database, STORED, (FIRST,)) == []
    change_rules(database, SCALE, {"dif_attributes": "nobody"})
    (row,) = groups_of_month(database, store, FIRST)[SCALE]
    assert (row["group_name"], row["details"]["why_not"]) == ("", "no group has 30 learners")
