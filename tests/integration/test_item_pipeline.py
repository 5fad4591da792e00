"""The pipeline of new items on real rows: estimates against simulated truth, bad cases, the asset and the command."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from irt_assets.common.job_names import NEW_ITEMS_MOVE_ON, NIGHTLY_JOB
from irt_assets.decisions.deciding import decide
from irt_assets.decisions.origin import initialise
from irt_assets.drift.month_comparison import compare_month
from irt_assets.invariants.invariant import InvariantContext, Violation
from irt_assets.invariants.publications import (
    one_set_is_in_force_and_changes_are_decided,
    published_parameters_come_from_sound_fits,
)
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.new_items import pipeline, progress, publishing
from irt_assets.new_items.assets import (
    ALERT,
    ITEM_PIPELINE,
    announce_stuck,
    changes_of_setting,
    differences,
)
from irt_assets.new_items.persons import measure_persons
from irt_assets.new_items.pipeline import make_pipeline
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.new_items.publishing import PUBLISH, PublishRequest
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.item_status import microseconds
from irt_assets.scales.scale import read_scales
from irt_psychometrics.scoring import Movement
from resources.alerts.outbox import open_keys
from resources.dagster_schema import HOW_TO_FIX, ITEMS, rows_of
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    attempt,
    folder_store,
    link_made_up,
    made_up_calibration,
    made_up_linking,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.typed import IrtOf
from tests.integration.graph import Graph, checks, metadata

DAY = "2026-07-31"
END = datetime(2026, 8, 1, tzinfo=UTC)
FIRST = END - timedelta(days=40)
LEARNERS, PUBLISHED, NEW = 500, 20, 24
rng = np.random.default_rng(20260778)
A, B = np.exp(rng.normal(0.2, 0.3, NEW)), rng.normal(0, 1, NEW)
NAMES = [f"n{k:02d}" for k in range(NEW)]
STUCK = {
    "failed": progress.ONE_SCORE.reason,
    "silent": progress.SILENT.reason,
    "wrong key": progress.NOT_POSITIVE.reason,
}


def load_seeded_world(settings: Settings) -> None:
    """500 learners of N(0.4, 1.1²) answer 20 published items and half of 24 new ones, on two forms, in 40 days."""
    database, draws = Database(settings), np.random.default_rng(78)
    a, b = np.exp(draws.normal(0.2, 0.3, PUBLISHED)), draws.normal(0, 1, PUBLISHED)
    published = {f"p{k:02d}": {"a": a[k], "b": b[k], "a_se": 0.02, "b_se": 0.02} for k in range(PUBLISHED)}
    add_items(database, published)
    add_items(database, dict.fromkeys([*NAMES, *STUCK, "draft"]))
    theta = draws.normal(0.4, 1.1, LEARNERS)
    add_learners(database, [f"u{i:03d}" for i in range(LEARNERS)])
    known, fresh = model_scores(theta, a, b, draws), model_scores(theta, A, B, draws)
    fresh[draws.random(fresh.shape) < 0.5] = np.nan
    right = model_scores(theta, np.array([1.5]), np.array([0.0]), draws)[:, 0]
    days, attempts = np.sort(draws.integers(0, 40, LEARNERS)), []
    for i in range(LEARNERS):
        scores = dict(zip([*published, *NAMES], [*known[i], *fresh[i]], strict=True))
        scores |= {"wrong key": 1 - right[i], "failed": 0.0, "silent": right[i] if days[i] < 6 else np.nan}
        shown = [item for item, score in scores.items() if not np.isnan(score)]
        start = FIRST + timedelta(days=int(days[i]), hours=8)
        session = {"session_id": f"s{i:03d}", "form_id": f"form {i % 2}"}
        attempts += [
            attempt(f"u{i:03d}", item, start + timedelta(minutes=k), correct=bool(scores[item]), position=k, **session)
            for k, item in enumerate(shown, 1)
        ]
    add_attempts(database, attempts)
    initialise(database, SCALE, first_month="2026-06")


@pytest.fixture
def seeded(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_seeded", migrated_template, load_seeded_world)
    with template_copy(postgres, "template_seeded", tmp_path, irt_first_month="2026-06", irt_threads=1) as settings:
        yield settings


@pytest.fixture
def bank(seeded: Settings) -> Database:
    return Database(seeded)


def night(database: Database, day: str = DAY) -> dict[str, PipelineItem]:
    """Make a night. Returns the stored items by id."""
    make_pipeline(database, day)
    return {item.item_id: item for item in database.call(read_pipeline, SCALE)}


# -- estimates ---------------------------------------------------------------------------------------


def test_estimates_equal_the_simulated_items_within_their_errors(bank: Database) -> None:
    """Learners are abler than the scale's population. The mean of 48 squares of normal z is above 1.7 once in 500; the
    mean of 24 correlated errors is within 3 SE of a mean of independent ones, doubled for the learners they share."""
    found = night(bank)
    b = np.array([(found[name].parameters["b"] - B[k]) / found[name].b_se for k, name in enumerate(NAMES)])
    ln_a = np.array([np.log(found[name].parameters["a"] / A[k]) / found[name].ln_a_se for k, name in enumerate(NAMES)])
    assert np.mean(np.square([b, ln_a])) < 1.7
    assert np.mean(np.square([b, ln_a])) > 0.5
    assert abs(b.mean()) < 2 * 3 / np.sqrt(NEW)
    assert abs(ln_a.mean()) < 2 * 3 / np.sqrt(NEW)
    n = dict(rows(bank, "SELECT item_id, count(*) FROM response_log GROUP BY 1"))
    assert {name: found[name].n for name in NAMES} == {name: n[name] for name in NAMES}


def test_sound_items_are_publishable_and_planted_faults_are_stuck(bank: Database) -> None:
    found = night(bank)
    assert {name: item.stuck for name, item in found.items() if item.stuck} == STUCK
    assert "draft" not in found
    sound = [found[name] for name in NAMES]
    assert sum(item.publishable for item in sound) >= 18
    limits = [(item.b_se, item.ln_a_se, item.n) for item in sound if item.publishable]
    assert all(b_se <= 0.25 and ln_a_se <= 0.25 and n >= 100 for b_se, ln_a_se, n in limits)
    assert all(item.publishable_at == END for item in sound if item.publishable)
    assert all(item.ready_from <= item.ready_at <= item.ready_to for item in sound)
    assert found["wrong key"].p_gates["positive_a"] < 1e-6
    assert found["failed"].flags == ["one_score"]
    assert "irt items rekey 'wrong key'" in found["wrong key"].remedy
    assert all(19 < item.position < 40 for item in sound)


def test_an_item_counts_as_measured_from_its_last_needed_answer(bank: Database) -> None:
    item = night(bank)["n00"]
    times = rows(bank, "SELECT completed_at FROM response_log WHERE item_id = 'n00' ORDER BY 1")
    assert (item.first_at, item.last_at) == (times[0][0], times[-1][0])
    assert item.measured_at == times[199][0]


def test_a_corrected_key_is_estimated_anew_the_next_night(bank: Database) -> None:
    before = night(bank)["wrong key"]
    run_sql(bank, "UPDATE response_log SET correct = NOT correct, recorded_at = now() WHERE item_id = 'wrong key'")
    after = night(bank)["wrong key"]
    assert (before.publishable, after.publishable, after.stuck) == (False, True, None)
    assert abs(after.parameters["b"]) < 3 * after.b_se
    assert abs(np.log(after.parameters["a"] / 1.5)) < 3 * after.ln_a_se


def test_answers_of_an_erased_learner_count_no_longer(bank: Database) -> None:
    before = night(bank)
    [(user, n)] = rows(
        bank, "SELECT user_id, count(*) FROM response_log WHERE item_id ~ '^n' GROUP BY 1 ORDER BY 1 LIMIT 1"
    )
    run_sql(bank, "DELETE FROM response_log WHERE user_id = %s", (user,))
    after = night(bank)
    assert sum(before[name].n - after[name].n for name in NAMES) == n


def test_a_withdrawn_item_is_stuck_and_its_later_answers_do_not_count(bank: Database) -> None:
    before = night(bank)["n00"]
    run_sql(
        bank,
        """INSERT INTO decision (kind, scale_id, subject, value, effective_from, reason, decided_by)
           VALUES ('withdraw an item', %s, 'n00', '{"state": "withdrawn"}', %s, 'leaked', 'Kim')""",
        (SCALE, END - timedelta(days=20)),
    )
    after = night(bank)["n00"]
    assert after.stuck == progress.WITHDRAWN.reason
    assert 0 < after.n < before.n


# -- nights ------------------------------------------------------------------------------------------


def test_a_killed_night_leaves_the_former_rows(bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before = night(bank, "2026-07-30")
    replace_rows = pipeline.warehouse.replace

    def killed(*given: Any) -> int:
        replace_rows(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.warehouse, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        make_pipeline(bank, DAY)
    monkeypatch.undo()
    assert {item.item_id: item for item in bank.call(read_pipeline, SCALE)} == before


def test_an_earlier_night_keeps_the_rows_of_a_later_one(bank: Database) -> None:
    before = night(bank)
    [made] = make_pipeline(bank, "2026-07-30")
    assert "later night" in made.why
    assert {item.item_id: item for item in bank.call(read_pipeline, SCALE)} == before


def test_a_later_night_keeps_the_night_since_which_an_item_is_publishable(bank: Database) -> None:
    before, after = night(bank, "2026-07-30"), night(bank)
    kept = [name for name in NAMES if before[name].publishable and after[name].publishable]
    assert kept
    assert all(after[name].publishable_at == END - timedelta(days=1) for name in kept)


def test_a_scale_without_published_items_has_no_rows_and_says_that_the_origin_comes_first(database: Database) -> None:
    add_items(database, {"new": None})
    add_attempts(database, [attempt("ann", "new", END - timedelta(days=1))])
    [made] = make_pipeline(database, DAY)
    assert made.items == []
    assert "irt scale init" in made.why


def test_a_night_without_answers_to_new_items_has_no_rows(bank: Database) -> None:
    run_sql(bank, "DELETE FROM response_log WHERE item_id !~ '^p'")
    assert night(bank) == {}


def test_abilities_that_move_are_those_of_the_day_of_the_answer(bank: Database) -> None:
    """A learner's first published answer is on the day of the session, so an answer a day earlier has no ability."""
    night(bank)
    with bank.connect() as connection:
        scale = replace(read_scales(connection)[SCALE], movement=Movement(variance=0.02))
        published = set_with_errors(connection, SCALE, END)
        [(start,)] = connection.execute("SELECT min(completed_at) FROM response_log WHERE user_id = 'u000'").fetchall()
        times = [start - timedelta(days=1), start + timedelta(hours=1), start + timedelta(days=8)]
        at, users = np.array([microseconds(time) for time in times]), np.array(["u000"] * 3, dtype=object)
        moving = measure_persons(connection, END, scale, published, users, at)
        still = measure_persons(connection, END, replace(scale, movement=Movement()), published, users, at)
    assert moving.person.tolist() == [-1, 0, 1]
    assert moving.theta[0] == moving.theta[1]
    days = (np.floor(microseconds(times[2]) / 86_400e6) - np.floor(microseconds(start) / 86_400e6)).item()
    assert moving.se[1] ** 2 == pytest.approx(moving.se[0] ** 2 + 0.02 * days / 7)
    assert still.person.tolist() == [0, 0, 0]


