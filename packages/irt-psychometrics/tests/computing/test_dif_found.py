"""DIF analysis of fits detects planted items, and does not report differences of ability as DIF.

A cheap part of benchmarks/bench_dif.py, whose tables are in docs/explanation/dif.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.dif.split_items import Groups
from irt_psychometrics.dif.wald import Differences, curve_difference, differences_of
from psychometrics_testbed.split_fits import LEARNERS, split_fit
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

ITEMS = 20


def world(rng: np.random.Generator, groups: list[tuple[int, float, float]], dif: np.ndarray) -> Dif:
    """Groups of n learners N(mean, sd²), the first with one more. Items are harder by `dif` (J,) for the last group."""
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    rows, values = [], []
    for g, (n, mean, sd) in enumerate(groups):
        theta = rng.normal(mean, sd, (n + (g == 0), 1))
        rows.append(rng.random((len(theta), ITEMS)) < expit(a * (theta - b - dif * (g == len(groups) - 1))))
        values += [f"group{g}"] * len(theta)
    responses = Responses.from_wide(np.vstack(rows).astype(float))
    return Dif.from_responses("group", responses, values, forms=["form"] * responses.n_responses, threads=1)


@pytest.mark.ci
def test_only_the_planted_items_of_the_reference_are_flagged(shared: Path) -> None:
    """d05: b + 0.6; d12: a·0.6, b + 0.3; focal N(0.5, 1.1²). Means and SDs within three of their standard errors, which
    are about 0.05. mirt's likelihood ratio tests name the same two."""
    rows = list(csv.reader((shared / "reference" / "dif2000x20.csv").read_text().splitlines()))
    values = [row[0] for row in rows[1:]]
    responses = Responses.from_wide(np.array([row[1:] for row in rows[1:]], dtype=float), rows[0][1:])
    found = Dif.from_responses("group", responses, values, forms=["form"] * responses.n_responses, threads=1)
    assert found.wald.flagged == ("d05", "d12")
    j, reference = responses.item_ids.index("d05"), found.wald.groups.index("ref")
    assert reference == 1, "groups of one size are ordered by name"
    assert (-found.wald.mean[1] / found.wald.sd[1], 1 / found.wald.sd[1]) == pytest.approx((0.5, 1.1), abs=0.15)
    assert found.wald.shift[0, j] > 0, "it is easier for ref"
    within = found.within_forms
    beyond_a = [
        i for i, m in zip(found.wald.item_ids, within.mantel_haenszel[0], strict=True) if m and m.ets_class != "A"
    ]
    certain = [i for i, x in zip(found.wald.item_ids, within.logistic[0], strict=True) if x and x.p < 0.001]
    assert beyond_a == certain == ["d05", "d12"]


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_five_percent_of_sound_items_have_p_below_0_05_if_groups_are_one_sd_apart() -> None:
    """The share over 1200 tests has a standard error of 0.63 % if items of a month are independent; 2.5 to 7.5 % are
    four standard errors either way. 40 means at 250 learners have a standard error of 0.02."""
    rng = np.random.default_rng(11)
    p, means = [], []
    for _ in range(60):
        wald = world(rng, [(250, 0.0, 1.0), (250, -1.0, 1.0)], np.zeros(ITEMS)).wald
        p.append(wald.p)
        means.append(wald.mean[1])
    assert 0.025 <= np.mean(np.array(p) < 0.05) <= 0.075
    assert np.mean(means) == pytest.approx(-1.0, abs=0.09)


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["1pl", "3pl"])
def test_five_percent_of_sound_items_have_p_below_0_05_with_guessing_or_a_common_slope(model: Model) -> None:
    """600 tests, groups 1 SD apart: three standard errors of a twentieth are .027."""
    rng, p = np.random.default_rng(13), []
    for _ in range(20 if model == "1pl" else 10):
        items = ITEMS if model == "1pl" else 2 * ITEMS
        a, b = np.exp(rng.normal(0, 0.3, items)) if model == "3pl" else np.ones(items), rng.normal(0, 1, items)
        theta, low = rng.normal(0, 1, (2400, 1)) - (np.arange(2400) >= 1200)[:, None], 0.2 * (model == "3pl")
        answers = rng.random((2400, items)) < low + (1 - low) * expit(a * (theta - b))
        groups = np.repeat(["g0", "g1"], 1200).tolist()
        wald = Dif.from_responses(
            "group", Responses.from_wide(answers.astype(float)), groups, model=model, threads=1
        ).wald
        p.append(wald.p)
    assert np.nanmean(np.concatenate(p) < 0.05) == pytest.approx(0.05, abs=0.027)


