"""Every invariant detects and names a violation planted in a sound world, and passes without the violation.

Violations are planted in a transaction that is rolled back, so that all tests share one calibrated world.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from irt_assets.abilities.batch import measure, measure_at
from irt_assets.common.partitions import Month
from irt_assets.features.daily import write_features
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.invariants import activity, history
from irt_assets.invariants.drift import ANALYSES
from irt_assets.invariants.invariant import (
    Findings,
    Invariant,
    InvariantContext,
    InvariantResult,
    NotTested,
    Violation,
    evaluate,
)
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.invariants.reports import OTHERS
from irt_assets.kpis.weekly import write_week
from irt_assets.responses.snapshot import current_snapshot, read_snapshot, user_ids_of
from irt_assets.responses.verdicts import days_that_differ, judge_day
from irt_assets.scores.form_tables import hash_contents
from resources.alerts.outbox import Alert, open_alert
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from resources.settings import Settings
from resources.tables import response_log
from tests.helpers.fit_specs import PARALLEL
from tests.helpers.rooms import MONTHS, SCALE, call, folder_store, rows
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import Irt, IrtOf
from tests.integration.graph import Graph, checks, metadata
from tests.testbed.partitions import ensure_month_partitions

JUNE, JULY = MONTHS
DAY = "2026-07-15"
NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
BY_NAME = {one.name: one for one in INVARIANTS}


@pytest.fixture(scope="module")
def measured(calibrated: Settings) -> Settings:
    for month in MONTHS:
        measure(Database(calibrated), month, f"abilities {month}")
    return calibrated


@dataclass
class World:
    """The sound world, in a transaction; `look` reads the changes of the transaction."""

    connection: psycopg.Connection
    store: ObjectStore
    months: tuple[str, ...] = MONTHS
    states: tuple[MonthState, ...] = ()
    made: dict[str, dict[str, datetime]] = field(default_factory=dict)

    def sql(self, statement: str, *values: object) -> None:
        self.connection.execute(statement.encode(), values)

    def scalar(self, query: str, *values: object) -> str:
        return self.connection.execute(query.encode(), values).fetchone()[0]

    def look(self) -> InvariantContext:
        states = self.states or tuple(MonthState(month, SCALE, State.GREEN, "") for month in self.months)
        return InvariantContext(self.connection, self.store, NOW, states, self.made)

    def verdict(self, one: Invariant) -> InvariantResult:
        (verdict,) = evaluate(self.look(), [one])
        assert not verdict.crashed
        return verdict

    def rewrite_snapshot(self, change: Callable[[pa.Table], pa.Table]) -> None:
        """July's snapshot with other content, under its own hash."""
        snapshot = current_snapshot(self.connection, JULY)
        buffer = io.BytesIO()
        pq.write_table(change(read_snapshot(self.store, snapshot)), buffer)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        self.store.put(f"snapshots/{digest}", buffer.getvalue())
        self.sql(
            "UPDATE scored_snapshot SET snapshot_hash = %s, uri = %s WHERE month = %s AND superseded_at IS NULL",
            digest,
            f"snapshots/{digest}",
            JULY,
        )


@pytest.fixture
def world(measured: Settings) -> Iterator[World]:  # type: ignore[override]
    with Database(measured).connect() as connection:
        yield World(connection, folder_store(measured))
        connection.rollback()


# -- conditions of a test ----------------------------------------------------------------------------


def nothing(_world: World) -> None:
    pass


def sql(statement: str, *values: object) -> Callable[[World], None]:
    return lambda world: world.sql(statement, *values)


