"""The points of a single answer, by the rule by which posts are checked (`intake.clean`) and answers are judged."""


def read_points(correct: bool | None, score: int | None, max_score: int) -> int | None:
    """Return the points of an answer to an item with this maximum score.

    `correct` means full credit. Without a score, a right answer has `max_score` points; a wrong answer and an omission
    have 0. Returns None if the score is out of range or contradicts `correct`.
    """
    if score is None:
        return max_score if correct else 0
    contradicts = correct is not None and correct != (score == max_score)
    return None if contradicts or not 0 <= score <= max_score else score
