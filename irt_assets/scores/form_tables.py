"""Score tables of forms: make them from the published values of a form's items, store them, and read them.

A table is never changed. `releases` has the decisions on which table is in force; learners' scores are in `issued`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg.types.json import Jsonb

from irt_assets.blocks import Table, table
from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month
from irt_assets.common.wording import some_of
from irt_assets.item_analysis.stored import FormRow, read_forms
from irt_assets.ledger.publications import PublishedSet, in_force
from irt_assets.scales.scale import Scale
from irt_assets.scores.chosen_equating import ChosenEquating, chosen_equatings
from irt_assets.scores.reported import pass_probability, reported_scale, score_mark
from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.scoring import ScoreTable, normal_deviates, percentile_ranks
from resources.failures import PermanentFailure
from resources.postgres.database import named_rows
from resources.version import code_version

MAX_NAMED = 5
NEGATIVE_ZERO = re.compile(r"-0\.0(?=[,\]}])")
COLUMNS = ("theta", "se", "unrounded", "scaled", "scaled_se", "percentile", "passes")
"""The stored columns of a table; its raw scores are 0 … K."""


EQUAL_ERRORS = 0.01
"""Difference of two standard errors, in steps of the scale, that no report shows."""


@dataclass(frozen=True, kw_only=True)
class FormTable:
    """A score table of a form.

    Attributes:
        month: the month at whose end the published values were in force, and whose learners are the norm group.
        method: the rule `score_by`; or the chosen equating, such as linear, tucker to booklet-a.
        set_hash: hash of the published set; empty if the table needs no published values.
        spec: `items` (item → maximum score), `n` (learners in the norm group), `mark` (lowest unrounded score that
            passes, or None), `pass_theta` (None if the scores need no θ), `rules` (of the reported scale), and `notes`.
        table: its scores.
        table_id, made_at, code_version: empty until it is stored.
    """

    scale_id: str
    form_id: str
    month: str
    method: str
    set_hash: str
    spec: Mapping[str, Any]
    table: ScoreTable = field(repr=False)
    table_id: int | None = None
    made_at: datetime | None = None
    code_version: str = ""

    @property
    def table_hash(self) -> str:
        """The hash of the table's contents (`hash_contents`)."""
        return hash_contents(self.scale_id, self.form_id, self.method, self.spec, _as_json(self.table))

    def equals_as_reported(self, stored: "FormTable") -> bool:
        """Check whether the same items, values and rules gave the same reported scores, errors and passes.

        Another version of the program may compute tables that differ in later digits.
        """
        now, then = self.table, stored.table
        return (
            (self.method, self.set_hash, self.spec) == (stored.method, stored.set_hash, stored.spec)
            and np.array_equal(now.scaled, then.scaled)
            and np.array_equal(now.passes, then.passes)
            and np.array_equal(now.percentile, then.percentile, equal_nan=True)
            and np.allclose(
                now.scaled_se, then.scaled_se, rtol=0.0, atol=EQUAL_ERRORS * self.spec["rules"]["score_step"]
            )
        )

    @property
    def passes_or_none(self) -> list[bool | None]:
        """Whether each raw score passes, or None if there is no pass mark."""
        return [None if self.spec["mark"] is None else bool(found) for found in self.table.passes]

    @property
    def pass_probability(self) -> Floats | None:
        """Probability for each raw score that the true θ or, without θ, the true score reaches the mark."""
        spec, scores = self.spec, self.table
        if spec["pass_theta"] is None:
            return pass_probability(scores.unrounded, scores.scaled_se, spec["mark"])
        return pass_probability(scores.theta, scores.se, spec["pass_theta"])

    @property
    def passing_in_words(self) -> str:
        if self.spec["mark"] is None:
            return "no pass mark is set"
        cut = self.table.raw_cut
        return "no raw score passes" if cut is None else f"raw scores from {cut} of {self.table.raw.size - 1} on pass"

    @property
    def remarks(self) -> list[str]:
        """Sentences for the reader of the table: its notes, and raw scores with one scaled score."""
        ties = [f"{first} to {last}" for first, last in self.table.ties]
        return [*self.spec["notes"], *([f"raw scores with one scaled score: {'; '.join(ties)}"] if ties else [])]

    def largest_move(self, before: "FormTable") -> float:
        """The largest difference between the unrounded scores of a raw score; infinite if the raw scores differ."""
        now, then = self.table.unrounded, before.table.unrounded
        return float(np.abs(now - then).max()) if now.size == then.size else float("inf")


