"""A scale with items of 0 and 1 and scored ones: from the log to a green month, its ledger and θ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from irt_assets.abilities.batch import ScaleAbilities, judge_until, measure_at
from irt_assets.abilities.online import read_measures, update
from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import publish_month
from irt_assets.calibration.nightly import WINDOW, calibrate_night
from irt_assets.common.partitions import Month
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.origin import initialise, write_origin_fit
from irt_assets.decisions.origin_sources import OriginWindow, fit_window
from irt_assets.drift.month import drift_of_month
from irt_assets.drift.rows import read_compared_items
from irt_assets.engines.em import EmEngine
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.encoding import alike
from irt_assets.ledger.fit_spec import (
    FitSettings,
    LinkedSpec,
    LinkingConstants,
    Part,
    SetStatistics,
    Spread,
    StagedSpec,
)
from irt_assets.ledger.fits import latest_staged, linked_fit, read_group_shift
from irt_assets.ledger.linked_windows import linkings_of
from irt_assets.ledger.month_state import find_reference, latest_attempt, months_made_with
from irt_assets.ledger.publications import in_force, settled_values
from irt_assets.ledger.steps import Step
from irt_assets.scales.scale import read_scales
from irt_psychometrics.items import ItemParameters, item_model
from resources.files.object_store import FolderStore, ObjectStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers.databases import template_copy
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, add_items, attempt, call, fit_and_link, rows, run_sql

MONTH = "2026-01"
END, NEXT = Month(MONTH).end, "2026-02"
LEARNERS = 600
MOST = {**{f"A{k}": 1 for k in range(6)}, "P": 3, "N": 1, "S2": 2, "S3": 3, "G": 2, "T": 3}
"""Maximum scores: anchors A0 … A5 and P, and new items. G is scored 0 or 2; no learner gets the 3 points of T."""
STEPS = {
    "P": [0, 0.3, 0.2, 0],
    "S2": [0, 0.5, 0],
    "S3": [0, 0.4, 0.4, 0],
    "G": [0, -np.inf, 0],
    "T": [0, 0.3, 0, -np.inf],
}


@dataclass(frozen=True)
class World:
    """The month's step, the scores (learners × items, in the order of MOST), and the month's abilities."""

    database: Database
    store: FolderStore
    step: Step
    scores: np.ndarray
    monthly: ScaleAbilities


def truth(item: str) -> tuple[float, float]:
    """The item's a and d."""
    most = MOST[item]
    return 1.1 / most**0.6, 0.4 * (list(MOST).index(item) % 5 - 2) / most


