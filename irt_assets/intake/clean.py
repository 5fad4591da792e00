"""Turn the rows of a file into answers: apply the mapping to whole columns, and refuse invalid answers with a reason.

Each answer is checked here on its own. Checks that need other answers or the database (duplicates, unknown items) are
in `staging`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import quantity, some_of
from irt_assets.intake.cells import as_ids, as_text, encode, find_shortened_ids, trim_cells, visible_ids
from irt_assets.intake.mapping import Binding, Mapping as FileMapping
from irt_assets.intake.scoring import (
    NUMBER,
    WORDS,
    AsGiven,
    AsRecorded,
    ByKey,
    FromPoints,
    Scoring,
    Tally,
)
from irt_assets.intake.sources import Batch, plain
from irt_assets.intake.times import MISSING, parse_times
from irt_psychometrics.cells import MaxScores, OptionCounts

MAX_ID_LENGTH = 600  # bytes: an index row of PostgreSQL holds 2,704 bytes, and an index row of DIF has four ids
WHOLE_NUMBERS = {  # smallest value, largest value, reason for refusing other values
    "response_time_ms": (0, 2**53, "bad_response_time"),
    "position": (1, 2**31 - 1, "bad_position"),
    "hints_used": (0, 2**31 - 1, "bad_hints"),
    "revision": (0, 2**53, "bad_revision"),
}
MAX_OPTIONS = 1_000  # options of an item that are counted
DAY = 86_400 * 10**6  # microseconds
IDS = ("attempt_id", "user_id", "item_id")
NAMES = (*IDS, "session_id", "form_id", "topic_id", "scale_id", "testlet_id", "target_scale_id")
TIMES = ("completed_at", "started_at")
RESULTS = ("correct", "score")
ANSWERS = (*RESULTS, "response")
TEXTS = ("session_id", "form_id", "response", "topic_id")
MODES = pa.array(["live", "sandbox"])


@dataclass(frozen=True)
class Limits:
    """Range of valid times, in microseconds since 1970 (UTC), and how to read times.

    Attributes:
        first, now: the earliest and the latest valid time.
        zone: zone of times without one.
        start: time of the first answer, if the source has no times. None: it has times.
        each_alone: whether a time without a zone is an error of its row alone. Otherwise the whole source is refused,
            so that the importer can name the zone of all times.
    """

    first: int
    now: int
    zone: str | None = None
    start: int | None = None
    each_alone: bool = False


@dataclass(frozen=True)
class Refusals:
    """Refused answers: indices of their rows in the batch, the reasons, and the values that are wrong."""

    rows: np.ndarray
    reasons: list[str]
    values: list[str]


@dataclass(frozen=True)
class CleanedBatch:
    """A cleaned batch.

    Attributes:
        answers: the valid answers, with our columns and `line`.
        refused: the other answers.
    """

    answers: pa.RecordBatch
    refused: Refusals


@dataclass(frozen=True)
class _RawAnswers:
    """N answers before they are checked. Arrays have shape (N,).

    Attributes:
        columns: our column → cells.
        rows: index of each answer's row in the batch.
        lines: line in the file.
        numbers: position in the file, increasing with line and column. It does not depend on options.
        column: index of the answer's column in the file. None if the file is a list and not a matrix.
    """

    columns: dict[str, pa.Array]
    rows: np.ndarray
    lines: np.ndarray
    numbers: np.ndarray
    column: np.ndarray | None = None

    def cells_by_answer(self, cells: pa.Array) -> pa.Array:
        """Take the cell of each answer's row from `cells`, which has a cell for each row of the batch."""
        return cells.take(pa.array(self.rows))


class _Verdicts:
    """The first reason to refuse each answer, if any."""

    def __init__(self, count: int) -> None:
        self._against = np.zeros(count, dtype=np.int16)
        self._reasons: list[tuple[str, pa.Array]] = []

    def refuse(self, mask: np.ndarray | pa.BooleanArray, reason: str, values: pa.Array) -> None:
        self._reasons.append((reason, values))
        self._against[np.asarray(mask) & (self._against == 0)] = len(self._reasons)

    @property
    def sound(self) -> np.ndarray:
        return self._against == 0

    def refusals(self, row_index: np.ndarray) -> Refusals:
        rows = np.flatnonzero(self._against)
        reasons = [self._reasons[number - 1] for number in self._against[rows]]
        values = [plain(column[int(row)]) for row, (_, column) in zip(rows, reasons, strict=True)]
        texts = ["" if value is None else str(value) for value in values]
        return Refusals(row_index[rows], [reason for reason, _ in reasons], texts)