def half_of_june_in_july_where_abilities_move(world: World) -> None:
    """Move every second answer of June to July, and measure learners at the end of June without these answers."""
    world.sql(
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
           VALUES (%s, 'ability_variance', '0.0025', '2026-06-01Z', 'Ann', 'learners learn')""",
        SCALE,
    )
    world.sql(
        """UPDATE response_log SET completed_at = completed_at + interval '30 days'
           WHERE completed_at < '2026-07-01Z' AND mod(position, 2) = 0"""
    )
    for day in days_that_differ(world.connection, Month(JUNE).start.date(), Month(JUNE).end.date()):
        judge_day(world.connection, day)
    measure_at(world.connection, Month(JUNE).end, "monthly", "as abilities move")


def four_more_fits(world: World) -> None:
    """Copy June's fit and snapshot to March, April and May, so that July has a history."""
    for n, month in enumerate(("2026-03", "2026-04", "2026-05")):
        world.sql(
            """INSERT INTO mirt_fit_meta SELECT (jsonb_populate_record(m, jsonb_build_object(
                 'fit_id', 'earlier ' || %s, 'window_start', %s || '-01T00:00:00Z'))).*
               FROM mirt_fit_meta m WHERE window_start = '2026-06-01Z' AND kind = 'monthly'""",
            n,
            month,
        )
        world.sql(
            """INSERT INTO scored_snapshot SELECT (jsonb_populate_record(s, jsonb_build_object('month', %s::text))).*
               FROM scored_snapshot s WHERE month = '2026-06' AND superseded_at IS NULL""",
            month,
        )


def answers_in_earlier_months(world: World) -> None:
    """Copy July's answers to March, April and May."""
    ensure_month_partitions(world.connection, "2026-03", "2026-05")
    for n in (2, 3, 4):
        world.sql(
            """INSERT INTO response_log SELECT (jsonb_populate_record(r, jsonb_build_object(
                 'attempt_id', 'earlier ' || %s || r.attempt_id,
                 'completed_at', r.completed_at - make_interval(months => %s)))).*
               FROM response_log r WHERE completed_at >= '2026-07-02Z' AND completed_at < '2026-07-28Z'""",
            n,
            n,
        )
    world.months = ("2026-03", "2026-04", "2026-05", JUNE, JULY)


many_casual_learners = sql(
    """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)
       SELECT 'casual ' || n, '2026-07-15Z', 'casual ' || n,
              (array_agg(item_id ORDER BY item_id))[1 + n %% count(*)], true
       FROM generate_series(1, 3000) n CROSS JOIN question GROUP BY n"""
)
"""Plant 3000 learners with one answer each, spread over the bank, so that no item is seen by a third of learners."""


def stored_statistics(path: str, value: str) -> Callable[[World], None]:
    """July's fit stored with another value of a statistic of its whole set."""
    return sql(
        f"""UPDATE mirt_fit_meta
            SET model_spec = jsonb_set(model_spec, '{{fit_statistics,{path}}}', '{value}')
            WHERE window_start = '2026-07-01Z' AND kind = 'monthly' AND superseded_at IS NULL"""
    )


def pairs_seen_by_many(world: World) -> None:
    """Store statistics without local dependence and with one dimension: the eigenvalue is within chance."""
    stored_statistics("q3", '{"pairs": 9, "mean": -0.05, "flagged": 0, "largest": [], "clusters": []}')(world)
    stored_statistics("parallel", json.dumps(PARALLEL | {"eigenvalue": 1.5, "expected": 1.4, "p": 0.0011}))(world)


def a_nightly_run(world: World) -> None:
    world.sql(
        """INSERT INTO mirt_fit_meta SELECT (jsonb_populate_record(m, jsonb_build_object(
             'fit_id', 'nightly', 'kind', 'nightly', 'fitted_at', %s::timestamptz))).*
           FROM mirt_fit_meta m WHERE window_start = '2026-07-01Z' AND kind = 'monthly'""",
        NOW - timedelta(hours=3),
    )
    world.sql(
        """INSERT INTO mirt_ability SELECT (jsonb_populate_record(m, jsonb_build_object(
             'update_id', 'nightly', 'kind', 'nightly', 'fitted_at', %s::timestamptz))).*
           FROM mirt_ability m WHERE window_end = '2026-08-01Z'""",
        NOW - timedelta(hours=3),
    )


def features_since_july(world: World) -> None:
    write_features(world.connection, Month(JULY).start, datetime(2026, 8, 20, tzinfo=UTC))


kpis_of_a_week = sql(
    """INSERT INTO weekly_kpi (user_id, week_start, kpis) VALUES
       ('u1', '2026-07-06', '{"I_t": -1, "E_t": 0, "R_t": 0.5, "A_t": 1, "P": 0.3, "S": 0.9}'),
       ('u2', '2026-07-06', '{"I_t": null, "E_t": null, "R_t": null, "A_t": null, "P": null, "S": null, "why":
         {"I_t": "so", "E_t": "so", "R_t": "so", "A_t": "so", "P": "so", "S": "so"}}')"""
)
"""u1 has all six; u2 has the reason instead of values."""
JUDGED = datetime(2026, 8, 3, 4, tzinfo=UTC)


def judged_months(world: World) -> None:
    """Both months fitted on the 3rd of August and judged an hour later; July flags A01, which
    awaits a decision."""
    world.sql("UPDATE mirt_fit_meta SET fitted_at = %s WHERE kind = 'monthly'", JUDGED - timedelta(hours=1))
    world.made = {asset: dict.fromkeys(MONTHS, JUDGED) for asset in ANALYSES}
    world.sql(
        """INSERT INTO item_drift (month, scale_id, item_id, engine, severity) VALUES
           ('2026-07', 'default', 'A01', 'em', 'high'), ('2026-07', 'default', 'A02', 'em', 'none')"""
    )
    world.sql(
        """INSERT INTO drift_alerts (scale_id, item_id, kind, severity, opened_month, opened_at)
           VALUES ('default', 'A01', 'leak', 'high', '2026-07', %s)""",
        JUDGED,
    )


def report_files(world: World) -> None:
    """A learner's report of two weeks, and the bank's of July."""
    for n, (week, key) in enumerate(REPORT_FILES.items()):
        world.sql(
            """INSERT INTO report_file (user_id, week_start, "window", format, url, sha256)
               VALUES (%s, %s, %s, 'pdf', %s, %s)""",
            *(("u1", week, None) if n < 2 else (None, None, f"{week}/{SCALE}")),
            world.store.put(key, key.encode()),
            hashlib.sha256(key.encode()).hexdigest(),
        )


REPORT_FILES = {
    "2026-07-06": "reports/2026-07-06/u1.pdf",
    "2026-07-13": "reports/2026-07-13/u1.pdf",
    JULY: "reports/drift/2026-07/default-20260803.pdf",
}


# -- plants ------------------------------------------------------------------------------------------


fitted_after_it_was_judged = sql(
    "UPDATE mirt_fit_meta SET fitted_at = %s WHERE window_start = '2026-07-01Z' AND kind = 'monthly'",
    JUDGED + timedelta(hours=1),
)
fitted_before_and_linked_after_it_was_judged = sql(
    """INSERT INTO mirt_fit_meta SELECT (jsonb_populate_record(m, jsonb_build_object(
         'fit_id', 'earlier', 'superseded_at', %s::timestamptz))).*
       FROM mirt_fit_meta m WHERE window_start = '2026-07-01Z' AND kind = 'monthly'""",
    JUDGED + timedelta(hours=1),
)
"""The earlier fit was superseded when the later was linked."""


def a_handed_out_score(world: World) -> None:
    """One raw score of one by a table in which it passes with 300 points."""
    spec: dict[str, Any] = {"mark": 250}
    scores: dict[str, list[Any]] = {
        "theta": [-1.0, 0.0],
        "se": [0.3, 0.3],
        "scaled": [200.0, 300.0],
        "scaled_se": [30.0, 30.0],
        "percentile": [None, None],
        "passes": [False, True],
    }
    world.sql(
        """INSERT INTO score_table (scale_id, form_id, month, method, set_hash, spec, scores, table_hash, code_version)
           VALUES (%s, 'F1', '2026-06', 'eap', '', %s, %s, %s, '')""",
        *(SCALE, json.dumps(spec), json.dumps(scores), hash_contents(SCALE, "F1", "eap", spec, scores)),
    )
    world.sql(
        """INSERT INTO issued_score (user_id, scale_id, form_id, session_id, sat_at, raw, theta, theta_se, scaled,
             scaled_se, passes, table_id, set_hash, status, decided_by, reason)
           SELECT 'eve', scale_id, form_id, 's1', '2026-06-02Z', 1, 0, 0.3, 300, 30, true, table_id, '', 'issued',
                  'Ann', 'results of June' FROM score_table"""
    )


def july_was_never_judged(world: World) -> None:
    for made in world.made.values():
        del made[JULY]


def red_july(world: World) -> None:
    world.states = (MonthState(JUNE, SCALE, State.GREEN, ""), MonthState(JULY, SCALE, State.RED, "anchors_agree: no"))


def stale_and_missing(world: World) -> None:
    world.states = tuple(
        MonthState(month, SCALE, state, "so") for month, state in ((JUNE, State.STALE), (JULY, State.MISSING))
    )


def late_start_and_gap(world: World) -> None:
    states = (("late", State.EMPTY, State.GREEN), ("gap", State.GREEN, State.EMPTY))
    world.states = tuple(
        MonthState(month, scale, state, "so")
        for scale, *both in states
        for month, state in zip((JUNE, JULY), both, strict=True)
    )


def again(rule: str, **values: str) -> Callable[[World], None]:
    """A second publication of A01, with these columns changed."""

    def plant(world: World) -> None:
        changed = {"rule": rule, "effective_from": "2026-08-15T00:00:00Z"} | values
        columns = [
            name
            for (name,) in world.connection.execute(
                """SELECT column_name FROM information_schema.columns
                   WHERE table_name = 'item_parameter_publication' AND column_name <> 'publication_id'
                     AND is_generated = 'NEVER'"""
            )
        ]
        listed = ", ".join(columns)
        taken = ", ".join(f"%({name})s" if name in changed else name for name in columns)
        world.connection.execute(
            f"""INSERT INTO item_parameter_publication ({listed})
                SELECT {taken} FROM item_parameter_publication WHERE item_id = 'A01'""".encode(),
            changed,
        )

    return plant


def one_users_answers_from_a_sandbox(world: World) -> None:
    def change(table: pa.Table) -> pa.Table:
        user = victim(world)
        rows = table.select(["learner_key", "mode"]).to_pylist()
        users = user_ids_of(world.connection, table["learner_key"].to_numpy())
        mode = ["sandbox" if named == user else row["mode"] for named, row in zip(users, rows, strict=True)]
        return table.set_column(table.schema.get_field_index("mode"), "mode", pa.array(mode))

    world.rewrite_snapshot(change)


def victim(world: World) -> str:
    """The first learner with a scored answer in July."""
    snapshot = current_snapshot(world.connection, JULY)
    table = read_snapshot(world.store, snapshot)
    return min(user_ids_of(world.connection, table.filter(pc.is_null(table["reason"]))["learner_key"].to_numpy()))


def remove(key: str, world: World) -> None:
    world.store.delete(key)


def rewrite(key: str, world: World) -> None:
    world.store.put(key, b"something else")


ONE_ANSWER = "attempt_id = (SELECT min(attempt_id) FROM response_log WHERE item_id = 'A01' AND correct)"
CHOICES = "UPDATE response_log SET response = CASE WHEN correct THEN 'B' ELSE 'C' END WHERE item_id = 'A01'"
SCORES = "UPDATE response_log SET score = CASE WHEN correct THEN 2 ELSE 1 END WHERE item_id = 'A01'"


def declare_test(world: World, test: str) -> None:
    """Declare an adaptive test whose items are given to at most 30 % of the learners."""
    world.sql(
        """INSERT INTO adaptive_test (test_id, scale_id, policy, effective_from, decided_by, reason, decision_id)
           VALUES (%s, 'default', '{"start": "population", "exposure": {"max": 0.3}}', '2026-07-01Z', 'Ann', 'June',
                   1)""",
        test,
    )


def exposure_of_adaptive_sessions(world: World) -> None:
    """78 of 200 sessions of the last days had an item, and 60 are allowed: the difference is 2.8 standard errors."""
    many_casual_learners(world)
    declare_test(world, "placement")
    world.sql(
        """INSERT INTO item_exposure SELECT %s::date - n, max(version), 0, 'C03', 100, 100, 39
           FROM adaptive_test, generate_series(1, 2) n GROUP BY n""",
        NOW,
    )


@dataclass(frozen=True)
class Case:
    invariant: str
    plant: Callable[[World], None]
    subjects: set[str] | Callable[[World], set[str]]
    prepare: Callable[[World], None] = nothing
    partition: str | None = ""
    others: bool = False
    """Whether the plant also violates the invariant for other subjects."""


def decide(world: World, kind: str, subject: str, value: str = '{"state": "withdrawn"}') -> None:
    world.sql(
        """INSERT INTO decision (kind, scale_id, subject, value, decided_by, reason)
           VALUES (%s, 'default', %s, %s, 'Ann', 'June')""",
        *(kind, subject, value),
    )


def decide_on_a_learner(world: World) -> None:
    world.sql("INSERT INTO learner (user_id) VALUES ('learner-77')")
    decide(world, "withdraw an item", "learner-77")


def newest_decision(world: World) -> set[str]:
    return {f"decision {world.scalar('SELECT max(decision_id) FROM decision')}"}


CASES = [
    Case(
        "decisions_are_valid_and_name_no_learner",
        lambda world: decide(world, "withdraw an item", "A01", '{"state": "gone"}'),
        newest_decision,
    ),
    Case(
        "decisions_are_valid_and_name_no_learner",
        lambda world: decide(world, "ask an oracle", "A01"),
        newest_decision,
    ),
    Case("decisions_are_valid_and_name_no_learner", decide_on_a_learner, newest_decision),
    Case("every_month_is_green", red_july, {SCALE}, partition=JULY),
    Case("every_month_is_green", stale_and_missing, {SCALE}, partition=None),
    Case("every_month_is_green", late_start_and_gap, {"gap"}, partition=None),
    Case(
        "published_parameters_come_from_sound_fits",
        sql("UPDATE item_parameter_publication SET fit_id = 'nowhere' WHERE item_id = 'A01'"),
        {"A01"},
        partition=JUNE,
    ),
    Case(
        "published_parameters_come_from_sound_fits",
        sql("UPDATE item_parameter_publication SET data_hash = 'other answers' WHERE item_id = 'A01'"),
        {"A01"},
        partition=JUNE,
    ),
    Case(
        "published_parameters_come_from_sound_fits",
        sql("UPDATE item_parameter_publication SET code_version = '' WHERE item_id = 'A01'"),
        {"A01"},
        partition=JUNE,
    ),
    Case(
        "published_parameters_come_from_sound_fits",
        sql("UPDATE mirt_fit_meta SET converged = false WHERE window_start = '2026-06-01Z'"),
        {"A01"},
        partition=JUNE,
        others=True,
    ),
    Case(
        "published_parameters_come_from_sound_fits",
        sql(
            "UPDATE mirt_fit_meta SET model_spec = model_spec - 'linking_constants' WHERE window_start = '2026-06-01Z'"
        ),
        {"A01"},
        partition=JUNE,
        others=True,
    ),
    *(
        Case(
            "published_items_can_be_scored_with",
            sql(f"UPDATE item_parameter_publication SET parameters = parameters || '{change}' WHERE item_id = 'A01'"),
            {"A01"},
        )
        for change in (
            '{"a": -0.1}',
            '{"a": "NaN"}',
            '{"b": 6.5}',
            '{"b_se": 1.2}',
            '{"b_se": null}',
            '{"a_se": "Infinity"}',
            '{"b": "NaN"}',
        )
    ),
    Case("one_set_is_in_force_and_changes_are_decided", again("first"), {"A01"}, partition=JUNE),
    Case("one_set_is_in_force_and_changes_are_decided", again("decision"), {"A01"}, partition=JUNE),
    Case(
        "items_without_a_sound_estimate_are_held_back",
        sql(
            """UPDATE mirt_item_params SET flags = '["at_bound"]' WHERE item_id = 'A01' AND fit_id =
               (SELECT fit_id FROM mirt_fit_meta WHERE window_start = '2026-06-01Z')"""
        ),
        {"A01"},
        partition=JUNE,
    ),
    Case(
        "items_without_a_sound_estimate_are_held_back",
        sql(
            """UPDATE mirt_item_params SET flags = '["all_correct"]' WHERE item_id = 'A01' AND fit_id =
               (SELECT fit_id FROM mirt_fit_meta WHERE window_start = '2026-07-01Z')"""
        ),
        {"A01"},
        partition=JULY,
    ),
    Case(
        "anchors_agree",
        sql(
            """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants,share_kept}', '0.5')
               WHERE window_start = '2026-07-01Z'"""
        ),
        {SCALE},
        partition=JULY,
    ),
    Case(
        "anchors_change_by_decision_alone",
        sql("UPDATE anchor_set SET parameters = parameters || jsonb_build_object('b', b + 0.01) WHERE item_id = 'A04'"),
        {SCALE},
    ),
    Case("anchors_are_still_in_the_bank", sql("DELETE FROM question WHERE item_id = 'A04'"), {"A04"}),
    Case(
        "anchors_are_still_in_the_bank",
        sql("UPDATE question SET scale_id = 'other' WHERE item_id = 'A05'"),
        {"A05"},
    ),
    Case(
        "snapshots_match_their_hash",
        sql("UPDATE scored_snapshot SET uri = 'gone' WHERE month = '2026-06'"),
        {"gone"},
        partition=JUNE,
    ),
    Case(
        "snapshots_match_their_hash",
        sql("UPDATE scored_snapshot SET snapshot_hash = 'another' WHERE month = '2026-06'"),
        lambda world: {world.scalar("SELECT uri FROM scored_snapshot WHERE month = '2026-06'")},
        partition=JUNE,
    ),
    Case(
        "no_test_answer_was_scored",
        lambda world: world.sql("UPDATE learner SET is_test = true WHERE user_id = %s", victim(world)),
        lambda world: {victim(world)},
        partition=None,
    ),
    Case(
        "no_test_answer_was_scored",
        one_users_answers_from_a_sandbox,
        lambda world: {victim(world)},
        partition=JULY,
    ),
    *(
        Case("every_green_month_was_judged", plant, set(ANALYSES), prepare=judged_months, partition=JULY)
        for plant in (
            july_was_never_judged,
            fitted_after_it_was_judged,
            fitted_before_and_linked_after_it_was_judged,
        )
    ),
    *(
        Case("judgements_rest_on_fits_and_publications", sql(plant), {subject}, prepare=judged_months, partition=JULY)
        for plant, subject in (
            ("UPDATE item_drift SET engine = 'mirt'", f"item_drift of {SCALE}"),
            (
                """INSERT INTO dif_analysis (month, scale_id, item_id, attribute, focal_group, reference_group)
                   VALUES ('2026-07', 'other', 'A01', 'lang', 'ko', 'en')""",
                "dif_analysis of other",
            ),
            (
                "INSERT INTO test_information (month, scale_id, item_id, curve) VALUES ('2026-07', 'other', '', '{}')",
                "test_information of other",
            ),
            ("UPDATE item_drift SET item_id = 'new' WHERE item_id = 'A02'", f"{SCALE}: new"),
            (
                """UPDATE item_parameter_publication SET effective_from = effective_from + interval '1 second'
                   WHERE item_id = 'A02' AND rule = 'first'""",
                f"{SCALE}: A02",
            ),
            ("UPDATE item_drift SET severity = 'none' WHERE item_id = 'A01'", f"{SCALE}: A01"),
        )
    ),
    Case(
        "large_drift_is_decided_on",
        sql("UPDATE drift_alerts SET opened_at = opened_at - interval '15 days'"),
        {f"{SCALE}: A01"},
        prepare=judged_months,
    ),
    *(
        Case("report_files_are_as_they_were_written", plant, {key}, prepare=report_files, partition=partition)
        for partition, key in REPORT_FILES.items()
        for plant in (partial(remove, key), partial(rewrite, key))
        if partition != "2026-07-06" or plant.func is remove
    ),
    Case(
        "report_files_are_as_they_were_written",
        sql("UPDATE report_file SET url = 's3://sold/' || format WHERE week_start = '2026-07-06'"),
        {"another store"},
        prepare=report_files,
        partition="2026-07-06",
    ),
    Case(
        "every_learner_with_answers_has_an_ability",
        lambda world: world.sql("DELETE FROM mirt_ability WHERE user_id = %s", victim(world)),
        lambda world: {f"{SCALE}: {victim(world)}"},
    ),
    Case(
        "runs_agree_on_abilities",
        lambda world: world.sql(
            "UPDATE mirt_ability SET theta = theta + 0.001 WHERE kind = 'nightly' AND user_id = %s", victim(world)
        ),
        lambda world: {f"{SCALE}: {victim(world)}"},
        prepare=a_nightly_run,
        partition="2026-08-01",
    ),
    *(
        Case(
            "grades_follow_keys_and_maximum_scores",
            sql(plant),
            {f"{SCALE}: A01"},
            prepare=sql(f"UPDATE question SET meta = meta - 'key' || '{bank}' WHERE item_id = 'A01'; {prepare}"),
        )
        for bank, prepare, plant in (
            ('{"key": "B"}', CHOICES, f"UPDATE response_log SET correct = NOT correct WHERE {ONE_ANSWER}"),
            ('{"key": "B"}', CHOICES, """UPDATE question SET meta = meta || '{"key": "C"}' WHERE item_id = 'A01'"""),
            ('{"irt": {"max_score": 2}}', SCORES, f"UPDATE response_log SET correct = NOT correct WHERE {ONE_ANSWER}"),
            ('{"irt": {"max_score": 2}}', SCORES, f"UPDATE response_log SET score = 3 WHERE {ONE_ANSWER}"),
        )
    ),
    *(
        Case(
            "verdicts_follow_from_answers_and_rules",
            sql(plant),
            {DAY},
            prepare=sql(
                """INSERT INTO invariant_result (run, invariant, partition, subject, passed)
                   VALUES ('before', 'verdicts_follow_from_answers_and_rules', %s, %s, false)""",
                *(DAY, DAY),
            ),
            partition=DAY,
        )
        for plant in (
            f"UPDATE attempt_verdict SET score = 1 - score WHERE completed_at::date = '{DAY}'",
            f"UPDATE attempt_verdict SET reason = 'hinted', score = NULL WHERE completed_at::date = '{DAY}'",
            f"""DELETE FROM attempt_verdict WHERE (attempt_id, completed_at) = (
                  SELECT attempt_id, completed_at FROM attempt_verdict WHERE completed_at::date = '{DAY}' LIMIT 1)""",
            f"""INSERT INTO attempt_verdict
                SELECT (v).* FROM (SELECT jsonb_populate_record(v, '{{"attempt_id": "invented"}}') v
                                   FROM attempt_verdict v WHERE completed_at::date = '{DAY}' LIMIT 1) one""",
        )
    ),
    Case(
        "stored_verdicts_on_months_are_those_of_their_gates",
        sql(
            """UPDATE month_verdict SET gates = jsonb_set(gates, '{converged,passed}', 'false')
               WHERE month = '2026-07'"""
        ),
        {f"{SCALE}: converged"},
        partition="2026-07",
    ),
    *(
        Case(
            "features_conserve_attempts",
            sql(plant),
            {"2026-07-15"},
            prepare=features_since_july,
            partition="2026-07-15",
        )
        for plant in (
            "DELETE FROM features_topic_daily WHERE date = '2026-07-15'",
            """UPDATE features_topic_daily SET attempts = attempts + 1
               WHERE date = '2026-07-15' AND (user_id, topic_id) =
                 (SELECT user_id, topic_id FROM features_topic_daily WHERE date = '2026-07-15'
                  ORDER BY 1, 2 LIMIT 1)""",
            """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)
               VALUES ('late', '2026-07-15T23:59:59Z', 'somebody', 'A01', true)""",
        )
    ),
    *(
        Case(
            "kpis_are_whole",
            sql(f"UPDATE weekly_kpi SET kpis = {change} WHERE user_id = '{user}'"),
            {user},
            prepare=kpis_of_a_week,
            partition="2026-07-06",
        )
        for user, change in (
            ("u1", "kpis - 'S'"),
            ("u1", """kpis || '{"P": 1.01}'"""),
            ("u1", """kpis || '{"I_t": -1.5}'"""),
            ("u1", """kpis || '{"A_t": "high"}'"""),
            ("u2", "kpis #- '{why,E_t}'"),
        )
    ),
    Case(
        "the_nightly_calibration_is_fresh",
        sql(
            """WITH measured AS (UPDATE mirt_ability SET fitted_at = fitted_at - interval '23 hours'
                                WHERE kind = 'nightly')
               UPDATE mirt_fit_meta SET fitted_at = fitted_at - interval '23 hours' WHERE kind = 'nightly'"""
        ),
        {"nightly calibration"},
        prepare=a_nightly_run,
    ),
    Case(
        "every_scale_and_topic_is_covered",
        sql("INSERT INTO question (item_id, scale_id, topic_id) VALUES ('N1', 'default', 'new'), ('O1', 'other', 'x')"),
        {"topic new of scale default", "scale other"},
    ),
    Case(
        "one_ability_explains_a_scale",
        stored_statistics("parallel", json.dumps(PARALLEL | {"eigenvalue": 2.5, "expected": 1.4, "p": 0.0009})),
        {SCALE},
        prepare=pairs_seen_by_many,
    ),
    Case(
        "items_are_locally_independent",
        stored_statistics(
            "q3",
            '{"pairs": 9, "mean": -0.05, "flagged": 2, "largest": [{"items": ["B01", "B02"], "q3": 0.4, "n": 250}],'
            ' "clusters": []}',
        ),
        {f"{SCALE}: B01 × B02", f"{SCALE}: further pairs"},
        prepare=pairs_seen_by_many,
    ),
    Case(
        "samples_stay_as_they_were",
        sql(
            """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{latent}', '{"mean": 1.0, "sd": 1.5}')
               WHERE window_start = '2026-07-01Z'"""
        ),
        {f"{SCALE}: latent mean", f"{SCALE}: latent SD"},
        prepare=four_more_fits,
    ),
    Case(
        "samples_stay_as_they_were",
        sql(
            """UPDATE scored_snapshot SET counts = jsonb_set(counts, '{default,rapid}', '2000')
               WHERE month = '2026-07'"""
        ),
        {f"{SCALE}: reject rate"},
        prepare=four_more_fits,
    ),
    Case(
        "shares_of_the_sample_stay_as_they_were",
        sql("DELETE FROM response_log WHERE form_id = 'AB' AND completed_at >= '2026-07-01Z'"),
        {"form AB"},
        prepare=answers_in_earlier_months,
        others=True,
    ),
    Case(
        "the_linking_intercept_stays_near_its_history",
        sql(
            """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants,intercept}', '1.5')
               WHERE window_start = '2026-07-01Z'"""
        ),
        {SCALE},
        prepare=four_more_fits,
    ),
    Case(
        "score_tables_match_their_hash",
        sql(
            """UPDATE score_table SET scores = jsonb_set(scores, '{scaled,1}', '310');
               UPDATE issued_score SET scaled = 310"""
        ),
        {f"{SCALE}: table 1 of form F1"},
        prepare=a_handed_out_score,
    ),
    Case(
        "forms_and_adaptive_tests_have_different_names",
        sql(
            """WITH clash AS (INSERT INTO form (form_id, source) VALUES ('F1', 'file') RETURNING form_id)
               INSERT INTO adaptive_test (test_id, scale_id, effective_from, decided_by, reason, decision_id)
               SELECT form_id, 'default', now(), 'Ann', 'from before', 1 FROM clash"""
        ),
        {"F1"},
    ),
    Case(
        "issued_scores_agree_with_their_tables",
        sql("UPDATE issued_score SET scaled = 310"),
        {"eve"},
        prepare=a_handed_out_score,
    ),
    Case(
        "items_are_not_overexposed",
        sql(
            """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)
               SELECT 'again ' || n, '2026-07-16Z', 'casual ' || n, 'C03', true FROM generate_series(1, 1500) n"""
        ),
        {f"{SCALE}: C03"},
        prepare=many_casual_learners,
    ),
    Case(
        "items_are_not_overexposed",
        sql("UPDATE item_exposure SET given = 95 WHERE item_id = 'C03'"),
        {f"{SCALE}, test placement: C03"},
        prepare=exposure_of_adaptive_sessions,
    ),
    Case(
        "positions_do_not_change_difficulty",
        sql(
            """UPDATE response_log SET correct = false
               WHERE form_id IS NOT NULL AND position > 8 AND completed_at >= '2026-07-01Z'"""
        ),
        {SCALE},
    ),
    Case(
        "abilities_forecast_the_next_answers",
        sql("UPDATE mirt_ability SET theta = theta + 0.6 WHERE kind = 'monthly' AND window_end = '2026-07-01Z'"),
        {SCALE, f"{SCALE}: decile 6"},
        prepare=half_of_june_in_july_where_abilities_move,
        others=True,
        partition=JULY,
    ),
]


def test_every_invariant_has_a_planted_violation() -> None:
    assert {case.invariant for case in CASES} == set(BY_NAME)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.invariant)
