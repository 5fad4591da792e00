"""The simulated response log: its answers follow its stated truth, because many tests rely on the simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit, softmax

from irt_assets.responses.eligibility.attempts import Attempts, judge
from irt_assets.scales.rules import Rules
from irt_assets.simulation.files import attempts_table
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.scenario import (
    Bank,
    Fault,
    Scenario,
    calibration_covariance,
    demo_scenario,
    make_bank,
)
from irt_assets.simulation.truth import CATEGORIES, SimulatedLog, Truth
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.responses import Responses
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.scenario import AnyScenario

pytestmark = WHERE_STATISTICS_CHANGE

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
MONTHS = ("2026-07", "2026-08", "2026-09")
SMALL = AnyScenario(months=MONTHS, now=NOW, learners_per_month=200, items_per_block=12, anchors_per_block=4)


@pytest.fixture(scope="module")
def demo() -> tuple[SimulatedLog, Truth]:
    return simulate(demo_scenario(NOW))


def month_index(log: SimulatedLog, truth: Truth) -> npt.NDArray[np.int64]:
    return (log.month - np.datetime64(truth.scenario.months[0], "M")).astype(np.int64)


def theta_of(log: SimulatedLog, truth: Truth) -> npt.NDArray[np.float64]:
    """True θ of each attempt's learner in its month."""
    return truth.learners.theta[log.person, month_index(log, truth)]


def planted_item(truth: Truth, kind: str) -> int:
    return int(truth.bank.index(next(f for f in truth.bank.faults if f.kind == kind))[0])


def sound_items(bank: Bank) -> npt.NDArray[np.bool_]:
    """Return whether an item has no fault, shape (J,). Moved anchors count as sound: the fault is their month's."""
    faulty = {item for fault in bank.faults if fault.kind != "anchors_moved" for item in fault.item_ids}
    return np.array([item not in faulty for item in bank.item_ids])


