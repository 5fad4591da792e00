"""Eligibility of attempts, compared with a slow and obvious implementation of the rules."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from irt_assets.responses.eligibility.attempts import (
    NO_SCORE,
    Attempts,
    JudgedLearners,
    Judgement,
    Reason,
    count_rejected,
    counts_by_reason,
    items_with_few,
    judge,
)
from irt_assets.responses.eligibility.minimum import expected_b_se, propose_minimum, recommend
from irt_assets.responses.points import read_points
from irt_assets.responses.snapshot import settings_differ
from irt_assets.scales.rules import STAGE_OF, STAGES, Rules
from irt_psychometrics import PsychometricsError

LENIENT = {"min_responses": 1, "min_learner_responses": 1}

ROW = {
    "user": 0, "item": 0, "live": True, "is_test": False, "unknown_item": False, "seen_before": False, "exam": False,
    "answered_later": False, "seeded": False, "correct": 1, "hints": 0, "time_ms": np.nan, "item_median_ms": np.nan,
    "item_n_timed": 0,
}  # fmt: skip
DTYPES = {"user": np.int32, "item": np.int32, "correct": np.int8, "hints": np.int32, "time_ms": float}


def attempts_of(rows: list[dict]) -> Attempts:
    """Attempts from rows that contain only differences from a plain correct answer. An item's times are taken from its
    row with the largest `item_n_timed`."""
    full = [ROW | row for row in rows]
    columns = {name: np.array([r[name] for r in full], dtype=DTYPES.get(name, bool)) for name in [*ROW][:-2]}
    median, timed = np.full(max([0, *columns["item"]]) + 1, np.nan), np.zeros(10, np.int64)
    for row in sorted(full, key=lambda row: row["item_n_timed"]):
        median[row["item"]], timed[row["item"]] = row["item_median_ms"], row["item_n_timed"]
    return Attempts(**columns, item_median_ms=median, item_n_timed=timed[: median.size])


def reasons(verdict: Judgement) -> list[str | None]:
    """Return the reason of each attempt as text (None if it is scored)."""
    return [None if code < 0 else str(Judgement.REASONS[code]) for code in verdict.code]


def plain_reading(rows: list[dict], rules: Rules) -> list[tuple[str | None, int]]:
    """Apply the rules row by row, as a person would: slow and obvious."""
    verdicts: list[tuple[str | None, int]] = []
    for row in rows:
        r = ROW | row
        limit = min(rules.eligibility.rapid_share * r["item_median_ms"], rules.eligibility.rapid_cap_ms)
        if not r["live"]:
            verdict = ("sandbox", -1)
        elif r["is_test"]:
            verdict = ("test_account", -1)
        elif r["unknown_item"]:
            verdict = ("unusable", -1)
        elif r["seen_before"]:
            verdict = ("repeat", -1)
        elif r["correct"] == -1:
            verdict = (None, 0) if r["exam"] and r["answered_later"] else ("not_reached", -1)
        elif r["hints"] > 0 and rules.eligibility.hinted == "exclude":
            verdict = ("hinted", -1)
        elif r["item_n_timed"] >= rules.eligibility.rapid_min_times and r["time_ms"] < limit:
            verdict = ("rapid", -1)
        else:
            verdict = (None, 0 if r["hints"] > 0 else r["correct"])
        if verdict[0] is None and r["seeded"]:
            verdict = ("seed", -1)
        verdicts.append(verdict)
    changed = True
    while changed:
        changed = False
        for key, minimum, reason in (
            ("user", rules.eligibility.min_learner_responses, "few_learner_responses"),
            ("item", rules.eligibility.min_fitted_responses, "few_item_responses"),
        ):
            n = Counter((ROW | row)[key] for row, v in zip(rows, verdicts, strict=True) if v[0] is None)
            for k, row in enumerate(rows):
                if verdicts[k][0] is None and n[(ROW | row)[key]] < minimum:
                    verdicts[k] = (reason, -1)
                    changed = True
    return verdicts


rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.integers(0, 5),
            "item": st.integers(0, 5),
            "live": st.sampled_from([True, True, True, True, False]),
            "is_test": st.sampled_from([False, False, False, True]),
            "unknown_item": st.sampled_from([False, False, False, True]),
            "seen_before": st.sampled_from([False, False, False, True]),
            "exam": st.booleans(),
            "answered_later": st.booleans(),
            "seeded": st.sampled_from([False, False, False, True]),
            "correct": st.sampled_from([-1, 0, 1, 1]),
            "hints": st.sampled_from([-1, 0, 0, 2]),
            "time_ms": st.sampled_from([np.nan, 0.0, 500.0, 999.0, 1000.0, 9_999.0, 10_000.0, 60_000.0]),
        }
    ),
    max_size=60,
)
times_strategy = st.fixed_dictionaries(
    {
        "item_median_ms": st.sampled_from([np.nan, 10_000.0, 200_000.0]),
        "item_n_timed": st.sampled_from([0, 99, 100, 5000]),
    }
)
rows_strategy = st.builds(
    lambda rows, times: [row | times[row["item"]] for row in rows],
    rows_strategy,
    st.lists(times_strategy, min_size=6, max_size=6),
)
rules_strategy = st.builds(
    lambda **settings: Rules.from_settings(settings),
    min_responses=st.integers(1, 4),
    min_learner_responses=st.integers(1, 4),
    hinted=st.sampled_from(["wrong", "exclude"]),
)


@settings(max_examples=200, deadline=None)
@given(rows=rows_strategy, rules=rules_strategy)
def test_every_attempt_is_judged_as_by_a_plain_reading_of_the_rules(rows: list[dict], rules: Rules) -> None:
    verdict = judge(attempts_of(rows), rules)
    got = list(zip(reasons(verdict), verdict.score.tolist(), strict=True))
    assert got == plain_reading(rows, rules)


@settings(max_examples=100, deadline=None)
@given(rows=rows_strategy, rules=rules_strategy)
def test_counts_add_up_and_scored_attempts_satisfy_both_minima(rows: list[dict], rules: Rules) -> None:
    attempts = attempts_of(rows)
    verdict = judge(attempts, rules)
    assert sum(verdict.counts.values()) == len(rows)
    rare = {"score_missing", "seed"} & {*filter(None, reasons(verdict))}
    assert set(verdict.counts) == {"scored", *rare, *({r.value for r in Reason} - {"score_missing", "seed"})}
    of_user, of_item = Counter(attempts.user[verdict.code < 0]), Counter(attempts.item[verdict.code < 0])
    assert all(n >= rules.eligibility.min_learner_responses for n in of_user.values())
    assert all(n >= rules.eligibility.min_fitted_responses for n in of_item.values())
    assert set(verdict.few_items) == set(attempts.item.tolist()) - set(of_item)
    assert all(n < rules.eligibility.min_fitted_responses for n in verdict.few_items.values())
    assert 0 <= count_rejected(verdict.counts)[0] <= count_rejected(verdict.counts)[1] <= len(rows)


@settings(max_examples=200, deadline=None)
@given(rows=rows_strategy, rules=rules_strategy)
def test_verdicts_are_the_same_if_learners_are_judged_in_parts(rows: list[dict], rules: Rules) -> None:
    """Learners are in three parts, any of which may be empty; only the parts' responses per item are summed."""
    parts = [[n for n, row in enumerate(rows) if row["user"] % 3 == part] for part in range(3)]
    attempts = [attempts_of([rows[n] for n in part]) for part in parts]
    judged_parts = [JudgedLearners.from_attempts(one, rules) for one in attempts]
    items, few_items = {row["item"] for row in rows}, dict[int, int]()

    def responses() -> dict[int, int]:
        of_part = [part.responses() for part in judged_parts]
        return {item: sum(int(n[item]) for n in of_part if item < n.size) for item in items}

    while few := items_with_few(responses().items(), rules.eligibility.min_fitted_responses, few_items):
        few_items |= few
        for part in judged_parts:
            part.drop_items([*few])
    whole = judge(attempts_of(rows), rules)
    assert few_items == whole.few_items
    outcomes = [part.outcome() for part in judged_parts]
    for indices, (code, score) in zip(parts, outcomes, strict=True):
        assert (code.tolist(), score.tolist()) == (whole.code[indices].tolist(), whole.score[indices].tolist())
    counts = [counts_by_reason(code) for code, _ in outcomes]
    assert {reason: sum(one.get(reason, 0) for one in counts) for reason in whole.counts} == whole.counts


