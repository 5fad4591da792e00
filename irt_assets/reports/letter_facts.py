"""Read the facts of letters to learners: scores that are handed out, with score tables, topics, earlier scores and
names.

Does not belong here: the wording of a letter (see `letter_blocks`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from pydantic import BaseModel

from irt_assets.common.partitions import Month
from irt_assets.item_analysis.forms import read_rows, require_sound_rows
from irt_assets.item_analysis.stored import analysed_months, read_forms
from irt_assets.reports.learner_facts import read_people, read_topic_names
from irt_assets.reports.learner_words import language_of
from irt_assets.scales.rules import MAX_REPORTED
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scores.form_tables import FormTable, read_tables
from irt_assets.scores.issued import IssuedScore, counting_scores, current_scores, issued_scores, newest_of_sittings
from irt_assets.scores.reported import score_mark
from irt_assets.scores.sittings import SITTING, raw_scores, read_answers
from irt_psychometrics.scoring import ScoreScale
from resources.failures import PermanentFailure

PROBABLY = 0.8
"""Share of second sittings with a score in the band of a letter."""
AGAIN = math.sqrt(2) * NormalDist().inv_cdf((1 + PROBABLY) / 2)
"""Half width of the band in standard errors: the difference of two sittings' scores has √2 times the error of one."""


@dataclass(frozen=True)
class Limits:
    """Numbers of the reported scale with which a score is compared.

    Attributes:
        lowest, highest: lowest and highest possible score; infinite if the scale has no such limit.
        band: scores between which a second sitting's score would probably be, or None if the error is unknown.
        mark: score that is needed to pass, or None if it is unknown.
    """

    lowest: float
    highest: float
    band: tuple[float, float] | None
    mark: float | None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """Facts of a letter about one score.

    Attributes:
        name: the learner's name, or None if unknown.
        zone: the bank's time zone, for days.
        score: the score.
        limits: numbers of the reported scale with which the score is compared.
        sections: topics with a subscore of value, each with the points and the maximum.
        n_results: number of the learner's issued scores on the scale.
        best_counts: whether the best of several scores counts; otherwise the last one counts.
        counting: the score that counts.
        replaced: score that the learner was given for the same sitting before, or None.
    """

    name: str | None
    language: str
    zone: str
    score: IssuedScore
    limits: Limits
    sections: tuple[tuple[str, int, int], ...]
    n_results: int
    best_counts: bool
    counting: IssuedScore
    replaced: IssuedScore | None


class _Cells(BaseModel):
    """A row of a file of names; an empty cell is an unknown name."""

    user_id: str
    name: str = ""


def read_names(file: Path) -> dict[str, str]:
    """Read a file of names with the columns user_id and name. Returns user_id → name, without empty names.

    Raises PermanentFailure if a column is missing or a learner has two rows.
    """
    found = pd.DataFrame(read_rows(file, _Cells), columns=["line", *_Cells.model_fields])
    require_sound_rows(file, found, {"learner {user_id} is in an earlier row": found.duplicated("user_id")})
    return {user: name for user, name in zip(found["user_id"], found["name"], strict=True) if name}


def scores_that_count(
    connection: psycopg.Connection,
    *,
    scale_id: str | None = None,
    form_id: str | None = None,
    user_id: str | None = None,
    month: str | None = None,
) -> list[IssuedScore]:
    """Return the score that counts of each learner on each scale, among issued scores, by learner and scale.

    None: all scales, forms, learners or months of sittings.
    """
    rows = current_scores(connection, scale_id=scale_id, form_id=form_id, user_id=user_id)
    if month is not None:
        start, end = Month(month).bounds
        rows = [row for row in rows if start <= row.sat_at < end]
    found = counting_scores(rows, read_scales(connection))
    return [score for _, score in sorted(found.items())]