class Columns:
    """The columns of a file by our names: as trimmed text, null if empty, with values replaced by the mapping."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._mapping = binding.mapping
        self.codes: dict[str, Counter[str]] = {name: Counter() for name in ANSWERS}
        """Our column of scores or choices → counts of the texts that the mapping defines as no answer."""
        self._changed_ids: set[str] = set()

    def our_column(self, rows: pa.RecordBatch, name: str) -> pa.Array:
        """Our column `name`. Empty cells get the mapping's constant.

        If the mapping names several columns, they are joined; of results, the first that is not empty counts.
        """
        file_columns = self._binding.columns.get(name, ())
        constant = self._mapping.constants.get(name)
        if not file_columns:
            return pa.repeat(pa.scalar(constant, pa.string()), rows.num_rows)
        if name in RESULTS:
            read = [self._read(rows, file_column, name) for file_column in file_columns]
            cells, given = (pc.coalesce(*parts) for parts in zip(*read, strict=True))
            self._count_codes(name, cells, given)
        else:
            parts = [self.cells(rows, file_column, name) for file_column in file_columns]
            separator = " " if name in TIMES else "/"
            cells = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, separator)
        return cells if constant is None else pc.fill_null(cells, constant)

    def cells(self, rows: pa.RecordBatch, file_column: str, our_name: str | None = None) -> pa.Array:
        """A column of the file as trimmed text, null if empty. Timestamps stay timestamps if `our_name` is a time."""
        cells, given = self._read(rows, file_column, our_name)
        self._count_codes(our_name, cells, given)
        return cells

    def _read(self, rows: pa.RecordBatch, file_column: str, our_name: str | None) -> tuple[pa.Array, pa.Array]:
        """Read a column as `cells` returns it, and as trimmed text in which nothing is replaced."""
        cells = rows.column(rows.schema.get_field_index(file_column))
        if our_name in TIMES and pa.types.is_timestamp(cells.type):
            return cells, cells
        if our_name in NAMES:
            cells, changed = visible_ids(as_ids(cells, file_column))
            self._changed_ids |= changed
        cells = given = trim_cells(as_text(cells, file_column))
        cells = pc.if_else(_is_in(cells, ["", *self._binding.null_values_of(file_column)]), None, cells)
        if self._mapping.integer_ids and our_name in IDS:
            cells = pc.replace_substring_regex(cells, r"^(\d+)\.0+$", r"\1")
        if our_name is not None:
            cells = replace_texts(cells, self._mapping.values.get(our_name, {}))
        return cells, given

    def _count_codes(self, our_name: str | None, cells: pa.Array, given: pa.Array) -> None:
        if our_name in self.codes and cells.null_count > given.null_count:
            self.codes[our_name].update(encode(given.filter(pc.is_null(cells)).drop_null()).counts())

    @property
    def notes(self) -> list[str]:
        """A sentence on the ids that had invisible characters; empty if no id had any."""
        changed = some_of(sorted(map(repr, self._changed_ids)), 5)
        read = "read without invisible characters (such as U+200B), and with spaces for no-break spaces"
        return [f"{quantity(len(self._changed_ids), 'id')} {read}: {changed}"] if changed else []

    def skipped(self, rows: pa.RecordBatch) -> Iterator[tuple[pa.Array, pa.BooleanArray]]:
        """Yield the cells of each column by which the mapping skips rows, and whether each row is skipped."""
        for name, unwanted in self._mapping.skip_rows_where.items():
            cells = self.cells(rows, name)
            yield cells, _is_in(pc.fill_null(cells, ""), unwanted)


class Cleaner:
    """Cleans the batches of one file.

    Attributes:
        tally: counts of the scores; stays empty if the rule is `AsRecorded`.
        shortened_ids: ids that Excel seems to have shortened.
        choices: counts of the choices, if a key of the import scores them.
    """

    def __init__(
        self,
        binding: Binding,
        limits: Limits,
        file_id: str,
        items: Sequence[str] = (),
        scoring: Scoring = AsGiven(),  # noqa: B008 - frozen, without data
    ) -> None:
        """`file_id`: prefix of ids for answers without an id, if the file has no times. `items`: in a matrix, the
        columns that are items (see `matrix`)."""
        self._binding = binding
        self._mapping = binding.mapping
        self._columns = Columns(binding)
        self._limits = limits
        self._file_id = file_id
        self._items = list(items)
        self._scoring = scoring
        self.tally = Tally()
        self._nothing = 0  # number of cells without an answer
        self.shortened_ids: set[str] = set()
        keys = scoring.keys if isinstance(scoring, AsGiven | ByKey) else {}
        self.choices = OptionCounts(ByKey(keys).options, MAX_OPTIONS)

    @property
    def notes(self) -> list[str]:
        return self._columns.notes

    @property
    def no_answers(self) -> Counter[str]:
        """Text → number of cells of scores or choices that count as no answer; '' for empty cells."""
        codes = Counter({text: n for text, n in self._columns.codes[self._answers_are].items() if text})
        codes[""] = self._nothing - codes.total()
        return codes

    @property
    def _answers_are(self) -> str:
        """Our name for the column that contains the file's answers."""
        if self._mapping.wide:
            return "correct"
        wanted = ["correct", "score", "response"]
        if isinstance(self._scoring, ByKey):
            wanted.reverse()
        return next((name for name in wanted if name in self._binding.columns), "correct")

    def count(self, batch: Batch) -> None:
        """Add the batch to the tally without cleaning it, for rules that need the tally of the whole file."""
        raw = self._raw(batch)
        verdicts = self._refuse_skipped_rows(batch, raw)
        self._count(raw, verdicts)

    def clean(self, batch: Batch) -> CleanedBatch:
        """Clean a batch. Raises ZoneNeeded if times have no zone and neither the mapping nor an option names it."""
        raw = self._raw(batch)
        columns, count = raw.columns, len(raw.rows)
        verdicts = self._refuse_skipped_rows(batch, raw)
        if not isinstance(self._scoring, AsRecorded):
            self._count(raw, verdicts)
        _refuse_texts(columns, verdicts)
        chosen_in = "correct" if isinstance(self._scoring, ByKey) else "response"
        if not isinstance(self._scoring, FromPoints) and chosen_in in columns:
            columns[chosen_in] = ByKey(self._scoring.keys).chosen(columns["item_id"], columns[chosen_in])
        self.shortened_ids |= find_shortened_ids(columns["user_id"]) | find_shortened_ids(columns["item_id"])
        right = self._scoring.right(columns["item_id"], columns["correct"])
        if isinstance(self._scoring, AsGiven | AsRecorded) and (keys := self._scoring.keys):
            chosen = columns.get("response", pa.nulls(count, pa.string()))
            keyed = _is_in(columns["item_id"], keys)
            right = pc.if_else(keyed, ByKey(keys).right(columns["item_id"], chosen), right)
            if isinstance(self._scoring, AsGiven):
                self.choices.add(encode(columns["item_id"]), encode(chosen))
            unknown = pc.and_(pc.is_valid(columns["correct"]), pc.is_null(chosen))
            verdicts.refuse(pc.and_(keyed, unknown), "missing_response", columns["item_id"])
        if isinstance(self._scoring, ByKey):
            self.choices.add(encode(columns["item_id"]), encode(columns["correct"]))
            keyed = _is_in(columns["item_id"], self._scoring.keys)
            verdicts.refuse(
                pc.and_(pc.invert(keyed), pc.is_valid(columns["correct"])), "missing_key", columns["item_id"]
            )
        verdicts.refuse(pc.and_(pc.is_null(right), pc.is_valid(columns["correct"])), "bad_score", columns["correct"])
        scores = None
        if "score" in columns:
            right, scores = self._scores(columns["item_id"], columns["score"], right, verdicts)
        if isinstance(self._scoring, ByKey):
            columns["response"] = columns["correct"]
        if self._limits.start is None:
            completed = self._times("completed_at", batch, raw, verdicts)
            verdicts.refuse(completed > self._limits.now, "time_in_future", columns["completed_at"])
            verdicts.refuse(completed < self._limits.first, "time_before_first_month", columns["completed_at"])
        else:
            completed = self._in_order(self._limits.start, batch, raw, verdicts)
        answers = {
            "line": pa.array(batch.lines[raw.rows]),
            "attempt_id": self._attempt_ids(raw),
            "user_id": columns["user_id"],
            "item_id": columns["item_id"],
            "completed_at": _timestamps(completed),
            "correct": right,
        }
        if scores is not None:
            answers["score"] = scores
        if "started_at" in columns:
            started = self._times("started_at", batch, raw, verdicts)
            verdicts.refuse(started > completed, "completed_before_started", columns["started_at"])
            answers["started_at"] = _timestamps(started)
        for name, (smallest, largest, reason) in WHOLE_NUMBERS.items():
            if name in columns:
                numbers = _numbers(columns[name]) * (1000 if self._mapping.units.get(name) == "s" else 1)
                inside = (numbers >= smallest) & (numbers <= largest)
                verdicts.refuse(~inside & np.asarray(pc.is_valid(columns[name])), reason, columns[name])
                answers[name] = pa.array(np.rint(np.where(inside, numbers, 0)).astype(np.int64), mask=~inside)
        if "revision" in columns:
            answers["revision"] = pc.fill_null(answers["revision"], 0)
        if "mode" in columns:
            modes = pc.fill_null(columns["mode"], "live")
            verdicts.refuse(pc.invert(pc.is_in(modes, MODES)), "bad_mode", modes)
            answers["mode"] = modes
        answers |= {name: columns[name] for name in TEXTS if name in columns}
        table = pa.record_batch(answers)
        return CleanedBatch(table.filter(pa.array(verdicts.sound)), verdicts.refusals(raw.rows))

    def _scores(
        self, items: pa.Array, cells: pa.Array, right: pa.BooleanArray, verdicts: _Verdicts
    ) -> tuple[pa.BooleanArray, pa.Array]:
        """Read the column `score`. Returns whether each answer has full credit, and its score; null if unknown.

        `right`: whether each answer is right by the column `correct`, which must agree.
        """
        most, given = self._scoring.maxima.of_rows(encode(items)), np.asarray(pc.is_valid(cells))
        scores = encode(cells).scores(most, self._mapping.denominator, WORDS)
        verdicts.refuse(given & ~(scores >= 0), "bad_score", cells)
        verdicts.refuse((scores > most) & (most == 1), "max_score_unknown", cells)
        verdicts.refuse(scores > most, "score_above_max", cells)
        full = pa.array(scores == most, mask=~given)
        verdicts.refuse(pc.fill_null(pc.not_equal(right, full), False), "score_contradicts", cells)
        known = (scores >= 0) & (scores <= most)
        return pc.coalesce(right, full), pa.array(np.where(known, scores, 0).astype(np.int16), mask=~known)

    def _refuse_skipped_rows(self, batch: Batch, raw: _RawAnswers) -> _Verdicts:
        verdicts = _Verdicts(len(raw.rows))
        for cells, is_skipped in self._columns.skipped(batch.rows):
            verdicts.refuse(raw.cells_by_answer(is_skipped), "skipped_by_mapping", raw.cells_by_answer(cells))
        return verdicts

    def _count(self, raw: _RawAnswers, verdicts: _Verdicts) -> None:
        items, cells = raw.columns["item_id"], raw.columns["correct"]
        if "score" in raw.columns:
            undeclared = pa.array(self._scoring.maxima.of_rows(encode(items)) == 1)
            cells = pc.if_else(undeclared, pc.coalesce(raw.columns["score"], cells), cells)
        if not verdicts.sound.all():
            meant = pa.array(verdicts.sound)
            items, cells = items.filter(meant), cells.filter(meant)
        self.tally.add(items, cells)

    # -- the two shapes of a file ------------------------------------------------------------------

    def _raw(self, batch: Batch) -> _RawAnswers:
        return self._matrix(batch) if self._mapping.wide else self._long(batch)

    def _long(self, batch: Batch) -> _RawAnswers:
        rows, row_index = batch.rows, np.arange(batch.rows.num_rows)
        users = self._columns.our_column(rows, "user_id")
        if users.null_count:
            row_index = row_index[~_blank_rows(rows)]
        raw = _RawAnswers({}, row_index, batch.lines[row_index], batch.lines[row_index])
        raw.columns.update(
            {name: raw.cells_by_answer(self._columns.our_column(rows, name)) for name in self._named_columns()}
        )
        if self._mapping.prefix:
            raw.columns["item_id"] = pc.binary_join_element_wise(self._mapping.prefix, raw.columns["item_id"], "")
        replace_by_item(self._mapping, raw.columns)
        if self._answers_are in raw.columns:
            self._nothing += raw.columns[self._answers_are].null_count
        if "correct" not in raw.columns:
            raw.columns["correct"] = pa.nulls(len(row_index), pa.string())
        if isinstance(self._scoring, ByKey):
            raw.columns["correct"] = raw.columns.get("response", raw.columns["correct"])
            raw.columns.pop("score", None)
        elif "score" in raw.columns:
            self._dichotomise(raw)
        elif declared := self._scoring.maxima.by_pattern:
            scored = MaxScores(by_pattern=declared).of_rows(encode(raw.columns["item_id"])) > 1
            self._move_to_scores(raw, pa.array(scored & ~np.isnan(encode(raw.columns["correct"]).points({}))))
        return raw

    def _move_to_scores(self, raw: _RawAnswers, mask: pa.BooleanArray) -> None:
        """Move the cells of `correct` in which `mask` is true to the column `score`."""
        cells = raw.columns["correct"]
        raw.columns["correct"], raw.columns["score"] = pc.if_else(mask, None, cells), pc.if_else(mask, cells, None)

    def _dichotomise(self, raw: _RawAnswers) -> None:
        """Move scores that a rule turns into right and wrong from the column `score` to `correct`."""
        columns, rule = raw.columns, self._scoring
        ruled: pa.Array = pa.scalar(not isinstance(rule, AsGiven | AsRecorded))
        if isinstance(rule, AsRecorded):
            ruled = _is_in(columns["item_id"], rule.marks)
        columns["correct"] = pc.if_else(ruled, pc.coalesce(columns["score"], columns["correct"]), columns["correct"])
        columns["score"] = pc.if_else(ruled, None, columns["score"])

    def _matrix(self, batch: Batch) -> _RawAnswers:
        """The answers of a matrix, in order of rows and items. A cell without a value is not an answer."""
        rows, width = batch.rows, len(self._items)
        places = {name: place for place, name in enumerate(rows.schema.names)}
        in_file = np.array([places[name] for name in self._items], dtype=np.int64)
        assert self._mapping.wide is not None
        chosen = self._mapping.wide.responses
        values = [chosen.get(name, name) for name in self._items] if isinstance(self._scoring, ByKey) else self._items
        by_row = pa.array(np.arange(width * rows.num_rows).reshape(width, rows.num_rows).T.ravel())
        cells = pa.concat_arrays([self._columns.cells(rows, name, "correct") for name in values]).take(by_row)
        answered = np.flatnonzero(np.asarray(pc.is_valid(cells)))
        row_index, item = answered // width, answered % width
        has_learner = np.asarray(pc.is_valid(self._columns.our_column(rows, "user_id")))
        has_learner[row_index] = True
        self._nothing += width * int(has_learner.sum()) - len(answered)
        lines, column = batch.lines[row_index], in_file[item]
        raw = _RawAnswers({}, row_index, lines, lines * rows.num_columns + column, column)
        for name in self._named_columns():
            of_row = self._columns.our_column(rows, name)
            if pa.types.is_string(of_row.type):  # cut, because it is repeated for each item; long ids are still refused
                of_row = pc.utf8_slice_codeunits(of_row, 0, MAX_ID_LENGTH + 1)
            raw.columns[name] = of_row.take(pa.array(row_index))
        names = pa.array(map(self._binding.item, self._items), pa.string())
        raw.columns["item_id"] = names.take(pa.array(item))
        raw.columns["correct"] = cells.take(pa.array(answered))
        if chosen and values == self._items:
            none = pa.nulls(rows.num_rows, pa.string())
            texts = [self._columns.cells(rows, chosen[x], "response") if x in chosen else none for x in self._items]
            raw.columns["response"] = pa.concat_arrays(texts).take(by_row).take(pa.array(answered))
        replace_by_item(self._mapping, raw.columns)
        if self._scoring.maxima:
            self._move_to_scores(raw, pa.array(self._scoring.maxima.of_rows(encode(raw.columns["item_id"])) > 1))
        return raw

    def _named_columns(self) -> set[str]:
        return {*self._binding.columns, *self._mapping.constants}

    # -- times and ids -----------------------------------------------------------------------------

    def _times(self, name: str, batch: Batch, raw: _RawAnswers, verdicts: _Verdicts) -> np.ndarray:
        values, rules = raw.columns[name], self._mapping.time
        zones = raw.cells_by_answer(self._columns.cells(batch.rows, rules.zone_column)) if rules.zone_column else None
        zone = self._limits.zone or rules.zone
        times = parse_times(values, rules, zone, zones, each_alone=self._limits.each_alone)
        wrong = times == MISSING
        if name == "started_at":
            wrong &= np.asarray(pc.is_valid(values))
        verdicts.refuse(wrong, "bad_time", values)
        return times

    def _in_order(self, start: int, batch: Batch, raw: _RawAnswers, verdicts: _Verdicts) -> np.ndarray:
        """Times without a column of times: `start` plus a microsecond per answer, or per step of the order column."""
        if self._mapping.time.order is None:
            return start + raw.numbers
        cells = raw.cells_by_answer(self._columns.cells(batch.rows, self._mapping.time.order))
        steps = _numbers(cells)
        wrong = ~((steps >= 0) & (steps < DAY))
        verdicts.refuse(wrong, "bad_time", cells)
        return start + np.where(wrong, 0, steps).astype(np.int64)

    def _attempt_ids(self, raw: _RawAnswers) -> pa.Array:
        """The ids of the answers. If the file has no times, a missing id is made from file and position. Otherwise it
        is null, so that `staging` derives it."""
        ids = raw.columns.get("attempt_id", pa.nulls(len(raw.rows), pa.string()))
        if self._limits.start is None:
            return ids
        position = [
            pc.cast(pa.array(numbers), pa.string()) for numbers in (raw.lines, raw.column) if numbers is not None
        ]
        return pc.coalesce(ids, pc.binary_join_element_wise(self._file_id, *position, "-"))