def test_points_of_a_single_answer_equal_its_verdict() -> None:
    """Allows for two differences: an omission has no points (−1) in a verdict and 0 in a session, and a verdict leaves
    out a wrong answer without its score (`score_missing`)."""
    answers = [*((right, None) for right in (True, False, None)), *product((True, False), range(-1, 7))]
    attempts = dataclasses.replace(
        attempts_of([{"correct": -1 if right is None else int(right)} for right, _ in answers]),
        score=np.array([NO_SCORE if n is None else n for _, n in answers], np.int16),
        max_score=np.full(len(answers), 4, np.int16),
    )
    verdicts = zip(attempts.contradictory.tolist(), attempts.points.tolist(), strict=True)
    counted = [None if is_contradictory or n < 0 else n for is_contradictory, n in verdicts]
    expected = [0 if answer == (None, None) else n for answer, n in zip(answers, counted, strict=True)]
    assert [read_points(right, n, 4) for right, n in answers] == expected
    assert [n for n in expected if n is not None] == [4, 0, 4, 0, 1, 2, 3]
    assert [read_points(right, None, 1) for right in (True, False, None)] == [1, 0, 0]


def test_repeats_sandbox_and_test_accounts_do_not_count_as_rejected() -> None:
    rapid = {"time_ms": 1.0, "item_median_ms": 20_000.0, "item_n_timed": 500}
    rows: list[dict] = [
        {},
        rapid,
        {"unknown_item": True},
        {"seen_before": True} | rapid,
        {"hints": 3},
        {"live": False} | rapid,
        {"is_test": True, "unknown_item": True},
        {"correct": -1},
    ]
    verdict = judge(attempts_of(rows), Rules.from_settings(LENIENT))
    # live answers of real learners: plain, rapid, unusable, repeat, hinted; one rapid and one unusable are rejected
    assert count_rejected(verdict.counts) == (2, 5)


