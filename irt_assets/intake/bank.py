"""Import the item bank and the learners from files with a row per item or learner, each file in one transaction.

A row adds an item or learner, or changes the columns for which it has a value. Empty cells change nothing, and
importing the same file again changes nothing. A copy of a company's own table is written in the same way, but an empty
cell there clears the column. Parameters are stored as given, together with `D`; they are converted when they are read.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.json import Jsonb

from irt_assets.common.wording import some_of
from irt_assets.intake.arrivals import Arrival
from irt_assets.intake.clean import MAX_ID_LENGTH, NAMES, Columns
from irt_assets.intake.jsonlines import parse_json
from irt_assets.intake.mapping import AUTO, Binding, Mapping, bind, encoding_of, load_mapping
from irt_assets.intake.max_scores import (
    FORMER_MAXIMA,
    follow_new_maxima,
    new_maxima,
    require_consistent_scores,
)
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ERASED, ImportReport, InvalidRow, RefusedRow, Reject, ignore_rows, with_learner_id
from irt_assets.intake.scoring import NUMBER, points
from irt_assets.intake.sources import Source, plain_rows
from irt_assets.intake.staging import lock_out_imports_and_posts
from irt_assets.responses.erased import names_of_erased
from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import MAX_SCORE, ItemRow, Model, item_model
from resources.postgres.database import Database, advisory_lock, first_column

Cells = dict[str, str | None]
MAX_NAMED = 5
MAX_DEPTH = 100  # maximum nesting depth of lists and objects
MODELS: tuple[str, ...] = get_args(Model)
DICHOTOMOUS_MODELS = tuple(name for name in MODELS if item_model(name).highest_score == 1)
PARAMETERS = {  # smallest and largest value
    "a": (-math.inf, math.inf),
    "b": (-math.inf, math.inf),
    "c": (0.0, 1.0),
    "a_se": (0.0, math.inf),
    "b_se": (0.0, math.inf),
    "c_se": (0.0, math.inf),
    "cov_ab": (-math.inf, math.inf),
    "n": (1, 2**53),
    "D": (1.0, 2.0),
}
STEPS = {"b2", "category2"}
SCORE_PARAMETERS = tuple(f"{x}{k}{se}" for x in "tw" for k in range(MAX_SCORE + 1) for se in ("", "_se"))
"""Parameters of an item's scores (see `PartialCreditModel` and `GradedModel`), and their standard errors."""
SCORE_KEYS = ("max_score", "block")
"""Keys of an item's scores in `meta` that are not parameters. They stay if new parameters come without them."""
QUESTION_COLUMNS = (
    *("item_id", "scale_id", "topic_id", "testlet_id", "tags"),
    *(*PARAMETERS, "model", *SCORE_KEYS, "key", "meta", *SCORE_PARAMETERS),
    *(name for name in (*ItemRow.COLUMNS, *ItemRow.FACTS) if name not in PARAMETERS),
)
LEARNER_COLUMNS = ("user_id", "attributes", "is_test", "target_scale_id", "target_theta")
IRT = f"""CASE WHEN s.meta ? 'irt' AND {{kept}} ? 'irt' THEN jsonb_build_object('irt',
    CASE WHEN s.meta->'irt' ? 'a' THEN jsonb_strip_nulls(jsonb_build_object(
        {", ".join(f"'{name}', {{kept}}->'irt'->'{name}'" for name in SCORE_KEYS)})) ELSE {{kept}}->'irt' END
    || (s.meta->'irt')) ELSE '{{{{}}}}' END"""
"""SQL of an item's merged entry `irt`: new parameters replace all former ones, but `SCORE_KEYS` stay unless given."""
DEFAULTS = {"scale_id": "'default'", "is_test": "false"}
"""Column → SQL value for an empty cell of a new row."""


@dataclass(frozen=True)
class Kind:
    """Differences between items and learners.

    Attributes:
        key: the column with the id.
        known: our columns that a file may have.
        also_called: our column → other names of it that are understood without a mapping.
        columns: columns of the table that are filled.
        document: the JSON column among them, which is merged and not replaced.
        row: function that turns cells into the values of `columns`. Raises InvalidRow if a cell is invalid.
    """

    table: str
    key: str
    known: Sequence[str]
    also_called: dict[str, tuple[str, ...]]
    columns: tuple[str, ...]
    document: str
    row: Callable[[Cells], tuple[Any, ...]]