def excess(log: SimulatedLog, truth: Truth, rows: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Observed minus expected number of correct scores under the true parameters, and its SD."""
    k = month_index(log, truth)[rows]
    j = log.item[rows]
    p = expit(truth.bank.a[j] * (theta_of(log, truth)[rows] - truth.bank.b[k, j]))
    return float(log.score[rows].sum() - p.sum()), float(np.sqrt((p * (1 - p)).sum()))


def test_scored_answers_of_sound_items_follow_the_model_at_the_true_abilities(demo):
    log, truth = demo
    bank, rows = truth.bank, log.scored & sound_items(truth.bank)[log.item]
    k, j = month_index(log, truth)[rows], log.item[rows]
    p = expit(bank.a[j] * (theta_of(log, truth)[rows] - bank.b[k, j]))
    cell = k * 120 + j
    variance = np.bincount(cell, weights=p * (1 - p))
    z = (np.bincount(cell, weights=log.score[rows] - p) / np.sqrt(np.maximum(variance, 1e-9)))[variance > 0]
    assert z.size == 5 * 115
    # Standard normals: the SD of their SD is 1/√(2·575) = 0.03, of their mean 1/√575 = 0.042.
    assert abs(np.mean(z)) < 4 * 0.042
    assert abs(np.std(z) - 1) < 4 * 0.030
    assert np.max(np.abs(z)) < 4.5


def test_answers_follow_the_model_in_every_range_of_ability(demo):
    log, truth = demo
    sound = log.scored & sound_items(truth.bank)[log.item]
    theta = theta_of(log, truth)
    for low, high in [(-9, -1.5), (-1.5, -0.5), (-0.5, 0.5), (0.5, 1.5), (1.5, 9)]:
        difference, sd = excess(log, truth, sound & (theta >= low) & (theta < high))
        assert abs(difference / sd) < 4, (low, high)


@pytest.mark.parametrize("now", [NOW, datetime(2026, 6, 3, tzinfo=UTC), datetime(2026, 3, 31, 23, tzinfo=UTC)])
def test_every_item_of_the_demo_has_800_first_answers_in_each_complete_month(now):
    log, truth = simulate(demo_scenario(now))
    complete = np.datetime64(now.strftime("%Y-%m"), "M")
    k = month_index(log, truth)
    live = log.arrived & ~log.sandbox & ~truth.learners.is_test[log.person]
    pair = log.person * 120 + log.item
    _, first = np.unique(pair, return_index=True)  # rows are in order of time
    is_first = np.zeros(log.n_attempts, dtype=bool)
    is_first[first] = True
    used = live & is_first & (log.month < complete)
    per_item = np.bincount(k[used] * 120 + log.item[used], minlength=4 * 120)
    assert min(per_item.min(), truth.scored[:4].min()) >= 800


def test_the_demo_has_about_150_to_170_thousand_attempts_a_month(demo):
    _, truth = demo
    totals = [sum(counts[c] for c in CATEGORIES) for counts in truth.counts.values()]
    # The first month has no returning learners yet, the running one has not ended.
    assert all(145_000 < n < 180_000 for n in totals[1:4])
    assert totals[0] > 110_000


def test_share_of_rapid_answers_is_below_3_percent(demo):
    _, truth = demo
    for month, counts in truth.counts.items():
        live = counts["scored"] + counts["repeat"] + counts["rapid"]
        assert 0.003 < counts["rapid"] / live < 0.03, month


def test_anchors_cover_the_middle_80_percent_of_difficulty_and_every_topic(demo):
    bank = demo[1].bank
    b = bank.b[0]
    low, high = np.quantile(b, [0.1, 0.9])
    assert (bank.anchor.sum(), np.bincount(bank.block[bank.anchor]).tolist()) == (30, [10, 10, 10])
    # Two anchors on each side, because purification may drop one.
    assert min(np.sum(b[bank.anchor] < low), np.sum(b[bank.anchor] > high)) >= 2
    shares = np.bincount(bank.topic) / b.size
    assert len(bank.topics) >= 4
    assert shares.min() >= 0.10
    assert np.bincount(bank.topic[bank.anchor], minlength=len(bank.topics)).min() >= 3


def test_errors_of_bank_values_match_their_covariance():
    errors = []
    for seed in range(40):
        bank = make_bank(Scenario(months=MONTHS, now=NOW, seed=seed))
        miss = np.stack([bank.bank_a - bank.a, bank.bank_b - bank.b[0]], axis=-1)[bank.anchor]
        errors.append(np.einsum("ji,jik,jk->j", miss, np.linalg.inv(bank.bank_cov[bank.anchor]), miss))
    q = np.concatenate(errors)
    # χ²₂ has mean 2 and SD 2; over 1200 anchors the mean has SD 0.058.
    assert q.mean() == pytest.approx(2, abs=4 * 0.058)


def test_stated_covariance_matches_estimates_at_known_abilities():
    """Logistic regression on simulated answers is an independent estimate of (a, b) and their spread."""
    rng = np.random.default_rng(3)
    a, b, n, replications = 1.3, 0.8, 1000, 400
    estimates = []
    for _ in range(replications):
        theta = rng.standard_normal(n)
        x = rng.random(n) < expit(a * (theta - b))
        beta = np.array([0.0, 1.0])
        design = np.stack([np.ones(n), theta], axis=1)
        for _ in range(8):
            p = expit(design @ beta)
            beta += np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design, design.T @ (x - p))
        estimates.append((beta[1], -beta[0] / beta[1]))
    stated = calibration_covariance(np.array([a]), np.array([b]), np.zeros(1), n)[0]
    observed = np.cov(np.array(estimates).T)
    # An SD over 400 replications has a relative error of 3.5 %; small-sample skew of b adds a little.
    assert np.sqrt(np.diag(observed)) == pytest.approx(np.sqrt(np.diag(stated)), rel=0.15)
    correlation = stated[0, 1] / np.sqrt(stated[0, 0] * stated[1, 1])
    # The SD of a correlation near −0.6 over 400 replications is 0.03.
    assert np.corrcoef(np.array(estimates).T)[0, 1] == pytest.approx(correlation, abs=0.13)


def test_planted_items_have_middle_difficulty_and_are_not_anchors(demo):
    bank = demo[1].bank
    for kind in ("drift", "leak", "dif", "wrong_key", "all_correct"):
        j = planted_item(demo[1], kind)
        assert (bank.anchor[j], bank.a[j], abs(bank.b[0, j]) <= 0.5) == (False, 1.0, True)


def test_the_drifting_item_becomes_easier_from_the_third_month_on(demo):
    log, truth = demo
    j = planted_item(truth, "drift")
    assert np.diff(truth.bank.b[:, j]) == pytest.approx([0, -0.8, 0, 0])
    k = month_index(log, truth)
    still = replace(truth, bank=replace(truth.bank, b=np.tile(truth.bank.b[0], (5, 1))))
    for month in range(5):
        difference, sd = excess(log, still, log.scored & (log.item == j) & (k == month))
        assert (difference / sd > 5) == (month >= 2), month


def test_the_leaked_item_becomes_easier_and_faster_from_the_third_month_on(demo):
    log, truth = demo
    j = planted_item(truth, "leak")
    k = month_index(log, truth)
    for month in range(5):
        rows = log.scored & (log.item == j) & (k == month)
        difference, sd = excess(log, truth, rows)
        assert (difference / sd > 5) == (month >= 2), month
        right = rows & (log.correct == 1)
        expected = truth.bank.time_intensity[j] - truth.learners.speed[log.person[right]]
        residual = np.log(log.response_time_ms[right]) - expected
        z = residual.mean() / (truth.scenario.time_sd / np.sqrt(residual.size))
        assert (z < -4) == (month >= 2), month
    insiders = (truth.learners.leak_rank[log.person] < 0.3) & (log.item == j) & (k >= 2) & (log.correct >= 0)
    assert log.correct[insiders].min() == 1
    assert not log.rapid[insiders].any()


def test_item_with_dif_is_harder_for_korean_learners_of_equal_ability(demo):
    log, truth = demo
    j = planted_item(truth, "dif")
    korean = truth.learners.lang[log.person] == "ko"
    assert korean.mean() == pytest.approx(0.5, abs=0.02)
    rows = log.scored & (log.item == j)
    for group, shift in ((korean, 0.5), (~korean, -0.5)):
        p = expit(theta_of(log, truth)[rows & group] - truth.bank.b[0, j] - shift)
        z = (log.score[rows & group].sum() - p.sum()) / np.sqrt((p * (1 - p)).sum())
        assert abs(z) < 4


def test_abler_learners_answer_the_wrongly_keyed_item_worse(demo):
    log, truth = demo
    j = planted_item(truth, "wrong_key")
    rows = log.scored & (log.item == j)
    rest = log.scored & sound_items(truth.bank)[log.item]
    n = np.maximum(np.bincount(log.person[rest], minlength=log.user_ids.size), 1)
    rest_score = np.bincount(log.person[rest], weights=log.score[rest], minlength=log.user_ids.size) / n
    assert np.corrcoef(log.score[rows], rest_score[log.person[rows]])[0, 1] < -0.15
    true_key = truth.bank.options[j, 0]
    chose_it = (log.response[rows] == true_key).astype(float)
    assert np.corrcoef(chose_it, rest_score[log.person[rows]])[0, 1] > 0.15


def test_every_scored_answer_to_the_all_correct_item_is_correct(demo):
    log, truth = demo
    rows = log.item == planted_item(truth, "all_correct")
    assert log.score[rows & log.scored].all()
    assert set(log.correct[rows].tolist()) <= {1, -1}


def test_twelve_anchors_are_harder_in_the_second_month_only(demo):
    log, truth = demo
    fault = next(f for f in truth.bank.faults if f.kind == "anchors_moved")
    moved = truth.bank.index(fault)
    assert moved.size == 12
    assert truth.bank.anchor[moved].all()
    k = month_index(log, truth)
    still = replace(truth, bank=replace(truth.bank, b=np.tile(truth.bank.b[0], (5, 1))))
    for month in range(5):
        difference, sd = excess(log, still, log.scored & np.isin(log.item, moved) & (k == month))
        assert (difference / sd < -10) == (month == 1), month


def test_recorded_answers_are_correct_if_and_only_if_the_key_was_chosen(demo):
    log, truth = demo
    j = log.item
    with_options = (truth.bank.key[j] >= 0) & (log.correct >= 0)
    assert np.array_equal(log.correct[with_options] == 1, log.response[with_options] == truth.bank.key[j[with_options]])
    assert (log.response[~with_options] == -1).all()
    assert (truth.bank.key < 0).any()


def test_rapid_guesses_are_below_a_tenth_of_the_median_time_and_correct_by_chance(demo):
    log, truth = demo
    answered = (log.correct >= 0) & ~log.sandbox
    medians = np.array([np.median(log.response_time_ms[answered & (log.item == j)]) for j in range(120)])
    fast = answered & (log.response_time_ms < np.minimum(0.1 * medians[log.item], 10_000))
    assert fast[log.rapid & answered].all()
    # Honest answers are below the limit only by a 3 SD accident: a few in a hundred thousand.
    assert np.mean(fast & ~log.rapid) < 1e-4
    guesses = log.rapid & (truth.bank.key[log.item] >= 0) & sound_items(truth.bank)[log.item]
    guesses &= ~truth.learners.is_test[log.person]
    n = guesses.sum()
    assert log.correct[guesses].mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / n))


def test_only_omitted_answers_are_followed_by_an_answer(demo):
    log, _ = demo
    last = np.zeros(log.session_ids.size, dtype=np.int64)
    answered = log.correct >= 0
    np.maximum.at(last, log.session[answered], log.position[answered])
    later = log.position < last[log.session]
    blank = ~answered
    assert (log.scored[blank & log.arrived] <= (later & (log.form >= 0))[blank & log.arrived]).all()
    assert (log.category[blank & ~later & log.arrived] != 0).all()
    assert np.sum(blank & later) > 1000
    assert np.sum(blank & ~later) > 500
    assert (log.response_time_ms[blank] == -1).all()


def test_without_unreached_items_every_blank_in_an_exam_is_followed_by_an_answer():
    log, _ = simulate(replace(SMALL, unreached_rate=0.0, omit_rate=0.3))
    last = np.zeros(log.session_ids.size, dtype=np.int64)
    np.maximum.at(last, log.session, log.position)
    assert np.sum(log.correct < 0) > 1000
    assert not np.any((log.correct < 0) & (log.position == last[log.session]))


def test_items_not_reached_in_the_exam_are_not_easier_in_practice():
    log, truth = simulate(replace(SMALL, learners_per_month=1000, unreached_rate=0.5, growth_mean=0.0))
    first_in_practice = log.scored & (log.form < 0)
    assert first_in_practice.sum() > 1000
    difference, sd = excess(log, truth, first_in_practice)
    assert abs(difference / sd) < 4


def test_repeated_items_are_easier(demo):
    log, truth = demo
    repeats = (log.category == CATEGORIES.index("repeat")) & (log.correct >= 0) & sound_items(truth.bank)[log.item]
    difference, sd = excess(log, truth, repeats)
    assert difference / sd > 20


def test_times_of_attempts_are_in_order(demo):
    log, truth = demo
    assert (np.diff(log.completed_at) >= np.timedelta64(0)).all()
    assert ((log.started_at <= log.completed_at) & (log.completed_at <= log.recorded_at)).all()
    assert log.started_at.min() >= np.datetime64(truth.scenario.months[0])
    assert log.completed_at.max() <= np.datetime64(NOW.replace(tzinfo=None))
    assert (log.recorded_at[log.arrived] <= np.datetime64(NOW.replace(tzinfo=None))).all()
    timed = log.response_time_ms >= 0
    spent = (log.completed_at - log.started_at).astype(np.int64)
    assert np.array_equal(spent[timed], log.response_time_ms[timed])
    in_session = np.lexsort((log.position, log.session))
    same = np.diff(log.session[in_session]) == 0
    assert (log.started_at[in_session][1:] >= log.completed_at[in_session][:-1])[same].all()
    assert (log.month[in_session][1:] == log.month[in_session][:-1])[same].all()


def test_positions_of_a_session_start_at_1_and_have_no_gaps(demo):
    log, _ = demo
    sizes = np.bincount(log.session, minlength=log.session_ids.size)
    last = np.zeros_like(sizes)
    np.maximum.at(last, log.session, log.position)
    assert np.array_equal(sizes, last)
    assert np.unique(log.session * 1000 + log.position).size == log.n_attempts


def test_learners_see_an_item_only_once_in_the_exam_and_repeats_in_practice(demo):
    log, _ = demo
    exam = log.form >= 0
    pair = log.person * 120 + log.item
    assert np.unique(pair[exam]).size == exam.sum()
    assert not np.isin(log.category[exam & log.arrived], [CATEGORIES.index("repeat")]).any()
    assert np.mean(log.category[~exam & log.arrived & ~log.sandbox] == 0) < 0.01


def test_some_answers_arrive_late_or_after_now(demo):
    log, _ = demo
    days = (log.recorded_at - log.completed_at) / np.timedelta64(1, "D")
    assert 0.003 < np.mean(days > 1) < 0.03
    late = ~log.arrived
    assert late.sum() > 50
    assert (log.category[late] == -1).all()
    assert (log.recorded_at[late] > np.datetime64(NOW.replace(tzinfo=None))).all()


def test_simulated_log_depends_only_on_the_seed():
    first, second = simulate(SMALL)[0], simulate(SMALL)[0]
    other = simulate(replace(SMALL, seed=2))[0]
    for name in ("completed_at", "correct", "response", "recorded_at"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert first.n_attempts != other.n_attempts or not np.array_equal(first.completed_at, other.completed_at)


def test_later_now_extends_the_log_without_changing_earlier_answers():
    early, _ = simulate(replace(SMALL, now=datetime(2026, 8, 20, 12, tzinfo=UTC)))
    late, _ = simulate(SMALL)

    def answers(log: SimulatedLog) -> set[tuple[str, str, int, str, int]]:
        columns = (log.user_ids[log.person], log.session_ids[log.session], log.position, log.completed_at, log.correct)
        return set(zip(*(c.astype(str).tolist() for c in columns), strict=True))

    assert answers(early) < answers(late)


def test_cohorts_have_the_requested_means_and_sds():
    _, truth = simulate(
        replace(SMALL, learners_per_month=4000, cohort_means=(0.0, 0.5, -0.5), cohort_sds=(1, 1.3, 0.8))
    )
    people = truth.learners
    for k, (mean, sd) in enumerate([(0.0, 1.0), (0.5, 1.3), (-0.5, 0.8)]):
        theta = people.theta[(people.cohort == k) & ~people.is_test, k]
        assert theta.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(theta.size))
        assert theta.std() == pytest.approx(sd, abs=4 * sd / np.sqrt(2 * theta.size))
    old = people.cohort == 0
    assert np.mean(people.theta[old, 2] - people.theta[old, 0]) == pytest.approx(0.24, abs=0.02)


def test_only_adaptive_assignment_gives_able_learners_hard_items():
    linear, flat = simulate(SMALL)
    exam = linear.form >= 0
    # About 40 thousand answers of 600 learners: the SD of a chance correlation is at most 1/√600 = 0.04.
    assert abs(np.corrcoef(flat.learners.theta[linear.person, 2][exam], flat.bank.b[0, linear.item[exam]])[0, 1]) < 0.05

    for width in (1.0, 0.5):
        log, truth = simulate(
            replace(SMALL, items_per_block=40, assignment="adaptive", adaptive_items=24, adaptive_width=width)
        )
        earlier, b = truth.learners.earlier_theta[log.person], truth.bank.b[0, log.item]
        placement, later = log.form == 0, log.form == 1
        assert abs(np.corrcoef(earlier[placement], b[placement])[0, 1]) < 0.05
        assert np.corrcoef(earlier[later], b[later])[0, 1] > 0.5
        # Too few items are within the width only beyond the bank's ends.
        middle = later & (np.abs(earlier) < 0.8)
        assert np.abs(earlier - b)[middle].max() <= width
        pair = (log.person * 120 + log.item)[placement | later]
        assert np.unique(pair).size == pair.size


def test_adaptive_items_are_assigned_from_answers_before_the_month():
    log, truth = simulate(replace(SMALL, items_per_block=40, assignment="adaptive", adaptive_items=24))
    k = month_index(log, truth)
    cohort = truth.learners.cohort[log.person]
    assert (k[log.form == 0] == cohort[log.form == 0]).all()
    assert (k[log.form == 1] > cohort[log.form == 1]).all()


def test_the_truth_is_plain_json_and_counts_every_arrived_attempt(demo):
    log, truth = demo
    plain = json.loads(json.dumps(truth.as_dict(), allow_nan=False))
    assert sum(sum(c[name] for name in CATEGORIES) for c in plain["counts"].values()) == log.arrived.sum()
    assert {f["kind"] for f in plain["faults"]} == {
        "drift", "leak", "dif", "wrong_key", "all_correct", "anchors_moved",
    }  # fmt: skip
    assert (plain["items"]["A01"]["b"].keys(), len(plain["learners"])) == (set(plain["months"]), log.user_ids.size)


def test_rules_of_eligibility_give_the_counts_of_the_truth(demo):
    """Rapid answers are found from their times alone; the remaining facts are columns of the log."""
    log, truth = demo
    last = np.zeros(log.session_ids.size, dtype=np.int64)
    given = log.arrived & (log.correct >= 0)
    np.maximum.at(last, log.session[given], log.position[given])
    time = np.where(log.response_time_ms < 0, np.nan, log.response_time_ms)
    for month in log.month[[0, -1]]:
        timed = given & ~log.sandbox & (log.month <= month)
        median = np.array([np.median(time[timed & (log.item == j)]) for j in range(120)])
        rows = np.flatnonzero(log.arrived & (log.month == month))
        item = log.item[rows]
        verdict = judge(
            Attempts(
                user=log.person[rows],
                item=item,
                live=~log.sandbox[rows],
                is_test=truth.learners.is_test[log.person[rows]],
                unknown_item=np.zeros(rows.size, dtype=bool),
                seen_before=log.category[rows] == CATEGORIES.index("repeat"),
                exam=log.form[rows] >= 0,
                answered_later=log.position[rows] < last[log.session[rows]],
                seeded=np.zeros(rows.size, dtype=bool),
                correct=log.correct[rows],
                hints=log.hints[rows].astype(np.int32),
                time_ms=time[rows],
                item_median_ms=median,
                item_n_timed=np.bincount(log.item[timed], minlength=120),
            ),
            Rules.from_settings({"min_learner_responses": 1, "min_responses": 1}),
        )
        planned = truth.counts[str(month)]
        for name in ("sandbox", "test_account", "repeat", "not_reached"):
            assert verdict.counts[name] == planned[name]
        # An honest answer at under a tenth of the median is a 5 SD accident.
        assert verdict.counts["rapid"] == pytest.approx(planned["rapid"], abs=3)


def test_a_fit_of_each_sound_month_recovers_the_items(demo):
    log, truth = demo
    bank = truth.bank
    for month in (0, 2, 3):
        rows = log.scored & (month_index(log, truth) == month)
        items = np.array(log.item_ids)[log.item[rows]]
        answers = pd.DataFrame({"person": log.person[rows], "item": items, "score": log.score[rows]})
        scores = answers.pivot(index="person", columns="item", values="score")
        fit = fit_em(Responses.from_wide(scores, list(scores.columns)))
        assert fit.item_ids == bank.item_ids
        clean = sound_items(bank)
        slope, intercept = truth.sample_sd[month], truth.sample_mean[month]
        z_a = (fit.a / slope - bank.a)[clean] / (fit.a_se / slope)[clean]
        z_b = (slope * fit.b + intercept - bank.b[month])[clean] / (slope * fit.b_se)[clean]
        # The SD of 115 standard normals has an SD of 0.066; five of these are allowed, as errors correlate.
        assert (np.std(z_a), np.std(z_b)) == pytest.approx((1, 1), abs=0.33)
        assert fit.a[planted_item(truth, "wrong_key")] < 0
        assert Flag.ALL_CORRECT in fit.flags[planted_item(truth, "all_correct")]


@pytest.mark.parametrize("now", [datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, 12, tzinfo=UTC)])
def test_log_is_simulated_if_the_current_month_has_just_started(now):
    log, truth = simulate(demo_scenario(now))
    assert log.completed_at.max() <= np.datetime64(now.replace(tzinfo=None))
    assert truth.scored[4].sum() == truth.counts["2026-11"]["scored"]
    json.dumps(truth.as_dict(), allow_nan=False)


def test_log_is_empty_if_now_is_before_the_first_month():
    log, truth = simulate(replace(SMALL, now=datetime(2026, 6, 1, tzinfo=UTC)))
    assert (log.n_attempts, truth.scored.sum(), truth.as_dict()["learners"]) == (0, 0, {})


def test_log_is_simulated_for_a_single_learner_per_month():
    log, truth = simulate(replace(SMALL, learners_per_month=1))
    assert (truth.learners.user_ids.size, np.sum(log.form >= 0)) == (3, 3 * SMALL.exam_items)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"months": ("2026-07", "2026-09")}, ValueError, "consecutive"),
        ({"now": datetime(2026, 11, 20)}, ValueError, "time zone"),  # noqa: DTZ001 – the naive time is the point
        ({"faults": (Fault("drift", first_month="2027-01"),)}, ValueError, "none of the months"),
        ({"faults": (Fault("drift", n_items=40),)}, PsychometricsError, "fault drift needs 40 items"),
    ],
)
def test_impossible_scenarios_are_refused_with_the_reason(change, error, message):
    with pytest.raises(error, match=message):
        make_bank(replace(SMALL, **change))


KINDS = ((0, 1, 2, 3), (0, 2))


def test_scored_items_follow_their_model_in_a_log_with_a_drifting_item():
    fault = Fault("drift", first_month=MONTHS[2], size=-0.8, scored=True)
    scenario = replace(SMALL, learners_per_month=1500, items_per_block=24, scored_items=KINDS, faults=(fault,))
    log, truth = simulate(scenario)
    bank, table = truth.bank, attempts_table(log, log.arrived)
    several = bank.max_scores > 1
    assert several.sum() > 5
    assert not (several & (bank.anchor | (bank.key >= 0))).any()
    stated = several[log.item[log.arrived]] & (log.points[log.arrived] >= 0)
    assert (table["score"].is_valid().to_numpy() == stated).all()
    full = log.points == bank.max_scores[log.item]
    assert ((log.correct == 1) == full)[several[log.item] & (log.points >= 0)].all()
    assert set(log.points[log.item == np.flatnonzero(bank.max_scores == 2)[0]].tolist()) == {-1, 0, 2}

    rows = log.scored & several[log.item]
    k, j = month_index(log, truth)[rows], log.item[rows]
    points = np.arange(bank.scored.t.shape[1])
    p = softmax(
        np.outer(bank.a[j] * (theta_of(log, truth)[rows] - bank.b[k, j]), points) + bank.scored.t[j],
        axis=1,
    )
    mean = p @ points
    variance = p @ points**2 - mean**2
    cell = k * bank.a.size + j
    spread = np.bincount(cell, weights=variance)
    z = (np.bincount(cell, weights=log.score[rows] - mean) / np.sqrt(np.maximum(spread, 1e-9)))[spread > 0]
    assert np.abs(z).max() < 4
    assert abs(np.std(z) - 1) < 4 / np.sqrt(2 * z.size)
    drifted = planted_item(truth, "drift")
    assert (several[drifted], bank.b[2, drifted]) == (True, bank.b[0, drifted] - 0.8)
    assert truth.as_dict()["items"][bank.item_ids[drifted]]["t"][0] == 0


def test_scored_items_do_not_change_the_remaining_items_of_a_scenario():
    plain, scored = simulate(SMALL), simulate(replace(SMALL, scored_items=KINDS))
    same = plain[1].bank.max_scores == scored[1].bank.max_scores
    assert (plain[1].bank.a == scored[1].bank.a)[same].all()
    assert (plain[1].bank.key == scored[1].bank.key).all()
    assert "score" not in attempts_table(plain[0], plain[0].arrived).column_names


def test_adaptive_assignment_of_scored_items_is_refused():
    with pytest.raises(PsychometricsError, match="scored 0 and 1"):
        replace(SMALL, assignment="adaptive", adaptive_items=20, scored_items=KINDS)


def test_ability_moves_day_by_day_as_planted() -> None:
    """Mean and variance of θ's change over 60 days; limits are four standard errors of 2020 learners. A scenario with
    constant θ has the same learners and sessions."""
    moving = replace(
        SMALL,
        learners_per_month=2000,
        weekly_variance=0.04,
        growth_mean=0.0,
        growth_sd=0.0,
    )
    log, truth = simulate(moving)
    still, at_rest = simulate(replace(SMALL, learners_per_month=2000, growth_mean=0.0, growth_sd=0.0))
    np.testing.assert_array_equal(log.completed_at, still.completed_at)
    np.testing.assert_array_equal(log.item, still.item)
    daily = truth.learners.daily[truth.learners.cohort == 0]
    assert daily.shape[1] == 31 + 31 + 30
    assert at_rest.learners.daily.shape[1] == 0
    change = daily[:, 60] - daily[:, 0]
    variance = 60 / 7 * 0.04
    n = change.size
    assert abs(change.mean()) < 4 * np.sqrt(variance / n)
    assert abs(change.var() / variance - 1) < 4 * np.sqrt(2 / n)
    np.testing.assert_allclose(truth.learners.theta[truth.learners.cohort == 0, 0], daily[:, :31].mean(axis=1))
    assert np.isnan(truth.learners.daily[truth.learners.cohort == 1, :31]).all()
    day = (log.completed_at.astype("datetime64[D]") - np.datetime64(MONTHS[0], "D")).astype(int)
    theta = truth.learners.daily[log.person, day]
    rows = log.scored & ~log.rapid & (log.hints == 0) & (log.correct >= 0) & (log.form >= 0)
    rows &= sound_items(truth.bank)[log.item]
    bank, month = truth.bank, month_index(log, truth)
    p = expit(bank.a[log.item] * (theta - bank.b[month, log.item]))[rows]
    # answers that eligibility scores 0 are drawn among wrong ones, so the rest are slightly better than the model
    slope = np.cov(log.score[rows], p)[0, 1] / p.var()
    assert abs(slope - 1) < 0.03
