"""A red month is not compared with what is published; and how far its anchors cover the bank."""

from __future__ import annotations

import json

import dagster as dg
import numpy as np
import pytest

from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST
from irt_assets.decisions.origin import initialise
from irt_assets.drift.assets import sentence
from irt_assets.drift.checks import items_result
from irt_assets.drift.information import information_of_month
from irt_assets.drift.month import drift_of_month
from irt_assets.drift.unjudged import unjudged
from irt_assets.gates.advisory_checks import anchors_cover_the_bank
from irt_assets.gates.evidence import Verdict
from irt_assets.gates.month_judged import MonthState, State
from irt_assets.ledger.steps import Step, write_step
from irt_assets.reports import drift_facts
from irt_assets.reports.drift_report import verdict
from irt_assets.responses.scales import read_scales
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from tests.helpers.rooms import (
    SCALE,
    add_items,
    evidence_of,
    link_made_up,
    made_up_calibration,
    rows,
    run_sql,
)

MONTH = "2026-02"
ANCHORS = {"K1": (1.0, -1.0), "K2": (1.0, 0.0), "K3": (1.0, 1.0)}
WAY_OUT = (
    f"the month is red: its anchors disagree. {FIND_OUT_FIRST} Those that did change: "
    "`irt release drop-anchors K3 K1 --from 2026-02 --by NAME "
    "--reason WHY`, then `irt calibrate --month 2026-02`"
)


@pytest.fixture
def bank(database: Database, store: FolderStore) -> Database:
    """Its month is linked."""
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    initialise(database, SCALE, first_month="2026-01", thresholds={"min_anchors": 3})
    link_made_up(database, store, MONTH, made_up_calibration(ANCHORS))
    return database


def make_red(bank: Database, store: FolderStore) -> None:
    """Its anchors disagree, and two are known to have moved."""
    link_made_up(bank, store, MONTH, made_up_calibration(ANCHORS), q_p=0.001)
    suspects = {"K1": {"z": 3.0}, "K3": {"z": -7.0}}
    run_sql(
        bank,
        "UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants,suspects}', %s)",
        (json.dumps({item: {"delta_b": 1.0, "delta_a": 0.0, "parameter": "b"} | z for item, z in suspects.items()}),),
    )


def test_a_red_month_is_not_judged_and_says_what_to_decide_first(bank: Database, store: FolderStore) -> None:
    assert drift_of_month(bank, store, MONTH)[0].drift is not None
    assert len(rows(bank, "SELECT * FROM item_drift")) == len(ANCHORS)
    make_red(bank, store)
    assert sentence(drift_of_month(bank, store, MONTH)[0], []) == f"{SCALE}: not judged: {WAY_OUT}"
    assert information_of_month(bank, store, MONTH)[0].why == f"not judged: {WAY_OUT}"
    assert rows(bank, "SELECT * FROM item_drift") == []
    with bank.connect() as connection:
        assert unjudged(connection, store, MONTH, "item_drift") == {SCALE: f"not judged: {WAY_OUT}"}


def test_a_fit_that_was_taken_to_the_ledger_has_the_verdict_of_its_step(bank: Database, store: FolderStore) -> None:
    fit_id = link_made_up(bank, store, MONTH, made_up_calibration(ANCHORS))
    with bank.connect() as connection:
        why = "other learners; decide: look at them"
        write_step(connection, Step(month=MONTH, scale_id=SCALE, fit_id=fit_id, state="held", why=why), None)
    assert drift_of_month(bank, store, MONTH)[0].why == f"not judged: the month is red: {why}"
    link_made_up(bank, store, MONTH, made_up_calibration(ANCHORS))
    assert drift_of_month(bank, store, MONTH)[0].drift is not None


