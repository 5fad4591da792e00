"""Forms of tests and their items: import from a file, and reading them off the log.

Forms are data frames with a row for each item: form_id, source (file: imported; assembled; or log), item_id, position
(from 1), max_score, and scored, which is whether the item counts towards the score of the form. The log replaces only
forms from the log.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irt_assets.common.wording import join_names, some_of
from irt_assets.intake.mapping import problems_of
from irt_assets.intake.readers import open_source
from irt_assets.intake.sources import plain_rows
from irt_assets.ledger.form_scoring import apply_scoring
from irt_psychometrics.items import MAX_SCORE
from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, named_rows
from resources.postgres.form_names import lock_form_names, require_free_names

MAX_NAMED = 5


class _Cells(BaseModel):
    """A row of a file of forms; an empty cell has the default. A row without an item is a seed place."""

    model_config = ConfigDict(extra="ignore")

    form_id: str
    item_id: str = ""
    position: Annotated[int, Field(ge=1)]
    max_score: Annotated[int | None, Field(ge=1, le=MAX_SCORE)] = None
    scored: bool = True


def read_forms(connection: psycopg.Connection) -> pd.DataFrame:
    """The items of all known forms, by form and position."""
    found = named_rows(
        connection,
        """SELECT form_id, source, item_id, position, max_score, scored FROM form JOIN form_item USING (form_id)
           ORDER BY form_id, position""",
    )
    return pd.DataFrame(found, columns=["source", *_Cells.model_fields])


def read_form(connection: psycopg.Connection, form_id: str) -> pd.DataFrame:
    """Read a form with the columns of a file for `import_forms`: its items, and its seed places without item_id."""
    found = named_rows(
        connection,
        """SELECT form_id, item_id, position, max_score, scored FROM form_item WHERE form_id = %(form)s
           UNION ALL SELECT form_id, '', place::int, 1, true FROM form, jsonb_array_elements_text(seed_places) AS place
           WHERE form_id = %(form)s ORDER BY position""",
        {"form": form_id},
    )
    return pd.DataFrame(found, columns=[*_Cells.model_fields])


def import_forms(database: Database, file: Path, *, encoding: str | None = None, dry_run: bool = False) -> pd.DataFrame:
    """Store the forms of a file with the columns form_id, item_id, position and, if given, max_score and scored.

    A form in the file replaces the stored one. A row without item_id is a place that seed draws fill. Without
    max_score, the bank's maximum score of the item applies. Returns the forms. Raises PermanentFailure that names the
    file and the row if a row is at fault, or the form if an adaptive test has its name; nothing is stored then.
    """
    found = pd.DataFrame(read_rows(file, _Cells, encoding), columns=["line", *_Cells.model_fields])
    is_item = found["item_id"] != ""
    named = ("item " + found["item_id"]).where(is_item, "a seed place")
    found["first"] = named.groupby([found["form_id"], found["position"]]).transform("first")
    with database.connect() as connection:
        maxima = dict(connection.execute("SELECT item_id, coalesce(max_score, 1) FROM question").fetchall())
        faults = {
            "item {item_id} is not in the bank; import it first: `irt import questions FILE`": is_item
            & ~found["item_id"].isin(maxima),
            "form {form_id} already has item {item_id}": is_item & found.duplicated(["form_id", "item_id"]),
            "form {form_id} must have an item in the column item_id, got seed places only": ~is_item.groupby(
                found["form_id"]
            ).transform("any"),
            "form {form_id} already has {first} in position {position}": found.duplicated(["form_id", "position"]),
        }
        require_sound_rows(file, found, faults)
        require_free_names(connection, found["form_id"].unique(), "form")
        found["max_score"] = found["max_score"].fillna(found["item_id"].map(maxima)).fillna(1).astype(int)
        if not dry_run:
            store_forms(connection, found, "file")
    return found


def require_sound_rows(file: Path, found: pd.DataFrame, faults: Mapping[str, pd.Series]) -> None:
    """Raise PermanentFailure that names the first row at fault. `faults`: message with columns in braces → its rows."""
    for message, at_fault in faults.items():
        if at_fault.any():
            row = found[at_fault].iloc[0]
            raise PermanentFailure(f"{file}, row {row['line']}: {message.format(**row)}")


def read_rows(file: Path, cells_type: type[BaseModel], encoding: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of the file, each with its `line` and the fields of `cells_type`.

    Raises PermanentFailure that names the file and the row if a row is at fault.
    """
    source = open_source(file, encoding)
    required = [name for name, field in cells_type.model_fields.items() if field.is_required()]
    others = join_names(name for name in cells_type.model_fields if name not in required)
    if missing := [name for name in required if name not in source.columns]:
        raise PermanentFailure(
            f"{file} lacks the column {missing[0]}; it needs {join_names(required)}"
            f"{others and f', and may have {others}'}; its columns are {some_of(source.columns, MAX_NAMED)}"
        )
    for batch in source.batches():
        if batch.bad:
            raise PermanentFailure(f"{file}, row {batch.bad[0].line}: {batch.bad[0].reason.replace('_', ' ')}")
        for line, cells in zip(batch.lines.tolist(), plain_rows(batch.rows), strict=True):
            try:
                found = cells_type.model_validate({name: cell for name, cell in cells.items() if cell})
                yield {"line": line, **found.model_dump()}
            except ValidationError as error:
                raise PermanentFailure(f"{file}, row {line}: {problems_of(error, cells_type)}") from None


