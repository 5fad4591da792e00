"""Suggest a mapping for a file of answers, with a sentence for each guess.

An import never guesses: it uses the mapping file that a person has read. The guesses are made in `recognise`.
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from irt_assets.common.wording import some_of
from irt_assets.intake import recognise as see
from irt_assets.intake import sources, words
from irt_assets.intake.cells import as_text, trim_cells
from irt_assets.intake.mapping import Binding, list_preset
from irt_assets.intake.readers import open_source, other_kind
from irt_assets.intake.recognise import Column
from irt_assets.intake.reshape import DECIMAL_COMMA, FILE, ROW
from irt_assets.intake.suggestion import Suggestion
from irt_assets.intake.text_encoding import guess_encoding
from irt_psychometrics.items import MAX_SCORE

MAX_ROWS = 20_000  # rows from which guesses are made
IF_OPTIONS = "if they are options, delete this and max_scores, and give --key FILE (item,key)"
NO_TIMES = "No column has the times of the answers: give their day, --at YYYY-MM-DD."
WITH_ZONE = re.compile(r"(Z|UTC|GMT|[+-]\d\d:?\d\d|^\d{10,13})$")
DELIMITERS = ",;\t|"


def suggest(path: Path, *, keyed: bool = False, zone: str | None = None, frequency: str | None = None) -> Suggestion:
    """Suggest a mapping for a file. `keyed`: the import will get a key. Others: as in `import_attempts`.

    Raises PermanentFailure if the file is not a table.
    """
    found = Suggestion()
    if zone:
        found.add(("time", "zone"), zone, "as given by --zone")
    _suggest_layout(path, found)
    source = open_source(path, found.content.get("encoding"), found.mapping(str(path)))
    lines, columns = _read(source)
    if see.are_questions(columns):
        _suggest_questions(columns, found)
        return found
    if n_rows := see.rows_of_header(columns):
        why = f"the rows above row {lines[n_rows]} continue the header"
        found.add(("file", "first_row"), lines[n_rows], why)
        columns = [Column(c.name, c.cells[n_rows:]) for c in columns]
    columns = _suggest_decimal(_suggest_rows(columns, found), found)
    if preset := list_preset(source.columns):
        _suggest_preset(preset, found)
        return found
    item = see.named(columns, words.ITEM, lambda column: column.repeats)
    if item and (see.named(columns, words.SCORE, lambda c: c.is_score) or see.named(columns, words.RESPONSE)):
        _suggest_list(columns, item, found, keyed=keyed)
    else:
        _suggest_matrix(columns, found, keyed=keyed, frequency=frequency)
    return found


# -- the table in its file --------------------------------------------------------------------------


def _suggest_layout(path: Path, found: Suggestion) -> None:
    """Guess the encoding and, if the import would choose others, the delimiter and the row of the header."""
    head = sources.head(path)
    if not head.startswith(b"PAR1") and other_kind(head) is None:
        try:
            codecs.getincrementaldecoder("utf-8")().decode(head)
        except UnicodeDecodeError:
            lines = [line for line in head.splitlines() if not line.isascii()]
            if guess := guess_encoding(b"\n".join(lines[:-1] or lines)):
                found.add(("encoding",), guess[0], f"the file is not UTF-8; it looks like {guess[1]}")
    source = open_source(path, found.content.get("encoding"))
    if not isinstance(source, sources.TextSource) or source.kind == "JSON lines":
        return
    text = sources.head(source.path).removeprefix(codecs.BOM_UTF8).decode(source.encoding, errors="ignore")
    declared = text.startswith("sep=")
    rows = {
        mark: list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=mark), declared, 60))
        for mark in DELIMITERS
    }
    delimiter = max(rows, key=lambda mark: see.regularity(rows[mark]))
    header = see.header_row(rows[delimiter])
    names = [name.strip() for name in rows[delimiter][header - 1]]
    if source.columns != sources.unique_names(names):
        if not source.address:
            found.add(("file", "delimiter"), delimiter, "with it, most rows have the same number of cells")
        found.add(("file", "header"), header + declared, "the first row that is as wide as the rest")


def _read(source: sources.Source) -> tuple[list[int], list[Column]]:
    """The numbers and the cells of the first rows that are not empty."""
    lines: list[int] = []
    cells: list[list[str]] = [[] for _ in source.columns]
    for batch in source.batches():
        lines += batch.lines.tolist()
        for texts, name, column in zip(cells, source.columns, batch.rows.columns, strict=True):
            texts.extend(text or "" for text in trim_cells(as_text(column, name)).to_pylist())
        if len(lines) > MAX_ROWS:
            break
    used = [n for n in range(len(lines)) if any(texts[n] for texts in cells)]
    columns = [Column(name, [texts[n] for n in used]) for name, texts in zip(source.columns, cells, strict=True)]
    return [lines[n] for n in used], columns


def _suggest_rows(columns: list[Column], found: Suggestion) -> list[Column]:
    """Leave out rows of keys, maximum scores and totals. Their values become guesses."""
    beside = see.rows_beside_answers(columns)
    for kind, column, n in beside:
        texts = found.content.get("skip_rows_where", {}).get(column.name, [])
        found.add(("skip_rows_where", column.name), [*texts, column.cells[n]], f"a row of {kind}, and not of answers")
        values = {other.name: other.cells[n] for other in columns if other is not column and other.cells[n]}
        if kind in ("keys", "maximum scores"):
            found.add((kind.replace("imum ", "_"),), values, f"from the row {column.cells[n]!r}")
    dropped = {n for _, _, n in beside}
    return [Column(c.name, [cell for n, cell in enumerate(c.cells) if n not in dropped]) for c in columns]


def _suggest_decimal(columns: list[Column], found: Suggestion) -> list[Column]:
    commas = [c for c in columns if c.numbers and any(re.search(r",(\d{1,2}|\d{4,})$", text) for text in c.counts)]
    if not commas or any("." in text for c in columns if c.numbers for text in c.counts):
        return columns
    found.add(("file", "decimal"), ",", f"numbers such as {next(t for t in commas[0].counts if ',' in t)} have a comma")
    return [Column(c.name, [re.sub(DECIMAL_COMMA, r"\1.\2", cell) for cell in c.cells]) for c in columns]


# -- columns that lists and matrices have -----------------------------------------------------------


def _suggest_person(columns: Sequence[Column], found: Suggestion, *, unique: bool) -> set[str]:
    """Guess the column of learners; `unique`: a row is a learner. Returns the names of the used columns."""
    free = [c for c in columns if c.is_filled and not (unique and 20 * len(c.counts) < 19 * c.counts.total())]
    user = (None if unique else see.named(free, words.USER, lambda c: c.repeats)) or see.named(free, words.USER)
    names = [name for pattern in words.NAMES if (name := see.named(columns, (pattern,)))]
    texts = [c for c in free[:3] if not (c.numbers or c.is_time or c.is_score or re.search(words.NOT_ITEM, c.label))]
    if user:
        found.add(("columns", "user_id"), user.name, "the learners, by the column's name and its values")
    elif len(names) == len(words.NAMES):
        found.add(("columns", "user_id"), [c.name for c in names], "the learners, by their names: no column is an id")
    elif texts and unique:
        found.add(("columns", "user_id"), texts[0].name, "the learners: each row has another text")
    else:
        made = "the file's name and the row" if unique else "the file's name"
        found.add(("columns", "user_id"), [FILE, ROW] if unique else FILE, f"no column has the learners: {made}")
    return {name for name in np.atleast_1d(found.content["columns"]["user_id"]) if not name.startswith("#")}


def _suggest_times(columns: Sequence[Column], found: Suggestion) -> set[str]:
    """Guess the columns of times. Returns the names of all columns that have times."""
    timed = {c.name: form for c in columns if (form := see.time_format(c)) is not None}
    filled = [c for c in columns if c.name in timed and c.is_filled]
    candidates = [c for c in filled if not re.search(words.NOT_COMPLETED, c.label)]
    start = see.named(filled, words.STARTED)
    done = see.named(candidates, words.COMPLETED) or next((c for c in candidates if c is not start), start)
    if not done:
        found.notes.append(NO_TIMES)
        return set(timed)
    form = timed[done.name]
    found.add(("columns", "completed_at"), done.name, "the times of the answers")
    if start and start is not done and timed[start.name] == form:
        found.add(("columns", "started_at"), start.name, "the times at which they were begun")
    if form:
        found.add(("time", "format"), form, f"the times are written as in {next(iter(done.counts))!r}")
    if zone := see.named(columns, (r"^time ?zone$",)):
        found.add(("time", "zone_column"), zone.name, "the zone of each row")
    elif not ("zone" in found.content.get("time", {}) or "%z" in form or done.every(WITH_ZONE.search)):
        found.notes.append("The times have no zone: give --zone Europe/Berlin, or write time: {zone: Europe/Berlin}.")
    return {*timed, *([zone.name] if zone else [])}


def _suggest_scores(
    items: Sequence[Column], found: Suggestion, maxima: dict[str, float], patterns: Sequence[str], name: str
) -> None:
    """Guess the meaning of the values of items.

    `patterns`: the columns of the file that contain them. `name`: our column, `correct` of a matrix.
    """
    if codes := see.codes(items):
        texts = {text for listed in codes.values() for text in listed}
        elsewhere = {x for c in items for x in c.scores} & {*map(see.number, texts)}  # scores of other items
        null_values = codes if elsewhere or len(patterns) > 1 else {patterns[0]: sorted(texts)}
        found.add(("null_values",), null_values, "numbers far from the scores: codes for no answer")
    points = [c for c in items if c.every(see.POINTS.fullmatch)]
    if points and len(points) == len([c for c in items if c.counts]):
        why = f"scores are written as in {next(iter(points[0].counts))!r}"
        found.add(("extract",), dict.fromkeys(patterns, "^([^ /]+)"), why)
        pairs = {c.name: [see.POINTS.fullmatch(cell) for cell in c.counts] for c in points}
        maxima = {item: max(see.number(m[2]) for m in found_ if m) for item, found_ in pairs.items()} | maxima
        items = [Column(c.name, [re.sub(r"[ /].*", "", cell) for cell in c.cells]) for c in points]
    texts = {text for c in items for text in c.counts}
    if all(c.numbers for c in items if c.counts):
        _suggest_numbers(items, found, maxima, patterns, name)
    elif all(text.lower() in words.RIGHT_OR_WRONG for text in texts):
        values = {text: words.RIGHT_OR_WRONG[text.lower()] for text in sorted(texts)}
        if not {text.lower() for text in texts} <= {"true", "false", "0", "1"}:
            found.add(("values", "correct"), values, "words for right and wrong; a partly right answer counts as wrong")
    elif ranks := see.ordered_labels(texts):
        found.add(("values", name), ranks, f"labels of a rating scale, from the lowest; {IF_OPTIONS}")
        _add_maxima(found, dict.fromkeys((c.name for c in items), max(ranks.values())), patterns)
    else:
        found.notes.append("The answers are options, and no key is known: give --key FILE (item,key).")


def _suggest_nothing(columns: Sequence[Column], found: Suggestion) -> None:
    texts = {cell for c in columns for cell in c.cells if cell and cell.lower() in words.NOTHING}
    if texts:
        given = found.content.get("null_values", {})
        found.add(("null_values",), {"*": sorted(texts), **given}, "they mean that there is no answer")


def _suggest_numbers(
    items: Sequence[Column], found: Suggestion, maxima: dict[str, float], patterns: Sequence[str], name: str
) -> None:
    scores = {c.name: c.scores for c in items if c.scores}
    values = {x for numbers in scores.values() for x in numbers}
    parts, exact = see.denominator(values)
    tops = {item: maxima.get(item) or max(1.0, numbers[-1]) for item, numbers in scores.items()}
    if min(values, default=0) >= 1 and not maxima and max(values) > 1:
        if name == "correct" and not see.are_ratings(items):  # of a list, rows are not persons
            found.notes.append("The numbers look like options (alpha is low): give --key FILE, a table item,key.")
            return
        top = max(values)
        ranks = {str(x): x - 1 for x in range(1, int(top) + 1)}
        found.add(("values", name), ranks, f"nobody has a 0: ratings from 1 on; {IF_OPTIONS}")
        tops = dict.fromkeys(tops, top - 1)
    elif parts > 1 and exact:
        found.add(("denominator",), parts, f"scores such as {min(values - {0.0, 1.0}):g} are fractions of a point")
    elif parts > 1:
        texts = {text: round(see.number(text) * parts) for c in items for text in c.counts}
        found.add(("values", name), dict(sorted(texts.items())), f"rounded fractions: 1/{parts} of a point is one")
    _add_maxima(found, {item: round(top * parts) for item, top in tops.items()}, patterns, known=bool(maxima))


def _add_maxima(found: Suggestion, tops: dict[str, int], patterns: Sequence[str], *, known: bool = False) -> None:
    if max(tops.values(), default=1) <= 1:
        found.content.pop("max_scores", None)
        return
    every = patterns[0] if patterns[0].endswith("*") else "*"
    same = len({*tops.values()}) == 1
    why = "from the file" if known else "the highest scores in the file: write those that can be reached"
    if large := [item for item, top in tops.items() if top > MAX_SCORE]:
        found.notes.append(f"Scores above {MAX_SCORE} are refused: take {some_of(large, 10)} out of wide, if there.")
    possible = {item: top for item, top in tops.items() if 1 < top <= MAX_SCORE}
    if possible:
        found.add(("max_scores",), {every: max(possible.values())} if same else possible, why)


# -- the two shapes ---------------------------------------------------------------------------------


def _suggest_preset(binding: Binding, found: Suggestion) -> None:
    preset = binding.mapping
    found.notes.append(f"The preset {preset.name} fits, so --mapping {preset.name} is enough: {preset.description}.")
    columns = {ours: names[0] if len(names) == 1 else list(names) for ours, names in binding.columns.items()}
    found.add(("columns",), columns, "as in the preset")
    for key, value in preset.model_dump(exclude_defaults=True, mode="json").items():
        if key in ("values", "null_values", "units", "time", "integer_ids"):
            given = found.content.get(key, {})
            found.add((key,), {**value, **given} if isinstance(value, dict) else value, "as in the preset")
    if "completed_at" not in columns:
        found.notes.append(NO_TIMES)


def _suggest_list(columns: Sequence[Column], item: Column, found: Suggestion, *, keyed: bool) -> None:
    found.notes.append("It looks like a list: a row for each answer.")
    for of_row in ("keys", "max_scores"):  # no list has such rows
        found.content.pop(of_row, None)
    parts = [c for pattern in words.ITEM_PARTS if (c := see.named(columns, (pattern,)))]
    ids = parts if len(parts) > 1 else [item]
    found.add(("columns", "item_id"), [c.name for c in ids] if len(ids) > 1 else item.name, "the items, by the name")
    rest = [c for c in columns if c not in ids]
    used = _suggest_person(rest, found, unique=False) | _suggest_times(rest, found)
    rest = [c for c in rest if c.name not in used]
    key = see.named(rest, words.KEY)
    score = see.named([c for c in rest if c is not key], words.SCORE, lambda column: column.is_score)
    response = see.named([c for c in rest if c not in (key, score)], words.RESPONSE)
    most = see.named(rest, words.MAXIMUM, lambda column: column.numbers)
    names = ["/".join(cells) for cells in zip(*(c.cells for c in ids), strict=True)]
    if score:
        groups: dict[str, list[str]] = {}
        maxima: dict[str, float] = {}
        for row, cell in enumerate(score.cells):
            groups.setdefault(names[row], []).append(cell)
            if most and see.NUMBER.fullmatch(most.cells[row]):
                maxima[names[row]] = see.number(most.cells[row])
        binary = score.scores[-1:] <= [1] and max(maxima.values(), default=1) <= 1
        ours = "correct" if binary and not score.every(see.POINTS.fullmatch) else "score"
        found.add(("columns", ours), score.name, "the results, by the name and the values")
        _suggest_scores([Column(*group) for group in groups.items()], found, maxima, [score.name], ours)
    if response:
        found.add(("columns", "response"), response.name, "the chosen or written answers")
    if response and not score and key and not keyed:
        found.add(
            ("keys",), {i: k for i, k in zip(names, key.cells, strict=True) if k}, f"from the column {key.name!r}"
        )
    elif not score and not keyed:
        found.notes.append("It has choices and no results: give --key FILE, a table item,key.")
    _suggest_nothing(rest, found)
    rest = [c for c in rest if c not in (score, response, key, most)]
    for ours, labels in words.OTHER.items():
        column = see.named(rest, labels, lambda c: c.counts and not c.is_time)
        if column and not (ours == "attempt_id" and column.repeats):
            found.add(("columns", ours), column.name, "by the name")
            rest.remove(column)
            if ours == "response_time_ms" and np.median(column.numbers or [np.inf]) < words.MAX_SECONDS:
                found.add(("units", ours), "s", "the values are too small for milliseconds")
    _note_rest(rest, found)


def _suggest_matrix(columns: list[Column], found: Suggestion, *, keyed: bool, frequency: str | None) -> None:
    found.notes.append("It looks like a matrix: a row for each person, and a column for each item.")
    counts = see.named(columns, words.FREQUENCY, lambda c: c.every(str.isdecimal) and c.numbers[-1] > 1)
    counted = next((c for c in columns if c.name == frequency), counts)
    if counted:
        found.add(("frequency",), counted.name, "how often the pattern of a row occurs")
        columns = [c for c in columns if c is not counted]
    aside = _suggest_person([] if counted else columns, found, unique=True)
    aside |= _suggest_times([c for c in columns if c.name not in aside], found)
    free = [c for c in columns if c.name not in aside]
    given, keys = found.content.pop("max_scores", {}), found.content.pop("keys", {}) | see.key_columns(free)
    companions = see.score_columns(free)
    items = [c for c in free if c.name in (companions or see.key_columns(free))] or see.answer_columns(free)
    total = see.totals(items)
    items = [c for c in items if c.name not in total]
    renamed = {name: companion.item for name, companion in companions.items() if companion.item != name}
    renamed |= {c.name: f"{c.name} (given)" for c in columns if c.name in renamed.values()}
    if renamed:
        found.add(("rename",), renamed, "the names of the items, without additions")
    items = [Column(renamed.get(c.name, c.name), c.cells) for c in items]
    names = [c.name for c in items]
    if not items:
        found.notes.append("No column looks like an item: name them, wide: {items: [q1, q2]}.")
        _note_rest(free, found)
        return
    pattern = see.common_pattern(names, (renamed.get(c.name, c.name) for c in columns))
    found.add(("wide", "items"), pattern or names, f"columns with the values of answers: {len(names)}")
    maxima = {name: see.number(given[name]) for name in names if see.NUMBER.fullmatch(given.get(name, ""))}
    maxima |= {companion.item: companion.maximum for companion in companions.values() if companion.maximum}
    if keys := {name: keys[name] for name in names if name in keys}:
        found.add(("keys",), keys, "the right answers, from the file")
    elif not keyed:
        _suggest_scores(items, found, maxima, [pattern] if pattern else names, "correct")
    _suggest_nothing(items, found)
    constant = [c.name for c in items if len(c.counts) == 1 and c.repeats]
    if constant:
        found.notes.append(f"Everyone has the same value: {some_of(constant, 10)}. Delete each that is not an item.")
    _note_rest([c for c in free if c.name not in {*names, *renamed}], found)


def _suggest_questions(columns: Sequence[Column], found: Suggestion) -> None:
    found.kind = "questions"
    found.notes.append("It looks like a table of questions: a row for each item.")
    rest = list(columns)
    for ours, labels in words.QUESTION.items():
        if column := see.named(rest, labels):
            found.add(("columns", ours), column.name, "by the name")
            rest.remove(column)
    if {"b"} <= {*found.content["columns"]} and "a" not in found.content["columns"]:
        found.add(("constants", "a"), 1, "no column is a discrimination: a Rasch model")
        found.add(("constants", "model"), "rasch", "a = 1 for all items")
    _note_rest(rest, found)


def _note_rest(columns: Sequence[Column], found: Suggestion) -> None:
    if columns:
        names = some_of([c.name for c in columns], 20)
        found.notes.append(f"Left out: {names}. Facts about learners are imported by irt import learners.")