def hash_contents(
    scale_id: str, form_id: str, method: str, spec: Mapping[str, Any], scores: Mapping[str, Sequence[Any]]
) -> str:
    """Compute the SHA-256 of a table's stored columns, with its scores rounded to nine digits.

    −0 counts as 0, because the database does not store its sign.
    """
    rounded = {name: [None if x is None else round(x, 9) for x in column] for name, column in scores.items()}
    content = json.dumps([scale_id, form_id, method, spec, rounded], sort_keys=True)
    return hashlib.sha256(NEGATIVE_ZERO.sub("0.0", content).encode()).hexdigest()


def form_items(connection: psycopg.Connection, scale_id: str) -> dict[str, dict[str, int]]:
    """The fixed forms with items of a scale: form → its scored items in their order, with their maximum scores.

    Items that are dropped from scoring are left out.
    """
    return dict(
        connection.execute(
            """SELECT form_id, json_object_agg(item_id, f.max_score ORDER BY position)
               FROM form_item f JOIN question q USING (item_id)
               WHERE q.scale_id = %s AND f.scored AND q.meta->'key' IS DISTINCT FROM '[]'::jsonb
               GROUP BY 1 ORDER BY 1""",
            (scale_id,),
        ).fetchall()
    )


def make_month(
    connection: psycopg.Connection, scale: Scale, month: str, run_id: str | None = None
) -> tuple[list[FormTable], dict[str, str]]:
    """Make and store the tables of all forms by the published values in force at the month's end.

    A table that equals the stored one of the form and month is not stored again, and neither is a table that differs
    from it only in digits that are not reported. Returns the tables of all forms, and the reasons why other forms have
    no table.
    """
    made, without = compute_month(connection, scale, month)
    stored = newest_tables(connection, scale.scale_id, month)
    for each in made:
        if each.form_id in stored and each.equals_as_reported(stored[each.form_id]):
            continue
        values = vars(each) | {
            "spec": Jsonb(each.spec),
            "scores": Jsonb(_as_json(each.table)),
            "table_hash": each.table_hash,
            "code_version": code_version(),
            "run_id": run_id,
        }
        connection.execute(
            """INSERT INTO score_table (scale_id, form_id, month, method, set_hash, spec, scores, table_hash,
                                        code_version, run_id)
               SELECT %(scale_id)s, %(form_id)s, %(month)s, %(method)s, %(set_hash)s, %(spec)s, %(scores)s,
                      %(table_hash)s, %(code_version)s, %(run_id)s
               WHERE %(table_hash)s IS DISTINCT FROM
                     (SELECT table_hash FROM score_table
                      WHERE (scale_id, form_id, month) = (%(scale_id)s, %(form_id)s, %(month)s)
                      ORDER BY table_id DESC LIMIT 1)""",
            values,
        )
    stored = newest_tables(connection, scale.scale_id, month)
    return [stored[each.form_id] for each in made], without


def compute_month(connection: psycopg.Connection, scale: Scale, month: str) -> tuple[list[FormTable], dict[str, str]]:
    """The tables that `make_month` would store, and the reasons why other forms have no table."""
    published = in_force(connection, scale.scale_id, Month(month).end)
    analysed = {form.form_id: form for form in read_forms(connection, scale.scale_id, month)}
    chosen = chosen_equatings(connection, scale.scale_id)
    found, without = [], {}
    for form_id, items in form_items(connection, scale.scale_id).items():
        try:
            found.append(_make(scale, month, published, form_id, items, analysed.get(form_id), chosen.get(form_id)))
        except (PsychometricsError, PermanentFailure) as error:  # other forms and scales have their tables
            without[form_id] = str(error)
    return found, without


