"""Classification of changed items: drift, leak or wrong key, from times and options, and a leak's first day."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.drift.change_types import Change, ChangeKind, TimedAnswers, classify_changes

ITEMS, LEARNERS, MEAN, SD = 25, 1500, 0.3, 1.1
IDS = tuple(f"item{j:02d}" for j in range(ITEMS))
LEAKED_FROM = 12

rng = np.random.default_rng(3)
A, B, C = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS), np.zeros(ITEMS)
A[0], B[0] = 1.0, 0.4


def window(
    *, drift: float = 0.0, leak: float = 0.0, wrong_key: bool = False, from_day: int = 0, seed: int = 7
) -> TimedAnswers:
    """All learners answer all items; item 0 changed. Log times have SDs 0.35 and 0.25; a leak halves the time."""
    g = np.random.default_rng(seed)
    theta, day = g.normal(MEAN, SD, (LEARNERS, 1)), g.integers(0, 30, LEARNERS)
    first = np.arange(ITEMS) == 0
    knows = g.random((LEARNERS, ITEMS)) < 1 / (1 + np.exp(-A * (theta - B - drift * first)))
    insider = (g.random((LEARNERS, ITEMS)) < leak) & first & (day[:, None] >= from_day)
    option = np.where(knows | insider, 0, 1 + g.choice(3, knows.shape, p=(0.5, 0.3, 0.2)))
    key = np.where(first & wrong_key, 1, 0)
    log_time = 3.0 + g.normal(0, 0.35, knows.shape) + g.normal(0, 0.25, (LEARNERS, 1)) + np.log(0.5) * insider
    return TimedAnswers(
        person=np.repeat(np.arange(LEARNERS), ITEMS), item=np.tile(np.arange(ITEMS), LEARNERS),
        score=(option == key).ravel().astype(np.int8), log_time=log_time.ravel(), day=np.repeat(day, ITEMS),
        option=option.ravel(), item_ids=IDS, key=key,
        usual_log_time=np.full(ITEMS, 3.0), usual_log_time_se=np.zeros(ITEMS),
    )  # fmt: skip


def published_items(b: np.ndarray) -> ItemParameters:
    return ItemParameters(IDS, A, b, C, np.zeros((ITEMS, 2, 2)))


def classify(answers: TimedAnswers, *, b: np.ndarray = B, items: tuple[str, ...] = ("item00",)) -> Change:
    return classify_changes(answers, items, published_items(b), mean=MEAN, sd=SD)["item00"]


def without_times(answers: TimedAnswers) -> TimedAnswers:
    return replace(answers, log_time=np.full(answers.item.size, np.nan))


def without_options(answers: TimedAnswers) -> TimedAnswers:
    return replace(answers, option=np.full(answers.item.size, -1))


@pytest.mark.parametrize("size", [-0.5, -0.8, 0.5, 0.8])
def test_drift_is_classified_with_its_size(size: float) -> None:
    """The error of b is about 0.06 with 1500 answers, and limits are three times as large."""
    change = classify(window(drift=size))
    assert (change.kind, change.size, change.onset) == (ChangeKind.DRIFT, pytest.approx(size, abs=0.18), None)


@pytest.mark.parametrize("share", [0.2, 0.35])
def test_leak_is_classified_with_its_share(share: float) -> None:
    """Among the 800 learners who do not know the answer, the share has an error of 0.02; θ adds some error."""
    change = classify(window(leak=share))
    assert (change.kind, change.size) == (ChangeKind.LEAK, pytest.approx(share, abs=0.08))
    assert change.time_z < -4


def test_first_day_of_a_leak_is_found() -> None:
    onsets = [classify(window(leak=0.6, from_day=LEAKED_FROM, seed=s)).onset for s in range(5)]
    assert np.median(np.abs(np.array(onsets) - LEAKED_FROM)) <= 1


def test_easier_items_are_classified_as_drift_or_leak_if_times_are_missing() -> None:
    drifted, leaked = (classify(without_times(window(**by))) for by in ({"drift": -0.8}, {"leak": 0.35}))
    assert (drifted.kind, leaked.kind) == (ChangeKind.EASIER, ChangeKind.EASIER)
    assert np.isnan(leaked.time_z)


def test_harder_items_are_classified_as_drift_if_times_are_missing() -> None:
    assert classify(without_times(window(drift=0.8))).kind is ChangeKind.DRIFT


@pytest.mark.parametrize("options", [True, False])
def test_wrong_key_is_classified_with_and_without_options(options: bool) -> None:
    answers = window(wrong_key=True)
    change = classify(answers if options else without_options(answers))
    # three standard errors of a share among 700; the option that abler learners choose is the right one
    expected = ChangeKind.WRONG_KEY, pytest.approx(0.5, abs=0.06), 0 if options else None
    assert (change.kind, change.size, change.distractor) == expected


def test_items_that_did_not_change_are_classified_as_unclear() -> None:
    change = classify(window())
    assert (change.kind, np.isnan(change.size)) == (ChangeKind.UNCLEAR, True)
    assert max(change.gains.values()) < 10.8


def test_abilities_come_from_items_outside_the_request() -> None:
    answers = window(drift=-0.5)
    wrong_about_another = B + 3.0 * (np.arange(ITEMS) == 1)
    both = ("item00", "item01")
    assert classify(answers, items=both) == classify(answers, b=wrong_about_another, items=both)
    assert classify(answers).gains != classify(answers, b=wrong_about_another).gains


def test_slower_learners_and_longer_items_do_not_change_the_evidence_of_a_leak() -> None:
    """Times are compared with the usual times of the learner and of the item."""
    answers = window(drift=-0.5)
    longer = np.linspace(-1, 1, ITEMS)
    slower = np.random.default_rng(1).normal(0, 1, LEARNERS)
    shifted = replace(
        answers,
        log_time=answers.log_time + longer[answers.item] + slower[answers.person],
        usual_log_time=answers.usual_log_time + longer,
    )
    assert classify(shifted).time_z == pytest.approx(classify(answers).time_z, abs=1e-9)


def test_leak_is_not_classified_if_the_usual_time_is_uncertain() -> None:
    answers = window(leak=0.35)
    unsure = replace(answers, usual_log_time_se=np.full(ITEMS, 0.5))
    assert classify(unsure).kind is ChangeKind.DRIFT
    assert -1 < classify(unsure).time_z < 0


def test_items_without_published_values_are_not_classified() -> None:
    b = np.where(np.arange(ITEMS) == 0, np.nan, B)
    assert classify_changes(window(), ["item00"], published_items(b), mean=MEAN, sd=SD) == {}