@pytest.mark.ci
@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    ("sizes", "mean", "moved"), [((1000, 1000), -1.0, 0), ((1500, 300), -1.0, 3), ((400, 400), 1.0, 3)]
)
def test_intervals_of_differences_contain_the_truth_at_the_stated_rate(
    sizes: tuple[int, int], mean: float, moved: int
) -> None:
    """600 items a design: a share of 0.95 has a standard error of 0.009, and three of them are allowed."""
    rng = np.random.default_rng(12)
    inside, scores = [], []
    for _ in range(30):
        a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
        dif = 0.6 * rng.choice([-1, 1], ITEMS) * (np.arange(ITEMS) < moved)
        answers = []
        for n, at, harder in zip(sizes, (0.0, mean), (0.0, dif), strict=True):
            theta = rng.normal(at, 1, (n, 1))
            answers.append(rng.random((n, ITEMS)) < expit(a * (theta - b - harder)))
        responses = Responses.from_wide(np.vstack(answers).astype(float))
        found = Dif.from_responses("group", responses, np.repeat(["0", "1"], sizes).tolist(), threads=1).wald
        stated = np.isfinite(found.se[0, :, 1])
        inside += (np.abs(found.delta[0, :, 1] - dif) < 1.96 * found.se[0, :, 1])[stated].tolist()
        scores += (np.abs(found.shift[0]) < 1.96 * found.shift_se[0])[dif == 0].tolist()
    assert np.mean(inside) == pytest.approx(0.95, abs=0.027)
    assert np.mean(scores) == pytest.approx(0.95, abs=0.03)


# -- effects -----------------------------------------------------------------------------------------
# Sizes of differences, compared with draws whose errors are known, integrals and finite differences.

J, ERROR = 12, 0.02
A = np.exp(np.linspace(-0.4, 0.4, J))
B = np.linspace(-1.5, 1.5, J)[::-1]


def compare_groups(a: np.ndarray, d: np.ndarray, error: float = ERROR) -> Differences:
    return differences_of(split_fit(a, d, error), np.full(2, LEARNERS))


def test_errors_of_differences_match_the_spread_of_draws_for_both_groups() -> None:
    """The SDs of 300 draws of both groups' estimates about known parameters, for a sound item, an item that is flat in
    the reference, an item that is flat in the focal group, and a hard item. An SD of 300 draws has an error of 4 %."""
    rng = np.random.default_rng(3)
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 2], a[1, 5] = 0.4, 0.4
    d[0, 9], d[1, 9] = -2.5, -3.0
    draws = [
        compare_groups(a + ERROR * rng.normal(size=a.shape), d + ERROR * rng.normal(size=a.shape)) for _ in range(300)
    ]
    delta, se = (np.array([getattr(found, name)[0] for found in draws]) for name in ("delta", "se"))
    shift, shift_se = (np.array([getattr(found, name)[0] for found in draws]) for name in ("shift", "shift_se"))
    for j in (2, 5, 6, 9):
        assert np.mean(se, axis=0)[j] == pytest.approx(np.std(delta, axis=0)[j], rel=0.13), j
        assert np.mean(shift_se, axis=0)[j] == pytest.approx(np.std(shift, axis=0)[j], rel=0.13), j


def test_only_expected_scores_are_compared_if_a_difficulty_is_extrapolated() -> None:
    """b = 6.5 in the reference; a = 0.15 in the focal group."""
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 3], d[0, 3] = 0.5, -3.25
    a[1, 7] = 0.15
    found = compare_groups(a, d)
    stated = np.isfinite(found.delta[0, :, 1])
    assert np.flatnonzero(~stated).tolist() == [3, 7]
    assert np.array_equal(stated, np.isfinite(found.se[0, :, 1]))
    assert np.isfinite(found.delta[0, :, 0]).all()
    assert np.isfinite([found.shift, found.shift_se]).all()