def test_removing_an_item_removes_learners_and_further_items_below_their_minimum() -> None:
    # item 2 has 1 response and is left out; learner 0 then has 1 and is left out, and then item 0; learner 1 keeps 1
    pairs = [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (2, 3), (3, 1), (3, 3)]
    rules = Rules.from_settings({"min_responses": 2, "min_learner_responses": 2})
    verdict = judge(attempts_of([{"user": u, "item": i} for u, i in pairs]), rules)
    remaining = [pair for pair, code in zip(pairs, verdict.code, strict=True) if code < 0]
    assert (remaining, verdict.few_items) == ([(2, 1), (2, 3), (3, 1), (3, 3)], {0: 1, 2: 1})


def test_minima_of_learners_and_items_are_skipped_if_abilities_need_all_answers() -> None:
    rows = [{"user": 0}]
    assert judge(attempts_of(rows), Rules()).n_responses == 0
    assert reasons(judge(attempts_of(rows), Rules(), min_learner=False))[0] == "few_item_responses"
    assert judge(attempts_of(rows), Rules(), min_learner=False, min_item=False).n_responses == 1


def test_error_names_a_column_with_impossible_values() -> None:
    with pytest.raises(PsychometricsError, match="found 2 in row 1"):
        attempts_of([{}, {"correct": 2}])
    with pytest.raises(PsychometricsError, match="codes of column item"):
        attempts_of([{"item": -1}])
    good = attempts_of([{}, {}])
    with pytest.raises(PsychometricsError, match="column exam has shape"):
        Attempts(**(good.__dict__ | {"exam": np.array([True])}))


