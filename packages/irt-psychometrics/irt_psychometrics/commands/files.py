"""The files that the commands read, with one reader of tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from irt_psychometrics.commands.answers import Answers, MaxScores, read_answers, read_groups, read_max_scores
from irt_psychometrics.commands.choices import read_key
from irt_psychometrics.commands.output import check_folder
from irt_psychometrics.commands.parameters import ParameterTable, read_parameters
from irt_psychometrics.commands.tables import Rows, Table, read_rows


@dataclass(frozen=True)
class Files:
    """Reader of the files of a command.

    Attributes:
        read: function that reads the columns and rows of a file; by default it reads CSV, TSV and Parquet.
    """

    read: Callable[[Path], tuple[Sequence[str], Rows]] = read_rows

    def open_table(self, path: Path) -> Table:
        """Open the file as a table. Raises PsychometricsError if it cannot be read."""
        return Table(path, *self.read(path))

    def answers(self, path: Path, key: Mapping[str, str] | None = None, max_scores: MaxScores | None = None) -> Answers:
        """Read answers; see `read_answers`."""
        return read_answers(self.open_table(path), key, max_scores)

    def groups(self, path: Path, answers: Answers) -> tuple[str, ...]:
        """Read the persons' groups; see `read_groups`."""
        return read_groups(self.open_table(path), answers)

    def key(self, path: Path) -> dict[str, str]:
        """Read the items' right options; see `read_key`."""
        return read_key(self.open_table(path))

    def max_scores(self, text: str) -> MaxScores:
        """Read maximum scores; see `read_max_scores`."""
        return read_max_scores(text, self.open_table)

    def parameters(self, path: Path, metric_d: float = 1.0) -> ParameterTable:
        """Read item parameters; see `read_parameters`."""
        return read_parameters(path, metric_d, self.open_table)

    @staticmethod
    def check_folder(folder: Path | None) -> None:
        """Raise PsychometricsError if results cannot be written to the folder. Does nothing if it is None."""
        if folder is not None:
            check_folder(folder)
