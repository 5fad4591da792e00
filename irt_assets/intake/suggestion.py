"""A suggested mapping: the mapping file with a sentence for each guess, and the rows that it would store."""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping as Map, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from irt_assets.intake.bank import QUESTIONS, read_rows
from irt_assets.intake.clean import Limits
from irt_assets.intake.ingest import AnswerSource, with_prefix_of_items
from irt_assets.intake.mapping import Mapping, Reading, load_mapping, with_reading
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, ignore_rows
from irt_assets.intake.scoring import scoring_of
from resources.failures import PermanentFailure

SHOWN_ROWS = 10
WIDTH = 80
IF_OPTIONS = "if they are options, delete this and max_scores, and give --key FILE (item,key)"
SENTENCES = (
    ("choose.times", "no day is above 12: is the day or the month first?"),
    ("choose.learners", "learners occur in several rows: is a row another attempt, or another learner?"),
    ("choose.marks", "many cells are below 0: are these marks taken off for wrong answers, and is 0 omitted or wrong?"),
    ("choose.metric", "is D in the curve 1 or 1.7? The program that wrote the file lets its users choose"),
    ("choose.items_from_1", "nobody has a 0, as in other items: is 1 wrong (a code), or is it a point?"),
    ("encoding", "the file is not UTF-8; it looks like this encoding"),
    ("file.delimiter", "with it, most rows have the same number of cells"),
    ("file.header", "the first row that is as wide as the rest"),
    ("file.first_row", "the rows above continue the header"),
    ("file.decimal", "numbers in the file have a comma"),
    ("skip_rows_where", "rows of keys, maximum scores or totals, and not of answers"),
    ("columns.user_id: .*#file", "no column has the learners: the file's name, or this and the row"),
    (r"columns.user_id: \[", "the learners, by their names: no column is an id"),
    ("columns.user_id", "the learners, by the column's name and its values"),
    ("columns.item_id", "the items, by the name"),
    ("columns.completed_at", "the times of the answers"),
    ("columns.started_at", "the times at which they were begun"),
    ("columns.(correct|score)", "the results, by the name and the values"),
    ("columns.response:", "the chosen or written answers"),
    ("columns", "by the name"),
    ("time.zone:", "as given by --zone"),
    ("time.zone_column", "the zone of each row"),
    ("time.format: excel", "the times are serial numbers of Excel: days since 1900"),
    ("time.format", "the times are written like this, as for strptime"),
    ("time.order", "the order of the answers, as there are no times"),
    ("frequency", "how often the pattern of a row occurs"),
    ("rename", "the names of the items, without additions"),
    ("prefix", "text before the ids of the items, because other tests have items of the same names"),
    ("wide.responses", "the options that were chosen, beside the scores"),
    ("wide.items", "the columns with the values of answers"),
    ("keys", "the right answers, from the file"),
    ("extract", "scores are written like 1 / 2: the first number counts"),
    (r"values.*'-", "marks taken off for wrong answers count as wrong"),
    ("values.*(?i:true|false)", "words for right and wrong; a partly right answer counts as wrong"),
    (r"values.*'\d*[.,]\d+'", "fractions, rounded in the file, and their scores: parts of a point"),
    (r"values.*\{'\d+'", f"nobody has a 0: ratings from 1 on; {IF_OPTIONS}"),
    ("values", f"labels of a rating scale, from the lowest; {IF_OPTIONS}"),
    ("denominator", "scores are fractions of a point: this many parts are a point"),
    ("max_scores", "the highest scores that the file names or has: write the ones that can be reached"),
    (
        "null_values",
        "texts and codes that mean that there is no answer; in an analysis, --omitted '' counts them as wrong",
    ),
    ("units", "the values are too small for milliseconds"),
    ("constants.D", "the D of the program that wrote the file"),
    ("constants", "no column is a discrimination: a Rasch model, in which a = 1 for all items"),
    ("integer_ids", "ids such as 7.0 are 7"),
)
"""Beginning of a key with its value → the sentence of the guess. The first that fits counts."""
BLOCKS = ("choose", "file", "columns", "time", "wide", "units", "constants", "values")
"""Keys whose parts have sentences of their own."""


CHOOSE = (
    "Several readings of this file fit. Under each name in choose, keep one reading and delete the others: an import"
    " stores nothing before."
)
Choose = Callable[[str, Sequence[Sequence[str]]], int | None]
"""Function that asks a question with the lines of each reading, and returns the reading's index or None."""


