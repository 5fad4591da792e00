"""Which groups and items DIF analysis compares, by fits of simulated answers, and what it says of the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.dif.analysis import analyse_dif
from irt_assets.psychometrics.dif.split_items import Groups


def answers(n: int, items: int = 6) -> Responses:
    rng = np.random.default_rng(n)
    theta = rng.normal(0, 1, (n, 1))
    p = expit(1.2 * (theta - np.linspace(-1, 1, items)))
    return Responses.from_wide((rng.random((n, items)) < p).astype(float))


def test_small_and_unknown_groups_are_named_with_their_counts() -> None:
    values = ["ko"] * 600 + ["en"] * 250 + ["vi"] * 199 + ["th"] + [None] * 350
    dif = analyse_dif("lang", answers(1400), values, threads=1)
    assert [(g.name, g.n_learners, g.tested) for g in dif.groups] == [
        ("ko", 600, True), ("en", 250, True), ("vi", 199, False), ("th", 1, False),
    ]  # fmt: skip
    assert next(g for g in dif.groups if not g.tested).reason == "199 learners, 200 are needed"
    assert [g.name for g in dif.groups if g.low_power] == ["en"]
    assert dif.n_unknown == 350
    assert dif.wald.groups == ("ko", "en")
    assert dif.within_forms is None


def test_one_group_is_no_comparison() -> None:
    dif = analyse_dif("country", answers(500), ["KR"] * 499 + ["VN"], threads=1)
    assert dif.wald is None
    assert dif.reason == "1 of 2 groups can be tested, two are needed"


def test_an_attribute_that_nobody_has_is_no_comparison() -> None:
    dif = analyse_dif("country", answers(300), [None] * 300, forms=["f"] * 1800, threads=1)
    assert (dif.wald, dif.within_forms, dif.groups, dif.reference) == (None, None, (), None)
    assert (dif.n_unknown, dif.reason) == (300, "no learner has it")


def test_groups_that_answered_other_items_are_not_compared() -> None:
    whole = answers(900, 8)
    first_half = whole.person < 450
    kept = first_half == (whole.item < 4)
    responses = Responses(whole.person[kept], whole.item[kept], whole.score[kept], 900, whole.item_ids)
    dif = analyse_dif("tier", responses, ["free"] * 450 + ["paid"] * 450, threads=1)
    assert dif.wald is None
    assert "0 items have answers enough" in dif.reason


def test_labels_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(PsychometricsError, match="values of lang must be 500 labels, got 499"):
        analyse_dif("lang", answers(500), ["ko"] * 499)


def part(responses: Responses, kept: np.ndarray) -> Responses:
    """The responses of a mask (persons × items)."""
    rows = kept[responses.person, responses.item]
    return Responses(
        responses.person[rows], responses.item[rows], responses.score[rows], responses.n_persons, responses.item_ids
    )


@pytest.mark.parametrize(
    ("sizes", "left_out"), [((600, 500, 400), "c"), ((600, 500, 800), "c"), ((900, 400, 300), "c")]
)
def test_a_group_that_answered_other_items_does_not_stop_the_others(sizes: tuple[int, ...], left_out: str) -> None:
    """Whether it is a small one or the largest, which would have been the reference."""
    group = np.repeat(list("abc"), sizes)
    whole = answers(len(group), 12)
    kept = (group == left_out)[:, None] == (np.arange(12) >= 6)
    dif = analyse_dif("tier", part(whole, kept), group.tolist(), threads=1)
    assert dif.wald.groups == ("a", "b")
    assert np.isfinite(dif.wald.p[:6]).all()
    (out,) = (g for g in dif.groups if not g.tested)
    assert out.name == left_out
    assert "0 items have answers enough" in out.reason
    assert dif.reference.name == "a"


def test_a_group_that_cannot_be_fitted_does_not_stop_the_others() -> None:
    group = np.repeat(list("abc"), (500, 400, 300))
    whole = answers(1200, 6)
    score = np.where(whole.person >= 900, 1, whole.score)
    dif = analyse_dif(
        "tier", Responses(whole.person, whole.item, score, 1200, whole.item_ids), group.tolist(), threads=1
    )
    assert dif.wald.groups == ("a", "b")
    assert [g.name for g in dif.groups if not g.tested] == ["c"]


def test_an_item_needs_answers_in_both_groups_and_is_named_where_it_has_none() -> None:
    group = np.repeat(["ko", "en"], (700, 600))
    kept = np.ones((1300, 8), dtype=bool)
    kept[700:, 2] = False
    kept[899:, 5] = False
    dif = analyse_dif("lang", part(answers(1300, 8), kept), group.tolist(), threads=1)
    en = next(g for g in dif.groups if g.name == "en")
    assert [dif.why_not(j, en) for j in range(8)] == [
        "", "", "en: 0 answers, 200 are needed", "", "", "en: 199 answers, 200 are needed", "", "",
    ]  # fmt: skip
    assert np.isnan(dif.wald.p[[2, 5]]).all()


def test_under_guessing_groups_are_compared_too() -> None:
    """An item that is harder for a group is found among others, by the Wald test and within forms."""
    rng = np.random.default_rng(8)
    group = np.repeat(["ko", "en", "vi"], (1500, 1200, 199))
    theta, b = rng.normal(0, 1, (2899, 1)), np.linspace(-1.5, 1.5, 15)
    harder = 1.0 * (group == "en")[:, None] * (np.arange(15) == 7)
    x = (rng.random((2899, 15)) < 0.2 + 0.8 * expit(1.2 * (theta - b - harder))).astype(float)
    responses = Responses.from_wide(x)
    forms = ["f"] * responses.n_responses
    dif = analyse_dif("lang", responses, group.tolist(), forms=forms, model="3pl", threads=1)
    assert dif.wald.flagged == ("i8",)
    assert "i8" not in dif.wald.anchors
    classes = [m and m.ets_class for m in dif.within_forms.mantel_haenszel[0]]
    assert classes[7] in ("B", "C")
    assert classes.count("A") >= 13
    assert dif.why_not(0, dif.groups[2]) == "199 learners, 200 are needed"


def test_each_anchor_is_tested_while_others_hold_the_groups_together() -> None:
    """Both parts of the anchors are held once, and what is not an anchor is split in both fits. An item that most of a
    group answered too seldom keeps one copy."""
    group = np.repeat([0, 1], (700, 600))
    whole = answers(1300, 8)
    answered = np.ones((2, 8), dtype=bool)
    answered[1, 2] = False
    groups = Groups.of(whole, ("a", "b"), group, answered, models=("2pl",) * whole.n_items, latent="normal", threads=1)
    assert not np.any((groups.responses.item == 2) & (groups.member[groups.responses.person] == 1))
    anchors, fits = groups.tested()
    one, other = (copies.place[0] == copies.place[1] for copies in fits)
    assert not (one & other).any()
    assert np.array_equal(one | other, anchors)
    assert one.sum() > other.sum() >= 1
    assert fits[0].place[1, 2] == -1


def test_an_item_on_few_sittings_of_a_group_is_not_judged_within_forms() -> None:
    group = np.repeat(["ko", "en"], (700, 600))
    whole = answers(1300, 8)
    in_exam = (whole.person < 700) | (whole.person >= 1101)
    dif = analyse_dif("lang", whole, group.tolist(), forms=np.where(in_exam, "f", None).tolist(), threads=1)
    assert dif.within_forms.sittings[:, 0].tolist() == [700, 199]
    assert set(dif.within_forms.mantel_haenszel[0]) == set(dif.within_forms.logistic[0]) == {None}