def make_table(
    connection: psycopg.Connection,
    scale: Scale,
    month: str,
    form_id: str,
    items: Mapping[str, int],
    analysed: FormRow | None,
) -> FormTable:
    """Make the table that the form would have with these items and learners. Stores nothing.

    Raises PsychometricsError or PermanentFailure if the form can have no table.
    """
    published = in_force(connection, scale.scale_id, Month(month).end)
    return _make(
        scale, month, published, form_id, items, analysed, chosen_equatings(connection, scale.scale_id).get(form_id)
    )


def _make(
    scale: Scale,
    month: str,
    published: PublishedSet,
    form_id: str,
    items: Mapping[str, int],
    analysed: FormRow | None,
    equating: ChosenEquating | None,
) -> FormTable:
    n_scores, rules = sum(items.values()) + 1, scale.rules.scores
    norm = analysed.scores if analysed and len(analysed.scores) == n_scores and any(analysed.scores) else None
    if equating is None and rules.unit != "theta":
        table, mark = _by_raw_scores(scale, n_scores, analysed if norm else None)
    elif equating is None:
        table, mark = _by_items(scale, month, published, items, norm)
    elif len(equating.value) == n_scores:
        table, mark = equating.convert(scale, norm)
    else:
        raise PsychometricsError(
            f"form {form_id} has {n_scores} raw scores, and its equating to {equating.old} was chosen for "
            f"{len(equating.value)}: `irt scores equate {form_id} {equating.old} --scale {scale.scale_id}`"
        )
    return FormTable(
        scale_id=scale.scale_id,
        form_id=form_id,
        month=month,
        method=rules.score_by if equating is None else f"equated to {equating.old}",
        set_hash=published.set_hash if rules.unit == "theta" else "",
        spec={
            "items": dict(items),
            "n": sum(norm or ()),
            "mark": mark,
            "pass_theta": scale.pass_theta if rules.unit == "theta" else None,
            "rules": {name: value for name, value in rules if name.startswith("score_")},
            "notes": list(table.notes),
        },
        table=table,
    )


def _by_raw_scores(scale: Scale, n_scores: int, analysed: FormRow | None) -> tuple[ScoreTable, float | None]:
    """The table of scores that need no published values, and the lowest unrounded score that passes.

    The error of a raw score is the standard error of measurement by the month's reliability. Without it, the error is
    the largest binomial one, √K / 2 (Lord 1955).
    """
    norm, mark = analysed.scores if analysed else None, score_mark(scale)
    values, sem = place_on_line(scale.rules.scores.unit, n_scores, norm), analysed and analysed.statistics.get("sem")
    notes = () if sem else ("No reliability is known, so the errors are the largest binomial ones.",)
    se = np.gradient(values) * (sem or (n_scores - 1) ** 0.5 / 2)
    made = ScoreTable.from_values(values, se, reported_scale(scale), norm_counts=norm, mark=mark, notes=notes)
    unknown = np.full(n_scores, np.nan)
    return made.with_theta(unknown, unknown), mark


def place_on_line(unit: str, n_scores: int, norm: Sequence[int] | None) -> Floats:
    """Compute each raw score in a unit: raw, percent of the maximum, or percentile rank in the norm group.

    Raises PsychometricsError for percentile ranks without a norm group.
    """
    raw = np.arange(n_scores, dtype=float)
    if unit == "percentile":
        return percentile_ranks(norm or raw * 0)
    return 100 * raw / raw[-1] if unit == "percent" else raw


def _by_items(
    scale: Scale, month: str, published: PublishedSet, items: Mapping[str, int], norm: Sequence[int] | None
) -> tuple[ScoreTable, float | None]:
    """The table by the published values of the items, and the lowest unrounded score that passes.

    A normalised table has percentile ranks in the norm group. Its mark is the score of the lowest raw score whose θ
    passes, or a step above the highest score. The error of its scores follows from the error of θ.
    """
    try:
        known = published_items(published, items)
    except PsychometricsError as error:
        raise PsychometricsError(
            f"{error}: leave them out of the form's score (`irt scores leave-out`), or report scores that need no "
            "values (`irt scale set score_by=raw`)"
        ) from error
    method, mark, line = scale.rules.scores.score_by, score_mark(scale), reported_scale(scale)
    table = ScoreTable.from_items(
        known,
        line,
        theta="test-curve" if method == "test-curve" else "eap",
        mean=scale.mu,
        sd=scale.sigma,
        norm_counts=norm,
        mark=mark,
    )
    if method != "normalised":
        return table, mark
    if norm is None:
        raise PsychometricsError(f"no learner of {month} has a score on all items, so there is no norm group")
    deviates = normal_deviates(norm)
    if mark is not None:
        scores, cut = line.unrounded(deviates), table.raw_cut
        mark = float(scores[-1] + line.step if cut is None else scores[cut])
    se = np.gradient(deviates, table.theta) * table.se
    made = ScoreTable.from_values(deviates, se, line, norm_counts=norm, mark=mark)
    return made.with_theta(table.theta, table.se), mark