def test_two_million_attempts_are_judged_in_seconds() -> None:
    n, rng = 2_000_000, np.random.default_rng(1)
    flag = lambda share: rng.random(n) < share  # noqa: E731
    attempts = Attempts(
        user=rng.integers(0, 50_000, n), item=rng.integers(0, 2_000, n), live=~flag(0.01), is_test=flag(0.01),
        unknown_item=flag(0.01), seen_before=flag(0.1), exam=flag(0.5), answered_later=flag(0.5), seeded=flag(0.1),
        correct=rng.integers(-1, 2, n).astype(np.int8), hints=rng.integers(-1, 3, n).astype(np.int32),
        time_ms=rng.lognormal(9, 1, n), item_median_ms=np.full(2_000, 8000.0), item_n_timed=np.full(2_000, 1000),
    )  # fmt: skip
    start = time.process_time()
    verdict = judge(attempts, Rules())
    # about 0.5 s of processor time; a Python loop over attempts would take more than 10 s
    assert time.process_time() - start < 5
    assert verdict.n_responses > 0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"warn_anchor_share": 0.5},
            "warn_anchor_share=0.5 and min_anchor_share=0.7 contradict each other: .* 0.7 or more, or .* 0.5 or less",
        ),
        ({"max_b_se": 0}, "max_b_se=0 would hold back every item: set it above 0 .* 1 by default"),
        ({"max_abs_b": 0.0}, "max_abs_b=0 would hold back every item"),
    ],
)
def test_rules_without_effect_are_refused_when_set_and_accepted_when_read(
    settings: dict[str, Any], reason: str
) -> None:
    rules = Rules.from_settings(settings)
    with pytest.raises(PsychometricsError, match=reason):
        rules.require_effect()
    Rules.from_settings({"warn_anchor_share": 0.7}).require_effect()


def test_rules_are_stored_as_changed_settings_and_restored() -> None:
    rules = Rules.from_settings({"min_responses": 120, "hinted": "exclude", "max_abs_b": 4})
    assert rules.non_defaults() == {"min_responses": 120, "hinted": "exclude", "max_abs_b": 4}
    assert (Rules.from_settings(rules.non_defaults()), Rules().non_defaults()) == (rules, {})