def test_planted_violation_is_named_and_was_absent_before(world: World, case: Case) -> None:
    case.prepare(world)
    before = world.verdict(BY_NAME[case.invariant])
    assert (before.passed, [missing for missing in before.not_tested if missing.subject != OTHERS]) == (True, [])
    case.plant(world)
    found = world.verdict(BY_NAME[case.invariant]).violations
    expected = case.subjects if isinstance(case.subjects, set) else case.subjects(world)
    named = {violation.subject for violation in found}
    assert (named >= expected) if case.others else (named == expected)
    if case.partition is not None:
        assert {violation.partition for violation in found} == {case.partition}
    assert all(violation.observed and violation.expected for violation in found)


GRADES = BY_NAME["grades_follow_keys_and_maximum_scores"]


graded_otherwise = sql(
    f"""UPDATE question SET meta = meta || '{{"key": "B"}}' WHERE item_id = 'A01'; {CHOICES};
        UPDATE response_log SET correct = NOT correct WHERE {ONE_ANSWER}"""
)
LOGGED = ", ".join(column.name for column in response_log.columns)


def decided_change(world: World) -> None:
    first = world.scalar("SELECT publication_id::text FROM item_parameter_publication WHERE item_id = 'A01'")
    world.sql(
        """INSERT INTO release_decision (month, scale_id, item_id, fit_id, decision, decided_by, reason, effective_from)
           SELECT month, scale_id, item_id, fit_id, 'accept', 'somebody', 'it drifted', '2026-08-15Z'
           FROM item_parameter_publication WHERE item_id = 'A01'"""
    )
    again("decision", replaces=first)(world)


