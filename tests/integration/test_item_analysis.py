"""Item analysis from the log: the reference numbers of SAT12, days, forms, and the evidence against keys."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from irt_assets.common.job_names import ITEM_ANALYSIS_JOB
from irt_assets.common.partitions import day_bounds
from irt_assets.intake.load import import_attempts
from irt_assets.item_analysis.assets import build_key_checks
from irt_assets.item_analysis.forms import import_forms, read_forms, take_from_log
from irt_assets.item_analysis.key_evidence import NAMED_FROM, follow_keys, named_options
from irt_assets.item_analysis.periods import analyse_day, analyse_month
from irt_assets.item_analysis.stored import read_forms as stored_forms, read_items
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from jobs.plans import find_plan
from jobs.schedules import find_missing
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.rooms import call, run_sql

SAT12 = """
name: SAT12
wide: {items: "item_*"}
columns: {user_id: person}
constants: {form_id: SAT12}
null_values: ["8"]
"""
FORM = "form_id,item_id,position\n" + "".join(f"SAT12,item_{k},{k}\n" for k in range(1, 33))


@pytest.fixture
def sat12(database: Database, store: ObjectStore, shared: Path, tmp_path: Path) -> Database:
    """SAT12 with choices as answers of October; code 8 is an omission."""
    mapping, forms = tmp_path / "sat12.yaml", tmp_path / "forms.csv"
    mapping.write_text(SAT12)
    forms.write_text(FORM)
    data, key = shared / "data" / "sat12_raw_choices.csv", shared / "data" / "sat12_key.csv"
    import_attempts(database, [data], mapping=str(mapping), key=key, at=date(2026, 10, 1), first_month="2026-10")
    assert {*import_forms(database, forms)["form_id"]} == {"SAT12"}
    take_snapshot(database, store, "2026-10", None)
    return database


def key_check(database: Database, store: ObjectStore, partition: str) -> dg.AssetCheckResult:
    """The result of `keys_are_right` of a month or a day."""
    of_month, of_day = build_key_checks(
        dg.StaticPartitionsDefinition([partition]), dg.StaticPartitionsDefinition([partition])
    )
    check: Any = (of_month if len(partition) == 7 else of_day).node_def.compute_fn.decorated_fn
    with dg.DagsterInstance.ephemeral() as instance:
        result: dg.AssetCheckResult = check(rooms.check_context(partition, instance), database, store)
    return result


@pytest.mark.ci
def test_sat12_with_choices_has_the_reference_numbers_and_names_item_32(sat12: Database, store: ObjectStore) -> None:
    """psych and ShinyItemAnalysis give these numbers, here rounded, if code 8 is wrong."""
    (scale_id,) = analyse_month(sat12, store, "2026-10")
    of_form, of_all = call(sat12, stored_forms, scale_id, "2026-10")[::-1]
    assert (of_form.form_id, of_form.source, of_form.n, sum(of_form.scores)) == ("SAT12", "file", 600, 600)
    assert of_all.statistics == of_form.statistics
    statistics = [of_form.statistics[name] for name in ("mean", "sd", "alpha", "sem")]
    assert statistics == pytest.approx([18.20, 5.05, 0.798, 2.27], abs=0.005)
    items = call(sat12, read_items, scale_id, "2026-10", form_id="SAT12")
    assert [item.item_id for item in items] == [f"item_{k}" for k in range(1, 33)]  # by position
    low = {item.item_id: item.item_rest for item in items if "min_item_rest" in item.flags}
    assert low == pytest.approx({"item_9": 0.127, "item_12": 0.076, "item_21": 0.136, "item_32": 0.037}, abs=5e-4)
    distractors = [(item.item_id, option) for item in items for option in item.options if not option.is_key]
    attractive = {
        f"{name}/{o.option}": o.rest_correlation for name, o in distractors if (o.rest_correlation or 0) > 0.05
    }
    assert attractive == pytest.approx(
        {"item_8/5": 0.076, "item_12/3": 0.069, "item_23/3": 0.072, "item_32/3": 0.203}, abs=5e-4
    )
    for flag in ("above_key", "beats_key"):
        assert [(name, o.option) for name, o in distractors if flag in o.flags] == [("item_32", "3")]
    assert (len(distractors), sum("min_option_share" in o.flags for _, o in distractors)) == (128, 49)
    assert all(item.omitted + item.not_reached == 600 - sum(o.n for o in item.options) for item in items)
    result = key_check(sat12, store, "2026-10")
    assert not result.passed
    assert result.description == (
        "2026-10: item_32: Option 3 (chosen by 44 %, r = 0.20) beats the key 5 (chosen by 16 %, r = 0.04): the key may "
        "be wrong."
    )
    assert "irt items rekey item_32 --key 3" in str(result.metadata["how to fix it"].value)


@pytest.mark.ci
def test_month_stores_the_options_by_model_near_the_truth(database: Database, store: ObjectStore) -> None:
    """500 learners, 12 items of four options by the nominal model; 95 % intervals of 96 values contain 83 or more."""
    rng, items = np.random.default_rng(7), [f"Q{j:02d}" for j in range(12)]
    theta = rng.normal(size=500)
    true = rng.normal(0, 0.5, (2, 12, 4))
    true[0, :, 0] += 1.5  # option A is the key
    true -= true.mean(axis=2, keepdims=True)
    logs = theta[:, None, None] * true[0] + true[1]
    chosen = (logs + rng.gumbel(size=logs.shape)).argmax(axis=2)  # softmax
    chosen[:3, 0] = 4  # too few for a curve
    rooms.add_items(database, dict.fromkeys(items))
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}'""")
    start = datetime(2026, 10, 5, 9, tzinfo=UTC)
    rooms.add_attempts(
        database,
        [
            rooms.attempt(f"u{i}", item, start + timedelta(minutes=j), correct=k == 0, response="ABCDE"[k])
            for i, row in enumerate(chosen.tolist())
            for j, (item, k) in enumerate(zip(items, row, strict=True))
        ],
    )
    take_snapshot(database, store, "2026-10", None)
    analyse_month(database, store, "2026-10")
    stored = call(database, read_items, rooms.SCALE, "2026-10", form_id="")
    assert [item.item_id for item in stored] == items
    found = [(j, curve) for j, item in enumerate(stored) for curve in item.curves]
    assert len(found) == 48
    assert all(curve.is_key == (curve.option == "A") for _, curve in found)
    values = np.array([(curve.slope, curve.intercept) for _, curve in found])
    errors = np.array([(curve.slope_se, curve.intercept_se) for _, curve in found])
    z = (values - [true[:, j, "ABCD".index(curve.option)] for j, curve in found]) / errors
    assert (np.abs(z) < 1.96).sum() >= 83  # 91 expected, SD of independent values 2.1
    assert errors.max() < 0.5, "SDs of the true values are 0.5 and more, so larger errors would say nothing"
    for item in stored:
        assert [point.theta for point in item.information] == [-1, 0, 1]
        assert all(point.right_wrong > 0 and point.distractors >= 0 for point in item.information)


