"""Rows of the table `item_analysis`, as objects. Does not belong here: computing them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import psycopg
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from irt_assets.common.wording import natural_order
from resources.postgres.database import first_column

RestScore = Literal["sum", "share", "theta"]
"""Rest score of an item: the sum of the other scores (complete forms), the mean share of the maximum score on the other
items standardised within the form, or θ from the other items by the published set."""


@dataclass(frozen=True, kw_only=True)
class TracePoint:
    """Share of an option in n learners with the mean rest score `rest`."""

    rest: float
    n: int
    share: float


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
class OptionCurve:
    """An option in the nominal model, with θ ~ N(0, 1) among the month's learners.

    log P(option | θ) is slope·θ + intercept + const; slopes and intercepts sum to 0 over the options of the item.
    Options that few learners chose are left out.
    """

    option: str
    is_key: bool
    slope: float
    slope_se: float | None
    intercept: float
    intercept_se: float | None


@dataclass(frozen=True)
class OptionInformation:
    """Information at `theta` in whether the answer is right, and the information that the wrong options add."""

    theta: float
    right_wrong: float
    distractors: float


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
        curves, information: the options by model, only of all answers of a month; empty for the reason `no_curves`.
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
    curves: tuple[OptionCurve, ...] = ()
    information: tuple[OptionInformation, ...] = ()
    no_curves: str = ""


@dataclass(frozen=True)
class SubscoreRow:
    """PRMSE of the true subscore of a topic, by the subscore (Cronbach's α of its items) and by the total score."""

    topic: str
    n_items: int
    by_subscore: float
    by_total: float

    @property
    def adds_value(self) -> bool:
        """Whether the subscore predicts the true subscore better than the total score does."""
        return self.by_subscore > self.by_total


@dataclass(frozen=True, kw_only=True)
class FormRow:
    """A form, or all answers of a period (`form_id` is empty then).

    Attributes:
        source: whether the form was imported (file) or taken from the log; empty if the form is not known.
        statistics: statistics of the sum score, by their names in `irt_psychometrics.classical.FormStatistics`. Empty
            unless all learners have a score on all items.
        scores: number of learners with each sum score, from 0 to `max_score`; empty likewise.
        subscores: the topics of a complete form; empty if there are no subscores, for the reason `no_subscores`.
    """

    form_id: str
    n: int
    n_items: int
    max_score: int
    source: str = ""
    statistics: Mapping[str, float | None] = field(default_factory=dict)
    scores: tuple[int, ...] = ()
    subscores: tuple[SubscoreRow, ...] = ()
    no_subscores: str = ""


SUMMARY = ("mean", "sd", "alpha", "sem")
"""Statistics in tables of forms."""
_FORMS, _ITEMS = TypeAdapter(list[FormRow]), TypeAdapter(list[ItemRow])


def write_analysis(
    connection: psycopg.Connection, scale_id: str, period: str, forms: Sequence[FormRow], items: Sequence[ItemRow]
) -> None:
    """Replace the analysis of the scale's period, in the transaction of `connection`."""
    rows: list[FormRow | ItemRow] = [*forms, *items]
    connection.execute("DELETE FROM item_analysis WHERE (scale_id, period) = (%s, %s)", (scale_id, period))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO item_analysis (scale_id, period, form_id, item_id, n, statistics)
               VALUES (%s, %s, %s, %s, %s, %s::jsonb - '{form_id,item_id}'::text[])""",
            [(scale_id, period, row.form_id, getattr(row, "item_id", ""), row.n, Jsonb(asdict(row))) for row in rows],
        )


def analysed_months(connection: psycopg.Connection, scale_id: str) -> list[str]:
    """The months of the scale with an analysis, oldest first."""
    months = "SELECT DISTINCT period FROM item_analysis WHERE scale_id = %s AND length(period) = 7 ORDER BY 1"
    return first_column(connection, months, (scale_id,))


def read_forms(connection: psycopg.Connection, scale_id: str, period: str) -> list[FormRow]:
    """The forms of the scale's period, by name; the row of all answers, whose name is empty, is first."""
    found = first_column(
        connection,
        """SELECT statistics || jsonb_build_object('form_id', form_id) FROM item_analysis
           WHERE (scale_id, period, item_id) = (%s, %s, '') ORDER BY form_id""",
        (scale_id, period),
    )
    return _FORMS.validate_python(found)


def read_items(
    connection: psycopg.Connection,
    scale_id: str,
    period: str,
    *,
    form_id: str | None = None,
    item_id: str | None = None,
) -> list[ItemRow]:
    """The items of the scale's period, by form, position and name. None: all forms, or all items."""
    found = first_column(
        connection,
        """SELECT statistics || jsonb_build_object('form_id', form_id, 'item_id', item_id) FROM item_analysis
           WHERE (scale_id, period) = (%s, %s) AND item_id <> ''
             AND form_id = coalesce(%s, form_id) AND item_id = coalesce(%s, item_id)""",
        (scale_id, period, form_id, item_id),
    )
    rows = _ITEMS.validate_python(found)
    return sorted(rows, key=lambda row: (row.form_id, row.position or sys.maxsize, natural_order(row.item_id)))