def exam_of_everybody(world: World) -> None:
    """C03 is on a form that half of the casual learners take."""
    many_casual_learners(world)
    world.sql(
        """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct, form_id)
           SELECT 'exam ' || n, '2026-07-16Z', 'casual ' || n, 'C03', true, 'X' FROM generate_series(1, 1500) n"""
    )


def exam_of_an_adaptive_test(world: World) -> None:
    """The exam of everybody is an adaptive test, on a scale with items by level."""
    exam_of_everybody(world)
    world.sql("""UPDATE calibration_scale SET rules = rules || '{"assignment": "by_level"}'""")
    declare_test(world, "X")


def drift_of_a_year_ago(world: World) -> None:
    judged_months(world)
    world.sql("UPDATE drift_alerts SET opened_at = opened_at - interval '1 year'")


NEIGHBOURS = {
    "a change with a decision": (decided_change, "", "one_set_is_in_force_and_changes_are_decided", set()),
    "grades that a person corrected last": (
        graded_otherwise,
        f"""INSERT INTO attempt_correction ({LOGGED}, how, corrected_by, reason, corrected_at)
            SELECT {LOGGED}, 'rescore', 'Ann', '', recorded_at FROM response_log WHERE item_id = 'A01'""",
        GRADES.name,
        set(),
    ),
    "grades by an external key that no answer contains": (
        graded_otherwise,
        "UPDATE response_log SET response = lower(response) WHERE item_id = 'A01'",
        GRADES.name,
        set(),
    ),
    "an item as exposed as its form": (exam_of_everybody, "", "items_are_not_overexposed", set()),
    "an item of an exam assigned by level": (
        exam_of_everybody,
        """UPDATE calibration_scale SET rules = rules || '{"assignment": "by_level"}'""",
        "items_are_not_overexposed",
        {f"{SCALE}: C03"},
    ),
    "an item of an adaptive test": (exam_of_an_adaptive_test, "", "items_are_not_overexposed", set()),
    "positions in an adaptive test": (
        lambda world: declare_test(world, "AB"),
        """UPDATE response_log SET correct = position <= 8 WHERE form_id = 'AB' AND completed_at >= '2026-07-01Z'""",
        "positions_do_not_change_difficulty",
        set(),
    ),
    "positions in practice": (
        nothing,
        "UPDATE response_log SET correct = position <= 8 WHERE form_id IS NULL AND completed_at >= '2026-07-01Z'",
        "positions_do_not_change_difficulty",
        {SCALE},
    ),
    "a session in which only the first answer counts": (
        nothing,
        """UPDATE response_log SET correct = NULL
           WHERE position > 1 AND (user_id, session_id) = (
               SELECT user_id, session_id FROM response_log
               WHERE form_id IS NOT NULL AND position > 1 AND completed_at >= '2026-07-01Z'
               ORDER BY attempt_id LIMIT 1)""",
        "positions_do_not_change_difficulty",
        set(),
    ),
    "a week as it is computed": (
        lambda world: write_week(world.connection, "2026-07-06", NOW),
        "",
        "kpis_are_whole",
        set(),
    ),
    **{
        f"large drift {name}": (drift_of_a_year_ago, change, "large_drift_is_decided_on", set())
        for name, change in {
            "with a decision": """
                INSERT INTO release_decision (month, scale_id, item_id, fit_id, decision, decided_by, reason)
                VALUES ('2026-07', 'default', 'A01', 'f', 'reject', 'ann', 'the leak is closed')""",
            "of an item removed from the bank": "DELETE FROM question WHERE item_id = 'A01'",
            "that has ended": "UPDATE drift_alerts SET closed_month = '2026-08'",
            "lowered to medium severity": "UPDATE drift_alerts SET severity = 'medium'",
        }.items()
    },
}
"""Near misses of violations: the preparation, the change (SQL), the invariant, and the subjects that it then names."""


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_near_violation_is_distinguished_from_a_violation(world: World, case: str) -> None:
    prepare, change, name, subjects = NEIGHBOURS[case]
    prepare(world)
    world.sql(change)
    verdict = world.verdict(BY_NAME[name])
    assert ({violation.subject for violation in verdict.violations}, verdict.not_tested) == (subjects, ())