@pytest.mark.ci
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("SAT12,item_1,0\n", "row 2: position: "),
        ("SAT12,item_1,1\nSAT12,item_2,\n", "row 3: position: Field required"),
        ("SAT12,item_1,1\nSAT12,item_1,2\n", "row 3: form SAT12 already has item item_1"),
        ("SAT12,item_1,1\nSAT12,item_2,1\n", "row 3: form SAT12 already has item item_1 in position 1"),
        ("SAT12,item_1,1\nSAT12,,1\n", "row 3: form SAT12 already has item item_1 in position 1"),
        ("SAT12,,1\nSAT12,,1\n", "row 2: form SAT12 must have an item in the column item_id, got seed places only"),
        ("SAT12,item_99,1\n", "row 2: item item_99 is not in the bank; import it first: `irt import questions FILE`"),
    ],
)
def test_a_file_of_forms_with_a_wrong_row_is_refused_as_a_whole(
    database: Database, tmp_path: Path, rows: str, message: str
) -> None:
    rooms.add_items(database, {f"item_{k}": None for k in range(1, 3)})
    file = tmp_path / "forms.csv"
    file.write_text("form_id,item_id,position\n" + rows)
    with pytest.raises(PermanentFailure, match=r"forms\.csv") as refused:
        import_forms(database, file)
    assert message in str(refused.value)
    assert call(database, read_forms).empty


@pytest.mark.ci
def test_forms_are_taken_from_the_log_if_all_learners_agree_and_imported_forms_stay(
    database: Database, tmp_path: Path
) -> None:
    rooms.add_items(database, dict.fromkeys(("A", "B", "C")))
    file = tmp_path / "forms.csv"
    file.write_text("form_id,item_id,position,max_score,scored\nimported,A,7,3,no\n")
    import_forms(database, file)
    agreed = [
        (form, learner, item, k)
        for form in ("same", "imported")
        for learner in (1, 2)
        for k, item in enumerate("BA", 1)
    ]
    other = [("other", 1, "A", 1), ("other", 2, "B", 1), ("unplaced", 1, "A", 0), ("", 1, "A", 1), ("same", 1, "C", 3)]
    answers = pd.DataFrame([*agreed, *other], columns=["form", "learner", "item", "position"])
    answers = answers.assign(max_score=1, seed=answers["item"] == "C")
    call(database, take_from_log, answers, whole_month=True)
    same = [("same", "log", "B", 1, 1, True), ("same", "log", "A", 2, 1, True)]
    imported = [("imported", "file", "A", 7, 3, False)]

    def known() -> list[tuple[Any, ...]]:
        columns = ["form_id", "source", "item_id", "position", "max_score", "scored"]
        return [*call(database, read_forms)[columns].itertuples(index=False, name=None)]

    assert known() == imported + same
    changed = answers.assign(position=answers["position"] * answers["learner"])
    call(database, take_from_log, changed, whole_month=False)
    assert known() == imported + same
    call(database, take_from_log, changed, whole_month=True)
    assert known() == imported


