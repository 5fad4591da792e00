"""A suggested mapping: its guesses with their sentences, the mapping file, and the rows that it would store."""

import textwrap
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import yaml

from irt_assets.intake.bank import QUESTIONS, read_rows
from irt_assets.intake.clean import Limits
from irt_assets.intake.ingest import AnswerSource
from irt_assets.intake.mapping import Mapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, ignore_rows
from irt_assets.intake.scoring import scoring_of
from resources.failures import PermanentFailure

SHOWN_ROWS = 10
WIDTH = 80


@dataclass
class Suggestion:
    """A mapping that grows by guesses.

    Attributes:
        kind: kind of the file, as in `irt import attempts`.
        content: the mapping.
        reasons: path of keys → the sentence of its guess.
        notes: sentences on the whole.
    """

    kind: Literal["attempts", "questions"] = "attempts"
    content: dict[str, Any] = field(default_factory=dict)
    reasons: dict[tuple[str, ...], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, path: tuple[str, ...], value: Any, why: str) -> None:
        *above, last = path
        place = self.content
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
        self.reasons[path] = why

    def mapping(self, name: str) -> Mapping:
        return Mapping.model_validate({**self.content, "name": name})

    def as_yaml(self) -> str:
        """The mapping file: the sentence of a guess is a comment above its key."""
        lines = [line for note in self.notes for line in _comment(note)]

        def write(value: Any, path: tuple[str, ...]) -> None:
            indent = "  " * (len(path) - 1)
            lines.extend(_comment(self.reasons.get(path, ""), indent))
            inside = any(known[: len(path)] == path != known for known in self.reasons)
            lines.append(f"{indent}{_flow(path[-1])}:" + ("" if inside else f" {_flow(value)}"))
            for key, part in value.items() if inside else ():
                write(part, (*path, key))

        for key, value in self.content.items():
            write(value, (key,))
        return "\n".join(lines) + "\n"


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
    rules = found.mapping("the suggested mapping")
    report = ImportReport()
    try:
        if found.kind == "questions":
            rows = read_rows(open_source(path, rules.encoding, rules), rules, QUESTIONS, report, ignore_rows)
            return [f"{item}: {meta.obj}" for item, *_, meta in rows[:SHOWN_ROWS]]
        scoring = scoring_of(None, key, {}, rules.encoding, rules.keys)
        day = None if "completed_at" in rules.columns else at or datetime.now(UTC).date()
        given = AnswerSource(open_source(path, rules.encoding, rules), rules, day, scoring)
        start = None if day is None else int(np.datetime64(day, "us").astype(np.int64))
        limits = Limits(np.iinfo(np.int64).min + 1, np.iinfo(np.int64).max, zone or rules.time.zone or "UTC", start)
        batches = [rows for _, rows in given.answers(limits, report, ignore_rows, scoring)]
    except PermanentFailure as failure:
        return [f"An import would be refused: {str(failure).splitlines()[0]}"]
    names = [name for name in batches[0].schema.names if name not in ("line", "attempt_id")] if batches else []
    rows = pa.Table.from_batches(batches).select(names).slice(0, SHOWN_ROWS).to_pylist() if batches else []
    cells = [names, *([_shown(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    refused = "".join(f", {n:,} × {reason}" for reason, n in sorted(report.rejected.items()))
    return [*lines, f"{sum(batch.num_rows for batch in batches):,} of {report.read:,} answers would be stored{refused}"]


def _shown(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)[:40]
