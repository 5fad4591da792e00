"""Information of a month: what it lost, what retiring costs, and everything that can be missing on either side.

A made-up bank, so that the truth is known: 24 anchors, of which one was flattened, one got a wrong key, one lost most
of its answers, one all of them, and one its place in the bank; and an item that is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.decisions.origin import initialise
from irt_assets.drift.assets import DRIFT_JOB, flagged_table, sentence_on_information
from irt_assets.drift.checks import OF_ITEMS
from irt_assets.drift.information import information_of_month
from irt_assets.drift.month import drift_of_month
from irt_assets.psychometrics.linking.linking import assumed_errors
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    LOWERED,
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    answer_matrix,
    calibrate,
    folder_store,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks, metadata

ITEMS, LEARNERS = 24, 900
FLAT, KEY, FEW, NOBODY, VANISHED, NEW = "q00", "q01", "q02", "q03", "q04", "q99"
IDS = [f"q{j:02d}" for j in range(ITEMS)]
A, B = np.full(ITEMS, 1.3), np.linspace(-1.5, 1.5, ITEMS)[[*range(8, ITEMS), *range(8)]]
MONTH, EARLIER = MONTHS[1], MONTHS[0]


@pytest.fixture(scope="module")
def made_up(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """The month judged, and its rows by item."""
    found = made_once(postgres, "template_information", migrated_template, judged_month, **OF_MONTHS)
    home = tmp_path_factory.mktemp("information")
    with template_copy(postgres, "template_information", home, **OF_MONTHS) as settings:
        yield settings, found


def judged_month(settings: Settings) -> dict[str, Any]:
    database, store = Database(settings), folder_store(settings)
    a_se, b_se, cov = (x / np.sqrt(6) for x in assumed_errors(A, B, np.zeros(ITEMS)))  # of 3000 learners
    cov = cov / np.sqrt(6)
    values = zip(IDS, A, B, a_se, b_se, cov, strict=True)
    bank: dict[str, dict[str, Any] | None] = {
        item: {"a": a, "b": b, "a_se": sa, "b_se": sb, "cov_ab": sab, "n": 3000, "D": 1.0}
        for item, a, b, sa, sb, sab in values
    }
    add_items(database, bank | {NEW: None})
    add_items(database, {"nothing": None}, "empty scale")
    initialise(database, SCALE, first_month=MONTH, thresholds=LOWERED)
    rng = np.random.default_rng(11)
    theta = rng.normal(0.3, 1.1, LEARNERS)
    a_now = np.append(np.where(np.array(IDS) == FLAT, 0.4, A), 1.0)
    scores = model_scores(theta, a_now, np.append(B, 0.0), rng)
    scores[:, 1] = 1 - scores[:, 1]
    scores[60:, 2] = np.nan
    scores[:, 3] = np.nan
    users = [f"u{i:04d}" for i in range(LEARNERS)]
    add_learners(database, users)
    add_attempts(database, answer_matrix(MONTH, scores, [*IDS, NEW], users))
    run_sql(database, "DELETE FROM question WHERE item_id = %s", (VANISHED,))
    calibrate(settings, MONTH)
    information_of_month(database, store, MONTH)
    stored = rows(
        database,
        "SELECT item_id, curve, flagged, details FROM test_information WHERE month = %s AND scale_id = %s",
        (MONTH, SCALE),
    )
    return {item: {"curve": curve, "flagged": flag} | details for item, curve, flag, details in stored}


def information(a: float, b: float, theta: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-a * (theta - b)))
    return a**2 * p * (1 - p)


def test_what_lost_its_information_is_flagged_and_nothing_else(made_up: tuple[Settings, dict[str, Any]]) -> None:
    _, found = made_up
    assert {item for item, row in found.items() if item and row["flagged"]} == {FLAT, KEY}
    flat, key = found[FLAT], found[KEY]
    # 0.4² / 1.3² is 0.095 of the peak, and more of the average, as the flat curve is the wider one
    assert (flat["ratio"], flat["upper"] < 0.8) == (pytest.approx(0.14, abs=0.09), True)
    assert (key["now"], key["ratio"], key["upper"]) == (0.0, 0.0, None)
    b = B[IDS.index(FLAT)]
    assert flat["largest_drop"]["theta"] == pytest.approx(b, abs=0.2), "at its peak, as published"


def test_every_item_says_on_which_side_it_has_parameters(made_up: tuple[Settings, dict[str, Any]]) -> None:
    _, found = made_up
    missing = {FEW: "60 eligible answers", NOBODY: "it has no eligible answer", VANISHED: "no longer in the bank"}
    for item, why in missing.items():
        row = found[item]
        assert (row["status"], row["curve"]["now"], row["now"]) == ("not estimated", None, None)
        assert (why in row["why"], "ratio" in row) == (True, False)
    assert (found[NEW]["status"], found[NEW]["curve"]["published"], found[NEW]["published"]) == ("new", None, None)
    others = set(found) - {*missing, NEW, ""}
    assert ({found[item]["status"] for item in others}, len(others)) == ({"compared"}, ITEMS - 3)


def test_curves_are_those_of_the_stored_parameters(made_up: tuple[Settings, dict[str, Any]]) -> None:
    """Stored are five digits, and the parameters of the fit whole."""
    settings, found = made_up
    fitted = dict(
        rows(
            Database(settings),
            """SELECT item_id, params FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id)
               WHERE superseded_at IS NULL AND kind = 'monthly'""",
        )
    )
    theta = np.array(found[""]["curve"]["theta"])
    assert (theta[0], theta[-1], theta.size) == (-4, 4, 81)
    item = IDS[10]
    for side, a, b in (("published", A[10], B[10]), ("now", fitted[item]["a"], fitted[item]["b"])):
        np.testing.assert_allclose(found[item]["curve"][side], information(a, b, theta), rtol=1e-4)


def test_the_test_is_the_sum_of_its_items_and_its_error_the_root(made_up: tuple[Settings, dict[str, Any]]) -> None:
    _, found = made_up
    test, items = found[""]["curve"], {item: row for item, row in found.items() if item}
    compared = [row["curve"] for row in items.values() if row["status"] == "compared"]
    for side in ("published", "now"):
        np.testing.assert_allclose(test[side], np.sum([c[side] for c in compared], axis=0), rtol=1e-4)
    in_force = [row for row in items.values() if row["status"] != "new"]
    whole = np.sum([row["curve"]["now"] or row["curve"]["published"] for row in in_force], axis=0)
    left = [row["curve"]["now"] or row["curve"]["published"] for row in in_force if not row["retire"]]
    wanted = {"in_force": whole, "without_flagged": np.sum(left, axis=0), "se_now": 1 / np.sqrt(test["now"])}
    np.testing.assert_allclose([test[name] for name in wanted], list(wanted.values()), rtol=1e-4)


def test_its_verdict_on_drift_is_that_of_item_drift(made_up: tuple[Settings, dict[str, Any]]) -> None:
    settings, found = made_up
    database, store = Database(settings), folder_store(settings)
    drift_of_month(database, store, MONTH)
    judged = dict(rows(database, "SELECT item_id, severity FROM item_drift WHERE month = %s", (MONTH,)))
    assert judged == {item: row["severity"] for item, row in found.items() if item and row["severity"]}
    assert judged[FEW] == "none", "by its proportion correct"
    assert {item for item, level in judged.items() if level == "high"} == set(found[""]["drifted_items"])


def test_the_job_makes_it_and_its_checks_warn_of_the_items(
    made_up: tuple[Settings, dict[str, Any]], instance: dg.DagsterInstance
) -> None:
    settings, _ = made_up
    result = Graph(settings, instance).run(MONTH, DRIFT_JOB)
    judged = checks(result)
    items, test = judged["no_item_lost_information"], judged["the_test_kept_its_information"]
    assert (items.passed, items.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (items.description or "").startswith(f"{MONTH}: two items: {KEY} (keeps 0%), {FLAT} (keeps ")
    assert items.metadata["how to fix it"].value == OF_ITEMS
    assert test.passed
    said = metadata(result, "test_information")
    assert {f"plot: information ({SCALE})", f"plot: information of flagged items ({SCALE})"} <= set(said)
    assert "2 of 21 items lost information (q00 and q01)" in said["information"]
    assert said["dagster/row_count"] == ITEMS + 2


def test_judging_again_changes_nothing(made_up: tuple[Settings, dict[str, Any]]) -> None:
    settings, _ = made_up
    database, store = Database(settings), folder_store(settings)
    query = "SELECT item_id, curve, flagged, details FROM test_information ORDER BY 1"
    before = rows(database, query)
    information_of_month(database, store, MONTH)
    assert rows(database, query) == before


def test_a_month_without_anything_to_judge_says_why_and_stores_nothing(
    made_up: tuple[Settings, dict[str, Any]],
) -> None:
    """No month before it, nothing in force at its start, no fit; and a scale that was never declared."""
    settings, _ = made_up
    database = Database(settings)
    said = {
        one.scale_id: sentence_on_information(one)
        for one in information_of_month(database, folder_store(settings), EARLIER)
    }
    assert set(said) == {SCALE, "empty scale"}
    assert all("has no converged fit that was linked" in text for text in said.values())
    assert rows(database, "SELECT count(*) FROM test_information WHERE month = %s", (EARLIER,)) == [(0,)]
    assert markdown(flagged_table({})) == "none"