@pytest.mark.ci
def test_day_before_and_after_judging_has_the_same_analysis(world_database: Database) -> None:
    [(day,)] = rooms.rows(
        world_database, "SELECT completed_at::date::text FROM response_log GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    before = analyse_day(world_database, day)
    start, end = day_bounds(day)
    judge_differing(world_database, start.date(), end.date())
    after = analyse_day(world_database, day)
    assert [scale.items for scale in before.values()] == [scale.items for scale in after.values()]
    assert {row.rest for scale in after.values() for row in scale.items} <= {"theta", "share"}
    assert any(option.trace for scale in after.values() for row in scale.items for option in row.options)


@pytest.mark.ci
def test_evidence_names_a_wrong_key_over_days_and_begins_again_with_another_key(database: Database) -> None:
    rooms.add_items(database, {"X": None, "Y": None})
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'X'""")
    rng = np.random.default_rng(3)
    theta = rng.normal(size=400)
    knows = rng.random(400) < 1 / (1 + np.exp(-2 * theta))
    option = np.where(knows, "B", rng.choice(["A", "C"], 400))
    answers = pd.concat(
        pd.DataFrame({"item": item, "option": option, "form": "", "at": np.arange(400), "rest": theta}) for item in "XY"
    )
    keys = {"X": ("A",), "Y": ("B",)}
    days = {"2026-09-01": answers[answers["at"] < 60], "2026-09-02": answers[answers["at"] >= 60]}

    def stored() -> list[tuple[Any, ...]]:
        return rooms.rows(database, "SELECT item_id, day::text, key, n, e_value FROM key_evidence ORDER BY 2, 1")

    for day, of_day in days.items():
        call(database, follow_keys, day, keys, of_day)
    first = stored()
    assert [row[3] for row in first] == [60, 60, 400, 400]
    assert first[2][4] >= NAMED_FROM > max(first[k][4] for k in (0, 1, 3))
    assert call(database, named_options, rooms.SCALE, "2026-09-02") == {"X": "B"}
    call(database, follow_keys, "2026-09-03", keys, days["2026-09-01"])
    assert call(database, named_options, rooms.SCALE, "2026-09-03") == {}, "it was named the day before"
    call(database, follow_keys, "2026-09-03", keys, answers[:0])
    call(database, follow_keys, "2026-09-02", keys, days["2026-09-02"])
    assert stored() == first
    for day, changed in (("2026-09-03", {"X": ("C",)}), ("2027-01-01", keys)):
        call(database, follow_keys, day, changed, days["2026-09-01"])
        assert [row[3] for row in stored() if row[1] == day] == [60] * len(changed)
    run_sql(database, """UPDATE question SET meta = '{"key": "B"}' WHERE item_id = 'X'""")
    assert call(database, named_options, rooms.SCALE, "2026-09-02") == {}


@pytest.mark.ci
def test_running_day_is_requested_after_an_answer_with_a_choice_and_after_its_verdicts_change(
    database: Database,
) -> None:
    plan, tick = find_plan(ITEM_ANALYSIS_JOB), datetime(2026, 9, 14, 12, 50, tzinfo=UTC)
    rooms.add_items(database, {"X": None})
    with dg.DagsterInstance.ephemeral() as instance:

        def requested() -> list[str]:
            return find_missing(instance, database, plan, tick, "2026-09")[1]

        def make(day: str) -> None:
            instance.report_runless_asset_event(dg.AssetMaterialization(plan.asset, partition=day))

        for day in ("2026-09-11", "2026-09-12", "2026-09-13"):
            make(day)
        assert requested() == []
        at = datetime(2026, 9, 14, 9, tzinfo=UTC)
        rooms.add_attempts(database, [rooms.attempt("u1", "X", at)])
        assert requested() == []
        rooms.add_attempts(database, [rooms.attempt("u2", "X", at, response="A")])
        assert requested() == ["2026-09-14"]
        make("2026-09-14")
        assert requested() == []
        analyse_day(database, "2026-09-14")
        assert requested() == []
        judge_differing(database, date(2026, 9, 14), date(2026, 9, 15))
        assert requested() == ["2026-09-14"]
        analyse_day(database, "2026-09-14")
        assert requested() == []
    newest = plan.newest_due(tick, "2026-09")
    assert newest is not None
    assert newest[0] == "2026-09-13"  # the running day is never late