def import_bank_file(
    database: Database,
    kind: Kind,
    file: Path,
    *,
    mapping: str | Path = AUTO,
    encoding: str | None = None,
    dry_run: bool = False,
    reject: Reject = ignore_rows,
) -> ImportReport:
    """Import a file of QUESTIONS or of LEARNERS.

    A row of QUESTIONS has item_id, scale_id, topic_id, testlet_id, tags (`anchor;retired`), a, b, c, their standard
    errors, n, D, model, max_score, block and key. Scored items have t0, t1, …, or the columns of another program
    (`ItemRow.COLUMNS`). A row of LEARNERS has user_id, is_test, target_scale_id and target_theta; every other column is
    an attribute. With a mapping file, only the columns that it names are read.

    In the report, `duplicates` are rows that change nothing. `encoding`: encoding of a file that is not UTF-8.
    `reject`: function that receives the refused rows. Raises PermanentFailure if the file or the mapping is at fault.
    """
    rules = load_mapping(mapping)
    source = open_source(Path(file), encoding_of(encoding, rules), rules)
    return import_bank_rows(database, source, kind, mapping=rules or AUTO, dry_run=dry_run, reject=reject)


def import_bank_rows(
    database: Database,
    source: Source,
    kind: Kind,
    *,
    mapping: str | Path | Mapping = AUTO,
    dry_run: bool = False,
    given: Collection[str] = (),
    reject: Reject = ignore_rows,
) -> ImportReport:
    """Write the rows of `source` that are new or change something.

    `given`: our columns that an empty cell clears, if the source is a copy of a table. `reject`: function that receives
    the refused rows. Raises PermanentFailure if the source or the mapping is at fault.
    """
    with database.connect() as connection:
        if kind is LEARNERS:
            advisory_lock(connection, "response_log", "import")  # an erasure deletes rows under this lock
        arrival = Arrival(connection, kind.table, source.name, reject)
        erased = names_of_erased(connection) if kind is LEARNERS else None
        rows = read_rows(source, mapping, kind, arrival.report, arrival.refuse, erased)
        listed = ", ".join(kind.columns)
        connection.execute(f"CREATE TEMPORARY TABLE staged (LIKE {kind.table}) ON COMMIT DROP")
        for column in kind.columns[1:]:
            connection.execute(f"ALTER TABLE staged ALTER {column} DROP NOT NULL")
        with connection.cursor().copy(f"COPY staged ({listed}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        if kind is QUESTIONS:
            lock_out_imports_and_posts(connection)  # answers are graded by the keys and maximum scores written here
            connection.execute(FORMER_MAXIMA)
        changed = connection.execute(_update(kind, given)).rowcount
        added = connection.execute(_insert(kind)).rowcount
        if kind is QUESTIONS:
            require_consistent_scores(connection, source.name)
            arrival.report.notes += follow_new_maxima(connection, source.name, new_maxima(connection))
            arrival.report.notes += _note_unknown_enemies(connection, source.name)
        report = arrival.report
        report.accepted = changed + added
        report.duplicates = report.read - report.rejected.total() - report.accepted
        report.new_items, report.new_learners = (added, 0) if kind is QUESTIONS else (0, added)
        arrival.store_counts()
        if dry_run:
            connection.rollback()
    return report


def _note_unknown_enemies(connection: psycopg.Connection, file: str) -> Iterator[str]:
    """Yield a note if the bank does not have all enemies of the staged items."""
    unknown = first_column(
        connection,
        """SELECT enemy FROM (SELECT DISTINCT jsonb_path_query(meta, '$.enemies[*]') #>> '{}' AS enemy FROM staged) AS s
           WHERE enemy NOT IN (SELECT item_id FROM question) ORDER BY 1""",
    )
    if unknown:
        yield f"{file}: `enemies` has items that the bank does not have yet: {some_of(unknown, MAX_NAMED)}"


def read_rows(
    source: Source,
    mapping: str | Path | Mapping,
    kind: Kind,
    report: ImportReport,
    reject: Reject,
    erased: Callable[[str], str] | None = None,
) -> list[tuple[Any, ...]]:
    """Convert a source to rows of the table, one per item or learner. Refused rows are counted and passed to `reject`.

    `erased`: function from a learner's id to the name of the erasure, or "" if the learner was not erased.
    """
    file = source.name
    binding = binding_of(kind, file, source.columns, mapping)
    rules, columns = binding.mapping, Columns(binding)
    names = [*binding.columns, *(name for name in rules.constants if name not in binding.columns)]
    report.notes.append(f"{file}: {source.kind}, {source.encoding}, columns {', '.join(names)}")
    if unused := {*source.columns} - {*chain(*binding.columns.values())}:
        report.notes.append(f"{file}: not read: {', '.join(sorted(unused))}")
    if kind is QUESTIONS and "model" not in names and not {"t0", "t1", "w0"} & set(names) and STEPS & set(names):
        report.notes.append(f"{file}: {ItemRow.STEPS_OR_GRADED}")
    seen: dict[str, tuple[Any, ...]] = {}
    makes_ids = kind is LEARNERS and binding.makes_learners_ids

    def refuse(line: int, reason: str, value: str, raw: str) -> None:
        report.rejected[reason] += 1
        reject([RefusedRow(file, line, reason, value, raw)])

    for batch in source.batches():
        report.read += len(batch.bad)
        for bad in batch.bad:
            texts = ("", "") if makes_ids else (bad.value, bad.raw)
            refuse(bad.line, bad.reason, *texts)
        lists = {name: columns.our_column(batch.rows, name).to_pylist() for name in names}
        rows = zip(plain_rows(batch.rows), *lists.values(), strict=True)
        for number, (raw, *values) in enumerate(rows):
            if all(cell is None or cell == "" for cell in raw.values()):
                continue
            report.read += 1
            cells = dict(zip(lists, values, strict=True))
            key = cells[kind.key]
            try:
                if erased is not None and key is not None and (erasure := erased(key)):
                    raise InvalidRow(ERASED, erasure)
                row = _convert_cells(kind, cells, seen)
            except InvalidRow as refusal:
                kept = "" if refusal.reason == ERASED else source.raw(raw)
                if kind is LEARNERS and kept:
                    kept = with_learner_id(kept, key)
                refuse(int(batch.lines[number]), refusal.reason, refusal.value, kept)
            else:
                seen[row[0]] = row
    report.notes += [f"{file}: {note}" for note in columns.notes]
    return list(seen.values())


def binding_of(kind: Kind, file: str, columns: Sequence[str], mapping: str | Path | Mapping) -> Binding:
    """Bind the mapping to the columns of a source of items or learners. Raises PermanentFailure if it does not fit."""
    rules = load_mapping(mapping) or _own_mapping(kind, columns)
    also = (*rules.columns, *rules.constants) if kind is LEARNERS else ()
    return bind(rules, file, columns, [*kind.known, *also], [kind.key])


def _own_mapping(kind: Kind, columns: Sequence[str]) -> Mapping:
    """The mapping of a file with our column names. Other columns of learners become attributes."""
    attributes = columns if kind is LEARNERS else ()
    aliases = {*chain(*kind.also_called.values())}
    names: dict[str, tuple[str, ...]] = {name: (name,) for name in (*kind.known, *attributes) if name not in aliases}
    return Mapping(name="own", columns=names, also_called=kind.also_called, preset=True)


def _convert_cells(kind: Kind, cells: Cells, seen: dict[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    """Convert cells to the table's row. Raises InvalidRow if they are invalid, or differ from an earlier row with the
    same id in `seen`."""
    key = cells[kind.key]
    if key is None:
        raise InvalidRow(f"missing_{kind.key.removesuffix('_id')}", "")
    filled = {name: value for name, value in cells.items() if value is not None}
    limited = [*filled, *(filled.get(name, "") for name in NAMES)]
    if long := next((text for text in limited if len(text.encode()) > MAX_ID_LENGTH), None):
        raise InvalidRow("id_too_long", long)
    if nul := next((name for name, value in filled.items() if "\0" in name + value), None):
        raise InvalidRow("bad_character", nul)
    row = kind.row(cells)
    if key in seen and _plain(seen[key]) != _plain(row):
        raise InvalidRow("conflicting_duplicate", key)
    return row


def _plain(row: tuple[Any, ...]) -> list[Any]:
    return [value.obj if isinstance(value, Jsonb) else value for value in row]


def _question(cells: Cells) -> tuple[Any, ...]:
    """The row of an item. A cell takes precedence over the same entry in `meta`, a dump of the table's column."""
    meta = _object("meta", cells)
    inner = _object("irt", {"irt": json.dumps(meta.pop("irt", None) or {})})
    several = key if isinstance(key := meta.get("key"), list | bool) else None
    for name in ("tags", "key"):
        if (value := meta.pop(name, None)) is not None:
            inner[name] = value
    dumped: Cells = {name: v if isinstance(v, str) else json.dumps(v) for name, v in inner.items() if v is not None}
    cells = dumped | {name: value for name, value in cells.items() if value is not None}
    cells |= _convert_parameters(cells)
    given = {name: _number(name, cells, *limits) for name, limits in PARAMETERS.items()}
    given |= {name: _number(name, cells, -math.inf, math.inf) for name in SCORE_PARAMETERS}
    irt: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    irt = irt if irt.keys() - {"D"} else {}  # a constant for all rows, also of items without parameters
    if irt and not {"a", "b"} <= set(irt):
        raise InvalidRow("incomplete_parameters", ", ".join(f"{name}={value}" for name, value in irt.items()))
    irt |= _score_entries(cells)
    model = (cells.get("model") or ("grm" if "w0" in irt else "")).lower()
    if model and (irt or model not in DICHOTOMOUS_MODELS):
        if model not in MODELS:
            raise InvalidRow("bad_model", model)
        if model in DICHOTOMOUS_MODELS and irt.get("max_score", 1) > 1:
            raise InvalidRow("bad_model", f"{model}, which is for right and wrong, with max_score={irt['max_score']}")
        irt["model"] = model
    if irt:
        meta["irt"] = irt
    enemies = meta.get("enemies", [])
    if not (isinstance(enemies, list) and all(isinstance(enemy, str) for enemy in enemies)):
        raise InvalidRow("bad_enemies", json.dumps(enemies))
    if (tags := cells.get("tags")) is not None:
        meta["tags"] = _tags(tags)
    if (key := cells.get("key")) is not None:
        meta["key"] = key if several is None or key != json.dumps(several) else several
    return cells["item_id"], cells.get("scale_id"), cells.get("topic_id"), cells.get("testlet_id"), Jsonb(meta)


def _convert_parameters(cells: Cells) -> Cells:
    """Convert an item's parameters from the form of another program to ours. Returns the converted cells only."""
    names = ["b", *ItemRow.COLUMNS, *(ItemRow.FACTS if cells.get("MEASURE") else ())]
    given = {name: _number(name, cells, -math.inf, math.inf) for name in names}
    numbers, model = {name: x for name, x in given.items() if x is not None}, cells.get("model") or ""
    try:
        if ItemRow.form_of(numbers) and ItemRow.is_nominal(numbers, model):
            raise PsychometricsError("parameters of a nominal item are not read: leave them out")
        ItemRow.require_known_model(numbers, model)
    except PsychometricsError as error:
        raise InvalidRow("bad_model", str(error)) from None
    if ItemRow.form_of(numbers) is None:
        return {"c": repr(numbers["g"])} if "g" in numbers and cells.get("c") is None else {}
    if any(cells.get(name) is not None for name in SCORE_PARAMETERS):
        return {}
    try:
        found = ItemRow.parameters_of(numbers, model) or {}
    except PsychometricsError as error:
        reason = "bad_thresholds" if ItemRow.is_graded(numbers, model) else "incomplete_parameters"
        raise InvalidRow(reason, str(error)) from None
    declared = _number("max_score", cells, 1, MAX_SCORE)
    if declared is not None and found.pop("max_score", 1.0) > declared:
        raise InvalidRow("bad_max_score", f"{declared:g}, and there are parameters of higher scores")
    converted: Cells = {name: repr(x) for name, x in found.items()}
    return converted | ({"model": "grm"} if "w0" in found else {})


def _score_entries(cells: Cells) -> dict[str, Any]:
    most, block = cells.get("max_score"), cells.get("block")
    if most is not None and not (re.match(r"^\d+(\.0+)?$", most) and 1 <= float(most) <= MAX_SCORE):
        raise InvalidRow("bad_max_score", most)
    return {} | ({"max_score": int(float(most))} if most else {}) | ({"block": block} if block else {})


def _learner(cells: Cells) -> tuple[Any, ...]:
    attributes = _object("attributes", cells)
    attributes |= {name: value for name, value in cells.items() if name not in LEARNER_COLUMNS and value is not None}
    is_test = cells.get("is_test")
    [number] = points(pa.array([is_test], pa.string()))
    if is_test is not None and number not in (0, 1):
        raise InvalidRow("bad_is_test", is_test)
    return (
        cells["user_id"],
        Jsonb(attributes),
        None if is_test is None else bool(number),
        cells.get("target_scale_id"),
        _number("target_theta", cells, -math.inf, math.inf),
    )


def _object(name: str, cells: Cells) -> dict[str, Any]:
    text = cells.get(name)
    value = _json(f"bad_{name}", text) if text else {}
    if not isinstance(value, dict):
        raise InvalidRow(f"bad_{name}", text or "")
    return value


def _json(reason: str, text: str) -> Any:
    """Parse JSON. Raises InvalidRow if it is invalid or PostgreSQL cannot store the value."""
    try:
        value = parse_json(text)
    except ValueError:
        raise InvalidRow(reason, text) from None
    if not _storable(value, MAX_DEPTH):
        raise InvalidRow(reason, text)
    return value


def _storable(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_storable(part, depth - 1) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return depth > 0 and all(_storable(part, depth - 1) for part in value)
    return "\0" not in value if isinstance(value, str) else not isinstance(value, float) or math.isfinite(value)


def _number(name: str, cells: Cells, smallest: float, largest: float) -> float | None:
    text = cells.get(name)
    if text is None:
        return None
    value = float(text) if re.match(NUMBER, text) else math.nan
    if not (math.isfinite(value) and smallest <= value <= largest):
        raise InvalidRow("bad_number", f"{name}={text}")
    return int(value) if name == "n" else value


def _tags(text: str) -> list[str]:
    if not text.startswith("["):
        return [tag for tag in map(str.strip, re.split("[;,|]", text)) if tag]
    tags = _json("bad_tags", text)  # from JSON lines
    if not all(isinstance(tag, str) for tag in tags):
        raise InvalidRow("bad_tags", text)
    return list(tags)


def _update(kind: Kind, given: Collection[str] = ()) -> str:
    """SQL that updates existing rows that change. The document is merged; other columns are replaced by filled cells.

    `given`: columns that an empty cell clears, because the source has all their values.
    """
    after = {name: f"coalesce(s.{name}, t.{name})" for name in kind.columns[1:]}
    after |= {name: f"coalesce(s.{name}, {DEFAULTS.get(name, 'NULL')})" for name in after if name in given}
    kept = f"(t.{kind.document} - {_replaced_keys(kind, given)})"
    after[kind.document] = f"{kept} || s.{kind.document}"
    if kind is QUESTIONS:
        after[kind.document] += f" || {IRT.format(kept=kept)}"
    sets = ", ".join(f"{name} = {value}" for name, value in after.items())
    before = ", ".join(f"t.{name}" for name in after)
    return (
        f"UPDATE {kind.table} t SET {sets} FROM staged s WHERE t.{kind.key} = s.{kind.key}"
        f" AND ({', '.join(after.values())}) IS DISTINCT FROM ({before})"
    )


def _replaced_keys(kind: Kind, given: Collection[str]) -> str:
    """SQL array of the document's keys that a copy replaces.

    If the whole document is given, these are all of its keys. But an item's `key` is replaced only if it is given
    itself, because `irt items rekey` writes it, too.
    """
    if kind.document in given:
        every = kind is LEARNERS or "key" in given
        return f"ARRAY(SELECT k FROM jsonb_object_keys(t.{kind.document}) k WHERE {every} OR k <> 'key')"
    irt = {*PARAMETERS, *SCORE_KEYS, "model"} if kind is QUESTIONS else set()
    keys = {"irt" if name in irt else name for name in given if name not in kind.columns}
    return f"ARRAY[{', '.join(map(sql.quote, sorted(keys)))}]::text[]"


def _insert(kind: Kind) -> str:
    """SQL that inserts new rows. Empty cells get the columns' defaults."""
    values = [f"coalesce({name}, {DEFAULTS[name]})" if name in DEFAULTS else name for name in kind.columns]
    return (
        f"INSERT INTO {kind.table} ({', '.join(kind.columns)}) SELECT {', '.join(values)} FROM staged"
        " ON CONFLICT DO NOTHING"
    )


QUESTIONS = Kind(
    "question",
    "item_id",
    QUESTION_COLUMNS,
    {"item_id": ("item",), "scale_id": ("scale",), "topic_id": ("topic",), "testlet_id": ("testlet",)},
    ("item_id", "scale_id", "topic_id", "testlet_id", "meta"),
    "meta",
    _question,
)
LEARNERS = Kind(
    "learner",
    "user_id",
    LEARNER_COLUMNS,
    {"user_id": ("person", "learner")},
    ("user_id", "attributes", "is_test", "target_scale_id", "target_theta"),
    "attributes",
    _learner,
)
COPIES = {kind.table: kind for kind in (QUESTIONS, LEARNERS)}
"""Table → its kind, for the tables that can be copies of a company's own table."""
