"""Rows of the table `item_analysis`, as objects. Does not belong here: computing them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.common.wording import natural_order

RestScore = Literal["sum", "share", "theta"]
"""Rest score of an item: the sum of the other scores (complete forms), the mean share of the maximum score on the other
items standardised within the form, or θ from the other items by the published set."""


@dataclass(frozen=True, kw_only=True)
class TracePoint:
    """Share of an option in learners with the mean rest score `rest`, and its 95 % interval (Wilson 1927)."""

    rest: float
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class OptionRow:
    """An option of an item, or a score of an item without options.

    Attributes:
        share: share of the learners who chose it.
        mean_rest: mean rest score of these learners.
        rest_correlation: correlation of choosing it with the rest score, in [−1, 1].
        thirds: its share in the lower, middle and upper third of the learners by rest score.
        flags: names of the rules that it breaks.
    """

    option: str
    is_key: bool
    n: int
    share: float | None
    mean_rest: float | None
    rest_correlation: float | None
    thirds: tuple[float | None, ...]
    trace: tuple[TracePoint, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """An item of a form, or of all answers of a period (`form_id` is empty then).

    Attributes:
        presented: learners to whom the item was shown, or who did not reach it in a complete form.
        n: learners with a score, omitted answers included.
        facility: mean as a share of the maximum score (proportion correct), in [0, 1].
        lower, upper: facility among the 27 % of learners with the lowest and with the highest total scores.
        time_median, time_low, time_high: response time in seconds: median, 5 % and 95 % quantile.
        rapid: share of rapid guesses.
        rest: kind of the rest score.
        flags: names of the rules that it breaks.
    """

    item_id: str
    form_id: str
    position: int | None = None
    max_score: int = 1
    presented: int
    n: int
    omitted: int
    not_reached: int
    mean: float | None
    sd: float | None
    facility: float | None
    facility_se: float | None
    item_rest: float | None
    biserial: float | None
    alpha_if_deleted: float | None
    lower: float | None
    upper: float | None
    time_median: float | None = None
    time_low: float | None = None
    time_high: float | None = None
    rapid: float | None = None
    rest: RestScore
    key: str | None = None
    flags: tuple[str, ...] = ()
    options: tuple[OptionRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FormRow:
    """A form, or all answers of a period (`form_id` is empty then).

    Attributes:
        complete: whether all learners have a score on all items; the statistics of the sum score exist only then.
        scores: number of learners with each sum score, from 0 to `max_score`.
        source: whether the form was imported (file) or taken from the log; empty if the form is not known.
    """

    form_id: str
    n: int
    n_items: int
    max_score: int
    complete: bool
    source: str = ""
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    alpha: float | None = None
    alpha_low: float | None = None
    alpha_high: float | None = None
    lambda2: float | None = None
    omega: float | None = None
    split_half: float | None = None
    sem: float | None = None
    scores: tuple[int, ...] = ()


def item_from_json(form_id: str, item_id: str, statistics: Mapping[str, Any]) -> ItemRow:
    """Return the item of a stored row."""
    options = tuple(
        OptionRow(**option | {"trace": tuple(TracePoint(**point) for point in option["trace"])})
        for option in statistics["options"]
    )
    return ItemRow(form_id=form_id, item_id=item_id, **{**statistics, "options": options})


def write_analysis(
    connection: psycopg.Connection, scale_id: str, period: str, forms: Sequence[FormRow], items: Sequence[ItemRow]
) -> None:
    """Replace the analysis of the scale's period, in the transaction of `connection`."""
    rows: list[FormRow | ItemRow] = [*forms, *items]
    connection.execute("DELETE FROM item_analysis WHERE (scale_id, period) = (%s, %s)", (scale_id, period))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO item_analysis (scale_id, period, form_id, item_id, n, statistics)
               VALUES (%s, %s, %s, %s, %s, %s)""",
            [
                (scale_id, period, row.form_id, getattr(row, "item_id", ""), row.n, Jsonb(_statistics(row)))
                for row in rows
            ],
        )


def analysed_months(connection: psycopg.Connection, scale_id: str) -> list[str]:
    """The months of the scale with an analysis, oldest first."""
    return [
        period
        for (period,) in connection.execute(
            """SELECT DISTINCT period FROM item_analysis WHERE scale_id = %s AND length(period) = 7 ORDER BY 1""",
            (scale_id,),
        )
    ]


def read_forms(connection: psycopg.Connection, scale_id: str, period: str) -> list[FormRow]:
    """The forms of the scale's period, by name; the row of all answers, whose name is empty, is first."""
    found = connection.execute(
        """SELECT form_id, statistics FROM item_analysis
           WHERE (scale_id, period, item_id) = (%s, %s, '') ORDER BY form_id""",
        (scale_id, period),
    )
    return [FormRow(form_id=form_id, **_tuples(statistics)) for form_id, statistics in found]


def read_items(
    connection: psycopg.Connection,
    scale_id: str,
    period: str,
    *,
    form_id: str | None = None,
    item_id: str | None = None,
) -> list[ItemRow]:
    """The items of the scale's period, by form, position and name. None: all forms, or all items."""
    found = connection.execute(
        """SELECT form_id, item_id, statistics FROM item_analysis
           WHERE (scale_id, period) = (%s, %s) AND item_id <> ''
             AND form_id = coalesce(%s, form_id) AND item_id = coalesce(%s, item_id)
        """,
        (scale_id, period, form_id, item_id),
    )
    rows = [item_from_json(form, item, _tuples(statistics)) for form, item, statistics in found]
    return sorted(rows, key=lambda row: (row.form_id, row.position or sys.maxsize, natural_order(row.item_id)))


def _statistics(row: FormRow | ItemRow) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name not in ("form_id", "item_id")}


def _tuples(statistics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in statistics.items()}
