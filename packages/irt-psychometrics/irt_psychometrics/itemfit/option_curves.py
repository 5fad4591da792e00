"""Fit the options of multiple-choice items: curves of right and wrong options, and the information in wrong ones.

Does not belong here: observed shares of options (`classical`), and evidence against keys (`classical.key_evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.nominal_model import NOMINAL
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.estimation.em import fit_em

RARE_OPTION = 10
"""Number of persons below which an option's curve is hardly determined. Such options of an item are combined."""
COMBINED = "rare"
"""Name of the options that are combined."""


@dataclass(frozen=True, eq=False, repr=False)
class OptionCurves(Result):
    """Options of multiple-choice items under the nominal model (Bock 1972).

    log P(option | θ) is slope·θ + intercept + const. Slopes and intercepts sum to 0 over the options of an item.
    The option with the highest slope is the one that the ablest persons choose; if it is not the key, check the key.
    Options have no order, so there are no sum scores of options, and no drift of expected scores.

    Attributes
    ----------
    item_ids, options
        The item and the option of each of M rows; "rare" are the options that few persons chose.
    is_key
        Shape (M,), whether the option is right.
    n
        Shape (M,), number of persons who chose the option.
    slope, slope_se, intercept, intercept_se
        Shape (M,), with θ ~ N(0, 1); NaN for items that could not be estimated.
    estimates
        The fit of all items. Its scores are the options of an item by the mean score of the persons who chose them.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import fit_options
    >>> rng = np.random.default_rng(1)
    >>> right = rng.random((500, 4)) < 1 / (1 + np.exp(-rng.normal(size=(500, 1))))
    >>> chosen = np.where(right, "A", rng.choice(["B", "C"], right.shape))
    >>> table = {f"q{k}": column for k, column in enumerate(chosen.T)}
    >>> found = fit_options(irt.Responses.from_wide(table, key=dict.fromkeys(table, "A")))
    >>> found.probabilities([-1, 1]).shape, found.distractor_information([-1, 1]).shape
    ((2, 12), (2, 4))
    """

    item_ids: tuple[str, ...]
    options: tuple[str, ...]
    is_key: Mask
    n: Ints
    slope: Floats
    slope_se: Floats
    intercept: Floats
    intercept_se: Floats
    estimates: Calibration
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"{len(self.options):,} options of {len(set(self.item_ids)):,} items"

    def _facts(self) -> dict[str, str]:
        return {"log L": format_value(self.estimates.convergence.loglik, 2)}

    def _notes(self) -> list[str]:
        convergence = self.estimates.convergence
        return [] if convergence.converged else [f"the fit did not converge: {convergence.reason}"]

    @property
    def _starts(self) -> tuple[Ints, Ints]:
        """The first row of each item, and the item of each row."""
        starts = np.sort(np.unique(self.item_ids, return_index=True)[1])
        return starts, np.repeat(np.arange(len(starts)), np.diff([*starts, len(self.options)]))

    def _columns(self) -> dict[str, Any]:
        names = ("n", "slope", "slope_se", "intercept", "intercept_se")
        own = {name: getattr(self, name) for name in names}
        return {"item": self.item_ids, "option": self.options, "key": self.is_key} | own

    def probabilities(self, theta: npt.ArrayLike) -> Floats:
        """Compute the probability that persons choose each option.

        Parameters
        ----------
        theta
            Shape (T,), abilities.

        Returns
        -------
        array of shape (T, M)
            P(option | θ).
        """
        starts, of_item = self._starts
        logs = self.slope * np.asarray(theta, dtype=float)[:, None] + self.intercept
        p = np.exp(logs - np.maximum.reduceat(logs, starts, axis=1)[:, of_item])
        return p / np.add.reduceat(p, starts, axis=1)[:, of_item]

    def distractor_information(self, theta: npt.ArrayLike) -> Floats:
        """Compute the information that wrong options add to the information in right and wrong.

        Parameters
        ----------
        theta
            Shape (T,), abilities.

        Returns
        -------
        array of shape (T, J)
            Fisher information in the chosen option minus the information in whether it is right, ≥ 0, for the items in
            the order of their first rows.
        """
        whole, of_key = self._information(theta)
        return whole - of_key

    def key_information(self, theta: npt.ArrayLike) -> Floats:
        """Compute the information in whether the chosen option is right.

        Parameters
        ----------
        theta
            Shape (T,), abilities.

        Returns
        -------
        array of shape (T, J)
            Fisher information, for the items in the order of their first rows.
        """
        return self._information(theta)[1]

    def _information(self, theta: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Compute the information in the chosen option, and in whether it is right."""
        p, (starts, of_item) = self.probabilities(theta), self._starts

        def by_item(of_options: Floats) -> Floats:
            return np.add.reduceat(of_options, starts, axis=1)

        change = p * (self.slope - by_item(p * self.slope)[:, of_item])
        right, gained = by_item(p * self.is_key), by_item(change * self.is_key)
        whole = by_item(change**2 / np.maximum(p, np.finfo(float).tiny))
        return whole, gained**2 / np.maximum(right * (1 - right), np.finfo(float).tiny)


def fit_options(responses: Responses, *, threads: int | None = None) -> OptionCurves:
    """Fit the nominal model to the options that persons chose, with all items of the test together.

    Options that fewer than ten persons chose are combined. Answers without a known choice are left out. Items without
    options are fitted as a 2PL or GPCM and help to determine θ.

    Parameters
    ----------
    responses
        Responses that were made with a key, so that they contain choices.
    threads
        Number of threads; None: all processors.

    Returns
    -------
    OptionCurves
        A row for each option of each item of which persons chose at least two options.

    Raises
    ------
    PsychometricsError
        If no item has two options that persons chose, or nothing can be estimated.

    References
    ----------
    Bock, R. D. (1972). Estimating item parameters and latent ability when responses are scored in two or more nominal
    categories. Psychometrika, 37, 29-51.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import fit_options
    >>> rng = np.random.default_rng(1)
    >>> right = rng.random((500, 4)) < 1 / (1 + np.exp(-rng.normal(size=(500, 1))))
    >>> chosen = np.where(right, "A", rng.choice(["B", "C"], right.shape))
    >>> table = {f"q{k}": column for k, column in enumerate(chosen.T)}
    >>> fit_options(irt.Responses.from_wide(table, key=dict.fromkeys(table, "A"))).options[-1]
    'A'
    """
    coded, labels, counts = _code_options(responses)
    if not labels:
        raise PsychometricsError(
            "fit_options needs items with at least two chosen options: make the responses with a key, for example"
            ' Responses.from_wide(x, key={"q1": "A"})'
        )
    models = [
        NOMINAL.name if item in labels else GPCM.of_max_score(int(n) - 1).name
        for item, n in zip(coded.item_ids, coded.n_categories, strict=True)
    ]
    fit = fit_em(coded, model=models, threads=threads)
    assert responses.choices is not None
    keys = dict(zip(responses.item_ids, responses.choices.keys, strict=True))
    values = [_contrasts(fit, fit.item_ids.index(item)) for item in labels]
    slope, slope_se, intercept, intercept_se = np.concatenate(values, axis=1)
    return OptionCurves(
        item_ids=tuple(item for item, options in labels.items() for _ in options),
        options=tuple(option for options in labels.values() for option in options),
        is_key=np.array([option in keys[item] for item, options in labels.items() for option in options]),
        n=np.concatenate([counts[item] for item in labels]),
        slope=slope,
        slope_se=slope_se,
        intercept=intercept,
        intercept_se=intercept_se,
        estimates=fit,
        frame_kind=responses.frame_kind,
    )


def _code_options(x: Responses) -> tuple[Responses, dict[str, tuple[str, ...]], dict[str, Ints]]:
    """Replace the scores of items with options by codes of their options, from 0.

    Options are in the order of the mean score of the persons who chose them, on the other items. So the slopes of the
    first and of the last option, which the model holds apart, differ. Returns the responses, and the options and their
    numbers of persons by item.
    """
    labels: dict[str, tuple[str, ...]] = {}
    counts: dict[str, Ints] = {}
    if x.choices is None:
        return x, labels, counts
    share = x.score / (x.n_categories - 1)[x.item]
    others = np.bincount(x.person, share, x.n_persons)[x.person] - share
    rest = others / np.maximum(np.bincount(x.person, minlength=x.n_persons)[x.person] - 1, 1)
    score, categories, kept = x.score.copy(), x.n_categories.copy(), np.ones(x.n_responses, dtype=bool)
    for j in np.flatnonzero([len(options) > 1 for options in x.choices.labels]).tolist():
        options, key = x.choices.labels[j], x.choices.keys[j]
        rows = np.flatnonzero(x.item == j)
        code = x.choices.option[rows].astype(np.int64)
        kept[rows[code < 0]] = False
        rows, code = rows[code >= 0], code[code >= 0]
        n = np.bincount(code, minlength=len(options))
        rare = np.flatnonzero((n > 0) & (n < RARE_OPTION) & ~np.isin(options, [*key]))
        names = np.array(options, dtype=object)
        if rare.size > 1:
            names[rare], code[np.isin(code, rare)] = COMBINED, rare[0]
        n = np.bincount(code, minlength=len(options))
        if (chosen := np.flatnonzero(n)).size < 2:
            continue
        order = chosen[np.argsort((np.bincount(code, rest[rows], len(options)) / np.maximum(n, 1))[chosen])]
        place = np.zeros(len(options), dtype=np.int64)
        place[order] = np.arange(len(order))
        score[rows], categories[j] = place[code], len(order)
        labels[x.item_ids[j]], counts[x.item_ids[j]] = tuple(names[order].tolist()), n[order]
    return replace(replace(x, score=score, categories=categories).of_rows(kept), choices=None), labels, counts


def _contrasts(fit: Calibration, j: int) -> Floats:
    """Compute slopes and intercepts that sum to 0 over the options of item j, with their errors, shape (4, K)."""
    K = int(fit.n_categories[j])
    own = fit.parameters[: 2 + 2 * K, j]
    a, d, points, t = own[0], own[1], own[2::2], own[3::2]
    of_slope, of_intercept = np.zeros((K, own.size)), np.zeros((K, own.size))
    of_slope[:, 0], of_slope[np.arange(K), 2 + 2 * np.arange(K)] = points, a
    of_intercept[:, 1], of_intercept[np.arange(K), 2 + 2 * np.arange(K)] = points, d
    of_intercept[np.arange(K), 3 + 2 * np.arange(K)] = 1.0
    centred, cov = np.eye(K) - 1 / K, fit.cov[j, : own.size, : own.size]
    found = []
    for values, by in ((a * points, of_slope), (d * points + t, of_intercept)):
        by = centred @ by
        found += [centred @ values, np.sqrt(np.einsum("kp,pq,kq->k", by, cov, by))]
    return np.array(found)
