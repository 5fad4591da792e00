"""The files of a simulation contain the simulated log, in the columns of the platform's own import format."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.simulation.files import write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import Fault, VocabularyScenario
from resources.tables import learner, question, response_log
from tests.testbed.scenario import AnyScenario

SCENARIO = AnyScenario(
    months=("2026-07", "2026-08"),
    now=datetime(2026, 8, 25, tzinfo=UTC),
    learners_per_month=150,
    items_per_block=12,
    anchors_per_block=4,
    practice_items=10,
    late_rate=0.05,
    faults=(Fault("wrong_key"), Fault("all_correct")),
)


@pytest.fixture(scope="module")
def simulated():
    return simulate(SCENARIO)


@pytest.fixture(scope="module")
def files(simulated, tmp_path_factory):
    return write(*simulated, tmp_path_factory.mktemp("simulated") / "not" / "there")


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_columns_of_the_files_equal_the_columns_of_the_tables(files):
    """Some columns are absent, because simulated answers are not corrected, pulled, sent or scored, and because the
    server computes max_score and learner_key."""
    without = {"revision", "sent_at", "pulled_from", "score"}
    assert set(pq.read_schema(files.attempts).names) == {c.name for c in response_log.columns} - without
    in_bank = {c.name for c in question.columns} - {"max_score"}
    assert all(set(line) == in_bank for line in lines(files.questions))
    given = {c.name for c in learner.columns} - {"learner_key"}
    assert all(set(line) == given for line in lines(files.learners))


def test_required_columns_contain_no_null(files):
    table = pq.read_table(files.attempts)
    for column in response_log.columns:
        if not column.nullable and column.name != "revision":
            assert table[column.name].null_count == 0, column.name


def test_times_are_in_utc_and_attempt_ids_are_unique(files):
    tables = pa.concat_tables([pq.read_table(files.attempts), pq.read_table(files.late_attempts)])
    for name in ("started_at", "completed_at", "recorded_at"):
        assert tables.schema.field(name).type == pa.timestamp("us", tz="UTC")
    assert tables["attempt_id"].combine_chunks().unique().__len__() == tables.num_rows


def test_rows_of_the_file_equal_the_simulated_log(files, simulated):
    log, truth = simulated
    arrived = np.flatnonzero(log.arrived)
    rows = pq.read_table(files.attempts).to_pylist()
    assert len(rows) == arrived.size
    for k in np.random.default_rng(0).choice(arrived.size, 300, replace=False):
        row, r = rows[k], arrived[k]
        assert row["user_id"] == truth.learners.user_ids[log.person[r]]
        assert row["item_id"] == truth.bank.item_ids[log.item[r]]
        assert row["correct"] == {1: True, 0: False, -1: None}[int(log.correct[r])]
        assert row["completed_at"].timestamp() * 1000 == pytest.approx(log.completed_at[r].astype(np.int64))
        assert (row["mode"], row["form_id"] is None) == ("sandbox" if log.sandbox[r] else "live", log.form[r] < 0)
        assert (row["response_time_ms"] is None) == (row["correct"] is None)


def test_answers_that_have_not_arrived_are_only_in_the_late_file(files, simulated):
    late = pq.read_table(files.late_attempts)
    assert late.num_rows == np.sum(~simulated[0].arrived) > 0
    assert min(late["recorded_at"].to_pylist()) > SCENARIO.now
    assert max(pq.read_table(files.attempts)["recorded_at"].to_pylist()) <= SCENARIO.now


def test_only_anchors_have_parameters_and_the_bank_has_the_planted_wrong_key(files, simulated):
    truth = simulated[1]
    questions = {line["item_id"]: line["meta"] for line in lines(files.questions)}
    anchors = {item for item, meta in questions.items() if "anchor" in meta["tags"]}
    assert (len(anchors), anchors) == (12, {item for item, meta in questions.items() if "irt" in meta})
    for item in anchors:
        irt = questions[item]["irt"]
        assert abs(irt["cov_ab"]) < irt["a_se"] * irt["b_se"]
        assert irt["n"] == 1000
    fault = next(f for f in truth.bank.faults if f.kind == "wrong_key")
    right = truth.bank.options[truth.bank.index(fault)[0], 0]
    assert questions[fault.item_ids[0]]["key"] != "ABCD"[right]


def test_learners_of_the_log_and_of_the_file_are_the_same(files, simulated):
    known = {line["user_id"] for line in lines(files.learners)}
    used = set()
    for path in (files.attempts, files.late_attempts):
        used |= set(pq.read_table(path)["user_id"].to_pylist())
    assert known == used
    assert any(line["is_test"] for line in lines(files.learners))


def test_same_scenario_writes_the_same_bytes(files, simulated, tmp_path):
    seen = []
    again = write(*simulate(SCENARIO), tmp_path, progress=seen.append)
    assert again.attempts.read_bytes() == files.attempts.read_bytes()
    assert again.truth.read_bytes() == files.truth.read_bytes()
    assert seen == ["questions.jsonl", "learners.jsonl", "attempts.parquet", "late_attempts.parquet", "truth.json"]
    other = write(*simulate(replace(SCENARIO, seed=9)), tmp_path)
    assert other.attempts.read_bytes() != files.attempts.read_bytes()


def test_scales_of_the_demo_share_learners_but_no_item_form_or_attempt(tmp_path):
    months, now = SCENARIO.months, SCENARIO.now
    first = AnyScenario(months, now, learners_per_month=60)
    second = VocabularyScenario(months, now, learners_per_month=40)
    made = [write(*simulate(scenario), tmp_path / scenario.scale_id) for scenario in (first, second)]
    one, other = ([pq.read_table(path) for path in (f.attempts, f.late_attempts)] for f in made)
    for column in ("attempt_id", "session_id", "item_id", "form_id"):
        values = [{v for table in tables for v in table[column].to_pylist()} - {None} for tables in (one, other)]
        assert all(values), column
        assert values[0].isdisjoint(values[1]), column
    assert {line["scale_id"] for line in lines(made[1].questions)} == {"vocabulary"}
    accounts = [{line["user_id"]: line["is_test"] for line in lines(files.learners)} for files in made]
    shared = accounts[0].keys() & accounts[1].keys()
    assert len(shared) > 0.9 * len(accounts[1])
    assert not any(accounts[0][user] or accounts[1][user] for user in shared)
