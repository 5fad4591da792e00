"""`dif`: items that function differently for groups of persons, by Mantel-Haenszel and Wald tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import FileResult
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import models_by_max_score
from irt_psychometrics.core.options import DEFAULT_MODEL
from irt_psychometrics.dif.analysis import Dif, WithinForms
from irt_psychometrics.dif.forms import sets_as_forms
from irt_psychometrics.dif.mantel_haenszel import LARGE

MEANING = (
    "delta, or smd of scored items, is below 0 if the item is harder for the group than for equally able persons of the"
    " reference group. A difference as large as finds is found with a probability of 80 %."
)
FEW = 10
"""Persons who saw the same items are compared if they are at least this many."""
OF_TESTS = {
    "delta": "delta",
    "smd": "smd",
    "se": "se",
    "p": "p",
    "finds": "detectable",
    "class": "ets_class",
    "power": "low_power",
}
"""Column → attribute of a test that matches on scores, Mantel-Haenszel or, for scored items, Mantel."""
FORMATS = (
    dict.fromkeys(("n_ref", "n"), ",")
    | dict.fromkeys(("delta", "se", "finds"), ".2f")
    | dict.fromkeys(("smd", "p", "q", "wabc"), ".3f")
)


def dif(answers: Answers, *, reference: str | None = None) -> FileResult:
    """Compare each item between the reference group and the other groups of a file.

    Mantel-Haenszel needs no minimum of persons: if a large difference may be missed, the result contains "low" and
    the size that would be found. The Wald test needs 200 persons of a group.

    Parameters
    ----------
    answers
        The answers, with a group for each person.
    reference
        The group with which the others are compared. None: the largest.

    Returns
    -------
    FileResult
        A row per item and focal group: numbers of persons, delta (ETS) with standard error and p, the size of delta
        that is found with a probability of 80 %, the ETS class, the power, and q, wABC and size by the Wald test.
        For scored items the standardised mean difference replaces delta.

    Raises
    ------
    PsychometricsError
        If fewer than two groups have answers to the same items.
    """
    x = answers.responses
    values = [group or None for group in answers.groups or ()]
    forms, model = sets_as_forms(x, FEW), models_by_max_score(DEFAULT_MODEL, x.n_categories - 1)
    found = Dif.from_responses("groups", x, values, forms=forms, model=model, reference=reference, min_sittings=1)
    within, wald = found.within_forms, found.wald
    if within is None:
        groups = ", ".join(f"{group.name}: {group.n_learners:,} persons" for group in found.groups) or "none"
        raise PsychometricsError(
            f"two groups must have answers of {FEW} persons to the same items, got {groups}. If blank cells are omitted"
            " answers, --omitted '' counts them as wrong"
        )
    rows = []
    for f, name in enumerate(within.groups[1:]):
        w = wald.groups.index(name) - 1 if wald is not None and name in wald.groups else None
        for j, item in enumerate(x.item_ids):
            test, n = within.mantel_haenszel[f][j] or within.mantel[f][j], within.sittings[[0, f + 1], j].tolist()
            row = {"item": item, "group": name, "n_ref": n[0], "n": n[1]}
            row |= {column: getattr(test, attribute, None) for column, attribute in OF_TESTS.items()}
            if wald is not None and w is not None:
                row |= {"q": wald.q[j], "wabc": wald.wabc[w, j], "wald": wald.severity(w, j)}
            rows.append(row)
    names = ("item", "group", "n_ref", "n", *OF_TESTS, "q", "wabc", "wald")
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
    columns["power"] = ["low" if low else "" for low in columns["power"]]
    return FileResult(f"DIF against {within.groups[0]}", columns, FORMATS, notes=(MEANING, *_notes(found, within)))


def _notes(found: Dif, within: WithinForms) -> Sequence[str]:
    wald = found.wald
    notes = [f"{group.name} has no Wald test: {group.reason}." for group in found.groups if group.reason]
    notes += wald.warnings if wald is not None else [f"No Wald test: {found.reason}."]
    for name, tests in zip(within.groups[1:], within.mantel_haenszel, strict=True):
        if low := [test.detectable for test in tests if test is not None and test.low_power]:
            notes.append(
                f"{name} has low power for {len(low)} of {len(tests)} items: a large difference (|delta| {LARGE}) is"
                f" found with a probability below 80 %, one of {np.median(low):.1f} with 80 % (median)."
            )
    if alone := sum(group.n_learners for group in found.groups) - within.n_sittings:
        notes.append(f"{alone:,} persons are left out: fewer than {FEW} persons saw the same items.")
    if found.n_unknown:
        notes.append(f"{found.n_unknown:,} persons have no group and are left out.")
    return notes