def test_the_report_of_a_red_month_recommends_what_can_be_done(
    bank: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was judged before it became red: that was another place on the scale."""
    monkeypatch.setattr(drift_facts, "snapshot_for_scale", lambda *_: None)  # nobody gave the answers of a made-up fit
    drift_of_month(bank, store, MONTH)
    make_red(bank, store)
    red = MonthState(MONTH, SCALE, State.RED, "anchors_agree: 3 anchors disagree")
    with bank.connect() as connection:
        facts = drift_facts.gather(connection, store, MONTH, read_scales(connection)[SCALE], red)
    assert (facts.compared, facts.not_compared) == (0, WAY_OUT)
    assert "materialise item_drift" not in verdict(facts).look_at


def test_a_scale_of_which_nothing_is_known_does_not_pass_as_sound(bank: Database, store: FolderStore) -> None:
    """Its comparison broke down, or was never asked for."""
    with bank.connect() as connection:
        silent = unjudged(connection, store, MONTH, "item_drift")
    result = items_result([], "no item", "do this", severity=dg.AssetCheckSeverity.ERROR, silent=silent)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert silent == {SCALE: result.description}
    assert items_result([], "no item", "do this", silent={}).passed


# -- what the anchors cover ----------------------------------------------------------------------------


def covered(bank: Database, store: FolderStore) -> Verdict:
    with bank.connect() as connection:
        return anchors_cover_the_bank(evidence_of(connection, store, MONTH, read_scales(connection)[SCALE]))


def publish(bank: Database, b: dict[str, float], topic: str, effective_from: str = "2026-01-01Z") -> None:
    """Items of one topic, with what the bank says of them in another unit."""
    with bank.connect() as connection:
        for item, value in b.items():
            connection.execute(
                "INSERT INTO question (item_id, scale_id, topic_id, meta) VALUES (%s, %s, %s, %s)",
                (item, SCALE, topic, json.dumps({"irt": {"a": 1.0, "b": 500 + 100 * value}})),
            )
            connection.execute(
                """INSERT INTO item_parameter_publication
                     (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
                   VALUES (%s, %s, jsonb_build_object('a', 1, 'b', %s::float8, 'c', 0), %s, 'first', 'r', 'h', 'v')""",
                (SCALE, item, value, effective_from),
            )


def change_constants(bank: Database, **values: object) -> None:
    run_sql(
        bank,
        "UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants}',"
        " (model_spec->'linking_constants') || %s)",
        (json.dumps(values),),
    )


def test_the_bank_is_covered_where_the_linkings_error_is_small_at_both_ends(bank: Database, store: FolderStore) -> None:
    publish(bank, {f"N{k:02d}": float(b) for k, b in enumerate(np.linspace(-4, 4, 17))}, "topic")
    change_constants(bank, slope_se=0.03, intercept_se=0.03, slope_intercept_cov=0.0)
    assert covered(bank, store).passed  # with the anchors the ends are b = ±3.05: √(0.03²·3.05² + 0.03²) = 0.096
    change_constants(bank, slope_intercept_cov=0.0003)
    assert covered(bank, store).why == (
        "the anchors used place b = 3.05, the 90th percentile of the published b, with a standard error of 0.11, "
        "limit 0.10"
    )


def test_a_topic_of_the_bank_needs_two_anchors(bank: Database, store: FolderStore) -> None:
    publish(bank, {f"N{k}": 0.0 for k in range(9)}, "sets")
    assert covered(bank, store).why == (
        "fewer than 2 anchors used from these topics, each a tenth of the bank or more: sets (0)"
    )


def test_coverage_is_judged_once_more_is_published_than_the_anchors(bank: Database, store: FolderStore) -> None:
    """Of the ledger in force at the month's start, whatever the bank holds besides."""
    change_constants(bank, slope_se=0.5, intercept_se=0.5)
    publish(bank, {"N1": 0.0}, "sets", effective_from="2026-03-01Z")
    early = covered(bank, store)
    assert (early.passed, early.why) == (
        True,
        "3 anchors used; how they cover the bank is judged once it has published more than its anchors",
    )
    publish(bank, {"N2": 0.0}, "sets")
    assert not covered(bank, store).passed


def test_few_of_the_anchors_are_warned_of_and_errors_that_the_bank_never_gave_are_only_told(
    bank: Database, store: FolderStore
) -> None:
    assumed = "3 anchors have no errors in the bank"
    change_constants(bank, warnings=[assumed])
    assert (covered(bank, store).passed, covered(bank, store).why) == (True, assumed)
    change_constants(bank, share_kept=0.8)
    assert not covered(bank, store).passed