def _refuse_texts(columns: dict[str, pa.Array], verdicts: _Verdicts) -> None:
    for name, reason in (("user_id", "missing_user"), ("item_id", "missing_item")):
        verdicts.refuse(pc.is_null(columns[name]), reason, columns[name])
    for name in NAMES:
        if name in columns:
            long = pc.greater(pc.binary_length(columns[name]), MAX_ID_LENGTH)
            verdicts.refuse(pc.fill_null(long, False), "id_too_long", columns[name])
    for values in columns.values():
        if pa.types.is_string(values.type) and _holds_nul(values):
            verdicts.refuse(pc.fill_null(pc.match_substring(values, "\0"), False), "bad_character", values)


def replace_by_item(mapping: FileMapping, columns: dict[str, pa.Array]) -> None:
    """Replace results in `columns` by the values that the mapping has for single items."""
    for item, replaced in mapping.item_values.items():
        of_item = pc.fill_null(pc.equal(columns["item_id"], item), False)
        for name in columns.keys() & RESULTS:
            columns[name] = pc.if_else(of_item, replace_texts(columns[name], replaced), columns[name])


def replace_texts(cells: pa.Array, replaced: Mapping[str, str | None]) -> pa.Array:
    """Replace texts by others; None makes an empty cell."""
    if not replaced:
        return cells
    index = pc.index_in(cells, pa.array(replaced, pa.string()))
    return pc.if_else(pc.is_valid(index), pa.array(replaced.values(), pa.string()).take(index), cells)