@dataclass
class Suggestion:
    """A suggested mapping.

    Attributes:
        kind: kind of the file, as in `irt import attempts`.
        content: the mapping.
        notes: sentences on the whole.
    """

    kind: Literal["attempts", "questions"] = "attempts"
    content: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def mapping(self, name: str) -> Mapping:
        return Mapping.model_validate({**self.content, "name": name})

    def as_yaml(self) -> str:
        """The mapping file: the sentence of a guess is a comment above its key."""
        return "\n".join([*(line for note in self.notes for line in _comment(note)), *_lines(self.content)]) + "\n"

    def make_choices(self, choose: Choose) -> None:
        """Ask which readings are right, and write them into the mapping."""
        kept = _ask(self.mapping("").choose, choose)
        for name, number in kept.items():
            self.content = with_reading(self.content, self.content["choose"].pop(name)[number]["reading"])
        if not self.content.get("choose", True):
            del self.content["choose"]
            self.notes = [note for note in self.notes if note != CHOOSE]


def make_choices(mapping: str | Path, choose: Choose) -> None:
    """Ask which readings of a mapping file are right, and keep only these in it. The rest of the file stays."""
    rules = load_mapping(mapping)
    kept = _ask(rules.choose, choose) if rules else {}
    if not kept:
        return
    text = Path(mapping).read_text("utf-8-sig")
    content = yaml.safe_load(text)["choose"]
    root: Any = yaml.compose(text)
    [names] = [node.value for key, node in root.value if key.value == "choose"]
    for name, readings in reversed(names):
        if name.value in kept:
            start, end = name.end_mark.index, readings.end_mark.index
            after = re.search(r"(\n[ \t]*(#[^\n]*)?)*\Z", text[start:end])
            chosen = content[name.value][kept[name.value]]
            text = f"{text[:start]}: {_flow([chosen])}{after[0] if after else ''}{text[end:]}"
    Path(mapping).write_text(text, "utf-8")


def _ask(choices: Map[str, Sequence[Reading]], choose: Choose) -> dict[str, int]:
    """Ask which reading of each choice is right: name → index, without choices for which nobody could be asked."""
    asked = {
        name: choose(_sentence(f"choose.{name}"), [(_flow(one.reading), *one.rows) for one in readings])
        for name, readings in choices.items()
    }
    return {name: number for name, number in asked.items() if number is not None}


def _lines(content: dict[str, Any], above: str = "") -> Iterator[str]:
    indent = "  " if above else ""
    for key, value in content.items():
        if above == "choose.":
            yield from _comment(_sentence(f"{above}{key}"), indent)
            yield f"{indent}{key}:"
            for one in value:
                yield f"{indent}- reading: {_flow(one['reading'])}"
                yield from (f"{indent}  rows:", *(f"{indent}  - {_flow(row)}" for row in one["rows"]))
        elif key in BLOCKS and not above:
            yield f"{key}:"
            yield from _lines(value, f"{key}.")
        else:
            yield from _comment(_sentence(f"{above}{key}: {value}"), indent)
            yield f"{indent}{_flow(key)}: {_flow(value)}"


def _sentence(place: str) -> str:
    return next((why for start, why in SENTENCES if re.match(start, place)), f"{place}: which reading is right?")


def _comment(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return str(text).removesuffix("...\n").strip()


def preview(
    path: Path, found: Suggestion, *, at: date | None = None, key: Path | None = None, zone: str | None = None
) -> list[str]:
    """The first rows as they would be stored, or the reason for refusing the file, as lines of text.

    Times without a zone are shown as if they were UTC; without times, the day is `at` or today.
    """
    rules, report = found.mapping("the suggested mapping"), ImportReport()
    try:
        source = open_source(path, rules.encoding, rules)
        if found.kind == "questions":
            questions = read_rows(source, rules, QUESTIONS, report, ignore_rows)
            return [f"{item}: {meta.obj}" for item, *_, meta in questions[:SHOWN_ROWS]]
        scoring = with_prefix_of_items(scoring_of(None, key, {}, rules.encoding, rules.keys), rules.prefix)
        day = None if "completed_at" in rules.columns else at or datetime.now(UTC).date()
        start = None if day is None else int(np.datetime64(day, "us").astype(np.int64))
        limits = Limits(np.iinfo(np.int64).min + 1, np.iinfo(np.int64).max, zone or rules.time.zone or "UTC", start)
        answers = AnswerSource(source, rules, day, scoring).answers(limits, report, ignore_rows, scoring)
        rows = [row for _, batch in answers for row in batch.slice(0, SHOWN_ROWS).to_pylist()]
    except PermanentFailure as failure:
        return [f"An import would be refused: {str(failure).splitlines()[0]}"]
    table = pd.DataFrame(rows[:SHOWN_ROWS], dtype=object).drop(columns=["line", "attempt_id"], errors="ignore")
    shown = table.fillna("").to_string(index=False, max_colwidth=40).splitlines() if rows else []
    refused = "".join(f", {n:,} × {reason}" for reason, n in sorted(report.rejected.items()))
    n_stored = report.read - report.rejected.total()
    return [*shown, f"{n_stored:,} of {report.read:,} answers would be stored{refused}"]