# -- metadata, checks and the command ---------------------------------------------------------------------------------


@pytest.fixture
def graph(seeded: Settings, tmp_path: Path) -> Iterator[Graph]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Graph(seeded, instance)


def test_the_asset_shows_progress_and_its_check_warns_of_stuck_items(graph: Graph) -> None:
    result = graph.run(DAY, NIGHTLY_JOB, assets=[ITEM_PIPELINE])
    assert result.success
    shown = metadata(result, ITEM_PIPELINE)
    assert shown["dagster/row_count"] == NEW + len(STUCK)
    assert "data:image" in shown[f"plot: progress ({SCALE})"]
    check = checks(result)[NEW_ITEMS_MOVE_ON]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert {row["item"]: row["why"] for row in rows_of(check.metadata, ITEMS)} == STUCK
    assert "irt items reject silent" in str(check.metadata[HOW_TO_FIX].value)
    assert list(graph.database.call(open_keys, ALERT)) == [f"{ALERT}2026-07-27"]


def test_one_alert_a_week_names_the_stuck_items(bank: Database) -> None:
    made = make_pipeline(bank, DAY)
    for day in (27, 28, 31):
        bank.call(announce_stuck, made, date(2026, 7, day))
    bank.call(announce_stuck, made, date(2026, 8, 3))
    assert rows(bank, "SELECT key, resolved_at IS NULL FROM alert ORDER BY alert_id") == [
        (f"{ALERT}2026-07-27", False),
        (f"{ALERT}2026-08-03", True),
    ]
    assert bank.call(open_keys, ALERT) == {f"{ALERT}2026-08-03": [*STUCK]}
    bank.call(announce_stuck, [], date(2026, 8, 4))
    assert bank.call(open_keys, ALERT) == {}