def published_items(published: PublishedSet, items: Mapping[str, int]) -> ItemParameters:
    """The values of a form's items. Raises PsychometricsError if an item has no values, or another maximum score."""
    if missing := [item for item in items if item not in published.items]:
        raise PsychometricsError(f"no values are published of {some_of(missing, MAX_NAMED)}")
    known = ItemParameters.from_rows(list(items), [published.items[item] for item in items])
    if wrong := [item for item, row in zip(items, known.curves.categories, strict=True) if row - 1 != items[item]]:
        raise PsychometricsError(f"the published values have another maximum score than {some_of(wrong, MAX_NAMED)}")
    return known


def read_tables(
    connection: psycopg.Connection,
    scale_id: str,
    *,
    form_id: str | None = None,
    month: str | None = None,
    numbers: Sequence[int] | None = None,
) -> list[FormTable]:
    """The stored tables of a scale, by month and number. None: all forms, months and numbers."""
    rows = named_rows(
        connection,
        """SELECT table_id, scale_id, form_id, month, method, set_hash, spec, scores, made_at, code_version
           FROM score_table
           WHERE scale_id = %s AND form_id = coalesce(%s, form_id) AND month = coalesce(%s, month)
             AND table_id = ANY(coalesce(%s, ARRAY[table_id])) ORDER BY month, table_id""",
        (scale_id, form_id, month, numbers),
    )
    return [FormTable(table=_from_json(row.pop("scores"), row["spec"]), **row) for row in rows]


def newest_tables(connection: psycopg.Connection, scale_id: str, month: str | None = None) -> dict[str, FormTable]:
    """The newest table of each form, of the month if it is given."""
    return {found.form_id: found for found in read_tables(connection, scale_id, month=month)}


def as_rows(tables: Iterable[FormTable]) -> pd.DataFrame:
    """One row per table and raw score, to export."""
    names = "scale_id", "form_id", "month", "table_id", "method"
    frames = [
        pd.DataFrame(
            {name: getattr(found, name) for name in names}
            | {name: getattr(found.table, name) for name in ("raw", *COLUMNS)}
            | {"passes": found.passes_or_none}
        )
        for found in tables
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*names, "raw", *COLUMNS])


def tables_overview(found: list[FormTable]) -> Table:
    """A table with one row per score table."""
    formats = {"maximum": ",", "passes from": ",", "lowest": ",.10g", "highest": ",.10g", "norm group": ","}
    return table(
        ("scale", "form", "month", "table", "method", *formats),
        [
            (
                *(each.scale_id, each.form_id, each.month, each.table_id, each.method, each.table.raw.size - 1),
                *(each.table.raw_cut, each.table.scaled[0], each.table.scaled[-1], each.spec["n"]),
            )
            for each in found
        ],
        numbers=formats,
    )


def _as_json(table: ScoreTable) -> dict[str, list[Any]]:
    """The columns of the table; NaN becomes null."""
    return {name: [None if x != x else x for x in getattr(table, name).tolist()] for name in COLUMNS}


def _from_json(stored: Mapping[str, Sequence[Any]], spec: Mapping[str, Any]) -> ScoreTable:
    columns: dict[str, Any] = {name: np.array(stored[name], bool if name == "passes" else float) for name in COLUMNS}
    return ScoreTable(np.arange(len(stored["theta"]), dtype=float), **columns, notes=tuple(spec["notes"]))