def test_unchosen_key_is_named_with_the_choices_and_the_command(world: World) -> None:
    graded_otherwise(world)
    world.sql("UPDATE response_log SET response = response || '.0', correct = false WHERE item_id = 'A01'")
    [found] = world.verdict(GRADES).violations
    assert found.subject == f"{SCALE}: A01"
    assert re.fullmatch(r"nobody chose the key 'B' in [\d,]+ answers; chosen: '[BC]\.0' \([\d,]+\), .*", found.observed)
    assert "irt items rekey A01 --key OPTION --by NAME --reason WHY" in found.expected


def test_unchosen_key_is_named_even_if_answers_were_right_by_the_former_key(world: World) -> None:
    graded_otherwise(world)
    world.sql("""UPDATE question SET meta = meta || '{"key": "2"}' WHERE item_id = 'A01'""")
    assert world.verdict(GRADES).passed, "nothing has been graded by the new key yet"
    world.sql(
        """UPDATE response_log SET correct = false, recorded_at = recorded_at + interval '1 day'
           WHERE item_id = 'A01' AND completed_at >= '2026-07-01Z'"""
    )
    [found] = world.verdict(GRADES).violations
    assert "'B'" in found.observed


@pytest.mark.parametrize("others_chosen", [True, False])
def test_few_wrong_answers_are_named_only_if_no_key_of_the_scale_was_chosen(world: World, others_chosen: bool) -> None:
    """At most MIN_WRONG − 1 answers to each item have a choice."""
    world.sql("""UPDATE question SET meta = meta || '{"key": "B"}' WHERE scale_id = %s""", SCALE)
    world.sql(
        """UPDATE response_log r SET response = CASE WHEN n < %s THEN 'B.0' END, correct = false
           FROM (SELECT attempt_id, row_number() OVER (PARTITION BY item_id ORDER BY attempt_id) AS n
                 FROM response_log) numbered
           WHERE numbered.attempt_id = r.attempt_id""",
        activity.MIN_WRONG,
    )
    if others_chosen:
        world.sql(
            """UPDATE response_log SET response = 'B', correct = true
               WHERE attempt_id = (SELECT min(attempt_id) FROM response_log WHERE item_id = 'A01')"""
        )
    found = world.verdict(GRADES).violations
    assert bool(found) is not others_chosen


