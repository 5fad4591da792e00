"""`analyse`: classical item analysis of a file of answers, with flags of items and options to look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irt_psychometrics.classical.item_analysis import ItemAnalysis, analyse_items
from irt_psychometrics.classical.item_flags import (
    EQUAL_REST,
    MAX_FACILITY,
    MIN_FACILITY,
    MIN_ITEM_REST,
    Flags,
)
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import Report, ReportTable, csv_of, rows_of, write_whole

EXPLANATIONS = {
    "min_facility": f"p is below {MIN_FACILITY}",
    "max_facility": f"p is above {MAX_FACILITY}",
    "min_item_rest": f"the item-rest correlation is below {MIN_ITEM_REST}",
    "equals_rest": f"the item-rest correlation is at least {EQUAL_REST}: is the item a total of the others, or a copy?",
    "above_key": "an option has a positive correlation with the rest score, above the key's",
    "beats_key": "such an option, beyond chance: check the key",
}
"""Flag of an item → its reason."""
OPTION_REST = "option-rest is among persons who chose an option; item-rest counts omitted answers as 0"
INCOMPLETE = (
    "not all persons have a score on all items, so there is no α, and r is with the mean of the other items that each"
    " person saw. If blank cells are omitted answers, --omitted '' counts them as wrong"
)
FORM_COLUMNS = ("n", "n_items", "mean", "sd", "alpha", "alpha_low", "alpha_high", "omega", "lambda2", "sem")


@dataclass(frozen=True)
class FileAnalysis:
    """Item statistics of a file with flags.

    Attributes:
        analysis: the statistics.
        flags: the flags of items and options.
        has_choices: whether the options are choices; otherwise they are scores, which have no flags.
    """

    analysis: ItemAnalysis
    flags: Flags
    has_choices: bool

    def as_dict(self) -> dict[str, Any]:
        """Rows of forms, items and options. Numbers that do not exist are None."""
        items, options = (
            [row | {"flags": list(found)} for row, found in zip(rows_of(result._columns()), flags, strict=True)]
            for result, flags in ((self.analysis, self.flags.items), (self.analysis.options, self.flags.options))
        )
        forms = [row for form in self.analysis.forms for row in rows_of(form._columns())]
        return {"forms": forms, "items": items, "options": options}

    def report(self) -> Report:
        """Report on the form, the items and the options of flagged items."""
        found = self.as_dict()
        names: tuple[str, ...] = ("item", "n", "omitted", "facility", "item_rest", "alpha_if_deleted", "discrimination")
        headings: tuple[str, ...] = ("item", "n", "omitted", "p", "item-rest", "α if deleted", "D", "")
        formats = {"n": ",", "omitted": ","} | dict.fromkeys(headings[3:7], ".3f")
        rows = [(*(row[name] for name in names), ", ".join(row["flags"])) for row in found["items"]]
        report: Report = [*map(_describe_form, found["forms"])] or [INCOMPLETE]
        report.append(ReportTable(headings, rows, formats))
        flagged = {row["item"]: row["flags"] for row in found["items"] if row["flags"]}
        present = {flag for flags in flagged.values() for flag in flags}
        report += [f"{flag}: {why}" for flag, why in EXPLANATIONS.items() if flag in present]
        if flagged and self.has_choices:
            names = ("item", "option", "n", "share", "rest_correlation", "lower", "middle", "upper")
            rows = [
                (*(row[name] for name in names), ", ".join(["key"] * row["key"] + row["flags"]))
                for row in found["options"]
                if row["item"] in flagged
            ]
            headings = ("item", "option", "n", "share", "option-rest", "lower third", "middle", "upper third", "")
            report += [ReportTable(headings, rows, {"n": ","} | dict.fromkeys(headings[3:8], ".3f")), OPTION_REST]
        return report

    def files(self) -> dict[str, str]:
        """CSV files by name: `forms.csv`, `items.csv` and `options.csv`."""
        found = self.as_dict()
        return {f"{name}.csv": csv_of(rows, [*rows[0]]) for name, rows in found.items() if rows}

    def write(self, folder: Path) -> None:
        """Write the CSV files into `folder`."""
        write_whole(folder, self.files())


def analyse(answers: Answers) -> FileAnalysis:
    """Compute the item statistics of classical test theory of a file's answers.

    Parameters
    ----------
    answers
        The answers, with the chosen options if there is a key.

    Returns
    -------
    FileAnalysis
        Statistics of forms, items and options, and flags.
    """
    found = analyse_items(answers.responses, answers.choices, omitted=answers.omitted, keep_rest=False)
    return FileAnalysis(found, found.flags(), answers.choices is not None)


def _describe_form(form: Mapping[str, Any]) -> str:
    n, n_items, *numbers = (form[name] for name in FORM_COLUMNS)
    mean, sd, alpha, low, high, omega, lambda2, sem = ("–" if x is None else f"{x:.3f}" for x in numbers)
    return (
        f"{n:,} persons, {n_items:,} items, scores 0 … {form['max_score']}: mean {mean}, SD {sd}, α {alpha} ({low} …"
        f" {high}), ω {omega}, λ₂ {lambda2}, SEM {sem}"
    )