def read_letters(
    connection: psycopg.Connection,
    scores: Sequence[IssuedScore],
    *,
    zone: str,
    language: str | None = None,
    names: Mapping[str, str] | None = None,
) -> list[Letter]:
    """Read the facts of a letter about each of the scores, in the same order.

    Parameters
    ----------
    connection
        A connection to the database.
    scores
        Scores as `scores_that_count` returns them.
    zone
        The bank's time zone, for days.
    language
        The language of all letters; None: the learner's language.
    names
        user_id → name. Other learners have the name in their attributes.

    Returns
    -------
    list of Letter
        One letter for each score.

    Raises
    ------
    PermanentFailure
        If there are no scores.
    """
    if not scores:
        raise PermanentFailure(
            "a letter needs an issued score, got none: `irt scores issue` issues scores; scores that are held or "
            "invalid have no letter"
        )
    scales, users = read_scales(connection), sorted({score.user_id for score in scores})
    people, topic_names = read_people(connection, users), read_topic_names(connection)
    rows = issued_scores(connection, user_id=users)
    counting = counting_scores(rows, scales)
    n_results = Counter((row.user_id, row.scale_id) for row in newest_of_sittings(rows) if row.status == "issued")
    history = defaultdict[tuple[str, ...], list[IssuedScore]](list)
    for row in rows:
        history[row.sitting].insert(0, row)
    tables, points = dict[int | None, FormTable](), dict[tuple[str, ...], dict[str, tuple[int, int]]]()
    for number in sorted({score.table_id for score in scores if score.table_id is not None}):
        of_table = [score for score in scores if score.table_id == number]
        [tables[number]] = read_tables(connection, of_table[0].scale_id, numbers=[number])
        points |= _points(connection, of_table, tables[number])
    letters = []
    for score in scores:
        scale, person = scales[score.scale_id], people.get(score.user_id, {})
        spoken = language or language_of(person.get("lang"), "letter")
        given = (row for row in history[score.sitting] if row.status == "issued")
        letters.append(
            Letter(
                name=(names or {}).get(score.user_id) or person.get("name"),
                language=spoken,
                zone=zone,
                score=score,
                limits=_limits(score, scale, tables.get(score.table_id)),
                sections=tuple(
                    (topic_names.get((topic, spoken), topic), *pair)
                    for topic, pair in points.get(score.sitting, {}).items()
                ),
                n_results=n_results[score.user_id, score.scale_id],
                best_counts=scale.rules.scores.retest == "best",
                counting=counting[score.user_id, score.scale_id],
                replaced=next((row for row in given if (row.scaled, row.passes) != (score.scaled, score.passes)), None),
            )
        )
    return letters


def _limits(score: IssuedScore, scale: Scale, table: FormTable | None) -> Limits:
    """Return the limits by the rules of the score's table; of a score by θ, by the rules of the scale now."""
    rules: Mapping[str, Any] = dict(scale.rules.scores) | (dict(table.spec["rules"]) if table else {})
    ends = (table.table.scaled.min(), table.table.scaled.max()) if table else (-np.inf, np.inf)
    lowest, highest = (
        end if abs(rules[name]) == MAX_REPORTED else rules[name]
        for name, end in zip(("score_lowest", "score_highest"), ends, strict=True)
    )
    unrounded = None if score.passes is None else table.spec["mark"] if table else score_mark(scale)
    values = [np.nan if unrounded is None else unrounded, *(score.scaled + AGAIN * score.scaled_se * np.array([-1, 1]))]
    mark, *band = ScoreScale(1.0, 0.0, rules["score_step"]).rounded(np.array(values)).tolist()
    low, high = np.clip(band, lowest, highest).tolist()
    # The scale may have got another mark after a score by θ was issued.
    is_known = (score.scaled >= mark) == score.passes or abs(score.scaled - mark) <= rules["score_step"]
    return Limits(lowest, highest, (low, high) if low < high else None, mark if is_known else None)


def _points(
    connection: psycopg.Connection, scores: Sequence[IssuedScore], table: FormTable
) -> dict[tuple[str, ...], dict[str, tuple[int, int]]]:
    """Return points and maximum by topic for each sitting, for topics with a subscore of value by the newest analysis.

    A sitting is left out if the points in the log no longer sum to its raw score.
    """
    months = reversed(analysed_months(connection, table.scale_id))
    forms = (form for month in months for form in read_forms(connection, table.scale_id, month))
    analysed = next((form for form in forms if form.form_id == table.form_id and form.subscores), None)
    topics = [row.topic for row in analysed.subscores if row.adds_value] if analysed else []
    if not topics:
        return {}
    items: Mapping[str, int] = table.spec["items"]
    topic_of = dict[str, str](
        connection.execute("SELECT item_id, topic_id FROM question WHERE item_id = ANY(%s)", ([*items],)).fetchall()
    )
    most = {topic: sum(n for item, n in items.items() if topic_of[item] == topic) for topic in topics}
    first, last = (limit(score.sat_at for score in scores) for limit in (min, max))
    answers = read_answers(
        connection, table.scale_id, table.form_id, first, last + timedelta(microseconds=1), fixed=True
    )
    totals = raw_scores(answers, items).to_dict()
    topic = answers["item_id"].where(answers["item_id"].isin([*items])).map(topic_of)
    sums: Mapping[Any, float] = answers["points"].groupby([answers[name] for name in SITTING] + [topic]).sum().to_dict()
    return {
        score.sitting: {topic: (int(sums.get((*sitting, topic), 0)), most[topic]) for topic in topics}
        for score in scores
        if totals.get(sitting := (score.user_id, score.session_id)) == score.raw
    }
