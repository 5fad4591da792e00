"""Forms of tests and their items: import from a file, and reading them off the log.

An imported form is never replaced by the log.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import psycopg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irt_assets.common.wording import some_of
from irt_assets.intake.mapping import problems_of
from irt_assets.intake.readers import open_source
from irt_assets.intake.sources import plain_rows
from irt_psychometrics.items import MAX_SCORE
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column

MAX_NAMED = 5


@dataclass(frozen=True)
class FormItem:
    """An item of a form; `position` counts from 1, and `scored` is whether it counts towards the form's score."""

    position: int
    max_score: int = 1
    scored: bool = True


@dataclass(frozen=True)
class Form:
    """A form and its items by id. `source`: file (imported) or log."""

    source: str
    items: Mapping[str, FormItem]


class _Cells(BaseModel):
    """A row of a file of forms; an empty cell has the default."""

    model_config = ConfigDict(extra="ignore")

    form_id: str
    item_id: str
    position: Annotated[int, Field(ge=1)]
    max_score: Annotated[int | None, Field(ge=1, le=MAX_SCORE)] = None
    scored: bool = True


def read_forms(connection: psycopg.Connection, form_ids: Collection[str] | None = None) -> dict[str, Form]:
    """The known forms by id. None: all."""
    found: dict[str, Form] = {}
    rows = connection.execute(
        """SELECT form_id, source, item_id, position, max_score, scored FROM form JOIN form_item USING (form_id)
           WHERE form_id = ANY(coalesce(%s, ARRAY[form_id])) ORDER BY form_id, position""",
        (None if form_ids is None else list(form_ids),),
    )
    for form_id, source, item_id, *item in rows:
        items = found.setdefault(form_id, Form(source, {})).items
        assert isinstance(items, dict)
        items[item_id] = FormItem(*item)
    return found


def import_forms(
    database: Database, file: Path, *, encoding: str | None = None, dry_run: bool = False
) -> dict[str, Form]:
    """Store the forms of a file with the columns form_id, item_id, position and, if given, max_score and scored.

    A form in the file replaces the stored one. Without max_score, the bank's maximum score of the item applies.
    Returns the forms. Raises PermanentFailure that names the file and the row if a row is at fault; nothing is stored
    then.
    """
    with database.connect() as connection:
        maxima: dict[str, int] = dict(
            connection.execute("SELECT item_id, coalesce(max_score, 1) FROM question").fetchall()
        )
        forms: dict[str, dict[str, FormItem]] = {}
        for line, row in _rows(file, encoding):
            items, where = forms.setdefault(row.form_id, {}), f"{file}, row {line}"
            if row.item_id not in maxima:
                raise PermanentFailure(
                    f"{where}: item {row.item_id} is not in the bank; import it first: `irt import questions FILE`"
                )
            if row.item_id in items:
                raise PermanentFailure(f"{where}: form {row.form_id} already has item {row.item_id}")
            if other := [name for name, item in items.items() if item.position == row.position]:
                raise PermanentFailure(
                    f"{where}: form {row.form_id} already has item {other[0]} in position {row.position}"
                )
            items[row.item_id] = FormItem(row.position, row.max_score or maxima[row.item_id], row.scored)
        found = {form_id: Form("file", items) for form_id, items in forms.items()}
        if not dry_run:
            _store(connection, found)
    return found


def _rows(file: Path, encoding: str | None) -> Iterator[tuple[int, _Cells]]:
    source = open_source(file, encoding)
    required = [name for name, field in _Cells.model_fields.items() if field.is_required()]
    if missing := [name for name in required if name not in source.columns]:
        raise PermanentFailure(
            f"{file} lacks the column {missing[0]}; it needs form_id, item_id and position, and may have max_score and "
            f"scored; its columns are {some_of(source.columns, MAX_NAMED)}"
        )
    for batch in source.batches():
        if batch.bad:
            raise PermanentFailure(f"{file}, row {batch.bad[0].line}: {batch.bad[0].reason.replace('_', ' ')}")
        for line, cells in zip(batch.lines.tolist(), plain_rows(batch.rows), strict=True):
            try:
                yield line, _Cells.model_validate({name: cell for name, cell in cells.items() if cell})
            except ValidationError as error:
                raise PermanentFailure(f"{file}, row {line}: {problems_of(error)}") from None


def take_from_log(connection: psycopg.Connection, answers: pd.DataFrame, *, whole_month: bool) -> None:
    """Store the forms on whose items and positions all learners in `answers` agree.

    `answers` has the columns of `answers.read_answers`, for all scales. Imported forms stay as they are. In a whole
    month, an earlier form from the log on which its learners do not agree is deleted.
    """
    imported = first_column(connection, "SELECT form_id FROM form WHERE source = 'file'")
    answers = answers[(answers["form"] != "") & ~answers["form"].isin(imported)]
    agreed = {}
    for form_id, rows in answers.groupby("form"):
        items = rows.groupby("item").agg(
            position=("position", "first"),
            positions=("position", "nunique"),
            learners=("learner", "nunique"),
            max_score=("max_score", "first"),
        )
        same = (items["positions"] == 1) & (items["learners"] == rows["learner"].nunique()) & (items["position"] > 0)
        if same.all() and items["position"].is_unique:
            columns = zip(items.index, items["position"], items["max_score"], strict=True)
            agreed[str(form_id)] = Form("log", {item: FormItem(int(k), int(most)) for item, k, most in columns})
    if whole_month:
        gone = [*set(answers["form"]) - set(agreed)]
        for table in ("form_item", "form"):
            connection.execute(f"DELETE FROM {table} WHERE form_id = ANY(%s)", (gone,))
    _store(connection, agreed)


def _store(connection: psycopg.Connection, forms: Mapping[str, Form]) -> None:
    """Replace these forms in the transaction of `connection`."""
    connection.execute("DELETE FROM form_item WHERE form_id = ANY(%s)", (list(forms),))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO form (form_id, source) VALUES (%s, %s)
               ON CONFLICT (form_id) DO UPDATE SET source = excluded.source, recorded_at = now()""",
            [(form_id, form.source) for form_id, form in forms.items()],
        )
        cursor.executemany(
            "INSERT INTO form_item (form_id, item_id, position, max_score, scored) VALUES (%s, %s, %s, %s, %s)",
            [
                (form_id, name, item.position, item.max_score, item.scored)
                for form_id, form in forms.items()
                for name, item in form.items.items()
            ],
        )