def test_grades_of_a_large_log_are_compared_on_sundays_and_open_violations_daily(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log counts as larger than any sample, and no page of the log is sampled."""
    graded_otherwise(world)
    monkeypatch.setattr(activity, "MAX_GRADES", 0)
    world.sql("ANALYZE response_log")

    def found(at: datetime) -> tuple[Violation, ...]:
        (verdict,) = evaluate(replace(world.look(), now=at), [GRADES])
        assert not verdict.crashed
        return verdict.violations

    weekday, sunday = NOW, NOW + timedelta(days=3)
    assert found(weekday) == ()
    [seen] = found(sunday)
    world.sql(
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, observed)
           VALUES ('run', %s, '', %s, false, '')""",
        GRADES.name,
        seen.subject,
    )
    assert found(weekday) == (seen,)


@pytest.mark.parametrize("name", ["one_ability_explains_a_scale", "items_are_locally_independent"])
@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (
            sql("""UPDATE mirt_fit_meta SET model_spec = model_spec || '{"fit_statistics": null}'"""),
            "irt calibrate --month 2026-07",
        ),
        (sql("UPDATE mirt_fit_meta SET superseded_at = now()"), "irt calibrate --month 2026-07"),
        (
            lambda world: (
                stored_statistics("q3,pairs", "0")(world),
                stored_statistics("parallel", "null")(world),
            ),
            "no two items were seen by 200 learners",
        ),
    ],
    ids=["no statistics", "no fit", "no pairs"],
)
def test_invariant_is_not_tested_if_the_last_fit_lacks_its_statistics(
    world: World, name: str, plant: Callable[[World], None], reason: str
) -> None:
    pairs_seen_by_many(world)
    plant(world)
    verdict = world.verdict(BY_NAME[name])
    assert verdict.violations == ()
    (missing,) = verdict.not_tested
    assert (reason in missing.why, missing.subject) == (True, SCALE)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (
            "UPDATE response_log SET form_id = 'X' WHERE form_id IS NULL",
            "0 learners of scale default in 2026-07 outside",
        ),
        ("DELETE FROM question WHERE item_id NOT IN ('A01', 'B01', 'C03')", "see 33% of its 3 items on average"),
    ],
    ids=["forms alone", "a small bank"],
)
def test_exposure_is_not_tested_if_items_cannot_be_kept_secret(world: World, plant: str, reason: str) -> None:
    world.sql("DELETE FROM response_log")
    many_casual_learners(world)
    world.sql(plant)
    verdict = world.verdict(BY_NAME["items_are_not_overexposed"])
    assert (verdict.violations, [reason in missing.why for missing in verdict.not_tested]) == ((), [True])