def test_the_check_names_items_that_differ_from_the_newest_month(seeded: Settings) -> None:
    database = Database(seeded)
    [made] = make_pipeline(database, DAY)
    values = {item.item_id: (item.parameters["a"], item.parameters["b"]) for item in made.items}
    a, b = values["n03"]
    near = {name: x for name, x in values.items() if name in NAMES}
    store = folder_store(seeded)
    link_made_up(database, store, "2026-06", made_up_calibration(near | {"n03": (a, b + 1.5)}))
    with database.connect() as connection:
        assert {item: why.split(" is ")[0] for item, why in differences(connection, made)} == {"n03": "its b"}


def test_published_item_is_in_force_with_the_pipelines_values_and_drifts_from_them(
    seeded: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, store = Database(seeded), folder_store(seeded)
    row = night(database)["n03"]
    a, b = row.parameters["a"], row.parameters["b"]
    request = PublishRequest(["n03"], now=END - timedelta(hours=1))
    assert decide(database, PUBLISH, request, by="Kim", reason="read").startswith("recorded")
    with database.connect() as connection:
        published = set_with_errors(connection, SCALE, END)
        assert published.errors is not None
        assert published.fits["n03"] is None
        at = published.errors.items.item_ids.index("n03")
        assert float(published.errors.items.b_se[at]) == pytest.approx(row.parameters["b_se"], rel=1e-12)
        for invariant in (one_set_is_in_force_and_changes_are_decided, published_parameters_come_from_sound_fits):
            context = InvariantContext(connection, store, END, ())
            assert [x for x in invariant.find(context) if isinstance(x, Violation) and x.subject == "n03"] == []
    assert "n03" not in night(database, "2026-08-01")
    assert irt(seeded)("lineage", "n03").code == 0
    with pytest.raises(PermanentFailure, match="n03 has published values already"):
        decide(database, PUBLISH, request, by="Kim", reason="again")
    [made] = make_pipeline(database, "2026-08-01")
    values = {item: (x.a, x.b) for item, x in published.items.items()}
    linking = made_up_linking([item for item in values if item != "n03"])
    monkeypatch.setattr(rooms, "made_up_linking", lambda *_, **__: linking)
    link_made_up(database, store, "2026-08", made_up_calibration(values | {"n03": (a, b + 1.5)}))
    with database.connect() as connection:
        assert not [*changes_of_setting(connection, made)]
        drift = compare_month(connection, read_scales(connection, END)[SCALE], "2026-08").drift
        assert drift.severity[drift.item_ids.index("n03")] == "high"
    monkeypatch.setattr(publishing, "SETTING_TEST_AT", 3)
    add_learners(database, ["v0", "v1", "v2", "v3"])
    answers = [attempt(f"v{i}", "n03", END + timedelta(days=1), correct=True) for i in range(4)]
    for some, named in ((answers[:2], []), (answers[2:], ["n03"])):
        add_attempts(database, some)
        judge_differing(database, date(2026, 8, 1), date(2026, 9, 1))
        with database.connect() as connection:
            assert [item for item, _ in changes_of_setting(connection, made)] == named


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("n", "99", "n03 has 99 answers, but seed_min_responses is 100"),
        ("parameters", """parameters || '{"b_se": 0.3}'""", "n03 has SE(b) = 0.300, but seed_max_b_se is 0.25"),
        ("p_gates", """p_gates || '{"max_abs_b": 0.2}'""", "n03 passes the gate max_abs_b with probability 0.20"),
        ("accused", "true", "n03 has a key that another option beats"),
        ("flags", """'["misfit"]'""", "n03 has the flag misfit"),
    ],
)
def test_item_that_fails_a_rule_is_not_published(bank: Database, column: str, value: str, why: str) -> None:
    night(bank)
    run_sql(bank, f"UPDATE item_pipeline SET {column} = {value} WHERE item_id = 'n03'")
    with pytest.raises(PermanentFailure, match=re.escape(why)):
        decide(bank, PUBLISH, PublishRequest(["n03"]), by="Kim", reason="read")
    assert rows(bank, "SELECT count(*) FROM item_parameter_publication WHERE item_id = 'n03'") == [(0,)]


def test_the_command_lists_stuck_items_and_writes_files(seeded: Settings, irt: IrtOf, tmp_path: Path) -> None:
    night(Database(seeded))
    typed = irt(seeded)
    text = typed("items", "pipeline", "--stuck").out
    assert [item for item in [*STUCK, "n00"] if item not in text] == ["n00"]
    listed = json.loads(typed("items", "pipeline", "--stage", "publishable", "--json").out)
    assert {row["stage"] for row in listed} == {"publishable"}
    path = tmp_path / "new.csv"
    typed("items", "pipeline", "--scale", SCALE, "--to", str(path))
    with path.open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(written) == NEW + len(STUCK)
    assert float(written[0]["b_se"]) > 0
