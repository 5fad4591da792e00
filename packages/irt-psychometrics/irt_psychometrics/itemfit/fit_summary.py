"""All fit statistics of a window's fit, quickly enough to compute them with every fit.

This module chooses the statistics that are stored with a fit, and the number of learners for each. The statistics
themselves are in `item_fit`, `sum_score_fit`, `dependence`, `m2`, `person_fit`, `twins` and `reliability`.

Infit, outfit, RMSD and item-rest correlations use all learners: up to ten million answers in memory, and beyond that
sums over all learners if the caller has them. The search for learners under two ids uses up to ten million answers.
The other statistics (Q3, S-X², lz*, M₂, parallel analysis, reliability) are precise enough with fewer answers, and use
a random sample of the learners. The summary contains the number of learners in each sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from irt_psychometrics.core.arrays import Ints, finite
from irt_psychometrics.core.classical import item_rest_correlation
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.testlets import number_testlets
from irt_psychometrics.itemfit.dependence import (
    FLAG_ABOVE_MEAN,
    LocalDependence,
    local_dependence,
    parallel_analysis,
    split_half_difference,
)
from irt_psychometrics.itemfit.growth import Growth
from irt_psychometrics.itemfit.item_statistics import item_fit
from irt_psychometrics.itemfit.item_sums import ItemSums
from irt_psychometrics.itemfit.m2 import FormFit, forms_if_tested
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.person_patterns import PersonFit, person_fit
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from irt_psychometrics.itemfit.twins import item_twins, learner_twins
from irt_psychometrics.scoring.reliability import fitted_reliability

ITEM_RESPONSES, SET_RESPONSES, PARALLEL_RESPONSES = 10_000_000, 1_000_000, 200_000
"""Largest number of answers for the statistics of items, for those of the set, and for parallel analysis."""
FORM_ITEMS, FORMS = 24, 4
"""Default largest number of a form's tested items, and largest number of tested forms, in M₂. Computing time grows with
the sixth power of the number of items."""
PATTERN_LEVEL, RARE_LEVEL = 0.05, 0.02
"""Persons in these lower tails of lz* are counted. Under the model, their shares are equal to these levels."""
NAMED_PAIRS, NAMED_CLUSTERS = 20, 10


@dataclass(frozen=True)
class FitSummary:
    """The fit statistics of a calibration of J items.

    Attributes
    ----------
    items
        Statistics by name, shape (J,) each, NaN for an item without this statistic: point_biserial, infit, outfit,
        infit_z, outfit_z, rmsd, rmsd_cutoff, rmsd_p, s_x2, s_x2_df, s_x2_p; and, if growth was given, growth, growth_se
        and growth_days.
    whole
        Statistics of the set, as plain data for JSON. A statistic that could not be computed is None.
    forms
        M₂ or C₂ of the forms with the most persons. None if a form's margins are singular, for example if two items
        have equal answers, or if scores have no order.
    pairs
        Q3 of all pairs of items.
    persons
        Fit of the persons who were used for the set's statistics.
    Q3_ABOVE_MEAN
        A pair is flagged if its Q3 is above the mean Q3 of all pairs by more than this.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import FitSummary
    >>> x = irt.datasets.two_forms()[0].responses
    >>> found = FitSummary.from_fit(x, irt.fit(x).calibration)
    >>> found.items["rmsd"].shape, found.whole["q3"]["pairs"], found.whole["m2"][0]["items"]
    ((30,), 435, 24)
    """

    items: dict[str, Floats]
    whole: dict[str, Any]
    forms: list[FormFit] | None
    pairs: LocalDependence
    persons: PersonFit
    Q3_ABOVE_MEAN: ClassVar[float] = FLAG_ABOVE_MEAN

    @classmethod
    def from_fit(
        cls,
        responses: Responses,
        calibration: Calibration,
        *,
        groups: Sequence[str] | None = None,
        person_ids: Sequence[str] | None = None,
        testlets: Mapping[str, str] | None = None,
        everybody: ItemSums | None = None,
        growth: Growth | None = None,
        form_items: int = FORM_ITEMS,
        random_state: int = 0,
        threads: int | None = None,
    ) -> Self:
        """Compute the statistics of a converged fit.

        Parameters
        ----------
        responses
            Responses from which the fit was estimated, or those of a random sample of the persons.
        calibration
            The fit.
        groups
            N labels, one per person, if the fit has groups.
        person_ids
            N ids. If given, the summary contains pairs of ids that probably belong to one person.
        testlets
            Item → testlet, for items in testlets. Items of a testlet share more than θ, and the errors of the fit
            account for that. So Q3 and item twins include only pairs that do not share a testlet.
        everybody
            Sums over all persons, if `responses` are a sample. Infit, outfit, RMSD and item-rest correlations then
            cover all persons.
        growth
            Growth of ability within the window, if it was estimated.
        form_items
            Largest number of a form's tested items in M₂.
        random_state
            Seed for the drawn persons and the simulated answers; the same seed gives the same numbers.
        threads
            Number of threads; None: one per processor. The numbers do not depend on it.

        Returns
        -------
        FitSummary
            Statistics of the items and of the set.

        Raises
        ------
        PsychometricsError
            If responses and fit do not have the same items in the same order, or a person has no group of the fit.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import FitSummary
        >>> x = irt.datasets.rating_scale().responses
        >>> found = FitSummary.from_fit(x, irt.fit(x, "gpcm").calibration)
        >>> found.whole["q3"]["flagged"], [form["df"] for form in found.whole["m2"]]
        (0, [35])
        """
        rng = np.random.default_rng(random_state)
        many, of_many, ids = _sample_persons(responses, groups, ITEM_RESPONSES, rng, person_ids)
        fit = item_fit(
            many, calibration, groups=of_many, everybody=everybody, random_state=random_state, threads=threads
        )
        some, of_some, _ = _sample_persons(responses, groups, SET_RESPONSES, rng)
        by_score = sum_score_fit(some, calibration, groups=of_some)
        pairs = local_dependence(some, calibration, groups=of_some, threads=threads)
        persons = person_fit(some, calibration, threads=threads)
        few, of_few, _ = _sample_persons(responses, groups, PARALLEL_RESPONSES, rng)
        split = split_half_difference(few, calibration, groups=of_few, random_state=random_state, threads=threads)
        places = number_testlets(calibration.item_ids, testlets or {})
        between_testlets = tuple((i, j) for i, j in pairs.flagged if places[i] < 0 or places[i] != places[j])
        pairs = replace(pairs, flagged=between_testlets)
        n_pairs = int(np.triu(pairs.n >= Measure.MIN_PERSONS_OF_PAIR, 1).sum())
        tested = np.isfinite(persons.p)
        forms = forms_if_tested(some, calibration, groups=of_some, most_items=form_items, most_forms=FORMS)
        names = calibration.item_ids
        items = {
            "point_biserial": item_rest_correlation(many) if everybody is None else everybody.item_rest,
            **vars(fit),
            "s_x2": by_score.statistic,
            "s_x2_df": np.where(by_score.df > 0, by_score.df, np.nan),
            "s_x2_p": by_score.p,
        }
        if growth is not None:
            by_item = growth.of_items
            items |= {"growth": by_item.estimate, "growth_se": by_item.se, "growth_days": by_item.days}
        whole = {
            "learners": {"items": (everybody or many).n_persons, "set": some.n_persons, "parallel": few.n_persons},
            "reliability": finite(fitted_reliability(some, calibration, groups=of_some, threads=threads)),
            "lz": {
                "learners": int(tested.sum()),
                "unlikely": finite(np.mean(persons.p[tested] < PATTERN_LEVEL)) if tested.any() else None,
                "level": PATTERN_LEVEL,
                "rare": finite(np.mean(persons.p[tested] < RARE_LEVEL)) if tested.any() else None,
            },
            "q3": {
                "pairs": n_pairs,
                "mean": finite(pairs.mean),
                "flagged": len(pairs.flagged),
                "clusters": [[names[j] for j in cluster] for cluster in pairs.clusters[:NAMED_CLUSTERS]],
                "largest": [
                    {"items": [names[i], names[j]], "q3": finite(pairs.q3[i, j]), "n": int(pairs.n[i, j])}
                    for i, j in pairs.flagged[:NAMED_PAIRS]
                ],
            },
            "loadings": {},  # read by earlier releases
            "parallel": _parallel(few, calibration, of_few, random_state, threads),
            "m2": None if forms is None else [_form_data(form) for form in forms],
            "halves": None if split is None else vars(split),
            "twins": {
                **_twins_of_persons(many, calibration, of_many, ids, threads),
                **_twins_of_items(some, calibration, of_some, places, threads),
            },
        } | ({} if growth is None else {"growth": vars(growth.of_window)})
        return cls(items, whole, forms, pairs, persons)


def _parallel(
    responses: Responses, calibration: Calibration, groups: Sequence[str] | None, random_state: int, threads: int | None
) -> dict[str, Any] | None:
    """Run parallel analysis. Returns None if no two items have enough persons, or if there is no p-value."""
    shared = np.bincount(responses.item, minlength=responses.n_items)
    if (shared >= Measure.MIN_PERSONS_OF_PAIR).sum() < 2:
        return None
    found = parallel_analysis(
        responses,
        calibration,
        groups=groups,
        random_state=random_state,
        threads=threads,
    )
    if not np.isfinite(found.tail):
        return None
    return {
        "eigenvalue": finite(found.eigenvalue),
        "expected": finite(found.under_model.mean()),
        "rounds": found.under_model.size,
        "p": finite(found.tail),
        "under_model": found.under_model.tolist(),
        "se": finite(found.se),
        "learners": found.learners,
        "together": [responses.item_ids[j] for j in found.loading_items],
    }


def _form_data(form: FormFit) -> dict[str, Any]:
    return {
        "items": len(form.items),
        "learners": form.n,
        "m2": finite(form.m2),
        "df": form.df,
        "p": finite(form.p),
        "rmsea": finite(form.rmsea.value),
    }


def _twins_of_persons(
    responses: Responses,
    calibration: Calibration,
    groups: Sequence[str] | None,
    ids: Sequence[str] | None,
    threads: int | None,
) -> dict[str, Any]:
    """Count the pairs, and list the most certain pairs. `learner_pairs` is None if persons have no ids."""
    if ids is None:
        return {"learner_pairs": None, "learners": []}
    found = learner_twins(responses, calibration, groups=groups, threads=threads)
    return {
        "learner_pairs": len(found),
        "learners": [
            {"ids": [str(ids[i]) for i in pair.persons], "common": pair.common, "equal": pair.equal}
            for pair in found[:NAMED_PAIRS]
        ],
    }


def _twins_of_items(
    responses: Responses,
    calibration: Calibration,
    groups: Sequence[str] | None,
    testlets: Ints,
    threads: int | None,
) -> dict[str, Any]:
    """Count the pairs, and list the most similar pairs, excluding pairs within a testlet.

    `testlets`: shape (J,), the number of each item's testlet, or −1 if it is in no testlet.
    """
    found = [
        pair
        for pair in item_twins(responses, calibration, groups=groups, threads=threads)
        if testlets[pair.items[0]] < 0 or testlets[pair.items[0]] != testlets[pair.items[1]]
    ]
    return {
        "item_pairs": len(found),
        "items": [
            {
                "items": [responses.item_ids[j] for j in pair.items],
                "learners": pair.learners,
                "equal": pair.equal,
                "expected": pair.expected,
            }
            for pair in found[:NAMED_PAIRS]
        ],
    }


def _sample_persons(
    responses: Responses,
    groups: Sequence[str] | None,
    most: int,
    rng: np.random.Generator,
    ids: Sequence[str] | None = None,
) -> tuple[Responses, Sequence[str] | None, Sequence[str] | None]:
    """Return all persons, or a random sample with about `most` responses in all, with groups and ids."""
    N = responses.n_persons
    if responses.n_responses <= most:
        return responses, groups, ids
    chosen = np.sort(rng.choice(N, max(1, round(N * most / responses.n_responses)), replace=False))
    of_groups, of_ids = (None if labels is None else [labels[i] for i in chosen.tolist()] for labels in (groups, ids))
    return responses.of_persons(chosen), of_groups, of_ids
