"""Equating of forms: every method against the library and the truth, the choice, and the table that it makes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from irt_assets.common.partitions import Month
from irt_assets.common.wording import sentence
from irt_assets.demo.second_form import equate_second_form
from irt_assets.intake.bank import QUESTIONS, import_bank_file
from irt_assets.item_analysis.forms import import_forms
from irt_assets.reports.equating_blocks import design_in_words
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.scores import equating
from irt_assets.scores.equating import (
    EquatingComparison,
    choose_equating,
    compare_methods,
    joint_covariance,
    preview_choice,
)
from irt_assets.scores.form_tables import compute_month
from irt_assets.scores.releases import release_table, released_tables
from irt_assets.scores.standards import plan_mark, set_mark
from irt_psychometrics import ItemParameters
from irt_psychometrics.equating import ScoreCounts, equate, equate_by_items
from irt_psychometrics.scoring import ParameterErrors
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.rooms import call, run_sql
from tests.helpers.score_world import (
    FORMS,
    MONTH,
    NOW,
    RULES,
    SIGNED,
    analyse,
    build_exam,
    item_values,
    make_tables,
    sit,
)
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import IrtOf

BY_PERCENTILES = ("equipercentile", "kernel")


def build(database: Database, folder: Path, **options: object) -> Database:
    """Two forms whose groups are .3 SD apart; the table of the old one is released."""
    build_exam(database, folder / "exam", **{"learners": 1500, "shift": 0.3} | options)  # type: ignore[arg-type]
    make_tables(database)
    release_table(database, rooms.SCALE, "F1", **SIGNED)
    return database


@pytest.fixture
def exam(database: Database, tmp_path: Path) -> Database:
    return build(database, tmp_path)


@pytest.fixture
def small_exam(database: Database, tmp_path: Path) -> Database:
    return build(database, tmp_path, learners=60)


def compare(database: Database, new: str = "F2", old: str = "F1") -> EquatingComparison:
    return call(database, compare_methods, rooms.SCALE, new, old, now=NOW)


def scores(database: Database, form: str, items: range) -> dict[str, int]:
    """Number of right answers to these items, by learner."""
    found = rooms.rows(
        database,
        """SELECT user_id, count(*) FILTER (WHERE correct) FROM response_log
           WHERE form_id = %s AND item_id = ANY(%s) GROUP BY 1""",
        (form, [f"i{k}" for k in items]),
    )
    return dict(found)


def true_items(items: range | list[int]) -> ItemParameters:
    values = item_values()
    rows = [values[f"i{k}"] for k in items]
    return ItemParameters.from_frame(
        {"item": [f"i{k}" for k in items], "a": [r["a"] for r in rows], "b": [r["b"] for r in rows]}
    )


def test_common_items_give_the_figures_of_the_library_and_the_true_equating(exam: Database) -> None:
    found = compare(exam)
    assert (found.design, found.baseline, len(found.anchor), found.without) == (
        "common items",
        "irt-true-score",
        10,
        {},
    )
    counts, (whole_score, common_score) = [], np.ogrid[:21, :11]
    possible = (common_score <= whole_score) & (whole_score <= common_score + 10)
    for form, items in (("F2", range(11, 31)), ("F1", range(1, 21))):
        whole, anchor = scores(exam, form, items), scores(exam, form, range(11, 21))
        pair = [whole[user] for user in whole], [anchor[user] for user in whole]
        counts.append(ScoreCounts.from_scores(*pair, max_score=20, max_second=10))
    smooth = [
        one.presmoothed(used.degree, used.anchor_degree, used.cross, possible=possible)
        for one, form in zip(counts, ("F2", "F1"), strict=True)
        if (used := found.smoothing[form][0].model)
    ]
    truth = equate_by_items(true_items(FORMS["F2"]), true_items(FORMS["F1"])).equated
    middle, names = slice(4, 18), found.methods
    for name in names.keys() - {"irt-true-score", "irt-observed-score"}:
        each = names[name]
        method, _, adjustment = each.equating.method.partition(", ")
        data = smooth if method in BY_PERCENTILES else counts
        expected = equate(*data, method=method, adjustment=adjustment or None)  # type: ignore[arg-type]
        np.testing.assert_array_equal(each.equating.equated, expected.equated)
        np.testing.assert_array_equal(each.equating.se, expected.se)
        error = np.abs(each.equating.equated - truth)[middle]
        if method in BY_PERCENTILES:  # frequency estimation adjusts too little for an anchor with errors
            allowed = 3 * each.equating.se[middle] if adjustment == "chained" else 0.5
            assert (error < allowed).all(), name
    assert np.abs(names["identity"].equating.equated - truth)[middle].max() > 1
    assert found.new.counts[np.abs(names["identity"].difference) > 0.5].sum() > 1000
    np.testing.assert_allclose(names["irt-true-score"].equating.equated, truth, atol=1e-9)
    assert len(names) == 13


def test_models_of_smoothing_are_listed_from_the_smallest_aic(exam: Database) -> None:
    for form in ("F2", "F1"):
        models = compare(exam).smoothing[form]
        assert len(models) == 3
        assert [model.aic for model in models] == sorted(model.aic for model in models)
        assert all(model.aic == pytest.approx(model.deviance + 2 * model.columns) for model in models)


def test_forms_without_common_items_and_of_other_lengths_are_random_groups(database: Database, tmp_path: Path) -> None:
    forms = {"F1": range(1, 16), "F2": range(16, 29)}
    found = compare(build(database, tmp_path, forms=forms, learners=400, shift=0.0))
    assert (found.design, len(found.anchor)) == ("random groups", 0)
    new, old = (
        ScoreCounts.from_scores([*scores(database, form, forms[form]).values()], max_score=len(forms[form]))
        for form in ("F2", "F1")
    )
    names = {name: one.equating for name, one in found.methods.items()}
    np.testing.assert_array_equal(names["linear"].equated, equate(new, old, method="linear").equated)
    truth = equate_by_items(
        true_items(forms["F2"]), true_items(forms["F1"]), method="observed-score", mean=0, sd=1
    ).equated
    for name in BY_PERCENTILES:
        assert (np.abs(names[name].equated - truth) / names[name].se)[2:12].max() < 3, name
    assert names["circle-arc"].equated[[0, 13]] == pytest.approx([0, 15])


def test_learners_who_took_both_forms_are_a_single_group(small_exam: Database, tmp_path: Path) -> None:
    users = [f"F2-u{k}" for k in range(60)]
    sit(small_exam, "F1", FORMS["F1"], users, seed=1, day=10, shift=0.3)
    sit(small_exam, "F1", FORMS["F1"], users, seed=9, day=14)  # a second sitting does not count
    analyse(small_exam, tmp_path)
    found = compare(small_exam)
    assert "Single group: 60 learners took F2 and F1" in " ".join(map(sentence, design_in_words(found)))
    assert (found.design, found.old.n) == ("single group", 120)
    first = rooms.rows(
        small_exam,
        """SELECT user_id, count(*) FILTER (WHERE correct) FROM response_log
           WHERE form_id = 'F1' AND session_id LIKE '%%-10' GROUP BY 1""",
    )
    new, old = scores(small_exam, "F2", FORMS["F2"]), dict(first)
    pairs = ScoreCounts.from_scores(*zip(*((new[u], old[u]) for u in users), strict=True), max_score=20, max_second=20)
    expected = equate(pairs, method="linear")
    linear = found.methods["linear"]
    np.testing.assert_array_equal(linear.equating.equated, expected.equated)
    np.testing.assert_allclose(linear.equating.se, expected.se, rtol=1e-9)


def test_scored_items_count_with_their_points(database: Database, tmp_path: Path) -> None:
    steps = {"s1": (0.9, -1.0, 0.5), "s2": (1.1, -0.5, 1.0), "s3": (1.3, 0.0, 0.8)}
    text = "".join(f"{item},{','.join(map(str, of))},0.05,0.05,0.05,gpcm,anchor\n" for item, of in steps.items())
    (tmp_path / "bank.csv").write_text(f"item_id,a,b1,b2,a_se,b1_se,b2_se,model,tags\n{text}")
    import_bank_file(database, QUESTIONS, tmp_path / "bank.csv")
    run_sql(database, "UPDATE question SET scale_id = %s", [rooms.SCALE])
    build_exam(database, tmp_path / "exam", learners=300, shift=0.3)
    forms = (tmp_path / "exam" / "forms.csv").read_text()
    forms += "".join(f"{form},{item},{at}\n" for form in FORMS for at, item in enumerate(steps, 21))
    (tmp_path / "forms.csv").write_text(forms)
    import_forms(database, tmp_path / "forms.csv")
    rng = np.random.default_rng(5)
    answers = []
    for number, form in enumerate(FORMS):
        theta = np.random.default_rng(number).normal(0.3 * number, 1, 300)
        for at, (item, (a, *b)) in enumerate(steps.items(), 21):
            logits = np.cumsum([np.zeros(300), *(a * (theta - step) for step in b)], axis=0)
            below = np.exp(logits).cumsum(axis=0) / np.exp(logits).sum(axis=0)
            points = (rng.random(300) > below).sum(axis=0)
            answers += [
                rooms.attempt(
                    f"{form}-u{k}",
                    item,
                    Month(MONTH).start + timedelta(days=3, minutes=at),
                    score=int(x),
                    correct=bool(x == 2),
                    form_id=form,
                    session_id=f"{form}-u{k}-{form}-{MONTH}-3",
                    position=at,
                )
                for k, x in enumerate(points)
            ]
    rooms.add_attempts(database, answers)
    analyse(database, tmp_path)
    make_tables(database)
    release_table(database, rooms.SCALE, "F1", **SIGNED)
    found = compare(database)
    assert (found.new.highest, len(found.anchor), sum(found.anchor.values())) == (26, 13, 16)
    names = {name: one.equating for name, one in found.methods.items()}
    observed, by_items = names["kernel-chained"], names["irt-true-score"]
    assert ((np.abs(observed.equated - by_items.equated) / observed.se)[5:22] < 3).all()
    assert np.isnan(by_items.se).all()  # the bank has no covariances of the steps
    unknown = refusal(choose_equating, database, rooms.SCALE, "F2", "F1", "irt-true-score", **SIGNED, now=NOW)
    assert "the errors of equating F2 by irt-true-score are not known" in unknown


def test_table_of_the_chosen_method_passes_the_learners_of_the_comparison(exam: Database) -> None:
    found = compare(exam).methods["linear-chained"]
    release_table(exam, rooms.SCALE, "F2", **SIGNED)
    by_items = make_tables(exam)["F2"]
    choose_equating(exam, rooms.SCALE, "F2", "F1", "linear-chained", **SIGNED, now=NOW)
    made, old = make_tables(exam)["F2"], call(exam, released_tables, rooms.SCALE)["F1"]
    assert made.method == "equated to F1"
    n = compare(exam).new.counts
    assert int(n[made.table.passes].sum()) == found.passing
    assert made.table.raw_cut == found.raw_cut
    expected = np.interp(found.equating.equated, range(21), old.table.unrounded)
    np.testing.assert_allclose(made.table.unrounded, expected)
    slope = np.interp(found.equating.equated, range(21), np.gradient(old.table.theta))
    own = np.interp(found.equating.equated, range(21), old.table.se)
    np.testing.assert_allclose(made.table.se**2, own**2 + (slope * found.equating.se) ** 2)
    choose_equating(exam, rooms.SCALE, "F2", "F1", None, by="Ann", reason="chosen too early", now=NOW)
    assert make_tables(exam)["F2"].table_hash == by_items.table_hash
    subjects = rooms.rows(exam, "SELECT subject, decided_by FROM scale_decision WHERE subject LIKE 'equating:%%'")
    assert subjects == [("equating:F2", "Ann")] * 2
    again = {"by": "Ann", "reason": "again", "now": NOW}
    assert "no equating of form F2 is chosen" in refusal(choose_equating, exam, rooms.SCALE, "F2", "F1", None, **again)


def test_raw_scores_are_equated_on_a_scale_without_theta(small_exam: Database) -> None:
    given = {"score_by": "raw", "score_points": "12:700,20:1000", "score_lowest": 0.0, "score_highest": 1000.0}
    change_rules(small_exam, rooms.SCALE, given)
    set_mark(small_exam, call(small_exam, plan_mark, rooms.SCALE, 12.0), **SIGNED)
    stale = refusal(choose_equating, small_exam, rooms.SCALE, "F2", "F1", "mean-tucker", **SIGNED, now=NOW)
    assert "must be scored by raw, as the scale is now, got theta: release a newer table of F1" in stale
    make_tables(small_exam)
    release_table(small_exam, rooms.SCALE, "F1", **SIGNED)
    old = np.clip(700 + 37.5 * (np.arange(21) - 12), 0, 1000)
    for method in ("mean-tucker", "linear-chained", "equipercentile-chained"):
        choose_equating(small_exam, rooms.SCALE, "F2", "F1", method, **SIGNED, now=NOW)
        made, found = make_tables(small_exam)["F2"], compare(small_exam).methods[method]
        np.testing.assert_allclose(made.table.unrounded, np.interp(found.equating.equated, range(21), old))
        assert made.table.raw_cut == int(np.argmax(found.equating.equated >= 12 - 1e-9))
        assert np.isnan(made.table.theta).all()


def test_pass_mark_of_normalised_scores_is_kept(database: Database, tmp_path: Path) -> None:
    build(database, tmp_path, learners=300, rules=RULES | {"score_by": "normalised"})
    old = call(database, released_tables, rooms.SCALE)["F1"]
    chosen = choose_equating(database, rooms.SCALE, "F2", "F1", "irt-true-score", **SIGNED, now=NOW).chosen
    made = make_tables(database)["F2"]
    assert made.spec["mark"] == pytest.approx(old.spec["mark"])
    cut = old.table.raw_cut
    assert cut is not None
    assert chosen is not None
    unrounded = np.interp(chosen.equated, range(21), old.table.unrounded)
    assert made.table.passes.tolist() == (unrounded >= old.table.unrounded[cut] - 1e-9).tolist()


def test_equating_needs_no_published_values_and_the_same_number_of_raw_scores(small_exam: Database) -> None:
    choose_equating(small_exam, rooms.SCALE, "F2", "F1", "mean-tucker", **SIGNED, now=NOW)
    run_sql(small_exam, "DELETE FROM item_parameter_publication WHERE item_id = 'i30'")
    found = compare(small_exam)
    assert found.baseline == "identity"
    assert found.without.keys() == {"irt-true-score", "irt-observed-score"}
    assert "no values are published of i30" in found.without["irt-true-score"]
    assert make_tables(small_exam)["F2"].method == "equated to F1"
    run_sql(small_exam, "DELETE FROM form_item WHERE item_id = 'i30'")
    with small_exam.connect() as connection:
        made, without = compute_month(connection, read_scales(connection)[rooms.SCALE], MONTH)
    assert [each.form_id for each in made] == ["F1"]
    assert "form F2 has 20 raw scores" in without["F2"]
    assert "chosen for 21" in without["F2"]


def test_refusals_name_the_form_and_the_remedy(small_exam: Database, tmp_path: Path) -> None:
    assert "form F9 has no scored items" in refusal(compare, small_exam, "F9")
    assert "form F1 cannot be equated to itself" in refusal(compare, small_exam, "F1")
    assert "no score table of form F2 is released" in refusal(compare, small_exam, "F1", "F2")
    wrong = refusal(choose_equating, small_exam, rooms.SCALE, "F2", "F1", "lineal", **SIGNED, now=NOW)
    assert "form F2 has no equating 'lineal' to F1: the methods are identity, mean-tucker" in wrong
    empty = {"by": "Ann", "reason": " "}
    assert "reason" in refusal(choose_equating, small_exam, rooms.SCALE, "F2", "F1", "identity", **empty, now=NOW)
    seen = call(small_exam, preview_choice, rooms.SCALE, "F2", "F1", "linear-tucker", now=NOW)
    rooms.run_sql(small_exam, "UPDATE attempt_verdict SET score = 0 WHERE item_id = 'i30'")
    changed = {"seen": seen, "now": NOW} | SIGNED
    late = refusal(choose_equating, small_exam, rooms.SCALE, "F2", "F1", "linear-tucker", **changed)
    assert "nothing was decided on form F2" in late
    run_sql(small_exam, "UPDATE attempt_verdict SET reason = 'test_account' WHERE item_id = 'i30'")
    run_sql(small_exam, "DELETE FROM response_log WHERE form_id = 'F2' AND user_id NOT LIKE 'F2-u1%%'")
    assert "form F2 has eleven learners" in refusal(compare, small_exam)
    assert "at least 30" in refusal(compare, small_exam)


def test_errors_that_items_of_a_fit_share_cancel_between_its_forms() -> None:
    """Errors of a stretch and a shift alone leave the true-score equating as it is."""
    items = true_items(range(1, 31))
    gamma = np.array([[0.04, 0.01], [0.01, 0.09]])
    by = np.zeros((30, 2, 2))
    by[:, 0, 0], by[:, 1, 0], by[:, 1, 1] = -items.a, items.b, 1
    all_shared = replace(items, cov=by @ gamma @ by.swapaxes(1, 2), further_cov=np.zeros((30, 1, 3)))
    forms = [[f"i{k}" for k in FORMS[form]] for form in ("F2", "F1")]
    cov = joint_covariance(ParameterErrors(all_shared, np.zeros(30, int), [gamma], np.zeros((2, 2))), forms)
    alone = joint_covariance(ParameterErrors(all_shared, np.full(30, -1), [gamma], np.zeros((2, 2))), forms)
    given = all_shared.select(forms[0]), all_shared.select(forms[1])
    together, apart = (equate_by_items(*given, joint_cov=np.pad(one, (0, 2))).se for one in (cov, alone))
    assert together.max() < 1e-6
    assert apart[10] > 0.1
    twice = cov.reshape(40, 3, 40, 3)
    np.testing.assert_allclose(twice[0, :, 30], twice[0, :, 0])  # i11 is in both forms
    other = joint_covariance(ParameterErrors(all_shared, np.arange(30) % 2, [gamma, gamma], gamma / 2), forms)
    first, second = other.reshape(40, 3, 40, 3)[0, :2, 1, :2], by[10] @ (gamma / 2) @ by[11].T
    np.testing.assert_allclose(first, second)


def test_command_compares_and_records_a_choice(
    small_exam: Database, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equating, "MAX_AGE", timedelta(days=36_525))  # the command takes the year before today
    run = irt(small_exam.settings)
    forms = ("F2", "F1", "--scale", rooms.SCALE)
    signed = ("--by", "Ann", "--reason", "committee", "--yes")
    shown = run("scores", "equate", *forms)
    assert not missing_sentences(shown.out, "No equating of form F2 is chosen", "linear-levine", "irt-true-score")
    found = run("scores", "equate", *forms, "--json").json
    expected = compare(small_exam)
    assert found["methods"]["kernel-chained"]["passing"] == expected.methods["kernel-chained"].passing
    assert (found["design"], found["learners"], found["in_force"]) == ("common items", [60, 60], None)
    assert run("scores", "equate", *forms, "--choose", "linear-chained").code == 2
    done = run("scores", "equate", *forms, "--choose", "linear-chained", *signed)
    assert (done.code, "Raw scores of form F2 are equated" in done.out) == (0, True), done
    assert "equated to F1 by linear-chained" in run("scores", "equate", *forms).out
    assert run("scores", "equate", *forms, "--undo", *signed).code == 0
    assert max(map(len, run("scale", "decisions", "--scale", rooms.SCALE).out.splitlines())) < 200
    assert "nothing to undo" in run("scores", "equate", *forms, "--undo", *signed).err
    assert "contradict" in run("scores", "equate", *forms, "--undo", "--choose", "identity", *signed).err


@pytest.mark.parametrize("now", [NOW, NOW.replace(day=1, hour=0, minute=1)])
def test_second_form_of_the_demo_is_equated_and_released(small_exam: Database, tmp_path: Path, now: datetime) -> None:
    """Its 14 common items are F1's, and its six new items have no published values."""
    said: list[str] = []
    for _ in range(2):
        equate_second_form(small_exam, rooms.SCALE, "F1", MONTH, tmp_path, now, said.append, **SIGNED)
    answered = pd.concat([pd.read_csv(file) for file in tmp_path.glob("*.csv")])["completed_at"].dropna()
    assert pd.to_datetime(answered, format="ISO8601").max() < now
    assert "equated to F1 by linear-tucker, common items" in " ".join(said)
    found = compare(small_exam, "W")
    assert (found.design, len(found.anchor), found.new.n) == ("common items", 14, 200)
    made = call(small_exam, released_tables, rooms.SCALE)["W"]
    np.testing.assert_allclose(found.methods["linear-tucker"].equating.equated, found.in_force.equated)  # type: ignore[union-attr]
    assert made.table.raw.size == 21
    assert "no values are published of W1" in found.without["irt-true-score"]