def _is_in(cells: pa.Array, values: Iterable[str]) -> pa.BooleanArray:
    return pc.is_in(cells, pa.array(list(values), pa.string()))


def _blank_rows(rows: pa.RecordBatch) -> np.ndarray:
    """Whether each row has only empty cells, like an empty line at the end of a file."""
    empty = [
        pc.fill_null(pc.equal(as_text(rows.column(k), name), ""), True) for k, name in enumerate(rows.schema.names)
    ]
    return np.asarray(reduce(pc.and_, empty))


def _holds_nul(values: pa.StringArray) -> bool:
    """Whether any text contains the character NUL, which PostgreSQL cannot store."""
    data = values.buffers()[2]
    return data is not None and bool((np.frombuffer(data, np.uint8) == 0).any())


def _numbers(cells: pa.Array) -> np.ndarray:
    """The cells as float64; NaN if a cell is empty or not a number."""
    try:
        numbers = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        shaped = pc.fill_null(pc.match_substring_regex(cells, NUMBER), False)
        numbers = pc.cast(pc.if_else(shaped, cells, None), pa.float64())
    return np.asarray(pc.fill_null(numbers, np.nan))


def _timestamps(micros: np.ndarray) -> pa.TimestampArray:
    return pa.array(micros, pa.int64(), mask=micros == MISSING).cast(pa.timestamp("us", "UTC"))
