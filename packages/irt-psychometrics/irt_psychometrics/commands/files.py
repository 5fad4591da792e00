"""The files that the commands read, with one reader of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os.path import exists  # unlike Path.exists, it is false for a name that is too long
from pathlib import Path
from typing import Any

from irt_psychometrics.cells.reading import CellPlan, Codes, MaxScores, codes_by_column
from irt_psychometrics.commands.answers import Answers, read_answers, read_groups
from irt_psychometrics.commands.output import WRITERS, FileResult, Writers, check_folder, write_whole
from irt_psychometrics.commands.parameters import ParameterTable, are_parameters, read_parameters
from irt_psychometrics.commands.tables import Rows, Table, faults, read_rows
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_SCORE

KEY_NAMES = ("key", "answer", "correct", "correct_answer")
MAX_SCORES = f"A maximum score is a whole number from 1 to {MAX_SCORE}"


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
        key: Mapping[str, str] | None = None,
        max_scores: MaxScores | None = None,
        *,
        missing: Codes | None = None,
        omitted: Codes | None = None,
        denominator: int = 1,
        groups: str | None = None,
    ) -> Answers:
        """Read answers; see `read_answers` and `CellPlan`.

        `groups`: the column of the file with the persons' groups, or the path of a table person,group.
        """
        table = self.open_table(path)
        reading = CellPlan(key, max_scores or MaxScores(), missing or {}, omitted or {}, denominator)
        column = groups if groups in table.columns else None
        if groups is not None and column is None and not exists(groups):  # noqa: PTH110
            raise PsychometricsError(f"--groups {groups}: neither a file nor a column of {path}")
        found = read_answers(table, reading, column)
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
        **options: Any,
    ) -> Answers:
        """Read answers by the options of a command: a file of keys, the text of maximum scores, and codes.

        Raises PsychometricsError if results cannot be written to `folder`. `options`: as in `answers`.
        """
        check_folder(folder)
        return self.answers(
            path,
            self.key(key) if key is not None else None,
            self.max_scores(max_scores) if isinstance(max_scores, str) else max_scores,
            missing=codes_by_column(missing),
            omitted=codes_by_column(omitted),
            **options,
        )

    def key(self, path: Path) -> dict[str, str]:
        """Read the right option of each item, from a table with the columns item and key.

        Items without a key are left out. Raises PsychometricsError for other columns, an item with two keys, and a
        table without any key.
        """
        table = self.open_table(path)
        item, key = table.item, table.first_of(KEY_NAMES)
        if item is None or key is None:
            raise PsychometricsError(
                f"{table.path}: a key is a table item,key; its columns are {', '.join(table.columns)}"
            )
        keys: dict[str, str] = {}
        for line, row in table.rows():
            name, right = row[item], row[key]
            if name and right and keys.setdefault(name, right) != right:
                raise PsychometricsError(
                    f"{table.path}, line {line}: item {name} has the keys {keys[name]} and {right}"
                )
        if not keys:
            raise PsychometricsError(f"{table.path}: no item has a key")
        return keys

    def max_scores(self, *options: str) -> MaxScores:
        """Read maximum scores from options: `M` for all items, `ITEM=M` for an item or a pattern, or a table.

        The table has the columns item and max_score. Raises PsychometricsError, which names the option or the line and
        the item, for maximum scores other than 1 … 20.
        """
        by_item: dict[str, int] = {}
        by_pattern: dict[str, int] = {}
        for option in options:
            name, _, most = option.rpartition("=") if "=" in option else ("*", "", option)
            if name and _is_max_score(most):
                by_pattern[name] = int(most)
            elif exists(option):  # noqa: PTH110
                by_item |= self._table_of_max_scores(Path(option))
            else:
                raise PsychometricsError(
                    f"--max-score {option}: it must be M for all items, ITEM=M for an item or a pattern, or a table"
                    f" item,max_score. {MAX_SCORES}, such as 4, q7=4 or 'essay_*=5'"
                )
        return MaxScores(by_item, by_pattern)

    def _table_of_max_scores(self, path: Path) -> dict[str, int]:
        table = self.open_table(path)
        table.require_unique_columns()
        item = table.item
        if item is None or "max_score" not in table.columns:
            raise PsychometricsError(
                f"{path}: maximum scores are a table item,max_score; it has {', '.join(table.columns)}"
            )
        rows = [(line, row[item], row["max_score"].removesuffix(".0")) for line, row in table.rows()]
        filled = [(line, name, most) for line, name, most in rows if most]
        wrong = [f"line {k}, item {name}: max_score {most!r}" for k, name, most in filled if not _is_max_score(most)]
        if wrong:
            raise faults(path, wrong, MAX_SCORES)
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


def _is_max_score(text: str) -> bool:
    return text.isdecimal() and 1 <= int(text) <= MAX_SCORE
