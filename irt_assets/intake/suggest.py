"""Suggest a mapping for a file of answers.

An import never guesses: it uses the mapping file that a person has read. Columns and rows are recognised in
`recognise`; the sentence for each guess is in `suggestion`.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping as Map, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from irt_assets.common.wording import some_of
from irt_assets.intake import recognise as see, sources, words
from irt_assets.intake.cells import as_text, trim_cells
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.mapping import Binding, Mapping, list_preset, with_reading
from irt_assets.intake.readers import open_source
from irt_assets.intake.recognise import Column
from irt_assets.intake.reshape import DECIMAL_COMMA, FILE, ROW
from irt_assets.intake.suggestion import CHOOSE, Suggestion
from irt_assets.intake.text_encoding import guess_encoding
from irt_assets.intake.times import MISSING
from irt_psychometrics.items import MAX_SCORE, ItemRow
from resources.failures import PermanentFailure

MAX_ROWS = 20_000  # rows from which guesses are made
SHOWN = 3  # rows that show a reading
WITH_ZONE = re.compile(r"(Z|UTC|GMT|[+-]\d\d:?\d\d|^\d{10,13})$")
NO_TIMES = "No column has the times of the answers: give their day, --at YYYY-MM-DD."
UNUSED = {
    "unused score": "The scores follow from the key: full marks for its option. The key is used.",
    "unused key": "The scores do not follow from the key alone: the scores are used.",
}
MEANINGS = {1: "right", 0: "wrong", None: "no answer"}
NO_ZONE = "The times have no zone: give --zone Europe/Berlin, or write time: {zone: Europe/Berlin}."
NO_FORM = (
    "If these are the answers to a test whose scores are reported, name the test's form now, constants: {form_id:"
    " NAME}. Stored answers get no form later."
)
NO_KEY = "The answers look like options, and no key is known: give --key FILE, a table item,key."


def suggest(path: Path, *, keyed: bool = False, zone: str | None = None, frequency: str | None = None) -> Suggestion:
    """Suggest a mapping for a file. `keyed`: the import will get a key. Others: as in `import_attempts`.

    Raises PermanentFailure if the file is not a table.
    """
    source = _open(path)
    file = _file_rules(source)
    table = _read(open_source(path, source.encoding, Mapping.model_validate({"name": str(path), "file": file})))
    skipped: dict[str, list[str]] = {}
    given: dict[str, dict[str, str]] = {}
    for row, (kind, name) in see.rows_beside_answers(table).items():
        skipped.setdefault(name, []).append(str(table.at[row, name]))
        given[kind] = {str(other): str(text) for other, text in table.loc[row].items()}
        table = table.drop(index=row)
    if n_rows := see.rows_of_header(table):
        file["first_row"] = int(table.index[n_rows])
        table = table.iloc[n_rows:]
    columns = _columns(table)
    if see.has_decimal_commas(columns):
        file["decimal"] = ","
        columns = _columns(table.replace(DECIMAL_COMMA, r"\1.\2", regex=True))
    encoding = None if source.encoding == "utf-8" else source.encoding
    found = Suggestion(content={"choose": {}, "encoding": encoding, "file": file, "skip_rows_where": skipped})
    questions = see.by_name(columns, words.QUESTION)
    if see.are_questions(columns, questions):
        found.kind = "questions"
        found.content |= _questions(columns, questions, found.notes)
    elif (preset := list_preset(list(table.columns))) and _has_readable_times(preset, columns):
        found.content |= _preset(preset, found.notes)
    else:
        found.content |= _answers(columns, given, found.notes, keyed=keyed, frequency=frequency)
        nothing = sorted({text for c in columns for text in {*c.cells} if text.lower() in words.NOTHING})
        found.content["null_values"] = {"*": nothing, **found.content.get("null_values", {})}
    if zone:
        found.content.setdefault("time", {})["zone"] = zone
        found.notes = [note for note in found.notes if note != NO_ZONE]
    found.content = _filled(found.content)
    found.notes = [CHOOSE, *found.notes] if "choose" in found.content else found.notes
    return found


def _filled(content: dict[str, Any]) -> dict[str, Any]:
    """The mapping without empty parts, and with a text instead of a list of one."""
    parts = {key: _filled(value) if isinstance(value, dict) else value for key, value in content.items()}
    filled = {key: value for key, value in parts.items() if value not in (None, {}, [])}
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in filled.items()}


# -- the table in its file --------------------------------------------------------------------------


def _open(path: Path) -> sources.Source:
    """The file, with the encoding that it seems to have."""
    lines = [line for line in sources.head(path).splitlines() if not line.isascii()]
    guess = guess_encoding(b"\n".join(lines[:-1] or lines))  # the last line may end within a letter
    return open_source(path, guess[0] if guess else None)


def _file_rules(source: sources.Source) -> dict[str, Any]:
    """The delimiter and the row of the header, if the import would choose others."""
    if not isinstance(source, CsvSource):
        return {}
    text = sources.head(source.path).removeprefix(codecs.BOM_UTF8).decode(source.encoding, errors="ignore")
    rows = {mark: list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=mark), 60)) for mark in ",;\t|"}
    usual = {mark: Counter(map(len, listed)).most_common(1)[0] for mark, listed in rows.items()}  # width, rows
    delimiter = max(usual, key=lambda mark: (usual[mark][1] if usual[mark][0] > 1 else 0, usual[mark][0]))
    filled = [2 * sum(map(bool, row)) > usual[delimiter][0] for row in rows[delimiter]]
    header = filled.index(True) if True in filled else 0
    if source.columns == sources.unique_names(name.strip() for name in rows[delimiter][header]):
        return {}
    return {"delimiter": None if source.address else delimiter, "header": header + 1}


def _read(source: sources.Source) -> pd.DataFrame:
    """The first rows that are not empty, by their numbers in the file: trimmed text, "" in empty cells.

    Raises PermanentFailure if the file has no such row.
    """
    for batch in source.batches():
        columns = zip(source.columns, batch.rows.slice(0, MAX_ROWS).columns, strict=True)
        cells = {name: pc.fill_null(trim_cells(as_text(column, name)), "").to_pylist() for name, column in columns}
        table = pd.DataFrame(cells, index=batch.lines[:MAX_ROWS], dtype=object)
        return table[(table != "").any(axis=1)]
    raise PermanentFailure(f"{source.name}: no row follows the header")


def _columns(table: pd.DataFrame) -> list[Column]:
    return [Column(str(name), cells.tolist(), table.index.tolist()) for name, cells in table.items()]


# -- the shapes -------------------------------------------------------------------------------------


def _questions(columns: Sequence[Column], found: dict[str, Column], notes: list[str]) -> dict[str, Any]:
    notes.append("It looks like a table of questions: a row for each item.")
    mapped = {ours: column.name for ours, column in found.items()}
    constants: dict[str, Any] = {"a": 1, "model": "rasch"} if "b" in found and "a" not in found else {}
    names = [c.name for c in columns]
    form = ItemRow.form_of(names)
    if form == "winsteps":
        own = [name for name in ("MEASURE", "MODLSE", *ItemRow.FACTS) if name in names]
        mapped = {ours: name for ours, name in mapped.items() if name not in own} | dict(zip(own, own, strict=True))
        constants = {"model": "rasch"}
    if unused := [name for name in names if name not in mapped.values()]:
        notes.append(f"Not recognised, and left out: {some_of(unused, 20)}.")
    metrics = _readings_of_metric(found["a"]) if form == "fasttest" and "a" in found else []
    return {"choose": {"metric": metrics}, "columns": mapped, "constants": constants}


def _readings_of_metric(a: Column) -> list[dict[str, Any]]:
    """Build the readings of discriminations in a program whose users choose D."""
    rows = [(line, see.number(text)) for line, text in zip(a.lines, a.cells, strict=True) if text in a.counts][:SHOWN]
    return [
        {
            "reading": {"constants": {"D": d}},
            "rows": [f"line {line}: a = {x:g} is a slope of {x * d:.3g}" for line, x in rows],
        }
        for d in (1, 1.7)
    ]


def _has_readable_times(preset: Binding, columns: Sequence[Column]) -> bool:
    """Check whether an import reads at least half of the times without a rule."""
    texts = [text for c in columns if (c.name,) == preset.columns.get("completed_at") for text in c.counts]
    return not texts or bool(np.mean(see.read_times(texts, None) == MISSING) <= 0.5)


def _preset(preset: Binding, notes: list[str]) -> dict[str, Any]:
    """The rules of a preset, as a mapping of this file."""
    mapping = preset.mapping
    notes.append(f"The preset {mapping.name} fits, so --mapping {mapping.name} is enough: {mapping.description}.")
    notes += [] if "completed_at" in preset.columns else [NO_TIMES]
    rules = mapping.model_dump(
        include={"values", "null_values", "units", "time", "integer_ids"}, exclude_defaults=True, mode="json"
    )
    return {"columns": {ours: list(names) for ours, names in preset.columns.items()}, **rules}


def _answers(
    columns: Sequence[Column],
    given: dict[str, dict[str, str]],
    notes: list[str],
    *,
    keyed: bool,
    frequency: str | None,
) -> dict[str, Any]:
    """The mapping of a list or a matrix. `given`: the texts of the rows of keys and maximum scores, by column."""
    times = see.by_name(columns, words.TIMES)
    unread = None
    if "completed_at" not in times:
        unread = see.named([c for c in columns if c.looks_like_times], words.TIMES["completed_at"])
    rest = [c for c in columns if c not in (*times.values(), unread)]
    content = _list(rest, notes, keyed=keyed) or _matrix(rest, given, notes, keyed=keyed, frequency=frequency)
    notes += [] if "form_id" in content["columns"] else [NO_FORM]
    done, zone = times.get("completed_at"), times.get("zone")
    if done is None:
        notes.append(_no_times(unread))
        content["columns"] |= {"completed_at": unread.name} if unread else {}
        return content
    alike = [c.time_formats for c in columns if {*c.time_formats} & {*done.time_formats}]
    forms = [form for form in done.time_formats if all(form in fitting for fitting in alike)] or done.time_formats
    content["columns"] |= {ours: c.name for ours, c in times.items() if forms[0] in c.time_formats}
    if not (zone or "%z" in forms[0] or all(map(WITH_ZONE.search, done.counts))):
        notes.append(NO_ZONE)
    if len(forms) > 1:
        readings = [_reading_of_times(done, *both) for both in (forms, forms[::-1])]
        content = with_reading(content, {"choose": {"times": readings}})
    form = forms[0] if len(forms) == 1 else ""
    return {**content, "time": {"format": form or None, "zone_column": zone.name if zone else None}}


def _reading_of_times(column: Column, form: str, other: str) -> dict[str, Any]:
    """Build the reading of times by a format, with the first times that the other format reads otherwise."""
    read = dict(zip(column.times, see.read_times(column.times, form), strict=True))
    differ = [text for text, time in zip(read, see.read_times(column.times, other), strict=True) if time != read[text]]
    rows = [
        f"line {column.line_of(text)}: {text} is {pd.Timestamp(read[text], unit='us'):%d %B %Y, %H:%M}"
        for text in differ[:SHOWN]
    ]
    return {"reading": {"time": {"format": form}}, "rows": rows}


def _no_times(unread: Column | None) -> str:
    """Return the note for a file without readable times. `unread`: a column that looks like times."""
    if unread is None:
        return NO_TIMES
    lines = [str(unread.line_of(text)) for text in unread.unlike_times]
    if len(lines) > 1:
        return f"{unread.name} looks like times, in two forms: lines {' and '.join(lines)}. Write them alike."
    return f"{unread.name} looks like times, in an unknown form: line {lines[0]}. Describe it, time: {{format: …}}."


def _list(columns: Sequence[Column], notes: list[str], *, keyed: bool) -> dict[str, Any] | None:
    """The mapping of a list. Returns None if no column has the items, or the results or answers."""
    repeating = [c for c in columns if c.repeats]
    item = see.named(repeating, words.ITEM)
    ids = see.columns_of_parts(repeating, words.ITEM_PARTS) or ([item] if item else [])
    users = see.learner_columns([c for c in columns if c not in ids], one_row_each=False)
    found = see.by_name([c for c in columns if c not in ids and c.name not in users], words.LIST)
    used = [*ids, *found.values(), *(c for c in columns if c.name in users)]
    score, most, key = (found.pop(name, None) for name in ("score", "maximum", "key"))
    score, of_scores = see.graded_column(columns) or (score, [score.name] if score else [])
    used += [c for c in columns if c.name in of_scores]
    response = found.get("response")
    if not (ids and (score or response)):
        return None
    notes += ["It looks like a list: a row for each answer.", *_left_out(columns, used, {})]
    names = ["/".join(cells) for cells in zip(*(c.cells for c in ids), strict=True)]
    mapped: dict[str, Any] = {"item_id": [c.name for c in ids], "user_id": users}
    content: dict[str, Any] = {"columns": mapped}
    if score:
        table = {"text": score.cells, "line": score.lines, "most": most.cells if most else ""}
        rows_of = pd.DataFrame(table).groupby(names)
        items = {str(item): Column(str(item), [*rows["text"]], [*rows["line"]]) for item, rows in rows_of}
        texts = {item: sorted({*c.cells} & {*score.answers}) for item, c in items.items()}
        numbers = {str(item): Column("", rows["most"].tolist()).scores for item, rows in rows_of}
        maxima = {item: scores[-1] for item, scores in numbers.items() if scores}
        binary = score.kind != "points" and max([1.0, *score.scores, *maxima.values()]) <= 1
        ours = "correct" if binary else "score"
        mapped[ours] = of_scores
        marks = see.marks_taken_off([score])
        content["null_values"] = dict.fromkeys(of_scores, sorted(score.codes - {*marks}))
        content = with_reading(content, _scores(items, texts, maxima, ours, notes))
        content = with_reading(content, _marks_taken_off([score], marks, ours))
    elif response and key and not keyed:
        content["keys"] = {name: text for name, text in zip(names, key.cells, strict=True) if text}
    elif not keyed:
        notes.append(NO_KEY)
    mapped |= {ours: column.name for ours, column in found.items()}
    taken = found.get("response_time_ms")
    if taken and np.median(taken.scores or [np.inf]) < words.MAX_SECONDS:
        content["units"] = {"response_time_ms": "s"}
    return content


def _matrix(
    columns: Sequence[Column], given: dict[str, dict[str, str]], notes: list[str], *, keyed: bool, frequency: str | None
) -> dict[str, Any]:
    """The mapping of a matrix."""
    counts = [c for c in columns if all(map(str.isdecimal, c.counts)) and c.scores[-1:] > [1]]
    counted = next((c for c in columns if c.name == frequency), see.named(counts, words.FREQUENCY))
    users = [FILE, ROW] if counted else see.learner_columns(columns, one_row_each=True)
    repeated = see.named([c for c in columns if c.is_filled and ROW in users and not counted], words.USER)
    free = [c for c in columns if c not in (counted, repeated) and c.name not in users]
    derived = see.derived(free)
    free = [c for c in free if c.name not in derived]
    items = see.items_of_parts(free) or {
        c.name: {"answer": c, **{part: Column(part, [row[c.name]]) for part, row in given.items()}}
        for c in see.answer_columns(free)
    }
    values = {name: parts.get("score") or parts["answer"] for name, parts in items.items()}
    renamed = {c.name: name for name, c in values.items() if c.name != name}
    new_names = {*renamed.values()}
    renamed |= {c.name: f"{c.name} (given)" for c in columns if c.name in new_names}
    beside = {name: parts["answer"] for name, parts in items.items() if {"answer", "score"} <= parts.keys()}
    responses = {name: renamed.get(c.name, c.name) for name, c in beside.items() if c.repeats}
    read = [
        c for name, parts in items.items() for c in parts.values() if c is not beside.get(name) or name in responses
    ]
    rights = {name: parts["key"].counts for name, parts in items.items() if "key" in parts and "score" not in parts}
    keys = {name: counts.most_common(1)[0][0] for name, counts in rights.items() if counts}
    tops = {name: parts["maximum"].scores for name, parts in items.items() if "maximum" in parts}
    maxima = {name: scores[-1] for name, scores in tops.items() if scores}
    notes += [
        "It looks like a matrix: a row for each person, and a column for each item.",
        *(UNUSED[part] for part in UNUSED if any(part in parts for parts in items.values())),
        *_left_out(free, read, derived),
    ]
    if constant := [name for name, c in values.items() if len(c.counts) == 1 and c.repeats]:
        notes.append(f"Everyone has the same value: {some_of(constant, 10)}. Delete each that is not an item.")
    marks = see.marks_taken_off(values.values())
    content = {
        "choose": {"learners": _readings_of_learners(repeated)} if repeated else {},
        "frequency": counted.name if counted else None,
        "columns": {} if repeated else {"user_id": users},
        "rename": renamed,
        "wide": {"items": list(items), "responses": responses},
        "keys": keys,
        "null_values": {name: sorted(c.codes - {*marks}) for name, c in values.items()},
    }
    if not items:
        notes.append("No column looks like an item: name them, wide: {items: [q1, q2]}.")
    elif not (keyed or keys):
        texts = {name: c.answers for name, c in values.items()}
        options = not see.are_ratings([*values.values()])
        content = with_reading(content, _scores(values, texts, maxima, "correct", notes, options=options))
        content = with_reading(content, _marks_taken_off([*values.values()], marks, "correct"))
    return content


def _readings_of_learners(column: Column) -> list[dict[str, Any]]:
    """Build the readings of a matrix with several rows of a learner."""
    rows = [(line, cell) for line, cell in zip(column.lines, column.cells, strict=True) if cell][:SHOWN]
    return [
        {
            "reading": {"columns": {"user_id": [column.name]}},
            "rows": [f"line {line}: the learner is {cell}" for line, cell in rows],
        },
        {
            "reading": {"columns": {"user_id": [FILE, ROW]}},
            "rows": [f"line {line}: a learner of its own" for line, _ in rows],
        },
    ]


def _marks_taken_off(columns: Sequence[Column], marks: Sequence[str], ours: str) -> dict[str, Any]:
    """Build the rules for marks taken off for wrong answers, or readings if a 0 may be an omitted answer."""
    if not marks:
        return {}
    texts = sorted({*marks, *chain(*(c.answers for c in columns if c.kind == "number"))}, key=see.number)
    wrong: dict[str, int | None] = {text: int(see.number(text) > 0) for text in texts}
    omitted = {text: None if see.number(text) == 0 else score for text, score in wrong.items()}
    if omitted == wrong:
        return {"values": {ours: wrong}}
    codes = {"null_values": {c.name: sorted(c.codes) for c in columns if c.codes}}
    readings: list[tuple[dict[str, Any], dict[str, int | None]]] = [
        ({"values": {ours: scores}}, scores) for scores in (wrong, omitted)
    ]
    readings += [(codes, wrong | dict.fromkeys(marks))] if {*map(see.number, marks)} == {-1} else []
    first = {text: next(c for c in columns if text in c.counts) for text in texts}
    return {
        "choose": {
            "marks": [
                {
                    "reading": reading,
                    "rows": [
                        f"line {c.line_of(text)}, {c.name}: {text} is {MEANINGS[score[text]]}"
                        for text, c in first.items()
                    ],
                }
                for reading, score in readings
            ]
        }
    }


def _scores(
    items: Map[str, Column],
    texts: dict[str, list[str]],
    maxima: dict[str, float],
    ours: str,
    notes: list[str],
    *,
    options: bool = False,
) -> dict[str, Any]:
    """The rules for the values of items.

    `items`: item → its answers. `texts`: item → distinct texts, without codes. `maxima`: maximum scores that the file
    has. `ours`: our column, `correct` of a matrix. `options`: whether numbers from 1 on look like options.
    """
    content: dict[str, Any] = {}
    listed = {*chain(*texts.values())}
    if listed and all(map(see.KINDS["points"], listed)):
        content["extract"] = {"*": rf"^{see.POINTS}$"}
        most = {item: [see.number(re.sub(see.POINTS, r"\2", x)) for x in found] for item, found in texts.items()}
        maxima = {item: max(numbers) for item, numbers in most.items() if numbers} | maxima
        texts = {item: [re.sub(see.POINTS, r"\1", text) for text in found] for item, found in texts.items()}
    said = see.words_beside_numbers(texts)
    texts = {item: found for item, found in texts.items() if not said.keys() & {*found}}
    scale = see.scale_of({*chain(*texts.values())}, has_maxima=bool(maxima), options=options)
    if scale is None:
        notes.append(NO_KEY)
        return content
    values, parts = scale
    shared = max(values.values(), default=0)  # labels and ratings are one scale
    highest = {
        item: shared if values else parts * max([1.0, *map(see.number, found)])
        for item, found in texts.items()
        if found
    }
    tops = {item: round(maxima[item] * parts if item in maxima else top) for item, top in highest.items()}
    few = sum(c.counts.total() for c in items.values()) < see.MIN_PERSONS * len(texts)
    from_1 = {} if values or parts > 1 or few else see.items_from_1(texts, maxima)
    possible = {item: top for item, top in tops.items() if 1 < top <= MAX_SCORE and item not in from_1}
    same = possible and not said and len({*tops.values()}) == 1
    return content | {
        "choose": {"items_from_1": _readings_of_items_from_1(from_1, items)} if from_1 else {},
        "values": {ours: dict(sorted({**said, **values}.items(), key=lambda pair: (pair[1], pair[0])))},
        "denominator": parts if parts > 1 and not values else None,
        "max_scores": {"*": max(possible.values())} if same else possible,
    }


def _readings_of_items_from_1(texts: Map[str, list[str]], items: Map[str, Column]) -> list[dict[str, Any]]:
    """Build the readings of items in which nobody has a 0. `texts`: item → texts. `items`: as in `_scores`."""
    readings = []
    for lowest in (1, 0):
        tops = {item: round(max(map(see.number, found))) - lowest for item, found in texts.items()}
        codes = {item: {text: round(see.number(text)) - lowest for text in found} for item, found in texts.items()}
        rows = [
            f"line {items[item].line_of(text)}, {item}: {text} is {score} of {tops[item]} points"
            for item, scores in codes.items()
            for text, score in scores.items()
        ]
        maxima = {item: top for item, top in tops.items() if top > 1}
        reading = {"max_scores": maxima, **({"item_values": codes} if lowest else {})}
        readings.append({"reading": {key: value for key, value in reading.items() if value}, "rows": rows[:SHOWN]})
    return readings


def _left_out(columns: Sequence[Column], used: Collection[Column], derived: Map[str, str]) -> list[str]:
    """Write the notes on unused columns. `derived`: further columns, each with a description."""
    used = {*used}
    rest = [c.name for c in columns if c not in used]
    named = [f"{name} ({why})" for name, why in derived.items()]
    notes = [f"Left out, because they are not items: {some_of(named, 20)}."] if named else []
    more = "If they are facts about learners, irt import learners imports them."
    return [*notes, f"Not recognised, and left out: {some_of(rest, 20)}. {more}"] if rest else notes
