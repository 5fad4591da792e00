"""The files that the commands read, with one reader of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irt_psychometrics.commands.answers import Answers, read_answers, read_groups
from irt_psychometrics.commands.cell_scores import (
    Codes,
    MaxScores,
    Reading,
    codes_by_column,
    matches,
    points,
    read_max_scores,
    whole_scores,
)
from irt_psychometrics.commands.choices import check_key, describe_blanks, describe_shortened, read_key
from irt_psychometrics.commands.derived_columns import derived_columns
from irt_psychometrics.commands.output import check_folder
from irt_psychometrics.commands.parameters import ParameterTable, parse_json, read_parameters
from irt_psychometrics.commands.patterns import describe_unreached, describe_zeros
from irt_psychometrics.commands.tables import Rows, Table, read_rows
from irt_psychometrics.core.errors import PsychometricsError


@dataclass(frozen=True)
class Files:
    """Reader of the files of a command, and the meaning of their cells.

    Attributes:
        read: function that reads the columns and rows of a file; by default it reads CSV, TSV and Parquet.
    """

    read: Callable[[Path], tuple[Sequence[str], Rows]] = read_rows

    matches = staticmethod(matches)
    points = staticmethod(points)
    whole_scores = staticmethod(whole_scores)
    check_key = staticmethod(check_key)
    describe_blanks = staticmethod(describe_blanks)
    describe_shortened = staticmethod(describe_shortened)
    derived_columns = staticmethod(derived_columns)
    describe_zeros = staticmethod(describe_zeros)
    describe_unreached = staticmethod(describe_unreached)
    parse_json = staticmethod(parse_json)
    missing = staticmethod(codes_by_column)
    check_folder = staticmethod(check_folder)

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
        """Read answers; see `read_answers` and `Reading`.

        `groups`: the column of the file with the persons' groups, or the path of a table person,group.
        """
        table = self.open_table(path)
        reading = Reading(key, max_scores or MaxScores(), missing or {}, omitted or {}, denominator)
        column = groups if groups in table.columns else None
        if groups is not None and column is None and not Path(groups).exists():
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
        **options: Any,
    ) -> Answers:
        """Read answers by the options of a command: a file of keys, the text of maximum scores, and missing codes.

        Raises PsychometricsError if results cannot be written to `folder`. `options`: as in `answers`.
        """
        self.check_folder(folder)
        return self.answers(
            path,
            self.key(key) if key is not None else None,
            self.max_scores(max_scores) if isinstance(max_scores, str) else max_scores,
            missing=self.missing(missing),
            **options,
        )

    def key(self, path: Path) -> dict[str, str]:
        """Read the items' right options; see `read_key`."""
        return read_key(self.open_table(path))

    def max_scores(self, text: str) -> MaxScores:
        """Read maximum scores; see `read_max_scores`."""
        return read_max_scores(text, self.open_table)

    def parameters(self, path: Path, metric_d: float = 1.0) -> ParameterTable:
        """Read item parameters; see `read_parameters`."""
        return read_parameters(path, metric_d, self.open_table)