def take_from_log(connection: psycopg.Connection, answers: pd.DataFrame, *, whole_month: bool) -> None:
    """Store the forms on whose items and positions all learners in `answers` agree.

    `answers` has the columns of `answers.read_answers`, for all scales. Imported and assembled forms stay as they are.
    Adaptive tests have no fixed items, even if all learners of a day got the same ones. In a whole month, an earlier
    form from the log on which its learners do not agree is deleted.
    """
    lock_form_names(connection)
    others = "SELECT form_id FROM form WHERE source <> 'log' UNION SELECT test_id FROM adaptive_test"
    answers = answers[
        (answers["form"] != "") & ~answers["seed"] & ~answers["form"].isin(first_column(connection, others))
    ]
    answers = answers.rename(columns={"form": "form_id", "item": "item_id"})
    items = answers.groupby(["form_id", "item_id"], as_index=False).agg(
        position=("position", "first"),
        positions=("position", "nunique"),
        learners=("learner", "nunique"),
        max_score=("max_score", "first"),
    )
    learners = items["form_id"].map(answers.groupby("form_id")["learner"].nunique())
    agree = (items["positions"] == 1) & (items["learners"] == learners) & (items["position"] > 0)
    unclear = items["form_id"][~agree | items.duplicated(["form_id", "position"], keep=False)].unique().tolist()
    if whole_month:
        for table in ("form_item", "form"):
            connection.execute(f"DELETE FROM {table} WHERE form_id = ANY(%s)", (unclear,))
    store_forms(connection, items[~items["form_id"].isin(unclear)].assign(scored=True), "log")


def store_forms(connection: psycopg.Connection, found: pd.DataFrame, source: str) -> None:
    """Replace these forms in the transaction of `connection`. `found` has the columns that `read_forms` returns. A row
    with an empty item_id is a seed place.

    Raises PermanentFailure if an adaptive test has the name of a form.
    """
    forms = found["form_id"].unique().tolist()
    lock_form_names(connection)
    require_free_names(connection, forms, "form")
    connection.execute("DELETE FROM form_item WHERE form_id = ANY(%s)", (forms,))
    is_item = found["item_id"] != ""
    places = found[~is_item].groupby("form_id")["position"].agg(sorted)
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO form (form_id, source, seed_places) VALUES (%s, %s, %s)
               ON CONFLICT (form_id) DO UPDATE
               SET source = excluded.source, seed_places = excluded.seed_places, recorded_at = now()""",
            [(form, source, Jsonb(places[form]) if form in places else None) for form in forms],
        )
        cursor.executemany(
            "INSERT INTO form_item (form_id, item_id, position, max_score, scored) VALUES (%s, %s, %s, %s, %s)",
            found[is_item][[*_Cells.model_fields]].itertuples(index=False, name=None),
        )
    apply_scoring(connection, forms)
