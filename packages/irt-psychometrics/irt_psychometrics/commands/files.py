"""The files that the commands read, with one reader of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from os.path import exists  # unlike Path.exists, it is false for a name that is too long
from pathlib import Path
from typing import Any

from irt_psychometrics.cells.columns import MAX_PARTS, Cells
from irt_psychometrics.cells.reading import CellPlan, Codes, KeyScores, MaxScores, codes_by_column, join_options
from irt_psychometrics.commands.answers import Answers, read_answers, read_groups
from irt_psychometrics.commands.output import WRITERS, FileResult, Writers, check_folder, write_whole
from irt_psychometrics.commands.parameters import ParameterTable, are_parameters, read_parameters
from irt_psychometrics.commands.tables import Rows, Table, faults, read_rows
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_POINTS, MAX_SCORE

KEY_NAMES = ("key", "answer", "correct", "correct_answer")
MAX_SCORES = "A maximum score is a whole number from 1 to {limit}"
CREDIT_NAMES = ("score", "points", "credit")
ABOVE = (
    "A fit has a parameter for each score, so group points in a mapping file, values: {correct: {'55': 11}}, or analyse"
    " the items without a model"
)


@dataclass(frozen=True)
class Files:
    """Reader and writer of the files of a command.

    Attributes:
        read: function that reads the columns and rows of a file; by default it reads CSV, TSV and Parquet.
        writers: functions that make the file of `--to`, by its ending; by default CSV and HTML.
    """

    read: Callable[[Path], tuple[Sequence[str], Rows]] = read_rows
    writers: Writers = field(default_factory=lambda: WRITERS)

    def open_table(self, path: Path) -> Table:
        """Open the file as a table. Raises PsychometricsError if it cannot be read."""
        return Table(path, *self.read(path))

    def answers(
        self,
        path: Path,
        key: KeyScores | None = None,
        max_scores: MaxScores | None = None,
        *,
        missing: Codes | None = None,
        omitted: Codes | None = None,
        denominator: int = 1,
        marks_off: float = 0.0,
        classical: bool = False,
        groups: str | None = None,
    ) -> Answers:
        """Read answers; see `read_answers` and `CellPlan`.

        `marks_off`: the mark that a wrong answer takes off, such as 0.25. `classical`: whether marks count as they are
        and not as right and wrong, if a 0 is not a code. `groups`: the column of the file with the persons' groups, or
        the path of a table person,group.
        """
        if marks_off and (key is not None or max_scores):
            raise PsychometricsError("--marks-off is for right and wrong answers: leave --key and --max-score out")
        table = self.open_table(path)
        codes = (missing or {}, omitted or {})
        marks, note = _marks(
            marks_off,
            keep=classical
            and not any((Cells.of(texts).points() == 0).any() for own in codes for texts in own.values()),
        )
        reading = CellPlan(key, max_scores or MaxScores(), *codes, denominator, marks)
        column = groups if groups in table.columns else None
        if groups is not None and column is None and not exists(groups):  # noqa: PTH110
            raise PsychometricsError(f"--groups {groups}: neither a file nor a column of {path}")
        found = read_answers(table, reading, column)
        found = replace(found, notes=(*found.notes, f"{path}: {note}")) if note else found
        if groups is None or column is not None:
            return found
        return replace(found, groups=read_groups(self.open_table(Path(groups)), found))

    def answers_by_options(
        self,
        path: Path,
        key: Path | None,
        max_scores: str | MaxScores | None,
        missing: Sequence[str] | None,
        folder: Path | None,
        *,
        omitted: Sequence[str] | None = None,
        classical: bool = False,
        **options: Any,
    ) -> Answers:
        """Read answers by the options of a command: a key's file, maximum scores or their text, and codes.

        Raises PsychometricsError if results cannot be written to `folder`. `options`: as in `answers`.
        """
        check_folder(folder)
        if isinstance(max_scores, str):
            max_scores = self.max_scores(max_scores, limit=MAX_POINTS if classical else MAX_SCORE)
        return self.answers(
            path,
            None if key is None else self.key(key),
            max_scores,
            missing=codes_by_column(missing),
            omitted=codes_by_column(omitted),
            classical=classical,
            **options,
        )

    def key(self, path: Path) -> dict[str, dict[str, int]]:
        """Read the score of each item's options, from a table with the columns item and key, or item, option and score.

        Each line of an item, and each option between | in its cell, is right; options between ; must all be chosen.
        Scores that are shares, such as .5, are multiplied so that all scores of the item are whole. Items without a key
        are left out. Raises PsychometricsError for other columns, an option with two scores, scores that are not such
        shares, and a table without any key.
        """
        table = self.open_table(path)
        option = table.first_of(("option",))
        credit = table.first_of(CREDIT_NAMES) if option else None
        item, key = table.item, option if credit else table.first_of(KEY_NAMES)
        if item is None or key is None:
            raise PsychometricsError(
                f"{table.path}: a key is a table item,key; its columns are {', '.join(table.columns)}"
            )
        keys: dict[str, dict[str, str]] = {}
        for line, row in table.rows():
            for text in row[key].split("|") if row[item] else ():
                right, score = join_options(text) if ";" in text else text.strip(), row[credit] if credit else "1"
                if right and keys.setdefault(row[item], {}).setdefault(right, score) != score:
                    raise PsychometricsError(f"{path}, line {line}: option {right} of item {row[item]} has two scores")
        whole = {item: scores for item, options in keys.items() if (scores := _whole_scores(options))}
        if wrong := [f"item {item}: {', '.join(keys[item].values())}" for item in keys if item not in whole]:
            raise faults(path, wrong, f"Scores of options are shares of a point, or whole numbers up to {MAX_SCORE}")
        if not keys:
            raise PsychometricsError(f"{table.path}: no item has a key")
        return whole

    def max_scores(self, *options: str, limit: int = MAX_SCORE) -> MaxScores:
        """Read maximum scores from options: `M` for all items, `ITEM=M` for an item or a pattern, or a table.

        The table has the columns item and max_score. Raises PsychometricsError, which names the option or the line and
        the item, for maximum scores other than 1 … `limit`.
        """
        by_item: dict[str, int] = {}
        by_pattern: dict[str, int] = {}
        for option in options:
            name, _, most = option.rpartition("=") if "=" in option else ("*", "", option)
            if name and _is_max_score(most, limit):
                by_pattern[name] = int(most)
            elif exists(option):  # noqa: PTH110
                by_item |= self._table_of_max_scores(Path(option), limit)
            else:
                raise PsychometricsError(
                    f"--max-score {option}: it must be M for all items, ITEM=M for an item or a pattern, or a table"
                    f" item,max_score. {MAX_SCORES.format(limit=limit)}, such as 4, q7=4 or"
                    f" 'essay_*=5'{_way([most], limit)}"
                )
        return MaxScores(by_item, by_pattern)

    def _table_of_max_scores(self, path: Path, limit: int) -> dict[str, int]:
        table = self.open_table(path)
        table.require_unique_columns()
        item, maximum = table.item, table.first_of(("max_score",))
        if item is None or maximum is None:
            raise PsychometricsError(
                f"{path}: maximum scores are a table item,max_score; it has {', '.join(table.columns)}"
            )
        rows = [(line, row[item], row[maximum].removesuffix(".0")) for line, row in table.rows()]
        filled = [(line, name, most) for line, name, most in rows if most]
        wrong = [
            f"line {k}, item {name}: max_score {most!r}" for k, name, most in filled if not _is_max_score(most, limit)
        ]
        if wrong:
            raise faults(path, wrong, MAX_SCORES.format(limit=limit) + _way([most for *_, most in filled], limit))
        return {name: int(most) for _, name, most in filled}

    def parameters(self, path: Path, metric_d: float = 1.0) -> ParameterTable:
        """Read item parameters; see `read_parameters`."""
        return read_parameters(path, metric_d, self.open_table)

    def are_parameters(self, path: Path) -> bool:
        """Check whether a file contains item parameters; see `parameters.are_parameters`."""
        return are_parameters(path, self.open_table)

    def check_ending(self, to: Path | None) -> None:
        """Raise PsychometricsError if no writer writes this kind of file; commands check this before they compute."""
        if to is not None and to.suffix not in self.writers:
            raise PsychometricsError(f"--to must be a file that ends in {', '.join(self.writers)}, got {to}")

    def write(self, result: FileResult, to: Path) -> None:
        """Write a result in the format that the file's ending names."""
        write_whole(to.parent, {to.name: self.writers[to.suffix](result)})