def test_recently_fitted_month_may_wait_for_its_comparison(world: World) -> None:
    judged_months(world)
    world.made = {}
    world.sql("UPDATE mirt_fit_meta SET fitted_at = %s", NOW - timedelta(hours=5))
    verdict = world.verdict(BY_NAME["every_green_month_was_judged"])
    assert (verdict.violations, [missing.partition for missing in verdict.not_tested]) == ((), [JUNE, JULY])
    red_july(world)
    world.sql("UPDATE mirt_fit_meta SET fitted_at = %s", JUDGED)
    assert {v.partition for v in world.verdict(BY_NAME["every_green_month_was_judged"]).violations} == {JUNE}


VERDICTS = BY_NAME["verdicts_follow_from_answers_and_rules"]


def test_every_day_is_judged_again_within_a_few_evaluations(world: World) -> None:
    world.sql("UPDATE attempt_verdict SET score = 1 - score")
    days = [str(day) for (day,) in world.connection.execute("SELECT day FROM judged_day ORDER BY 1")]
    found = [
        {
            violation.subject
            for violation in evaluate(replace(world.look(), now=NOW + timedelta(n)), [VERDICTS])[0].violations
        }
        for n in range(3)
    ]
    assert sorted(map(len, found)) == [len(days) % 28, 28, 28]
    assert set().union(*found) == {*days}


def test_day_that_waits_to_be_judged_is_no_violation(world: World) -> None:
    world.sql("UPDATE response_log SET correct = NOT correct")
    [verdict] = evaluate(world.look(), [VERDICTS])
    assert (verdict.violations, {missing.why.partition(" ")[2] for missing in verdict.not_tested}) == (
        (),
        {"waits for the job judge_attempts"},
    )


def test_invariants_run_on_a_read_only_connection_but_for_temporary_tables(measured: Settings) -> None:
    with Database(measured).connect() as connection:
        connection.read_only = True
        look = World(connection, folder_store(measured)).look()
        verdicts = evaluate(look, [one for one in INVARIANTS if one is not VERDICTS])
    assert [(verdict.invariant.name, verdict.crashed) for verdict in verdicts if verdict.crashed] == []


def test_rows_that_an_invariant_writes_are_rolled_back(world: World) -> None:
    def deletes_learners(context: InvariantContext) -> Iterator[Violation | NotTested]:
        context.connection.execute("DELETE FROM learner")
        yield Violation("learners", "none", "some")

    learners = world.scalar("SELECT count(*) FROM learner")
    world.verdict(Invariant(deletes_learners, "error", "learners", "nothing", "nothing"))
    assert world.scalar("SELECT count(*) FROM learner") == learners


def test_crashed_invariant_is_no_violation_and_does_not_stop_the_remaining_invariants(world: World) -> None:
    def divides_by_zero(context: InvariantContext) -> Iterator[Violation | NotTested]:
        context.connection.execute("SELECT 1/0")
        yield Violation("never", "reached", "")

    crashing = Invariant(divides_by_zero, "error", "", "", "")
    first, second = evaluate(world.look(), [crashing, BY_NAME["anchors_agree"]])
    assert (first.passed, first.violations, "division by zero" in first.crashed) == (False, (), True)
    assert second.passed


# -- stored violations -------------------------------------------------------------------------------
# Stored violations: one row from opening to end, one alert each, the report, the commands.

TODAY = datetime(2026, 8, 20, tzinfo=UTC)


def items_are_fine(_context: InvariantContext) -> Findings:
    return []


FINE = Invariant(items_are_fine, "error", "items", "Items are fine.", "mend them")


class History:
    """Consecutive checks, each with its violations."""

    def __init__(self, database: Database) -> None:
        self.database, self.n = database, 0

    def look(self, *subjects: str, untested: tuple[NotTested, ...] = (), crashed: str = "", **others: Any) -> None:
        self.n += 1
        violations = tuple(Violation(s, "broken", "whole", others.get("partition", "")) for s in subjects)
        verdict = InvariantResult(others.get("invariant", FINE), violations, untested, crashed)
        call(self.database, history.store_results, f"run {self.n}", history.Report(TODAY, (verdict,)))

    def open(self) -> list[tuple[Any, ...]]:
        return rows(
            self.database,
            """SELECT run, subject FROM invariant_result
               WHERE subject <> '' AND resolved_at IS NULL ORDER BY run, subject""",
        )

    def alerts(self) -> list[tuple[Any, ...]]:
        return rows(self.database, "SELECT subjects, resolved_at IS NULL FROM alert ORDER BY alert_id")


@pytest.fixture
def days(database: Database) -> History:
    return History(database)