@pytest.mark.parametrize("c", [None, 0.2])
def test_slopes_of_curve_differences_match_finite_differences(c: float | None) -> None:
    """Slopes are derivatives if the curves are equal; if they differ, slope times step is the difference."""
    theta = 0.3 + 1.2 * Grid.symmetric().nodes
    weights = np.exp(Grid.symmetric().log_weights())
    guessing = [] if c is None else [np.log(c / (1 - c))]
    at = np.array([0.7, -1.1, *guessing])
    _, _, slopes = curve_difference(at[None], at[None], theta)

    def moments(x: np.ndarray) -> np.ndarray:
        low = 0.0 if c is None else expit(x[2])
        p = low + (1 - low) * expit(x[0] * theta + x[1])
        return np.array([weights @ p, (weights * Grid.symmetric().nodes) @ p])

    step = 1e-5
    by_hand = [(moments(at + e) - moments(at - e)) / (2 * step) for e in step * np.eye(at.size)]
    assert pytest.approx(np.array(by_hand), rel=1e-7) == slopes[0].T
    other = np.array([2.1, 1.4, *guessing])
    area, t, slopes = curve_difference(at[None], other[None], theta)
    assert t[0] == pytest.approx(moments(other) - moments(at), abs=1e-12)
    assert slopes[0] @ (other - at) == pytest.approx(t[0], rel=1e-6)
    assert area[0] >= abs(t[0, 0])


