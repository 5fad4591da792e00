"""Tables of a fit's folder: classical item analysis, item fit, person fit and DIF, as CSV."""

from collections.abc import Callable

import numpy as np

from irt_psychometrics.commands.analysing import analyse
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import csv_of_columns
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.itemfit import ItemFit
from irt_psychometrics.itemfit.person_patterns import person_fit
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from irt_psychometrics.links import find_dif


def fit_tables(
    answers: Answers, calibration: Calibration, item_fits: ItemFit | None
) -> tuple[dict[str, str], list[str]]:
    """The tables by file name, and sentences about items with DIF and about tables that cannot be computed.

    `forms.csv`, `items.csv` and `options.csv` are files of `analyse`. `item_fit.csv` has infit, outfit, RMSD and S-X²,
    `person_fit.csv` the sum score, the WLE of θ, lz*, infit and outfit of each person, and `dif.csv` the differences
    between groups.
    """
    files, notes = analyse(answers).files(), []

    def add(name: str, text: Callable[[], str]) -> None:
        try:
            files[name] = text()
        except PsychometricsError as error:
            notes.append(f"no {name}: {error}")

    if item_fits is None:
        notes.append("no item_fit.csv and person_fit.csv: they need a fit that converged")
    else:
        add("item_fit.csv", lambda: _item_fit(answers, calibration, item_fits))
        add("person_fit.csv", lambda: _person_fit(answers, calibration))
    if answers.groups is not None:
        add("dif.csv", lambda: _dif(answers, calibration, notes))
    return files, notes


def _item_fit(answers: Answers, calibration: Calibration, item_fits: ItemFit) -> str:
    by_score = sum_score_fit(answers.responses, calibration, groups=answers.groups)
    df = np.where(by_score.df > 0, by_score.df, np.nan)
    columns = {**vars(item_fits), "s_x2": by_score.statistic, "s_x2_df": df, "s_x2_p": by_score.p}
    return csv_of_columns({"item": calibration.item_ids, **columns})


def _person_fit(answers: Answers, calibration: Calibration) -> str:
    responses = answers.responses
    n = np.bincount(responses.person, minlength=responses.n_persons)
    total = np.bincount(responses.person, responses.score, minlength=responses.n_persons)
    found = person_fit(responses, calibration)
    measures = {name: getattr(found, name) for name in ("theta", "se", "lz", "p", "infit", "outfit")}
    return csv_of_columns({"person": answers.person_ids, "n": n, "score": total.astype(int)} | measures)


def _dif(answers: Answers, calibration: Calibration, notes: list[str]) -> str:
    models = dict(zip(calibration.item_ids, calibration.models, strict=True))
    found = find_dif(answers.responses, answers.groups or (), model=models)
    sizes = zip(found.item_ids, found.groups, found.severity, strict=True)
    named = [f"{item} ({size}, {group})" for item, group, size in sizes if size in ("medium", "high")]
    notes.append(f"DIF against {found.reference}: {some_of(named) or 'no medium or high difference'}; see dif.csv")
    return csv_of_columns(found._columns())
