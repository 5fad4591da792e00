"""The points of a single answer, by the rule by which posts are checked (`intake.clean`) and answers are judged."""


def is_possible(correct: bool | None, score: int | None, max_score: int) -> bool:
    """Check whether a score is in the item's range and agrees with `correct`, which means full credit."""
    return score is None or (0 <= score <= max_score and correct in (None, score == max_score))


def read_points(correct: bool | None, score: int | None, max_score: int) -> int | None:
    """Return the points of an answer to an item with this maximum score; None: the answer does not count.

    Without a score, a right answer has `max_score` points and an omission has 0. A wrong answer has 0 points on an item
    with a maximum score of 1, and unknown points on other items. Impossible answers do not count.
    """
    if score is not None:
        return score if is_possible(correct, score, max_score) else None
    if correct is False and max_score > 1:
        return None
    return max_score if correct else 0