def test_squared_z_of_a_difference_does_not_exceed_the_joint_wald_statistic() -> None:
    """The χ² of a direction is at most the χ² of both (Cauchy & Schwarz): always for expected scores, and for Δb as far
    as it is linear. 20 pairs of sound groups have errors of 0.1, at which Δb is not quite linear."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        a, d = A + 0.1 * rng.normal(size=(2, J)), 0.1 * rng.normal(size=(2, J)) - A * B
        found = compare_groups(a, d, 0.1)
        assert np.all((found.shift / found.shift_se)[0] ** 2 <= found.wald * 1.001)
        assert np.all((found.delta / found.se)[0, :, 1] ** 2 <= found.wald * 1.6 + 0.1)


# -- groups ------------------------------------------------------------------------------------------
# Groups and items that DIF analysis compares or leaves out with a reason, in fits of simulated answers.


def answers(n: int, items: int = 6) -> Responses:
    rng = np.random.default_rng(n)
    theta = rng.normal(0, 1, (n, 1))
    p = expit(1.2 * (theta - np.linspace(-1, 1, items)))
    return Responses.from_wide((rng.random((n, items)) < p).astype(float))


def test_small_and_unknown_groups_are_listed_with_their_counts() -> None:
    values = ["ko"] * 600 + ["en"] * 250 + ["vi"] * 199 + ["th"] + [None] * 350
    dif = Dif.from_responses("lang", answers(1400), values, threads=1)
    assert [(g.name, g.n_learners, g.tested) for g in dif.groups] == [
        ("ko", 600, True), ("en", 250, True), ("vi", 199, False), ("th", 1, False),
    ]  # fmt: skip
    assert next(g for g in dif.groups if not g.tested).reason == "199 learners, 200 are needed"
    assert [g.name for g in dif.groups if g.low_power] == ["en"]
    assert (dif.n_unknown, dif.wald.groups) == (350, ("ko", "en"))
    assert dif.within_forms is None


def test_groups_are_not_compared_if_only_a_single_group_is_large_enough() -> None:
    dif = Dif.from_responses("country", answers(500), ["KR"] * 499 + ["VN"], threads=1)
    assert (dif.wald, dif.reason) == (None, "1 of 2 groups can be tested, two are needed")


def test_groups_are_not_compared_if_no_learner_has_the_attribute() -> None:
    dif = Dif.from_responses("country", answers(300), [None] * 300, forms=["f"] * 1800, threads=1)
    assert (dif.wald, dif.within_forms, dif.groups, dif.reference) == (None, None, (), None)
    assert (dif.n_unknown, dif.reason) == (300, "no learner has it")


def test_groups_without_common_items_are_not_compared() -> None:
    whole = answers(900, 8)
    first_half = whole.person < 450
    kept = first_half == (whole.item < 4)
    responses = Responses(whole.person[kept], whole.item[kept], whole.score[kept], 900, whole.item_ids)
    dif = Dif.from_responses("tier", responses, ["free"] * 450 + ["paid"] * 450, threads=1)
    assert dif.wald is None
    assert "0 items have enough answers" in dif.reason


def test_labels_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(PsychometricsError, match="values of lang must be 500 labels, got 499"):
        Dif.from_responses("lang", answers(500), ["ko"] * 499)


def part(responses: Responses, kept: np.ndarray) -> Responses:
    """The responses that a mask (persons × items) selects."""
    rows = kept[responses.person, responses.item]
    return Responses(
        responses.person[rows], responses.item[rows], responses.score[rows], responses.n_persons, responses.item_ids
    )


@pytest.mark.parametrize(
    ("sizes", "left_out"), [((600, 500, 400), "c"), ((600, 500, 800), "c"), ((900, 400, 300), "c")]
)
def test_remaining_groups_are_compared_if_a_group_shares_no_items(sizes: tuple[int, ...], left_out: str) -> None:
    """The group without common items is either small, or the largest group, which would have been the reference."""
    group = np.repeat(list("abc"), sizes)
    whole = answers(len(group), 12)
    kept = (group == left_out)[:, None] == (np.arange(12) >= 6)
    dif = Dif.from_responses("tier", part(whole, kept), group.tolist(), threads=1)
    assert dif.wald.groups == ("a", "b")
    assert np.isfinite(dif.wald.p[:6]).all()
    (out,) = (g for g in dif.groups if not g.tested)
    assert out.name == left_out
    assert "0 items have enough answers" in out.reason
    assert dif.reference.name == "a"


def test_remaining_groups_are_compared_if_a_group_cannot_be_fitted() -> None:
    group = np.repeat(list("abc"), (500, 400, 300))
    whole = answers(1200, 6)
    score = np.where(whole.person >= 900, 1, whole.score)
    dif = Dif.from_responses(
        "tier", Responses(whole.person, whole.item, score, 1200, whole.item_ids), group.tolist(), threads=1
    )
    assert dif.wald.groups == ("a", "b")
    assert [g.name for g in dif.groups if not g.tested] == ["c"]


def test_items_are_not_compared_if_a_group_answered_them_too_seldom() -> None:
    group = np.repeat(["ko", "en"], (700, 600))
    kept = np.ones((1300, 8), dtype=bool)
    kept[700:, 2] = False
    kept[899:, 5] = False
    dif = Dif.from_responses("lang", part(answers(1300, 8), kept), group.tolist(), threads=1)
    en = next(g for g in dif.groups if g.name == "en")
    assert [dif.why_not(j, en) for j in range(8)] == [
        "", "", "en: 0 answers, 200 are needed", "", "", "en: 199 answers, 200 are needed", "", "",
    ]  # fmt: skip
    assert np.isnan(dif.wald.p[[2, 5]]).all()


def test_item_with_dif_is_flagged_under_guessing() -> None:
    """The Wald test and the statistics within forms both find the item that is harder for a group."""
    rng = np.random.default_rng(8)
    group = np.repeat(["ko", "en", "vi"], (1500, 1200, 199))
    theta, b = rng.normal(0, 1, (2899, 1)), np.linspace(-1.5, 1.5, 15)
    harder = 1.0 * (group == "en")[:, None] * (np.arange(15) == 7)
    x = (rng.random((2899, 15)) < 0.2 + 0.8 * expit(1.2 * (theta - b - harder))).astype(float)
    responses = Responses.from_wide(x)
    forms = ["f"] * responses.n_responses
    dif = Dif.from_responses("lang", responses, group.tolist(), forms=forms, model="3pl", threads=1)
    assert dif.wald.flagged == ("i8",)
    assert "i8" not in dif.wald.anchors
    classes = [m and m.ets_class for m in dif.within_forms.mantel_haenszel[0]]
    assert classes[7] in ("B", "C")
    assert classes.count("A") >= 13
    assert dif.why_not(0, dif.groups[2]) == "199 learners, 200 are needed"


def test_each_half_of_the_anchors_is_tested_while_the_second_half_links_the_groups() -> None:
    """Each half of the anchors is held in one fit, and items that are not anchors are split in both fits. An item that
    a group answered too seldom keeps one copy."""
    group = np.repeat([0, 1], (700, 600))
    whole = answers(1300, 8)
    answered = np.ones((2, 8), dtype=bool)
    answered[1, 2] = False
    groups = Groups.from_responses(
        whole, ("a", "b"), group, answered, models=("2pl",) * whole.n_items, latent="normal", threads=1
    )
    assert not np.any((groups.responses.item == 2) & (groups.member[groups.responses.person] == 1))
    anchors, fits = groups.fit_halves()
    one, other = (copies.place[0] == copies.place[1] for copies in fits)
    assert not (one & other).any()
    assert np.array_equal(one | other, anchors)
    assert one.sum() > other.sum() >= 1
    assert fits[0].place[1, 2] == -1


def test_statistics_within_forms_are_missing_if_a_group_has_few_sittings() -> None:
    group = np.repeat(["ko", "en"], (700, 600))
    whole = answers(1300, 8)
    in_exam = (whole.person < 700) | (whole.person >= 1101)
    dif = Dif.from_responses("lang", whole, group.tolist(), forms=np.where(in_exam, "f", None).tolist(), threads=1)
    assert dif.within_forms.sittings[:, 0].tolist() == [700, 199]
    assert set(dif.within_forms.mantel_haenszel[0]) == set(dif.within_forms.logistic[0]) == {None}
