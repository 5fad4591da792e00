"""What earlier code stored with fits has every key after the upgrade, and is read as it was; what a month does to θ,
which it stored with them, stands in a table of its own, and counts as the shift of its anchors as a group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import alembic.command
import pytest

from irt_assets.ledger.citations import cited_names
from irt_assets.ledger.fit_spec import LinkedSpec, StagedSpec
from irt_assets.ledger.fits import read_group_shift
from irt_assets.psychometrics.drift.group_shift import GroupShift
from resources.postgres import schema
from resources.postgres.database import Database
from tests.helpers.fit_specs import CONSTANTS, SET, linked_json, staged_json
from tests.helpers.rooms import rows, run_sql

IMPACT: dict[str, Any] = {
    "why": "",
    "learners": 400,
    "items": 20,
    "shift": 0.1 + 0.2,
    "shift_se": 5e-324,
    "sd": 1.0,
    "pass_theta": 0.5,
    "scored": 400,
    "newly_passed": 4,
    "newly_failed": 4,
    "flip_se": 1 / 3,
    "compared_with": "digest",
}
ABSENT = ("never_published", "sample", "draws", "sampling", "snapshot", "pooled", "passed_over", "answers_from")
ORIGIN = {"slope": 1.0, "slope_se": 0.0, "intercept": 0.0, "intercept_se": 0.0, "method": "origin", "rmse": 0.0} | {
    "anchors_used": [],
    "anchors_dropped": {},
    "anchor_set": None,
}


def without(stored: Mapping[str, Any], *absent: str) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if name not in absent}


def first_release(of_set: Mapping[str, Any]) -> dict[str, Any]:
    """The statistics of a set, as the first release kept them."""
    parallel = without(of_set["parallel"], "under_model", "se", "learners", "together")
    lz, q3 = without(of_set["lz"], "rare"), without(of_set["q3"], "clusters")
    return without(of_set, "loadings", "halves") | {"parallel": parallel, "lz": lz, "q3": q3}


EARLIEST = ("version", "scale_priors", "shape", "misfit", "testlets", *ABSENT)
CONSTANTS_THEN = without(CONSTANTS, "weighted", "symmetric", "suspects", "diagnosis", "q_shifts", "slope_intercept_cov")
GROWTH = without(staged_json()["misfit"]["growth"], "chance")
MISFIT = without(staged_json()["misfit"], "why", "lost", "ratio_together", "together") | {"growth": GROWTH}
STAGED = {
    "first": without(staged_json(), "latent", *EARLIEST)
    | {"fit_statistics": {"items": {}, "set": first_release(SET)}, "linking_constants": CONSTANTS_THEN},
    "failed": {"version": 1, "model": "2pl", "scale_priors": None, "latent": "auto", "eligibility": {}},
    "nothing": {},
    "sound": without(staged_json(), "linking_constants", *ABSENT)
    | {"misfit": MISFIT, "testlets": without(staged_json()["testlets"], "raw_sd"), "other_shape": {"bic": 1.0}},
    "reference": without(staged_json(), "testlets", *ABSENT) | {"misfit": {"reference": None}},
    "not compared": without(staged_json(), *ABSENT)
    | {"misfit": {"reference": "2026-05", "fit_id": "f", "ratio": None, "ratio_together": [], "why": "by level"}},
}
LINKED = {
    "first": without(linked_json(), *EARLIEST)
    | {"fit_statistics": first_release(SET), "linking_constants": CONSTANTS_THEN},
    "sound": without(linked_json(), "software", *ABSENT)
    | {"misfit": MISFIT, "impact": without(IMPACT, "compared_with")},
    "measured": linked_json() | {"impact": IMPACT | {"pass_theta": None}},
    "origin": without(linked_json(), "software", "misfit", *ABSENT[:4], *ABSENT[5:])
    | {"linking_constants": ORIGIN, "snapshot": "snapshots/origin/file"},
}


@pytest.fixture
def upgraded(database: Database) -> Database:
    """Fits as code of the schema before stored them, brought to the newest."""
    config = schema._alembic()
    config.attributes["database"] = database
    alembic.command.downgrade(config, "0034_data_version")
    for name, spec in STAGED.items():
        run_sql(
            database,
            """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, calibration, spec, code_version)
               VALUES (%s, '2026-06', 'math', 'em', '', %s, %s, '1')""",
            (name, b"fit" if spec.keys() & {"priors"} else None, json.dumps(spec)),
        )
    for name, spec in LINKED.items():
        run_sql(
            database,
            """INSERT INTO mirt_fit_meta
                 (fit_id, scale_id, kind, window_start, window_end, engine, engine_version, model, n_persons, n_items,
                  n_responses, loglik, aic, bic, converged, iterations, model_spec, data_hash, snapshot_hash,
                  anchor_hash, code_version)
               VALUES (%s, %s, %s, '2026-06-01Z', '2026-07-01Z', 'em', '1', '2pl', 1, 1, 1, 0, 0, 0, true, 1, %s, '',
                       '', '', '')""",
            (name, name, "origin" if name == "origin" else "monthly", json.dumps(spec)),
        )
    schema.upgrade(database)
    return database


def test_what_earlier_code_stored_is_read_as_it_was_and_has_every_key(upgraded: Database) -> None:
    for kind, table, column, stored_then in (
        (StagedSpec, "fit_staging", "spec", STAGED),
        (LinkedSpec, "mirt_fit_meta", "model_spec", LINKED),
    ):
        stored = dict(rows(upgraded, f"SELECT fit_id, {column} FROM {table}"))
        assert stored.keys() == stored_then.keys()
        for fit, then in stored_then.items():
            now = kind.from_json(stored[fit], fit)
            assert now.as_json() == stored[fit]
            known = kind.model_validate_json(json.dumps(without(then, "other_shape", "impact")))
            not_judged = {"misfit"} if fit == "first" else set()
            assert now.model_dump(exclude=not_judged) == known.model_dump(exclude=not_judged), fit
    with upgraded.connect() as connection:
        assert [*cited_names(connection, "snapshots")] == ["snapshots/origin/file"]


def test_what_was_fitted_before_misfit_and_impact_were_judged_is_not_held_for_them(upgraded: Database) -> None:
    staged = dict(rows(upgraded, "SELECT fit_id, spec FROM fit_staging"))
    compared = {fit: StagedSpec.from_json(spec, fit).misfit for fit, spec in staged.items()}
    assert (compared["failed"], compared["nothing"]) == (None, None)
    first = compared["first"]
    assert (first.was_compared, first.lost, first.why) == (False, False, "misfit was not judged when it was fitted")
    with upgraded.connect() as connection:
        shift = read_group_shift(connection, "first")
        assert shift == GroupShift("not judged then: the month was linked before there was this gate")
        assert read_group_shift(connection, "origin") is None


def test_what_a_month_does_to_theta_is_carried_over_and_back_to_the_last_bit(upgraded: Database) -> None:
    expected = {"sound": IMPACT | {"compared_with": None}, "measured": IMPACT | {"pass_theta": None}}
    with upgraded.connect() as connection:
        for fit, impact in expected.items():
            assert read_group_shift(connection, fit) == GroupShift(
                impact["why"], impact["items"], impact["shift"], impact["shift_se"], impact["sd"], impact["learners"]
            )
        assert read_group_shift(connection, "sound", "digest") is None
        assert read_group_shift(connection, "measured", "digest") is not None
    schema.downgrade(upgraded, "0036_parameters")
    back = dict(rows(upgraded, "SELECT fit_id, model_spec->'impact' FROM mirt_fit_meta"))
    assert {fit: back[fit] for fit in expected} == expected
    assert back["origin"] is None


def test_code_of_the_schema_before_finds_no_snapshot_where_there_is_none(upgraded: Database) -> None:
    config = schema._alembic()
    config.attributes["database"] = upgraded
    alembic.command.downgrade(config, "0034_data_version")
    assert rows(upgraded, "SELECT fit_id FROM fit_staging WHERE spec ? 'snapshot'") == []
    assert rows(upgraded, "SELECT fit_id FROM mirt_fit_meta WHERE model_spec ? 'snapshot'") == [("origin",)]
