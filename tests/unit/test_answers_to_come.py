"""The rates of answers from which the pipeline of new items forecasts dates."""

from __future__ import annotations

import numpy as np

from irt_assets.new_items.pipeline import Answers, expected_week
from irt_assets.scales.item_status import DAY, instant_of

LAST_DAY = 100


def answers_of(*items: dict[int, int], drawn: tuple[bool, ...]) -> Answers:
    """Answers of items: {days before the last one: number of answers}."""
    rows = sorted((j, LAST_DAY - age) for j, own in enumerate(items) for age, n in own.items() for _ in range(n))
    item, day = np.array(rows).T
    names, nothing = [f"n{j}" for j in range(len(items))], np.zeros(len(item))
    return Answers(names, item, day * DAY, nothing.astype(int), nothing, nothing, np.array(drawn)[item])


def rates(answers: Answers) -> list[float]:
    return [round(float(x), 6) for x in expected_week(answers, instant_of((LAST_DAY + 1) * DAY)).mean(axis=1)]


def test_rate_is_the_last_week_s_from_the_first_answer_on() -> None:
    """The second item has its first answer two days before the end, so that its rate is of three days."""
    old, young = {40: 50, 6: 7, 0: 7}, {2: 3, 0: 3}
    assert rates(answers_of(old, young, drawn=(False, False))) == [2, 2]


def test_rate_after_a_week_without_answers_is_the_mean_of_four_weeks() -> None:
    assert rates(answers_of({60: 5, 20: 14}, {13: 14}, drawn=(False, False))) == [0.5, 1]


def test_young_item_of_draws_gets_no_more_than_the_items_with_more_answers() -> None:
    """The mean of 10 answers a day and 1 of the item that is further on is 5.5. Items on forms keep their rate."""
    further, young = {60: 83, 6: 7}, {2: 10, 1: 10, 0: 10}
    assert rates(answers_of(further, young, drawn=(True, True))) == [1, 5.5]
    assert rates(answers_of(further, young, drawn=(True, False))) == [1, 10]
    assert rates(answers_of(further, young, drawn=(False, True))) == [1, 10]