def _is_max_score(text: str, limit: int) -> bool:
    return text.isdecimal() and 1 <= int(text) <= limit


def _way(texts: Sequence[str], limit: int) -> str:
    """Return the remedy for maximum scores above the limit of a fit; "" for other faults."""
    above = [text for text in texts if text.isdecimal() and int(text) > MAX_SCORE == limit]
    return f". {ABOVE}" if above else ""


def _whole_scores(options: Mapping[str, str]) -> dict[str, int] | None:
    """Return option → whole score, in the fewest parts of a point, or None if there are no such parts."""
    cells = Cells.of(options.values())
    for parts in range(1, MAX_PARTS + 1):
        scores = cells.scores(MAX_SCORE, parts)
        if ((scores >= 0) & (scores <= MAX_SCORE)).all() and scores.max() > 0:
            return {option: int(score) for option, score in zip(options, scores.tolist(), strict=True)}
    return None


def _marks(off: float, *, keep: bool) -> tuple[dict[float, int], str]:
    """Return mark → score if wrong answers take off the mark `off`, and a note; both are empty if `off` is 0.

    `keep`: whether the marks −off, 0 and 1 count as they are, in the fewest whole steps above −off.
    """
    if off == 0:
        return {}, ""
    if not 0 < off <= 1:
        raise PsychometricsError(f"--marks-off {off:g}: it must be a part of a point, such as 0.25 or 1")
    if not keep:
        return {-off: 0, 1: 1}, f"the mark {-off:g} is a wrong answer, with the score 0"
    steps = Fraction(off).limit_denominator(MAX_PARTS)
    low, top = steps.numerator, steps.numerator + steps.denominator
    note = (
        f"scores are steps of {1 / steps.denominator:.3g} above the mark {-off:g}, and p is 0 there and 1 at the mark 1"
    )
    return {-off: 0, 0: low, 1: top}, note