def draw_scores(seed: int = 12, **steps: list[float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    theta, found = rng.standard_normal(LEARNERS), []
    for item, most in MOST.items():
        parameters = np.array([*truth(item), *(STEPS | steps).get(item, [0, 0])])[:, None]
        model = item_model("gpcm" if most > 1 else "2pl")
        p = model.probabilities(theta, parameters[: None if most > 1 else 2], np.array([most + 1]))[0]
        found.append((rng.random((LEARNERS, 1)) > np.cumsum(p, axis=1)).sum(axis=1))
    return np.array(found).T


@pytest.fixture(scope="module")
def month(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("scored")
    with template_copy(postgres, migrated_template, folder / "irt") as settings:
        yield make_world(Database(settings), FolderStore(folder / "store"))


@pytest.fixture
def own_month(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[World]:
    """A world of its own for a test that makes a second month, which other tests must not find."""
    with template_copy(postgres, migrated_template, tmp_path / "irt") as settings:
        yield make_world(Database(settings), FolderStore(tmp_path / "store"))


def make_world(database: Database, store: FolderStore) -> World:
    known = {}
    for item in MOST:
        if item[0] in "AP":
            a, d = truth(item)
            known[item] = {"a": a, "b": -d / a, "a_se": 0.05, "b_se": 0.05}
    known["P"] |= {"max_score": 3, "t0": 0, "t1": 0.3, "t2": 0.2, "t3": 0}
    add_items(database, known)
    add_items(database, dict.fromkeys(item for item in MOST if item not in known))
    for item, most in MOST.items():
        if most > 1 and item not in known:
            meta = json.dumps({"irt": {"max_score": most}})
            run_sql(database, "UPDATE question SET meta = %s WHERE item_id = %s", (meta, item))
    rules = {"min_anchors": 4, "min_responses": 500, "max_b_se": 1.0}
    initialise(database, SCALE, first_month=MONTH, thresholds=rules)
    scores = draw_scores()
    add_group_answers(database, scores, Month(MONTH).start + timedelta(days=1))
    step = calibrate_month(database, store, MONTH)
    return World(database, store, step, scores, measure_abilities(database, "monthly"))


def add_group_answers(database: Database, scores: np.ndarray, start: datetime, group: str = "u") -> None:
    """Add these answers of all learners of a group to all items."""
    add_attempts(
        database,
        [
            answer(f"{group}{i:04d}", item, int(scores[i, j]), start + timedelta(minutes=j))
            for i in range(LEARNERS)
            for j, item in enumerate(MOST)
        ],
    )


def calibrate_month(database: Database, store: ObjectStore, month: str) -> Step:
    fit_and_link(database, store, month)
    measure_month(database, month)
    return publish_month(database, store, month, (), "run")[SCALE][month]


def answer(user: str, item: str, score: int, at: datetime):
    """An answer as the log stores it: correct or not, and for scored items also the score."""
    given = None if MOST[item] == 1 else score
    return attempt(user, item, at, correct=score == MOST[item], score=given)


def measure_abilities(database: Database, kind: str, at: datetime = END) -> ScaleAbilities:
    judge_until(database, at)
    [found] = call(database, measure_at, at, kind, f"{kind} {at:%m-%d}")  # type: ignore[arg-type]
    return found


def test_month_is_green_and_publishes_new_items_with_observed_maximum_scores(month: World) -> None:
    """A person decides on the item whose maximum score no learner has reached."""
    assert month.step.state == "done", month.step.why
    published = rows(month.database, "SELECT item_id FROM item_parameter_publication WHERE rule = 'first' ORDER BY 1")
    assert [item for (item,) in published] == ["G", "N", "S2", "S3"], month.step.held
    reason = dict(rows(month.database, "SELECT item_id, why FROM item_parameter_proposal"))
    assert "nobody got its maximum score, 3" in reason["T"]


def test_month_tests_its_form_with_all_scored_items(month: World) -> None:
    """All learners answered the same items, by the model that is fitted."""
    ((statistics,),) = rows(month.database, "SELECT model_spec->'fit_statistics' FROM mirt_fit_meta")
    (form,) = statistics["m2"]
    assert (form["items"], form["learners"]) == (len(MOST), LEARNERS)
    assert form["p"] > 0.001


def test_published_item_has_the_curve_of_its_fit(month: World) -> None:
    found = rows(
        month.database,
        """SELECT i.item_id, i.params, p.parameters, i.p_value FROM mirt_item_params i
           JOIN item_parameter_publication p USING (fit_id, item_id)""",
    )
    names = list(MOST)
    items = call(month.database, in_force, SCALE, END).items
    for item, params, parameters, p_value in found:
        j, most = names.index(item), MOST[item]
        assert params["model"] == ("gpcm" if most > 1 else "2pl")
        assert p_value == pytest.approx(month.scores[:, j].mean() / most)
        assert items[item].max_score == most == parameters.get("max_score", 1)
        expected = ItemParameters.from_rows([item], [items[item]]).curve(np.zeros(1))[0, 0]
        own = params.get("further", {})
        steps = np.array([own.get(f"t{k}", -np.inf) for k in range(most + 1)]) if own else np.zeros(2)
        weights = np.exp(np.arange(most + 1) * -params["a"] * params["b"] + steps)
        assert expected == pytest.approx(weights @ np.arange(most + 1) / most / weights.sum())
    table = call(month.database, read_export, "parameters", END).set_index("item_id")
    assert json.loads(table.loc["G", "further"])["max_score"] == 2
    assert table["further"].isna()["N"]
    assert json.loads(table.loc["S3", "further"])["b1"] == pytest.approx(items["S3"].steps[1][0])
    with_errors = [name for name, (_, error) in items["S3"].steps.items() if error]
    assert with_errors == [1, 2, 3]


def test_values_settled_by_the_month_include_the_steps(month: World) -> None:
    settled = call(month.database, settled_values, SCALE, MONTH)
    fit = call(month.database, linked_fit, SCALE, "monthly", Month(MONTH).start, "em")
    assert fit is not None
    assert sorted(settled) == ["G", "N", "S2", "S3"]
    for item, [known] in settled.items():
        assert alike(fit.values[item].without_errors, known.without_errors)
    [known] = settled["S3"]
    other = replace(known, further={**known.further, "t1": known.further["t1"] + 0.1})
    assert not alike(other.without_errors, known.without_errors)
    assert alike(replace(known, a_se=9.0).without_errors, known.without_errors)


def test_month_night_and_requests_give_equal_theta_on_the_same_answers(month: World) -> None:
    nightly = measure_abilities(month.database, "nightly")
    np.testing.assert_array_equal(nightly.theta, month.monthly.theta)
    assert month.monthly.absent == {}
    stored = dict(rows(month.database, "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly'"))
    assert len(stored) == LEARNERS
    for user in ("u0000", "u0100", "u0599"):
        assert request_theta(month.database, user, END) == pytest.approx(stored[user], abs=1e-12)
    mean = (month.scores[:, :-1] / np.array(list(MOST.values()))[:-1]).mean(axis=1)
    assert np.corrcoef(mean, [stored[f"u{i:04d}"] for i in range(LEARNERS)])[0, 1] > 0.9


def set_bank_values(database: Database, item: str, values: dict[str, object]) -> None:
    run_sql(
        database,
        "UPDATE question SET meta = jsonb_set(coalesce(meta, '{}'), '{irt}', %s) WHERE item_id = %s",
        (json.dumps(values), item),
    )


def test_changed_model_or_block_of_an_item_makes_months_with_the_item_stale(month: World) -> None:
    """Redundant information on a scored item leaves the month green, and so does a fit without stored item models."""
    database, nothing_ran = month.database, dg.DagsterInstance.ephemeral()

    def why_stale() -> str | None:
        [found] = month_states(database, nothing_ran, [MONTH])
        return found.why if found.state is State.STALE else None

    assert why_stale() is None
    changes: dict[str, dict[str, object]] = {
        "S2": {"model": "pcm", "max_score": 2},
        "S3": {"model": "RSM", "block": "mood", "max_score": 3},
    }
    unchanged = {"S2": {"model": "gpcm", "block": "x", "max_score": 2}, "N": {"model": "1pl"}}
    for item, now in unchanged.items():
        set_bank_values(database, item, now)
    assert why_stale() is None
    for item, now in changes.items():
        set_bank_values(database, item, now)
    reason = why_stale()
    assert reason is not None
    assert (
        "other models or blocks of items since it was fitted: S2 (gpcm, now pcm), S3 (gpcm, now rsm of block" in reason
    )
    run_sql(database, "UPDATE fit_staging SET spec = spec - 'scored_items'")
    assert why_stale() is None
    for item in changes:
        set_bank_values(database, item, {"max_score": MOST[item]})


def test_months_are_compared_with_an_origin_window_that_has_scored_items(month: World) -> None:
    """The model of the origin's fit is 2pl+gpcm, and the scale's model is 2pl."""
    window = OriginWindow(*Month(MONTH).bounds, EmEngine(1), month.store)
    scale = call(month.database, read_scales, END)[SCALE]
    fitted = fit_window(month.database, SCALE, window, scale.rules, scale.model)
    with month.database.connect() as connection:
        write_origin_fit(connection, SCALE, (window.start, window.end), "em", scale.rules, fitted)
        found = find_reference(connection, scale, NEXT)
        connection.rollback()
    assert found is not None
    assert found.name == "the origin window 2026-01-01 to 2026-02-01"


def request_theta(database: Database, user: str, now: datetime) -> float:
    with database.connect() as connection:
        return update(connection, read_measures(connection, now), user, 365, now)[SCALE].theta


def test_unobserved_score_counts_as_the_nearest_lower_score(month: World) -> None:
    """The score is one point for G, which had 0 or 2 in the calibration; a second learner has no points."""
    at = END + timedelta(days=1)
    given = [answer("one", "G", 1, at), answer("none", "G", 0, at)]
    given += [answer(user, "S3", 2, at + timedelta(minutes=1)) for user in ("one", "none")]
    add_attempts(month.database, given)
    found = measure_abilities(month.database, "nightly", END + timedelta(days=2))
    assert found.absent == {"G": 1}
    theta = dict(
        rows(
            month.database,
            "SELECT user_id, theta FROM mirt_ability WHERE update_id = 'nightly 02-03' AND user_id IN ('one', 'none')",
        )
    )
    assert theta["one"] == theta["none"] == request_theta(month.database, "one", END + timedelta(days=2))


def test_night_estimates_pretest_items_and_the_month_agrees_with_night_and_requests(own_month: World) -> None:
    """The night's curve of item T, in which learners get 3 points now, is the simulated curve on the bank's scale."""
    database, end = own_month.database, Month(NEXT).end
    steps = {"T": [0, 0.3, 0.1, 0], "G": [0, 0.1, 0]}
    add_group_answers(database, draw_scores(13, **steps), END + timedelta(days=4), "v")
    [outcome] = calibrate_night(database, "2026-02-28", "night", lambda _: EmEngine(1)).outcomes
    assert outcome.provisional == ("T",)
    fit = call(database, linked_fit, SCALE, "nightly", end - WINDOW, "em")
    assert fit is not None
    found, (a, d) = fit.values["T"], truth("T")
    assert found.absent_scores == []
    for name, value in {"a": a, "b": -d / a, "t1": steps["T"][1], "t2": steps["T"][2]}.items():
        estimate, error = found.shown[name]
        assert error is not None
        assert abs(estimate - value) < 3.5 * error < 1.5, name

    step = calibrate_month(database, own_month.store, NEXT)
    assert step.state == "done", step.why
    monthly, nightly = (measure_abilities(database, kind, end) for kind in ("monthly", "nightly"))
    np.testing.assert_array_equal(nightly.theta, monthly.theta)
    assert monthly.absent == nightly.absent
    assert monthly.absent["G"] > 0
    stored = dict(rows(database, "SELECT user_id, theta FROM mirt_ability WHERE window_end = %s", (end,)))
    for user in ("u0000", "v0000", "v0599"):
        assert request_theta(database, user, end) == pytest.approx(stored[user], abs=1e-12)


def test_single_categories_that_moved_are_stored_and_named(own_month: World) -> None:
    """The steps of S3 move by −.8, +1.5 and −.7, so its expected score hardly changes."""
    database = own_month.database
    scores = draw_scores(14, S3=[0, 0.83, 0.0, 0])
    add_group_answers(database, scores, END + timedelta(days=4), "v")
    step = calibrate_month(database, own_month.store, NEXT)
    assert step.state == "done", step.why
    drift_of_month(database, own_month.store, NEXT)
    stored = {
        row.item_id: row for row in call(database, read_compared_items, call(database, read_scales, END)[SCALE], NEXT)
    }
    tested = {item: [one["score"] for one in row.details.get("categories", [])] for item, row in stored.items()}
    assert {item for item, of_item in tested.items() if of_item} == {item for item in stored if MOST[item] > 1}
    assert tested["S3"] == [1, 2, 3]
    assert [one["score"] for one in stored["S3"].categories][:1] == [2]
    assert stored["S3"].categories[0]["shift"] > 0
    assert {item for item, row in stored.items() if row.categories} == {"S3"}


# -- skewed learners ---------------------------------------------------------------------------------
# A scale with 0/1 and scored items whose learners are skewed: every record of its fits is read as it was written.

ORIGIN, SKEWED_MONTH = MONTHS
SKEWED_LEARNERS = 1500
SKEWED_MOST = {f"i{k:02d}": 1 + k % 2 for k in range(12)}
"""Maximum scores: six items of 0 and 1, six of 0 to 2."""


def add_skewed_answers(database: Database, month: str, rng: np.random.Generator) -> None:
    """Answers of learners whose θ is a standardised −χ² with 4 degrees of freedom."""
    theta = (4 - rng.chisquare(4, SKEWED_LEARNERS)) / np.sqrt(8)
    start = Month(month).start + timedelta(days=1)
    for j, (item, most) in enumerate(SKEWED_MOST.items()):
        d = 0.5 * (j // 2 - 2.5)
        name, parameters = ("2pl", [1.3, d]) if most == 1 else ("gpcm", [0.9, d, 0.0, 0.4, 0.0])
        p = item_model(name).probabilities(theta, np.array(parameters)[:, None], np.array([most + 1]))[0]
        scores = (rng.random((SKEWED_LEARNERS, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
        add_attempts(
            database,
            [
                attempt(
                    f"{month}-{i:04d}",
                    item,
                    start + timedelta(minutes=j),
                    correct=bool(score == most),
                    score=None if most == 1 else int(score),
                )
                for i, score in enumerate(scores)
            ],
        )


@pytest.fixture
def skewed_scale(database: Database, store: ObjectStore) -> Database:
    """The origin window and a month, both with the default rules."""
    rng = np.random.default_rng(4)
    add_items(database, dict.fromkeys(SKEWED_MOST))
    run_sql(
        database,
        """UPDATE question SET meta = '{"irt": {"max_score": 2}}' WHERE item_id = ANY(%s)""",
        ([item for item, most in SKEWED_MOST.items() if most > 1],),
    )
    for month in MONTHS:
        add_skewed_answers(database, month, rng)
    window = OriginWindow(*Month(ORIGIN).bounds, EmEngine(1), store)
    done = initialise(database, SCALE, first_month=ORIGIN, window=window)
    assert "θ is taken as a histogram" in (done.shape or "")
    calibrate_month(database, store, SKEWED_MONTH)
    return database


@pytest.mark.ci
def test_records_of_a_mixed_scale_with_skewed_learners_are_read_back_unchanged(skewed_scale: Database) -> None:
    found: list[tuple[type[Part], object]] = [
        (kind, stored)
        for kind, query in (
            (StagedSpec, "SELECT spec FROM fit_staging"),
            (LinkedSpec, "SELECT model_spec FROM mirt_fit_meta"),
            (LinkingConstants, "SELECT model_spec->'linking_constants' FROM mirt_fit_meta"),
            (SetStatistics, "SELECT model_spec->'fit_statistics' FROM mirt_fit_meta"),
            (Spread, "SELECT model_spec->'latent' FROM mirt_fit_meta"),
        )
        for (stored,) in rows(skewed_scale, query)
    ]
    assert [kind.__name__ for kind, _ in found].count("LinkedSpec") == 2, "the origin window and the month"
    for kind, stored in found:
        assert kind.from_json(stored, "fit").as_json() == stored, kind.__name__  # type: ignore[arg-type]
    with skewed_scale.connect() as connection:
        scale = read_scales(connection, Month(SKEWED_MONTH).start)[SCALE]
        staged = latest_staged(connection, SKEWED_MONTH, SCALE, "em")
        linked = linked_fit(connection, SCALE, "monthly", Month(SKEWED_MONTH).start, "em")
        assert staged is not None
        assert linked is not None
        assert staged.spec.shape is not None
        assert staged.spec.shape.latent == "histogram"
        assert {one.model for one in staged.spec.shape.compared} == {"2pl+gpcm"}
        assert linked.model_spec.shape == staged.spec.shape
        raw = staged.decode()
        assert raw is not None
        assert staged.has_same_result(staged.snapshot_hash, raw, staged.spec)
        attempted = latest_attempt(connection, SKEWED_MONTH, SCALE, "em")
        assert attempted is not None
        assert isinstance(attempted.made_with, FitSettings)
        assert months_made_with(connection, scale, ORIGIN).keys() == {SKEWED_MONTH}
        assert find_reference(connection, scale, SKEWED_MONTH) is not None
        assert [one.spec for one in linkings_of(connection, scale, SKEWED_MONTH)] == [linked.model_spec]
        assert read_group_shift(connection, linked.fit_id) is not None