def test_dif_attributes_are_parsed_and_change_no_hash_of_fits() -> None:
    rules = Rules.from_settings({"dif_attributes": " grade , lang,grade,", "max_abs_b": 4})
    all_rules = Rules(), rules, Rules.from_settings({"dif_attributes": ""})
    assert [one.warnings.attributes for one in all_rules] == [("lang", "country", "tier"), ("grade", "lang"), ()]
    assert not settings_differ({}, rules, "eligibility", "fit", "linking")
    assert Rules.from_settings(rules.non_defaults()) == rules


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"min_response": 3}, "no such rule: min_response; did you mean min_responses"),
        ({"min_responses": "many"}, "min_responses must be a whole number"),
        ({"min_responses": 10.5}, "min_responses must be a whole number"),
        ({"min_responses": True}, "min_responses must be a whole number"),
        ({"min_responses": 0}, "must be from 1 to 10,000,000, got 0"),
        ({"late_days": -1}, "late_days must be from 0 to 3,650, got -1"),
        ({"late_days": ""}, "late_days must be a whole number, got ''"),
        ({"late_days": None}, "late_days must be a whole number, got None"),
        ({"late_days": "a week"}, "late_days must be a whole number, got 'a week'"),
        ({"late_days": 1.5}, "late_days must be a whole number"),
        ({"rapid_share": 1.5}, "must be from 0 to 1"),
        ({"rapid_share": float("nan")}, "must be from 0 to 1"),
        ({"hinted": "ignore"}, "one of wrong, exclude"),
        ({"min_anchors": 2}, "must be from 3"),
        ({"dif_attributes": ["lang"]}, "must name attributes, with commas; got"),
    ],
)
def test_invalid_rule_is_refused_with_its_name(given_settings: dict, message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        Rules.from_settings(given_settings)


def test_every_reason_has_a_sentence_as_its_explanation() -> None:
    assert all(reason.explanation.endswith(".") for reason in Reason)


def test_expected_error_of_b_is_the_inverse_root_of_the_expected_information() -> None:
    # simulated information with known θ: mean of P(1 − P) over N(0, 1); 1e6 draws determine it to 1e-4
    theta = np.random.default_rng(7).standard_normal(1_000_000)
    p = 1 / (1 + np.exp(-theta))
    assert expected_b_se(1.0) == pytest.approx(np.mean(p * (1 - p)) ** -0.5, rel=1e-3)
    assert expected_b_se(200) == pytest.approx(expected_b_se(50) / 2)


def test_proposal_lists_admitted_items_and_expected_error_for_each_minimum() -> None:
    options = propose_minimum([600, 450, 210, 160, 60, 60, 60, 60, 60, 20], minima=(50, 500, 200))
    assert [(o.min_responses, o.items_admitted) for o in options] == [(500, 1), (200, 3), (50, 9)]
    assert [o.expected_b_se for o in options] == sorted(o.expected_b_se for o in options)
    assert recommend(options).min_responses == 50


@pytest.mark.parametrize(
    ("responses", "recommended"),
    [([1000] * 5, Rules().eligibility.min_responses), ([3] * 99 + [5000], 50)],
    ids=["the default if the log reaches it", "the smallest if no minimum keeps most items"],
)
def test_the_recommended_minimum_follows_from_the_log(responses: list[int], recommended: int) -> None:
    assert recommend(propose_minimum(responses)).min_responses == recommended


def test_log_without_items_is_refused() -> None:
    with pytest.raises(PsychometricsError, match="no items"):
        propose_minimum([])


def test_recommended_minimum_admits_most_items_of_a_real_log_below_the_default(shared: Path) -> None:
    log = pd.read_csv(shared / "data" / "lkt_statistics_cloze.csv.gz")
    answers = log[log["correct"].notna()].sort_values("answered_at")
    first = answers.drop_duplicates(["user_id", "item_id"])
    chosen = recommend(propose_minimum(first.groupby("item_id").size()))
    assert chosen.items_admitted >= 130, "of 144 items with about 146 first answers each"
    assert chosen.expected_b_se < 0.25


OTHER = {
    "hinted": "exclude", "assignment": "by_level", "latent": "auto", "second_dimension": "hold", "new_misfit": "hold",
    "demanded_engines": "pymc", "dif_attributes": "grade", "score_by": "theta", "score_rounding": "half-even",
    "retest": "best",
}  # fmt: skip


@pytest.mark.parametrize("name", STAGE_OF)
def test_rule_changes_only_the_hash_of_its_stage(name: str) -> None:
    usual = Rules()
    value = usual.settings()[name]
    other = OTHER[name] if isinstance(value, str) else value + 1 if isinstance(value, int) else value / 2 or 1.0
    rules = Rules.from_settings({name: other})
    changed = [stage for stage in STAGES if getattr(rules, stage).hash != getattr(usual, stage).hash]
    assert (changed, [*rules.non_defaults()]) == ([STAGE_OF[name]], [name])


def test_hash_of_a_stage_is_the_same_for_whole_numbers_and_floats() -> None:
    """JSON contains a whole number if a share or a limit is 1."""
    assert (
        Rules.from_settings({"max_abs_b": 4}).publication.hash
        == Rules.from_settings({"max_abs_b": 4.0}).publication.hash
    )