def test_persistent_violation_is_a_single_row_and_a_single_alert(days: History) -> None:
    for _ in range(3):
        days.look("q1", "q2")
    assert (days.open(), days.alerts()) == ([("run 1", "q1"), ("run 1", "q2")], [(["q1", "q2"], True)])
    verdicts = rows(days.database, "SELECT run, passed, observed FROM invariant_result WHERE subject = '' ORDER BY run")
    assert verdicts == [(f"run {n}", False, "2 violations") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("looks", "still_open", "alerts"),
    [
        ([("q1", "q2"), ("q2",)], [("run 1", "q2")], [(["q1", "q2"], True)]),
        ([("q1", "q2"), ("q2",), ()], [], [(["q1", "q2"], False)]),
        ([("q1",), ("q1", "q2"), ("q2",)], [("run 2", "q2")], [(["q1"], False), (["q2"], True)]),
        ([("q1",), (), ("q1",)], [("run 3", "q1")], [(["q1"], False), (["q1"], True)]),
    ],
    ids=["one of two fixed", "both fixed", "a later violation", "a recurrence"],
)
def test_fixed_violation_is_closed_and_its_alert_ends_with_the_last_violation(
    days: History, looks: list[tuple[str, ...]], still_open: list[Any], alerts: list[Any]
) -> None:
    for subjects in looks:
        days.look(*subjects)
    assert (days.open(), days.alerts()) == (still_open, alerts)


def test_violations_of_an_invariant_open_an_alert_per_month(days: History) -> None:
    days.look("q1", partition="2026-06")
    days.look("q1", partition="2026-07")
    assert rows(days.database, "SELECT partition, resolved_at IS NULL FROM alert ORDER BY alert_id") == [
        ("2026-06", False),
        ("2026-07", True),
    ]


SAID = "no answers"


@pytest.mark.parametrize(
    ("look", "still_open", "stored"),
    [
        ({"untested": (NotTested(SAID),)}, {"q1", "r1"}, (True, None, SAID)),
        ({"untested": (NotTested(SAID, subject="q"),)}, {"q1"}, (True, None, SAID)),
        ({"untested": (NotTested(SAID, partition="2026-05"),)}, set(), (True, None, SAID)),
        ({"untested": (NotTested(SAID, partition="2026-06"),)}, {"q1", "r1"}, (True, None, SAID)),
        (
            {"crashed": "TypeError: so"},
            {"q1", "r1"},
            (False, "it could not be evaluated: TypeError: so", None),
        ),
    ],
)
def test_untested_or_crashed_invariant_closes_no_violation(
    days: History, look: dict[str, Any], still_open: set[str], stored: tuple[object, ...]
) -> None:
    days.look("q1", "r1", partition="2026-06")
    days.look(partition="2026-06", **look)
    found = rows(days.database, "SELECT passed, observed, not_tested FROM invariant_result WHERE run = 'run 2'")
    assert ({subject for _, subject in days.open()}, found) == (still_open, [stored])


def test_alert_of_a_violation_contains_the_example_the_partition_and_the_fix(days: History) -> None:
    days.look("q1", partition="2026-06")
    (found,) = rows(days.database, "SELECT severity, what, partition, kind, fix, link FROM alert")
    assert found == (
        "error",
        "invariant violated: items are fine. Example: q1: broken",
        "2026-06",
        "items",
        "mend them",
        "/assets/invariant_report?view=checks&checkDetail=items_are_fine",
    )


def test_text_of_an_alert_about_learners_names_no_learner(days: History) -> None:
    """Checks the text, which goes to chats; the installation's rule applies to the alert's subjects alone."""
    days.look("default: ann", invariant=Invariant(items_are_fine, "error", "learners", "Learners are fine.", "look"))
    found = rows(days.database, "SELECT what, subjects FROM alert")
    assert found == [("invariant violated: items are fine. Example: broken", ["default: ann"])]


def test_red_month_reported_by_its_checks_opens_no_second_alert(days: History) -> None:
    invariant = Invariant(items_are_fine, "error", "scales", "Months are green.", "mend it", alerted_by_checks=True)
    call(days.database, open_alert, Alert("check x 2026-06", "error", "a check failed", "look", partition="2026-06"))
    days.look("default", partition="2026-06", invariant=invariant)
    assert len(days.alerts()) == 1
    days.look("default", partition="2026-07", invariant=invariant)
    assert len(days.alerts()) == 2


# -- the asset ---------------------------------------------------------------------------------------


def materialise(settings: Settings) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return Graph(settings.model_copy(update={"irt_first_month": "2026-06"}), instance).run(
            "2026-08-01", "invariants"
        )


def test_report_contains_a_check_for_every_invariant(settings: Settings) -> None:
    result = materialise(settings)
    assert result.success
    passed = {name: evaluation.passed for name, evaluation in checks(result).items()}
    assert passed == {one.name: True for one in INVARIANTS}
    reported = metadata(result, "invariant_report")
    assert reported["in a sentence"].startswith("incomplete (")
    assert "nothing is published yet" in reported["not tested"]


def test_crashed_invariant_fails_the_run_and_the_remaining_results_are_stored(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(_context: InvariantContext) -> Iterator[Violation | NotTested]:
        raise ZeroDivisionError("so")

    broken = Invariant(crashes, "error", "items", "", "")
    evaluate_all = history.evaluate_all
    monkeypatch.setattr(
        history, "evaluate_all", lambda *args: evaluate_all(*args, invariants=(broken, *INVARIANTS[1:]))
    )
    assert not materialise(settings).success
    stored = rows(Database(settings), "SELECT invariant, observed FROM invariant_result WHERE NOT passed")
    assert stored == [("crashes", "it could not be evaluated: ZeroDivisionError: so")]


# -- the commands ------------------------------------------------------------------------------------


@pytest.fixture
def invariants(irt: IrtOf, settings: Settings, now: datetime) -> Irt:
    return partial(irt(settings.model_copy(update={"irt_first_month": f"{now:%Y-%m}"})), "invariants")


def test_run_lists_untested_invariants_first_and_fails_on_untested_with_strict(invariants: Irt) -> None:
    done = invariants("run", "--json")
    assert done.code == 0
    report = done.json
    assert next(iter(report)) == "incomplete"
    reason = {one["invariant"]: one["why"] for one in report["incomplete"]}
    assert reason["anchors_are_still_in_the_bank"] == "no scale has frozen anchors yet: `irt scale init`"
    assert {one["name"] for one in report["invariants"]} == {one.name for one in INVARIANTS}
    assert invariants("run", "--strict").code == 1


def test_run_names_and_stores_violations_and_exits_with_code_1(invariants: Irt, settings: Settings) -> None:
    with Database(settings).connect() as connection:
        connection.execute("INSERT INTO question (item_id) VALUES ('q1')")
        connection.execute(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES ('default', 'q1', '{"a": -1, "b": 0, "c": 0}', '2026-01-01Z', 'origin', 'so', 'x', 'x')"""
        )
    done = invariants("run")
    assert (done.code, missing_sentences(done.out, "violated published_items_can_be_scored_with", "q1", "a = -1")) == (
        1,
        [],
    )
    (stored,) = rows(
        Database(settings),
        """SELECT subject, observed FROM invariant_result
           WHERE invariant = 'published_items_can_be_scored_with' AND subject <> ''""",
    )
    assert stored == ("q1", "a = -1, SE(a) = None, SE(b) = None")


def test_list_command_explains_every_invariant(invariants: Irt) -> None:
    done = invariants("list")
    assert (
        done.code,
        missing_sentences(done.out, *(words for one in INVARIANTS for words in (one.name, one.protects, one.fix))),
    ) == (0, [])
    assert len(invariants("list", "--json").json) == len(INVARIANTS)
